"""The brake on guessing PINs: who tries too many that nobody has is not listened to for a while.

A source is what the dialplan names behind the digest (`pin:<digest>@<endpoint>`), else the number that the call says it
comes from, each on its own switch. A source that is stopped hears what it would hear for a wrong PIN, even if the PIN
is right, and nothing is looked up. A right PIN takes nothing back: who has one could guess others with it in between.
All sources together are counted as well, and only ever told of: or one caller could lock everybody out.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from sqlalchemy.engine import Engine

from billing.alerts import raise_alert
from billing.catalogue import Catalogue
from billing.models import IdentityKind
from billing.ports import Clock
from billing.settings import PinSettings
from billing.store import work
from callctl import refusals
from callctl.admission import RING_S, Refused, decide
from callctl.switches.base import CallOffered, Direction
from callctl.terms import Terms

log = structlog.get_logger(__name__)

MOST_SOURCES: Final = 10_000
"""So many sources are remembered; beyond it the one that was silent the longest is forgotten."""
MOST_NAME: Final = 64
_BEGIN = f"{IdentityKind.PIN.value}:"


@dataclass(frozen=True, slots=True)
class Guesses:
    """What people are told: that a source was stopped, or (`source` None) that too many try all over."""

    switch: str
    source: str | None
    tries: int
    window_s: float
    pause_s: float

    def message(self) -> str:
        """Say it in a sentence."""
        within = f"within {self.window_s:.0f} s"
        if self.source is None:
            return f"{self.tries} PINs that nobody has were tried {within}, all in all: somebody may be guessing."
        who = self.source or "callers without a number"
        stopped = f"this source is not listened to for {self.pause_s:.0f} s"
        return f"{self.tries} PINs that nobody has were tried {within} by {who} on {self.switch}: {stopped}."


@dataclass(slots=True)
class Tries:
    """When a source told PINs that nobody has, and of which call the last one was."""

    at_mono: deque[float] = field(default_factory=deque)
    call_id: str = ""


class PinBrake:
    """One for a controller, in memory: who starts anew begins to count anew."""

    def __init__(
        self, settings: PinSettings, clock: Clock, tell: Callable[[Guesses], None], *, most_sources: int = MOST_SOURCES
    ) -> None:
        self.settings, self._clock, self._tell, self._most = settings, clock, tell, most_sources
        self.on = bool(settings.secret.get_secret_value())
        self.unknown = 0
        self.stopped = 0
        """Offers since the start: with a PIN that nobody has, and from a source that is stopped."""
        self._tries: OrderedDict[tuple[str, str], Tries] = OrderedDict()
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()
        """The sources that are stopped, in the order in which they are listened to again."""
        self._all: deque[float] = deque(maxlen=settings.warn_at)
        self._told_mono: float | None = None

    def decide(self, catalogue: Catalogue, offer: CallOffered, *, ring_s: float = RING_S) -> Terms | Refused:
        """Decide as for every call, but for a PIN of a source that is stopped."""
        source = source_of(offer) if self.on else None
        if source is None:
            return decide(catalogue, offer, ring_s=ring_s)
        if self.stops(source):
            self.stopped += 1
            return Refused(refusals.UNKNOWN_ACCOUNT)
        terms = decide(catalogue, offer, ring_s=ring_s)
        if isinstance(terms, Refused) and terms.refusal is refusals.UNKNOWN_ACCOUNT:
            self.missed(source, offer.call_id)
        return terms

    def stops(self, source: tuple[str, str]) -> bool:
        """Return whether a source is not listened to now."""
        now = self._clock.monotonic()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return source in self._until

    def missed(self, source: tuple[str, str], call_id: str) -> None:
        """Count a PIN that nobody has. The same offer, heard again, counts once."""
        now, window_s = self._clock.monotonic(), self.settings.window_s
        tries = self._tries.setdefault(source, Tries())
        self._tries.move_to_end(source)
        if tries.call_id == call_id:
            return
        tries.call_id = call_id
        tries.at_mono.append(now)
        while tries.at_mono[0] <= now - window_s:
            tries.at_mono.popleft()
        self.unknown += 1
        if len(tries.at_mono) >= self.settings.tries:
            self._stop(source, len(tries.at_mono), now)
        if len(self._tries) > self._most:
            self._tries.popitem(last=False)
        self._count_all(source[0], now)

    def _stop(self, source: tuple[str, str], tries: int, now: float) -> None:
        del self._tries[source]
        self._until[source] = now + self.settings.pause_s
        if len(self._until) > self._most:
            self._until.popitem(last=False)
        told = Guesses(source[0], source[1], tries, self.settings.window_s, self.settings.pause_s)
        log.warning("pin_source_stopped", switch=told.switch, source=told.source, tries=tries, pause_s=told.pause_s)
        self._tell(told)

    def _count_all(self, switch: str, now: float) -> None:
        window_s, full = self.settings.window_s, self.settings.warn_at
        self._all.append(now)
        if len(self._all) < full or self._all[0] <= now - window_s:
            return
        if self._told_mono is None or self._told_mono <= now - window_s:
            self._told_mono = now
            log.warning("pins_guessed_all_over", tries=full, window_s=window_s)
            self._tell(Guesses(switch, None, full, window_s, 0.0))


def source_of(offer: CallOffered) -> tuple[str, str] | None:
    """Return (switch, source) of an offer that a PIN shall pay, None for another."""
    if offer.direction is not Direction.OUTBOUND or not offer.account_code.startswith(_BEGIN):
        return None
    named = offer.account_code.partition("@")[2]
    return offer.call_id.partition(":")[0], (f"@{named}" if named else offer.caller)[:MOST_NAME]


def alert_people(engine: Engine, guesses: Guesses, *, now: datetime) -> None:
    """Raise the alert, unless the same one stands: one for each switch, and one for all."""
    facts: dict[str, Any] = {"tries": guesses.tries, "window_s": guesses.window_s, "pause_s": guesses.pause_s}
    kind, subject = "pins.guessed", f"switch:{guesses.switch}"
    if guesses.source is None:
        kind, subject = "pins.guessed_all_over", "pins"
    else:
        facts["source"] = guesses.source
    with work(engine) as session:
        raise_alert(session, kind=kind, subject=subject, message=guesses.message(), facts=facts, now=now)
