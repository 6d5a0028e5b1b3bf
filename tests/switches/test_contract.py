"""One suite for every `Switch`: whatever stands behind the port, the controller may count on this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from callctl.simulator.plans import Side, Then
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    Direction,
    LinkDown,
    LinkUp,
    Outcome,
    Refusal,
    SwitchUnavailable,
)
from tests.switches.labs import LABS, Lab, near, plan, talked_s

NO_MONEY = Refusal(code="no_money", sip_status=402, cause=21)


@pytest.fixture(params=LABS)
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with LABS[request.param]() as linked:
        yield linked


# --- the life of a call


async def test_the_link_is_told_before_anything_else(lab: Lab) -> None:
    """Nothing is known of calls until LinkUp."""
    assert lab.told.events == [LinkUp(lab.switch.name)]


async def test_an_offer_says_who_calls_whom_and_who_pays(lab: Lab) -> None:
    """Every field of the offer is the switch's, and the call waits."""
    call, call_id = await lab.offered(plan())
    offer = lab.told.of(CallOffered, call_id)[0]
    assert (offer.direction, offer.account_code, offer.caller, offer.callee) == (
        Direction.OUTBOUND, "acme", "100", "4912345",
    )  # fmt: skip
    assert near(offer.at, call.facts.offered_at)
    [live] = await lab.switch.live_calls()
    assert (live.call_id, live.waiting, live.account_code, live.callee) == (call_id, True, "acme", "4912345")
    assert live.answered_at is None
    assert call.facts.admitted_at is None


async def test_the_digest_of_a_pin_comes_through_whole(lab: Lab) -> None:
    """With the source that the dialplan names behind it, as long as an account code can be."""
    code = f"pin:16de4426d1c1b23d5ccefd31308ba270@{'phone-7.' * 7}house"
    _, call_id = await lab.offered(plan(account_code=code))
    assert lab.told.of(CallOffered, call_id)[0].account_code == code
    [live] = await lab.switch.live_calls()
    assert live.account_code == code


@pytest.mark.parametrize("by", [Side.CALLER, Side.CALLEE])
async def test_an_admitted_call_is_answered_and_ends_at_the_switchs_own_times(lab: Lab, by: Side) -> None:
    """Answer and end carry the switch's clock, cause and who hung up."""
    call, call_id = await lab.answered(plan(talk_s=0.2, hung_up_by=by))
    facts = await call.over()
    end = await lab.ended(call_id)
    assert near(lab.told.of(CallAnswered, call_id)[0].at, facts.answered_at)
    assert near(end.at, facts.ended_at)
    assert near(end.answered_at, facts.answered_at)
    assert (end.cause, end.hung_up_by, end.dial_status) == (16, by.value, "")
    assert await lab.switch.live_calls() == []


@pytest.mark.parametrize("sip_status", [402, 403, 486, 503, 480])
async def test_a_refused_caller_hears_the_status_and_nobody_is_dialled(lab: Lab, sip_status: int) -> None:
    """The refusal's SIP status reaches the caller where the switch can say it; the end is told; nothing rang."""
    call, call_id = await lab.offered(plan())
    refusal = Refusal(code="refused", sip_status=sip_status, cause=21)
    assert await lab.switch.refuse(call_id, refusal) is Outcome.DONE
    facts = await call.over()
    assert facts.refused_sip == sip_status
    end = await lab.ended(call_id)
    assert end.answered_at is None
    assert (facts.admitted_at, facts.answered_at) == (None, None)


@pytest.mark.parametrize(
    ("then", "status"),
    [(Then.BUSY, "busy"), (Then.NO_ANSWER, "no_answer"), (Then.CANCEL, "cancelled"), (Then.CONGESTION, "failed")],
)
async def test_a_call_that_is_not_answered_says_why(lab: Lab, then: Then, status: str) -> None:
    """dial_status is one of four words; there is no answer in the end."""
    call, call_id = await lab.offered(plan(then=then))
    await lab.switch.admit(call_id, grant_s=60, ring_s=1)
    await call.over()
    end = await lab.ended(call_id)
    assert (end.dial_status, end.answered_at) == (status, None)
    assert lab.told.of(CallAnswered, call_id) == []


async def test_a_caller_who_gives_up_while_waiting_ends_the_offer(lab: Lab) -> None:
    """An offer nobody decided ends too, unanswered; deciding it later is GONE."""
    call, call_id = await lab.offered(plan(patience_s=0.1))
    await call.over()
    assert (await lab.ended(call_id)).answered_at is None
    assert await lab.switch.admit(call_id, grant_s=60, ring_s=30) is Outcome.GONE
    assert call.facts.admitted_at is None


async def test_an_inbound_call_is_offered_and_billed_on_the_leg_that_came_in(lab: Lab) -> None:
    """Direction inbound; the limit ends it as any other."""
    call, call_id = await lab.offered(plan(callee="200", inbound=True))
    assert lab.told.of(CallOffered, call_id)[0].direction is Direction.INBOUND
    await lab.switch.admit(call_id, grant_s=0.3, ring_s=5)
    facts = await call.over()
    end = await lab.ended(call_id)
    assert abs(talked_s(facts) - 0.3) < 0.1
    assert near(end.answered_at, facts.answered_at)
    assert near(end.at, facts.ended_at)


# --- limits


async def test_the_limit_stands_at_the_answer_with_the_controller_silent(lab: Lab) -> None:
    """After the admission nothing more is needed: the switch ends the talk at the grant, and says that it did."""
    call, call_id = await lab.offered(plan())
    await lab.switch.admit(call_id, grant_s=0.4, ring_s=30)
    facts = await call.over()
    assert facts.ended_by_limit
    assert abs(talked_s(facts) - 0.4) < 0.1
    assert (await lab.ended(call_id)).hung_up_by == "switch"


async def test_the_limit_stands_although_the_link_breaks_before_the_answer(lab: Lab) -> None:
    """No controller, no link: the call still ends in time, and the switch's record tells it afterwards."""
    call, call_id = await lab.offered(plan(ring_s=0.1))
    await lab.switch.admit(call_id, grant_s=0.2, ring_s=30)
    lab.sim.cut_link(0.6)
    facts = await call.over()
    assert 0.1 < talked_s(facts) < 0.2 + lab.late_s
    await lab.told.wait(LinkUp, count=2)
    record = await lab.switch.record_of(call_id)
    assert record is not None
    assert near(record.answered_at, facts.answered_at)
    assert near(record.ended_at, facts.ended_at)


@pytest.mark.parametrize(("grant_s", "left_s"), [(60.0, 0.3), (0.3, 0.7)])
async def test_a_limit_can_be_shortened_and_extended(lab: Lab, grant_s: float, left_s: float) -> None:
    """`left_s` counts from now, with fractions."""
    call, call_id = await lab.answered(plan(), grant_s=grant_s)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    assert await lab.switch.set_limit(call_id, left_s) is Outcome.DONE
    assert (await call.over()).ended_by_limit
    assert abs(loop.time() - begin - left_s) < 0.1


async def test_a_limit_can_be_taken_away(lab: Lab) -> None:
    """None: unlimited, shown as such, and the call lives past its old limit."""
    call, call_id = await lab.answered(plan(), grant_s=0.3)
    assert await lab.switch.set_limit(call_id, None) is Outcome.DONE
    await asyncio.sleep(0.4)
    [live] = await lab.switch.live_calls()
    assert (live.call_id, live.limit_s) == (call_id, None)
    assert not call.ended


async def test_an_unlimited_grant_sets_no_limit(lab: Lab) -> None:
    """grant_s None leaves even the waiting guard behind."""
    call, _ = await lab.answered(plan(), grant_s=None)
    [live] = await lab.switch.live_calls()
    assert live.limit_s is None
    assert not call.ended


async def test_a_live_call_shows_what_is_left_of_it(lab: Lab) -> None:
    """After a restart of the controller, live_calls is all it knows: answer time and limit are in it."""
    call, call_id = await lab.answered(plan(), grant_s=60)
    [live] = await lab.switch.live_calls()
    assert (live.call_id, live.waiting, live.account_code, live.caller) == (call_id, False, "acme", "100")
    assert near(live.answered_at, call.facts.answered_at)
    assert live.limit_s is not None
    assert 59 < live.limit_s <= 60


# --- commands


@pytest.mark.parametrize("state", ["waiting", "ringing", "talking"])
async def test_hangup_ends_a_call_in_whatever_state(lab: Lab, state: str) -> None:
    """The call is over at once and its end is told."""
    if state == "talking":
        call, call_id = await lab.answered(plan())
    else:
        call, call_id = await lab.offered(plan(ring_s=20))
    if state == "ringing":
        await lab.switch.admit(call_id, grant_s=60, ring_s=30)
        await asyncio.sleep(0.05)
    assert await lab.switch.hangup(call_id) is Outcome.DONE
    facts = await asyncio.wait_for(call.over(), 1)
    assert facts.ended_by_command
    end = await lab.ended(call_id)
    assert (end.answered_at is not None) == (state == "talking")


async def test_commands_on_a_call_that_is_gone_say_so(lab: Lab) -> None:
    """GONE, and no other call is touched."""
    bystander, _ = await lab.answered(plan())
    call, call_id = await lab.answered(plan(talk_s=0.1))
    await call.over()
    await lab.ended(call_id)
    for gone in (call_id, f"{lab.switch.name}:1.999", f"{call_id}~2"):
        assert await lab.switch.set_limit(gone, 0.01) is Outcome.GONE
        assert await lab.switch.hangup(gone) is Outcome.GONE
        assert await lab.switch.refuse(gone, NO_MONEY) is Outcome.GONE
        assert await lab.switch.admit(gone, grant_s=1, ring_s=1) is Outcome.GONE
        assert await lab.switch.warn(gone) is Outcome.GONE
    await asyncio.sleep(0.1)
    assert not bystander.ended


async def test_a_doubled_admission_does_not_dial_twice(lab: Lab) -> None:
    """The controller may say it again; the call that rings rings on."""
    call, call_id = await lab.offered(plan(ring_s=0.3, talk_s=0.2))
    await lab.switch.admit(call_id, grant_s=60, ring_s=30)
    await asyncio.sleep(0.05)
    await lab.switch.admit(call_id, grant_s=60, ring_s=30)
    facts = await call.over()
    assert talked_s(facts) == pytest.approx(0.2, abs=0.1)
    assert len(lab.told.of(CallAnswered, call_id)) == 1


async def test_a_warning_is_heard(lab: Lab) -> None:
    """A warning reaches the people on the call and changes nothing else."""
    call, call_id = await lab.answered(plan())
    assert await lab.switch.warn(call_id) is Outcome.DONE
    await asyncio.sleep(0.05)
    assert call.facts.warnings >= 1
    assert not call.ended


# --- the link


async def test_a_cut_link_is_told_and_what_lives_on_is_found_again(lab: Lab) -> None:
    """LinkDown, then LinkUp; meanwhile commands are UNKNOWN and questions unavailable; then live_calls is right."""
    talking, talking_id = await lab.answered(plan())
    ending, ending_id = await lab.answered(plan(talk_s=0.2, callee="4955555"))
    lab.sim.cut_link(0.5)
    await lab.told.wait(LinkDown)
    assert await lab.switch.set_limit(talking_id, 1) is Outcome.UNKNOWN
    assert await lab.switch.hangup(talking_id) is Outcome.UNKNOWN
    with pytest.raises(SwitchUnavailable):
        await lab.switch.live_calls()
    with pytest.raises(SwitchUnavailable):
        await lab.switch.record_of(ending_id)
    facts = await ending.over()
    await lab.told.wait(LinkUp, count=2)
    assert [live.call_id for live in await lab.switch.live_calls()] == [talking_id]
    record = await lab.switch.record_of(ending_id)
    assert record is not None
    assert near(record.ended_at, facts.ended_at)
    assert not talking.ended


async def test_a_command_that_met_a_dead_link_is_never_sent_later(lab: Lab) -> None:
    """UNKNOWN is final: after the reconnect nothing of it is repeated."""
    call, call_id = await lab.answered(plan())
    lab.sim.cut_link(30, silent=True)
    assert await lab.switch.set_limit(call_id, 50) is Outcome.UNKNOWN
    lab.sim.cut_link(0.1)
    await lab.told.wait(LinkUp, count=2)
    await asyncio.sleep(0.2)
    [live] = await lab.switch.live_calls()
    assert live.limit_s is not None
    assert live.limit_s > 55
    assert not call.ended


async def test_offers_that_wait_are_told_again_after_a_reconnect(lab: Lab) -> None:
    """An offer made, or told to nobody, while the link was down is told when it is up, under the same id."""
    _, first_id = await lab.offered(plan())
    lab.sim.cut_link(0.3)
    await lab.told.wait(LinkDown)
    unseen = lab.sim.place(plan(callee="4966666"))
    await lab.told.wait(LinkUp, count=2)
    await lab.told.wait(CallOffered, first_id, count=2)
    offer = await lab.told.wait(CallOffered, lab.id_of(unseen))
    assert (offer.account_code, offer.callee) == ("acme", "4966666")
    assert await lab.switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.DONE
    await lab.told.wait(CallAnswered, offer.call_id)


@pytest.mark.parametrize("how", ["error", "mute"])
async def test_a_question_without_an_answer_is_not_no_calls(lab: Lab, how: str) -> None:
    """An error or a time-out of live_calls raises; asked again it answers."""
    _, call_id = await lab.answered(plan())
    if how == "error":
        lab.sim.faults.fail(lab.words.list_calls, "Permission denied")
    else:
        lab.hurry(1.0)
        lab.sim.faults.mute(lab.words.list_calls)
    with pytest.raises(SwitchUnavailable):
        await lab.switch.live_calls()
    assert [live.call_id for live in await lab.switch.live_calls()] == [call_id]


async def test_a_command_without_an_answer_is_unknown(lab: Lab) -> None:
    """Neither yes nor no, within the time-out."""
    _, call_id = await lab.answered(plan())
    lab.sim.faults.mute(lab.words.limit)
    assert await asyncio.wait_for(lab.switch.set_limit(call_id, 30), 5) is Outcome.UNKNOWN


async def test_a_silent_link_is_noticed(lab: Lab) -> None:
    """A link that stands and carries nothing is down within seconds, and comes back."""
    lab.sim.cut_link(30, silent=True)
    await lab.told.wait(LinkDown)
    lab.sim.cut_link(0.05)
    await lab.told.wait(LinkUp, count=2)


async def test_after_a_restart_of_the_switch_no_call_lives(lab: Lab) -> None:
    """The link breaks and comes back; live_calls is empty; there is no record that pretends to know the end."""
    call, call_id = await lab.answered(plan())
    _, waiting_id = await lab.offered(plan(callee="4977777"))
    lab.sim.restart(0.2)
    await lab.told.wait(LinkDown)
    await lab.told.wait(LinkUp, count=2)
    assert await lab.switch.live_calls() == []
    assert await lab.switch.hangup(call_id) is Outcome.GONE
    record = await lab.switch.record_of(call_id)
    if record is not None:
        assert near(record.answered_at, call.facts.answered_at)
        assert record.ended_at is None or near(record.ended_at, call.facts.ended_at)
    assert len(lab.told.of(CallOffered, waiting_id)) == 1


# --- lists that take long


async def test_a_list_that_comes_slowly_holds_nothing_up(lab: Lab) -> None:
    """It may take longer than any command may: commands are answered meanwhile, and the link is not taken for dead."""
    calls = [await lab.answered(plan(callee=f"491234{number}")) for number in range(3)]
    lab.sim.faults.list_pause_s = 0.5
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    look = asyncio.create_task(lab.switch.live_calls())
    await asyncio.sleep(0.7)
    for _, call_id in calls:
        asked_s = loop.time()
        assert await lab.switch.set_limit(call_id, 50) is Outcome.DONE
        assert loop.time() - asked_s < 0.5
    assert {live.call_id for live in await look} == {call_id for _, call_id in calls}
    assert loop.time() - began_s > 2.5
    assert lab.told.of(LinkDown) == []
    assert not any(call.ended for call, _ in calls)


async def test_a_list_that_stops_in_the_middle_is_no_list(lab: Lab) -> None:
    """It is given up, and nothing is concluded from what came of it; asked again, the switch tells all."""
    calls = [await lab.answered(plan(callee=f"491234{number}")) for number in range(3)]
    lab.hurry(0.4)
    lab.sim.faults.list_most = 4
    loop = asyncio.get_running_loop()
    for _ in range(4):
        began_s = loop.time()
        with pytest.raises(SwitchUnavailable):
            await lab.switch.live_calls()
        assert 0.3 < loop.time() - began_s < 1.5
    lab.sim.faults.list_most = None
    for _, call_id in calls:
        assert await lab.switch.set_limit(call_id, 50) is Outcome.DONE
    assert {live.call_id for live in await lab.switch.live_calls()} == {call_id for _, call_id in calls}
    assert lab.told.of(LinkDown) == []


async def test_a_call_that_ends_while_the_list_comes_is_over(lab: Lab) -> None:
    """What the list says of it is old: it is not told as living, and not learnt again."""
    _, over_id = await lab.answered(plan(talk_s=0.9))
    _, stays_id = await lab.answered(plan(callee="4955555"))
    lab.sim.faults.list_pause_s = 0.3
    look = asyncio.create_task(lab.switch.live_calls())
    await lab.ended(over_id)
    assert not look.done()
    assert [live.call_id for live in await look] == [stays_id]
    assert await lab.switch.hangup(over_id) is Outcome.GONE
    assert lab.knows(over_id.partition(":")[2]) is None
    assert lab.knows(stays_id.partition(":")[2]) is not None


# --- events as they come


@pytest.mark.parametrize("word", ["offered", "answered", "ended"])
@pytest.mark.parametrize("fault", ["doubled", "late"])
async def test_doubled_and_late_events_tell_the_same_story(lab: Lab, word: str, fault: str) -> None:
    """At least one of each; answer and end with the switch's own times, an offer with the time it was told."""
    event = getattr(lab.words, word)
    if fault == "doubled":
        lab.sim.faults.duplicate(event, times=2)
    else:
        lab.sim.faults.delay(event, 0.15, times=2)
    call, call_id = await lab.answered(plan(talk_s=0.3))
    facts = await call.over()
    await lab.ended(call_id)
    await asyncio.sleep(0.2)
    assert all(each.at >= facts.offered_at for each in lab.told.of(CallOffered, call_id))
    assert all(near(each.at, facts.answered_at) for each in lab.told.of(CallAnswered, call_id))
    assert all(near(each.at, facts.ended_at) for each in lab.told.of(CallEnded, call_id))


async def test_an_answer_that_was_never_told_comes_with_the_end(lab: Lab) -> None:
    """The end of an answered call carries its answer time, whatever was lost before."""
    lab.sim.faults.drop(lab.words.answered)
    call, call_id = await lab.offered(plan(talk_s=0.2))
    await lab.switch.admit(call_id, grant_s=60, ring_s=30)
    facts = await call.over()
    end = await lab.ended(call_id)
    assert near(end.answered_at, facts.answered_at)
    assert near(end.at, facts.ended_at)


@pytest.mark.parametrize("inbound", [False, True])
async def test_an_answer_that_is_told_before_it_is_noted_has_the_noted_time(lab: Lab, inbound: bool) -> None:
    """A switch may say "answered" some moments before it has set limit and time: the adapter waits for them."""
    lab.sim.gosub_s = 0.08
    call, call_id = await lab.answered(plan(inbound=inbound))
    assert near(lab.told.of(CallAnswered, call_id)[0].at, call.facts.answered_at)


async def test_an_end_that_was_never_told_is_in_the_record(lab: Lab) -> None:
    """live_calls no longer has the call, and the switch's record has its times, until it is forgotten."""
    lab.sim.faults.drop(lab.words.ended, times=2)
    call, call_id = await lab.answered(plan(talk_s=0.2))
    facts = await call.over()
    assert await lab.switch.live_calls() == []
    record = await lab.switch.record_of(call_id)
    assert record is not None
    assert record.call_id == call_id
    assert near(record.answered_at, facts.answered_at)
    assert near(record.ended_at, facts.ended_at)
    await lab.switch.forget_record(call_id)
    assert await lab.switch.record_of(call_id) is None


async def test_a_call_that_never_was_has_no_record(lab: Lab) -> None:
    """None, not an error."""
    assert await lab.switch.record_of(f"{lab.switch.name}:1.1") is None


# --- many


async def test_forty_calls_at_once_are_kept_apart(lab: Lab) -> None:
    """Each call has its own offer, answer and end, with its own callee and times."""
    calls = [lab.sim.place(plan(callee=f"49{number:05d}", talk_s=0.3)) for number in range(40)]
    ids = [lab.id_of(call) for call in calls]
    for call_id in ids:
        await lab.told.wait(CallOffered, call_id)
    done = await asyncio.gather(*(lab.switch.admit(call_id, grant_s=60, ring_s=30) for call_id in ids))
    assert set(done) == {Outcome.DONE}
    for number, (call, call_id) in enumerate(zip(calls, ids, strict=True)):
        facts, end = await call.over(), await lab.ended(call_id)
        assert near(end.at, facts.ended_at)
        assert near(end.answered_at, facts.answered_at)
        assert lab.told.of(CallOffered, call_id)[0].callee == f"49{number:05d}"
    assert await lab.switch.live_calls() == []
