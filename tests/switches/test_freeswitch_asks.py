"""Calls of a FreeSWITCH that ask for themselves: who is believed, what is answered, what happens where nobody is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from billing.ports import SystemClock, SystemIds
from billing.settings import FreeswitchSettings
from callctl.simulator import freeswitch_dialplan
from callctl.simulator.freeswitch import PASSWORD, SimulatedFreeswitch
from callctl.switches import freeswitch_asks, freeswitch_wire
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, LinkUp, Outcome, Refusal
from callctl.switches.freeswitch import FreeSwitch
from callctl.switches.freeswitch_asks import Ask, Asks
from tests.switches.labs import Told, plan
from tests.switches.scripted_ami import until

KEY = "aaaaaaaa-0000-4000-8000-000000000001"
BROKE = Refusal("no_credit", 402, 21)


@asynccontextmanager
async def house() -> AsyncIterator[tuple[SimulatedFreeswitch, FreeSwitch, Told]]:
    async with SimulatedFreeswitch(clock=SystemClock(), rng=Random(1), latency_s=0.02) as sim:
        given_settings = FreeswitchSettings(name="fs", port=sim.port, password=SecretStr(PASSWORD))
        switch, told = FreeSwitch(given_settings, clock=SystemClock(), ids=SystemIds()), Told()
        await switch.start(told)
        try:
            await told.wait(LinkUp)
            await until(lambda: bool(sim.variable("callctl_ask_at")))
            yield sim, switch, told
        finally:
            await switch.stop()


def commands(sim: SimulatedFreeswitch) -> list[str]:
    """Note every command that is carried out from now on."""
    done: list[str] = []
    plain = sim.api

    def noted(name: str, argument: str) -> str | None:
        done.append(f"{name} {argument}")
        return plain(name, argument)

    sim.api = noted  # type: ignore[method-assign]
    return done


async def test_a_call_asks_and_goes_on_without_parking() -> None:
    """It is offered from its own channel, answered there, and is neither parked nor transferred."""
    async with house() as (sim, switch, told):
        done = commands(sim)
        call = sim.place(plan(talk_s=0.1))
        offer = await told.wait(CallOffered)
        assert (offer.account_code, offer.caller, offer.callee) == ("acme", "100", "4912345")
        assert offer.call_id == f"fs:{call.attempts[0].call_id}"
        assert sim.tasks(f"ask~{call.attempts[0].call_id}")
        assert await switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.DONE
        await told.wait(CallAnswered, offer.call_id)
        await told.wait(CallEnded, offer.call_id)
        assert not [one for one in done if one.startswith("uuid_transfer")]
        assert not sim.tasks(f"ask~{call.attempts[0].call_id}")
        assert len(told.of(CallOffered)) == 1


async def test_a_refusal_reaches_the_channel_that_asked() -> None:
    """The status is the refusal's own; the channel is not dialled and not parked."""
    async with house() as (sim, switch, told):
        call = sim.place(plan())
        offer = await told.wait(CallOffered)
        assert await switch.refuse(offer.call_id, BROKE) is Outcome.DONE
        facts = await call.over()
        assert (facts.refused_sip, facts.answered_at) == (402, None)


async def test_whoever_does_not_lead_lets_the_channel_park() -> None:
    """A controller that waits answers nobody: the channel goes on at once, and its offer is heard as an event."""
    async with house() as (sim, switch, told):
        switch.may_act = lambda: False
        sim.place(plan())
        await until(lambda: [channel.application for channel in sim.channels.values()] == ["park"])
        await told.wait(CallOffered)
        switch.may_act = lambda: True
        offer = told.of(CallOffered)[0]
        assert await switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.DONE
        await told.wait(CallAnswered, offer.call_id)


async def test_a_controller_that_is_gone_lets_the_channel_park() -> None:
    """Its port refuses: the channel parks, and whoever connects next hears of it."""
    async with SimulatedFreeswitch(clock=SystemClock(), rng=Random(1), latency_s=0.02) as sim:
        sim.globals |= {"callctl_ask_at": "127.0.0.1:1", "callctl_ask_token": "x"}
        sim.place(plan())
        await until(lambda: [channel.application for channel in sim.channels.values()] == ["park"])


async def test_a_controller_that_dies_before_it_answers_lets_the_channel_park() -> None:
    """Its connection breaks: the call is offered again by the event, under the same id."""
    async with house() as (sim, switch, told):
        sim.place(plan())
        offer = await told.wait(CallOffered)
        switch._asks.close()
        await told.wait(CallOffered, count=2)
        assert [one.call_id for one in told.of(CallOffered)] == [offer.call_id] * 2
        assert await switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.DONE
        await told.wait(CallAnswered, offer.call_id)


def held_back(asks: Asks) -> list[tuple[Ask, str]]:
    """Keep what channels say they offer until the test gives it on."""
    said: list[tuple[Ask, str]] = []
    asks.take = lambda ask, text: said.append((ask, text))  # type: ignore[method-assign]
    return said


async def test_a_call_that_a_comparison_found_before_it_asked() -> None:
    """It is let in over the link; its own question, which comes behind, is not waited with: it goes on at once."""
    async with house() as (sim, switch, told):
        said = held_back(switch._asks)
        sim.place(plan(talk_s=9))
        await until(lambda: bool(said))
        [call] = await switch.live_calls()
        assert await switch.admit(call.call_id, grant_s=60, ring_s=30) is Outcome.DONE
        assert [channel.application for channel in sim.channels.values()] == ["socket"]
        Asks.take(switch._asks, *said[0])
        await told.wait(CallAnswered, call.call_id)
        assert told.of(CallOffered) == []


async def test_a_call_that_a_comparison_found_and_that_is_refused() -> None:
    """The same for a refusal: its caller hears it, and not 503 after twelve seconds."""
    async with house() as (sim, switch, _):
        said = held_back(switch._asks)
        placed = sim.place(plan())
        await until(lambda: bool(said))
        [call] = await switch.live_calls()
        assert await switch.refuse(call.call_id, BROKE) is Outcome.DONE
        Asks.take(switch._asks, *said[0])
        async with asyncio.timeout(3):
            assert (await placed.over()).refused_sip == 402


async def test_a_second_question_for_the_same_call_is_not_answered() -> None:
    """Somebody who has read what a channel said says it again: the channel that asked first is the one that is told."""
    async with house() as (sim, switch, told):
        said = held_back(switch._asks)
        sim.place(plan(talk_s=9))
        await until(lambda: bool(said))
        ask, text = said.pop()
        Asks.take(switch._asks, ask, text)
        offer = await told.wait(CallOffered)
        port = int(sim.variable("callctl_ask_at").rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(reply(text))
        await until(lambda: bool(said))
        Asks.take(switch._asks, *said.pop())
        assert await reader.read() == freeswitch_asks.FIRST
        writer.close()
        assert await switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.DONE
        await told.wait(CallAnswered, offer.call_id)
        assert len(told.of(CallOffered)) == 1


async def test_a_call_that_nobody_decides_parks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the switch ends it, it goes where it is found again; what is decided then reaches it there."""
    monkeypatch.setattr(freeswitch_asks, "PATIENCE_S", 0.2)
    async with house() as (sim, switch, told):
        sim.place(plan(talk_s=9))
        offer = await told.wait(CallOffered)
        await until(lambda: [channel.application for channel in sim.channels.values()] == ["park"])
        assert not sim.tasks(f"ask~{offer.call_id.partition(':')[2]}")
        assert await switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.DONE
        await told.wait(CallAnswered, offer.call_id)


async def test_a_controller_that_hangs_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers: the switch itself ends the call, and its caller hears 503."""
    monkeypatch.setattr(freeswitch_dialplan, "ASK_S", 1)
    async with house() as (sim, switch, told):
        call = sim.place(plan())
        offer = await told.wait(CallOffered)
        facts = await call.over()
        assert (facts.refused_sip, facts.answered_at) == (503, None)
        await told.wait(CallEnded, offer.call_id)
        assert await switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.GONE


async def test_a_caller_who_gives_up_while_it_is_asked() -> None:
    """The end is told, and an admission that comes too late finds nothing."""
    async with house() as (sim, switch, told):
        sim.place(plan(patience_s=0.05))
        offer = await told.wait(CallOffered)
        ended = await told.wait(CallEnded, offer.call_id)
        assert ended.dial_status == "cancelled"
        assert await switch.admit(offer.call_id, grant_s=60, ring_s=30) is Outcome.GONE
        assert sim.channels == {}


async def test_a_stopped_controller_is_asked_no_more_and_another_still_is() -> None:
    """It takes its own address back, and never the one of who has taken over."""
    async with house() as (sim, switch, _):
        ours = sim.variable("callctl_ask_at")
        await switch.stop()
        assert ours.startswith("127.0.0.1:")
        assert sim.variable("callctl_ask_at") == ""
    async with house() as (sim, switch, _):
        sim.globals["callctl_ask_at"] = "127.0.0.1:7"
        await switch.stop()
        assert sim.variable("callctl_ask_at") == "127.0.0.1:7"


async def test_a_switch_that_forgot_where_to_ask_is_told_again() -> None:
    """At each comparison; until then its calls park."""
    async with house() as (sim, switch, _):
        ours = sim.globals.pop("callctl_ask_at")
        await switch.live_calls()
        await until(lambda: sim.variable("callctl_ask_at") == ours)


async def test_a_switch_elsewhere_is_not_told_where_to_ask() -> None:
    """A host that is gone would keep its calls waiting; nothing listens for it."""
    assert FreeswitchSettings(name="fs", password=SecretStr("x")).asks
    for elsewhere in ("10.0.0.5", "fs.example.org", "192.0.2.1"):
        assert not FreeswitchSettings(name="fs", host=elsewhere, password=SecretStr("x")).asks
    assert not FreeswitchSettings(name="fs", asks_here=False, password=SecretStr("x")).asks


# --- who is believed


class FixedIds(SystemIds):
    """A token that the test knows."""

    def secret(self) -> str:
        """Return it."""
        return "token"


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Asks, list[str], int]]:
    offers: list[str] = []

    def on_ask(_: Ask, key: str, facts: freeswitch_wire.Facts) -> None:
        offers.append(f"{key}|{facts.account_code}")

    asks = Asks(lambda: True, here=True, ids=FixedIds(), on_ask=on_ask)
    await asks.open()
    try:
        yield asks, offers, int(asks.here()[1].rpartition(":")[2])
    finally:
        asks.close()


async def said(port: int, data: bytes) -> bytes:
    """Connect, say this, and return all that comes until the other side has closed, or for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(0.3):
            return await reader.read()
    except TimeoutError:
        return b"still open"
    finally:
        writer.close()


def reply(text: str) -> bytes:
    return f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode()


# md5("token:" + KEY), by md5sum
PROOF = "42c60a95d451f170c68f8725d2fafe81"


async def test_who_knows_the_token_is_believed() -> None:
    """The digest is that of the token and the call's key, as the dialplan's md5 makes it."""
    async with listening() as (asks, offers, port):
        assert await said(port, reply(f"{PROOF}|{KEY}|outbound|acme|100|4912345")) == b"still open"
        assert offers == [f"{KEY}|acme"]
        assert asks.counters.hostile == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"|{KEY}|outbound|acme|100|4912345",
        f"{PROOF[:-1]}0|{KEY}|outbound|acme|100|4912345",
        f"{PROOF}|{KEY}~2|outbound|acme|100|4912345",
        f"{PROOF}|../{KEY}|outbound|acme|100|4912345",
        f"{PROOF}|{KEY}|sideways|acme|100|4912345",
        f"{PROOF}|{KEY}|outbound|acme|${{hash(select/a/b)}}|4912345",
        f"{PROOF}|{KEY}|outbound|acme|100",
        "é" * 40,
    ],
)
async def test_who_does_not_is_hung_up_on(text: str) -> None:
    """No offer comes of it; it is counted."""
    async with listening() as (asks, offers, port):
        answer = await said(port, reply(text))
        assert answer == freeswitch_asks.FIRST
        assert (offers, asks.counters.hostile) == ([], 1)


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a channel behind it is not kept."""
    monkeypatch.setattr(freeswitch_asks, "SILENT_S", 0.05)
    async with listening() as (asks, offers, port):
        assert await said(port, b"") == freeswitch_asks.FIRST
        assert (offers, asks.waiting) == ([], set())


async def test_more_than_can_wait_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """They park instead of filling the controller."""
    monkeypatch.setattr(freeswitch_asks, "MOST_WAITING", 2)
    async with listening() as (asks, _, port):
        with contextlib.ExitStack() as kept:
            for _ in range(2):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                kept.callback(writer.close)
            await until(lambda: len(asks.waiting) == 2)
            assert await said(port, b"") == b""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_make_an_offer_or_an_error(pieces: list[bytes]) -> None:
    """Whatever comes, in whatever pieces: nothing is offered, nothing is raised, and little is kept."""

    async def fed() -> None:
        offers: list[str] = []
        asks = Asks(lambda: True, here=True, ids=FixedIds(), on_ask=lambda _, key, __: offers.append(key))
        ask = Ask(asks)
        ask.connection_made(Sink())
        for piece in pieces:
            ask.data_received(piece)
        ask.connection_lost(None)
        assert offers == []
        assert asks.waiting == set()

    asyncio.run(fed())


class Sink(asyncio.Transport):
    """Takes everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take it."""

    def close(self) -> None:
        """Stay open: what comes after the end must do no harm either."""

    def is_closing(self) -> bool:
        """Never."""
        return False
