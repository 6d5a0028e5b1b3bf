"""Small deliberate mistakes in `rating/`, one at a time, and which of them no test notices.

    python -m tests.mutation.rating                     the modules that make a price
    python -m tests.mutation.rating --all               every module of rating
    python -m tests.mutation.rating bands prefixes      these
    python -m tests.mutation.rating bands --only "*when_text*"

It works on a copy in a temporary folder, with the mutants of mutmut and the tests of rating alone. The survivors are
printed with what was changed; those that stay are explained in docs/rating-mutants.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIRST = ("money", "prefixes", "terms", "pricing", "bands")
"""Where a mistake costs money."""
SETTINGS = """\
[mutmut]
source_paths = rating
only_mutate =
{modules}
"""
GENERATE = """\
from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants, setup_source_paths
from mutmut.__main__ import store_lines_covered_by_tests
from mutmut.mutation.trampoline import set_mutant_under_test
from pathlib import Path

Path("mutants").mkdir()
set_mutant_under_test("mutant_generation")
copy_src_dir()
copy_also_copy_files()
setup_source_paths()
store_lines_covered_by_tests()
create_mutants(1)
"""
SHOW = """\
import json, sys
from mutmut.mutation.diff_apply import get_diff_for_mutant

print(json.dumps([get_diff_for_mutant(name) for name in json.load(sys.stdin)]))
"""
QUIETLY = ("-q", "-p", "no:cacheprovider", "--assert=plain", "--tb=native")
"""Why a test fails is nobody's business here, and working it out takes longer than the test."""
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
    (folder / "setup.cfg").write_text(SETTINGS.format(modules=chosen), encoding="utf-8")
    shutil.copy(ROOT / "tests" / "mutation" / "trying.py", folder / "tests" / "conftest.py")
    (folder / "pyproject.toml").write_text(PYTEST, encoding="utf-8")


def run(folder: Path, *words: str, told: str = "", **environment: str) -> str:
    """Run Python in a folder of the copy and return what it printed. Ends everything where it fails."""
    command = [sys.executable, *words]
    whole = {**os.environ, "CALLCTL_BULK_CALLS": BULK_CALLS, **environment}
    ran = subprocess.run(command, cwd=folder, env=whole, input=told, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{ran.stdout[-5000:]}\n{' '.join(words)[:200]} failed: do all tests of rating pass?")
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
    parser.add_argument("--folder", type=Path, help="work there, and go on where an earlier run of it has stopped")
    parser.add_argument(
        "--at-a-time",
        type=int,
        default=1,
        help="mistakes tried in one process: quicker, where nothing that they change is kept from one test to the next",
    )
    parser.add_argument("--jobs", type=int, default=1, help="mutants tested at once")
    asked = parser.parse_args()
    every = sorted(path.relative_to(ROOT / "rating").with_suffix("").as_posix() for path in ROOT.glob("rating/**/*.py"))
    modules = every if asked.all else list(asked.modules or FIRST)
    if unknown := sorted(set(modules) - set(every)):
        parser.error(f"there is no rating/{unknown[0]}.py")
    with tempfile.TemporaryDirectory(prefix="callctl-mutants-") as made:
        folder = asked.folder or Path(made)
        if not (folder / "mutants" / "tests").exists():
            lay_out(folder, modules)
            run(folder, "-c", GENERATE)
        run(
            folder / "mutants",
            "-m",
            "pytest",
            *QUIETLY,
            ONLY=" ".join(asked.only) or "*",
            JOBS=str(asked.jobs),
            AT_A_TIME=str(asked.at_a_time),
        )
        lines = (folder / "mutants" / "results.jsonl").read_text(encoding="utf-8").splitlines()
        tried: dict[str, str] = dict(sorted(json.loads(line) for line in lines))
        left = [name for name, told in tried.items() if told != "noticed"]
        for name, shown in zip(left, json.loads(run(folder, "-c", SHOW, told=json.dumps(left))), strict=True):
            say(f"\n{tried[name]}: {name}\n{shown}")
    for module in modules:
        dotted = "rating." + module.replace("/", ".").removesuffix(".__init__") + "."
        told = Counter(told for name, told in tried.items() if name.rpartition(".")[0] + "." == dotted)
        say(f"{module}: {told.total()} tried, {', '.join(f'{number} {what}' for what, number in told.most_common())}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
