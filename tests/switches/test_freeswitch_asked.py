"""The FreeSWITCH adapter against a scripted switch: what it asks, and what it makes of lists, notes and records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from billing.ports import SystemClock
from callctl.switches import freeswitch_wire as wire
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    Outcome,
    SwitchUnavailable,
)
from tests.switches.scripted_ami import until
from tests.switches.scripted_esl import ScriptedEsl
from tests.switches.scripted_freeswitch import (
    ANSWERED,
    FACTS,
    A,
    B,
    C,
    answer,
    leg_over,
    micros,
    note,
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
        switch.link._list_s = 0.2
        with pytest.raises(SwitchUnavailable):
            await switch.live_calls()


def long_list(count: int, name: str) -> str:
    """List channels as FreeSWITCH does, with what their callers call themselves."""
    rows = [{"uuid": f"u-{number}", "cid_name": name, "dest": "49"} for number in range(count)]
    return json.dumps({"row_count": count, "rows": rows}, separators=(",", ":"))


@pytest.mark.parametrize("name", ["x", '},{"uuid":"forged', '"},{"uuid":"forged', "},{", '"}]}'])
def test_a_long_list_of_channels_is_read_in_pieces(name: str) -> None:
    """Whatever callers call themselves: a list of megabytes is cut between channels, and nowhere else."""
    text = long_list(10_000, name)
    assert len(list(wire._some_rows(text))) > 1
    assert wire.parse_channels(text) == {f"u-{number}" for number in range(10_000)}


@pytest.mark.parametrize("spoilt", [slice(0, -2), slice(0, 400_000)])
def test_a_long_list_that_is_not_whole_is_none(spoilt: slice) -> None:
    """Its end is missing, or most of it, or its count is not that of its rows."""
    text = long_list(10_000, "x")
    for broken in (text[spoilt], text.replace('"row_count":10000', '"row_count":10001')):
        with pytest.raises(SwitchUnavailable):
            wire.parse_channels(broken)


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
