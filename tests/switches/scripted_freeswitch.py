"""The FreeSWITCH adapter before a scripted switch: the events and notes of one call, and how far it has come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from pydantic import SecretStr

from billing.ports import SystemClock, SystemIds
from billing.settings import FreeswitchSettings
from callctl.switches import freeswitch_wire as wire
from callctl.switches.base import (
    CallAnswered,
    CallOffered,
    LinkUp,
)
from callctl.switches.freeswitch import FreeSwitch
from tests.switches.labs import Told
from tests.switches.scripted_esl import ScriptedEsl, event, scripted_esl

A, B, C = (f"{letter * 8}-0000-4000-8000-000000000001" for letter in "abc")
FACTS = "outbound|acme|100|4912345"
ANSWERED = 1_795_000_000_000_000


def micros(moment: datetime) -> int:
    return wire.micros_of(moment)


def park(channel: str = A, key: str = "", facts: str = FACTS) -> bytes:
    return event("CHANNEL_PARK", Unique__ID=channel, variable_callctl_key=key or channel, variable_callctl_offer=facts)


def answer(at: int, *, leg: str = B, key: str = A, grant: str = "60.000", facts: str = FACTS, **more: str) -> bytes:
    return event(
        "CHANNEL_ANSWER",
        Unique__ID=leg,
        variable_callctl_leg=key,
        variable_callctl_of=facts,
        variable_callctl_grant=grant,
        Caller__Channel__Answered__Time=str(at),
        **more,
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


@asynccontextmanager
async def scripted_freeswitch() -> AsyncIterator[ScriptedEsl]:
    """Serve a switch that does whatever it is told."""
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
