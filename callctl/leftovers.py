"""What a controller that waits still has in its journal: calls that it ended while it led, or that a dead one left.

They go to SQL now, and not when it leads again, which may be never. Until then what they cost is held: where Redis lost
its data, by us, since whoever leads knows nothing of them. All other holds are the leader's to change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from billing import outbox
from billing.cdrs import EndedCall, Settled, settle
from billing.credit.store import CreditStore
from billing.errors import BillingError, CreditUnavailable, TooLarge
from billing.ledger import Applied
from billing.ports import Clock, to_ms
from billing.store import work
from callctl.journal import Entry, Journal, JournalBroken
from callctl.owed import LOOK_S, Owed
from callctl.settler import shares_of

log = structlog.get_logger(__name__)

SURELY_OVER_S = 15.0
"""No offer waits so long on a switch (ten seconds): what was refused and not heard is offered to nobody any more."""
ON_ITS_WAY_S = 60.0
"""So long may the record of a call that is over be on its way to SQL from whoever leads."""
AGAIN_S = 5.0
BATCH = 500


class Leftovers:
    """`open_journal` makes the journal anew, each time; `journal` is the one that was made last."""

    def __init__(self, engine: Engine, credit: CreditStore, open_journal: Callable[[], Journal], clock: Clock) -> None:
        self._engine, self._credit, self._open_journal, self._clock = engine, credit, open_journal, clock
        self.journal: Journal | None = None

    async def settle(self) -> None:
        """Bring them to SQL, and return when none is left. To be begun once we wait, and cancelled before we lead.

        A refusal that its caller has not heard may be decided anew by who leads now: its record must not stand before
        that of a call which was let in. So nothing is written before every such offer is over, nor beside a hold.
        """
        journal = self.journal = self._open_journal()
        owed = Owed(self._credit, self._clock)
        write_mono = self._clock.monotonic() + SURELY_OVER_S
        try:
            waiting = {entry.ended.call_id: entry for entry in await journal.open()}
            while waiting:
                await owed.look(list(waiting.values()))
                left_s = write_mono - self._clock.monotonic()
                if left_s <= 0:
                    for call_id in await self._some(journal, waiting):
                        del waiting[call_id]
                    left_s = AGAIN_S
                    write_mono = self._clock.monotonic() + AGAIN_S
                if waiting:
                    await asyncio.sleep(min(left_s, LOOK_S))
        except JournalBroken as error:
            log.warning("leftovers_not_read", error=str(error))
        finally:
            await journal.close()

    async def _some(self, journal: Journal, waiting: Mapping[str, Entry]) -> list[str]:
        """Write what may be written; return which calls are done with, or left to who leads next."""
        try:
            free = [call_id for call_id, entry in waiting.items() if await self._is_free(entry.ended)]
        except CreditUnavailable:
            return []
        done: list[str] = []
        try:
            for at in range(0, len(free), BATCH):
                batch = [waiting[call_id].ended for call_id in free[at : at + BATCH]]
                written, postings = await self._written(batch)
                await self._tell(postings)
                journal.settled(written)
                done += free[at : at + BATCH]
        except (DBAPIError, CreditUnavailable) as error:
            log.warning("leftovers_put_off", error=type(error).__name__, calls=len(free) - len(done))
        if done:
            log.info("leftovers_settled", calls=len(done))
        return done

    async def _is_free(self, ended: EndedCall) -> bool:
        """Tell whether nobody has the call in hand.

        The finished hold of a call that costs something waits for this very record. Beside one that cost nothing it is
        another's: who leads has let the call in after all, and its record, with its price, is on the way. So it may be
        where there is no hold, but the call was ended a moment ago: the one that was let in may cost nothing as well.
        """
        hold = await self._credit.find_hold(ended.call_id)
        if any(share.amount_micros for share in shares_of(ended)):
            return hold is None or hold.finished
        since_ms = await self._credit.over_since(ended.call_id)
        return hold is None and (since_ms is None or to_ms(self._clock.now()) - since_ms >= ON_ITS_WAY_S * 1000)

    async def _tell(self, postings: Sequence[Applied]) -> None:
        """Tell Redis what was booked, though others may have: a hold that we made later than they told ends with it."""
        try:
            await outbox.apply_now(self._engine, self._credit, postings, clock=self._clock)
        except TooLarge as error:
            log.error("postings_not_applied", error=str(error))  # noqa: TRY400 - the sentence says it all

    async def _written(self, calls: Sequence[EndedCall]) -> tuple[list[str], list[Applied]]:
        """Return which of them are in SQL, with their postings; who leads next parks one that cannot be booked."""
        try:
            settled = await asyncio.to_thread(self._write, calls)
        except (BillingError, IntegrityError, DataError):
            if len(calls) == 1:
                return [], []
            each = [await self._written([call]) for call in calls]
            return [one for written, _ in each for one in written], [one for _, told in each for one in told]
        return [call.call_id for call in calls], list(settled.applied)

    def _write(self, calls: Sequence[EndedCall]) -> Settled:
        with work(self._engine) as session:
            return settle(session, calls, now=self._clock.now())
