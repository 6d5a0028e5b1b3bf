"""A controller that adopts calls while they go on: what it is told of them meanwhile counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from billing.credit.embedded import EmbeddedServer
from billing.settings import ControlSettings
from callctl.switches.base import LiveCall
from tests.fakes import FakeSwitch
from tests.integration.test_controller import House, build, decided, server

__all__ = ["server"]


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        # Compared once: nothing that was missed is found by another look.
        built.settings = ControlSettings(slice_s=60, ring_s=30, resync_s=60.0)
        yield built


def after_the_list(switch: FakeSwitch, happens: Callable[[], None]) -> None:
    """Let something happen after the switch was asked for its calls and before the answer is there."""
    asked = switch.live_calls

    async def live_calls() -> list[LiveCall]:
        listed = await asked()
        happens()
        return listed

    switch.live_calls = live_calls  # type: ignore[method-assign]


async def test_an_end_told_while_a_call_is_being_adopted_is_heard(house: House) -> None:
    """The list still showed it: it is adopted and ended, by the event's own words, not found missing much later."""
    house.account("100", "5")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.sleep(0.3)
    await house.kill()
    house.switch.keeps_records = False
    after_the_list(house.switch, lambda: house.switch.end(call))
    await house.begin()
    record = await house.record(call)
    assert (record.cost_micros, record.estimated, record.hung_up_by) == (10_000, False, "caller")
    await house.audit()


async def test_an_answer_told_while_a_call_is_being_adopted_is_heard(house: House) -> None:
    """The list showed it ringing: from its answer on it is renewed as any other."""
    house.account("100", "5")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    await house.kill()
    after_the_list(house.switch, lambda: None if call.answered_at else house.switch.answer(call))
    controller = await house.begin()
    async with asyncio.timeout(3):
        while not (adopted := controller.calls.get(call.offer.call_id)) or adopted.answered_at is None:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.05)
    assert adopted.answered_at == call.answered_at
    house.switch.end(call)
    await house.record(call)
    await house.audit()
