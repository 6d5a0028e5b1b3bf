"""The Asterisk adapter while a list of all channels comes slowly: what happens meanwhile is neither lost nor undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from billing.ports import SystemClock, SystemIds
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, LinkUp, Outcome
from tests.switches.scripted_ami import Fields, listed, scripted_ami, slowly, success, until
from tests.switches.test_asterisk_adapter import (
    ADMITTED,
    ANSWERED,
    ANSWERED_AT,
    ENDED,
    LEG,
    A,
    B,
    Channel,
    Scene,
    settings,
)


@asynccontextmanager
async def slow_scene(*channels: Channel, frames: int = 1_000) -> AsyncIterator[Scene]:
    """Give an adapter that connects to a switch with these channels; a list shows them as they were when it began.

    After so many frames a list goes on no more.
    """
    async with scripted_ami() as ami:
        switch = AsteriskSwitch(settings(ami.port), clock=SystemClock(), ids=SystemIds())
        switch.link._timeout_s = 0.5
        scene = Scene(ami, switch, {channel.uniqueid: channel for channel in channels})

        def status(action: Fields) -> str | AsyncIterator[str]:
            if "Channel" in action:
                return scene.status(action)
            items = [channel.item() for channel in scene.channels.values()]
            return slowly(listed(action, *items), pause_s=0.1, most=frames)

        ami.answers |= {"Status": status, "DBGet": scene.note, "Setvar": success, "Hangup": success}
        await switch.start(scene.told.append)
        yield scene
        await switch.stop()


def lists(scene: Scene) -> int:
    return len([action for action in scene.ami.actions("Status") if "Channel" not in action])


C = "1795418800.300"
RINGING = (Channel(A, ADMITTED), Channel(B, leg=LEG))
TALKING = (Channel(A, ADMITTED, peer="PJSIP/c-1"), Channel(B, leg=LEG, answered=ANSWERED, limit="59.9"))


async def test_a_call_that_ends_while_the_list_comes_is_over() -> None:
    """The list still shows it: it is not told as living, and not learnt again."""
    async with slow_scene(*TALKING) as scene:
        await until(lambda: scene.told == [LinkUp("ast1")])
        look = asyncio.create_task(scene.switch.live_calls())
        await until(lambda: lists(scene) == 2)
        scene.notes[A] = f"{B}|{ANSWERED}|{ENDED}|16|self"
        scene.channels.clear()
        scene.hangup(B)
        await until(lambda: scene.of(CallEnded))
        assert await look == []
        assert await scene.switch.hangup(f"ast1:{A}") is Outcome.GONE
        await asyncio.sleep(0.1)
        assert len(scene.of(CallEnded)) == 1


async def test_an_end_told_before_its_channel_is_listed_is_not_lost() -> None:
    """At a connect nothing is known yet: the end of a channel that is listed afterwards is looked at again."""
    async with slow_scene(*TALKING) as scene:
        await until(lambda: lists(scene) == 1)
        scene.notes[A] = f"{B}|{ANSWERED}|{ENDED}|16|self"
        scene.channels.clear()
        scene.hangup(B)
        await until(lambda: scene.of(CallEnded))
        assert await scene.switch.hangup(f"ast1:{A}") is Outcome.GONE


async def test_an_answer_told_before_its_channel_is_listed_is_not_lost() -> None:
    """At a connect the list may show a leg as ringing whose answer has been told already: it is asked for again."""
    async with slow_scene(*RINGING) as scene:
        await until(lambda: lists(scene) == 1)
        scene.channels |= {channel.uniqueid: channel for channel in TALKING}
        scene.ami.event("DialEnd", Uniqueid=A, DestUniqueid=B, DialStatus="ANSWER")
        await until(lambda: scene.of(CallAnswered))
        assert scene.told == [LinkUp("ast1"), CallAnswered(f"ast1:{A}", ANSWERED_AT)]


async def test_a_hint_lost_while_the_list_comes_is_found_by_another() -> None:
    """The list may have passed its channel already: the caller that waits is offered all the same."""
    late = Channel(C, "1|offered|outbound|100|4933")
    async with slow_scene(*TALKING, *(Channel(f"1.{number}") for number in range(6))) as scene:
        await until(lambda: lists(scene) == 1)
        status = scene.ami.answers["Status"]
        scene.ami.answers["Status"] = lambda action: None if action.get("Channel") == C else status(action)
        scene.has(late)
        scene.ami.event("AsyncAGIStart", Uniqueid=C)
        await until(lambda: scene.of(CallOffered), within_s=8)
        assert lists(scene) == 2
        assert {getattr(event, "call_id", "") for event in scene.of(CallOffered)} == {f"ast1:{C}"}
