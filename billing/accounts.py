"""Accounts, their identities, their wallets.

Nothing with a history is ever deleted; every change is audited and bumps the version of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import bump_catalogue
from billing.errors import Conflict, NotFound, Refused, TooLarge
from billing.models import (
    Account,
    AccountKind,
    AccountStatus,
    Identity,
    IdentityKind,
    Tariff,
    Wallet,
    WalletKind,
    id_of,
)
from rating.money import MOST_MICROS

MOST_LIMIT = 1_000_000
"""No account may have more calls at once, or per second."""


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
    max_calls: int | None
    max_cps: int | None
    barred: tuple[str, ...]
    identities: tuple[tuple[IdentityKind, str], ...]
    created_at: datetime


def add_operator(session: Session, *, name: str, currency: str, actor: str, now: datetime) -> Account:
    """Make the root of the tree, once. Its wallets: income, cash, adjustment."""
    if session.exec(select(Account).where(Account.kind == AccountKind.OPERATOR)).first():
        raise Conflict("there is an operator already")
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise Refused(f"a currency is three capital letters such as EUR, not {currency!r}")
    account = Account(kind=AccountKind.OPERATOR, name=_checked_name(session, name), currency=currency, created_at=now)
    kinds = (WalletKind.INCOME, WalletKind.CASH, WalletKind.ADJUSTMENT)
    return _add(session, account, kinds, (), actor=actor, now=now)


def add_account(
    session: Session,
    *,
    name: str,
    kind: AccountKind,
    parent: str | None = None,
    tariff: str | None = None,
    credit_limit_micros: int = 0,
    max_calls: int | None = None,
    max_cps: int | None = None,
    barred: Sequence[str] = (),
    identities: Sequence[tuple[IdentityKind, str]] = (),
    actor: str,
    now: datetime,
) -> Account:
    """Add a reseller or customer under `parent` (default: the operator), in its currency, with its money wallet.

    Raises `NotFound` (parent, tariff), `Conflict` (name, identity), `TooLarge` (credit limit), `Refused` (all else).
    """
    if kind is AccountKind.OPERATOR:
        raise Refused("there is one operator; add a reseller or a customer")
    above = _parent(session, parent)
    if credit_limit_micros < 0:
        raise Refused("a credit limit is 0 or more")
    if credit_limit_micros > MOST_MICROS:
        raise TooLarge("a credit limit must stay below 2**53 micro-units")
    for what, limit in (("calls at once", max_calls), ("calls per second", max_cps)):
        if limit is not None and not 0 <= limit <= MOST_LIMIT:
            raise Refused(f"the limit of {what} is a number from 0 to {MOST_LIMIT}")
    for prefix in barred:
        if not re.fullmatch(r"[0-9]{1,32}", prefix):
            raise Refused(f"a barred prefix is digits only, not {prefix!r}")
    account = Account(
        parent_id=above.id,
        kind=kind,
        name=_checked_name(session, name),
        currency=above.currency,
        tariff_id=_tariff_id(session, tariff, above.currency),
        credit_limit_micros=credit_limit_micros,
        max_calls=max_calls,
        max_cps=max_cps,
        barred=list(barred),
        created_at=now,
    )
    return _add(session, account, (WalletKind.MONEY,), _checked(session, identities), actor=actor, now=now)


def set_status(session: Session, account_id: int, status: AccountStatus, *, actor: str, now: datetime) -> None:
    """Block, activate, park or close an account. Raises `NotFound`; the operator's status is `Refused`."""
    account = session.exec(
        select(Account).where(Account.id == account_id).with_for_update(key_share=True)
    ).one_or_none()
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    if account.kind is AccountKind.OPERATOR:
        raise Refused("the operator is always active")
    if account.status is status:
        return
    was, account.status = account.status, status
    session.flush()
    audit.record(
        session,
        actor=actor,
        action="account.status",
        subject=f"account:{account_id}",
        before={"status": was.value},
        after={"status": status.value},
        now=now,
    )
    bump_catalogue(session)


def find_account(session: Session, name_or_id: str) -> AccountView:
    """Return one account by name or number. Raises `NotFound`."""
    # No name is a number (`_checked_name`), so the two never compete.
    if re.fullmatch(r"[0-9]{1,18}", name_or_id):
        found = session.exec(select(Account).where(Account.id == int(name_or_id))).one_or_none()
    else:
        found = session.exec(select(Account).where(Account.name == name_or_id)).one_or_none()
    if found is None:
        raise NotFound(f"there is no account {name_or_id!r}")
    return _views(session, [found])[0]


def list_accounts(session: Session, *, after_id: int = 0, most: int = 100) -> list[AccountView]:
    """Return a page of accounts in order of id, operator included."""
    page = select(Account).where(col(Account.id) > after_id).order_by(col(Account.id)).limit(most)
    return _views(session, session.exec(page).all())


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
        session.add_all(Identity(account_id=account_id, kind=kind, value=value) for kind, value in identities)
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


def _checked_name(session: Session, name: str) -> str:
    if not name or len(name) > 100 or name != name.strip() or not name.isprintable():  # noqa: PLR2004 - the column's
        raise Refused("a name is 1 to 100 printable characters, without spaces around it")
    if re.fullmatch(r"[0-9]+", name):
        raise Refused(f"the name {name!r} would be taken for an account's number")
    if session.exec(select(Account.id).where(Account.name == name)).first() is not None:
        raise Conflict(f"there is an account {name!r} already")
    return name


def _parent(session: Session, name: str | None) -> Account:
    """Return the account above, which must take new accounts."""
    asked = select(Account).where(Account.kind == AccountKind.OPERATOR if name is None else Account.name == name)
    above = session.exec(asked).one_or_none()
    if above is None:
        raise NotFound("there is no operator yet" if name is None else f"there is no account {name!r}")
    if above.kind is AccountKind.CUSTOMER:
        raise Refused(f"{above.name!r} is a customer; only the operator and resellers have accounts under them")
    if above.status is AccountStatus.CLOSED:
        raise Refused(f"{above.name!r} is closed")
    return above


def _tariff_id(session: Session, name: str | None, currency: str) -> int | None:
    if name is None:
        return None
    tariff = session.exec(select(Tariff).where(Tariff.name == name)).one_or_none()
    if tariff is None:
        raise NotFound(f"there is no tariff {name!r}")
    if tariff.currency != currency:
        raise Refused(f"the tariff {name!r} is in {tariff.currency}, the account in {currency}")
    return tariff.id


def _checked(session: Session, identities: Sequence[tuple[IdentityKind, str]]) -> Sequence[tuple[IdentityKind, str]]:
    for kind, value in identities:
        if not value or len(value) > 100 or not value.isprintable():  # noqa: PLR2004 - the column's
            raise Refused("an identity is 1 to 100 printable characters")
        if session.exec(select(Identity.id).where(Identity.kind == kind, Identity.value == value)).first() is not None:
            raise Conflict(f"the {kind.value} {value!r} belongs to an account already")
    if len(set(identities)) < len(identities):
        raise Conflict("an identity is given twice")
    return identities


def _views(session: Session, accounts: Sequence[Account]) -> list[AccountView]:
    ids = [id_of(account) for account in accounts]
    asked = select(Wallet).where(
        col(Wallet.account_id).in_(ids), col(Wallet.kind).in_([WalletKind.MONEY, WalletKind.INCOME])
    )
    wallets = {wallet.account_id: wallet for wallet in session.exec(asked).all()}
    parent_ids = {account.parent_id for account in accounts if account.parent_id}
    parents = dict(session.exec(select(Account.id, Account.name).where(col(Account.id).in_(parent_ids))).all())
    tariffs = dict(session.exec(select(Tariff.id, Tariff.name)).all())
    identities: dict[int, list[tuple[IdentityKind, str]]] = {}
    rows = select(Identity).where(col(Identity.account_id).in_(ids)).order_by(col(Identity.id))
    for row in session.exec(rows).all():
        identities.setdefault(row.account_id, []).append((row.kind, row.value))
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
            max_calls=account.max_calls,
            max_cps=account.max_cps,
            barred=tuple(account.barred),
            identities=tuple(identities.get(account_id, ())),
            created_at=account.created_at,
        )
        for account_id, account in zip(ids, accounts, strict=True)
    ]
