"""A switch in virtual time that keeps the port's contract, with faults: it knows the truth about every call.

Each call has a plan: what its people do. The switch offers it, lets it ring once admitted, enforces its limit, notes
its record. Events may be lost, doubled, late or out of order; commands and their answers may be lost; the link may be
cut; it may restart, and then every call on it is gone.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

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
from tests.simulation.loop import OWNER, SimulatedLoop
from tests.simulation.options import Faults

COMMAND_S = 2.0
"""A command that is not answered by then is UNKNOWN."""
GUARD_S = 12.0
"""A channel that nobody decides about is ended by the dialplan."""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What the people of a call do. `hangs_up_s`: the caller gives up this long after the offer, unless answered."""

    account_code: str
    callee: str
    rings_s: float = 1.0
    answered: bool = True
    busy: bool = False
    talks_s: float = 10.0
    hangs_up_s: float | None = None
    forks_s: float | None = None
    """This long after the answer the same channel offers another leg (a transfer or a fork)."""


@dataclass(slots=True)
class SimulatedCall:
    """A call as it truly was. Times: seconds of the loop; the switch's own stamps are those plus its skew."""

    call_id: str
    plan: CallPlan
    offered_s: float
    stage: str = "waiting"
    """waiting, ringing, talking, over"""
    grant_s: float | None = None
    admitted_s: float | None = None
    refused_s: float | None = None
    answered_s: float | None = None
    ended_s: float | None = None
    limit_s: float | None = None
    """When the switch will end it."""
    longest_limit_s: float = 0.0
    """The longest talk time the switch was ever told."""
    ended_by: str = ""
    dial_status: str = ""
    record: SwitchRecord | None = None
    keeps_record: bool = True
    answer_told: bool = False
    hangup_told: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    limit_timer: asyncio.TimerHandle | None = None


class SimulatedSwitch:
    """`watch_limit` is told each limit as it is set; `trace` each thing that happens."""

    def __init__(  # noqa: PLR0917 - its parts
        self,
        name: str,
        loop: SimulatedLoop,
        rng: Random,
        faults: Callable[[], Faults],
        start: datetime,
        limit_late_s: float,
    ) -> None:
        self.name = name
        self._loop, self._rng, self._faults = loop, rng, faults
        self._start, self._skew_s, self._limit_late_s = start, faults().skew_s, limit_late_s
        self.calls: dict[str, SimulatedCall] = {}
        self.may_act: Callable[[], bool] = lambda: True
        self.ahead_s = self._skew_s + rng.uniform(-0.02, 0.02)
        """As the controller measures it."""
        self.linked = True
        self.up = True
        self.restarted_s: list[float] = []
        self.watch_limit: Callable[[SimulatedCall, float | None], None] = lambda _call, _total_s: None
        self.watch_cut: Callable[[SimulatedCall], None] = lambda _call: None
        self.trace: Callable[[str, str], None] = lambda _what, _call_id: None
        self._tell: Callable[[SwitchEvent], None] | None = None
        self._listener = contextvars.copy_context()
        self._owner = ""
        self._last_delivery_s = 0.0

    # -- what happens on it --------------------------------------------------------------------------------------------

    def offer(self, number: str, plan: CallPlan) -> None:
        """A channel comes to the dialplan."""
        if not self.up:
            return
        call = SimulatedCall(f"{self.name}:{number}", plan, self._loop.time())
        call.keeps_record = self._rng.random() >= self._faults().record_lost
        self.calls[call.call_id] = call
        self.trace("offer", call.call_id)
        self._say(self._offered(call))
        self._after(call, GUARD_S, self._undecided)
        if plan.hangs_up_s is not None:
            self._after(call, plan.hangs_up_s, self._caller_gives_up)

    def cut(self) -> None:
        """The link breaks; calls go on."""
        if self.linked:
            self.linked = False
            self._tell_now(LinkDown(self.name))

    def mend(self) -> None:
        """The link stands again."""
        if not self.linked and self.up:
            self.linked = True
            self._tell_now(LinkUp(self.name))

    def die(self) -> None:
        """Everything on it is gone at once, and it says nothing any more."""
        self.trace("switch dies", self.name)
        self.cut()
        self.up = False
        self.restarted_s.append(self._loop.time())
        for call in self.calls.values():
            if call.stage != "over":
                noted = call.record
                self._over(call, "switch died")
                # It noted the answer at most; the end it could not note any more.
                call.record = noted

    def come_back(self) -> None:
        """Started again, empty."""
        self.trace("switch is back", self.name)
        self.up = True
        self.mend()

    def disconnect(self) -> None:
        """Whoever listened is dead."""
        self._tell = None

    def _undecided(self, call: SimulatedCall) -> None:
        if call.stage == "waiting":
            self._end(call, "switch", dial_status="failed")

    def _caller_gives_up(self, call: SimulatedCall) -> None:
        if call.stage in ("waiting", "ringing"):
            self._end(call, "caller", dial_status="cancelled")

    def _nobody_answers(self, call: SimulatedCall) -> None:
        if call.stage == "ringing":
            self._end(call, "switch", dial_status="busy" if call.plan.busy else "no_answer")

    def _answer(self, call: SimulatedCall) -> None:
        if call.stage != "ringing":
            return
        call.stage, call.answered_s = "talking", self._loop.time()
        self.trace("answered", call.call_id)
        if call.keeps_record:
            call.record = SwitchRecord(call.call_id, self._stamp(call.answered_s), None, 0)
        self._limit(call, call.grant_s)
        self._after(call, call.plan.talks_s, lambda it: self._end(it, "callee"))
        if call.plan.forks_s is not None:
            self._after(call, call.plan.forks_s, self._fork)
        self._say(CallAnswered(call.call_id, self._stamp(call.answered_s)))

    def _fork(self, call: SimulatedCall) -> None:
        if call.stage == "talking":
            plan = CallPlan(call.plan.account_code, call.plan.callee, talks_s=call.plan.talks_s)
            self.offer(f"{call.call_id.partition(':')[2]}~2", plan)

    def _limit(self, call: SimulatedCall, left_s: float | None) -> None:
        now = self._loop.time()
        if call.limit_timer:
            call.limit_timer.cancel()
        talked = now - (call.answered_s if call.answered_s is not None else now)
        self.watch_limit(call, None if left_s is None else talked + left_s)
        call.limit_s = None
        if left_s is not None:
            call.limit_s = now + left_s
            call.longest_limit_s = max(call.longest_limit_s, talked + left_s)
            late = self._rng.uniform(0, self._limit_late_s)
            call.limit_timer = self._loop.later(left_s + late, self._cut, call)

    def _cut(self, call: SimulatedCall) -> None:
        self.watch_cut(call)
        self._end(call, "limit")

    def _end(self, call: SimulatedCall, by: str, *, dial_status: str = "") -> None:
        if call.stage == "over":
            return
        answered = call.answered_s
        self._over(call, by)
        assert call.ended_s is not None
        call.dial_status = dial_status if answered is None else ""
        if call.keeps_record:
            stamp = None if answered is None else self._stamp(answered)
            call.record = SwitchRecord(call.call_id, stamp, self._stamp(call.ended_s), 16)
        self._say(
            CallEnded(
                call.call_id,
                self._stamp(call.ended_s),
                16,
                call.dial_status,
                "switch" if by in ("limit", "controller") else by,
                answered_at=None if answered is None else self._stamp(answered),
            )
        )

    def _over(self, call: SimulatedCall, by: str) -> None:
        self.trace(f"over by {by}", call.call_id)
        call.stage, call.ended_s, call.ended_by = "over", self._loop.time(), by
        for timer in [*call.timers, *([call.limit_timer] if call.limit_timer else [])]:
            timer.cancel()
        call.timers.clear()

    def _after(self, call: SimulatedCall, delay_s: float, act: Callable[[SimulatedCall], object]) -> None:
        call.timers.append(self._loop.later(delay_s, act, call))

    def _stamp(self, at_s: float) -> datetime:
        return self._start + timedelta(microseconds=round((at_s + self._skew_s) * 1_000_000))

    def stamp(self, at_s: float) -> datetime:
        """Return a moment by the switch's own clock."""
        return self._stamp(at_s)

    def _offered(self, call: SimulatedCall) -> CallOffered:
        plan = call.plan
        at = self._stamp(call.offered_s)
        return CallOffered(call.call_id, at, Direction.OUTBOUND, plan.account_code, "1001", plan.callee)

    # -- events out ----------------------------------------------------------------------------------------------------

    def _say(self, event: SwitchEvent) -> None:
        faults = self._faults()
        if not self.linked or self._tell is None or self._rng.random() < faults.event_lost:
            return
        for _ in range(2 if self._rng.random() < faults.event_doubled else 1):
            delay = self._rng.expovariate(1 / 0.002)
            if self._rng.random() < faults.event_late:
                delay += self._rng.uniform(0, 3.0)
            elif not faults.event_late:
                # One link, in order, unless this seed's world is one where the order is lost.
                due = max(self._loop.time() + delay, self._last_delivery_s + 1e-6)
                self._last_delivery_s = due
                delay = due - self._loop.time()
            self._loop.later(delay, self._deliver, self._tell, self._listener, event)

    def _deliver(self, tell: Callable[[SwitchEvent], None], context: contextvars.Context, event: SwitchEvent) -> None:
        if self._tell is not tell or not self.linked:
            return
        self.trace(f"hears {type(event).__name__}", getattr(event, "call_id", ""))
        if isinstance(event, CallAnswered) or (isinstance(event, CallEnded) and event.answered_at):
            self.calls[event.call_id].answer_told = True
        context.copy().run(tell, event)

    def _tell_now(self, event: SwitchEvent) -> None:
        if self._tell is not None and not self._loop.is_dead(self._owner):
            self._listener.copy().run(self._tell, event)

    # -- the port ------------------------------------------------------------------------------------------------------

    async def start(self, tell: Callable[[SwitchEvent], None]) -> None:
        self._tell, self._listener, self._owner = tell, contextvars.copy_context(), OWNER.get()
        if self.linked:
            self._loop.later(0.01, self._greet, tell)

    def _greet(self, tell: Callable[[SwitchEvent], None]) -> None:
        if self._tell is tell and self.linked:
            self._tell_now(LinkUp(self.name))

    async def stop(self) -> None:
        self._tell = None

    def _command(self, what: str, call_id: str, act: Callable[[SimulatedCall], Outcome]) -> asyncio.Future[Outcome]:
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        if not self.linked:
            answer.set_result(Outcome.UNKNOWN)
            return answer
        self._loop.later(COMMAND_S, _settle, answer, Outcome.UNKNOWN)
        faults = self._faults()
        if self._rng.random() < faults.command_lost:
            return answer

        def arrive() -> None:
            if not self.up:
                return
            call = self.calls.get(call_id)
            outcome = Outcome.GONE if call is None or call.stage == "over" else act(call)
            self.trace(f"{what}: {outcome.value}", call_id)
            if self._rng.random() >= faults.command_unheard:
                self._loop.later(self._rng.expovariate(1 / 0.002), _settle, answer, outcome)

        self._loop.later(self._rng.expovariate(1 / 0.002), arrive)
        return answer

    async def _question(self, ask: Callable[[], Any]) -> Any:
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.linked:

            def arrive() -> None:
                if self.up and self._rng.random() >= self._faults().command_lost:
                    self._loop.later(self._rng.expovariate(1 / 0.005), _settle, answer, ask())

            self._loop.later(self._rng.expovariate(1 / 0.005), arrive)
            self._loop.later(COMMAND_S, _settle, answer, SwitchUnavailable)
        else:
            answer.set_result(SwitchUnavailable)
        found = await answer
        if found is SwitchUnavailable:
            raise SwitchUnavailable
        return found

    async def admit(self, call_id: str, *, grant_s: float | None, ring_s: int) -> Outcome:
        def act(call: SimulatedCall) -> Outcome:
            if call.stage == "waiting":
                call.stage, call.grant_s, call.admitted_s = "ringing", grant_s, self._loop.time()
                self.watch_limit(call, grant_s)
                plan = call.plan
                if plan.answered and plan.rings_s < ring_s:
                    self._after(call, plan.rings_s, self._answer)
                else:
                    self._after(call, min(plan.rings_s, ring_s), self._nobody_answers)
            return Outcome.DONE

        return await self._command(f"admit {grant_s}", call_id, act)

    async def refuse(self, call_id: str, refusal: Refusal) -> Outcome:
        def act(call: SimulatedCall) -> Outcome:
            call.refused_s = self._loop.time()
            self._end(call, "controller", dial_status="failed")
            return Outcome.DONE

        return await self._command(f"refuse {refusal.code}", call_id, act)

    async def set_limit(self, call_id: str, left_s: float | None) -> Outcome:
        def act(call: SimulatedCall) -> Outcome:
            if call.stage == "talking":
                self._limit(call, left_s)
            return Outcome.DONE

        return await self._command(f"limit {left_s}", call_id, act)

    async def warn(self, call_id: str) -> Outcome:
        return await self._command("warn", call_id, lambda _call: Outcome.DONE)

    async def hangup(self, call_id: str, *, cause: int = 16) -> Outcome:  # noqa: ARG002
        def act(call: SimulatedCall) -> Outcome:
            call.hangup_told = True
            self._end(call, "controller", dial_status="cancelled")
            return Outcome.DONE

        return await self._command("hangup", call_id, act)

    async def live_calls(self) -> list[LiveCall]:
        found: list[LiveCall] = await self._question(self._living)
        for seen in found:
            if seen.answered_at:
                self.calls[seen.call_id].answer_told = True
        return found

    def _living(self) -> list[LiveCall]:
        now = self._loop.time()
        return [
            LiveCall(
                call_id,
                call.stage == "waiting",
                Direction.OUTBOUND,
                call.plan.account_code,
                "1001",
                call.plan.callee,
                None if call.answered_s is None else self._stamp(call.answered_s),
                None if call.limit_s is None else call.limit_s - now,
            )
            for call_id, call in self.calls.items()
            if call.stage != "over"
        ]

    async def record_of(self, call_id: str) -> SwitchRecord | None:
        def ask() -> SwitchRecord | None:
            call = self.calls.get(call_id)
            return call.record if call is not None and call.stage == "over" else None

        found: SwitchRecord | None = await self._question(ask)
        return found

    async def forget_record(self, call_id: str) -> None:
        await asyncio.sleep(0)
        if call_id in self.calls:
            self.trace("record forgotten", call_id)


def _settle(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)
