"""What happens to a call that is over: journal, trim the hold, SQL, Redis. In this order, each step safe to repeat.

    ended ─▶ journal (on disk) ─▶ credit.finish ─▶ SQL: record, charges, postings, outbox ─▶ credit.apply ─▶ forgotten

SQL or Redis may be away for hours: entries wait here and in the journal, and are tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from billing import outbox
from billing.cdrs import EndedCall, Settled, settle
from billing.credit.store import CreditStore, Share
from billing.errors import BillingError, CreditUnavailable, Fenced, TooLarge
from billing.ledger import Applied
from billing.ports import Clock, to_ms
from billing.store import work
from callctl.journal import Entry, Journal, JournalBroken

log = structlog.get_logger(__name__)

BATCH = 500
RETRY_S = 1.0
GATHER_S = 0.1
"""How long a batch gathers: a record more costs little, a batch more costs much."""
BETWEEN_S = 0.5
"""While calls keep ending, batches begin no oftener: at ten calls a second they were most of what a call cost."""


@dataclass(slots=True)
class Waiting:
    """An entry on its way: on disk, its hold trimmed in Redis, its record in SQL, its postings told to Redis."""

    entry: Entry
    journalled: bool = False
    trimmed: bool = False
    in_sql: bool = False


@dataclass(slots=True)
class Settler:
    """Takes ended calls; `on_settled` is told each batch once SQL has its records."""

    engine: Engine
    credit: CreditStore
    journal: Journal
    clock: Clock
    on_settled: Callable[[list[EndedCall]], None] = lambda _: None
    parked: int = 0
    _waiting: dict[str, Waiting] = field(default_factory=dict)
    _something: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def backlog(self) -> int:
        """Return how many ended calls are not settled yet."""
        return len(self._waiting)

    def has(self, call_id: str) -> bool:
        """Return whether a call that ended is still on its way."""
        return call_id in self._waiting

    def resume(self, entries: list[Entry]) -> None:
        """Take up what an earlier controller left in the journal."""
        for entry in entries:
            self._waiting.setdefault(entry.ended.call_id, Waiting(entry, journalled=True))
        self._something.set()

    async def take(self, ended: EndedCall, *, held: bool, trim: bool = True) -> None:
        """Write the call down and trim its hold, now or later; SQL follows by itself. Never raises: the entry waits."""
        waiting = Waiting(Entry(ended, held))
        self._waiting[ended.call_id] = waiting
        await self._write_down(waiting)
        if waiting.journalled and trim:
            # Only then: a finished hold is taken for a call that is written down, and nobody would settle it any more.
            await self._trim(waiting)
        self._something.set()

    async def trim(self, call_id: str) -> None:
        """Trim the hold of a call that is written down."""
        waiting = self._waiting.get(call_id)
        if waiting is not None and waiting.journalled:
            await self._trim(waiting)

    async def hold_again(self) -> None:
        """Hold anew what ended calls cost and SQL has not: the credit store lost data. Raises `CreditUnavailable`."""
        now_ms = to_ms(self.clock.now())
        for waiting in list(self._waiting.values()):
            shares = shares_of(waiting.entry.ended)
            if not waiting.entry.held or not any(share.amount_micros for share in shares):
                continue
            call_id = waiting.entry.ended.call_id
            await self.credit.restore(call_id, shares, now_ms=now_ms, deadline_ms=now_ms, facts="")
            await self.credit.finish(call_id, shares, now_ms=now_ms)

    async def drained(self, most_s: float) -> bool:
        """Wait until nothing is left to settle; False where that takes longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while self._waiting:  # noqa: ASYNC110 - only at a stop
                    await asyncio.sleep(0.02)
        return not self._waiting

    async def run(self) -> None:
        """Settle batches for ever."""
        self._something.set()  # begun anew after a break, something may wait already
        begun_mono = self.clock.monotonic() - BETWEEN_S
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting:
                if len(self._waiting) < BATCH:
                    await asyncio.sleep(max(GATHER_S, begun_mono + BETWEEN_S - self.clock.monotonic()))
                begun_mono = self.clock.monotonic()
                if not await self._settle_some():
                    await asyncio.sleep(RETRY_S)

    async def _settle_some(self) -> bool:
        """Bring the oldest entries one round further; False where something has to be tried again later."""
        for waiting in [w for w in self._waiting.values() if not w.journalled][:BATCH]:
            await self._write_down(waiting)
        batch = [waiting for waiting in self._waiting.values() if not waiting.in_sql][:BATCH]
        try:
            applied = await self._into_sql(batch) if batch else ()
            return await self._tell_redis(applied)
        except DBAPIError as error:
            log.warning("sql_unavailable", error=type(error).__name__, waiting=len(self._waiting))
            return False

    async def _into_sql(self, batch: list[Waiting]) -> tuple[Applied, ...]:
        """Write a batch; where one entry spoils it, write one by one and park that entry: all others go on."""
        try:
            settled = await asyncio.to_thread(self._write, [waiting.entry.ended for waiting in batch])
        except (BillingError, IntegrityError, DataError) as error:
            if len(batch) == 1:
                await self._park(batch[0], error)
                return ()
            applied: list[Applied] = []
            for waiting in batch:
                applied += await self._into_sql([waiting])
            return tuple(applied)
        for waiting in batch:
            waiting.in_sql = True
        self.on_settled([waiting.entry.ended for waiting in batch])
        return settled.applied

    async def _park(self, waiting: Waiting, error: Exception) -> None:
        """Put an entry aside for a person. Its hold stays: what cannot be booked must not be spent again."""
        call_id = waiting.entry.ended.call_id
        log.error("call_parked", call_id=call_id, error=f"{type(error).__name__}: {error}"[:500])
        self.parked += 1
        with contextlib.suppress(JournalBroken):
            await self.journal.park(call_id, f"{type(error).__name__}: {error}")
        self._waiting.pop(call_id, None)

    async def _tell_redis(self, applied: tuple[Applied, ...]) -> bool:
        """Trim, then apply. Where Redis is away the outbox and the journal keep what it must still hear."""
        told = [waiting for waiting in self._waiting.values() if waiting.in_sql]
        try:
            for waiting in told:
                try:
                    await self._trim_or_raise(waiting)
                except TooLarge as error:
                    await self._park(waiting, error)
            if applied:
                await outbox.apply_now(self.engine, self.credit, applied, clock=self.clock)
        except CreditUnavailable:
            log.warning("credit_unavailable", waiting=len(self._waiting))
            return False
        for waiting in told:
            self._waiting.pop(waiting.entry.ended.call_id, None)
        self.journal.settled(waiting.entry.ended.call_id for waiting in told)
        return True

    async def _write_down(self, waiting: Waiting) -> None:
        try:
            await self.journal.write(waiting.entry)
            waiting.journalled = True
        except JournalBroken as error:
            log.error("journal_broken", error=str(error))  # noqa: TRY400 - the sentence says it all

    async def _trim(self, waiting: Waiting) -> None:
        try:
            await self._trim_or_raise(waiting)
        except (CreditUnavailable, TooLarge) as error:
            log.warning("hold_not_trimmed_yet", call_id=waiting.entry.ended.call_id, error=type(error).__name__)

    async def _trim_or_raise(self, waiting: Waiting) -> None:
        if waiting.trimmed:
            return
        if waiting.entry.held:
            # Another controller leads by now: the hold is its to end. The record is ours to bring to SQL.
            with contextlib.suppress(Fenced):
                await self._end_hold(waiting.entry.ended)
        waiting.trimmed = True

    async def _end_hold(self, ended: EndedCall) -> None:
        now_ms = to_ms(self.clock.now())
        shares = shares_of(ended)
        if any(share.amount_micros for share in shares):
            await self.credit.finish(ended.call_id, shares, now_ms=now_ms)
        else:
            await self.credit.release(ended.call_id, now_ms=now_ms)

    def _write(self, calls: list[EndedCall]) -> Settled:
        with work(self.engine) as session:
            return settle(session, calls, now=self.clock.now())


def shares_of(ended: EndedCall) -> list[Share]:
    """Return what the hold of an ended call comes to."""
    return [Share(*share) for charge in ended.charges for share in charge.shares()]
