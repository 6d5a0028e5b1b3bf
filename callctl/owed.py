"""Holds what calls cost that ended under a controller which leads no more, and that SQL has not got yet.

Where Redis loses its data, whoever leads brings back the holds of its own calls; of these it knows nothing. It waits
for others before it lets anybody in, and that is when this is done. Changes no hold that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from billing.credit.store import CreditStore, Share
from billing.errors import CreditUnavailable, TooLarge
from billing.ports import Clock, to_ms
from callctl.journal import Entry

log = structlog.get_logger(__name__)

LOOK_S = 0.5
"""How often we look whether Redis has lost its data: who leads waits three seconds for us then."""
BATCH = 500


class Owed:
    """One for a time in which the same journal is not brought to SQL by who leads."""

    def __init__(self, credit: CreditStore, clock: Clock) -> None:
        self._credit, self._clock = credit, clock
        self._run = ""
        """The run of the server in which all of them are held, or remembered as over."""

    async def look(self, entries: Sequence[Entry]) -> None:
        """Hold what these cost, where Redis may have lost it. Each must be on disk, and be told of in the end."""
        try:
            run = await self._credit.filled()
            if run and run == self._run:
                return
            for start in range(0, len(entries), BATCH):
                await asyncio.gather(*(self._hold(entry) for entry in entries[start : start + BATCH]))
            self._run = run
        except CreditUnavailable as error:
            log.warning("owed_not_held", calls=len(entries), error=type(error).__name__)

    async def keep_looking(self, entries: Callable[[], Sequence[Entry]]) -> None:
        """Look for ever."""
        while True:
            await self.look(entries())
            await asyncio.sleep(LOOK_S)

    async def _hold(self, entry: Entry) -> None:
        shares = [Share(*share) for charge in entry.ended.charges for share in charge.shares()]
        if not entry.held or not any(share.amount_micros for share in shares):
            return
        call_id = entry.ended.call_id
        try:
            if await self._credit.owe(call_id, shares, now_ms=to_ms(self._clock.now())):
                log.info("cost_held_again", call_id=call_id)
        except TooLarge as error:
            log.warning("hold_not_restored", call_id=call_id, error=str(error))
