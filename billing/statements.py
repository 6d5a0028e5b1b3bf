"""Statements: what an account had, what came and went in a period, what it has then. Straight from the ledger.

Opening balance + lines = closing balance, always: all three are sums of the same postings. A line belongs to the period
in which its transaction was booked, and a period begins and ends at midnight of the account's own clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from sqlalchemy import func
from sqlalchemy import select as rows_of
from sqlmodel import Session, col, select

from billing.errors import NotFound, Refused
from billing.models import Account, Cdr, LedgerTransaction, Posting, Wallet, WalletKind
from rating.bands import zone_of

PAGE: Final = 500
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Period:
    """From a moment on, up to another that does not belong to it."""

    since: datetime
    until: datetime
    name: str


@dataclass(frozen=True, slots=True)
class Line:
    """One posting. `balance_micros`: the opening balance and all lines up to and with this one."""

    seq: int
    at: datetime
    kind: str
    what: str
    reference: str
    amount_micros: int
    balance_micros: int


@dataclass(frozen=True, slots=True)
class Sum:
    """What one kind of line came to."""

    kind: str
    lines: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Statement:
    """An account's period in a few figures."""

    account_id: int
    account: str
    currency: str
    period: Period
    opening_micros: int
    closing_micros: int
    sums: tuple[Sum, ...]


def month_of(text: str, timezone: str) -> Period:
    """Return a month such as 2026-11 on a clock. Raises `Refused`."""
    match = _MONTH.fullmatch(text)
    if match is None or not 1970 <= int(match[1]) <= 9998:  # noqa: PLR2004 - years that a date can hold, and the next
        raise Refused(f"a month is written 2026-11, not {text[:20]!r}")
    first = date(int(match[1]), int(match[2]), 1)
    after = (first + timedelta(days=31)).replace(day=1)
    return Period(_midnight(first, timezone), _midnight(after, timezone), text)


def days_of(first: date, last: date, timezone: str) -> Period:
    """Return the days from one to another, both included. Raises `Refused`."""
    if last < first or last.year > 9998:  # noqa: PLR2004 - there is a day after
        raise Refused("the last day of a statement is not before its first")
    name = f"{first.isoformat()}..{last.isoformat()}"
    return Period(_midnight(first, timezone), _midnight(last + timedelta(days=1), timezone), name)


def this_month(now: datetime, timezone: str) -> str:
    """Return the month it is on a clock."""
    return f"{now.astimezone(zone_of(timezone)):%Y-%m}"


def statement(session: Session, account_id: int, period: Period) -> Statement:
    """Return opening and closing balance and what each kind of line came to. Raises `NotFound`."""
    account, wallet = _wallet(session, account_id)
    since = _sum_from(session, wallet.id or 0, period.since)
    opening = wallet.balance_micros - since
    asked = _in_period(
        select(LedgerTransaction.kind, func.count(), func.sum(Posting.amount_micros)), wallet.id or 0, period
    )
    sums = tuple(
        Sum(kind, int(lines), int(micros))
        for kind, lines, micros in session.execute(
            asked.group_by(col(LedgerTransaction.kind)).order_by(col(LedgerTransaction.kind))
        )
    )
    closing = opening + sum(one.amount_micros for one in sums)
    return Statement(account_id, account.name, account.currency, period, opening, closing, sums)


def lines(session: Session, account_id: int, period: Period, *, after_seq: int = 0, most: int = PAGE) -> list[Line]:
    """Return a page of lines in the order in which they were booked. Raises `NotFound`."""
    _, wallet = _wallet(session, account_id)
    wallet_id = wallet.id or 0
    balance = wallet.balance_micros - _sum_from(session, wallet_id, period.since)
    if after_seq:
        before = _in_period(select(func.coalesce(func.sum(Posting.amount_micros), 0)), wallet_id, period)
        balance += int(session.execute(before.where(col(Posting.seq) <= after_seq)).scalar_one())
    asked = _in_period(
        rows_of(
            col(Posting.seq),
            col(LedgerTransaction.created_at),
            col(LedgerTransaction.kind),
            col(LedgerTransaction.reason),
            col(LedgerTransaction.operation),
            col(Posting.amount_micros),
            col(Cdr.callee),
            col(Cdr.destination),
        ),
        wallet_id,
        period,
    ).join(Cdr, col(Cdr.transaction_id) == col(LedgerTransaction.id), isouter=True)
    found: list[Line] = []
    for seq, at, kind, reason, operation, micros, callee, destination in session.execute(
        asked.where(col(Posting.seq) > after_seq).order_by(col(Posting.seq)).limit(most)
    ):
        balance += micros
        what = " ".join(part for part in (callee, destination) if part) if callee is not None else reason
        found.append(Line(seq, at, kind, what or "", operation.partition(":")[2], micros, balance))
    return found


def all_lines(session: Session, account_id: int, period: Period) -> Iterator[Line]:
    """Yield every line of a period, page by page, so that a file of any length can be written."""
    after = 0
    while page := lines(session, account_id, period, after_seq=after):
        yield from page
        after = page[-1].seq


def _wallet(session: Session, account_id: int) -> tuple[Account, Wallet]:
    asked = (
        select(Account, Wallet)
        .join(Wallet, col(Wallet.account_id) == col(Account.id))
        .where(Account.id == account_id, Wallet.kind == WalletKind.MONEY, col(Wallet.currency) == col(Account.currency))
    )
    found = session.exec(asked).first()
    if found is None:
        raise NotFound(f"there is no account '{account_id}' with a wallet")
    return found


def _sum_from(session: Session, wallet_id: int, since: datetime) -> int:
    asked = (
        select(func.coalesce(func.sum(Posting.amount_micros), 0))
        .join(LedgerTransaction, col(LedgerTransaction.id) == col(Posting.transaction_id))
        .where(Posting.wallet_id == wallet_id, LedgerTransaction.created_at >= since)
    )
    return int(session.exec(asked).one())


def _in_period(asked: Any, wallet_id: int, period: Period) -> Any:
    joined = asked.select_from(Posting).join(
        LedgerTransaction, col(LedgerTransaction.id) == col(Posting.transaction_id)
    )
    return joined.where(
        Posting.wallet_id == wallet_id,
        LedgerTransaction.created_at >= period.since,
        LedgerTransaction.created_at < period.until,
    )


def _midnight(day: date, timezone: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone_of(timezone)).astimezone(UTC)
