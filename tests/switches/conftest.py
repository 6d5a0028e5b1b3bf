"""A real switch of each kind for the whole run; a system around it for each file; the books after every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.freeswitch.lab import FreeswitchLab, find_freeswitch
from tests.switches.real.lab import Lab, NoSwitch
from tests.switches.real.world import World


@pytest.fixture(
    scope="session",
    params=[
        pytest.param("asterisk", marks=pytest.mark.asterisk),
        pytest.param("freeswitch", marks=pytest.mark.freeswitch),
    ],
)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A real switch with the shipped dialplan."""
    folder = tmp_path_factory.mktemp(request.param)
    lab: Lab
    if request.param == "asterisk":
        lab = AsteriskLab(folder)
    else:
        try:
            lab = FreeswitchLab(folder, root=find_freeswitch())
        except NoSwitch as nothing:
            pytest.skip(str(nothing))
    lab.start()
    yield lab
    lab.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(real: Lab, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A system with its controller running, for tests that do not break it."""
    world = World(real, tmp_path_factory.mktemp("world"))
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
async def own_world(real: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A system of the test's own, its controller not yet started; the books are checked at the end."""
    if real.process is None:
        real.start()
    world = World(real, tmp_path)
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
