"""An Asterisk for the whole run; a system around it for each file; the books after every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.asterisk.root import find_asterisk
from tests.switches.asterisk.world import World


@pytest.fixture(scope="session")
def asterisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AsteriskLab]:
    """A real Asterisk with the shipped dialplan."""
    lab = AsteriskLab(find_asterisk(), tmp_path_factory.mktemp("asterisk"))
    lab.start()
    yield lab
    lab.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(asterisk: AsteriskLab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A system with its controller running, for tests that do not break it."""
    world = World(asterisk, tmp_path_factory.mktemp("world"))
    try:
        await world.open()
        await world.start_controller()
        yield world
    finally:
        await world.close()


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared_world: World, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """The shared system; after the test nothing is left over and the books balance."""
    yield shared_world
    await _end(shared_world, request)


@pytest_asyncio.fixture(loop_scope="module")
async def own_world(asterisk: AsteriskLab, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A system of the test's own, its controller not yet started; the books are checked at the end."""
    if asterisk.process is None:
        asterisk.start()
    world = World(asterisk, tmp_path)
    try:
        await world.open()
        yield world
        await _end(world, request)
    finally:
        await world.close()


async def _end(world: World, request: pytest.FixtureRequest) -> None:
    if getattr(request.node, "failed_here", False):
        await world.clear()
    else:
        await world.check_books()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],  # noqa: ARG001 - pytest's own signature
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put what was said on every side under the report of a failure."""
    report = yield
    world = getattr(item, "funcargs", {}).get("own_world") or getattr(item, "funcargs", {}).get("world")
    if report.failed and isinstance(world, World):
        item.failed_here = True  # type: ignore[attr-defined]  # read by the fixtures above
        report.sections.append(("what was said", world.story()))
    return report
