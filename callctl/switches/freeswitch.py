"""FreeSWITCH behind the `Switch` port, over ESL and the dialplan of `dialplan_examples/freeswitch/`.

Events come as JSON, where a caller's text cannot become a header, and hold what the dialplan has set; what else is told
is asked of the switch, in the words of docs/switches/freeswitch-wire.md. This file owns no money and takes no decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from billing.ports import Clock, Ids
from billing.settings import FreeswitchSettings
from callctl.switches import freeswitch_wire as wire
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
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
from callctl.switches.esl import EslEvent, EslLink
from callctl.switches.freeswitch_asks import Ask, Asks
from callctl.switches.freeswitch_calls import CallTable, TrackedCall
from callctl.switches.freeswitch_look import Look
from callctl.switches.link import LinkCounters

log = structlog.get_logger()

MAX_HELD = 50_000
"""Events kept while the switch is being compared; beyond it they are dropped, and it is compared once more."""
AT_ONCE = 200
EARLY_S = 0.02
"""FreeSWITCH needs some ms to end a call: it is asked a little early, so that no call outlasts what is paid for."""
SHORTEST_S = 0.01
ABSOLUTE_S = 10.0
"""Ends nearer than this are told as seconds from now."""
SLOW_S = 0.25
"""A time told later than this says too little about the switch's clock."""
TONE = "tone_stream://%(300,0,800)"


class FreeSwitch:
    """One FreeSWITCH."""

    def __init__(self, settings: FreeswitchSettings, *, clock: Clock, ids: Ids) -> None:
        self.name = settings.name
        self._clock = clock
        self.link = EslLink(
            settings.host,
            settings.port,
            password=settings.password.get_secret_value(),
            ids=ids,
            on_event=self._on_event,
            on_up=self._on_up,
            on_down=self._on_down,
            on_ping=self._on_time,
            setup=wire.SETUP,
            ping=wire.TIME,
        )
        self._asks = Asks(lambda: self._told_up and self.may_act(), here=settings.asks, ids=ids, on_ask=self._asked)
        self._tell: Callable[[SwitchEvent], None] = lambda _: None
        self._calls = CallTable()
        self._look = Look(
            self.name,
            self.link,
            self._calls,
            arm=self._arm,
            leave=self._leave,
            existing=self._existing,
            now=self._switch_now,
            moves=lambda: self._moves,
        )
        self._held: deque[EslEvent] = deque()
        self._dropped = False
        self._moves = 0
        self.may_act: Callable[[], bool] = lambda: True
        self._ahead: timedelta | None = None
        self._comparison: asyncio.Task[None] | None = None
        self._told_up = False

    @property
    def counters(self) -> LinkCounters:
        """What came over the link so far."""
        return self.link.counters

    # ---- life

    async def start(self, tell: Callable[[SwitchEvent], None]) -> None:
        """Connect and stay connected; returns at once."""
        self._tell = tell
        await self._asks.open()
        self.link.start()

    async def stop(self) -> None:
        """Disconnect; calls go on, up to the deadlines on the switch."""
        if self._told_up:
            await self._do(*self._asks.no_more())
        self._asks.close()
        self._calls.forget_all()
        await self.link.stop()
        if self._comparison is not None:
            self._comparison.cancel()
            await asyncio.gather(self._comparison, return_exceptions=True)

    # ---- commands

    async def admit(self, call_id: str, *, grant_s: float | None, ring_s: int) -> Outcome:
        """Let the offered channel dial. Raises `ValueError` for a grant that is no time."""
        if ring_s < 1 or (grant_s is not None and not (math.isfinite(grant_s) and grant_s > 0)):
            raise ValueError(f"cannot admit for {grant_s} s after {ring_s} s of ringing")
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        if call.admitted is not None and (known := await self._admission(call)) is not None:
            call.admitted = known
            return known
        grant, deadline = ("none", "none") if grant_s is None else (f"{grant_s:.3f}", str(wire.deadline(grant_s)))
        ringing = f"call_timeout={ring_s};bridge_answer_timeout={ring_s}"
        variables = f"{ringing};callctl_grant={grant};callctl_deadline={deadline};callctl_admit={call.key}"
        told = f"api uuid_setvar_multi {call.channel} {variables}"
        asked = await self._answer_ask(call, told)
        if asked is None:
            _, asked = await self._do(told, f"api uuid_transfer {call.channel} {call.facts.callee} XML callctl-dial")
        call.admitted = asked
        return asked

    async def refuse(self, call_id: str, refusal: Refusal) -> Outcome:
        """End an offer with exactly this SIP status."""
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        call.refusal = refusal
        if call.admitted is Outcome.DONE:
            return await self.hangup(call_id, cause=refusal.cause)
        status = f"{refusal.sip_status} {wire.REASONS.get(refusal.sip_status, 'Refused')}"
        told = f"api uuid_transfer {call.channel} 'respond:{status}' inline"
        asked = await self._answer_ask(call, told)
        return asked if asked is not None else (await self._do(told))[0]

    async def _answer_ask(self, call: TrackedCall, command: str) -> Outcome | None:
        """Answer a channel that asked for itself, and let it go on; None: it does not wait there, any more or yet."""
        ask, call.ask = call.ask, None
        if ask is None or not ask.open:
            call.told = True
            return None
        try:
            if not self.may_act():
                return Outcome.UNKNOWN
            return self._outcome(command, (await ask.ask(command, self.link.timeout_s)).strip())
        except SwitchUnavailable:
            return Outcome.UNKNOWN
        finally:
            ask.close()

    async def set_limit(self, call_id: str, left_s: float | None) -> Outcome:
        """Move the end of an answered call: a timer here for the exact time, a deadline on the switch behind it."""
        if left_s is not None and not math.isfinite(left_s):
            raise ValueError(f"{left_s} s is no limit")
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        if not await self._find_leg(call):
            return Outcome.UNKNOWN
        before = call.deadline_group
        call.ends_at = None if left_s is None else self._switch_now() + timedelta(seconds=max(left_s, SHORTEST_S))
        self._moves += 1
        call.moved, call.move = True, self._moves
        self._arm(call)
        commands = [f"api uuid_exists {call.leg}"]
        until = "none"
        if left_s is not None and call.ends_at is not None:
            until, kill = str(wire.micros_of(call.ends_at)), f"uuid_kill {call.leg} {wire.LIMIT_CAUSE}"
            commands.append(f"api sched_api {self._deadline(call.ends_at, left_s)} {call.deadline_group} {kill}")
        commands.append(f"api hash insert/callctl_until/{call.key}/{until}")
        if before != call.deadline_group or left_s is None:
            # The old deadline goes last: there is one at every moment.
            commands.append(f"api sched_del {before}")
        outcomes = await self._do(*commands)
        if outcomes[0] is Outcome.GONE:
            self._leave(f"api sched_del {call.deadline_group}", f"api hash delete/callctl_until/{call.key}")
        return outcomes[0] if outcomes[0] is not Outcome.DONE else worst(outcomes)

    async def warn(self, call_id: str) -> Outcome:
        """Play a short tone to both sides of the billed leg."""
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        [outcome] = await self._do(f"api uuid_broadcast {await self._find_leg(call) or call.channel} {TONE} both")
        return outcome

    async def hangup(self, call_id: str, *, cause: int = 16) -> Outcome:
        """End the billed leg, or the offering channel where none has answered."""
        call = self._call(call_id)
        if call is None:
            return self._unknown_call()
        call.ended_by_us = True
        leg = await self._find_leg(call)
        [outcome] = await self._do(f"api uuid_kill {leg or call.channel} {wire.CAUSES.get(cause, wire.OUR_CAUSE)}")
        return outcome

    # ---- questions

    async def live_calls(self) -> list[LiveCall]:
        """Ask what is noted and which channels live. Raises `SwitchUnavailable`."""
        calls = await self._look.live_calls()
        # Each time: it may have forgotten, or another controller may have told it in the meantime.
        self._leave(*self._asks.here())
        return calls

    async def record_of(self, call_id: str) -> SwitchRecord | None:
        """Read the switch's own note. Raises `SwitchUnavailable`."""
        note = await self._note(self._key(call_id))
        return note.record(call_id) if note else None

    async def forget_record(self, call_id: str) -> None:
        """Delete the switch's notes; they stay if the switch cannot be reached."""
        key = self._key(call_id)
        self._leave(f"api hash delete/callctl_leg/{key}")

    # ---- what the link tells

    def _on_event(self, event: EslEvent) -> None:
        if self._told_up:
            self._hear(event)
        elif len(self._held) < MAX_HELD:
            self._held.append(event)
        else:
            self.counters.overflows += 1
            self._dropped = True

    def _on_up(self) -> None:
        if self._comparison is not None:
            self._comparison.cancel()
        self._comparison = asyncio.get_running_loop().create_task(self._compare(), name=f"compare {self.name}")

    def _on_down(self) -> None:
        self._held.clear()
        if self._told_up:
            self._told_up = False
            self._tell(LinkDown(self.name))

    def _on_time(self, text: str, took_s: float) -> None:
        """Learn by how much the switch's clock is ahead of ours."""
        with contextlib.suppress(wire.HostileText):
            there = wire.parse_micros(text.strip())
            if there is not None and took_s < SLOW_S:
                self._ahead = ahead_of_us(there, self._clock.now(), took_s)

    async def _compare(self) -> None:
        """Learn all calls anew, then say that the link is up, offer again what waits, and hear what came meanwhile."""
        pause_s = 0.1
        while self.link.up:
            try:
                began = self._clock.monotonic()
                self._on_time(await self.link.ask(wire.TIME), self._clock.monotonic() - began)
                self._dropped = False
                calls = await self.live_calls()
            except SwitchUnavailable as why:
                log.warning("freeswitch_not_compared", switch=self.name, why=str(why))
                await asyncio.sleep(pause_s)
                pause_s = min(5.0, pause_s * 2)
                continue
            if self._dropped:
                continue
            self._told_up = True
            self._tell(LinkUp(self.name))
            for call in calls:
                if call.waiting:
                    self._offer(self._key(call.call_id), self._calls.get(self._key(call.call_id)))
            while self._held:
                self._hear(self._held.popleft())
            return

    # ---- events

    def _hear(self, event: EslEvent) -> None:
        try:
            match event.name:
                case "CHANNEL_PARK":
                    key, facts = wire.offer_of(event)
                    if facts is not None:
                        self._offer(key, self._calls.track(key, facts))
                case "CHANNEL_ANSWER":
                    key, note = wire.note_of(event)
                    if note is not None:
                        self._answered(key, note)
                case "CHANNEL_HANGUP_COMPLETE":
                    self._gone(event)
                case _:
                    self.link.count_unknown(event.name)
        except wire.HostileText as why:
            self.link.count_hostile(str(why), name=event.name)

    def _asked(self, ask: Ask, key: str, facts: wire.Facts) -> None:
        call = self._calls.track(key, facts)
        if call.told or (call.ask is not None and call.ask.open):
            # A comparison found its offer first, and it is told on the link. Or it asks twice, which no channel does.
            ask.close()
            return
        call.ask = ask
        self._offer(key, call)

    def _offer(self, key: str, call: TrackedCall | None) -> None:
        if call is not None:
            facts = call.facts
            at = self._switch_now()
            self._tell(CallOffered(self._id(key), at, facts.direction, facts.account_code, facts.caller, facts.callee))

    def _answered(self, key: str, note: wire.Note) -> None:
        call = self._calls.track(key, note.facts)
        call.leg, call.answered_at = note.leg, note.answered_at
        if not call.moved:
            call.ends_at = None if note.grant_s is None else note.answered_at + timedelta(seconds=note.grant_s)
        self._arm(call)
        self._tell(CallAnswered(self._id(key), note.answered_at))

    def _gone(self, event: EslEvent) -> None:
        """A channel is gone: as a leg that was answered, and as one that offered and got no answer."""
        key, note = wire.note_of(event)
        offered, facts = wire.offer_of(event)
        if note is not None and note.ended_at is not None:
            call, offer = self._calls.get(key), self._calls.get(offered)
            ours = (call is not None and call.ended_by_us) or (offer is not None and offer.refusal is not None)
            self._forget(call)
            by = "switch" if ours else note.by
            self._tell(CallEnded(self._id(key), note.ended_at, note.cause, "", by, note.answered_at))
        over = event.get("variable_callctl_over")
        if facts is None or offered == over or (offered == key and note is not None):
            return
        call = self._calls.get(offered)
        if call is not None and call.leg:
            return
        at = wire.parse_micros(event.get("Caller-Channel-Hangup-Time")) or self._switch_now()
        cause = wire.parse_cause(event.get("variable_hangup_cause_q850"))
        dial_status, cause = wire.unanswered(event.get("Hangup-Cause"), cause)
        by = "caller" if dial_status == "cancelled" else ""
        if call is not None and call.refusal is not None:
            dial_status, cause, by = "", call.refusal.cause, "switch"
        elif call is not None and call.ended_by_us:
            by = "switch"
        self._forget(call)
        self._tell(CallEnded(self._id(offered), at, cause, dial_status, by))

    def _forget(self, call: TrackedCall | None) -> None:
        if call is not None:
            if call.moved:
                self._leave(f"api hash delete/callctl_until/{call.key}")
                if call.ends_at is not None:
                    self._leave(f"api sched_del {call.deadline_group}")
            self._calls.forget(call)

    # ---- the exact end

    def _deadline(self, ends_at: datetime, left_s: float) -> str:
        """Return when the switch's scheduler ends the call: the second after, where its clock is known well enough."""
        # A time that has passed when it arrives would be taken for an interval, so near ends are told as one.
        if self._ahead is None or left_s < ABSOLUTE_S:
            return f"+{wire.deadline(max(left_s, 0))}"
        return str(-(-wire.micros_of(ends_at) // 1_000_000))

    def _arm(self, call: TrackedCall) -> None:
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        if call.ends_at is not None:
            left_s = (call.ends_at - self._switch_now()).total_seconds() - EARLY_S
            call.timer = asyncio.get_running_loop().call_later(max(left_s, 0), self._time_is_over, call)

    def _time_is_over(self, call: TrackedCall) -> None:
        call.timer = None
        self._leave(f"api uuid_kill {call.leg} {wire.LIMIT_CAUSE}")

    @property
    def ahead_s(self) -> float:
        """How far the switch's clock is ahead of ours, measured at each connect."""
        return (self._ahead or timedelta()).total_seconds()

    def _switch_now(self) -> datetime:
        return self._clock.now() + (self._ahead or timedelta())

    # ---- asking the switch

    async def _do(self, *commands: str) -> list[Outcome]:
        """Send commands at once, and say of each what became of it."""
        if not self.may_act():
            return [Outcome.UNKNOWN] * len(commands)
        try:
            requests = [self.link.send(command) for command in commands]
        except SwitchUnavailable:
            return [Outcome.UNKNOWN] * len(commands)
        outcomes = []
        for request in requests:
            try:
                outcomes.append(self._outcome(request.command, (await self.link.answer(request)).strip()))
            except SwitchUnavailable:
                outcomes.append(Outcome.UNKNOWN)
        return outcomes

    def _outcome(self, command: str, text: str) -> Outcome:
        if text.startswith("+OK") or text == "true":
            return Outcome.DONE
        if text == "false" or (text.startswith("-ERR") and ("No such channel" in text or "invalid uuid" in text)):
            return Outcome.GONE
        log.error("freeswitch_command_failed", switch=self.name, command=command.split(" ")[1], why=text[:200])
        return Outcome.UNKNOWN

    def _leave(self, *commands: str) -> None:
        """Send what nobody waits for."""
        if not self.may_act():
            return
        with contextlib.suppress(SwitchUnavailable):
            for command in commands:
                self.link.forget(self.link.send(command))

    async def _existing(self, channels: set[str]) -> set[str]:
        """Return which of these channels live. Raises `SwitchUnavailable`."""
        names, living = sorted(channels), set[str]()
        for start in range(0, len(names), AT_ONCE):
            batch = names[start : start + AT_ONCE]
            requests = [self.link.send(f"api uuid_exists {name}") for name in batch]
            for name, request in zip(batch, requests, strict=True):
                match (await self.link.answer(request)).strip():
                    case "true":
                        living.add(name)
                    case "false":
                        pass
                    case text:
                        raise SwitchUnavailable(f"uuid_exists: {text[:100]}")
        return living

    async def _admission(self, call: TrackedCall) -> Outcome | None:
        """Say what became of an admission sent before; None: it did not arrive."""
        try:
            if call.channel not in await self._existing({call.channel}):
                return Outcome.GONE
            text = (await self.link.ask(f"api hash select/callctl_offer/{call.key}")).strip()
            if text == wire.NOTHING:
                return Outcome.DONE if call.leg or await self._note(call.key) else Outcome.GONE
            state, _ = wire.parse_offer(text)
        except (SwitchUnavailable, wire.HostileText):
            return Outcome.UNKNOWN
        return Outcome.DONE if state is wire.OfferState.ADMITTED else None

    async def _note(self, key: str) -> wire.Note | None:
        """Ask for the note of an answered leg; one that cannot be read counts as none. Raises `SwitchUnavailable`."""
        text = (await self.link.ask(f"api hash select/callctl_leg/{key}")).strip()
        if text == wire.NOTHING or not text:
            return None
        if text.startswith("-"):
            raise SwitchUnavailable(f"hash: {text[:100]}")
        with contextlib.suppress(wire.HostileText):
            return wire.parse_note(text)
        return None

    async def _find_leg(self, call: TrackedCall) -> str:
        """Return the billed channel, from memory or from the switch's note; "" where there is none."""
        if not call.leg:
            with contextlib.suppress(SwitchUnavailable):
                note = await self._note(call.key)
                if note is not None:
                    call.leg, call.answered_at = note.leg, note.answered_at
        return call.leg

    # ---- memory

    def _id(self, key: str) -> str:
        return f"{self.name}:{key}"

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


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return DONE if all are."""
    return Outcome.DONE if all(outcome is Outcome.DONE for outcome in outcomes) else Outcome.UNKNOWN
