"""A controller's connection to the simulated switch: the port's contract, over a line that loses, doubles and delays.

Every controller has one of its own, so that several may listen to one switch, and one of them be frozen.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from callctl.switches.base import (
    CallAnswered,
    CallEnded,
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
from tests.simulation.loop import OWNER

if TYPE_CHECKING:
    from tests.simulation.switch import SimulatedCall, SimulatedSwitch

COMMAND_S = 2.0
"""A command that is not answered by then is UNKNOWN."""


class SwitchLink:
    """One controller's. `ahead_s`: what the controller has measured of the switch's clock."""

    def __init__(self, switch: SimulatedSwitch, rng: Random, *, clock_ahead_s: float = 0.0) -> None:
        self.name = switch.name
        self._switch, self._rng = switch, rng
        self._loop, self._faults = switch.loop, switch.faults
        self.may_act: Callable[[], bool] = lambda: True
        self.ahead_s = switch.skew_s - clock_ahead_s + rng.uniform(-0.02, 0.02)
        self._tell: Callable[[SwitchEvent], None] | None = None
        self._listener = contextvars.copy_context()
        self.owner = ""
        self._last_delivery_s = 0.0

    # -- events out ----------------------------------------------------------------------------------------------------

    def say(self, event: SwitchEvent) -> None:
        """Send an event; it may be lost, doubled, late."""
        faults = self._faults()
        if not self._switch.linked or self._tell is None or self._rng.random() < faults.event_lost:
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
            self._loop.later(delay, self._deliver, self._tell, event)

    def _deliver(self, tell: Callable[[SwitchEvent], None], event: SwitchEvent) -> None:
        if self._tell is not tell or not self._switch.linked:
            return
        self._switch.trace(f"hears {type(event).__name__}", getattr(event, "call_id", ""))
        if isinstance(event, CallAnswered) or (isinstance(event, CallEnded) and event.answered_at):
            self._switch.calls[event.call_id].answer_told = True
        self._hear(event)

    def _hear(self, event: SwitchEvent) -> None:
        # A step of the listener's own: one that is frozen hears it when it wakes.
        if self._tell is not None:
            self._loop.call_soon(self._heard, self._tell, event, context=self._listener.copy())

    def _heard(self, tell: Callable[[SwitchEvent], None], event: SwitchEvent) -> None:
        if self._tell is tell:
            tell(event)

    def link_up(self) -> None:
        """Tell the controller that the line stands."""
        self._hear(LinkUp(self.name))

    def link_down(self) -> None:
        """Tell the controller that the line is broken."""
        self._hear(LinkDown(self.name))

    def disconnect(self) -> None:
        """Whoever listened is dead."""
        self._tell = None
        self._switch.links.discard(self)

    # -- the port ------------------------------------------------------------------------------------------------------

    async def start(self, tell: Callable[[SwitchEvent], None]) -> None:
        self._tell, self._listener, self.owner = tell, contextvars.copy_context(), OWNER.get()
        self._switch.links.add(self)
        if self._switch.linked:
            self._loop.later(0.01, self._greet, tell)

    def _greet(self, tell: Callable[[SwitchEvent], None]) -> None:
        if self._tell is tell and self._switch.linked:
            self.link_up()

    async def stop(self) -> None:
        self.disconnect()

    def _command(self, what: str, call_id: str, act: Callable[[SimulatedCall], Outcome]) -> asyncio.Future[Outcome]:
        switch = self._switch
        answer: asyncio.Future[Outcome] = self._loop.create_future()
        if not switch.linked or not self.may_act():
            answer.set_result(Outcome.UNKNOWN)
            return answer
        switch.watch_command(self, what, call_id)
        self._loop.later(COMMAND_S, _settle, answer, Outcome.UNKNOWN)
        faults = self._faults()
        if self._rng.random() < faults.command_lost:
            return answer
        lost = {"refuse": faults.refusal_lost, "limit": faults.limit_lost}.get(what.partition(" ")[0])
        if lost and self._rng.random() < lost:
            return answer

        def arrive() -> None:
            if not switch.up:
                return
            call = switch.calls.get(call_id)
            outcome = Outcome.GONE if call is None or call.stage == "over" else act(call)
            switch.trace(f"{what}: {outcome.value}", call_id)
            if self._rng.random() >= faults.command_unheard:
                self._loop.later(self._rng.expovariate(1 / 0.002), _settle, answer, outcome)

        self._loop.later(self._rng.expovariate(1 / 0.002), arrive)
        return answer

    async def _question(self, ask: Callable[[], Any]) -> Any:
        switch = self._switch
        answer: asyncio.Future[Any] = self._loop.create_future()
        if switch.linked:

            def arrive() -> None:
                if switch.up and self._rng.random() >= self._faults().command_lost:
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
            self._switch.ring(call, grant_s, ring_s)
            return Outcome.DONE

        return await self._command(f"admit {grant_s}", call_id, act)

    async def refuse(self, call_id: str, refusal: Refusal) -> Outcome:
        def act(call: SimulatedCall) -> Outcome:
            self._switch.turn_away(call)
            return Outcome.DONE

        return await self._command(f"refuse {refusal.code}", call_id, act)

    async def set_limit(self, call_id: str, left_s: float | None) -> Outcome:
        def act(call: SimulatedCall) -> Outcome:
            if call.stage == "talking":
                self._switch.limit(call, left_s)
            return Outcome.DONE

        return await self._command(f"limit {left_s}", call_id, act)

    async def warn(self, call_id: str) -> Outcome:
        return await self._command("warn", call_id, lambda _call: Outcome.DONE)

    async def hangup(self, call_id: str, *, cause: int = 16) -> Outcome:  # noqa: ARG002
        def act(call: SimulatedCall) -> Outcome:
            call.hangup_told = True
            self._switch.end(call, "controller", dial_status="cancelled")
            return Outcome.DONE

        return await self._command("hangup", call_id, act)

    async def live_calls(self) -> list[LiveCall]:
        found: list[LiveCall] = await self._question(self._living)
        for seen in found:
            if seen.answered_at:
                self._switch.calls[seen.call_id].answer_told = True
        return found

    def _living(self) -> list[LiveCall]:
        now, switch = self._loop.time(), self._switch
        return [
            LiveCall(
                call_id,
                call.stage == "waiting",
                Direction.OUTBOUND,
                call.plan.account_code,
                "1001",
                call.plan.callee,
                None if call.answered_s is None else switch.stamp(call.answered_s),
                None if call.limit_s is None else call.limit_s - now,
            )
            for call_id, call in switch.calls.items()
            if call.stage != "over"
        ]

    async def record_of(self, call_id: str) -> SwitchRecord | None:
        def ask() -> SwitchRecord | None:
            call = self._switch.calls.get(call_id)
            return call.record if call is not None and call.stage == "over" else None

        found: SwitchRecord | None = await self._question(ask)
        return found

    async def forget_record(self, call_id: str) -> None:
        await asyncio.sleep(0)
        if call_id in self._switch.calls:
            self._switch.trace("record forgotten", call_id)


def _settle(answer: asyncio.Future[Any], value: Any) -> None:
    if not answer.done():
        answer.set_result(value)
