"""The FreeSWITCH adapter against a scripted switch: what it tells, what it sends, what it does not believe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from billing.ports import SystemClock, SystemIds
from billing.settings import FreeswitchSettings
from callctl.switches import freeswitch_wire as wire
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    Direction,
    LinkUp,
    Outcome,
    Refusal,
    SwitchUnavailable,
)
from callctl.switches.freeswitch import FreeSwitch
from tests.switches.labs import Told
from tests.switches.scripted_ami import until
from tests.switches.scripted_esl import ScriptedEsl, event, scripted_esl

A, B, C = (f"{letter * 8}-0000-4000-8000-000000000001" for letter in "abc")
FACTS = "outbound|acme|100|4912345"
ANSWERED = 1_795_000_000_000_000


def micros(moment: datetime) -> int:
    return wire.micros_of(moment)


def park(channel: str = A, key: str = "", facts: str = FACTS) -> bytes:
    return event("CHANNEL_PARK", Unique__ID=channel, variable_callctl_key=key or channel, variable_callctl_offer=facts)


def answer(at: int, *, leg: str = B, key: str = A, grant: str = "60.000", facts: str = FACTS) -> bytes:
    return event(
        "CHANNEL_ANSWER",
        Unique__ID=leg,
        variable_callctl_leg=key,
        variable_callctl_of=facts,
        variable_callctl_grant=grant,
        Caller__Channel__Answered__Time=str(at),
    )


def leg_over(
    answered: int, ended: int, *, leg: str = B, name: str = "NORMAL_CLEARING", said: str = "recv_bye", **more: str
) -> bytes:
    return event(
        "CHANNEL_HANGUP_COMPLETE",
        **{
            "Unique__ID": leg,
            "variable_callctl_leg": A,
            "variable_callctl_of": FACTS,
            "variable_callctl_grant": "60.000",
            "Caller__Channel__Answered__Time": str(answered),
            "Caller__Channel__Hangup__Time": str(ended),
            "Hangup__Cause": name,
            "variable_hangup_cause_q850": "16",
            "variable_sip_hangup_disposition": said,
        }
        | more,
    )


def offer_over(name: str, cause: str, **more: str) -> bytes:
    return event(
        "CHANNEL_HANGUP_COMPLETE",
        Unique__ID=A,
        variable_callctl_key=A,
        variable_callctl_offer=FACTS,
        Caller__Channel__Answered__Time="0",
        Caller__Channel__Hangup__Time=str(ANSWERED),
        Hangup__Cause=name,
        variable_hangup_cause_q850=cause,
        **more,
    )


def note(answered: int, *, end: str = "", leg: str = B, grant: str = "60.000") -> str:
    return f"{leg}|{FACTS}|{answered}|{grant}{end}"


@asynccontextmanager
async def switched(esl: ScriptedEsl) -> AsyncIterator[tuple[FreeSwitch, Told]]:
    esl.answers.setdefault("strmicroepoch", lambda _: str(micros(SystemClock().now())))
    settings = FreeswitchSettings(name="fs", port=esl.port, password=SecretStr("s3cret"))
    switch, told = FreeSwitch(settings, clock=SystemClock(), ids=SystemIds()), Told()
    await switch.start(told)
    await told.wait(LinkUp)
    try:
        yield switch, told
    finally:
        await switch.stop()


@pytest.fixture
async def esl() -> AsyncIterator[ScriptedEsl]:
    async with scripted_esl() as server:
        del server.answers["strmicroepoch"]
        server.answers |= dict.fromkeys(
            ("uuid_setvar_multi", "uuid_transfer", "uuid_kill", "sched_del", "uuid_broadcast"), lambda _: "+OK\n"
        )
        server.answers |= {"sched_api": lambda _: "+OK Added: 7\n", "uuid_exists": lambda _: "true"}
        yield server


async def offered(esl: ScriptedEsl, told: Told) -> str:
    esl.say(park())
    return (await told.wait(CallOffered)).call_id


async def talking(esl: ScriptedEsl, switch: FreeSwitch, told: Told, *, grant: str = "60.000") -> str:
    call_id = await offered(esl, told)
    await switch.admit(call_id, grant_s=60, ring_s=30)
    esl.say(answer(micros(SystemClock().now()), grant=grant))
    await told.wait(CallAnswered, call_id)
    return call_id


# --- what is told


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


async def test_a_leg_that_offered_too_is_told_as_both(esl: ScriptedEsl) -> None:
    """A transferred leg whose own offer rang in vain: one call with its times, one that was never answered."""
    async with switched(esl) as (_, told):
        own = {"variable_callctl_key": B, "variable_callctl_offer": FACTS}
        esl.say(leg_over(ANSWERED, ANSWERED + 5, **own))
        await told.wait(CallEnded, f"fs:{B}")
        answered = {end.call_id: end.answered_at is not None for end in told.of(CallEnded)}
        assert answered == {f"fs:{A}": True, f"fs:{B}": False}


# --- what is sent


async def test_an_admission_is_two_commands_and_none_the_second_time(esl: ScriptedEsl) -> None:
    """Variables first, then the way; asked again, the switch is asked first what became of it."""
    async with switched(esl) as (switch, told):
        call_id = await offered(esl, told)
        assert await switch.admit(call_id, grant_s=60.5, ring_s=30) is Outcome.DONE
        ringing, paid = "call_timeout=30;bridge_answer_timeout=30", "callctl_grant=60.500;callctl_deadline=62"
        assert esl.asked("uuid_setvar_multi") == [f"uuid_setvar_multi {A} {ringing};{paid};callctl_admit={A}"]
        assert esl.asked("uuid_transfer") == [f"uuid_transfer {A} 4912345 XML callctl-dial"]
        esl.answers["hash"] = lambda _: f"admitted|{FACTS}"
        assert await switch.admit(call_id, grant_s=60.5, ring_s=30) is Outcome.DONE
        assert len(esl.asked("uuid_transfer")) == 1


@pytest.mark.parametrize(
    ("exists", "state", "outcome", "sent"),
    [
        ("true", f"admitted|{FACTS}", Outcome.DONE, 1),
        ("true", f"offered|{FACTS}", Outcome.DONE, 2),
        ("true", "-ERR no reply\n", Outcome.GONE, 1),
        ("false", f"offered|{FACTS}", Outcome.GONE, 1),
        ("-ERR odd", f"offered|{FACTS}", Outcome.UNKNOWN, 1),
    ],
)
async def test_an_admission_without_an_answer_is_looked_after(
    esl: ScriptedEsl, exists: str, state: str, outcome: Outcome, sent: int
) -> None:
    """Not sent a second time unless the switch says that the first did not arrive: it would dial twice."""
    async with switched(esl) as (switch, told):
        call_id = await offered(esl, told)
        switch.link._timeout_s = 0.1
        esl.answers["uuid_transfer"] = lambda _: None
        assert await switch.admit(call_id, grant_s=60, ring_s=30) is Outcome.UNKNOWN
        switch.link._timeout_s = 2.0
        esl.answers |= {"uuid_transfer": lambda _: "+OK", "uuid_exists": lambda _: exists}
        esl.answers["hash"] = lambda rest: state if "callctl_offer" in rest else "-ERR no reply\n"
        assert await switch.admit(call_id, grant_s=60, ring_s=30) is outcome
        assert len(esl.asked("uuid_transfer")) == sent


@pytest.mark.parametrize(("grant_s", "ring_s"), [(0, 30), (-1, 30), (float("nan"), 30), (float("inf"), 30), (60, 0)])
async def test_an_admission_for_no_time_is_an_error(esl: ScriptedEsl, grant_s: float, ring_s: int) -> None:
    """ValueError, and nothing is sent."""
    async with switched(esl) as (switch, told):
        call_id = await offered(esl, told)
        with pytest.raises(ValueError, match="cannot admit"):
            await switch.admit(call_id, grant_s=grant_s, ring_s=ring_s)
        assert not esl.asked("uuid_")


async def test_a_limit_is_never_missing_while_it_is_moved(esl: ScriptedEsl) -> None:
    """The new deadline stands before the old one is deleted, under a name of its own."""
    async with switched(esl) as (switch, told):
        call_id = await talking(esl, switch, told)
        assert await switch.set_limit(call_id, 5.2) is Outcome.DONE
        first = esl.asked("sched_api")[0]
        group = first.split(" ")[2]
        assert first == f"sched_api +7 {group} uuid_kill {B} ALLOTTED_TIMEOUT"
        assert group.startswith(f"{B}~")
        assert await switch.set_limit(call_id, 100) is Outcome.DONE
        assert esl.asked("sched_del") == [f"sched_del {B}", f"sched_del {group}"]
        order = [command.split(" ")[1] for command in esl.got if "sched_" in command]
        assert order == ["sched_api", "sched_del"] * 2
        # Far ends are told as a time of day: the second after, where the switch's clock is known.
        when = int(esl.asked("sched_api")[1].split(" ")[1])
        assert 100 <= when - SystemClock().now().timestamp() <= 101.1
        assert await switch.set_limit(call_id, None) is Outcome.DONE
        assert len(esl.asked("sched_del")) == 3
        assert len(esl.asked("sched_api")) == 2


async def test_the_adapter_ends_a_call_at_the_exact_time(esl: ScriptedEsl) -> None:
    """The switch's own scheduler is coarse: the kill is sent when the grant is over, and not before."""
    async with switched(esl) as (switch, told):
        loop = asyncio.get_running_loop()
        began = loop.time()
        call_id = await talking(esl, switch, told, grant="0.400")
        await until(lambda: esl.asked("uuid_kill"))
        assert 0.3 < loop.time() - began < 0.55
        assert esl.asked("uuid_kill") == [f"uuid_kill {B} ALLOTTED_TIMEOUT"]
        assert await switch.set_limit(call_id, 0.2) is Outcome.DONE
        await until(lambda: len(esl.asked("uuid_kill")) == 2)


async def test_an_end_moved_away_is_not_kept(esl: ScriptedEsl) -> None:
    """Extended, unlimited or over: the timer of before does nothing."""
    async with switched(esl) as (switch, told):
        call_id = await talking(esl, switch, told, grant="0.300")
        await switch.set_limit(call_id, 30)
        await asyncio.sleep(0.4)
        await switch.set_limit(call_id, 0.1)
        now = micros(SystemClock().now())
        esl.say(leg_over(now, now + 1))
        await told.wait(CallEnded)
        await asyncio.sleep(0.2)
        assert not esl.asked("uuid_kill")


async def test_a_limit_for_a_leg_that_is_gone_leaves_nothing_behind(esl: ScriptedEsl) -> None:
    """GONE, and the deadline and the note just made are taken back."""
    async with switched(esl) as (switch, told):
        call_id = await talking(esl, switch, told)
        esl.answers["uuid_exists"] = lambda _: "false"
        assert await switch.set_limit(call_id, 30) is Outcome.GONE
        group = esl.asked("sched_api")[0].split(" ")[2]
        await until(lambda: f"sched_del {group}" in esl.asked("sched_del"))
        await until(lambda: esl.asked("hash delete/callctl_until"))


@pytest.mark.parametrize(("status", "words"), [(402, "Payment Required"), (403, "Forbidden"), (499, "Refused")])
async def test_a_refusal_has_its_sip_status(esl: ScriptedEsl, status: int, words: str) -> None:
    """Every status can be said, and the end says who refused."""
    async with switched(esl) as (switch, told):
        call_id = await offered(esl, told)
        assert await switch.refuse(call_id, Refusal("no", status, 21)) is Outcome.DONE
        assert esl.asked("uuid_transfer") == [f"uuid_transfer {A} 'respond:{status} {words}' inline"]
        esl.say(offer_over("CALL_REJECTED", "21"))
        end = await told.wait(CallEnded)
        assert (end.cause, end.hung_up_by, end.dial_status) == (21, "switch", "")


async def test_a_hang_up_finds_a_leg_whose_answer_was_not_heard(esl: ScriptedEsl) -> None:
    """The caller's channel may be gone while the leg talks: the switch's note knows it."""
    async with switched(esl) as (switch, told):
        call_id = await offered(esl, told)
        await switch.admit(call_id, grant_s=60, ring_s=30)
        esl.answers["hash"] = lambda _: note(ANSWERED)
        assert await switch.hangup(call_id) is Outcome.DONE
        assert esl.asked("uuid_kill") == [f"uuid_kill {B} MANAGER_REQUEST"]


async def test_gone_failed_and_silent_are_three_things(esl: ScriptedEsl) -> None:
    """GONE, UNKNOWN and UNKNOWN; a call never heard of is GONE, one of another switch an error."""
    async with switched(esl) as (switch, told):
        call_id = await talking(esl, switch, told)
        for text, outcome in (
            ("-ERR No such channel!\n", Outcome.GONE),
            ("-ERR Permission denied\n", Outcome.UNKNOWN),
            ("-USAGE: <uuid>\n", Outcome.UNKNOWN),
        ):
            esl.answers["uuid_kill"] = lambda _, text=text: text  # type: ignore[misc]  # bound now, not later
            assert await switch.hangup(call_id) is outcome
        assert await switch.hangup("fs:1.999") is Outcome.GONE
        with pytest.raises(ValueError, match="not a call of fs"):
            await switch.hangup("pbx:1.999")
        with pytest.raises(ValueError, match="not a call"):
            await switch.hangup("fs:x;uuid_kill y")


# --- what is asked


def dump(*lines: str) -> str:
    return "".join(f"D/{line}\n" for line in ("callctl_alive/yes", *lines))


def channels(*uuids: str) -> str:
    rows = ",".join(f'{{"uuid": "{uuid}"}}' for uuid in uuids)
    return f'{{"row_count": {len(uuids)}, "rows": [{rows}]}}'


async def test_live_calls_are_what_is_noted_of_channels_that_live(esl: ScriptedEsl) -> None:
    """Waiting, ringing and talking; what ended, and what no channel is left of, is not live."""
    async with switched(esl) as (switch, told):
        now = micros(SystemClock().now())
        esl.answers["hash_dump"] = lambda _: dump(
            f"callctl_offer_{A}/offered|{FACTS}",
            f"callctl_offer_{C}~3/admitted|{FACTS}",
            f"callctl_leg_k1/{note(now, leg=B)}",
            f"callctl_leg_k2/{note(now, leg=B, end=f'|{now + 5}|16|NORMAL_CLEARING|recv_bye')}",
            "callctl_leg_k3/" + note(now, leg="dddddddd-0"),
            "other_thing/x",
        )
        esl.answers["show"] = lambda _: channels(A, B, C)
        esl.answers["uuid_exists"] = lambda _: "false"
        live = {call.call_id: call for call in await switch.live_calls()}
        assert sorted(live) == sorted([f"fs:{A}", f"fs:{C}~3", "fs:k1"])
        assert [live[f"fs:{A}"].waiting, live[f"fs:{C}~3"].waiting, live["fs:k1"].waiting] == [True, False, False]
        assert live["fs:k1"].answered_at == wire.parse_micros(str(now))
        assert 59 < (live["fs:k1"].limit_s or 0) <= 60
        assert esl.asked("uuid_exists") == ["uuid_exists dddddddd-0"]
        assert told.of(CallEnded) == []


async def test_a_channel_the_list_lacks_is_asked_for_by_name(esl: ScriptedEsl) -> None:
    """The list of channels lags behind the channels."""
    async with switched(esl) as (switch, _):
        esl.answers["hash_dump"] = lambda _: dump(f"callctl_offer_{A}/offered|{FACTS}")
        assert [call.call_id for call in await switch.live_calls()] == [f"fs:{A}"]


@pytest.mark.parametrize(("until_text", "limit"), [("none", None), ("", 60.0)])
async def test_a_limit_that_was_moved_counts(esl: ScriptedEsl, until_text: str, limit: float | None) -> None:
    """What the switch notes of a moved end overrides the grant."""
    async with switched(esl) as (switch, _):
        now = micros(SystemClock().now())
        moved = until_text or str(now + 60_000_000)
        esl.answers["hash_dump"] = lambda _: dump(
            f"callctl_leg_k1/{note(now, grant='9.000')}", f"callctl_until_k1/{moved}"
        )
        esl.answers["show"] = lambda _: channels(B)
        [call] = await switch.live_calls()
        assert (call.limit_s is None) == (limit is None)
        if limit is not None:
            assert limit - 1 < (call.limit_s or 0) <= limit


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("hash_dump", "-ERR no reply\n"),
        ("hash_dump", ""),
        ("hash_dump", "-ERR hash_dump Command not found!\n"),
        ("hash_dump", None),
        ("show", ""),
        ("show", "-ERR SQL disabled, no data available!\n"),
        ("show", '{"row_count": 2, "rows": [{"uuid": "x"}]}'),
        ("show", '{"row_count": 1, "rows": [{"uuid": "x"'),
        ("show", "[]"),
        ("show", None),
        ("uuid_exists", "-ERR odd"),
    ],
)
async def test_a_question_without_a_whole_answer_is_not_no_calls(esl: ScriptedEsl, word: str, text: str | None) -> None:
    """Nothing, an error, half a list, silence: SwitchUnavailable, never an empty list."""
    async with switched(esl) as (switch, _):
        esl.answers["hash_dump"] = lambda _: dump(f"callctl_offer_{A}/offered|{FACTS}")
        esl.answers[word] = lambda _: text
        switch.link._timeout_s = 0.2
        with pytest.raises(SwitchUnavailable):
            await switch.live_calls()


async def test_notes_that_were_forged_are_nobodys(esl: ScriptedEsl) -> None:
    """A line twice, or one that the dialplan cannot have written, is left out and counted; the others stand."""
    async with switched(esl) as (switch, _):
        esl.answers["hash_dump"] = lambda _: dump(
            f"callctl_offer_{A}/offered|{FACTS}",
            f"callctl_offer_{B}/offered|{FACTS}",
            f"callctl_offer_{B}/offered|outbound|victim|1|2",
            f"callctl_offer_{C}/offered|outbound|a b|1|2",
            "callctl_leg_x/what is this",
        )
        assert [call.call_id for call in await switch.live_calls()] == [f"fs:{A}"]
        assert switch.counters.hostile == 1


async def test_an_older_picture_does_not_move_an_end_back(esl: ScriptedEsl) -> None:
    """A call extended while the switch is asked for its calls ends when it was extended to, not before."""
    async with switched(esl) as (switch, told):
        call_id = await talking(esl, switch, told, grant="0.400")
        answered_at = told.of(CallAnswered)[0].at
        esl.answers["hash_dump"] = lambda _: dump(f"callctl_leg_{A}/{note(micros(answered_at), grant='0.400')}")
        esl.answers["show"] = lambda _: channels(B)
        asking = asyncio.create_task(switch.live_calls())
        await asyncio.sleep(0)
        assert await switch.set_limit(call_id, 30) is Outcome.DONE
        await asking
        await asyncio.sleep(0.5)
        assert not esl.asked("uuid_kill")


async def test_thousands_of_calls_keep_nobody_waiting(esl: ScriptedEsl) -> None:
    """A long list is read beside the loop; it is as whole as a short one."""
    async with switched(esl) as (switch, _):
        now, names = micros(SystemClock().now()), [f"{number:08x}-1" for number in range(5_000)]
        esl.answers["hash_dump"] = lambda _: dump(*(f"callctl_leg_{name}/{note(now, leg=name)}" for name in names))
        esl.answers["show"] = lambda _: channels(*names)
        assert len(await switch.live_calls()) == 5_000


async def test_a_record_says_when_and_by_whom(esl: ScriptedEsl) -> None:
    """The switch's note of an ended leg; none while it lives, none for a call that never was."""
    async with switched(esl) as (switch, _):
        end = f"|{ANSWERED + 2_000_000}|16|ALLOTTED_TIMEOUT|send_bye"
        esl.answers["hash"] = lambda _: note(ANSWERED, end=end)
        record = await switch.record_of("fs:k1")
        assert record is not None
        answered_at = wire.parse_micros(str(ANSWERED))
        assert answered_at is not None
        assert (record.answered_at, record.ended_at) == (answered_at, answered_at + timedelta(seconds=2))
        assert (record.cause, record.hung_up_by) == (16, "switch")
        esl.answers["hash"] = lambda _: note(ANSWERED)
        assert await switch.record_of("fs:k1") is None
        esl.answers["hash"] = lambda _: "-ERR no reply\n"
        assert await switch.record_of("fs:k1") is None
        esl.answers["hash"] = lambda _: "-ERR hash Command not found!\n"
        with pytest.raises(SwitchUnavailable):
            await switch.record_of("fs:k1")


async def test_events_that_come_before_the_comparison_are_told_after_it(esl: ScriptedEsl) -> None:
    """LinkUp first, then what waits, then what was heard meanwhile, in order."""
    esl.answers["hash_dump"] = lambda _: dump(f"callctl_offer_{A}/offered|{FACTS}")
    esl.answers["strmicroepoch"] = lambda _: str(micros(SystemClock().now()))
    held: list[str] = []

    def show(rest: str) -> str:
        if not held:
            held.append(rest)
            esl.say(park(C) + leg_over(ANSWERED, ANSWERED + 5, leg=B))
        return channels(A)

    esl.answers["show"] = show
    async with switched(esl) as (_, told):
        await told.wait(CallEnded)
        kinds = [type(one).__name__ for one in told.events]
        assert kinds == ["LinkUp", "CallOffered", "CallOffered", "CallEnded"]


async def test_a_switch_whose_clock_is_wrong_is_billed_by_that_clock(esl: ScriptedEsl) -> None:
    """What is left of a call is counted by the switch's clock, an hour away or not."""
    esl.answers["strmicroepoch"] = lambda _: str(micros(SystemClock().now() + timedelta(hours=1)))
    async with switched(esl) as (switch, told):
        await offered(esl, told)
        esl.say(answer(micros(SystemClock().now() + timedelta(hours=1)), grant="0.300"))
        await told.wait(CallAnswered)
        assert not esl.asked("uuid_kill")
        await until(lambda: esl.asked("uuid_kill"))
        assert switch.counters.hostile == 0
