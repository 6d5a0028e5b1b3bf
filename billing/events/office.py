"""The post office: spreads what happened, tells it, writes down how that went. Several may run at once."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from billing.alerts import raise_alert
from billing.errors import BillingError
from billing.events.deliveries import (
    RETRIES_S,
    Due,
    Result,
    anything_due,
    claim,
    settle_delivery,
    spread,
    sweep,
)
from billing.events.listeners import end_listener
from billing.events.mails import Mailer
from billing.events.webhooks import Poster
from billing.models import Account, Channel
from billing.ports import Clock, Ids
from billing.store import reading, work

log = structlog.get_logger(__name__)

POLL_S = 1.0
SWEEP_S = 3600.0
AFTER_ERROR_S = 5.0
UNTOLD = "events.untold"
"""The alert of a listener that did not hear an event for three days."""


class PostOffice:
    """Tells listeners, for as long as `run` runs. Stopping loses nothing: what was under way is told again."""

    def __init__(self, engine: Engine, poster: Poster, mailer: Mailer, *, clock: Clock, ids: Ids) -> None:
        self.engine, self.poster, self.mailer = engine, poster, mailer
        self.clock, self.ids = clock, ids
        self._swept = clock.monotonic()

    async def run(self) -> None:
        """Tell what is due, for ever."""
        while True:
            try:
                busy = await self.once()
                await self._sweep()
                pause_s = 0.0 if busy else POLL_S
            except (SQLAlchemyError, BillingError, OSError) as error:
                log.warning("events_interrupted", error=type(error).__name__)
                pause_s = AFTER_ERROR_S
            except Exception:
                log.exception("events_broken")
                pause_s = AFTER_ERROR_S
            await asyncio.sleep(pause_s)

    async def once(self) -> int:
        """Spread and tell one round; return how many deliveries were tried."""
        due = await asyncio.to_thread(self._take)
        if due:
            await asyncio.gather(*(self._tell(one) for one in due))
        return len(due)

    def _take(self) -> list[Due]:
        now = self.clock.now()
        with reading(self.engine) as session:
            if not anything_due(session, now):
                return []
        with work(self.engine) as session:
            spread(session, now=now)
        with work(self.engine) as session:
            return claim(session, self.ids.new("claim"), now=now)

    async def _tell(self, due: Due) -> None:
        match due.channel:
            case Channel.WEBHOOK:
                result = await self.poster.post(due, now=self.clock.now())
            case Channel.EMAIL:
                brand, language = await asyncio.to_thread(self._whose, due)
                result = await self.mailer.send(due, brand=brand, language=language)
        await asyncio.to_thread(self._settle, due, result)

    def _whose(self, due: Due) -> tuple[str, str]:
        """Return whose name a letter carries, and its language."""
        with reading(self.engine) as session:
            return brand_of(session, due.account_id), due.language or language_of(session, due.account_id)

    def _settle(self, due: Due, result: Result) -> None:
        now = self.clock.now()
        with work(self.engine) as session:
            if not settle_delivery(session, due, result, now=now) or result.ok:
                return
            if result.gone:
                end_listener(session, due.listener_id, why="it answered 410 Gone", actor="events", now=now)
            elif due.attempts + 1 > len(RETRIES_S):
                raise_alert(
                    session,
                    kind=UNTOLD,
                    subject=f"listener:{due.listener_id}",
                    message=f"{due.kind} could not be told to {due.address}: {result.answer}",
                    facts={"delivery": due.id, "event": due.event_id},
                    now=now,
                )

    async def _sweep(self) -> None:
        if self.clock.monotonic() - self._swept < SWEEP_S:
            return

        def forget() -> int:
            with work(self.engine) as session:
                return sweep(session, now=self.clock.now())

        if not await asyncio.to_thread(forget):
            self._swept = self.clock.monotonic()


def brand_of(session: Session, account_id: int | None) -> str:
    """Return the name under which an account knows its seller: the brand of the account above it, or its name."""
    asked = select(Account.brand, Account.name)
    above = select(Account.parent_id).where(Account.id == account_id).scalar_subquery()
    found = session.exec(asked.where(col(Account.id) == above)).first() if account_id is not None else None
    # What concerns the operator, or nobody, comes from the operator.
    found = found or session.exec(asked.where(col(Account.parent_id).is_(None))).first()
    return (found[0] or found[1]) if found else "callctl"


def language_of(session: Session, account_id: int | None) -> str:
    """Return the language of an account without its region: "de" for "de-AT"."""
    asked = select(Account.language)
    mine = (
        asked.where(Account.id == account_id)
        if account_id is not None
        else asked.where(col(Account.parent_id).is_(None))
    )
    return (session.exec(mine).first() or "en").replace("_", "-").partition("-")[0].lower()
