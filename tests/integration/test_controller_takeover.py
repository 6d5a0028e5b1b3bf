"""What a comparison with the switch does while calls go on: adopting them, and letting them in once more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from billing.credit.embedded import EmbeddedServer
from billing.settings import ControlSettings
from callctl.switches.base import LiveCall, Outcome
from tests.fakes import FakeSwitch
from tests.integration.test_controller import House, build, decided, server
from tests.switches.scripted_ami import until

__all__ = ["server"]

EURO = 1_000_000


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


def unheard(switch: FakeSwitch, for_s: float) -> None:
    """Have the switch hear of no admission for a while."""
    heard, deaf_until = switch.admit, asyncio.get_running_loop().time() + for_s

    async def admit(call_id: str, *, grant_s: float | None, ring_s: int) -> Outcome:
        if asyncio.get_running_loop().time() < deaf_until:
            return Outcome.UNKNOWN
        return await heard(call_id, grant_s=grant_s, ring_s=ring_s)

    switch.admit = admit  # type: ignore[method-assign]


async def test_a_call_that_is_let_in_once_more_rings_for_what_is_left(house: House) -> None:
    """What is held pays for an answer within the time it may ring, from its offer on; not for a later one."""
    house.account("100", "5")
    house.settings = ControlSettings(slice_s=60, ring_s=5, resync_s=1.0)
    await house.begin()
    unheard(house.switch, 1.5)
    call = await decided(house.switch.offer(1, "100", "4930"))
    assert call.admitted
    assert 1 <= call.ring_s <= 3
    house.switch.end(call, dial_status="no_answer")
    await house.record(call)
    await house.audit()


async def test_a_call_whose_time_to_ring_is_over_is_refused(house: House) -> None:
    """Its switch never heard that it was let in: it is not let in late, and nothing stays held."""
    customer = house.account("100", "5")
    house.settings = ControlSettings(slice_s=60, ring_s=2, resync_s=1.0)
    await house.begin()
    unheard(house.switch, 20)
    call = house.switch.offer(1, "100", "4930")
    async with asyncio.timeout(8):
        await call.decided.wait()
    assert (call.admitted, call.refused and call.refused.sip_status) == (False, 503)
    assert (await house.record(call)).cost_micros == 0
    assert await house.balance(customer) == 5 * EURO
    await house.audit()


async def test_a_call_that_is_answered_while_it_is_looked_at_is_not_refused(house: House) -> None:
    """The list showed it waiting, its time to ring is over; but it talks by now, and goes on."""
    house.account("100", "5")
    house.settings = ControlSettings(slice_s=60, ring_s=2, resync_s=60.0)
    controller = await house.begin()
    unheard(house.switch, 5)
    call = house.switch.offer(1, "100", "4930")
    await until(lambda: bool(controller.calls))
    await asyncio.sleep(1.4)

    def answered() -> None:
        if call.answered_at is None:
            call.admitted, call.grant_s = True, 60.0
            house.switch.answer(call)

    after_the_list(house.switch, answered)
    controller.watch.doubt("fake")
    await until(lambda: call.answered_at is not None)
    await asyncio.sleep(0.5)
    assert (call.refused, call.ended_at) == (None, None)
    house.switch.end(call)
    await house.record(call)
    await house.audit()
