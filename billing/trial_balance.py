"""The trial balance: what each ledger account adds up to at a moment, in debits and credits, each currency to zero."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from itertools import groupby

from sqlalchemy import case, func
from sqlmodel import Session, col, select

from billing.chart import CHART
from billing.models import Posting, Wallet, WalletKind
from billing.totals import ledger_sums


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
    """Return a sheet for each currency, in order; `at`: of what was posted up to that moment, that moment included.

    Whole days come from the totals, the last day's part from its postings.
    """
    day = None if at is None else at.astimezone(UTC).date()
    sums = {key: list(sides) for key, sides in ledger_sums(session, day).items()}
    if at is not None and day is not None:
        for kind, currency, left, right in _since(session, datetime.combine(day, time(), UTC), at):
            known = sums.setdefault((kind, currency), [0, 0])
            known[0], known[1] = known[0] + left, known[1] + right
    lines = [Line(kind, currency, left, right) for (kind, currency), (left, right) in sums.items()]
    lines.sort(key=lambda line: (line.currency, CHART[line.kind].number))
    return tuple(Sheet(currency, tuple(group)) for currency, group in groupby(lines, lambda line: line.currency))


def _since(session: Session, since: datetime, at: datetime) -> list[tuple[WalletKind, str, int, int]]:
    amount = col(Posting.amount_micros)
    asked = (
        select(
            Wallet.kind,
            Posting.currency,
            func.sum(case((amount < 0, -amount), else_=0)),
            func.sum(case((amount > 0, amount), else_=0)),
        )
        .join(Wallet, col(Wallet.id) == col(Posting.wallet_id))
        .where(col(Posting.posted_at) >= since, col(Posting.posted_at) <= at)
        .group_by(col(Wallet.kind), col(Posting.currency))
    )
    return [(WalletKind(kind), currency, int(left), int(right)) for kind, currency, left, right in session.exec(asked)]
