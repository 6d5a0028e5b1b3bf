"""Run seeds: `python -m tests.simulation.run` does 200 fresh ones after those that once failed.

The options are told by `--help`. A failure is one line that is enough to see it again.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.simulation.folder import Folder
from tests.simulation.options import draw
from tests.simulation.shrink import cut, shrink
from tests.simulation.world import Outcome, simulate

HERE = Path(__file__).parent
REGRESSIONS = HERE / "regressions.txt"
WORKERS = 2


def main(arguments: list[str] | None = None) -> int:
    """Return 0 where every invariant held in every seed."""
    given = _parser().parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of strings is drawn per process, and a seed must mean one run.
        words = sys.argv[1:] if arguments is None else arguments
        command = [sys.executable, "-m", "tests.simulation.run", *words]
        return subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    sys.unraisablehook = lambda _: None  # the dead are collected here, in the middle of what they did
    if given.seed is not None:
        return _one(given.seed, trace=given.trace, cuts=given.cut.split(",") if given.cut else [], small=given.shrink)
    return _many(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make sim", description="Simulate calls, money and faults from seeds.")
    parser.add_argument("--seed", type=int, help="this one")
    parser.add_argument("--trace", action="store_true", help="tell what happened in the seed")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller case that fails like the seed")
    parser.add_argument(
        "--cut", default="", help="kinds of faults to leave out, numbers such as calls=6, split by commas"
    )
    parser.add_argument("--seeds", help="A:B, from A to before B")
    parser.add_argument("--count", type=int, default=200, help="so many fresh seeds")
    parser.add_argument("--minutes", type=float, help="fresh seeds for so long")
    parser.add_argument("--seconds", type=float, help="no new seed after so long")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first failure")
    return parser


def old_failures() -> list[int]:
    """Return the seeds that once failed."""
    lines = (line.partition("#")[0].strip() for line in REGRESSIONS.read_text(encoding="utf-8").splitlines())
    return [int(line) for line in lines if line]


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _one(seed: int, *, trace: bool, cuts: list[str], small: bool) -> int:
    folder = Folder()
    try:
        options = cut(draw(seed), cuts)
        outcome = simulate(options, folder)
        if small and outcome.broken:
            cuts = [*cuts, *shrink(options, lambda tried: simulate(tried, folder).broken == outcome.broken)]
            options = cut(draw(seed), cuts)
            outcome = simulate(options, folder)
    finally:
        folder.close()
    if trace:
        _say(str(options))
        _say("\n".join(outcome.trace))
    _say(_line_of(outcome, cuts))
    return 1 if outcome.broken else 0


def _line_of(outcome: Outcome, cuts: Sequence[str] = ()) -> str:
    """Say in a line what came out, and of a failure all that it takes to see it again."""
    if outcome.broken:
        where = f'FAILED seed={outcome.seed} commit={_commit()} invariant="{outcome.broken}" at={outcome.at_s:.3f}s'
        less = f" --cut {','.join(cuts)}" if cuts else ""
        return f'{where}: {outcome.what} | make sim ARGS="--seed {outcome.seed}{less} --trace"'
    what = f"{outcome.calls} calls, {outcome.answered} answered, {outcome.deaths} deaths, {outcome.at_s:.0f} virtual s"
    return f"seed {outcome.seed}: every invariant held ({what})"


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(asked, cwd=HERE, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _seeds(given: argparse.Namespace) -> Iterator[int]:
    began = time.monotonic()
    most_s = given.minutes * 60 if given.minutes else given.seconds or float("inf")
    if given.seeds:
        first, _, last = given.seeds.partition(":")
        wanted = iter(range(int(first), int(last)))
    else:
        yield from old_failures()
        fresh = secrets.randbelow(10**9)
        wanted = iter(range(fresh, fresh + (10**9 if given.minutes else given.count)))
    for seed in wanted:
        if time.monotonic() - began > most_s:
            return
        yield seed


_FOLDERS: list[Folder] = []


def _work(seed: int) -> Outcome:
    if not _FOLDERS:
        gc.disable()  # collected between seeds: what the dead left must not wake up inside one
        sys.unraisablehook = lambda _: None
        _FOLDERS.append(Folder())
    outcome = simulate(draw(seed), _FOLDERS[0])
    gc.collect()
    outcome.trace.clear()
    return outcome


def _many(given: argparse.Namespace) -> int:
    began = time.monotonic()
    done: list[Outcome] = []
    failed = 0
    with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
        seeds = _seeds(given)
        # A few at a time: the pool would take all seeds at once, and the time limit would mean nothing.
        together = given.workers * (1 if given.seconds else 4)
        while batch := [seed for _, seed in zip(range(together), seeds, strict=False)]:
            for outcome in pool.imap_unordered(_work, batch):
                done.append(outcome)
                if outcome.broken:
                    failed += 1
                    _say(_line_of(outcome))
            if failed and not given.keep_going:
                break
    calls, answered = sum(one.calls for one in done), sum(one.answered for one in done)
    deaths, virtual_s = sum(one.deaths for one in done), sum(one.at_s for one in done)
    what = f"{calls} calls, {answered} answered, {deaths} controllers ended, {virtual_s / 3600:.1f} virtual hours"
    took = f"{len(done)} seeds in {time.monotonic() - began:.0f} s: {what}"
    _say(f"{took}; {failed} failed" if failed else f"{took}; every invariant held")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
