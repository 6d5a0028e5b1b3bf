"""Commissions: what an account earns of what it brings in, booked once for each month that is over.

The payer is whoever stands right above: the operator, whose expense it is, or a reseller, out of its own money. The
base is what the account's calls of the month came to, or what was left of it after what those calls cost the payer
(`billing.commission_base`); calls whose cost nobody knows earn no commission of the margin. The amount is cut to a
micro-unit, never up.

Calls are corrected also after their month was booked. So each month that is booked takes in what became of those booked
before: what they earn by now, less what was booked for them. What was booked too much waits for months that earn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlmodel import Session, col, select

from billing import audit
from billing.account_changes import lock_account
from billing.adjustments import lacking, money_wallet
from billing.chart import ledger_account
from billing.commission_base import Terms, base_of, corrected_since
from billing.errors import NotFound, Refused
from billing.ledger import Applied, Entry, lock_wallets, post
from billing.models import (
    Account,
    AccountKind,
    AccountStatus,
    Commission,
    CommissionMonth,
    CommissionOf,
    WalletKind,
)
from billing.operations import once
from billing.statements import Period, month_of

WHOLE: Final = 1_000_000
_PERCENT = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class CommissionView:
    """A commission as people see it; `percent` is a plain decimal."""

    account_id: int
    account: str
    currency: str
    basis: CommissionOf
    percent: str


@dataclass(frozen=True, slots=True)
class Earned:
    """What a month earns. `calls` are those that count; `without_cost` those whose cost nobody knows.

    `earlier_micros`: what is still due of months booked before, or was booked too much (below 0), because their calls
    were corrected since. `amount_micros` is both together, never below 0.
    """

    calls: int
    without_cost: int
    base_micros: int
    earned_micros: int
    earlier_micros: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class PaidOut:
    """What was booked for a month. `replayed` where it had been booked before."""

    account_id: int
    month: str
    base_micros: int
    earlier_micros: int
    amount_micros: int
    replayed: bool
    applied: tuple[Applied, ...]


def read_percent(text: str) -> int:
    """Return a percentage such as "12.5" as parts of a million. Raises `Refused`."""
    if not _PERCENT.fullmatch(text) or not 0 < Decimal(text) <= 100:  # noqa: PLR2004 - all of it
        raise Refused(f"a commission is more than 0 and up to 100 percent, such as 12.5, not {text[:20]!r}")
    return int(Decimal(text) * 10_000)


def set_commission(
    session: Session,
    account_id: int,
    basis: CommissionOf | None,
    ppm: int,
    *,
    within: int | None = None,
    actor: str,
    now: datetime,
) -> None:
    """Set an account's commission, or take it away (`basis` None). Raises `NotFound`, `Refused`."""
    account = lock_account(session, account_id, within=within)
    if account.kind is AccountKind.OPERATOR or account_id == within:
        raise Refused("a commission is given by whoever stands above the account")
    if basis is not None and not 0 < ppm <= WHOLE:
        raise Refused("a commission is more than 0 and up to 100 percent")
    found = session.exec(select(Commission).where(Commission.account_id == account_id)).one_or_none()
    before = None if found is None else {"basis": found.basis.value, "ppm": found.ppm}
    after = None if basis is None else {"basis": basis.value, "ppm": ppm}
    if before == after:
        return
    if basis is None:
        session.delete(found)
    elif found is None:
        session.add(Commission(account_id=account_id, basis=basis, ppm=ppm, changed_at=now))
    else:
        found.basis, found.ppm, found.changed_at = basis, ppm, now
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="commission.set",
        subject=f"account:{account_id}",
        before=before,
        after=after,
        now=now,
    )
    session.flush()


def list_commissions(
    session: Session, *, payer_id: int | None = None, after_id: int = 0, most: int = 1000
) -> list[CommissionView]:
    """Return a page of commissions in order of account: all, or those that one account pays."""
    asked = (
        select(Commission, Account)
        .join(Account, col(Account.id) == col(Commission.account_id))
        .where(col(Commission.account_id) > after_id)
        .order_by(col(Commission.account_id))
        .limit(most)
    )
    if payer_id is not None:
        asked = asked.where(Account.parent_id == payer_id)
    return [
        CommissionView(one.account_id, account.name, account.currency, one.basis, percent_of(one.ppm))
        for one, account in session.exec(asked)
    ]


def booked_months(session: Session, account_id: int, *, most: int = 12) -> list[CommissionMonth]:
    """Return the months that were booked for an account, newest first."""
    asked = select(CommissionMonth).where(CommissionMonth.account_id == account_id)
    return list(session.exec(asked.order_by(col(CommissionMonth.month).desc()).limit(most)))


def percent_of(ppm: int) -> str:
    """Return parts of a million as a percentage."""
    return f"{(Decimal(ppm).scaleb(-4)).normalize():f}"


def earned(session: Session, account_id: int, month: str) -> Earned:
    """Return what a month earns an account, or (`amount_micros`) what was booked for it.

    Raises `NotFound` for the account or where it has no commission.
    """
    account, commission, above = _terms(session, account_id)
    if (booked := session.get(CommissionMonth, (account_id, month))) is not None:
        payer = session.exec(select(Account).where(Account.id == booked.payer_id)).one()
        base = base_of(session, Terms(account, payer, booked.basis, booked.since, booked.until))
        part = part_of(base.micros, booked.ppm)
        return Earned(base.calls, base.without_cost, base.micros, part, 0, booked.paid_micros)
    return _earned(session, account, commission, above, month_of(month, account.timezone))[0]


def pay_commission(
    session: Session,
    account_id: int,
    month: str,
    *,
    operation: str | None = None,
    hold: str | None = None,
    actor: str,
    now: datetime,
) -> PaidOut:
    """Book a month's commission, once. Do one in a unit of work.

    Raises `NotFound`, `Refused` for a month that is not over or an account that is closed, and (remembered under the
    operation) for a reseller that lacks the money.
    """
    account, commission, above = _terms(session, account_id)
    period = month_of(month, account.timezone)
    if period.until > now:
        raise Refused(f"{month} is not over yet on the clock of {account.name!r}")
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed")
    name = operation or operation_of(account_id, month)

    def do() -> tuple[dict[str, Any], tuple[Applied, ...]]:
        # One month after the other: two at once would both take in the same corrections.
        session.exec(select(Commission).where(Commission.id == commission.id).with_for_update()).one()
        found, recounted = _earned(session, account, commission, above, period)
        outcome = {
            "base_micros": found.base_micros,
            "earlier_micros": found.earlier_micros,
            "amount_micros": found.amount_micros,
        }
        if not found.amount_micros:
            _count(session, account, commission, above, period, found, recounted, now)
            return outcome, ()
        source, target = source_wallet(session, account, above), money_wallet(session, account)
        purses = lock_wallets(session, sorted([source, target]))
        if above.kind is not AccountKind.OPERATOR and (says := lacking(session, {source: found.amount_micros}, purses)):
            return {"refused": f"{says} for this commission"}, ()
        _count(session, account, commission, above, period, found, recounted, now)
        _, applied = post(
            session,
            [Entry(source, -found.amount_micros, hold), Entry(target, found.amount_micros)],
            operation=f"commission:{name}",
            kind="commission",
            actor=actor,
            reason=f"{percent_of(commission.ppm)} % of the {commission.basis.value} of {month}",
            now=now,
        )
        audit.record(
            session,
            actor=actor,
            action="commission.pay",
            subject=f"account:{account_id}",
            after={"month": month, **outcome},
            now=now,
        )
        return outcome, applied

    done = once(session, name, ["commission", account_id, month], do, now=now)
    return PaidOut(
        account_id,
        month,
        int(done.facts["base_micros"]),
        int(done.facts.get("earlier_micros", 0)),
        int(done.facts["amount_micros"]),
        done.replayed,
        done.applied,
    )


def operation_of(account_id: int, month: str) -> str:
    """Return the operation of a month's commission: there is one for each account and month."""
    return f"commission:{account_id}:{month}"


def source_wallet(session: Session, account: Account, above: Account) -> int:
    """Return the wallet that a commission comes from."""
    if above.kind is AccountKind.OPERATOR:
        return ledger_account(session, WalletKind.COMMISSION, account.currency)
    return money_wallet(session, above)


def _terms(session: Session, account_id: int) -> tuple[Account, Commission, Account]:
    account = session.get(Account, account_id)
    above = session.get(Account, account.parent_id) if account and account.parent_id else None
    commission = session.exec(select(Commission).where(Commission.account_id == account_id)).one_or_none()
    if account is None or above is None:
        raise NotFound(f"there is no account '{account_id}'")
    if commission is None:
        raise NotFound(f"{account.name!r} has no commission")
    return account, commission, above


Recounted = list[tuple[CommissionMonth, int]]
"""Months booked before, with what they earn by now."""


def _earned(
    session: Session, account: Account, commission: Commission, above: Account, period: Period
) -> tuple[Earned, Recounted]:
    base = base_of(session, Terms(account, above, commission.basis, period.since, period.until))
    earned_micros = part_of(base.micros, commission.ppm)
    before = list(session.exec(select(CommissionMonth).where(CommissionMonth.account_id == account.id)))
    recounted = [(row, _by_now(session, account, row)) for row in corrected_since(session, before)]
    by_now = sum(row.earned_micros for row in before) + sum(now - row.earned_micros for row, now in recounted)
    earlier = by_now - sum(row.paid_micros for row in before)
    due = max(earned_micros + earlier, 0)
    return Earned(base.calls, base.without_cost, base.micros, earned_micros, earlier, due), recounted


def _by_now(session: Session, account: Account, row: CommissionMonth) -> int:
    payer = session.exec(select(Account).where(Account.id == row.payer_id)).one()
    return part_of(base_of(session, Terms(account, payer, row.basis, row.since, row.until)).micros, row.ppm)


def _count(  # noqa: PLR0917 - private, one month as it is booked
    session: Session,
    account: Account,
    commission: Commission,
    above: Account,
    period: Period,
    found: Earned,
    recounted: Recounted,
    now: datetime,
) -> None:
    """Write down what a month earned and what is booked with it, and what became of those before."""
    for row, by_now in recounted:
        row.earned_micros, row.counted_at = by_now, now
    session.add(
        CommissionMonth(
            account_id=account.id or 0,
            month=period.name,
            payer_id=above.id or 0,
            basis=commission.basis,
            ppm=commission.ppm,
            since=period.since,
            until=period.until,
            earned_micros=found.earned_micros,
            paid_micros=found.amount_micros,
            counted_at=now,
        )
    )
    session.flush()


def part_of(base_micros: int, ppm: int) -> int:
    """Cut to a micro-unit; a loss earns nothing and owes nothing."""
    return max(base_micros, 0) * ppm // WHOLE
