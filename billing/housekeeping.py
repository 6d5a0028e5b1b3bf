"""What has to be done now and then, in every process that serves: each job may run in many at once, or stop anywhere.

Totals are rolled, money that was set aside for a movement nobody finished is given back, coming months are made, and
the books are checked when the night's check is due.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from billing import moves, nightly
from billing.credit.store import CreditStore
from billing.errors import BillingError
from billing.months import add_months
from billing.ports import Clock
from billing.settings import BooksSettings
from billing.store import again, reading, was_crowded, work
from billing.totals import MOST, roll

log = structlog.get_logger(__name__)

ROLL_S: Final = 10.0
REAP_S: Final = 30.0
MONTHS_S: Final = 3600.0
CHECK_S: Final = 30.0
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """The jobs of one process."""

    engine: Engine
    credit: CreditStore
    settings: BooksSettings
    clock: Clock

    async def run(self) -> None:
        """Do all of it, for ever."""
        await asyncio.gather(
            self._every(ROLL_S, self.roll_totals),
            self._every(REAP_S, self.reap),
            self._every(MONTHS_S, self.make_months),
            self._every(CHECK_S, self.check_if_due),
        )

    async def roll_totals(self) -> None:
        """Bring the totals up to date."""
        while await asyncio.to_thread(self._roll) >= MOST:
            pass

    async def reap(self) -> None:
        """Give back what was set aside for movements that stopped half-way."""
        cleared = await moves.reap(self.engine, self.credit, clock=self.clock)
        if cleared:
            log.warning("movements_cleared", number=cleared)

    async def make_months(self) -> None:
        """Make the months to come."""
        today = self.clock.now().date()
        made = await asyncio.to_thread(again, self.engine, lambda session: add_months(session, today))
        if made:
            log.info("months_made", months=made)

    async def check_if_due(self) -> None:
        """Make the night's check of the books where nobody has."""
        due = await asyncio.to_thread(self._due)
        if due is not None:
            everything = WEEKDAYS[due.weekday()] == self.settings.everything_on
            run = await nightly.check_books(
                self.engine, self.credit, everything=everything, actor="nightly", clock=self.clock, due_at=due
            )
            if run is not None and run.findings:
                log.error("books_broken", findings=len(run.findings), first=run.findings[0]["what"])
            elif run is not None:
                log.info("books_checked", transactions=run.transactions, credit_asked=run.credit_asked)

    def _due(self) -> datetime | None:
        zone = ZoneInfo(self.settings.timezone)
        with reading(self.engine) as session:
            return nightly.is_due(session, self.clock.now(), at=self.settings.check_at, zone=zone)

    def _roll(self) -> int:
        try:
            with work(self.engine) as session:
                return roll(session)
        except OperationalError as error:
            if not was_crowded(error):
                raise
            return 0  # somebody numbers records for long: next time

    async def _every(self, pause_s: float, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await job()
            except (BillingError, SQLAlchemyError, OSError) as error:
                log.warning("job_put_off", job=getattr(job, "__name__", ""), error=type(error).__name__)
            except Exception:
                log.exception("job_broken", job=getattr(job, "__name__", ""))
            await asyncio.sleep(pause_s)
