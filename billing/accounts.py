"""Accounts, their identities, their wallets. What may be changed afterwards is in `account_changes`.

Nothing with a history is ever deleted; every change is audited and bumps the version of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from billing import audit, blocks
from billing import limits as rules
from billing.catalogue import bump_catalogue
from billing.chart import ledger_account
from billing.errors import Conflict, NotFound, Refused
from billing.events.emit import emit
from billing.events.kinds import EventKind
from billing.models import (
    Account,
    AccountKind,
    AccountStatus,
    BillingMode,
    ExchangeRate,
    Identity,
    IdentityKind,
    Tariff,
    TariffOwner,
    Wallet,
    WalletKind,
    id_of,
)

OPERATOR_WALLETS = (WalletKind.INCOME, WalletKind.CASH, WalletKind.ADJUSTMENT)
"""The ledger accounts of the operator, in each currency that somebody under it has."""


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as people see it. `balance_micros` is the SQL balance of its money wallet.

    The operator has no money wallet: its `wallet_id` is its income, which keeps no balance and shows 0.
    """

    id: int
    name: str
    kind: AccountKind
    status: AccountStatus
    parent: str | None
    currency: str
    tariff: str | None
    wallet_id: int
    balance_micros: int
    credit_limit_micros: int
    billing_mode: BillingMode
    timezone: str
    language: str
    brand: str
    max_calls: int | None
    max_cps: int | None
    max_day_micros: int | None
    max_call_micros: int | None
    barred: tuple[str, ...]
    allowed: tuple[str, ...]
    hours: tuple[str, ...]
    low_balance_micros: int | None
    clear_balance_micros: int | None
    identities: tuple[tuple[IdentityKind, str], ...]
    """In the order in which they were given. The value of a PIN is its number, never its digest."""
    created_at: datetime
    parent_id: int | None
    pins: tuple[tuple[str, datetime], ...] = ()
    """When its PINs were made, by their numbers."""


def add_operator(session: Session, *, name: str, currency: str, actor: str, now: datetime) -> Account:
    """Make the root of the tree, once. Its wallets: income, cash, adjustment."""
    if session.exec(select(Account).where(Account.kind == AccountKind.OPERATOR)).first():
        raise Conflict("there is an operator already")
    rules.checked_currency(currency)
    account = Account(kind=AccountKind.OPERATOR, name=checked_name(session, name), currency=currency, created_at=now)
    return _add(session, account, OPERATOR_WALLETS, (), actor=actor, now=now)


def add_account(
    session: Session,
    *,
    name: str,
    kind: AccountKind,
    parent: str | None = None,
    tariff: str | None = None,
    currency: str | None = None,
    credit_limit_micros: int = 0,
    billing_mode: BillingMode | None = None,
    timezone: str | None = None,
    language: str | None = None,
    brand: str = "",
    max_calls: int | None = None,
    max_cps: int | None = None,
    max_day_micros: int | None = None,
    max_call_micros: int | None = None,
    barred: Sequence[str] = (),
    allowed: Sequence[str] = (),
    hours: Sequence[str] = (),
    low_balance_micros: int | None = None,
    clear_balance_micros: int | None = None,
    identities: Sequence[tuple[IdentityKind, str]] = (),
    within: int | None = None,
    actor: str,
    now: datetime,
) -> Account:
    """Add a reseller or customer under `parent` (default: the operator, or `within`) with its money wallet.

    `within`: the reseller on whose behalf it is done, who has nothing but its own subtree; None: the operator.

    What is not given of currency, time zone and language is as above it; a currency of its own only who stands under
    the operator can have: a reseller's customers pay into the reseller's wallet. Raises `NotFound` (parent, tariff),
    `Conflict` (name, identity), `TooLarge` (an amount), `Refused` (all else).
    """
    if kind is AccountKind.OPERATOR:
        raise Refused("there is one operator; add a reseller or a customer")
    above = _parent(session, parent, within)
    own = rules.checked_currency(currency or above.currency)
    if own != above.currency and above.kind is not AccountKind.OPERATOR:
        raise Refused(f"{above.name!r} has {above.currency}, and so have all accounts under it")
    credit = rules.checked_amount("a credit limit", credit_limit_micros) or 0
    rules.checked_thresholds(low_balance_micros, clear_balance_micros)
    account = Account(
        parent_id=above.id,
        kind=kind,
        name=checked_name(session, name),
        currency=own,
        tariff_id=tariff_for(session, tariff, own, above, within=within),
        credit_limit_micros=credit,
        billing_mode=rules.checked_mode(billing_mode, credit),
        timezone=rules.checked_timezone(timezone or above.timezone),
        language=rules.checked_language(language or above.language),
        brand=rules.checked_brand(brand),
        max_calls=rules.checked_number("calls at once", max_calls),
        max_cps=rules.checked_number("calls per second", max_cps),
        max_day_micros=rules.checked_amount("the cost of a day", max_day_micros),
        max_call_micros=rules.checked_amount("the cost of a call", max_call_micros),
        barred=rules.checked_prefixes("a barred prefix", barred),
        allowed=rules.checked_prefixes("an allowed prefix", allowed),
        hours=rules.checked_hours(hours),
        low_balance_micros=rules.checked_amount("a low balance", low_balance_micros),
        clear_balance_micros=rules.checked_amount("a balance that clears the alert", clear_balance_micros),
        created_at=now,
    )
    ensure_ledger(session, above, own)
    return _add(session, account, (WalletKind.MONEY,), checked(session, identities), actor=actor, now=now)


def set_status(
    session: Session, account_id: int, status: AccountStatus, *, by: int | None = None, actor: str, now: datetime
) -> None:
    """Block, activate or park an account, on behalf of the reseller `by` (None: the operator).

    Who blocked decides who may lift it (`billing.blocks`). Raises `NotFound`; `Refused` for the operator, for a closed
    account, and for a block of who stands above.
    """
    account = session.exec(
        select(Account).where(Account.id == account_id).with_for_update(key_share=True)
    ).one_or_none()
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    if account.kind is AccountKind.OPERATOR:
        raise Refused("the operator is always active")
    if account.status is status:
        _block_higher(session, account, by, actor=actor, now=now)
        return
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed, for good: its numbers may be somebody else's by now")
    if status is AccountStatus.CLOSED:
        raise Refused("closing an account is more than a status: close it")
    blocks.check_lift(session, account, by)
    was, account.status = account.status, status
    session.flush()
    blocks.note_status(session, account_id, status, by)
    _audit_status(session, account_id, {"status": was.value}, {"status": status.value}, actor=actor, now=now)
    if status in {AccountStatus.BLOCKED, AccountStatus.PARKED}:
        data = {"account": {"id": account_id, "name": account.name}, "status": status.value, "before": was.value}
        # The moment is part of the key: an account may be blocked again another day.
        key = f"{account_id}:{now.isoformat()}"
        emit(session, EventKind.ACCOUNT_BLOCKED, [(key, account_id, data)], now=now)
    bump_catalogue(session)


def _block_higher(session: Session, account: Account, by: int | None, *, actor: str, now: datetime) -> None:
    """Take a block over from a reseller further below; anything else is so already."""
    account_id = id_of(account)
    if account.status is not AccountStatus.BLOCKED or not blocks.takes_over(session, account_id, by):
        return
    before = {"status": account.status.value, "blocked_by": blocks.blocker_of(session, account_id)}
    blocks.note_status(session, account_id, account.status, by)
    after = {"status": account.status.value, "blocked_by": by}
    _audit_status(session, account_id, before, after, actor=actor, now=now)


def _audit_status(
    session: Session, account_id: int, before: dict[str, Any], after: dict[str, Any], *, actor: str, now: datetime
) -> None:
    subject = f"account:{account_id}"
    audit.record(session, actor=actor, action="account.status", subject=subject, before=before, after=after, now=now)


def find_account(session: Session, name_or_id: str) -> AccountView:
    """Return one account by name or number. Raises `NotFound`."""
    # No name is a number (`checked_name`), so the two never compete.
    if re.fullmatch(r"[0-9]{1,18}", name_or_id):
        found = session.exec(select(Account).where(Account.id == int(name_or_id))).one_or_none()
    else:
        found = session.exec(select(Account).where(Account.name == name_or_id)).one_or_none()
    if found is None:
        raise NotFound(f"there is no account {name_or_id!r}")
    return views_of(session, [found])[0]


def list_accounts(session: Session, *, after_id: int = 0, most: int = 100) -> list[AccountView]:
    """Return a page of accounts in order of id, operator included."""
    page = select(Account).where(col(Account.id) > after_id).order_by(col(Account.id)).limit(most)
    return views_of(session, session.exec(page).all())


def _add(
    session: Session,
    account: Account,
    wallets: Sequence[WalletKind],
    identities: Sequence[tuple[IdentityKind, str]],
    *,
    actor: str,
    now: datetime,
) -> Account:
    try:
        session.add(account)
        session.flush()
        account_id = id_of(account)
        session.add_all(Wallet(account_id=account_id, kind=kind, currency=account.currency) for kind in wallets)
        session.add_all(
            Identity(account_id=account_id, kind=kind, value=value, made_at=now) for kind, value in identities
        )
        session.flush()
    except IntegrityError as error:
        # The checks before found nothing, so another unit of work was faster.
        raise Conflict(f"the name or an identity of account {account.name!r} has just been taken") from error
    after = account.model_dump(mode="json", exclude={"id", "created_at"})
    after["identities"] = [f"{kind.value}:{value}" for kind, value in identities]
    audit.record(session, actor=actor, action="account.add", subject=f"account:{account_id}", after=after, now=now)
    session.flush()
    bump_catalogue(session)
    return account


def checked_name(session: Session, name: str) -> str:
    """Return a name that no account has. Raises `Refused`, `Conflict`."""
    if not name or len(name) > 100 or name != name.strip() or not name.isprintable():  # noqa: PLR2004 - the column's
        raise Refused("a name is 1 to 100 printable characters, without spaces around it")
    if re.fullmatch(r"[0-9]+", name):
        raise Refused(f"the name {name!r} would be taken for an account's number")
    if session.exec(select(Account.id).where(Account.name == name)).first() is not None:
        raise Conflict(f"there is an account {name!r} already")
    return name


def _parent(session: Session, name: str | None, within: int | None) -> Account:
    """Return the account above, which must take new accounts."""
    if name is not None:
        asked = select(Account).where(Account.name == name)
    elif within is not None:
        asked = select(Account).where(Account.id == within)
    else:
        asked = select(Account).where(Account.kind == AccountKind.OPERATOR)
    above = session.exec(asked).one_or_none()
    if above is None or (within is not None and within not in owners_above(session, above, within)):
        raise NotFound("there is no operator yet" if name is None else f"there is no account {name!r}")
    if above.kind is AccountKind.CUSTOMER:
        raise Refused(f"{above.name!r} is a customer; only the operator and resellers have accounts under them")
    if above.status is AccountStatus.CLOSED:
        raise Refused(f"{above.name!r} is closed")
    return above


def ensure_ledger(session: Session, above: Account, currency: str) -> None:
    """Give the operator ledger accounts in a currency that somebody directly under it has."""
    if above.kind is AccountKind.OPERATOR:
        for kind in OPERATOR_WALLETS:
            ledger_account(session, kind, currency)


def _convertible(session: Session, from_currency: str, to_currency: str) -> bool:
    pair = (ExchangeRate.from_currency == from_currency, ExchangeRate.to_currency == to_currency)
    return session.exec(select(ExchangeRate.id).where(*pair)).first() is not None


def tariff_for(session: Session, name: str | None, currency: str, above: Account, *, within: int | None) -> int | None:
    """Return the tariff of this name that an account under `above` may be given.

    Prices are made by who is paid: a tariff belongs to the operator or to a reseller above the account, and who acts
    for `within` gives only tariffs of its own subtree. Raises `NotFound`, and `Refused` for another currency.
    """
    if name is None:
        return None
    asked = select(Tariff, TariffOwner.account_id).join(
        TariffOwner, col(TariffOwner.tariff_id) == col(Tariff.id), isouter=True
    )
    found = session.exec(asked.where(Tariff.name == name)).one_or_none()
    owners = owners_above(session, above, within)
    if found is None or found[1] not in owners:
        raise NotFound(f"there is no tariff {name!r}")
    tariff = found[0]
    if tariff.currency != currency and not _convertible(session, tariff.currency, currency):
        raise Refused(
            f"the tariff {name!r} is in {tariff.currency}, the account in {currency}, and there is no exchange rate: "
            f"callctl exchange set {tariff.currency} {currency}"
        )
    return tariff.id


def owners_above(session: Session, above: Account, within: int | None) -> set[int | None]:
    """Return who may own the tariff of an account under `above`; None stands for the operator."""
    owners: set[int | None] = set()
    at: Account | None = above
    while at is not None and at.id not in owners:
        if at.kind is AccountKind.OPERATOR:
            return owners | {None} if within is None else owners
        owners.add(at.id)
        if at.id == within:
            return owners
        at = session.get(Account, at.parent_id)
    return owners


def checked(session: Session, identities: Sequence[tuple[IdentityKind, str]]) -> list[tuple[IdentityKind, str]]:
    """Return identities in the form in which they are kept. Raises `Conflict` where one is in use, `Refused`."""
    if any(kind is IdentityKind.PIN for kind, _ in identities):
        raise Refused("a PIN is made for an account that is there, by itself: nobody brings its digest")
    wanted = [(kind, rules.checked_identity(kind, value)) for kind, value in identities]
    for kind, value in wanted:
        taken = select(Identity.id).where(
            Identity.kind == kind, Identity.value == value, col(Identity.freed_at).is_(None)
        )
        if session.exec(taken).first() is not None:
            raise Conflict(f"the {kind.value} {value!r} belongs to an account already")
    if len(set(wanted)) < len(wanted):
        raise Conflict("an identity is given twice")
    return wanted


def shown_value(identity: Identity) -> str:
    """Return by what people know an identity: of a PIN the number of its row, since nobody has the PIN itself."""
    return str(identity.id) if identity.kind is IdentityKind.PIN else identity.value


def views_of(session: Session, accounts: Sequence[Account]) -> list[AccountView]:
    """Return accounts as people see them, in the order given."""
    ids = [id_of(account) for account in accounts]
    asked = select(Wallet).join(Account, col(Account.id) == col(Wallet.account_id))
    asked = asked.where(
        col(Wallet.account_id).in_(ids),
        col(Wallet.kind).in_([WalletKind.MONEY, WalletKind.INCOME]),
        col(Wallet.currency) == col(Account.currency),
    )
    wallets = {wallet.account_id: wallet for wallet in session.exec(asked).all()}
    parent_ids = {account.parent_id for account in accounts if account.parent_id}
    parents = dict(session.exec(select(Account.id, Account.name).where(col(Account.id).in_(parent_ids))).all())
    tariffs = dict(session.exec(select(Tariff.id, Tariff.name)).all())
    identities: dict[int, list[tuple[IdentityKind, str]]] = {}
    pins: dict[int, list[tuple[str, datetime]]] = {}
    rows = select(Identity).where(col(Identity.account_id).in_(ids), col(Identity.freed_at).is_(None))
    rows = rows.order_by(col(Identity.id))
    for row in session.exec(rows).all():
        identities.setdefault(row.account_id, []).append((row.kind, shown_value(row)))
        if row.kind is IdentityKind.PIN and row.made_at is not None:
            pins.setdefault(row.account_id, []).append((shown_value(row), row.made_at))
    return [
        AccountView(
            id=account_id,
            name=account.name,
            kind=account.kind,
            status=account.status,
            parent=parents.get(account.parent_id),
            currency=account.currency,
            tariff=tariffs.get(account.tariff_id),
            wallet_id=id_of(wallets[account_id]),
            balance_micros=wallets[account_id].balance_micros,
            credit_limit_micros=account.credit_limit_micros,
            billing_mode=account.billing_mode,
            timezone=account.timezone,
            language=account.language,
            brand=account.brand,
            max_calls=account.max_calls,
            max_cps=account.max_cps,
            max_day_micros=account.max_day_micros,
            max_call_micros=account.max_call_micros,
            barred=tuple(account.barred),
            allowed=tuple(account.allowed),
            hours=tuple(account.hours),
            low_balance_micros=account.low_balance_micros,
            clear_balance_micros=account.clear_balance_micros,
            identities=tuple(identities.get(account_id, ())),
            pins=tuple(pins.get(account_id, ())),
            created_at=account.created_at,
            parent_id=account.parent_id,
        )
        for account_id, account in zip(ids, accounts, strict=True)
    ]
