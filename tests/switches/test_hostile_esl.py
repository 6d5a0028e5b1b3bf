"""Whatever bytes a FreeSWITCH sends, or a caller makes it send: never a crash, never a word of another call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callctl.simulator.calls import SimulatedCall
from callctl.simulator.freeswitch import SimulatedFreeswitch
from callctl.simulator.plans import CallPlan
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    LinkDown,
    LinkUp,
    Outcome,
    SwitchUnavailable,
)
from callctl.switches.freeswitch import FreeSwitch
from callctl.switches.link import LinkCounters
from tests.switches.labs import Lab, freeswitch_lab

STAMP = "1795418284400000"


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
        assert isinstance(self.lab.switch, FreeSwitch)
        return self.lab.switch.counters

    @property
    def leg(self) -> str:
        """The carrier leg of the call that talks."""
        leg = self.talking.attempts[0].leg
        assert leg is not None
        return leg.unique_id

    @property
    def sim(self) -> SimulatedFreeswitch:
        """The switch."""
        assert isinstance(self.lab.sim, SimulatedFreeswitch)
        return self.lab.sim

    def filled(self, raw: bytes) -> bytes:
        """Put the victims' uuids in the place of `{talking}`, `{leg}`, `{ringing}`, `{waiting}`."""
        names = {"talking": self.talking.call_id, "ringing": self.ringing.call_id, "waiting": self.waiting.call_id}
        for name, value in {**names, "leg": self.leg}.items():
            raw = raw.replace(f"{{{name}}}".encode(), value.encode())
        return raw

    def attack(self, raw: bytes) -> None:
        """Send bytes among the true ones."""
        self.sim.send_raw(self.filled(raw))

    def tell(self, *bodies: str) -> None:
        """Send whole frames with events in them."""
        self.sim.send_raw(b"".join(frame(self.filled(body.encode())) for body in bodies))

    async def live(self) -> dict[str, bool]:
        """Return which calls live and whether they wait, as soon as the link is whole."""
        for _ in range(40):
            try:
                return {call.call_id: call.waiting for call in await self.lab.switch.live_calls()}
            except SwitchUnavailable:
                await asyncio.sleep(0.1)
        raise AssertionError("the link did not come back")

    async def unharmed(self) -> None:
        """Let everything settle, then check that nothing was touched, neither in truth nor in what was told."""
        await asyncio.sleep(0.05)
        talking, ringing, waiting = (self.lab.id_of(call) for call in (self.talking, self.ringing, self.waiting))
        # Lists have a connection of their own: that the link is whole again, a command shows.
        for _ in range(60):
            if await self.lab.switch.set_limit(talking, 60) is not Outcome.UNKNOWN:
                break
            await asyncio.sleep(0.1)
        assert await self.live() == {talking: False, ringing: False, waiting: True}
        told = self.lab.told
        assert told.of(CallEnded) == []
        assert set(told.of(CallAnswered)) == {CallAnswered(talking, told.of(CallAnswered)[0].at)}
        assert {(offer.call_id, offer.account_code, offer.callee) for offer in told.of(CallOffered)} == {
            (self.lab.id_of(call), call.plan.account_code, call.plan.callee)
            for call in (self.talking, self.ringing, self.waiting)
        }
        assert not any(call.ended for call in (self.talking, self.ringing, self.waiting))
        assert await self.lab.switch.set_limit(talking, 60) is Outcome.DONE


async def scene_in(lab: Lab) -> Scene:
    talking, _ = await lab.answered(CallPlan("acme", "100", "49111", ring_s=0.01), grant_s=60)
    ringing, ringing_id = await lab.offered(CallPlan("bolt", "200", "49222", ring_s=60))
    await lab.switch.admit(ringing_id, grant_s=60, ring_s=60)
    waiting, _ = await lab.offered(CallPlan("core", "300", "49333"))
    return Scene(lab, talking, ringing, waiting)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with freeswitch_lab() as lab:
        yield await scene_in(lab)


def frame(body: str | bytes, *, length: str = "", kind: str = "text/event-json") -> bytes:
    data = body.encode("utf-8", "surrogateescape") if isinstance(body, str) else body
    return f"Content-Length: {length or len(data)}\nContent-Type: {kind}\n\n".encode() + data


def event(name: str, **headers: str) -> str:
    fields = {key.replace("__", "-"): value for key, value in headers.items()}
    return json.dumps({"Event-Name": name, "Event-Date-Timestamp": STAMP, **fields})


# --- frames that lie

LIES = {
    "too short a length": frame(event("CHANNEL_PARK", x="y"), length="5"),
    "too long a length": frame(event("CHANNEL_PARK"), length="5000"),
    "a huge length": frame("x", length="99999999999999"),
    "a negative length": frame("x", length="-1"),
    "a length that is no number": frame("x", length="12x"),
    "a length in Arabic digits": frame("x", length="٣"),
    "two lengths": b"Content-Length: 2\nContent-Length: 4\nContent-Type: text/event-json\n\n{}{}",
    "no length": b"Content-Type: text/event-json\n\n",
    "no type": b"Content-Length: 2\n\n{}",
    "a type nobody knows": frame("{}", kind="text/event-toml"),
    "plain text that nobody asked for": frame("Event-Name: CHANNEL_PARK\n\n", kind="text/event-plain"),
    "no JSON": frame("{"),
    "JSON that is no object": frame("[1,2]"),
    "an empty body": frame(""),
    "deep JSON": frame('{"a":' * 10_000 + "1" + "}" * 10_000),
    "deep JSON without an end": frame("[" * 100_000),
    "JSON cut in the middle": frame(event("CHANNEL_HANGUP_COMPLETE", Unique__ID="{leg}")[:-9]),
    "two objects in one body": frame(event("CHANNEL_PARK") + event("CHANNEL_PARK")),
    "a name that is no number": frame('{"Event-Name": NaN}'),
    "nothing but NaN": frame("NaN"),
    "a body longer than any event": frame("x", length=str(4 * 1024 * 1024 + 1)),
    "a reply longer than any list": frame("x", length=str(128 * 1024 * 1024 + 1), kind="api/response"),
    "more headers than any frame has": b"".join(b"x-%d: y\n" % number for number in range(20_000)) + b"\n",
    "binary": bytes(range(256)) * 8,
    "no header": b"what is this\n\n",
    "a megabyte in one line": b"x" * 1_000_000 + b"\n\n",
    "headers without an end": b"a: b\n" * 40_000,
    "an answer to no command": b"Content-Type: command/reply\nReply-Text: +OK\n\n",
    "an api answer to no command": frame("-ERR No such channel!\n", kind="api/response"),
    "a second greeting": b"Content-Type: auth/request\n\n",
    "a goodbye": frame("Disconnected, goodbye.\n", kind="text/disconnect-notice"),
    "a rejection": frame("Access Denied, go away.\n", kind="text/rude-rejection"),
}


@pytest.mark.parametrize("raw", LIES.values(), ids=LIES.keys())
async def test_a_stream_that_lies_is_given_up_and_made_anew(scene: Scene, raw: bytes) -> None:
    """No crash, no call touched; the link may break, and is whole again at once."""
    scene.attack(raw)
    await scene.unharmed()


async def test_an_event_cut_in_the_middle_by_a_restart_is_forgotten(scene: Scene) -> None:
    """What comes after a reconnect does not complete what came before it; the calls are gone, and nobody else's."""
    end = event("CHANNEL_HANGUP_COMPLETE", Unique__ID="{leg}", variable_callctl_leg="{talking}")
    whole = frame(scene.filled(end.encode()))
    scene.attack(whole[:-20])
    await asyncio.sleep(0.02)
    scene.sim.restart(0.1)
    await scene.lab.told.wait(LinkDown)
    await scene.lab.told.wait(LinkUp, count=2)
    scene.attack(whole[-20:])
    await asyncio.sleep(0.1)
    assert await scene.live() == {}
    assert scene.lab.told.of(CallEnded) == []
    call, call_id = await scene.lab.answered(CallPlan("acme", "100", "49111", ring_s=0.01))
    assert await scene.lab.switch.hangup(call_id) is Outcome.DONE
    await call.over()


async def test_an_event_in_pieces_is_one_event(scene: Scene) -> None:
    """However the bytes come, what the switch says is heard once."""
    raw = frame(scene.filled(event("CHANNEL_PARK", Unique__ID="{waiting}", variable_sip_user_agent="ä").encode()))
    before = scene.counters.events
    for at in range(0, len(raw), 5):
        scene.sim.send_raw(raw[at : at + 5])
        await asyncio.sleep(0.0005)
    await asyncio.sleep(0.05)
    assert scene.counters.events == before + 1
    await scene.unharmed()


# --- events that the shipped dialplan cannot have caused

OFFER = {"variable_callctl_tell": "yes", "variable_callctl_offer": "outbound|victim|1|1900"}
LEG = {"variable_callctl_of": "outbound|victim|1|1900", "variable_callctl_grant": "60.000"}


def _end(leg: str, *, answered: str = f'"{STAMP}"', ended: str = f'"{STAMP}"') -> str:
    """Return the end of the call that talks, as JSON text, with these values as they are written."""
    return (
        f'{{"Event-Name": "CHANNEL_HANGUP_COMPLETE", "Unique-ID": {leg}, "variable_callctl_leg": "{{talking}}", '
        f'"variable_callctl_of": "outbound|acme|100|49111", "variable_callctl_grant": "60.000", '
        f'"Caller-Channel-Answered-Time": {answered}, "Caller-Channel-Hangup-Time": {ended}}}'
    )


FORGED = {
    "an offer of another channel": event("CHANNEL_PARK", Unique__ID="x", variable_callctl_key="{waiting}", **OFFER),
    "an offer of no channel": event("CHANNEL_PARK", variable_callctl_key="{waiting}", **OFFER),
    "an offer without a key": event("CHANNEL_PARK", Unique__ID="{waiting}", **OFFER),
    "a key that is none": event("CHANNEL_PARK", Unique__ID="{waiting}", variable_callctl_key="{waiting}~0", **OFFER),
    "the end of a ringing leg": event(
        "CHANNEL_HANGUP_COMPLETE", Unique__ID="x", variable_callctl_leg="{ringing}", **LEG
    ),
    "an answer at no time": event(
        "CHANNEL_ANSWER",
        Unique__ID="x",
        variable_callctl_leg="{ringing}",
        **{**LEG, "Caller-Channel-Answered-Time": "soon"},
    ),
    "an answer that nobody asked for": event("CHANNEL_ANSWER", Unique__ID="{ringing}"),
    "an end that nobody asked for": event("CHANNEL_HANGUP_COMPLETE", Unique__ID="{leg}"),
    "another event": event("CHANNEL_DESTROY", Unique__ID="{leg}"),
    "no name": event("", Unique__ID="{leg}"),
    "an end at a time that is no number": _end('"{leg}"', ended="NaN"),
    "an end at a time that is no text": _end('"{leg}"', ended=STAMP),
    "an end whose answer is no text": _end('"{leg}"', answered=STAMP),
    "an end of a leg in a list": _end('["{leg}"]').replace(
        '"variable_callctl_leg": "', '"variable_callctl_leg": ["x", "'
    ),
    "an end that names two calls": _end('"{leg}"').replace(
        '"variable_callctl_leg"', '"variable_callctl_leg": "{waiting}", "variable_callctl_leg": "x y", "callctl_leg"'
    ),
    "an end of a far half": _end('"{leg}"').replace("}", ', "variable_loopback_leg": "B"}'),
    "names that are no text": '{"Event-Name": ["CHANNEL_PARK"], "Unique-ID": "{waiting}"}',
    "a uuid that is no text": '{"Event-Name": "CHANNEL_PARK", "Unique-ID": 1, "variable_callctl_key": ["{waiting}"]}',
    "a uuid that comes twice": '{"Event-Name": "CHANNEL_HANGUP_COMPLETE", "Unique-ID": "x", "Unique-ID": "{leg}"}',
}


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED.keys())
async def test_an_event_that_cannot_be_is_not_believed(scene: Scene, body: str) -> None:
    """Neither told nor acted upon."""
    scene.tell(body)
    await asyncio.sleep(0.05)
    await scene.unharmed()


async def test_what_cannot_be_is_counted(scene: Scene) -> None:
    """Hostile events and unknown ones show in the counters."""
    hostile, unknown = scene.counters.hostile, scene.counters.unknown
    scene.tell(FORGED["an offer of another channel"], FORGED["another event"])
    await asyncio.sleep(0.1)
    assert (scene.counters.hostile, scene.counters.unknown) == (hostile + 1, unknown + 1)
    await scene.unharmed()


async def test_a_uuid_that_appears_twice_is_one_channel(scene: Scene) -> None:
    """Events told twice, in whatever order, and a list that names a channel twice, make no second call."""
    parked = scene.sim.channels[scene.waiting.call_id]
    again = scene.sim.event("CHANNEL_PARK", parked.headers()).written("json")
    answered = scene.sim.event("CHANNEL_ANSWER", scene.sim.channels[scene.leg].headers()).written("json")
    for body in (again, answered, again, answered):
        scene.sim.send_raw(frame(body))
    await asyncio.sleep(0.1)
    await scene.unharmed()


async def test_a_note_that_appears_twice_is_nobodys(scene: Scene) -> None:
    """A line break in a note would make a second line: both are counted as hostile, no call is made of them."""
    forged = f"D/callctl_offer_{scene.waiting.call_id}/offered|outbound|victim|1|1900"
    scene.sim.db["callctl_zzz"] = f"x\n{forged}"
    before = scene.counters.hostile
    waiting = scene.lab.id_of(scene.waiting)
    live = {call.call_id: call.account_code for call in await scene.lab.switch.live_calls()}
    assert "victim" not in live.values()
    assert waiting not in live
    assert scene.counters.hostile == before + 1
    del scene.sim.db["callctl_zzz"]
    await scene.unharmed()


ANSWERS = {
    "show": ["", "{}", '{"row_count": 2, "rows": []}', '{"row_count": "1", "rows": 5}', "[]", "-ERR", "x" * 1000],
    "hash_dump": ["", "-ERR no reply\n", "D/callctl_leg_x/y\n", "+OK\n"],
    "uuid_exists": ["maybe", "-ERR", "", "true false"],
}


@pytest.mark.parametrize(("command", "text"), [(command, text) for command, texts in ANSWERS.items() for text in texts])
async def test_an_answer_that_is_none_is_not_no_calls(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, command: str, text: str
) -> None:
    """A list that is not whole raises; asked again the truth is told."""
    truth = scene.sim.api
    lies = {command: text}
    if command == "uuid_exists":  # asked for what the list lacks
        lies["show"] = '{"row_count": 0}\n'
    monkeypatch.setattr(scene.sim, "api", lambda name, rest: lies[name] if name in lies else truth(name, rest))
    with pytest.raises(SwitchUnavailable):
        await scene.lab.switch.live_calls()
    monkeypatch.undo()
    await scene.unharmed()


# --- what a caller can write

BREAKS = {
    "LF": "\n", "CRLF": "\r\n", "CR": "\r", "U+2028": "\u2028", "U+2029": "\u2029", "U+0085": "\x85", "VT": "\x0b",
    "FF": "\x0c", "FS": "\x1c", "GS": "\x1d", "RS": "\x1e", "NUL": "\x00", "DEL": "\x7f", "%0A": "%0A",
    "%0D%0A": "%0D%0A", "%E2%80%A8": "%E2%80%A8", "quote": '","', "no UTF-8": "\udcff\udc85", "|": "|",
}  # fmt: skip
PLACES = ("sip_user_agent", "sip_h_X-Account", "caller_id_name", "sip_from_user", "sip_req_user", "switch_r_sdp")


@pytest.mark.parametrize("between", BREAKS.values(), ids=BREAKS.keys())
async def test_a_callers_text_is_only_text(scene: Scene, between: str) -> None:
    """User-Agent, X-headers, display name, From user, SDP: no line of them is a header, no event is another call's."""
    lines = [
        "x",
        f"Unique-ID: {scene.leg}",
        f"variable_callctl_key: {scene.talking.call_id}",
        "variable_callctl_offer: outbound|victim|1|1900",
        f"variable_callctl_leg: {scene.ringing.call_id}",
        "variable_callctl_tell: yes",
        "Event-Name: CHANNEL_HANGUP_COMPLETE",
        f"Caller-Channel-Hangup-Time: {STAMP}",
        "",
        "",
    ]
    text = between.join(lines)
    said = tuple((place, text) for place in PLACES)
    call = scene.lab.sim.place(CallPlan("acme", f"100{text}", "49444", said=said, ring_s=0.01, talk_s=0.1))
    call_id = scene.lab.id_of(call)
    offer = await scene.lab.told.wait(CallOffered, call_id)
    assert (offer.account_code, offer.callee) == ("acme", "49444")
    assert offer.caller == ""
    assert await scene.lab.switch.admit(call_id, grant_s=60, ring_s=30) is Outcome.DONE
    await call.over()
    end = await scene.lab.ended(call_id)
    assert end.answered_at == call.facts.answered_at
    assert scene.counters.hostile == scene.counters.garbage == 0
    told = scene.lab.told
    told.events = [each for each in told.events if getattr(each, "call_id", "") != call_id]
    await scene.unharmed()
    assert len(told.of(LinkUp)) == 1


@pytest.mark.parametrize("between", BREAKS.values(), ids=BREAKS.keys())
async def test_a_number_that_is_none_never_gets_in(scene: Scene, between: str) -> None:
    """Whatever else the request user holds is a 404 at the door; a line feed at its very end is cut off."""
    call = scene.lab.sim.place(CallPlan("acme", "100", f"49444{between}Event-Name: x"))
    facts = await asyncio.wait_for(call.over(), 2)
    assert (facts.refused_sip, facts.admitted_at) == (404, None)
    await scene.unharmed()


@pytest.mark.parametrize("account_code", ["kontö-7", "a|b", "a\nb", "a b", "a" * 101, "kont\udcf6", "${x}", "\u2028"])
async def test_an_account_code_that_is_no_name_pays_for_nothing(scene: Scene, account_code: str) -> None:
    """It is offered without an account, which nobody has; it is never guessed."""
    call = scene.lab.sim.place(CallPlan(account_code, "100", "49111"))
    call_id = scene.lab.id_of(call)
    offer = await scene.lab.told.wait(CallOffered, call_id)
    assert offer.account_code == ""
    assert await scene.lab.switch.hangup(call_id) is Outcome.DONE
    await scene.lab.ended(call_id)


async def test_many_lies_do_not_stop_the_truth(scene: Scene) -> None:
    """A flood of forged events is counted, and the next true one is heard."""
    scene.tell(*[FORGED["an offer of another channel"]] * 2000)
    await scene.unharmed()
    assert scene.counters.hostile == 2000
    scene.waiting.hang_up()
    await scene.lab.ended(scene.lab.id_of(scene.waiting))


# --- any bytes

FRAGMENTS = [
    b"Content-Type: text/event-json\n", b"Content-Type: api/response\n", b"Content-Type: command/reply\n",
    b"Content-Length: 2\n", b"Content-Length: -1\n", b"Content-Length: 40\n", b"Reply-Text: +OK\n", b"\n", b"\n\n",
    b"\r\n", b"{}", b"{", b'"Event-Name":"CHANNEL_HANGUP_COMPLETE"', b'"Unique-ID":"{leg}"', b"true", b"false",
    b'"variable_callctl_leg":"{talking}"', b",", b"}", b"-ERR No such channel!\n", b"\xe2\x80\xa8", b"\xc2\x85",
]  # fmt: skip
hostile_bytes = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=40)), min_size=1, max_size=25).map(
    b"".join
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(attacks=st.lists(hostile_bytes, min_size=3, max_size=3))
def test_no_bytes_whatever_touch_a_call(attacks: list[bytes]) -> None:
    """For any bytes between whole frames: the calls live, are told once, and the link still works."""

    async def run() -> None:
        async with freeswitch_lab() as lab:
            scene = await scene_in(lab)
            for attack in attacks:
                scene.attack(attack)
                await asyncio.sleep(0.01)
            await scene.unharmed()

    asyncio.run(run())
