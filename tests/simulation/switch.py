"""A switch in virtual time that keeps the port's contract, with faults: it knows the truth about every call.

Each call has a plan: what its people do. The switch offers it, lets it ring once admitted, enforces its limit, notes
its record. Events may be lost, doubled, late or out of order; commands and their answers may be lost; the link may be
cut; it may restart, and then every call on it is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction, SwitchEvent, SwitchRecord
from tests.simulation.link import SwitchLink
from tests.simulation.loop import SimulatedLoop
from tests.simulation.options import Faults

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
        self.loop, self._rng, self.faults = loop, rng, faults
        self._start, self.skew_s, self._limit_late_s = start, faults().skew_s, limit_late_s
        self.calls: dict[str, SimulatedCall] = {}
        self.links: set[SwitchLink] = set()
        self.linked = True
        self.unlinked_s: float | None = None
        """Since when no word reaches it; None where it does."""
        self.up = True
        self.restarted_s: list[float] = []
        self.watch_limit: Callable[[SimulatedCall, float | None], None] = lambda _call, _total_s: None
        self.watch_admit: Callable[[SimulatedCall], None] = lambda _call: None
        self.watch_cut: Callable[[SimulatedCall], None] = lambda _call: None
        self.watch_command: Callable[[SwitchLink, str, str], None] = lambda _link, _what, _call_id: None
        self.trace: Callable[[str, str], None] = lambda _what, _call_id: None

    # -- what happens on it --------------------------------------------------------------------------------------------

    def offer(self, number: str, plan: CallPlan) -> None:
        """A channel comes to the dialplan."""
        if not self.up:
            return
        call = SimulatedCall(f"{self.name}:{number}", plan, self.loop.time())
        call.keeps_record = self._rng.random() >= self.faults().record_lost
        self.calls[call.call_id] = call
        self.trace("offer", call.call_id)
        self._say(self._offered(call))
        self._after(call, GUARD_S, self._undecided)
        if plan.hangs_up_s is not None:
            self._after(call, plan.hangs_up_s, self._caller_gives_up)

    def cut(self) -> None:
        """The link breaks; calls go on."""
        if self.linked:
            self.linked, self.unlinked_s = False, self.loop.time()
            for link in self._all():
                link.link_down()

    def mend(self) -> None:
        """The link stands again."""
        if not self.linked and self.up:
            self.linked, self.unlinked_s = True, None
            for link in self._all():
                link.link_up()

    def die(self) -> None:
        """Everything on it is gone at once, and it says nothing any more."""
        self.trace("switch dies", self.name)
        self.cut()
        self.up = False
        self.restarted_s.append(self.loop.time())
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

    def _all(self) -> list[SwitchLink]:
        return sorted(self.links, key=lambda link: link.owner)

    def _say(self, event: SwitchEvent) -> None:
        for link in self._all():
            link.say(event)

    def ring(self, call: SimulatedCall, grant_s: float | None, ring_s: int) -> None:
        """Let a call that waits go on; from its answer it may live so long."""
        if call.stage != "waiting":
            return
        call.stage, call.grant_s, call.admitted_s = "ringing", grant_s, self.loop.time()
        self.watch_limit(call, grant_s)
        self.watch_admit(call)
        plan = call.plan
        if plan.answered and plan.rings_s < ring_s:
            self._after(call, plan.rings_s, self._answer)
        else:
            self._after(call, min(plan.rings_s, ring_s), self._nobody_answers)

    def turn_away(self, call: SimulatedCall) -> None:
        """End a call that was refused."""
        call.refused_s = self.loop.time()
        self.end(call, "controller", dial_status="failed")

    def _undecided(self, call: SimulatedCall) -> None:
        if call.stage == "waiting":
            self.end(call, "switch", dial_status="failed")

    def _caller_gives_up(self, call: SimulatedCall) -> None:
        if call.stage in ("waiting", "ringing"):
            self.end(call, "caller", dial_status="cancelled")

    def _nobody_answers(self, call: SimulatedCall) -> None:
        if call.stage == "ringing":
            self.end(call, "switch", dial_status="busy" if call.plan.busy else "no_answer")

    def _answer(self, call: SimulatedCall) -> None:
        if call.stage != "ringing":
            return
        call.stage, call.answered_s = "talking", self.loop.time()
        self.trace("answered", call.call_id)
        if call.keeps_record:
            call.record = SwitchRecord(call.call_id, self._stamp(call.answered_s), None, 0)
        self.limit(call, call.grant_s)
        self._after(call, call.plan.talks_s, lambda it: self.end(it, "callee"))
        if call.plan.forks_s is not None:
            self._after(call, call.plan.forks_s, self._fork)
        self._say(CallAnswered(call.call_id, self._stamp(call.answered_s)))

    def _fork(self, call: SimulatedCall) -> None:
        if call.stage == "talking":
            plan = CallPlan(call.plan.account_code, call.plan.callee, talks_s=call.plan.talks_s)
            self.offer(f"{call.call_id.partition(':')[2]}~2", plan)

    def limit(self, call: SimulatedCall, left_s: float | None) -> None:
        """Let a call live so much longer."""
        now = self.loop.time()
        if call.limit_timer:
            call.limit_timer.cancel()
        talked = now - (call.answered_s if call.answered_s is not None else now)
        self.watch_limit(call, None if left_s is None else talked + left_s)
        call.limit_s = None
        if left_s is not None:
            call.limit_s = now + left_s
            call.longest_limit_s = max(call.longest_limit_s, talked + left_s)
            late = self._rng.uniform(0, self._limit_late_s)
            call.limit_timer = self.loop.later(left_s + late, self._cut, call)

    def _cut(self, call: SimulatedCall) -> None:
        self.watch_cut(call)
        self.end(call, "limit")

    def end(self, call: SimulatedCall, by: str, *, dial_status: str = "") -> None:
        """End a call that lives, note it and tell whoever listens."""
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
        call.stage, call.ended_s, call.ended_by = "over", self.loop.time(), by
        for timer in [*call.timers, *([call.limit_timer] if call.limit_timer else [])]:
            timer.cancel()
        call.timers.clear()

    def _after(self, call: SimulatedCall, delay_s: float, act: Callable[[SimulatedCall], object]) -> None:
        call.timers.append(self.loop.later(delay_s, act, call))

    def _stamp(self, at_s: float) -> datetime:
        return self._start + timedelta(microseconds=round((at_s + self.skew_s) * 1_000_000))

    def stamp(self, at_s: float) -> datetime:
        """Return a moment by the switch's own clock."""
        return self._stamp(at_s)

    def _offered(self, call: SimulatedCall) -> CallOffered:
        plan = call.plan
        at = self._stamp(call.offered_s)
        return CallOffered(call.call_id, at, Direction.OUTBOUND, plan.account_code, "1001", plan.callee)
