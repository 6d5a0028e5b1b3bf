"""Asterisk behind the `Switch` port, over AMI and the dialplan of `dialplan_examples/asterisk/`.

Events are hints: what is told to the controller was asked of the switch first, in the words of
docs/switches/asterisk-wire.md. This file owns no money and takes no decision about a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta

import structlog

from billing.ports import Clock, Ids
from billing.settings import AsteriskSettings
from callctl.switches import asterisk_wire as wire
from callctl.switches.ami import AmiEvent, AmiLink
from callctl.switches.ami_request import Request
from callctl.switches.asterisk_calls import CallTable, TrackedCall
from callctl.switches.asterisk_look import Look
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    Direction,
    LinkDown,
    LinkUp,
    LiveCall,
    Outcome,
    Refusal,
    SwitchEvent,
    SwitchRecord,
    SwitchUnavailable,
    ahead_of_us,
)
from callctl.switches.link import LinkCounters

log = structlog.get_logger()

MAX_TASKS = 5_000
"""Hints being checked at once; beyond it they are dropped and the whole switch is compared again."""
ANSWER_RETRIES_S = (0.005, 0.02, 0.1, 0.5, 2.0)
HANGUP_RETRIES_S = (0.05, 0.25, 1.0)
SLOW_S = 0.25
"""What time it is on the switch is not learnt from an answer that took longer."""
CALL_REJECTED = 21
MAX_HUNG = 2_000
"""Hangups (and answers) remembered of channels that we may only now be learning of."""
RESTS = 2
"""A switch that answers too late is left alone for so many times as long as its last list took."""
SURVIVES_S = 0.3
"""A leg that is still there so long after the channel that dialled it lives on by itself."""


class AsteriskSwitch:
    """One Asterisk."""

    def __init__(self, settings: AsteriskSettings, *, clock: Clock, ids: Ids) -> None:
        self.name = settings.name
        self._clock = clock
        self.link = AmiLink(
            settings.host,
            settings.port,
            username=settings.username,
            secret=settings.secret.get_secret_value(),
            ids=ids,
            on_event=self._on_event,
            on_up=self._on_up,
            on_down=self._on_down,
            on_time=self._on_time,
        )
        self.may_act: Callable[[], bool] = lambda: True
        self._ahead = timedelta()
        self._tell: Callable[[SwitchEvent], None] = lambda _: None
        self._calls = CallTable()
        self._tasks: set[asyncio.Task[None]] = set()
        self._look = Look(self.name, self.link, self._calls)
        self._hung: OrderedDict[str, AmiEvent] = OrderedDict()
        self._early: list[tuple[str, str]] = []
        """Answers of channels that were unknown while the switch was compared: (Uniqueid, DestUniqueid)."""
        self._told_up = False
        self._comparing = self._doubts = False
        self._rests_until_s = 0.0

    @property
    def counters(self) -> LinkCounters:
        """What came over the link so far."""
        return self.link.counters

    @property
    def ahead_s(self) -> float:
        """How far the switch's clock is ahead of ours, measured every few seconds."""
        return self._ahead.total_seconds()

    def _on_time(self, text: str, took_s: float) -> None:
        there = wire.parse_epoch(text)
        if there is not None and took_s < SLOW_S:
            self._ahead = ahead_of_us(there, self._clock.now(), took_s)

    def _switch_now(self) -> datetime:
        return self._clock.now() + self._ahead

    # ---- life

    async def start(self, tell: Callable[[SwitchEvent], None]) -> None:
        """Connect and stay connected; returns at once."""
        self._tell = tell
        self.link.start()

    async def stop(self) -> None:
        """Disconnect; calls go on."""
        await self.link.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- commands

    async def admit(self, call_id: str, *, grant_s: float | None, ring_s: int) -> Outcome:
        """Let the offered channel dial. Raises `ValueError` for a grant that is no time."""
        if ring_s < 1 or (grant_s is not None and not (math.isfinite(grant_s) and grant_s > 0)):
            raise ValueError(f"cannot admit for {grant_s} s after {ring_s} s of ringing")
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        if call.admitted is Outcome.DONE:
            return Outcome.DONE
        if call.admitted is Outcome.UNKNOWN and (known := await self._admission(call)) is not None:
            call.admitted = known
            return known
        _, number = wire.split_key(call.key)
        grant = "none" if grant_s is None else wire.seconds(grant_s)
        fields = [
            ("Channel", call.channel),
            ("Context", "callctl-dial"),
            ("Exten", f"{number}*{ring_s}*{grant}"),
            ("Priority", "1"),
        ]
        call.admitted = await self._command("Redirect", fields)
        return call.admitted

    async def refuse(self, call_id: str, refusal: Refusal) -> Outcome:
        """End an offer: by its cause where that gives the status wanted, else with PJSIPHangup."""
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        call.refusal = refusal
        if call.admitted is Outcome.DONE:
            return await self.hangup(call_id, cause=refusal.cause)
        cause = wire.STATUS_BY_CAUSE.get(refusal.sip_status)
        if cause is None:
            outcome = await self._command(
                "PJSIPHangup", [("Channel", call.channel), ("Cause", str(refusal.sip_status))]
            )
            if outcome is not Outcome.UNKNOWN or not self.link.up:
                return outcome
            cause = refusal.cause
        return await self._command("Hangup", [("Channel", call.channel), ("Cause", str(cause))])

    async def set_limit(self, call_id: str, left_s: float | None) -> Outcome:
        """Set the absolute limit of the billed leg, from now."""
        if left_s is not None and not math.isfinite(left_s):
            raise ValueError(f"{left_s} s is no limit")
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        leg = await self._find_leg(call)
        if not leg:
            return Outcome.UNKNOWN
        value = "0" if left_s is None else wire.seconds(left_s)
        fields = [("Channel", leg), ("Variable", "TIMEOUT(absolute)"), ("Value", value)]
        return await self._command("Setvar", fields)

    async def warn(self, call_id: str) -> Outcome:
        """Play a short tone (a DTMF digit) to the people on the billed leg's side of the call."""
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        # The caller pays and must hear it; after a transfer his channel is gone, and the leg is all there is.
        for channel in dict.fromkeys((call.channel, call.leg)):
            if channel:
                outcome = await self._command("PlayDTMF", [("Channel", channel), ("Digit", "1"), ("Duration", "400")])
                if outcome is not Outcome.GONE:
                    return outcome
        return Outcome.GONE

    async def hangup(self, call_id: str, *, cause: int = 16) -> Outcome:
        """End the billed leg, or the offering channel where none has answered."""
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        call.ended_by_us = True
        leg = await self._find_leg(call)
        return await self._command("Hangup", [("Channel", leg or call.channel), ("Cause", str(cause))])

    # ---- questions

    async def live_calls(self) -> list[LiveCall]:
        """Ask for every channel at once. Raises `SwitchUnavailable`."""
        calls = await self._look.live_calls()
        for uniqueid in [uniqueid for uniqueid in self._hung if uniqueid in self._calls]:
            self._heard_too_early(uniqueid)
        return calls

    async def record_of(self, call_id: str) -> SwitchRecord | None:
        """Read the switch's own note. Raises `SwitchUnavailable`."""
        note = await self._note(self._key(call_id))
        return note.record(call_id) if note else None

    async def forget_record(self, call_id: str) -> None:
        """Delete the switch's note; it stays if the switch cannot be reached."""
        with contextlib.suppress(SwitchUnavailable):
            await self.link.ask("DBDel", [("Family", wire.FAMILY), ("Key", self._key(call_id))])

    # ---- what the link tells

    def _on_event(self, event: AmiEvent) -> None:
        uniqueid = event.get("uniqueid")
        match event.name:
            case "AsyncAGIStart":
                self._check(self._offered(uniqueid))
            case "DialEnd" if event.get("dialstatus") != "ANSWER":
                self._rang_in_vain(uniqueid, event.get("dialstatus"))
            case "DialEnd" if self._comparing or uniqueid in self._calls:
                if uniqueid not in self._calls and len(self._early) < MAX_HUNG:
                    self._early.append((uniqueid, event.get("destuniqueid")))
                self._check(self._answered(uniqueid, event.get("destuniqueid")))
            case "Hangup":
                self._hung[uniqueid] = event
                if len(self._hung) > MAX_HUNG:
                    self._hung.popitem(last=False)
                self._look_for_survivors(uniqueid)
                if self._comparing or self._calls.ending_with(uniqueid):
                    self._check(self._gone(uniqueid, event))
            case "DialEnd" | "FullyBooted" | "AsyncAGIEnd" | "SuccessfulAuth":
                pass
            case _:
                self.link.count_unknown(event.name)

    def _on_up(self) -> None:
        self._check(self._compare(), always=True)

    def _on_down(self) -> None:
        self._rests_until_s = 0.0
        if self._told_up:
            self._told_up = False
            self._tell(LinkDown(self.name))

    def _check(self, work: Coroutine[None, None, None], *, always: bool = False) -> None:
        if len(self._tasks) >= MAX_TASKS and not always:
            work.close()
            self.counters.overflows += 1
            if not self._comparing:
                self._check(self._compare(), always=True)
            return
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except SwitchUnavailable:
            # The hint is lost with the answer. If the link is down, its return compares everything anyway.
            self._doubts = True
            if self.link.up and not self._comparing:
                await self._compare()
        except Exception:
            log.exception("asterisk_hint_failed", switch=self.name)

    async def _compare(self) -> None:
        """Learn all channels anew, then say that the link is up and offer again what waits."""
        if self._comparing:
            return
        self._comparing = True
        loop, pause_s = asyncio.get_running_loop(), 0.1
        try:
            while self.link.up:
                await asyncio.sleep(max(self._rests_until_s - loop.time(), 0.0))
                # A hint that is lost from here on may be of a channel that the list has passed already.
                self._doubts, began_s = False, loop.time()
                try:
                    await self.link.ping()
                    calls = await self.live_calls()
                except SwitchUnavailable as why:
                    log.warning("asterisk_not_compared", switch=self.name, why=str(why))
                    await asyncio.sleep(pause_s)
                    pause_s = min(5.0, pause_s * 2)
                    continue
                self._told_up = True
                self._tell(LinkUp(self.name))
                for call in calls:
                    if call.waiting:
                        self._tell(self._offer(call))
                for uniqueid, dest in self._early:
                    self._check(self._answered(uniqueid, dest))
                self._early.clear()
                self._rests_until_s = loop.time() + RESTS * (loop.time() - began_s)
                if not self._doubts:
                    return
        finally:
            self._comparing = False
            self._early.clear()

    # ---- hints, checked

    async def _offered(self, uniqueid: str) -> None:
        if not wire.UNIQUEID.match(uniqueid):
            self.link.count_hostile("an offer by no channel")
            return
        try:
            channel = await self._channel(uniqueid)
        except wire.HostileText as why:
            self.link.count_hostile(str(why), name="AsyncAGIStart")
            await self._command("Hangup", [("Channel", uniqueid), ("Cause", str(CALL_REJECTED))])
            return
        if channel is None or channel.offer is None or channel.offer.state is not wire.OfferState.OFFERED:
            return
        self._calls.adopt([channel])
        for call in wire.live_calls(self.name, [channel]):
            if call.waiting:
                self._tell(self._offer(call))
        self._heard_too_early(uniqueid)

    async def _answered(self, uniqueid: str, dest: str) -> None:
        inbound = any(call.direction is Direction.INBOUND and not call.leg for call in self._calls.of_channel(uniqueid))
        leg_id = uniqueid if inbound else dest
        if not wire.UNIQUEID.match(leg_id):
            self.link.count_hostile("an answer by no channel")
            return
        for pause_s in (*ANSWER_RETRIES_S, None):
            try:
                channel = await self._channel(leg_id)
            except wire.HostileText as why:
                self.link.count_hostile(str(why), name="DialEnd")
                return
            if channel is None or channel.leg is None:
                return
            call = self._calls.get(channel.leg.key)
            if call is None:
                return
            if channel.answered_at is not None:
                self._calls.note_leg(call, leg_id, channel.answered_at)
                self._tell(CallAnswered(f"{self.name}:{call.key}", channel.answered_at))
                self._heard_too_early(leg_id)
                return
            if pause_s is not None:
                await asyncio.sleep(pause_s)

    def _rang_in_vain(self, uniqueid: str, dial_status: str) -> None:
        for call in self._calls.of_channel(uniqueid):
            if call.channel == uniqueid and not call.leg:
                call.dial_status = dial_status

    def _heard_too_early(self, uniqueid: str) -> None:
        """Take up a Hangup that came while we still asked whose channel it is."""
        event = self._hung.get(uniqueid)
        if event is not None:
            self._check(self._gone(uniqueid, event))

    def _look_for_survivors(self, uniqueid: str) -> None:
        """Where a leg outlives the channel that dialled it, a transfer has happened, which can take its limit away."""
        for call in self._calls.of_channel(uniqueid):
            if call.channel == uniqueid and call.leg not in {"", uniqueid}:
                asyncio.get_running_loop().call_later(SURVIVES_S, self._survives, call.key)

    def _survives(self, key: str) -> None:
        call = self._calls.get(key)
        if call is not None and call.answered_at is not None:
            self._tell(CallAnswered(f"{self.name}:{key}", call.answered_at))

    async def _gone(self, uniqueid: str, event: AmiEvent) -> None:
        for pause_s in (*HANGUP_RETRIES_S, None):
            keys = [call.key for call in self._calls.ending_with(uniqueid)]
            if not keys:
                return
            requests = [self.link.send("Status", wire.status_of(uniqueid), tail=wire.ASKED)]
            requests += [self._ask_note(key) for key in keys]
            status, *notes = [await self.link.answer(request) for request in requests]
            if not status.ok and wire.says_gone(status):
                for key, reply in zip(keys, notes, strict=True):
                    self._end(key, uniqueid, wire.note_in(reply), event)
                return
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        self.link.count_hostile("the end of a channel that lives", name="Hangup")

    def _end(self, key: str, uniqueid: str, note: wire.Note | None, event: AmiEvent) -> None:
        """A channel of this call is verifiably gone: tell the end, unless its billed leg lives on."""
        call = self._calls.get(key)
        if call is None:
            return
        if note is not None and not call.leg:
            self._calls.note_leg(call, note.leg, note.answered_at)
            if note.ended_at is None and note.leg != uniqueid:
                # The answer was not heard, and the leg outlives the channel that dialled it.
                self._tell(CallAnswered(f"{self.name}:{key}", note.answered_at))
        if call.leg and call.leg != uniqueid and (note is None or note.ended_at is None):
            return
        call_id = f"{self.name}:{key}"
        cause = int(event.get("cause")) if event.get("cause").isdecimal() else 0
        if note is not None and note.ended_at is not None:
            by = wire.hung_up_by(note, call.direction)
            ended = CallEnded(call_id, note.ended_at, note.cause, "", by, note.answered_at)
        elif call.leg and call.answered_at:
            log.error("asterisk_note_missing", switch=self.name, call=key)
            ended = CallEnded(call_id, self._switch_now(), cause, answered_at=call.answered_at)
        elif call.refusal is not None:
            ended = CallEnded(call_id, self._event_time(event), call.refusal.cause, hung_up_by="switch")
        else:
            dial_status, cause = wire.unanswered(call.dial_status, cause)
            by = "switch" if call.ended_by_us else "caller" if dial_status == "cancelled" else ""
            ended = CallEnded(call_id, self._event_time(event), cause, dial_status, by)
        self._calls.forget(call)
        self._tell(ended)

    def _event_time(self, event: AmiEvent) -> datetime:
        return wire.parse_epoch(event.get("timestamp")) or self._switch_now()

    # ---- asking the switch

    async def _channel(self, uniqueid: str) -> wire.ChannelState | None:
        """Ask for one channel; None: it is gone. Raises `SwitchUnavailable`, `HostileText`."""
        reply = await self.link.ask("Status", wire.status_of(uniqueid), tail=wire.ASKED)
        if not reply.ok or not reply.texts:
            if wire.says_gone(reply) or reply.ok:
                return None
            raise SwitchUnavailable(f"Status: {reply.get('message')}")
        channel = wire.parse_channel(next(reply.items))
        if channel.uniqueid != uniqueid:
            raise wire.HostileText("an answer about another channel")
        return channel

    async def _admission(self, call: TrackedCall) -> Outcome | None:
        """Say what became of an admission that was never answered; None: it did not arrive."""
        try:
            channel = await self._channel(call.channel)
        except (SwitchUnavailable, wire.HostileText):
            return Outcome.UNKNOWN
        if channel is None or channel.offer is None or channel.offer_key != call.key:
            return Outcome.GONE
        return {wire.OfferState.OFFERED: None, wire.OfferState.ADMITTED: Outcome.DONE}.get(
            channel.offer.state, Outcome.GONE
        )

    def _ask_note(self, key: str) -> Request:
        return self.link.send("DBGet", [("Family", wire.FAMILY), ("Key", key)])

    async def _note(self, key: str) -> wire.Note | None:
        reply = await self.link.answer(self._ask_note(key))
        if not reply.ok and "not found" not in reply.get("message"):
            raise SwitchUnavailable(f"DBGet: {reply.get('message')}")
        return wire.note_in(reply)

    async def _find_leg(self, call: TrackedCall) -> str:
        """Return the billed channel, from memory or from the switch's note; "" where there is none."""
        if not call.leg:
            with contextlib.suppress(SwitchUnavailable, wire.HostileText):
                note = await self._note(call.key)
                if note is not None:
                    self._calls.note_leg(call, note.leg, note.answered_at)
        return call.leg

    async def _command(self, action: str, fields: list[tuple[str, str]]) -> Outcome:
        if not self.may_act():
            return Outcome.UNKNOWN
        try:
            reply = await self.link.ask(action, fields)
        except SwitchUnavailable:
            return Outcome.UNKNOWN
        if reply.ok:
            return Outcome.DONE
        if wire.says_gone(reply):
            return Outcome.GONE
        log.error("asterisk_command_failed", switch=self.name, action=action, why=reply.get("message")[:200])
        return Outcome.UNKNOWN

    # ---- memory

    def _key(self, call_id: str) -> str:
        """Return the key of a call of this switch. Raises `ValueError` for another's."""
        name, _, key = call_id.partition(":")
        if name != self.name:
            raise ValueError(f"{call_id!r} is not a call of {self.name}")
        wire.split_key(key)
        return key

    def _call(self, call_id: str) -> TrackedCall | None:
        return self._calls.get(self._key(call_id))

    def _unknown_call(self) -> Outcome:
        return Outcome.GONE if self._told_up else Outcome.UNKNOWN

    def _offer(self, call: LiveCall) -> CallOffered:
        at = self._switch_now()
        return CallOffered(call.call_id, at, call.direction, call.account_code, call.caller, call.callee)
