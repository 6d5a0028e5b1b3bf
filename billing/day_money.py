"""What a day brought beside the charges of its calls: carriers' cost, and what was corrected of earlier calls."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from billing.models import Correction, LedgerTransaction, Posting, Wallet, WalletKind
from billing.totals import ledger_day

Sums = tuple[tuple[str, int], ...]
"""Micro-units by currency, those that are 0 left out."""


def carrier_cost(session: Session, day: date) -> Sums:
    """Return what carriers' calls cost that were posted on a UTC day, from the totals."""
    found: Counter[str] = Counter()
    for (kind, currency), (debits, credited) in ledger_day(session, day).items():
        if kind is WalletKind.CARRIER_COST:
            found[currency] += debits - credited
    return _sorted(found)


def corrected(session: Session, day: date) -> Sums:
    """Return by how much the operator's income was corrected on a UTC day, whenever the calls were.

    Corrections of re-rating and bookings that were reversed by hand. Below 0 where money was given back.
    """
    since = datetime.combine(day, time(), UTC)
    until = since + timedelta(days=1)
    income = col(Wallet.kind) == WalletKind.INCOME
    difference = func.sum(col(Correction.after_micros) - col(Correction.before_micros))
    rerated = (
        select(Correction.currency, difference)
        .join(Wallet, col(Wallet.id) == col(Correction.to_wallet_id))
        .where(col(Correction.made_at) >= since, col(Correction.made_at) < until, income)
        .group_by(col(Correction.currency))
    )
    of_rerating = aliased(LedgerTransaction)
    undone = (
        select(Posting.currency, func.sum(col(Posting.amount_micros)))
        .join(LedgerTransaction, col(LedgerTransaction.id) == col(Posting.transaction_id))
        .join(Wallet, col(Wallet.id) == col(Posting.wallet_id))
        .join(of_rerating, col(of_rerating.id) == col(LedgerTransaction.reverses_id))
        .where(
            # A correction that is undone has a correction of its own, counted above.
            col(of_rerating.kind) != "correction",
            col(LedgerTransaction.created_at) >= since,
            col(LedgerTransaction.created_at) < until,
            col(Posting.posted_at) >= since,
            income,
        )
        .group_by(col(Posting.currency))
    )
    found: Counter[str] = Counter()
    for asked in (rerated, undone):
        for currency, micros in session.exec(asked):
            found[currency] += int(micros)
    return _sorted(found)


def _sorted(found: Counter[str]) -> Sums:
    return tuple(sorted((currency, micros) for currency, micros in found.items() if micros))
