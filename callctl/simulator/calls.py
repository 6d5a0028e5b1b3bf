"""A call of people on a simulated switch, whichever kind: what was planned, what it became, and when it is over."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Protocol

from billing.ports import Clock
from callctl.simulator.faults import Faults
from callctl.simulator.plans import CallFacts, CallPlan, Side


class Phase(Enum):
    """Where an attempt's channel is."""

    WAITING = auto()
    RINGING = auto()
    TALKING = auto()
    OVER = auto()


class Leg(Protocol):
    """A channel, as tests see it."""

    @property
    def unique_id(self) -> str:
        """The switch's id of it."""


class Attempt(Protocol):
    """A channel's way from an offer to the end of what it dialled."""

    call_id: str
    facts: CallFacts

    @property
    def channel(self) -> Leg:
        """The channel that offers."""

    @property
    def leg(self) -> Leg | None:
        """What it dialled."""

    def offer(self) -> None:
        """Pass the door and wait for the controller."""

    def somebody_hangs_up(self, side: Side) -> None:
        """A phone says BYE, or CANCEL."""

    def lose(self) -> None:
        """The switch died."""


class Floor(Protocol):
    """What a call needs of its switch, of whatever kind."""

    clock: Clock
    loop: asyncio.AbstractEventLoop

    def forget(self, call: SimulatedCall) -> None:
        """Forget a call that is over."""


class SimulatedCall:
    """One plan carried out. `legs`: facts of each offer in order; `facts` is the first one's."""

    def __init__(self, floor: Floor, plan: CallPlan) -> None:
        self.floor = floor
        self.plan = plan
        self.attempts: list[Attempt] = []
        self.legs: list[CallFacts] = []
        self.channels: set[str] = set()
        self._over: asyncio.Future[CallFacts] | None = None
        self.ended = False

    @property
    def facts(self) -> CallFacts:
        """What happened on the first billed leg."""
        return self.legs[0]

    @property
    def call_id(self) -> str:
        """The id of the first offer, without the switch's name."""
        return self.attempts[0].call_id if self.attempts else ""

    async def over(self) -> CallFacts:
        """Wait until no channel of the call is left."""
        if not self.ended:
            if self._over is None:
                self._over = self.floor.loop.create_future()
            await asyncio.shield(self._over)
        return self.facts

    def hang_up(self, side: Side = Side.CALLER) -> None:
        """Let somebody hang up now, whatever the plan says."""
        self.attempts[-1].somebody_hangs_up(side)

    def begin(self, attempt: Attempt) -> None:
        """Begin an attempt on a channel of this call."""
        self.legs.append(attempt.facts)
        self.attempts.append(attempt)
        self.channels.add(attempt.channel.unique_id)
        attempt.offer()

    def refuse_at_the_door(self, cause: int, sip: int) -> None:
        """No extension matched: nothing is told."""
        now = self.floor.clock.now()
        facts = CallFacts(offered_at=now, refused_cause=cause, refused_sip=sip, ended_at=now, cause=cause)
        self.legs.append(facts)
        self.finish()

    def lose(self) -> None:
        """The switch died under the call."""
        for attempt in self.attempts:
            attempt.lose()
        self.finish()

    def left(self, channel: Leg) -> None:
        """A channel of the call is gone."""
        self.channels.discard(channel.unique_id)
        if not self.channels:
            self.finish()

    def finish(self) -> None:
        """Say that the call is over, once."""
        self.ended = True
        self.floor.forget(self)
        if self._over is not None and not self._over.done():
            self._over.set_result(self.facts)


class SimulatedSwitch(Protocol):
    """A simulated switch of whatever kind, as tests and the demo handle it."""

    faults: Faults
    calls: dict[SimulatedCall, None]
    calls_placed: int
    gosub_s: float
    """How long the dialplan takes at an answer, after the event that tells of it."""

    @property
    def port(self) -> int:
        """Where its interface listens."""

    def place(self, plan: CallPlan) -> SimulatedCall:
        """Let somebody call."""

    def join(self, first: SimulatedCall, second: SimulatedCall) -> None:
        """Let the telephone that talks in both calls join their far ends, and leave (an attended transfer)."""

    def cut_link(self, seconds: float, *, silent: bool = False) -> None:
        """Break the link for a while: reset and refused or, `silent`, stuck until then."""

    def restart(self, down_s: float = 0.05) -> None:
        """Kill the switch and start it again: no event tells of the calls."""

    def send_raw(self, data: bytes) -> None:
        """Write these very bytes to every client, among the true events."""
