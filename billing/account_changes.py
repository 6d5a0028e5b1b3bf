"""What may be changed of an account that is there: its settings, its limits, its identities; and closing it.

A change locks the account's row, is audited with what was and what is, and bumps the catalogue; one that changes
nothing leaves no trace. `within` is the reseller on whose behalf it is done (None: the operator): a foreign account is
not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from billing import audit, blocks
from billing import limits as rules
from billing.accounts import checked, checked_name, shown_value, tariff_for
from billing.catalogue import bump_catalogue
from billing.errors import Conflict, NotFound, Refused
from billing.low_balance import watch_account
from billing.models import (
    Account,
    AccountKind,
    AccountStatus,
    BillingMode,
    Identity,
    IdentityKind,
    Wallet,
    WalletKind,
)
from billing.subtree import require_within
from rating.money import format_amount

MOST_IDENTITIES = 1_000
OF_OPERATOR = frozenset({"name", "timezone", "language", "brand"})
"""What the root of the tree has as well: it makes no calls."""

WATCHED = frozenset({"credit_limit_micros", "low_balance_micros", "clear_balance_micros"})
"""What decides whether little is left."""


class Changes(TypedDict, total=False):
    """What is to be set; what is not named stays as it is. None takes a limit, a threshold or the tariff away."""

    name: str
    tariff: str | None
    credit_limit_micros: int
    billing_mode: BillingMode
    timezone: str
    language: str
    brand: str
    max_calls: int | None
    max_cps: int | None
    max_day_micros: int | None
    max_call_micros: int | None
    barred: Sequence[str]
    allowed: Sequence[str]
    hours: Sequence[str]
    low_balance_micros: int | None
    clear_balance_micros: int | None


def change_account(
    session: Session, account_id: int, changes: Changes, *, within: int | None = None, actor: str, now: datetime
) -> bool:
    """Set what is named; return whether anything is different now.

    A credit limit below what is owed or held is taken: it stops new calls, and no live one loses what it holds. A
    credit limit without a mode brings the mode along where the old one does not fit it. Raises `NotFound`, `Conflict`
    (name), `TooLarge`, `Refused`.
    """
    account = lock_account(session, account_id, within=within)
    if account.kind is AccountKind.OPERATOR and not OF_OPERATOR.issuperset(changes):
        raise Refused("the operator makes no calls: it has a name, a time zone, a language and a brand")
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed")
    wanted = _checked_changes(session, account, changes, within=within)
    was = _facts(account)
    for field, value in wanted.items():
        setattr(account, field, value)
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"the name {account.name!r} has just been taken") from error
    now_is = _facts(account)
    if was == now_is:
        return False
    different = [field for field in now_is if now_is[field] != was[field]]
    audit.record(
        session,
        actor=actor,
        action="account.set",
        subject=f"account:{account_id}",
        before={field: was[field] for field in different},
        after={field: now_is[field] for field in different},
        now=now,
    )
    session.flush()
    if WATCHED.intersection(different):
        watch_account(session, account, actor=actor, now=now)
    bump_catalogue(session)
    return True


def close_account(session: Session, account_id: int, *, within: int | None = None, actor: str, now: datetime) -> None:
    """Close an account for good: no more calls, its identities are free for others, its history stays.

    Refused while there is money in its wallet or owed by it, and while an account under it is open. Closing a closed
    one changes nothing. Calls that are up go on to their end. Raises `NotFound`, `Refused`.
    """
    account = lock_account(session, account_id, within=within)
    if account.kind is AccountKind.OPERATOR:
        raise Refused("the operator cannot be closed")
    if account.status is AccountStatus.CLOSED:
        return
    below = select(Account.name).where(Account.parent_id == account_id, Account.status != AccountStatus.CLOSED)
    if (child := session.exec(below.limit(1)).first()) is not None:
        raise Refused(f"{account.name!r} has open accounts under it, such as {child!r}: close those first")
    # Locked: what is being posted just now is waited for, and what comes after finds the account closed.
    money = select(Wallet.balance_micros, Wallet.currency).where(
        Wallet.account_id == account_id, Wallet.kind == WalletKind.MONEY
    )
    found = session.exec(money.order_by(col(Wallet.id)).with_for_update(key_share=True)).all()
    if (left := next((one for one in found if one[0]), None)) is not None:
        what = "is left" if left[0] > 0 else "is owed"
        raise Refused(f"{format_amount(abs(left[0]))} {left[1]} {what}: settle the balance of {account.name!r} first")
    identities = _in_use(session, account_id)
    was, account.status = account.status, AccountStatus.CLOSED
    blocks.forget_block(session, account_id)
    session.execute(
        update(Identity)
        .where(col(Identity.account_id) == account_id, col(Identity.freed_at).is_(None))
        .values(freed_at=now)
    )
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="account.close",
        subject=f"account:{account_id}",
        before={"status": was.value, "identities": identities},
        after={"status": account.status.value, "identities": []},
        now=now,
    )
    bump_catalogue(session)


def add_identities(
    session: Session,
    account_id: int,
    identities: Sequence[tuple[IdentityKind, str]],
    *,
    within: int | None = None,
    actor: str,
    now: datetime,
) -> None:
    """Let calls with these identities be paid by this account. Raises `NotFound`, `Conflict`, `Refused`."""
    caller_of_calls(session, account_id, within=within)
    wanted = checked(session, identities)
    keep_identities(session, account_id, wanted, actor=actor, now=now)


def caller_of_calls(session: Session, account_id: int, *, within: int | None) -> Account:
    """Return an account that may be given identities, locked. Raises `NotFound`, `Refused`."""
    account = lock_account(session, account_id, within=within)
    if account.kind is AccountKind.OPERATOR or account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} makes no calls")
    return account


def keep_identities(
    session: Session, account_id: int, wanted: Sequence[tuple[IdentityKind, str]], *, actor: str, now: datetime
) -> list[Identity]:
    """Write identities that were checked for a locked account. Raises `Conflict`, `Refused`."""
    before = _in_use(session, account_id)
    if len(before) + len(wanted) > MOST_IDENTITIES:
        raise Refused(f"an account has up to {MOST_IDENTITIES} identities")
    made = [Identity(account_id=account_id, kind=kind, value=value, made_at=now) for kind, value in wanted]
    try:
        session.add_all(made)
        session.flush()
    except IntegrityError as error:
        raise Conflict("one of these identities has just been taken") from error
    _told(session, account_id, before, actor=actor, now=now)
    return made


def free_identity(
    session: Session,
    account_id: int,
    kind: IdentityKind,
    value: str,
    *,
    within: int | None = None,
    actor: str,
    now: datetime,
) -> None:
    """Take an identity away, from now on. Raises `NotFound` where the account has none such."""
    lock_account(session, account_id, within=within)
    before = _in_use(session, account_id)
    kept = rules.checked_identity(kind, value)
    if f"{kind.value}:{kept}" not in before:
        named = "PIN of this number" if kind is IdentityKind.PIN else f"{kind.value} {value[:40]!r}"
        raise NotFound(f"the account has no {named}")
    is_it = col(Identity.id) == int(kept) if kind is IdentityKind.PIN else col(Identity.value) == kept
    session.execute(
        update(Identity)
        .where(
            col(Identity.account_id) == account_id,
            col(Identity.kind) == kind,
            is_it,
            col(Identity.freed_at).is_(None),
        )
        .values(freed_at=now)
    )
    _told(session, account_id, before, actor=actor, now=now)


def lock_account(session: Session, account_id: int, *, within: int | None = None) -> Account:
    """Return an account of the subtree, locked. Raises `NotFound`."""
    require_within(session, within, account_id)
    asked = select(Account).where(Account.id == account_id).with_for_update(key_share=True)
    found = session.exec(asked.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise NotFound(f"there is no account '{account_id}'")
    return found


def _checked_changes(session: Session, account: Account, changes: Changes, *, within: int | None) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    if "name" in changes and changes["name"] != account.name:
        wanted["name"] = checked_name(session, changes["name"])
    if "tariff" in changes:
        above = session.get(Account, account.parent_id)
        if above is None:
            raise NotFound(f"nothing stands above account {account.id}")
        wanted["tariff_id"] = tariff_for(session, changes["tariff"], account.currency, above, within=within)
    credit = (
        rules.checked_amount("a credit limit", changes.get("credit_limit_micros", account.credit_limit_micros)) or 0
    )
    if "credit_limit_micros" in changes or "billing_mode" in changes:
        wanted["credit_limit_micros"] = credit
        wanted["billing_mode"] = _mode(account, changes, credit)
    wanted |= _plain_changes(changes)
    rules.checked_thresholds(
        wanted.get("low_balance_micros", account.low_balance_micros),
        wanted.get("clear_balance_micros", account.clear_balance_micros),
    )
    return wanted


def _mode(account: Account, changes: Changes, credit: int) -> BillingMode:
    if "billing_mode" in changes:
        return rules.checked_mode(changes["billing_mode"], credit)
    fits = account.billing_mode in {BillingMode.FLAT, BillingMode.PAYG}
    return account.billing_mode if fits else rules.checked_mode(None, credit)


def _plain_changes(changes: Changes) -> dict[str, Any]:
    """Return what can be checked by itself."""
    checks: Mapping[str, Any] = {
        "timezone": rules.checked_timezone,
        "language": rules.checked_language,
        "brand": rules.checked_brand,
        "max_calls": lambda value: rules.checked_number("calls at once", value),
        "max_cps": lambda value: rules.checked_number("calls per second", value),
        "max_day_micros": lambda value: rules.checked_amount("the cost of a day", value),
        "max_call_micros": lambda value: rules.checked_amount("the cost of a call", value),
        "barred": lambda value: rules.checked_prefixes("a barred prefix", value),
        "allowed": lambda value: rules.checked_prefixes("an allowed prefix", value),
        "hours": rules.checked_hours,
        "low_balance_micros": lambda value: rules.checked_amount("a low balance", value),
        "clear_balance_micros": lambda value: rules.checked_amount("a balance that clears the alert", value),
    }
    return {field: checks[field](value) for field, value in changes.items() if field in checks}


def _facts(account: Account) -> dict[str, Any]:
    return account.model_dump(mode="json", exclude={"id", "created_at"})


def _in_use(session: Session, account_id: int) -> list[str]:
    asked = select(Identity).where(Identity.account_id == account_id, col(Identity.freed_at).is_(None))
    return [f"{row.kind.value}:{shown_value(row)}" for row in session.exec(asked.order_by(col(Identity.id)))]


def _told(session: Session, account_id: int, before: list[str], *, actor: str, now: datetime) -> None:
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="account.identities",
        subject=f"account:{account_id}",
        before={"identities": before},
        after={"identities": _in_use(session, account_id)},
        now=now,
    )
    session.flush()
    bump_catalogue(session)
