"""Accounts, their identities, their wallets. Nothing with a history is ever deleted; every change is audited and bumps
the version of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from billing.models import Account, AccountKind, AccountStatus, IdentityKind


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as people see it. `balance_micros` is the SQL balance of its money wallet."""

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
    raise NotImplementedError


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
    """Add a reseller or customer under `parent` (default: the operator), in the parent's currency, with its money wallet."""
    raise NotImplementedError


def set_status(session: Session, account_id: int, status: AccountStatus, *, actor: str, now: datetime) -> None:
    """Block, activate, park or close an account."""
    raise NotImplementedError


def find_account(session: Session, name_or_id: str) -> AccountView:
    """Return one account by name or number. Raises `NotFound`."""
    raise NotImplementedError


def list_accounts(session: Session, *, after_id: int = 0, most: int = 100) -> list[AccountView]:
    """Return a page of accounts in order of id, operator included."""
    raise NotImplementedError
