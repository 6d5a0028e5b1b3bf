"""A look at all calls of a FreeSWITCH: its notes and its channels, asked over a connection of their own.

There may be fifty thousand. They are read and learnt some at a time, and calls go on meanwhile: what the notes say of a
call that has ended by now is not believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Container
from datetime import datetime
from typing import TypeVar

from callctl.pieces import in_pieces
from callctl.switches import freeswitch_wire as wire
from callctl.switches.base import LiveCall, SwitchUnavailable
from callctl.switches.esl import EslLink
from callctl.switches.freeswitch_calls import CallTable, TrackedCall

LONG_TEXT = 256 * 1024
Parsed = TypeVar("Parsed")


class Look:
    """Looks at one switch, one look at a time, and uses its adapter's hands.

    `arm` sets the timer for a call's exact end, `leave` sends what nobody waits for, `existing` returns which of some
    channels live (and raises `SwitchUnavailable`), `moves` is the number of the last move of an end.
    """

    def __init__(
        self,
        switch: str,
        link: EslLink,
        calls: CallTable,
        *,
        arm: Callable[[TrackedCall], None],
        leave: Callable[..., None],
        existing: Callable[[set[str]], Awaitable[set[str]]],
        now: Callable[[], datetime],
        moves: Callable[[], int],
    ) -> None:
        self._switch, self._link, self._calls = switch, link, calls
        self._arm, self._leave, self._existing, self._now, self._moves = arm, leave, existing, now, moves
        self._stale: set[str] = set()
        self._one = asyncio.Lock()

    async def live_calls(self) -> list[LiveCall]:
        """Learn the calls that the switch has, and forget those it has not shown for a while.

        Raises `SwitchUnavailable` where an answer did not come whole: what came of it says nothing of the rest.
        """
        async with self._one:
            with self._calls.looking() as over:
                return await self._look(over)

    async def _look(self, over: Container[str]) -> list[LiveCall]:
        if not self._link.up:
            raise SwitchUnavailable("no link")
        move = self._moves()
        dumped, listed = await self._link.ask_apart(wire.DUMP, wire.CHANNELS)
        notes = await _parsed(wire.parse_dump, dumped)
        channels = await _parsed(wire.parse_channels, listed)
        if notes.hostile:
            self._link.count_hostile("notes that nobody should have written")
        # The list lags behind: what it lacks is asked for by name before it counts as gone.
        noted = notes.channels()
        living = (noted & channels) | await self._existing(noted - channels)
        async for adopted in in_pieces(self._calls.adopt(notes, living, move=move, besides=over)):
            for call, moved in adopted:
                if moved:
                    self._arm(call)
        calls: dict[str, LiveCall] = {}
        async for some in in_pieces(wire.live_calls(self._switch, notes, living, self._now())):
            calls.update(some)
        await self._calls.drop_missing(calls)
        self._tidy(notes, living)
        return [call for key, call in calls.items() if key not in over]

    def _tidy(self, notes: wire.Notes, living: set[str]) -> None:
        """Delete the offers of channels that were gone the last time too, and moved ends of calls without a note."""
        gone = {f"callctl_offer/{key}" for key in notes.offers if wire.split_key(key)[0] not in living}
        gone |= {f"callctl_until/{key}" for key in notes.until if key not in notes.legs}
        self._leave(*(f"api hash delete/{name}" for name in sorted(gone & self._stale)))
        self._stale = gone - self._stale


async def _parsed(parse: Callable[[str], Parsed], text: str) -> Parsed:
    """Parse, a long text beside the loop: thousands of calls must not keep one waiting."""
    return await asyncio.to_thread(parse, text) if len(text) > LONG_TEXT else parse(text)
