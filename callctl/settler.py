"""What happens to a call that is over: journal, trim the hold, SQL, Redis. In this order, each step safe to repeat.

    ended ─▶ journal (on disk) ─▶ credit.finish ─▶ SQL: record, charges, postings, outbox ─▶ credit.apply ─▶ forgotten

SQL or Redis may be away for hours: entries wait here and in the journal, and are tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

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
TOLD_AT_ONCE = 4
"""How many batches that are in SQL Redis is told of before the next one goes there."""


@dataclass(slots=True)
class Waiting:
    """An entry on its way: on disk, its hold trimmed in Redis, its record in SQL, its postings told to Redis.

    `facts` makes what another controller needs to find the call by its hold; asked only until the entry is on disk.
    """

    entry: Entry
    journalled: bool = False
    trimmed: bool = False
    in_sql: bool = False
    facts: Callable[[], str] | None = None


@dataclass(slots=True)
class Settler:
    """Takes ended calls; `on_settled` is told each batch once SQL has its records.

    Each entry is finished in Redis first, then told of: so a hold that `finish` makes for what is owed always meets the
    postings that end it. What is next stands in queues, so that a round costs the same however much waits.
    """

    engine: Engine
    credit: CreditStore
    journal: Journal
    clock: Clock
    on_settled: Callable[[list[EndedCall]], None] = lambda _: None
    parked: int = 0
    _waiting: dict[str, Waiting] = field(default_factory=dict)
    _unwritten: deque[Waiting] = field(default_factory=deque)
    """Those that the disk did not take."""
    _unbooked: deque[Waiting] = field(default_factory=deque)
    """Those that SQL has not got, oldest first."""
    _untold: deque[tuple[Sequence[Waiting], Sequence[Applied]]] = field(default_factory=deque)
    """Those that SQL has, by batch, with the postings that Redis must hear of."""
    _telling: asyncio.Lock = field(default_factory=asyncio.Lock)
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
            if entry.ended.call_id not in self._waiting:
                self._wait(Waiting(entry, journalled=True))
        self._something.set()

    async def take(
        self, ended: EndedCall, *, held: bool, trim: bool = True, facts: Callable[[], str] | None = None
    ) -> None:
        """Write the call down and trim its hold, now or later; SQL follows by itself. Never raises: the entry waits."""
        waiting = Waiting(Entry(ended, held), facts=facts)
        self._wait(waiting)
        await self._write_down(waiting)
        if not waiting.journalled:
            self._unwritten.append(waiting)
        elif trim:
            # Only then: a finished hold is taken for a call that is written down, and nobody would settle it any more.
            await self._trim(waiting)
        self._something.set()

    async def trim(self, call_id: str) -> None:
        """Trim the hold of a call that is written down."""
        waiting = self._waiting.get(call_id)
        if waiting is not None and waiting.journalled:
            await self._trim(waiting)

    async def hold_again(self) -> None:
        """Hold anew what ended calls cost and Redis was not told of: the credit store lost data.

        Raises `CreditUnavailable` and `Fenced`; it is then done again from the start.
        """
        entries = list(self._waiting.values())
        for start in range(0, len(entries), BATCH):
            # Not while Redis is told: what comes after the last word about a call would be held for ever.
            async with self._telling:
                page = [waiting for waiting in entries[start : start + BATCH] if self._is_waiting(waiting)]
                await asyncio.gather(*(self._hold_one_again(waiting) for waiting in page))

    def not_settled(self) -> list[Entry]:
        """Return what is written down and has no record yet, as far as we know."""
        return [one.entry for one in self._waiting.values() if one.journalled and not one.in_sql]

    async def _hold_one_again(self, waiting: Waiting) -> None:
        ended = waiting.entry.ended
        shares = shares_of(ended)
        if not waiting.entry.held or not any(share.amount_micros for share in shares):
            return
        if not waiting.journalled and not waiting.in_sql:
            # Nobody else knows of it: if we die, the call is found by an open hold with its facts.
            now_ms, facts = to_ms(self.clock.now()), waiting.facts() if waiting.facts else ""
            await self.credit.restore(ended.call_id, shares, now_ms=now_ms, deadline_ms=now_ms, facts=facts)
            return
        # Until it is done: if this one is lost on its way, it must be done again before Redis is told.
        waiting.trimmed = False
        try:
            await self._end_hold(ended)
        except TooLarge as error:
            log.warning("hold_not_restored", call_id=ended.call_id, error=str(error))
            return
        waiting.trimmed = True

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
        await self._write_again()
        while self._unbooked and not self._is_unbooked(self._unbooked[0]):
            self._unbooked.popleft()
        batch = [waiting for waiting in islice(self._unbooked, BATCH) if self._is_unbooked(waiting)]
        try:
            if batch:
                await self._into_sql(batch)
            return await self._tell_redis()
        except DBAPIError as error:
            log.warning("sql_unavailable", error=type(error).__name__, waiting=len(self._waiting))
            return False

    async def _write_again(self) -> None:
        """Write down what the disk did not take, until it takes no more."""
        for _ in range(min(len(self._unwritten), BATCH)):
            waiting = self._unwritten.popleft()
            if self._is_waiting(waiting):
                await self._write_down(waiting)
                if not waiting.journalled:
                    self._unwritten.append(waiting)
                    return

    async def _into_sql(self, batch: Sequence[Waiting]) -> None:
        """Write a batch; where one entry spoils it, write one by one and park that entry: all others go on."""
        try:
            settled = await asyncio.to_thread(self._write, [waiting.entry.ended for waiting in batch])
        except (BillingError, IntegrityError, DataError) as error:
            if len(batch) == 1:
                await self._park(batch[0], error)
                return
            for waiting in batch:
                await self._into_sql([waiting])
            return
        self._booked(batch, settled.applied)
        self.on_settled([waiting.entry.ended for waiting in batch])

    def _booked(self, batch: Sequence[Waiting], postings: Sequence[Applied]) -> None:
        """Note what SQL has; the postings are kept until Redis has heard them, after the end of the hold."""
        for waiting in batch:
            waiting.in_sql = True
        self._untold.append((batch, postings))

    async def _park(self, waiting: Waiting, error: Exception) -> None:
        """Put an entry aside for a person. Its hold stays: what cannot be booked must not be spent again."""
        call_id = waiting.entry.ended.call_id
        log.error("call_parked", call_id=call_id, error=f"{type(error).__name__}: {error}"[:500])
        self.parked += 1
        with contextlib.suppress(JournalBroken):
            await self.journal.park(call_id, f"{type(error).__name__}: {error}")
        self._waiting.pop(call_id, None)

    async def _tell_redis(self) -> bool:
        """Tell Redis of a few batches. Where it is away the outbox and the journal keep what it must still hear."""
        for _ in range(min(len(self._untold), TOLD_AT_ONCE)):
            try:
                async with self._telling:
                    await self._tell(*self._untold[0])
                    self._untold.popleft()
            except CreditUnavailable:
                log.warning("credit_unavailable", waiting=len(self._waiting))
                return False
        return True

    async def _tell(self, batch: Sequence[Waiting], postings: Sequence[Applied]) -> None:
        """Trim, then apply, then forget."""
        for waiting in batch:
            try:
                await self._trim_or_raise(waiting)
            except TooLarge as error:
                await self._park(waiting, error)
        if postings:
            try:
                await outbox.apply_now(self.engine, self.credit, postings, clock=self.clock)
            except TooLarge as error:
                # Trying again would keep all others from being told; the outbox goes on trying.
                log.error("postings_not_applied", error=str(error))  # noqa: TRY400 - the sentence says it all
        for waiting in batch:
            if self._is_waiting(waiting):
                del self._waiting[waiting.entry.ended.call_id]
        self.journal.settled(waiting.entry.ended.call_id for waiting in batch)

    def _wait(self, waiting: Waiting) -> None:
        self._waiting[waiting.entry.ended.call_id] = waiting
        self._unbooked.append(waiting)

    def _is_waiting(self, waiting: Waiting) -> bool:
        """Return whether it has been neither settled nor parked, nor taken anew."""
        return self._waiting.get(waiting.entry.ended.call_id) is waiting

    def _is_unbooked(self, waiting: Waiting) -> bool:
        return not waiting.in_sql and self._is_waiting(waiting)

    async def _write_down(self, waiting: Waiting) -> None:
        try:
            await self.journal.write(waiting.entry)
            waiting.journalled, waiting.facts = True, None
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
