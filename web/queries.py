"""What pages count and search, read straight from the tables. Reads only: every change goes through billing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time

from sqlalchemy import func
from sqlmodel import Session, col, select

from billing import day_money
from billing.models import Account, OutboxRow
from billing.search import CdrFilter, search_cdrs
from billing.totals import call_sums, money_sums

__all__ = ["DISPOSITIONS", "CdrFilter", "Today", "account_names", "outbox_waiting", "search_cdrs", "today"]

DISPOSITIONS = ("answered", "busy", "no_answer", "cancelled", "failed", "refused")
MOST_REFUSALS = 20
"""So many reasons are shown, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Today:
    """The figures of a UTC day so far, money per currency in micro-units.

    `revenue`: what calls that ended today earned the operator when they ended; `corrected`: by how much its income of
    earlier and of today's calls was corrected today, not in `revenue`; `cost`: what carriers get, not taken off either.
    """

    since: datetime
    revenue: tuple[tuple[str, int], ...]
    corrected: tuple[tuple[str, int], ...]
    cost: tuple[tuple[str, int], ...]
    calls: int
    answered: int
    talk_ms: int
    refused: int
    refusals: tuple[tuple[str, int], ...]

    @property
    def answered_percent(self) -> int | None:
        """Answered calls in a hundred that were let through; None before the first."""
        offered = self.calls - self.refused
        return None if offered == 0 else self.answered * 100 // offered


def today(session: Session, now: datetime) -> Today:
    """Return the day so far, from the totals."""
    day = now.astimezone(UTC).date()
    earned: Counter[str] = Counter()
    for money in money_sums(session, "all", day, day):
        earned[money.currency] += money.earned_micros
    counts: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    talk_ms = 0
    for calls in call_sums(session, "all", day, day):
        counts[calls.disposition] += calls.calls
        talk_ms += calls.talk_ms
        if calls.disposition == "refused":
            refusals[calls.reason] += calls.calls
    often = sorted(refusals.items(), key=lambda item: (-item[1], item[0]))
    return Today(
        since=datetime.combine(day, time(), UTC),
        revenue=tuple(sorted((currency, micros) for currency, micros in earned.items() if micros)),
        corrected=day_money.corrected(session, day),
        cost=day_money.carrier_cost(session, day),
        calls=counts.total(),
        answered=counts["answered"],
        talk_ms=talk_ms,
        refused=counts["refused"],
        refusals=tuple(often[:MOST_REFUSALS]),
    )


def account_names(session: Session, account_ids: Sequence[int | None]) -> dict[int, str]:
    """Return the names of accounts by number."""
    wanted = {account_id for account_id in account_ids if account_id is not None}
    if not wanted:
        return {}
    rows = session.exec(select(Account.id, Account.name).where(col(Account.id).in_(wanted))).all()
    return {account_id: name for account_id, name in rows if account_id is not None}


def outbox_waiting(session: Session) -> int:
    """Return how many postings the live credit store has still to apply."""
    count = select(func.count()).select_from(OutboxRow).where(col(OutboxRow.applied_at).is_(None))
    return int(session.exec(count).one())
