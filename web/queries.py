"""What pages count and search, read straight from the tables. Reads only: every change goes through billing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select

from billing.models import Account, Cdr, Charge, OutboxRow, Wallet, WalletKind

DISPOSITIONS = ("answered", "busy", "no_answer", "cancelled", "failed", "refused")
LIKE_SPECIAL = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


@dataclass(frozen=True, slots=True)
class Today:
    """The figures of a UTC day so far. `revenue`: what the operator earned, per currency, micro-units."""

    since: datetime
    revenue: tuple[tuple[str, int], ...]
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
    """Count the day so far."""
    since = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    earned = session.exec(
        select(Charge.currency, func.sum(Charge.amount_micros))
        .join(Cdr, col(Cdr.call_id) == col(Charge.call_id))
        .join(Wallet, col(Wallet.id) == col(Charge.to_wallet_id))
        .where(col(Cdr.ended_at) >= since, col(Wallet.kind) == WalletKind.INCOME)
        .group_by(col(Charge.currency))
        .order_by(col(Charge.currency))
    ).all()
    by_disposition = session.exec(
        select(Cdr.disposition, func.count(), func.coalesce(func.sum(Cdr.talk_ms), 0))
        .where(col(Cdr.ended_at) >= since)
        .group_by(col(Cdr.disposition))
    ).all()
    many = func.count()
    refusals = session.exec(
        select(Cdr.reason, many)
        .where(col(Cdr.ended_at) >= since, col(Cdr.disposition) == "refused")
        .group_by(col(Cdr.reason))
        .order_by(many.desc(), col(Cdr.reason))
        .limit(20)
    ).all()
    counts = {disposition: int(count) for disposition, count, _ in by_disposition}
    return Today(
        since=since,
        revenue=tuple((currency, int(micros or 0)) for currency, micros in earned),
        calls=sum(counts.values()),
        answered=counts.get("answered", 0),
        talk_ms=sum(int(talk_ms) for _, _, talk_ms in by_disposition),
        refused=counts.get("refused", 0),
        refusals=tuple((reason, int(count)) for reason, count in refusals),
    )


@dataclass(frozen=True, slots=True)
class CdrFilter:
    """What to look for: an account, the beginning of a caller's or callee's number, how it ended, a UTC day."""

    account_id: int | None = None
    number: str = ""
    disposition: str = ""
    day: datetime | None = None


def search_cdrs(
    session: Session, wanted: CdrFilter, *, before: tuple[datetime, str] | None = None, most: int = 50
) -> list[Cdr]:
    """Return matching records, newest first, after the (ended_at, call_id) last seen."""
    rules: list[ColumnElement[bool]] = []
    if wanted.account_id is not None:
        charged = select(Charge.call_id).where(col(Charge.account_id) == wanted.account_id)
        rules.append(or_(col(Cdr.account_id) == wanted.account_id, col(Cdr.call_id).in_(charged)))
    if wanted.number:
        pattern = wanted.number.translate(LIKE_SPECIAL) + "%"
        rules.append(or_(col(Cdr.caller).like(pattern, escape="\\"), col(Cdr.callee).like(pattern, escape="\\")))
    if wanted.disposition:
        rules.append(col(Cdr.disposition) == wanted.disposition)
    if wanted.day is not None:
        rules.append(and_(col(Cdr.ended_at) >= wanted.day, col(Cdr.ended_at) < wanted.day + timedelta(days=1)))
    if before is not None:
        ended_at, call_id = before
        rules.append(or_(col(Cdr.ended_at) < ended_at, and_(col(Cdr.ended_at) == ended_at, col(Cdr.call_id) < call_id)))
    newest = select(Cdr).where(*rules).order_by(col(Cdr.ended_at).desc(), col(Cdr.call_id).desc()).limit(most)
    found = list(session.exec(newest).all())
    session.expunge_all()
    return found


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
