"""The FreeSWITCH adapter against a scripted switch: which events it tells of, and what it does not believe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from billing.ports import SystemClock
from callctl.switches import freeswitch_wire as wire
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    Direction,
)
from tests.switches.scripted_ami import until
from tests.switches.scripted_esl import ScriptedEsl, event
from tests.switches.scripted_freeswitch import (
    ANSWERED,
    FACTS,
    A,
    B,
    C,
    answer,
    leg_over,
    micros,
    offer_over,
    offered,
    park,
    scripted_freeswitch,
    switched,
    talking,
)


@pytest.fixture
async def esl() -> AsyncIterator[ScriptedEsl]:
    async with scripted_freeswitch() as server:
        yield server


async def test_an_offer_is_what_the_dialplan_has_set(esl: ScriptedEsl) -> None:
    """Account, caller and callee come from the variable of the dialplan, nothing else of the event counts."""
    async with switched(esl) as (_, told):
        forged = {
            "Caller-Caller-ID-Number": "x",
            "variable_accountcode": "victim",
            "variable_sip_h_X-account": "victim",
        }
        esl.say(
            event(
                "CHANNEL_PARK",
                Unique__ID=A,
                variable_callctl_key=A,
                variable_callctl_offer=FACTS,
                **{name.replace("-", "__"): text for name, text in forged.items()},
            )
        )
        offer = await told.wait(CallOffered)
        assert (offer.call_id, offer.direction, offer.account_code, offer.caller, offer.callee) == (
            f"fs:{A}", Direction.OUTBOUND, "acme", "100", "4912345",
        )  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        park(key=B),
        park(key=f"{A}~0"),
        park(key="x y"),
        park(facts="outbound|acme|100"),
        park(facts="sideways|acme|100|49"),
        park(facts="outbound|a me|100|49"),
        park(facts="outbound|acme|1\n0|49"),
        park(facts="outbound|acme|100|49;uuid_kill"),
        answer(ANSWERED, grant="forever"),
        answer(ANSWERED, grant="-1"),
        answer(ANSWERED, grant="inf"),
        answer(ANSWERED, leg="x y"),
        answer(ANSWERED, key="../x"),
        answer(10**20),
        leg_over(ANSWERED, ANSWERED, Caller__Channel__Hangup__Time="soon"),
    ],
)
async def test_what_the_dialplan_cannot_have_written_is_hostile(esl: ScriptedEsl, bad: bytes) -> None:
    """It is counted, nothing is told, nothing is sent, and the next event is heard."""
    async with switched(esl) as (switch, told):
        before = len(told.events)
        esl.say(bad)
        await until(lambda: switch.counters.hostile == 1)
        assert len(told.events) == before
        assert not esl.asked("uuid_")
        await offered(esl, told)


async def test_an_answer_and_an_end_have_the_switchs_own_times(esl: ScriptedEsl) -> None:
    """Microseconds as the leg has them; the far end of an outbound leg is the callee."""
    async with switched(esl) as (switch, told):
        call_id = await offered(esl, told)
        await switch.admit(call_id, grant_s=60, ring_s=30)
        esl.say(answer(ANSWERED + 20_000) + leg_over(ANSWERED + 20_000, ANSWERED + 1_040_000))
        end = await told.wait(CallEnded)
        at = datetime.fromtimestamp(ANSWERED / 1e6, UTC)
        assert told.of(CallAnswered) == [CallAnswered(call_id, at + timedelta(milliseconds=20))]
        assert end == CallEnded(
            call_id, at + timedelta(milliseconds=1040), 16, "", "callee", at + timedelta(milliseconds=20)
        )


@pytest.mark.parametrize(
    ("name", "said", "by"),
    [
        ("NORMAL_CLEARING", "recv_bye", "callee"),
        ("NORMAL_CLEARING", "send_bye", "caller"),
        ("ALLOTTED_TIMEOUT", "send_bye", "switch"),
        ("MANAGER_REQUEST", "send_bye", "switch"),
        ("NORMAL_CLEARING", "", ""),
    ],
)
async def test_who_hung_up_is_told(esl: ScriptedEsl, name: str, said: str, by: str) -> None:
    """By who said BYE, and by the cause where it was the switch itself."""
    async with switched(esl) as (_, told):
        esl.say(leg_over(ANSWERED, ANSWERED + 1, name=name, said=said))
        assert (await told.wait(CallEnded)).hung_up_by == by


@pytest.mark.parametrize(
    ("name", "cause", "status", "q850"),
    [
        ("USER_BUSY", "17", "busy", 17),
        ("NO_ANSWER", "19", "no_answer", 19),
        ("ALLOTTED_TIMEOUT", "16", "no_answer", 16),
        ("ORIGINATOR_CANCEL", "16", "cancelled", 16),
        ("NO_ROUTE_DESTINATION", "3", "failed", 3),
        ("SOMETHING_NEW", "", "failed", 0),
    ],
)
async def test_a_call_that_is_not_answered_says_why(
    esl: ScriptedEsl, name: str, cause: str, status: str, q850: int
) -> None:
    """One of four words, and Q.850; no answer."""
    async with switched(esl) as (_, told):
        await offered(esl, told)
        esl.say(offer_over(name, cause))
        end = await told.wait(CallEnded)
        assert (end.dial_status, end.cause, end.answered_at) == (status, q850, None)


async def test_a_leg_that_rang_in_vain_ends_nothing(esl: ScriptedEsl) -> None:
    """A second carrier may be tried: only the end of the channel that offered is the call's."""
    async with switched(esl) as (_, told):
        await offered(esl, told)
        esl.say(leg_over(0, ANSWERED, name="USER_BUSY"))
        esl.say(answer(ANSWERED, leg=C))
        await told.wait(CallAnswered)
        assert told.of(CallEnded) == []


async def test_a_channel_whose_leg_lives_on_does_not_end_the_call(esl: ScriptedEsl) -> None:
    """After a blind transfer its caller is gone and the leg talks on; known by memory, or by the channel's own word."""
    async with switched(esl) as (switch, told):
        await talking(esl, switch, told)
        esl.say(offer_over("BLIND_TRANSFER", "16"))
        esl.say(offer_over("BLIND_TRANSFER", "16", variable_callctl_over=A))
        esl.say(park(C))
        await told.wait(CallOffered, f"fs:{C}")
        assert told.of(CallEnded) == []


async def test_a_channel_says_itself_that_its_leg_has_answered(esl: ScriptedEsl) -> None:
    """After a restart of the controller nothing is remembered: the channel's own variable keeps the call alive."""
    async with switched(esl) as (_, told):
        esl.say(offer_over("BLIND_TRANSFER", "16", variable_callctl_over=A))
        esl.say(offer_over("BLIND_TRANSFER", "16", variable_callctl_over=f"{A}~3"))
        await told.wait(CallEnded)
        await asyncio.sleep(0.05)
        assert len(told.of(CallEnded)) == 1


async def test_the_far_half_of_a_loopback_channel_is_no_leg(esl: ScriptedEsl) -> None:
    """It has every variable of the leg: its answer and its end are not the call's, and it is never hung up for it."""
    async with switched(esl) as (switch, told):
        await offered(esl, told)
        far = {"variable_loopback_leg": "B"}
        at = micros(SystemClock().now())
        esl.say(answer(at, leg=B, variable_loopback_leg="A") + answer(at + 20_000, leg=C, **far))
        esl.say(leg_over(at, at + 1_000_000, leg=C, **far))
        esl.say(park(C))
        await told.wait(CallOffered, f"fs:{C}")
        assert [each.at for each in told.of(CallAnswered)] == [wire.parse_micros(str(at))]
        assert told.of(CallEnded) == []
        await switch.hangup(f"fs:{A}")
        assert esl.asked("uuid_kill") == [f"uuid_kill {B} MANAGER_REQUEST"]


async def test_a_uuid_that_offers_twice_is_the_call_that_it_was(esl: ScriptedEsl) -> None:
    """Whatever a second event of the same offer says, who pays and who is called stays; another offer has its own."""
    async with switched(esl) as (_, told):
        call_id = await offered(esl, told)
        esl.say(event("CHANNEL_CREATE", Unique__ID=A, variable_callctl_tell="yes"))
        esl.say(park(facts="outbound|victim|100|1900"))
        esl.say(park(key=f"{A}~7", facts="outbound|acme|100|49777"))
        await told.wait(CallOffered, f"{call_id}~7")
        assert [(each.account_code, each.callee) for each in told.of(CallOffered, call_id)] == [("acme", "4912345")] * 2
        assert told.of(CallOffered, f"{call_id}~7")[0].callee == "49777"


async def test_a_uuid_used_again_after_its_call_is_told_under_the_same_id(esl: ScriptedEsl) -> None:
    """The adapter makes no new call of it: whoever keeps the calls knows that this one is over, and admits it not."""
    async with switched(esl) as (switch, told):
        call_id = await talking(esl, switch, told)
        esl.say(leg_over(ANSWERED, ANSWERED + 1_000_000))
        await told.wait(CallEnded, call_id)
        esl.say(park(facts="outbound|other|100|49777"))
        again = await told.wait(CallOffered, call_id, count=2)
        assert (again.call_id, again.account_code) == (call_id, "other")


async def test_a_leg_that_offered_too_is_told_as_both(esl: ScriptedEsl) -> None:
    """A transferred leg whose own offer rang in vain: one call with its times, one that was never answered."""
    async with switched(esl) as (_, told):
        own = {"variable_callctl_key": B, "variable_callctl_offer": FACTS}
        esl.say(leg_over(ANSWERED, ANSWERED + 5, **own))
        await told.wait(CallEnded, f"fs:{B}")
        answered = {end.call_id: end.answered_at is not None for end in told.of(CallEnded)}
        assert answered == {f"fs:{A}": True, f"fs:{B}": False}
