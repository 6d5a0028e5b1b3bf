"""Calls from beginning to end on a real switch: SIP, its own events, Redis and SQL tell the same."""

from __future__ import annotations

import asyncio

import pytest

from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.world import PER_SECOND, RING_S, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_answered_and_hung_up_by_the_caller(world: World) -> None:
    """A call that the caller ends after 1.2 s costs two seconds, by the switch's own times."""
    one = await world.customer("1")
    called = number("49", Carrier.ANSWERS, target="1101")
    run = await world.call(one, called, hold_ms=1200)
    assert run.only.final == 200
    assert run.only.bye_sent
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.cause, cdr.hung_up_by) == ("answered", 16, "caller")
    assert (cdr.callee, cdr.caller, cdr.direction, cdr.destination) == (called, "31201111", "outbound", "Germany")
    assert abs(cdr.talk_ms - run.only.talk_s * 1000) < 100
    assert cdr.cost_micros == 2 * PER_SECOND
    assert [charge.amount_micros for charge in world.charges(cdr)] == [2 * PER_SECOND]
    assert world.balance(one) == 1_000_000 - 2 * PER_SECOND
    assert world.observer.ends(cdr.call_id.removeprefix(f"{world.lab.name}:")) == 2
    assert len(world.carrier.dialogs(called)) == 1


async def test_answered_and_hung_up_by_the_callee(world: World) -> None:
    """A call that the carrier's side ends is told so, and costs what it lasted."""
    one = await world.customer("1")
    run = await world.call(one, number("49", Carrier.HANGS_UP, tenths=7))
    assert not run.only.bye_sent
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.cause, cdr.hung_up_by) == ("answered", 16, "callee")
    assert 650 <= cdr.talk_ms <= 900
    assert world.balance(one) == 1_000_000 - PER_SECOND


async def test_connect_fee_and_whole_minutes(world: World) -> None:
    """A rate with a connect fee and increments of a minute: one second costs the fee and a minute."""
    one = await world.customer("1")
    await world.call(one, number("33", Carrier.ANSWERS), hold_ms=600)
    cdr = await world.cdr(one)
    assert cdr.cost_micros == 350_000
    assert world.balance(one) == 650_000


UNANSWERED = [
    (Carrier.BUSY, 486, "busy"),
    (Carrier.UNAVAILABLE, 503, "failed"),
    (Carrier.NOT_FOUND, 404, "failed"),
]


@pytest.mark.parametrize(("carrier", "status", "disposition"), UNANSWERED)
async def test_refused_by_the_carrier(world: World, carrier: Carrier, status: int, disposition: str) -> None:
    """What the carrier says reaches the caller, is on the record, and costs nothing."""
    one = await world.customer("1")
    run = await world.call(one, number("49", carrier))
    assert run.only.final == status
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.cause, cdr.cost_micros, cdr.talk_ms) == (disposition, world.lab.causes[status], 0, 0)
    assert world.charges(cdr) == []
    assert world.balance(one) == 1_000_000


async def test_no_answer(world: World) -> None:
    """A call that nobody answers ends after the ringing time, for nothing."""
    one = await world.customer("1")
    run = await world.call(one, number("49", Carrier.RINGS_FOR_EVER))
    assert run.only.final == 480
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.answered_at, cdr.cost_micros) == ("no_answer", None, 0)
    assert abs((cdr.ended_at - cdr.offered_at).total_seconds() - RING_S) < 1
    assert world.balance(one) == 1_000_000


async def test_cancelled(world: World) -> None:
    """A caller who gives up while it rings pays nothing, and it is no failure."""
    one = await world.customer("1")
    called = number("49", Carrier.RINGS_FOR_EVER, target="0099")
    run = await world.call(one, called, cancel_ms=400)
    assert run.only.final == 487
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.hung_up_by, cdr.cost_micros) == ("cancelled", "caller", 0)
    dialog = world.carrier.dialogs(called)[0]
    assert dialog.first("CANCEL") is not None
    assert world.balance(one) == 1_000_000


async def test_rings_before_it_is_answered(world: World) -> None:
    """Talk time begins at the answer: ringing costs nothing."""
    one = await world.customer("1")
    await world.call(one, number("49", Carrier.RINGS_THEN_ANSWERS, tenths=12), hold_ms=400)
    cdr = await world.cdr(one)
    assert cdr.answered_at is not None
    assert (cdr.answered_at - cdr.offered_at).total_seconds() > 1.1
    assert cdr.cost_micros == PER_SECOND


async def test_inbound_call_that_is_charged(world: World) -> None:
    """A call to a number of ours is paid by the number's account, for the time it was answered."""
    one = await world.customer("1")
    endpoint = one.endpoint
    async with world.phone(one) as answered:
        run = await world.call_from_carrier(endpoint.did, hold_ms=1300)
        assert run.only.final == 200
        cdr = await world.cdr(one)
        assert len(answered.dialogs()) == 1
    assert (cdr.direction, cdr.disposition, cdr.callee) == ("inbound", "answered", endpoint.did)
    assert cdr.cost_micros == 2 * PER_SECOND
    assert world.balance(one) == 1_000_000 - 2 * PER_SECOND


async def test_admin_hangs_up(world: World) -> None:
    """A person on the panel ends a call; the record says so, and the talk until then is charged."""
    one = await world.customer("1")
    running = asyncio.create_task(world.call(one, number("49", Carrier.ANSWERS)))
    await world.talking(one)
    view = (await world.live.list(account_id=one.account_id))[0]
    await asyncio.sleep(1)
    await world.ask_hangup(view.call_id)
    run = await running
    assert not run.only.bye_sent
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.reason, cdr.hung_up_by) == ("answered", "hung_up_by_admin", "switch")
    assert 900 <= cdr.talk_ms <= 2500
    assert cdr.cost_micros == -(-cdr.talk_ms // 1000) * PER_SECOND
