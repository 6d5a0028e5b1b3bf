"""The trial balance: what each ledger account adds up to at a moment, in debits and credits, each currency to zero."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import case, func
from sqlmodel import Session, col, select

from billing.chart import CHART
from billing.models import LedgerTransaction, Posting, Wallet, WalletKind


@dataclass(frozen=True, slots=True)
class Line:
    """A ledger account in one currency, micro-units. `debits` and `credits` are all that was ever posted there.

    What stands is in `debit` or in `credit`, whichever is the greater.
    """

    kind: WalletKind
    currency: str
    debits_micros: int
    credits_micros: int

    @property
    def debit_micros(self) -> int:
        """What stands on the left side."""
        return max(self.debits_micros - self.credits_micros, 0)

    @property
    def credit_micros(self) -> int:
        """What stands on the right side."""
        return max(self.credits_micros - self.debits_micros, 0)


@dataclass(frozen=True, slots=True)
class Sheet:
    """The trial balance of one currency."""

    currency: str
    lines: tuple[Line, ...]

    @property
    def debit_micros(self) -> int:
        """The sum of the left side."""
        return sum(line.debit_micros for line in self.lines)

    @property
    def credit_micros(self) -> int:
        """The sum of the right side."""
        return sum(line.credit_micros for line in self.lines)

    @property
    def balances(self) -> bool:
        """Whether both sides are the same."""
        return self.debit_micros == self.credit_micros


def trial_balance(session: Session, *, at: datetime | None = None) -> tuple[Sheet, ...]:
    """Return a sheet for each currency, in order; `at`: of what was posted up to that moment, that moment included."""
    amount = col(Posting.amount_micros)
    asked = (
        select(
            Posting.currency,
            Wallet.kind,
            func.sum(case((amount < 0, -amount), else_=0)),
            func.sum(case((amount > 0, amount), else_=0)),
        )
        .join(Wallet, col(Wallet.id) == col(Posting.wallet_id))
        .group_by(col(Posting.currency), col(Wallet.kind))
    )
    if at is not None:
        asked = asked.join(LedgerTransaction, col(LedgerTransaction.id) == col(Posting.transaction_id))
        asked = asked.where(col(LedgerTransaction.created_at) <= at)
    lines = [
        Line(WalletKind(kind), currency, int(left), int(right)) for currency, kind, left, right in session.exec(asked)
    ]
    lines.sort(key=lambda line: (line.currency, CHART[line.kind].number))
    return tuple(Sheet(currency, tuple(group)) for currency, group in groupby(lines, lambda line: line.currency))
