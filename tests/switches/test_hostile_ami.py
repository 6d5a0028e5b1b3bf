"""Whatever bytes a switch sends, or a caller makes it send: counted, never a crash, never a word about another call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callctl.simulator.calls import SimulatedCall
from callctl.simulator.plans import CallPlan
from callctl.switches.ami import Framer
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, LinkDown, LinkUp, Outcome, SwitchUnavailable
from callctl.switches.link import LinkCounters
from tests.switches.labs import Lab, asterisk_lab

STAMP = b"Timestamp: 1795418284.416063\r\n"


@dataclass
class Scene:
    """A call that talks, one that rings, one that waits: whoever attacks means one of them."""

    lab: Lab
    talking: SimulatedCall
    ringing: SimulatedCall
    waiting: SimulatedCall

    @property
    def counters(self) -> LinkCounters:
        """What the adapter counted."""
        assert isinstance(self.lab.switch, AsteriskSwitch)
        return self.lab.switch.counters

    @property
    def leg(self) -> str:
        """The carrier leg of the call that talks."""
        leg = self.talking.attempts[0].leg
        assert leg is not None
        return leg.unique_id

    def attack(self, raw: bytes) -> None:
        """Send bytes; `{talking}`, `{leg}`, `{ringing}`, `{waiting}` stand for the victims' unique ids."""
        names = {"talking": self.talking.call_id, "ringing": self.ringing.call_id, "waiting": self.waiting.call_id}
        for name, value in {**names, "leg": self.leg}.items():
            raw = raw.replace(f"{{{name}}}".encode(), value.encode())
        self.lab.sim.send_raw(raw)

    async def unharmed(self, *, link_downs: int = 0) -> None:
        """Let everything settle, then check that nothing was touched, neither in truth nor in what was told."""
        await asyncio.sleep(0.05)
        expected = {self.lab.id_of(self.talking): False, self.lab.id_of(self.ringing): False}
        expected[self.lab.id_of(self.waiting)] = True
        for _ in range(5):
            try:
                live = await self.lab.switch.live_calls()
                break
            except SwitchUnavailable:
                await asyncio.sleep(0.3)
        assert {call.call_id: call.waiting for call in live} == expected
        told = self.lab.told
        assert len(told.of(LinkDown)) == link_downs
        assert told.of(CallEnded) == []
        truth = CallAnswered(self.lab.id_of(self.talking), told.of(CallAnswered)[0].at)
        assert set(told.of(CallAnswered)) == {truth}
        assert {(offer.call_id, offer.account_code, offer.callee) for offer in told.of(CallOffered)} == {
            (self.lab.id_of(call), call.plan.account_code, call.plan.callee)
            for call in (self.talking, self.ringing, self.waiting)
        }
        assert not any(call.ended for call in (self.talking, self.ringing, self.waiting))


async def scene_in(lab: Lab) -> Scene:
    talking, _ = await lab.answered(CallPlan("acme", "100", "49111", ring_s=0.01), grant_s=60)
    ringing, ringing_id = await lab.offered(CallPlan("bolt", "200", "49222", ring_s=60))
    await lab.switch.admit(ringing_id, grant_s=60, ring_s=60)
    waiting, _ = await lab.offered(CallPlan("core", "300", "49333"))
    return Scene(lab, talking, ringing, waiting)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with asterisk_lab() as lab:
        yield await scene_in(lab)


def forged(event: str, channel: str, *more: str) -> bytes:
    lines = [f"Event: {event}", "Privilege: call,all", "Timestamp: 1795418284.416063", "Channel: PJSIP/caller-00000000"]
    lines += [f"Uniqueid: {{{channel}}}", f"Linkedid: {{{channel}}}", *more]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


FORGED = {
    "hangup of the caller": forged("Hangup", "talking", "Cause: 16", "Cause-txt: Normal Clearing"),
    "hangup of the leg": forged("Hangup", "leg", "Cause: 16", "Cause-txt: Normal Clearing"),
    "hangup while ringing": forged("Hangup", "ringing", "Cause: 17"),
    "hangup while waiting": forged("Hangup", "waiting", "Cause: 127", "TechCause: 487"),
    "answer of the one that rings": forged("DialEnd", "ringing", "DestUniqueid: {leg}", "DialStatus: ANSWER"),
    "answer of the one that waits": forged("DialEnd", "waiting", "DestUniqueid: {waiting}", "DialStatus: ANSWER"),
    "busy while talking": forged("DialEnd", "talking", "DestUniqueid: {leg}", "DialStatus: BUSY"),
    "offer of one that talks": forged("AsyncAGIStart", "talking", "AccountCode: victim", "Exten: 1900"),
    "offer by the leg": forged("AsyncAGIStart", "leg", "AccountCode: victim"),
    "offer by nobody": b"Event: AsyncAGIStart\r\n" + STAMP + b"Uniqueid: 1.1\r\nAccountCode: victim\r\n\r\n",
    "offer by no name": b"Event: AsyncAGIStart\r\nUniqueid: x\x00;DROP\r\n\r\n",
    "offer without a name": b"Event: AsyncAGIStart\r\nAccountCode: victim\r\n\r\n",
    "end of the waiting": forged("AsyncAGIEnd", "waiting"),
    "shutdown": b"Event: Shutdown\r\nShutdown: Cleanly\r\nRestart: False\r\n\r\n",
    "booted": b"Event: FullyBooted\r\nStatus: Fully Booted\r\n\r\n",
    "an answer to nobody": b"Response: Error\r\nActionID: 1\r\nMessage: No such channel\r\n\r\n",
    "a list to nobody": b"Event: StatusComplete\r\nActionID: 1\r\nEventList: Complete\r\nListItems: 0\r\n\r\n",
    "a status to nobody": forged("Status", "talking", "Variable: CALLCTL_OFFER=1|offered|outbound|1|2"),
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=FORGED.keys())
async def test_a_forged_event_is_not_believed(scene: Scene, raw: bytes) -> None:
    """An event is a hint: what the switch itself denies is not told."""
    scene.attack(raw)
    await asyncio.sleep(0.1)
    await scene.unharmed()


@pytest.mark.parametrize("raw", [FORGED["hangup of the caller"], FORGED["answer of the one that rings"]])
async def test_many_forged_events_are_not_believed_either(scene: Scene, raw: bytes) -> None:
    """A flood of lies does not make one of them true, nor stop the truth from coming."""
    scene.attack(raw * 500)
    await scene.unharmed()
    scene.waiting.hang_up()
    await scene.lab.ended(scene.lab.id_of(scene.waiting))


async def test_a_forged_hangup_is_counted(scene: Scene) -> None:
    """The end of a channel that lives is hostile, and shows in the counters."""
    scene.attack(FORGED["hangup of the leg"])
    async with asyncio.timeout(5):
        while scene.counters.hostile == 0:  # noqa: ASYNC110 - a counter has no event
            await asyncio.sleep(0.05)
    await scene.unharmed()


@pytest.mark.parametrize("header", ["Uniqueid", "UNIQUEID", "Cause", "Event"])
async def test_a_header_that_comes_twice_is_hostile(scene: Scene, header: str) -> None:
    """The event is dropped and counted, whichever of the two was true."""
    value = {"Cause": "16", "Event": "Hangup"}.get(header, "{leg}")
    before = scene.counters.hostile
    scene.attack(forged("Hangup", "waiting", f"{header}: {value}", "Cause: 16"))
    await asyncio.sleep(0.1)
    assert scene.counters.hostile == before + 1
    await scene.unharmed()


async def test_an_unknown_event_is_counted(scene: Scene) -> None:
    """Nobody asked for it, nobody is hurt by it."""
    before = scene.counters.unknown
    scene.attack(forged("PeerStatus", "talking") + forged("Ex" * 5000, "talking"))
    await scene.unharmed()
    assert scene.counters.unknown == before + 2


GARBAGE = {
    "binary": bytes(range(256)) * 8 + b"\r\n\r\n",
    "no header": b"what is this\r\n\r\n",
    "empty frames": b"\r\n\r\n" * 100,
    "a megabyte in one line": b"Event: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "a megabyte in a header": b"Event: Hangup\r\nUniqueid: {leg}" + b"9" * 1_000_000 + b"\r\n\r\n",
    "three megabytes without an end": b"y" * 3_000_000 + b"\r\n\r\n",
    "twenty thousand headers": b"Event: Hangup\r\n" + b"".join(b"H%d: 1\r\n" % n for n in range(20_000)) + b"\r\n",
    "bare newlines": b"Event: Hangup\nUniqueid: {leg}\n\n\r\n\r\n",
    "bare returns": b"Event: Hangup\rUniqueid: {leg}\r\r\r\n\r\n",
    "UTF-16": "Event: Hangup\r\nUniqueid: {leg}\r\n\r\n".encode("utf-16") + b"\r\n\r\n",
    "overlong UTF-8": b"Event: \xc0\x8d\xc0\x8a\r\nUniqueid: \xff\xfe{leg}\r\n\r\n",
    "other line ends": "Event: Foo\u2028Event: Hangup\x85Uniqueid: {leg}\x0bCause: 16\r\n\r\n".encode(),
    "a second banner": b"Asterisk Call Manager/11.0.0\r\n\r\n",
    "an empty name": b": Hangup\r\nUniqueid: {leg}\r\n\r\n",
    "an event second": b"Uniqueid: {leg}\r\nEvent: Hangup\r\n\r\n",
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_survived(scene: Scene, raw: bytes) -> None:
    """No crash, no loss of the link for more than a moment, no call touched."""
    scene.attack(raw)
    await scene.unharmed()
    assert await scene.lab.switch.set_limit(scene.lab.id_of(scene.talking), 60) is Outcome.DONE


async def test_garbage_is_counted(scene: Scene) -> None:
    """What is no AMI shows in the counters, frame by frame."""
    before = scene.counters.garbage
    scene.attack(b"what is this\r\n\r\nand this\r\n\r\n")
    await scene.unharmed()
    assert scene.counters.garbage == before + 2


async def test_a_lie_in_pieces_is_a_lie(scene: Scene) -> None:
    """Half a line now and half later is the same event."""
    raw = FORGED["hangup of the leg"]
    for at in range(0, len(raw), 7):
        scene.attack(raw[at : at + 7].replace(b"{leg}", b""))
        await asyncio.sleep(0.001)
    await scene.unharmed()


async def test_a_half_event_before_the_link_breaks_is_forgotten(scene: Scene) -> None:
    """What comes after a reconnect does not complete what came before it."""
    scene.attack(b"Event: Hangup\r\nUniqueid: {leg}\r\nCau")
    await asyncio.sleep(0.02)
    scene.lab.sim.cut_link(0.1)
    await scene.lab.told.wait(LinkUp, count=2)
    await scene.unharmed(link_downs=1)


@pytest.mark.parametrize("account_code", ["kontö-7", "счёт", "口座", "a" * 100])
async def test_text_cut_inside_a_character_keeps_its_identity(
    monkeypatch: pytest.MonkeyPatch, account_code: str
) -> None:
    """Byte by byte or at once: the account is the same."""
    whole = Framer.data_received

    def byte_by_byte(self: Framer, data: bytes) -> None:
        for at in range(len(data)):
            whole(self, data[at : at + 1])

    monkeypatch.setattr(Framer, "data_received", byte_by_byte)
    async with asterisk_lab() as lab:
        _, call_id = await lab.offered(CallPlan(account_code, "100", "49111"))
        assert lab.told.of(CallOffered, call_id)[0].account_code == account_code


@pytest.mark.parametrize("account_code", ["kont\udcf6-7", "a\udcff", "\udcc3"])
async def test_an_account_code_that_is_no_text_pays_for_nothing(scene: Scene, account_code: str) -> None:
    """Bytes that are no UTF-8 name no account: refused, not offered, not guessed."""
    call = scene.lab.sim.place(CallPlan(account_code, "100", "49111"))
    facts = await asyncio.wait_for(call.over(), 2)
    assert facts.refused_cause == 21
    assert facts.admitted_at is None
    await scene.unharmed()


@pytest.mark.parametrize(
    "caller",
    [
        '"; Hangup',
        "100\r\nEvent: Hangup\r\nUniqueid: 1.1",
        "${SHELL(id)}",
        "<script>",
        "1\u2028\u20292",
        "|offered|",
        "1" * 500,
    ],
)
async def test_a_callers_text_is_only_text(scene: Scene, caller: str) -> None:
    """What a caller calls himself changes nothing but, cleaned, his own offer."""
    call = scene.lab.sim.place(CallPlan("acme", caller, "49111"))
    call_id = scene.lab.id_of(call)
    offer = await scene.lab.told.wait(CallOffered, call_id)
    assert (offer.account_code, offer.callee) == ("acme", "49111")
    assert all(sign.isalnum() or sign in "+_" for sign in offer.caller)
    assert await scene.lab.switch.hangup(call_id) is Outcome.DONE
    await scene.lab.ended(call_id)
    live = {each.call_id for each in await scene.lab.switch.live_calls()}
    assert live == {scene.lab.id_of(each) for each in (scene.talking, scene.ringing, scene.waiting)}


FRAGMENTS = [
    b"Event: Hangup\r\n", b"Event: DialEnd\r\n", b"Event: AsyncAGIStart\r\n", b"Event: Status\r\n", b"Event: \r\n",
    b"Uniqueid: {talking}\r\n", b"Uniqueid: {leg}\r\n", b"Uniqueid: {waiting}\r\n", b"DestUniqueid: {leg}\r\n",
    b"DialStatus: ANSWER\r\n", b"DialStatus: BUSY\r\n", b"Cause: 16\r\n", b"Timestamp: nan\r\n",
    b"Timestamp: 1e400\r\n", b"Response: Success\r\n", b"Response: Error\r\n", b"ActionID: \r\n",
    b"Message: No such channel\r\n", b"\r\n", b"\r", b"\n", b"\r\n\r\n", b": \r\n", b"\xc3", b"\xb6", b"\x00",
]  # fmt: skip
hostile_bytes = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=40)), min_size=1, max_size=25).map(
    lambda pieces: b"".join(pieces) + b"\r\n\r\n"
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attacks=st.lists(hostile_bytes, min_size=10, max_size=10))
def test_no_bytes_whatever_touch_a_call(attacks: list[bytes]) -> None:
    """For any bytes between whole events: the calls live, are told once, and the link still works."""

    async def run() -> None:
        async with asterisk_lab() as lab:
            scene = await scene_in(lab)
            for attack in attacks:
                scene.attack(attack)
            await scene.unharmed()

    asyncio.run(run())
