"""Of what a commission is a part: what an account's calls came to by now, corrections of re-rating included.

A correction says what a charge cost before and from then on, so all corrections of a charge together add up to the
difference. They are looked for by the calls of the period, whenever they were made. A call whose booking was reversed
by hand counts no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func
from sqlalchemy import select as rows_of
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from billing.models import (
    Account,
    AccountKind,
    CallCost,
    Charge,
    CommissionMonth,
    CommissionOf,
    Correction,
    LedgerTransaction,
)

CALL: Final = "call:"
"""What the operation of a call's transaction begins with."""
SLACK: Final = timedelta(days=1)
"""A correction that was being written while a month was counted is looked for again for so long."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Whose calls, in which span of their ends, of what, and who pays the part."""

    account: Account
    above: Account
    basis: CommissionOf
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Base:
    """What the calls came to. `calls`: those that count; `without_cost`: those whose cost nobody knows."""

    calls: int
    without_cost: int
    micros: int


def base_of(session: Session, terms: Terms) -> Base:
    """Add up what the calls of a span come to by now."""
    all_of_them, undone = _booked(session, terms, ()), _booked(session, terms, (_undone(terms.since),))
    corrected = _corrected(session, terms)
    if terms.basis is CommissionOf.MARGIN and terms.above.kind is not AccountKind.OPERATOR:
        corrected -= _corrected(session, terms, above=1)
    return Base(
        all_of_them.calls - undone.calls,
        all_of_them.without_cost - undone.without_cost,
        all_of_them.micros - undone.micros + corrected,
    )


def _booked(session: Session, terms: Terms, only: tuple[Any, ...]) -> Base:
    """Add up what was booked when calls ended."""
    own = (*_own(terms), *only)
    total = rows_of(func.count(), func.coalesce(func.sum(Charge.amount_micros), 0)).where(*own)
    calls, revenue = session.execute(total).one()
    if terms.basis is CommissionOf.REVENUE:
        return Base(int(calls), 0, int(revenue))
    cost, same = _cost(terms)
    asked = rows_of(func.count(), func.coalesce(func.sum(col(Charge.amount_micros) - cost.amount_micros), 0))
    known, margin = session.execute(asked.join(cost, same).where(*own)).one()
    return Base(int(known), int(calls) - int(known), int(margin))


def _cost(terms: Terms) -> tuple[Any, Any]:
    """Return where the payer's cost of a charge is, and what joins it."""
    if terms.above.kind is AccountKind.OPERATOR:
        carrier: Any = CallCost
        return carrier, (carrier.call_id == col(Charge.call_id)) & (carrier.currency == col(Charge.currency))
    cost: Any = aliased(Charge)
    level = cost.level == col(Charge.level) + 1
    return cost, (cost.call_id == col(Charge.call_id)) & level & (cost.currency == col(Charge.currency))


def _undone(since: datetime) -> Any:
    """Return the condition that a charge is of a call whose booking was reversed by hand."""
    undone: Any = aliased(LedgerTransaction)
    calls = (
        rows_of(func.substr(undone.operation, len(CALL) + 1))
        .join(LedgerTransaction, col(LedgerTransaction.reverses_id) == undone.id)
        .where(undone.kind == "call", col(LedgerTransaction.created_at) >= since)
    )
    return col(Charge.call_id).in_(calls)


def corrected_since(session: Session, rows: Sequence[CommissionMonth]) -> list[CommissionMonth]:
    """Return the months of one account of which a call was corrected or reversed since they were counted."""
    if not rows:
        return []
    since = min(row.counted_at for row in rows) - SLACK
    payers = {row.account_id for row in rows} | {row.payer_id for row in rows}
    asked = (
        select(Charge.ended_at, Correction.made_at)
        .join(Correction, col(Correction.call_id) == col(Charge.call_id))
        .where(
            col(Charge.account_id) == rows[0].account_id,
            col(Correction.account_id).in_(payers),
            col(Correction.made_at) >= since,
        )
    )
    undone: Any = aliased(LedgerTransaction)
    reversed_calls = (
        select(Charge.ended_at, LedgerTransaction.created_at)
        .join(undone, undone.id == col(LedgerTransaction.reverses_id))
        .join(Charge, col(Charge.call_id) == func.substr(undone.operation, len(CALL) + 1))
        .where(
            undone.kind == "call",
            col(LedgerTransaction.created_at) >= since,
            col(Charge.account_id) == rows[0].account_id,
        )
    )
    found: dict[str, CommissionMonth] = {}
    for ended_at, made_at in (*session.exec(asked), *session.exec(reversed_calls)):
        for row in rows:
            if row.since <= ended_at < row.until and made_at >= row.counted_at - SLACK:
                found[row.month] = row
    return [found[month] for month in sorted(found)]


def _own(terms: Terms) -> tuple[Any, ...]:
    return (
        col(Charge.account_id) == terms.account.id,
        col(Charge.ended_at) >= terms.since,
        col(Charge.ended_at) < terms.until,
        col(Charge.currency) == terms.account.currency,
    )


def _corrected(session: Session, terms: Terms, *, above: int = 0) -> int:
    """Return by how much the charges were corrected, or those `above` levels above; of a margin: where it is known."""
    more = func.coalesce(func.sum(col(Correction.after_micros) - col(Correction.before_micros)), 0)
    asked = rows_of(more).join(
        Charge,
        (col(Charge.call_id) == col(Correction.call_id))
        & (col(Charge.level) + above == col(Correction.level))
        & (col(Correction.currency) == terms.account.currency),
    )
    if terms.basis is CommissionOf.MARGIN:
        asked = asked.join(*_cost(terms))
    return int(session.execute(asked.where(*_own(terms))).scalar_one())
