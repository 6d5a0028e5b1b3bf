"""The conftest of the copy in which mistakes are tried: collects the tests once, then forks processes that try many.

A fork of a process in which polars has begun to work waits for threads that it does not have: so this process only
collects, and even the first run, which notes which tests come through which function, is made in a fork.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from time import process_time

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.format_utils import mangled_name_from_mutant_name

settings.register_profile(
    "mutants", max_examples=25, derandomize=True, database=None, deadline=None, phases=(Phase.explicit, Phase.generate)
)
settings.load_profile("mutants")

FIRST_RUN = Path("first-run.jsonl")
RESULTS = Path("results.jsonl")
NOTICED, SURVIVED, ENDLESS = "noticed", "survived", "never ended"
NO_TEST = "untested"
Mistake = tuple[str, list[tuple[float, int]]]
"""Its name, and the tests that come through its function: how long each takes, and its number."""
LEAST_CPU_S, TIMES = 3, 10
"""A test may take so many seconds of the processor, and so many times what it takes without a mistake."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Run everything once, then try each mistake with the tests that come through its function, quick ones first."""
    set_mutant_under_test("")
    if not FIRST_RUN.exists():
        _, status = os.waitpid(_forked(lambda: _first_run(session.items)), 0)
        if status:
            pytest.exit("the tests of rating fail without any mistake", returncode=1)
    RESULTS.touch()
    done = {json.loads(line)[0] for line in RESULTS.read_text(encoding="utf-8").splitlines()}
    # A fork shares the memory of this process until somebody writes to it, as a collection of garbage would.
    gc.collect()
    gc.freeze()
    gc.disable()
    tests: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for number, line in enumerate(FIRST_RUN.read_text(encoding="utf-8").splitlines()):
        taken_s, functions = json.loads(line)
        for function in functions:
            tests[function].append((taken_s, number))
    left = [
        (name, sorted(tests[mangled_name_from_mutant_name(name)]))
        for name in _mistakes()
        if name not in done and any(fnmatch(name, only) for only in os.environ["ONLY"].split())
    ]
    jobs, at_a_time = int(os.environ["JOBS"]), int(os.environ["AT_A_TIME"])
    shares = [left[job::jobs] for job in range(jobs)]
    running = [_forked(partial(_try_all, session.items, share, at_a_time)) for share in shares]
    if any(os.waitpid(pid, 0)[1] for pid in running):
        pytest.exit("trying the mistakes has failed", returncode=1)
    return True


def _try_all(items: list[pytest.Item], left: list[Mistake], at_a_time: int) -> int:
    """Try mistakes one after the other in processes that each try many; return 0."""
    while left:
        receiving, sending = os.pipe()
        pid = _forked(partial(_try_some, items, left[:at_a_time], sending), is_quiet=True)
        os.close(sending)
        with os.fdopen(receiving, encoding="utf-8") as pipe:
            told = pipe.read().split()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status < 0:
            told.append(ENDLESS)
        with RESULTS.open("a", encoding="utf-8") as results:
            results.writelines(json.dumps([name, what]) + "\n" for (name, _), what in zip(left, told, strict=False))
        left = left[len(told) :]
    return 0


def _try_some(items: list[pytest.Item], some: list[Mistake], sending: int) -> int:
    """Tell in a word what becomes of each mistake; ends early after one that left something behind."""
    for name, tests in some:
        set_mutant_under_test(name)
        failed = next((number for taken_s, number in tests if not _passes(items[number], taken_s)), None)
        os.write(sending, f"{(SURVIVED if failed is None else NOTICED) if tests else NO_TEST}\n".encode())
        set_mutant_under_test("")
        if failed is not None and not _passes(items[failed], LEAST_CPU_S):
            break
    return 0


def _mistakes() -> list[str]:
    """Return the names of all mistakes that mutmut has laid out, module by module."""
    made = sorted(Path("rating").glob("**/*.py.meta"))
    return [name for path in made for name in json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]]


def _first_run(items: list[pytest.Item]) -> int:
    set_mutant_under_test("stats")
    unfinished = FIRST_RUN.with_suffix(".part")
    with unfinished.open("w", encoding="utf-8") as noted:
        for item in items:
            state()._stats.clear()
            begun_s = process_time()
            if not _passes(item):
                sys.stderr.write(f"{item.nodeid} fails without any mistake\n")
                return 1
            noted.write(json.dumps([process_time() - begun_s, sorted(state()._stats)]) + "\n")
    unfinished.rename(FIRST_RUN)
    return 0


def _passes(item: pytest.Item, taken_s: float = 0) -> bool:
    """Run a test; where it has been said how long it takes, this process ends after many times as long."""
    if taken_s:
        signal.setitimer(signal.ITIMER_PROF, LEAST_CPU_S + TIMES * taken_s)
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _forked(work: Callable[[], int], *, is_quiet: bool = False) -> int:
    """Do work in a process of its own, which ends with its answer; return its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if is_quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
        status = work()
    finally:
        os._exit(status)
