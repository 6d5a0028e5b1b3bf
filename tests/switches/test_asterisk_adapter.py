"""The Asterisk adapter against a scripted manager: what it asks, what it believes, what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from billing.ports import SystemClock, SystemIds
from billing.settings import AsteriskSettings
from callctl.switches import asterisk_wire as wire
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.asterisk_doctor import examine
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    Direction,
    LinkUp,
    Outcome,
    Refusal,
    SwitchEvent,
    SwitchUnavailable,
)
from tests.switches.scripted_ami import Fields, ScriptedAmi, error, listed, scripted_ami, success, until

A, B = "1795418800.206", "1795418800.207"
OFFERED = "1|offered|outbound|100|4911"
ADMITTED = "1|admitted|outbound|100|4911"
LEG = f"{A}|outbound|100|4911"
ANSWERED, ENDED = "20261123T072640.591669", "20261123T072642.094966"
ANSWERED_AT = datetime(2026, 11, 23, 7, 26, 40, 591669, tzinfo=UTC)
ENDED_AT = datetime(2026, 11, 23, 7, 26, 42, 94966, tzinfo=UTC)
NO_MONEY = Refusal("no_money", 402, 21)


@dataclass
class Channel:
    uniqueid: str
    offer: str = "(null)"
    leg: str = "(null)"
    answered: str = "(null)"
    peer: str = "(null)"
    account: str = "acme"
    limit: str = "0"
    caller: str = "100"

    def item(self) -> str:
        values = (self.offer, self.leg, self.answered, self.peer, self.account, self.limit, self.uniqueid)
        tail = [f"Variable: {name}={value}" for name, value in zip(wire.ASKED, values, strict=True)]
        return "\r\n".join(["Event: Status", f"CallerIDNum: {self.caller}", *tail]) + "\r\n"


@dataclass
class Scene:
    ami: ScriptedAmi
    switch: AsteriskSwitch
    channels: dict[str, Channel] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    told: list[SwitchEvent] = field(default_factory=list)

    def status(self, action: Fields) -> str:
        wanted = action.get("Channel")
        if wanted is not None and wanted not in self.channels:
            return error(action, "No such channel")
        shown = [self.channels[wanted]] if wanted else self.channels.values()
        return listed(action, *(channel.item() for channel in shown))

    def note(self, action: Fields) -> str:
        note = self.notes.get(action["Key"])
        if note is None:
            return error(action, "Database entry not found")
        return listed(action, f"Event: DBGetResponse\r\nVal: {note}\r\n", complete="DBGetComplete")

    def has(self, channel: Channel) -> None:
        self.channels[channel.uniqueid] = channel

    def offer(self) -> None:
        self.ami.event("AsyncAGIStart", Uniqueid=A)

    def hangup(self, uniqueid: str, *, cause: str = "16") -> None:
        self.ami.event("Hangup", Uniqueid=uniqueid, Cause=cause, Timestamp="1795418803.250000")

    def of(self, kind: type[SwitchEvent]) -> list[SwitchEvent]:
        return [event for event in self.told if isinstance(event, kind)]

    async def admitted(self) -> None:
        self.has(Channel(A, OFFERED))
        self.offer()
        await until(lambda: self.of(CallOffered))
        self.has(Channel(A, ADMITTED))
        assert await self.switch.admit(f"ast1:{A}", grant_s=60.0, ring_s=30) is Outcome.DONE

    async def answered(self) -> None:
        await self.admitted()
        self.has(Channel(A, ADMITTED, peer="PJSIP/carrier-1"))
        self.has(Channel(B, leg=LEG, answered=ANSWERED, limit="59.9"))
        self.notes[A] = f"{B}|{ANSWERED}"
        self.ami.event("DialEnd", Uniqueid=A, DestUniqueid=B, DialStatus="ANSWER")
        await until(lambda: self.of(CallAnswered))


def settings(port: int, **changes: str) -> AsteriskSettings:
    return AsteriskSettings(name="ast1", port=port, secret=SecretStr(changes.get("secret", "s3cret")))


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with scripted_ami() as ami:
        switch = AsteriskSwitch(settings(ami.port), clock=SystemClock(), ids=SystemIds())
        scene = Scene(ami, switch)
        ami.answers |= {"Status": scene.status, "DBGet": scene.note}
        ami.answers |= dict.fromkeys(("Redirect", "Setvar", "Hangup", "PJSIPHangup", "PlayDTMF", "DBDel"), success)
        await switch.start(scene.told.append)
        await until(lambda: scene.told == [LinkUp("ast1")])
        yield scene
        await switch.stop()


# --- offers and admissions


async def test_an_offer_is_what_status_says_not_what_the_event_says(scene: Scene) -> None:
    """The event's own words about account and numbers are never used."""
    scene.has(Channel(A, OFFERED))
    scene.ami.event("AsyncAGIStart", Uniqueid=A, AccountCode="victim", CallerIDNum="999", Exten="666")
    await until(lambda: scene.of(CallOffered))
    (offer,) = scene.of(CallOffered)
    assert isinstance(offer, CallOffered)
    assert (offer.call_id, offer.account_code, offer.caller, offer.callee) == (f"ast1:{A}", "acme", "100", "4911")
    assert offer.direction is Direction.OUTBOUND


@pytest.mark.parametrize(
    "channel",
    [Channel(A, ADMITTED), Channel(A), Channel(A, "1|over|outbound|100|4911"), Channel(B, OFFERED)],
    ids=["admitted", "not-ours", "over", "gone"],
)
async def test_a_channel_that_does_not_wait_is_not_offered(scene: Scene, channel: Channel) -> None:
    """A forged AsyncAGIStart for a channel that does not wait tells nothing and sends nothing."""
    scene.has(channel)
    scene.offer()
    await until(lambda: len(scene.ami.actions("Status")) == 2)
    await asyncio.sleep(0.05)
    assert scene.told == [LinkUp("ast1")]
    assert not scene.ami.actions("Redirect")
    assert not scene.ami.actions("Hangup")


@pytest.mark.parametrize(
    "channel",
    [Channel(A, OFFERED, account="kont\xf6"), Channel(A, "1|offered|outbound|1 00|49"), Channel(A, "1|offered|49")],
    ids=["account-no-utf8", "uncleaned", "fields-missing"],
)
async def test_an_offer_that_the_dialplan_cannot_have_written_is_refused(scene: Scene, channel: Channel) -> None:
    """Hostile text costs the channel that carries it its call, and nobody else anything."""
    scene.has(channel)
    scene.offer()
    await until(lambda: scene.ami.actions("Hangup"))
    assert scene.ami.actions("Hangup")[0]["Channel"] == A
    assert scene.switch.counters.hostile == 1
    assert not scene.of(CallOffered)


async def test_an_admission_is_one_redirect(scene: Scene) -> None:
    """Number of the offer, time to ring, time to talk; a little early, so that no call outlasts what is paid."""
    await scene.admitted()
    (redirect,) = scene.ami.actions("Redirect")
    assert (redirect["Channel"], redirect["Context"], redirect["Exten"]) == (A, "callctl-dial", "1*30*59.950")


async def test_an_unlimited_admission_says_none(scene: Scene) -> None:
    """None is written as `none`, never as 0."""
    scene.has(Channel(A, OFFERED))
    scene.offer()
    await until(lambda: scene.of(CallOffered))
    await scene.switch.admit(f"ast1:{A}", grant_s=None, ring_s=30)
    assert scene.ami.actions("Redirect")[0]["Exten"] == "1*30*none"


@pytest.mark.parametrize("grant_s", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_grant_that_is_no_time_is_never_sent(scene: Scene, grant_s: float) -> None:
    """0 would be no limit at all to Asterisk."""
    scene.has(Channel(A, OFFERED))
    scene.offer()
    await until(lambda: scene.of(CallOffered))
    with pytest.raises(ValueError, match="cannot admit"):
        await scene.switch.admit(f"ast1:{A}", grant_s=grant_s, ring_s=30)
    assert not scene.ami.actions("Redirect")


@pytest.mark.parametrize(
    ("now", "outcome", "redirects"),
    [(Channel(A, ADMITTED), Outcome.DONE, 1), (Channel(A, OFFERED), Outcome.DONE, 2), (None, Outcome.GONE, 1)],
)
async def test_an_unanswered_admission_is_looked_up_before_it_is_repeated(
    scene: Scene, now: Channel | None, outcome: Outcome, redirects: int
) -> None:
    """A second Redirect would break a call that rings already: it is sent only where the first did not arrive."""
    scene.switch.link._timeout_s = 0.1
    scene.has(Channel(A, OFFERED))
    scene.offer()
    await until(lambda: scene.of(CallOffered))
    scene.ami.answers["Redirect"] = lambda _: None
    assert await scene.switch.admit(f"ast1:{A}", grant_s=60.0, ring_s=30) is Outcome.UNKNOWN
    scene.ami.answers["Redirect"] = success
    scene.channels.clear()
    if now is not None:
        scene.has(now)
    assert await scene.switch.admit(f"ast1:{A}", grant_s=60.0, ring_s=30) is outcome
    assert len(scene.ami.actions("Redirect")) == redirects


# --- refusals


@pytest.mark.parametrize(
    ("status", "action", "cause"),
    [(402, "PJSIPHangup", "402"), (403, "Hangup", "21"), (503, "Hangup", "34"), (404, "Hangup", "1")],
)
async def test_a_refusal_sends_the_status_wanted(scene: Scene, status: int, action: str, cause: str) -> None:
    """By the cause where one gives that status, else by PJSIPHangup."""
    scene.has(Channel(A, OFFERED))
    scene.offer()
    await until(lambda: scene.of(CallOffered))
    assert await scene.switch.refuse(f"ast1:{A}", Refusal("x", status, 21)) is Outcome.DONE
    assert [one["Cause"] for one in scene.ami.actions(action)] == [cause]
    assert not scene.ami.actions("Redirect")


async def test_a_refusal_falls_back_to_its_cause(scene: Scene) -> None:
    """A channel that is no PJSIP channel is refused by cause."""
    scene.has(Channel(A, OFFERED))
    scene.offer()
    await until(lambda: scene.of(CallOffered))
    scene.ami.answers["PJSIPHangup"] = lambda action: error(action, "Invalid/unknown command")
    assert await scene.switch.refuse(f"ast1:{A}", NO_MONEY) is Outcome.DONE
    assert scene.ami.actions("Hangup")[0]["Cause"] == "21"
    scene.channels.clear()
    scene.hangup(A, cause="127")
    await until(lambda: scene.of(CallEnded))
    (ended,) = scene.of(CallEnded)
    assert isinstance(ended, CallEnded)
    assert (ended.cause, ended.hung_up_by, ended.dial_status) == (21, "switch", "")


# --- answers and ends


async def test_an_answer_counts_from_the_switchs_own_note(scene: Scene) -> None:
    """The time of the answer is the leg's variable, not the event's or the reader's."""
    await scene.answered()
    assert scene.of(CallAnswered) == [CallAnswered(f"ast1:{A}", ANSWERED_AT)]


async def test_an_answer_told_before_the_dialplan_noted_it_is_asked_again(scene: Scene) -> None:
    """DialEnd may come some milliseconds early."""
    await scene.admitted()
    scene.has(Channel(B, leg=LEG))
    scene.ami.event("DialEnd", Uniqueid=A, DestUniqueid=B, DialStatus="ANSWER")
    await asyncio.sleep(0.015)
    assert not scene.of(CallAnswered)
    scene.has(Channel(B, leg=LEG, answered=ANSWERED))
    await until(lambda: scene.of(CallAnswered))


@pytest.mark.parametrize("leg", ["(null)", "9.9|outbound|100|4911", "rubbish"])
async def test_an_answer_by_a_leg_of_no_such_call_is_not_believed(scene: Scene, leg: str) -> None:
    """The channel that answered must itself name the call."""
    await scene.admitted()
    scene.has(Channel(B, leg=leg, answered=ANSWERED))
    scene.ami.event("DialEnd", Uniqueid=A, DestUniqueid=B, DialStatus="ANSWER")
    await asyncio.sleep(0.1)
    assert not scene.of(CallAnswered)


async def test_the_end_is_what_the_switch_noted(scene: Scene) -> None:
    """Answer, end, cause and who hung up come from the note of the leg."""
    await scene.answered()
    scene.channels.clear()
    scene.notes[A] = f"{B}|{ANSWERED}|{ENDED}|16|self"
    scene.hangup(B)
    await until(lambda: scene.of(CallEnded))
    assert scene.of(CallEnded) == [CallEnded(f"ast1:{A}", ENDED_AT, 16, "", "callee", ANSWERED_AT)]


async def test_a_call_goes_on_when_its_caller_is_gone(scene: Scene) -> None:
    """After a blind transfer by the caller the carrier leg stays the call."""
    await scene.answered()
    del scene.channels[A]
    scene.hangup(A)
    await asyncio.sleep(0.1)
    assert not scene.of(CallEnded)
    assert await scene.switch.set_limit(f"ast1:{A}", 30.0) is Outcome.DONE
    (limit,) = scene.ami.actions("Setvar")
    assert (limit["Channel"], limit["Variable"], limit["Value"]) == (B, "TIMEOUT(absolute)", "29.950")


async def test_a_missed_answer_is_found_in_the_note(scene: Scene) -> None:
    """Caller gone, answer never heard, leg alive: the call is told as answered and not as ended."""
    await scene.admitted()
    del scene.channels[A]
    scene.has(Channel(B, leg=LEG, answered=ANSWERED))
    scene.notes[A] = f"{B}|{ANSWERED}"
    scene.hangup(A)
    await until(lambda: scene.of(CallAnswered))
    await asyncio.sleep(0.05)
    assert not scene.of(CallEnded)


async def test_a_forged_end_is_not_believed(scene: Scene) -> None:
    """A Hangup of a channel that Status still shows ends nothing, and is counted."""
    await scene.answered()
    scene.hangup(B)
    await until(lambda: scene.switch.counters.hostile == 1, within_s=4.0)
    assert not scene.of(CallEnded)


@pytest.mark.parametrize(
    ("status", "cause", "word", "told_cause"),
    [
        ("BUSY", "17", "busy", 17),
        ("NOANSWER", "19", "no_answer", 19),
        ("NOANSWER", "1", "failed", 1),
        ("CANCEL", "127", "cancelled", 16),
        ("CONGESTION", "34", "failed", 34),
        ("CHANUNAVAIL", "20", "failed", 20),
    ],
)
async def test_a_call_nobody_answered_says_why(
    scene: Scene, status: str, cause: str, word: str, told_cause: int
) -> None:
    """The word of DialEnd, corrected by the cause; the time is the event's own."""
    await scene.admitted()
    scene.ami.event("DialEnd", Uniqueid=A, DestUniqueid=B, DialStatus=status)
    scene.channels.clear()
    scene.hangup(A, cause=cause)
    await until(lambda: scene.of(CallEnded))
    (ended,) = scene.of(CallEnded)
    assert isinstance(ended, CallEnded)
    assert (ended.dial_status, ended.cause, ended.answered_at) == (word, told_cause, None)
    assert ended.at == datetime(2026, 11, 23, 7, 26, 43, 250000, tzinfo=UTC)


# --- questions


async def test_a_call_is_listed_once_whatever_channels_it_has(scene: Scene) -> None:
    """The leg is the call; a caller's channel that talks is not one, one that rings is."""
    ringing, waiting, foreign = "1.1", "1.2", "1.3"
    scene.has(Channel(A, ADMITTED, peer="PJSIP/carrier-1"))
    scene.has(Channel(B, leg=LEG, answered=ANSWERED, limit="12.5"))
    scene.has(Channel(ringing, ADMITTED))
    scene.has(Channel(waiting, "2|offered|inbound|49|30", limit="9.9"))
    scene.has(Channel(foreign))
    calls = {call.call_id: call for call in await scene.switch.live_calls()}
    assert set(calls) == {f"ast1:{A}", f"ast1:{ringing}", f"ast1:{waiting}~2"}
    assert (calls[f"ast1:{A}"].answered_at, calls[f"ast1:{A}"].limit_s) == (ANSWERED_AT, 12.5)
    assert not calls[f"ast1:{ringing}"].waiting
    assert calls[f"ast1:{waiting}~2"].waiting


async def test_a_caller_cannot_hide_a_call_or_move_it_to_another_account(scene: Scene) -> None:
    """Text above an item's own variables changes nothing of what the list says."""
    forged = "\r\n".join(f"Variable: {name}=9.9" for name in wire.ASKED)
    scene.has(Channel(A, OFFERED, caller=f"x\r\n{forged}\r\n\r\nEvent: StatusComplete\r\nEventList: Complete"))
    (call,) = await scene.switch.live_calls()
    assert (call.call_id, call.account_code) == (f"ast1:{A}", "acme")


@pytest.mark.parametrize("answer", [None, "Permission denied"])
async def test_not_being_able_to_ask_is_not_no_calls(scene: Scene, answer: str | None) -> None:
    """Silence and errors raise; an empty list never stands for them."""
    scene.switch.link._timeout_s = 0.1
    scene.ami.answers["Status"] = lambda action: None if answer is None else error(action, answer)
    scene.ami.answers["DBGet"] = scene.ami.answers["Status"]
    with pytest.raises(SwitchUnavailable):
        await scene.switch.live_calls()
    with pytest.raises(SwitchUnavailable):
        await scene.switch.record_of(f"ast1:{A}")


async def test_an_end_in_one_breath_with_the_answer_is_not_lost(scene: Scene) -> None:
    """The leg's Hangup comes in the same read as the word that it is ours: both are told, at once."""
    await scene.admitted()
    scene.has(Channel(A, ADMITTED, peer="PJSIP/carrier-1"))
    scene.has(Channel(B, leg=LEG, answered=ANSWERED, limit="59.9"))
    scene.notes[A] = f"{B}|{ANSWERED}|{ENDED}|16|self"

    def status_then_end(action: Fields) -> str:
        said = scene.status(action)
        if action.get("Channel") == B and B in scene.channels:
            scene.channels.clear()
            for uniqueid in (B, A):
                said += f"Event: Hangup\r\nUniqueid: {uniqueid}\r\nCause: 16\r\nTimestamp: 1795418803.25\r\n\r\n"
        return said

    scene.ami.answers["Status"] = status_then_end
    scene.ami.event("DialEnd", Uniqueid=A, DestUniqueid=B, DialStatus="ANSWER")
    await until(lambda: scene.of(CallEnded))
    (end,) = scene.of(CallEnded)
    assert isinstance(end, CallEnded)
    assert (end.answered_at, end.at, end.hung_up_by) == (ANSWERED_AT, ENDED_AT, "callee")


async def test_a_record_is_read_and_forgotten_by_key(scene: Scene) -> None:
    """Exact times from AstDB; a note without its end still tells the answer."""
    scene.notes[f"{A}~2"] = f"{B}|{ANSWERED}|{ENDED}|31|switch"
    record = await scene.switch.record_of(f"ast1:{A}~2")
    assert record is not None
    assert (record.answered_at, record.ended_at, record.cause) == (ANSWERED_AT, ENDED_AT, 31)
    assert record.hung_up_by == "switch"
    await scene.switch.forget_record(f"ast1:{A}~2")
    assert [(one["Family"], one["Key"]) for one in scene.ami.actions("DBDel")] == [("callctl", f"{A}~2")]
    scene.notes[A] = f"{B}|{ANSWERED}"
    half = await scene.switch.record_of(f"ast1:{A}")
    assert half is not None
    assert (half.answered_at, half.ended_at) == (ANSWERED_AT, None)
    assert await scene.switch.record_of("ast1:7.7") is None


@pytest.mark.parametrize("call_id", ["ast2:1.1", "ast1:1.1\r\nAction: Hangup", "ast1:", "1.1"])
async def test_a_call_of_another_switch_is_an_error(scene: Scene, call_id: str) -> None:
    """A call id that is not this switch's never reaches it."""
    sent = len(scene.ami.got)
    with pytest.raises(ValueError, match="call"):
        await scene.switch.hangup(call_id)
    assert len(scene.ami.got) == sent


async def test_what_the_switch_no_longer_shows_is_not_remembered_for_ever(scene: Scene) -> None:
    """A call whose end was lost leaves memory after three comparisons."""
    await scene.answered()
    scene.channels.clear()
    for _ in range(3):
        await scene.switch.live_calls()
    assert await scene.switch.hangup(f"ast1:{A}") is Outcome.GONE
    assert A not in scene.switch._calls
    assert B not in scene.switch._calls


# --- the doctor


def healthy(
    ami: ScriptedAmi, *, apart: timedelta = timedelta(), write: str = "Redirect DBDel", read: str = "agi,call"
) -> None:
    def config(action: Fields) -> str:
        if action["Category"] == "general":
            return success(action, "Line-000000-000000: timestampevents=yes")
        filters = [f"eventfilter(action(include),name({name}))=" for name in ("AsyncAGIStart", "DialEnd", "Hangup")]
        lines = ["secret=s3cret", f"read={read}", *filters]
        return success(action, *(f"Line-000000-{number:06}: {line}" for number, line in enumerate(lines)))

    def getvar(action: Fields) -> str:
        asked = action["Variable"]
        now = SystemClock().now() + apart
        return success(action, f"Value: {'1' if 'DIALPLAN' in asked else now.strftime('%Y%m%dT%H%M%S.%f')}")

    ami.answers["ListCommands"] = lambda action: success(
        action, *(f"{name}: x" for name in f"{write} GetConfig CoreSettings Getvar".split())
    )
    ami.answers |= {"GetConfig": config, "Getvar": getvar}
    ami.answers["CoreSettings"] = lambda action: success(action, "AsteriskVersion: 22.10.1")


async def wrong(ami: ScriptedAmi) -> list[str]:
    findings = await examine(settings(ami.port), clock=SystemClock(), ids=SystemIds())
    assert all(finding.help for finding in findings if not finding.ok)
    return [finding.what for finding in findings if not finding.ok]


async def test_the_doctor_finds_nothing_wrong_with_what_is_right() -> None:
    """A healthy switch has no complaint."""
    async with scripted_ami() as ami:
        healthy(ami)
        assert await wrong(ami) == []


async def test_the_doctor_names_what_is_wrong() -> None:
    """Missing classes, a dialplan that is not loaded, and a clock apart are told one by one."""
    async with scripted_ami() as ami:
        healthy(ami, apart=timedelta(seconds=-3), write="Redirect", read="call")
        getvar = ami.answers["Getvar"]
        ami.answers["Getvar"] = lambda action: (
            success(action, "Value: 0") if "callctl-over" in action["Variable"] else getvar(action)
        )
        assert await wrong(ami) == [
            "user callctl may write class system",
            "user callctl may read class agi",
            "the dialplan lacks callctl-over",
            "the clocks are 3.0 s apart",
        ]


async def test_the_doctor_tells_a_wrong_secret_from_no_switch() -> None:
    """Refused and unreachable have different cures."""
    async with scripted_ami() as ami:
        ami.answers["Login"] = lambda action: error(action, "Authentication failed")
        (refused,) = await wrong(ami)
    (unreachable,) = await wrong(ami)
    assert "refuses user callctl" in refused
    assert "cannot reach" in unreachable
