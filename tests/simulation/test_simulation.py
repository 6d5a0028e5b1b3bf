"""Whatever breaks, every invariant holds: seeds that once failed, fresh ones, and a bug that must be caught."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.mutations import CANARY
from tests.simulation.options import Faults, Options, draw
from tests.simulation.shrink import QUIET, cut, shrink

ROOT = Path(__file__).parents[2]


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A process of its own: the order of sets must be the same in each run of a seed.
    command = [sys.executable, "-m", f"tests.simulation.{module}", *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("which", [("--count", "0"), ("--seeds", "1:41")], ids=["found-before", "others"])
def test_seeds_hold_every_invariant(which: tuple[str, str]) -> None:
    """Calls, money and faults: nothing is lost, nothing overspent. `make sim` draws fresh seeds."""
    done = _run("run", *which, "--seconds", "25")
    assert done.returncode == 0, done.stdout


def test_a_seed_is_one_run() -> None:
    """The same seed gives the same run, step by step, in another process."""
    first, second = (_run("run", "--seed", "3", "--trace").stdout for _ in range(2))
    assert "answered" in first
    assert first == second


@pytest.mark.parametrize("bug", [CANARY, "reaper blind"])
def test_the_prover_catches_a_bug(bug: str) -> None:
    """A store that does not look at the money, or nobody to settle what a dead controller left, is found out."""
    done = _run("mutations", "--only", bug)
    assert done.returncode == 0, done.stdout
    assert "caught by" in done.stdout


def test_a_failure_is_made_small() -> None:
    """What a failure does not need is cut, and the cuts make it fail again."""
    options = draw(18)

    def breaks(tried: Options) -> bool:
        return tried.calls >= 4 and bool(tried.faults.deaths_after)

    words = shrink(options, breaks)
    small = cut(options, words)
    assert breaks(small)
    assert small.calls == 4
    assert replace(small.faults, deaths_after=()) == Faults(sql_slow_s=QUIET.sql_slow_s)
    with pytest.raises(ValueError, match="neither"):
        cut(options, ["nonsense"])
