"""The conftest of the copy in which mistakes are tried: collects the tests once, then forks a process for each mistake.

A fork of a process in which polars has begun to work waits for threads that it does not have: so this process only
collects, and even the first run, which notes which tests come through which function, is made in a fork.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import defaultdict
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from time import process_time
from typing import IO

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
NO_TEST = "no test"
LEAST_CPU_S, TIMES_ALL = 10, 5
"""A mistake may take this many seconds of the processor, and this many times what its tests take without it."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Run everything once, then try each mistake with the tests that come through its function, quick ones first."""
    set_mutant_under_test("")
    _, status = os.waitpid(_forked(lambda: _first_run(session.items), seconds=0), 0)
    if status:
        pytest.exit("the tests of rating fail without any mistake", returncode=1)
    tests: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for number, line in enumerate(FIRST_RUN.read_text(encoding="utf-8").splitlines()):
        taken_s, functions = json.loads(line)
        for function in functions:
            tests[function].append((taken_s, number))
    with RESULTS.open("w", encoding="utf-8") as results:
        running: dict[int, str] = {}
        for name in [name for name in _mistakes() if any(fnmatch(name, only) for only in os.environ["ONLY"].split())]:
            through = sorted(tests[mangled_name_from_mutant_name(name)])
            if len(running) == int(os.environ["JOBS"]):
                _note(results, running)
            if through:
                running[_begun(session.items, name, through)] = name
            else:
                results.write(json.dumps([name, NO_TEST]) + "\n")
        while running:
            _note(results, running)
    return True


def _note(results: IO[str], running: dict[int, str]) -> None:
    """Wait for one of those that are being tried, and note what became of it."""
    pid, status = os.wait()
    told = {0: SURVIVED, 1: NOTICED}.get(os.waitstatus_to_exitcode(status), ENDLESS)
    results.write(json.dumps([running.pop(pid), told]) + "\n")
    results.flush()


def _mistakes() -> list[str]:
    """Return the names of all mistakes that mutmut has laid out, module by module."""
    made = sorted(Path("rating").glob("**/*.py.meta"))
    return [name for path in made for name in json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]]


def _first_run(items: list[pytest.Item]) -> int:
    set_mutant_under_test("stats")
    with FIRST_RUN.open("w", encoding="utf-8") as noted:
        for item in items:
            state()._stats.clear()
            begun_s = process_time()
            if not _passes(item):
                sys.stderr.write(f"{item.nodeid} fails without any mistake\n")
                return 1
            noted.write(json.dumps([process_time() - begun_s, sorted(state()._stats)]) + "\n")
    return 0


def _begun(items: list[pytest.Item], name: str, tests: list[tuple[float, int]]) -> int:
    """Begin to try a mistake; return the process that does."""
    set_mutant_under_test(name)
    limit_s = LEAST_CPU_S + TIMES_ALL * int(1 + sum(taken_s for taken_s, _ in tests))
    return _forked(lambda: 0 if all(_passes(items[number]) for _, number in tests) else 1, seconds=limit_s)


def _passes(item: pytest.Item) -> bool:
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _forked(work: Callable[[], int], *, seconds: int) -> int:
    """Do work in a process of its own, which ends with its answer. It has `seconds` of the processor; 0: no limit."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if seconds:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
        status = work()
    finally:
        os._exit(status)
