"""What the FreeSWITCH adapter remembers of calls, to name their channels and end them. The truth is on the switch."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import datetime

from callctl.switches import freeswitch_wire as wire
from callctl.switches.base import Outcome, Refusal
from callctl.switches.freeswitch_asks import Ask
from callctl.switches.tracked import Table


@dataclass(slots=True)
class TrackedCall:
    """A call: the channel that offered it, and the leg that is billed once that is known to be answered."""

    key: str
    channel: str
    facts: wire.Facts
    leg: str = ""
    answered_at: datetime | None = None
    ends_at: datetime | None = None
    """When it is to end, by the switch's clock; None: never by itself."""
    moved: bool = False
    """Its end was moved: the deadline is no longer the dialplan's own."""
    move: int = 0
    """The last move of its end: an older picture of the switch says nothing about it."""
    admitted: Outcome | None = None
    refusal: Refusal | None = None
    ended_by_us: bool = False
    timer: asyncio.TimerHandle | None = None
    ask: Ask | None = None
    """Where its channel waits for an answer, if it asked for itself."""
    told: bool = False
    """It was answered over the link, or is being answered: where its channel asks now, it need not wait."""
    missed: int = 0
    """Comparisons with the switch in a row that did not show it."""

    @property
    def deadline_group(self) -> str:
        """Return the name that the switch's scheduler knows the deadline by."""
        if self.moved and self.ends_at is not None:
            return f"{self.leg}~{wire.micros_of(self.ends_at)}"
        return self.leg


class CallTable(Table[TrackedCall]):
    """Calls by key."""

    def track(self, key: str, facts: wire.Facts) -> TrackedCall:
        """Return the call of this key, new if need be. Raises `HostileText`."""
        call = self._by_key.get(key)
        if call is None:
            call = self._by_key[key] = TrackedCall(key, wire.split_key(key)[0], facts)
        return call

    def adopt(
        self, notes: wire.Notes, living: set[str], *, move: int, besides: Container[str]
    ) -> Iterator[tuple[TrackedCall, bool]]:
        """Remember the calls that are noted on the switch, but for some; yield each, and whether its end is news.

        `move` is the last move of an end before the switch was asked. Calls may come and go between two of them.
        """
        for key, (state, facts) in notes.offers.items():
            if wire.split_key(key)[0] in living and key not in besides:
                call = self.track(key, facts)
                if state is wire.OfferState.ADMITTED:
                    call.admitted = Outcome.DONE
                yield call, False
        for key, note in notes.legs.items():
            if note.ended_at is None and note.leg in living and key not in besides:
                call = self.track(key, note.facts)
                call.admitted, call.leg, call.answered_at = Outcome.DONE, note.leg, note.answered_at
                moved = False
                if call.move <= move:
                    ends_at = notes.ends_at(key, note)
                    moved = ends_at != call.ends_at or (ends_at is not None and call.timer is None)
                    call.ends_at, call.moved = ends_at, key in notes.until
                yield call, moved

    def forget(self, call: TrackedCall) -> None:
        """The call is over."""
        if call.timer is not None:
            call.timer.cancel()
            call.timer = None
        if call.ask is not None:
            call.ask.close()
            call.ask = None
        super().forget(call)

    def forget_all(self) -> None:
        """Stop every timer."""
        for call in list(self._by_key.values()):
            self.forget(call)
