"""What the Asterisk adapter remembers of calls, to name their channels. A copy: the truth is on the switch."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime

from callctl.switches import asterisk_wire as wire
from callctl.switches.base import Direction, Outcome, Refusal
from callctl.switches.tracked import Table


@dataclass(slots=True)
class TrackedCall:
    """A call: the channel that offered it, and the leg that is billed once that is known to be answered."""

    key: str
    channel: str
    direction: Direction
    leg: str = ""
    answered_at: datetime | None = None
    admitted: Outcome | None = None
    refusal: Refusal | None = None
    ended_by_us: bool = False
    dial_status: str = ""
    missed: int = 0
    """Comparisons with the switch in a row that did not show it."""


class CallTable(Table[TrackedCall]):
    """Calls by key and by channel."""

    def __init__(self) -> None:
        super().__init__()
        self._by_channel: dict[str, tuple[str, ...]] = {}

    def __contains__(self, uniqueid: str) -> bool:
        """Tell whether a channel belongs to a call."""
        return uniqueid in self._by_channel

    def track(self, key: str, direction: Direction) -> TrackedCall:
        """Return the call of this key, new if need be. Raises `HostileText`."""
        call = self._by_key.get(key)
        if call is None:
            channel, _ = wire.split_key(key)
            call = self._by_key[key] = TrackedCall(key, channel, direction)
            self._note_channel(channel, key)
        return call

    def note_leg(self, call: TrackedCall, leg: str, answered_at: datetime) -> None:
        """The leg that is billed has answered."""
        call.leg, call.answered_at = leg, answered_at
        self._note_channel(leg, call.key)

    def _note_channel(self, channel: str, key: str) -> None:
        # Nearly every channel has one call: a tuple takes a quarter of the room of a set.
        known = self._by_channel.get(channel, ())
        if key not in known:
            self._by_channel[channel] = (*known, key)

    def adopt(self, channels: Iterable[wire.ChannelState], *, besides: Container[str] = ()) -> None:
        """Remember the calls that these channels belong to, but for some."""
        for channel in channels:
            offer, leg = channel.offer, channel.leg
            if (
                offer is not None
                and offer.state is not wire.OfferState.OVER
                and not channel.dialled_out
                and channel.offer_key not in besides
            ):
                call = self.track(channel.offer_key, offer.direction)
                if offer.state is wire.OfferState.ADMITTED:
                    call.admitted = Outcome.DONE
            if leg is not None and leg.key not in besides:
                call = self.track(leg.key, leg.direction)
                call.admitted = Outcome.DONE
                if channel.answered_at is not None:
                    self.note_leg(call, channel.uniqueid, channel.answered_at)

    def forget(self, call: TrackedCall) -> None:
        """The call is over."""
        super().forget(call)
        for channel in {call.channel, call.leg} - {""}:
            keys = tuple(key for key in self._by_channel.pop(channel, ()) if key != call.key)
            if keys:
                self._by_channel[channel] = keys

    def of_channel(self, uniqueid: str) -> list[TrackedCall]:
        """Return the calls that this channel offered or is the leg of."""
        return [self._by_key[key] for key in sorted(self._by_channel.get(uniqueid, ()))]

    def ending_with(self, uniqueid: str) -> list[TrackedCall]:
        """Return the calls that may be over when this channel is: not those whose billed leg is another."""
        return [call for call in self.of_channel(uniqueid) if call.leg in ("", uniqueid)]
