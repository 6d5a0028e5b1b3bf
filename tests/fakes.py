"""A switch in memory that keeps the port's contract: it offers calls when told to, and enforces their limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from billing.ports import Clock, SystemClock
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
)


@dataclass(slots=True)
class FakeCall:
    """A call as the switch knows it."""

    offer: CallOffered
    grant_s: float | None = None
    ring_s: int = 0
    admitted: bool = False
    refused: Refusal | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    limits: list[float | None] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None
    limit_due: float | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)
    decided: asyncio.Event = field(default_factory=asyncio.Event)


class FakeSwitch:
    """`linked` False: commands are UNKNOWN, questions unavailable, events lost, but limits still end calls."""

    def __init__(self, name: str = "fake", *, clock: Clock | None = None) -> None:
        self.name = name
        self.clock = clock or SystemClock()
        self.calls: dict[str, FakeCall] = {}
        self.linked = True
        self.forgotten: list[str] = []
        self.keeps_records = True
        self.commands: list[tuple[str, str]] = []
        self.ahead_s = 0.0
        self.may_act: Callable[[], bool] = lambda: True
        self._tell: Callable[[SwitchEvent], None] | None = None

    # -- what the test makes happen ------------------------------------------------------------------------------------

    def offer(self, number: int, account_code: str, callee: str, direction: Direction = Direction.OUTBOUND) -> FakeCall:
        offer = CallOffered(f"{self.name}:{number}", self.clock.now(), direction, account_code, "1001", callee)
        call = self.calls[offer.call_id] = FakeCall(offer)
        self.say(offer)
        return call

    def answer(self, call: FakeCall) -> None:
        call.answered_at = self.clock.now()
        self._limit(call, call.grant_s)
        self.say(CallAnswered(call.offer.call_id, call.answered_at))

    def end(self, call: FakeCall, *, dial_status: str = "", by: str = "caller") -> None:
        if call.ended_at:
            return
        call.ended_at = self.clock.now()
        if call.timer:
            call.timer.cancel()
        call.over.set()
        self.say(CallEnded(call.offer.call_id, call.ended_at, 16, dial_status, by))

    def say(self, event: SwitchEvent) -> None:
        if self.linked and self._tell:
            self._tell(event)

    def cut(self) -> None:
        self.say(LinkDown(self.name))
        self.linked = False

    def mend(self) -> None:
        self.linked = True
        self.say(LinkUp(self.name))

    def _limit(self, call: FakeCall, left_s: float | None) -> None:
        loop = asyncio.get_running_loop()
        call.limits.append(left_s)
        if call.timer:
            call.timer.cancel()
        call.limit_due = None if left_s is None else loop.time() + left_s
        if left_s is not None:
            call.timer = loop.call_later(left_s, lambda: self.end(call, by="switch"))

    # -- the port ------------------------------------------------------------------------------------------------------

    async def start(self, tell: Callable[[SwitchEvent], None]) -> None:
        self._tell = tell
        self.say(LinkUp(self.name))

    async def stop(self) -> None:
        self._tell = None

    def _asked(self, command: str, call_id: str) -> FakeCall | Outcome:
        self.commands.append((command, call_id))
        if not self.linked or not self.may_act():
            return Outcome.UNKNOWN
        call = self.calls.get(call_id)
        return Outcome.GONE if call is None or call.ended_at else call

    async def admit(self, call_id: str, *, grant_s: float | None, ring_s: int) -> Outcome:
        call = self._asked("admit", call_id)
        if isinstance(call, Outcome):
            return call
        call.grant_s, call.ring_s, call.admitted = grant_s, ring_s, True
        call.decided.set()
        return Outcome.DONE

    async def refuse(self, call_id: str, refusal: Refusal) -> Outcome:
        call = self._asked("refuse", call_id)
        if isinstance(call, Outcome):
            return call
        call.refused = refusal
        call.decided.set()
        self.end(call, dial_status="failed", by="switch")
        return Outcome.DONE

    async def set_limit(self, call_id: str, left_s: float | None) -> Outcome:
        call = self._asked("set_limit", call_id)
        if isinstance(call, Outcome):
            return call
        self._limit(call, left_s)
        return Outcome.DONE

    async def warn(self, call_id: str) -> Outcome:
        call = self._asked("warn", call_id)
        return call if isinstance(call, Outcome) else Outcome.DONE

    async def hangup(self, call_id: str, *, cause: int = 16) -> Outcome:  # noqa: ARG002
        call = self._asked("hangup", call_id)
        if isinstance(call, Outcome):
            return call
        self.end(call, by="switch")
        return Outcome.DONE

    async def live_calls(self) -> list[LiveCall]:
        if not self.linked:
            raise SwitchUnavailable
        now = asyncio.get_running_loop().time()
        return [
            LiveCall(
                call_id,
                not call.admitted,
                call.offer.direction,
                call.offer.account_code,
                call.offer.caller,
                call.offer.callee,
                call.answered_at,
                None if call.limit_due is None else call.limit_due - now,
            )
            for call_id, call in self.calls.items()
            if not call.ended_at
        ]

    async def record_of(self, call_id: str) -> SwitchRecord | None:
        if not self.linked:
            raise SwitchUnavailable
        call = self.calls.get(call_id)
        if not self.keeps_records or call is None or call.ended_at is None:
            return None
        return SwitchRecord(call_id, call.answered_at, call.ended_at, 16)

    async def forget_record(self, call_id: str) -> None:
        self.forgotten.append(call_id)
