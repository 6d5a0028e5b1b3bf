"""Money in time: calls end when it does, last longer when there is more, and never spend a cent that is not there."""

from __future__ import annotations

import asyncio

import pytest

from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.world import PER_SECOND, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_credit_runs_out_at_a_known_second(world: World) -> None:
    """Money for five seconds ends the call after five, on both sides, and leaves exactly nothing."""
    one = await world.customer("0.05")
    called = number("49", Carrier.ANSWERS, target="3101")
    run = await world.call(one, called)
    assert not run.only.bye_sent
    assert abs(run.only.talk_s - 5) < 1
    assert not world.carrier.dialogs(called)[0].bye_sent
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.reason, cdr.hung_up_by) == ("answered", "credit_exhausted", "switch")
    assert cdr.cost_micros == 5 * PER_SECOND
    assert world.balance(one) == 0


async def test_ten_calls_on_money_for_three(world: World) -> None:
    """Ten calls at once share money for three slices: together they spend all of it and not a cent more."""
    one = await world.customer("0.09")
    called = number("49", Carrier.ANSWERS, target="3102")
    run = await world.call(one, called, calls=10)
    finals = [dialog.final for dialog in run.dialogs]
    assert len(finals) == 10
    assert set(finals) <= {200, 402}
    cdrs = await world.cdrs(one, 10)
    answered = [cdr for cdr in cdrs if cdr.disposition == "answered"]
    assert len(answered) == finals.count(200) == len(world.carrier.dialogs(called))
    assert 3 <= len(answered) <= 9
    assert {cdr.reason for cdr in cdrs if cdr not in answered} == {"no_money"}
    assert sum(cdr.cost_micros for cdr in cdrs) + world.balance(one) == 90_000
    assert world.balance(one) >= 0


async def test_top_up_in_mid_call_extends_it(world: World) -> None:
    """A call on its last seconds goes on when money comes, up to the new end."""
    one = await world.customer("0.03")
    running = asyncio.create_task(world.call(one, number("49", Carrier.ANSWERS, target="3103")))
    await world.talking(one)
    await asyncio.sleep(1)
    await world.top_up(one, "0.03")
    run = await running
    assert abs(run.only.talk_s - 6) < 1
    cdr = await world.cdr(one)
    assert (cdr.reason, cdr.cost_micros) == ("credit_exhausted", 6 * PER_SECOND)
    assert world.balance(one) == 0


async def test_a_limit_is_always_on_the_leg(world: World) -> None:
    """From the answer on the carrier's channel carries a deadline, never later than the money lasts."""
    one = await world.customer("0.20")
    running = asyncio.create_task(world.call(one, number("49", Carrier.ANSWERS, target="3104"), hold_ms=5500))
    await world.talking(one)
    seen: list[float] = []
    for _ in range(8):
        seen += (await world.observer.limits(one.endpoint.account_code)).values()
        await asyncio.sleep(0.5)
    assert (await running).only.bye_sent
    assert len(seen) == 8
    assert all(0 < left <= 20 for left in seen)
    assert (await world.cdr(one)).cost_micros == 6 * PER_SECOND
