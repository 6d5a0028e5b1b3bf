"""The FreeSWITCH adapter against a scripted switch: what it sends, in which order, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from billing.ports import SystemClock
from callctl.switches.base import (
    CallEnded,
    Outcome,
    Refusal,
)
from tests.switches.scripted_ami import until
from tests.switches.scripted_esl import ScriptedEsl
from tests.switches.scripted_freeswitch import (
    ANSWERED,
    FACTS,
    A,
    B,
    leg_over,
    micros,
    note,
    offer_over,
    offered,
    scripted_freeswitch,
    switched,
    talking,
)


@pytest.fixture
async def esl() -> AsyncIterator[ScriptedEsl]:
    async with scripted_freeswitch() as server:
        yield server


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
        switch.link.timeout_s = 0.1
        esl.answers["uuid_transfer"] = lambda _: None
        assert await switch.admit(call_id, grant_s=60, ring_s=30) is Outcome.UNKNOWN
        switch.link.timeout_s = 2.0
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
