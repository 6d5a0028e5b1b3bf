"""The port: what a switch tells the controller, and what the controller asks of it.

A *call* is one billed leg. The adapter knows channels and legs; above it there are only calls. `call_id` is
`<switch>:<id of the channel that offered it>`, with `~2`, `~3` … where the same channel offers again after a transfer.
Each event is told at least once, perhaps twice, perhaps late; the controller copes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


class Direction(StrEnum):
    """Which way a charged call goes. OUTBOUND bills the carrier leg, INBOUND the leg that came in."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"


@dataclass(frozen=True, slots=True)
class CallOffered:
    """A channel waits for admission. `account_code` comes from the switch's configuration, never from the caller."""

    call_id: str
    at: datetime
    direction: Direction
    account_code: str
    caller: str
    callee: str


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """The billed leg was answered, by the switch's own clock. Told again where the leg changed hands by a transfer."""

    call_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The billed leg (or an offer that never got one) is over, by the switch's own clock.

    `cause` is Q.850, 0 where unknown. `dial_status` where never answered: busy, no_answer, cancelled, failed.
    `hung_up_by`: caller, callee, switch or "". `answered_at` where the switch tells it with the end (the answer may
    have been missed).
    """

    call_id: str
    at: datetime
    cause: int
    dial_status: str = ""
    hung_up_by: str = ""
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The link to the switch stands (again). Live calls must be compared now."""

    switch: str


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link broke: nothing is known of any call until it is up again."""

    switch: str


SwitchEvent = CallOffered | CallAnswered | CallEnded | LinkUp | LinkDown


class Outcome(StrEnum):
    """What became of a command. UNKNOWN (time-out, link down) is neither yes nor no."""

    DONE = "done"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a refused caller hears it: Q.850 cause and SIP status wanted; an adapter sends what its switch can."""

    code: str
    sip_status: int
    cause: int


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call the switch has now. `waiting`: offered and not yet admitted or refused; `limit_s`: what is left of it."""

    call_id: str
    waiting: bool
    direction: Direction
    account_code: str
    caller: str
    callee: str
    answered_at: datetime | None
    limit_s: float | None


@dataclass(frozen=True, slots=True)
class SwitchRecord:
    """What the switch itself noted of a call that ended while nobody listened.

    `ended_at` None: it noted the answer, but was ended itself before it could note the end.
    """

    call_id: str
    answered_at: datetime | None
    ended_at: datetime | None
    cause: int
    hung_up_by: str = ""


def ahead_of_us(there: datetime, now: datetime, took_s: float) -> timedelta:
    """Return how far a clock is ahead that said `there` in an answer which took so long and is here `now`.

    What the way of the answer alone explains is no difference.
    """
    half = timedelta(seconds=took_s / 2)
    apart = there - now + half
    return apart if abs(apart) > half else timedelta()


class SwitchUnavailable(Exception):
    """The switch could not be asked. This is not "no calls"."""


class Switch(Protocol):
    """A switch. Commands never raise for the switch's sake: they say DONE, GONE or UNKNOWN within their time-out."""

    name: str
    may_act: Callable[[], bool]
    """Asked before each command: where it says no, nothing is sent and the outcome is UNKNOWN. Set by who controls."""

    @property
    def ahead_s(self) -> float:
        """How far the switch's clock is ahead of ours, as last measured; 0.0 until then."""

    async def start(self, tell: Callable[[SwitchEvent], None]) -> None:
        """Connect, and stay connected (back-off, for ever); `tell` must not block."""

    async def stop(self) -> None:
        """Disconnect; calls go on."""

    async def admit(self, call_id: str, *, grant_s: float | None, ring_s: int) -> Outcome:
        """Let the call go on to ring for `ring_s` at most; from its answer it lives `grant_s` (None: unlimited)."""

    async def refuse(self, call_id: str, refusal: Refusal) -> Outcome:
        """End an offered call with this status."""

    async def set_limit(self, call_id: str, left_s: float | None) -> Outcome:
        """Let an answered call live `left_s` more seconds from now (fractions count; None: unlimited)."""

    async def warn(self, call_id: str) -> Outcome:
        """Let the people on the call hear that it will end soon."""

    async def hangup(self, call_id: str, *, cause: int = 16) -> Outcome:
        """End a call, in whatever state."""

    async def live_calls(self) -> list[LiveCall]:
        """Return every controlled call the switch has. Raises `SwitchUnavailable`."""

    async def record_of(self, call_id: str) -> SwitchRecord | None:
        """Return the switch's own note of a call that ended unseen, if it has one. Raises `SwitchUnavailable`."""

    async def forget_record(self, call_id: str) -> None:
        """The call is settled: the switch may drop its note. Best effort."""
