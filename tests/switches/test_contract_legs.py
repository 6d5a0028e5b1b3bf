"""The suite for every `Switch`, where a call has more than two channels: transfers, joins, ways through the switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callctl.simulator.calls import SimulatedCall
from callctl.simulator.plans import BlindTransfer, CallFacts, Side, Then
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction, LinkDown, LinkUp, Outcome
from tests.switches.labs import LABS, Lab, near, plan, talked_s


@pytest.fixture(params=LABS)
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with LABS[request.param]() as linked:
        yield linked


# --- blind transfers


@pytest.mark.parametrize("by", [Side.CALLER, Side.CALLEE])
async def test_a_transfer_is_a_call_of_its_own(lab: Lab, by: Side) -> None:
    """It is offered under an id nobody had, paid by the same account; each leg ends once, with its own times."""
    transfer = BlindTransfer(by=by, after_s=0.1, to="4988888", ring_s=0.03, talk_s=0.2)
    call, first_id = await lab.answered(plan(transfer=transfer))
    second_id = await lab.transferred(call)
    offer = lab.told.of(CallOffered, second_id)[0]
    assert second_id != first_id
    assert (offer.account_code, offer.callee, offer.direction) == ("acme", "4988888", Direction.OUTBOUND)
    waiting = {live.call_id: live.waiting for live in await lab.switch.live_calls()}
    assert waiting[second_id]
    assert (first_id in waiting) == (by is Side.CALLER)
    await lab.switch.admit(second_id, grant_s=60, ring_s=30)
    await call.over()
    first, second = await lab.ended(first_id), await lab.ended(second_id)
    assert near(first.at, call.legs[0].ended_at)
    assert near(second.at, call.legs[1].ended_at)
    assert near(second.answered_at, call.legs[1].answered_at)


async def test_the_limit_of_a_transferred_leg_still_ends_it(lab: Lab) -> None:
    """The carrier leg that lives on after its caller left keeps the limit that its money paid for."""
    transfer = BlindTransfer(by=Side.CALLER, after_s=0.1, to="4988888", ring_s=0.03, talk_s=30)
    call, first_id = await lab.answered(plan(transfer=transfer), grant_s=0.6)
    await lab.switch.admit(await lab.transferred(call), grant_s=None, ring_s=30)
    await call.over()
    assert call.legs[0].ended_by_limit
    assert abs(talked_s(call.legs[0]) - 0.6) < 0.1
    await lab.ended(first_id)


# --- attended transfers


async def joined(
    lab: Lab, *, grant_s: float | None = 60.0
) -> tuple[tuple[SimulatedCall, str], tuple[SimulatedCall, str]]:
    """Return two calls of one telephone whose far ends it has joined; the second has a grant of its own."""
    first, second = await lab.answered(plan()), await lab.answered(plan(callee="4988888"), grant_s=grant_s)
    lab.sim.join(first[0], second[0])
    await asyncio.sleep(0.1)
    return first, second


async def test_joined_legs_live_on_as_the_calls_they_were(lab: Lab) -> None:
    """The telephone is gone: no call has ended, none is new, each leg keeps its payer, answer and limit."""
    (first, first_id), (second, second_id) = await joined(lab)
    live = {call.call_id: call for call in await lab.switch.live_calls()}
    assert set(live) == {first_id, second_id}
    for call, call_id in ((first, first_id), (second, second_id)):
        assert (live[call_id].waiting, live[call_id].account_code) == (False, "acme")
        assert near(live[call_id].answered_at, call.facts.answered_at)
        left_s = live[call_id].limit_s
        assert left_s is not None
        assert 59 < left_s <= 60
    assert lab.told.of(CallEnded) == []
    assert len(lab.told.of(CallOffered)) == 2


@pytest.mark.parametrize("who", [0, 1], ids=["first", "second"])
async def test_joined_legs_end_together_each_with_its_own_times(lab: Lab, who: int) -> None:
    """Whoever at the far ends hangs up: both calls are over, each told once, each with a record of its own."""
    calls = await joined(lab)
    calls[who][0].hang_up(Side.CALLEE)
    for call, call_id in calls:
        facts, end = await call.over(), await lab.ended(call_id)
        assert near(end.at, facts.ended_at)
        assert near(end.answered_at, facts.answered_at)
        record = await lab.switch.record_of(call_id)
        assert record is not None
        assert near(record.ended_at, facts.ended_at)
    assert (await lab.ended(calls[who][1])).hung_up_by == "callee"
    assert await lab.switch.live_calls() == []
    assert len(lab.told.of(CallEnded)) == 2


async def test_the_limit_of_one_joined_leg_ends_both(lab: Lab) -> None:
    """Money that is short on either call ends the talk: no leg is carried on by the other's."""
    (first, first_id), (second, second_id) = await joined(lab, grant_s=0.5)
    facts = await second.over()
    assert facts.ended_by_limit
    assert abs(talked_s(facts) - 0.5) < 0.1
    await first.over()
    assert (await lab.ended(second_id)).hung_up_by == "switch"
    await lab.ended(first_id)


async def test_limits_of_joined_legs_can_be_moved_and_the_legs_ended(lab: Lab) -> None:
    """Commands still find each leg: a limit moves, a warning is heard, a hang-up ends the talk."""
    (first, first_id), (second, second_id) = await joined(lab)
    assert await lab.switch.set_limit(first_id, 40) is Outcome.DONE
    assert await lab.switch.warn(second_id) is Outcome.DONE
    await asyncio.sleep(0.05)
    limits = {call.call_id: call.limit_s for call in await lab.switch.live_calls()}
    assert 39 < (limits[first_id] or 0) <= 40
    assert first.facts.warnings + second.facts.warnings >= 1
    assert await lab.switch.hangup(first_id) is Outcome.DONE
    assert (await first.over()).ended_by_command
    await second.over()
    for call_id in (first_id, second_id):
        await lab.ended(call_id)


async def test_a_join_that_nobody_saw_is_found_after_a_reconnect(lab: Lab) -> None:
    """Joined while the link was down: both calls are found with their limits, and ended once."""
    first, second = await lab.answered(plan()), await lab.answered(plan(callee="4988888"))
    lab.sim.cut_link(0.3)
    await lab.told.wait(LinkDown)
    lab.sim.join(first[0], second[0])
    await lab.told.wait(LinkUp, count=2)
    live = {call.call_id: call.limit_s for call in await lab.switch.live_calls()}
    assert set(live) == {first[1], second[1]}
    assert None not in live.values()
    assert lab.told.of(CallEnded) == []
    first[0].hang_up(Side.CALLEE)
    for _, call_id in (first, second):
        await lab.ended(call_id)


async def test_an_inbound_call_is_joined_with_one_that_goes_out(lab: Lab) -> None:
    """Whoever was called transfers to the world: the leg that came in and the one that went out are both charged on."""
    coming = await lab.answered(plan(callee="200", inbound=True))
    going = await lab.answered(plan(callee="4988888"))
    lab.sim.join(coming[0], going[0])
    await asyncio.sleep(0.1)
    assert {call.call_id for call in await lab.switch.live_calls()} == {coming[1], going[1]}
    going[0].hang_up(Side.CALLEE)
    for call, call_id in (coming, going):
        facts, end = await call.over(), await lab.ended(call_id)
        assert near(end.at, facts.ended_at)
        assert near(end.answered_at, facts.answered_at)


# --- routes through the switch itself


@pytest.mark.parametrize("by", [Side.CALLER, Side.CALLEE])
async def test_a_detour_is_one_call(lab: Lab, by: Side) -> None:
    """Four channels, one offer, one answer, one end, one record: the far half of the channel between is no call."""
    call, call_id = await lab.answered(plan(detour=True, talk_s=0.3, hung_up_by=by))
    [live] = await lab.switch.live_calls()
    assert (live.call_id, live.account_code) == (call_id, "acme")
    facts, end = await call.over(), await lab.ended(call_id)
    await asyncio.sleep(0.1)
    assert near(end.at, facts.ended_at)
    assert near(end.answered_at, facts.answered_at)
    assert [len(lab.told.of(kind)) for kind in (CallOffered, CallEnded)] == [1, 1]
    assert {each.at for each in lab.told.of(CallAnswered)} == {end.answered_at}
    record = await lab.switch.record_of(call_id)
    assert record is not None
    assert near(record.ended_at, facts.ended_at)
    assert await lab.switch.live_calls() == []


async def test_the_limit_ends_a_detour_as_any_call(lab: Lab) -> None:
    """Set at the answer, moved by the controller: every channel of it goes."""
    call, call_id = await lab.answered(plan(detour=True), grant_s=60)
    assert await lab.switch.set_limit(call_id, 0.3) is Outcome.DONE
    facts = await call.over()
    assert facts.ended_by_limit
    assert (await lab.ended(call_id)).hung_up_by == "switch"
    assert await lab.switch.live_calls() == []


async def test_a_detour_that_nobody_answers_says_why(lab: Lab) -> None:
    """It ends as any call that was not answered."""
    call, call_id = await lab.offered(plan(detour=True, then=Then.BUSY))
    await lab.switch.admit(call_id, grant_s=60, ring_s=5)
    await call.over()
    end = await lab.ended(call_id)
    assert (end.dial_status, end.answered_at) == ("busy", None)


async def test_a_detour_is_adopted_as_it_is(lab: Lab) -> None:
    """After a reconnect it is the one call that it was, and the hang-up takes all of it."""
    call, call_id = await lab.answered(plan(detour=True))
    lab.sim.cut_link(0.2)
    await lab.told.wait(LinkUp, count=2)
    assert [live.call_id for live in await lab.switch.live_calls()] == [call_id]
    assert await lab.switch.hangup(call_id) is Outcome.DONE
    facts: CallFacts = await asyncio.wait_for(call.over(), 2)
    assert facts.ended_by_command
    assert (await lab.ended(call_id)).hung_up_by == "switch"
