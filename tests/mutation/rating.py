"""Small deliberate mistakes in `rating/`, one at a time, and which of them no test notices.

    python -m tests.mutation.rating                     the modules that make a price
    python -m tests.mutation.rating --all               every module of rating
    python -m tests.mutation.rating bands prefixes      these
    python -m tests.mutation.rating bands --only "*when_text*"

It works on a copy in a temporary folder, by mutmut, with the tests of rating alone; everything needs an hour of one
core. The survivors are printed with what was changed; those that stay are explained in docs/rating-mutants.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = ("money", "prefixes", "terms", "pricing", "bands")
"""Where a mistake costs money."""
# A fork of a process in which polars has begun to work waits for threads that it does not have: so forks are made of a
# server that has only imported the tests.
SETTINGS = """\
[mutmut]
source_paths = rating
only_mutate =
{modules}
pytest_add_cli_args_test_selection =
{tests}
pytest_add_cli_args =
    -q
    -p
    no:cacheprovider
timeout_constant = 5
timeout_multiplier = 4
use_git_change_detection = false
process_isolation = forkserver
"""
CONFTEST = """\
from hypothesis import Phase, settings

settings.register_profile(
    "mutants", max_examples=25, derandomize=True, database=None, deadline=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("mutants")


def pytest_collection_modifyitems(items):
    # Quick tests first: the first one that notices a mistake is the last one that is run.
    items.sort(key=lambda item: "tests/property/" in item.nodeid)
"""
EXAMPLES = re.compile(r"max_examples=[0-9]+")
BULK_CALLS = "4000"
"""Fewer than in a whole test run: a thousand mutants run these tests a thousand times."""
PYTEST = """\
[tool.pytest.ini_options]
addopts = "--strict-markers"
timeout = 120
"""


def tests_of_rating() -> list[Path]:
    """Return the tests that need nothing but rating."""
    tiers = (ROOT / "tests" / tier for tier in ("unit", "property"))
    return sorted(path for tier in tiers for kind in ("rating", "decks") for path in tier.glob(f"test_{kind}*.py"))


def lay_out(folder: Path, modules: list[str]) -> None:
    """Copy what is mutated, what tests it, and tell mutmut about both."""
    shutil.copytree(ROOT / "rating", folder / "rating", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [
        *tests_of_rating(),
        *ROOT.glob("tests/*.py"),
        *(ROOT / "tests" / tier / "__init__.py" for tier in ("unit", "property")),
        *ROOT.glob("tests/data/rating_cases/*"),
    ]:
        if path.name == "conftest.py":  # the fixtures of other tiers
            continue
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            target.write_text(EXAMPLES.sub("max_examples=25", path.read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copy(path, target)
    chosen = "\n".join(f"    rating/{module}.py" for module in modules)
    tests = "\n".join(f"    {path.relative_to(ROOT)}" for path in tests_of_rating())
    (folder / "setup.cfg").write_text(SETTINGS.format(modules=chosen, tests=tests), encoding="utf-8")
    (folder / "tests" / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "pyproject.toml").write_text(PYTEST, encoding="utf-8")


def mutmut(folder: Path, *words: str) -> str:
    """Run mutmut in the copy and return what it printed. Ends everything where it fails, as with a test that does."""
    command = [sys.executable, "-m", "mutmut", *words]
    environment = {**os.environ, "CALLCTL_BULK_CALLS": BULK_CALLS}
    ran = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{ran.stdout[-5000:]}\nmutmut {' '.join(words)} failed: do all tests of rating pass?")
    return ran.stdout


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Mutate, test, print the survivors; status 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.rating", description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help=f"modules of rating; {', '.join(FIRST)} if none is named")
    parser.add_argument("--all", action="store_true", help="every module of rating")
    parser.add_argument("--only", metavar="PATTERN", default=[], action="append", help="only mutants of these names")
    parser.add_argument("--jobs", type=int, default=1, help="mutants tested at once")
    asked = parser.parse_args()
    every = sorted(path.relative_to(ROOT / "rating").with_suffix("").as_posix() for path in ROOT.glob("rating/**/*.py"))
    modules = every if asked.all else list(asked.modules or FIRST)
    if unknown := sorted(set(modules) - set(every)):
        parser.error(f"there is no rating/{unknown[0]}.py")
    with tempfile.TemporaryDirectory(prefix="callctl-mutants-") as made:
        folder = Path(made)
        lay_out(folder, modules)
        said = mutmut(folder, "run", "--max-children", str(asked.jobs), *asked.only)
        say(next((line for line in reversed(said.replace("\r", "\n").splitlines()) if "🎉" in line), "").strip())
        lines = (line.partition(": ") for line in mutmut(folder, "results").splitlines() if ": " in line)
        results = [(name.strip(), status.strip()) for name, _, status in lines]
        results = [(name, status) for name, status in results if status != "not checked"]
        for name, status in results:
            say(f"\n{status}: {name}")
            say(mutmut(folder, "show", name))
        say(f"{len(results)} not killed, of {', '.join(modules)}")
    return 1 if results else 0


if __name__ == "__main__":
    sys.exit(main())
