"""A small tree of accounts that the store's tests share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing.accounts import add_account, add_operator, find_account
from billing.models import AccountKind, Posting, Wallet, WalletKind, id_of
from billing.store import reading, work

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EURO = 1_000_000


@dataclass(frozen=True, slots=True)
class Tree:
    """Operator → reseller ray → customer cleo; operator → customer carl. Account ids, and `…_wallet` ids."""

    operator: int
    ray: int
    cleo: int
    carl: int
    income: int
    cash: int
    ray_wallet: int
    cleo_wallet: int
    carl_wallet: int


def plant(engine: Engine, *, ray_credit: int = 0) -> Tree:
    """Make the tree, all in EUR, without money."""
    with work(engine) as session:
        operator = add_operator(session, name="op", currency="EUR", actor="test", now=NOW)
        reseller, customer = AccountKind.RESELLER, AccountKind.CUSTOMER
        ray = add_account(session, name="ray", kind=reseller, credit_limit_micros=ray_credit, actor="test", now=NOW)
        cleo = add_account(session, name="cleo", kind=customer, parent="ray", actor="test", now=NOW)
        carl = add_account(session, name="carl", kind=customer, actor="test", now=NOW)
        of_operator = select(Wallet.kind, Wallet.id).where(Wallet.account_id == operator.id)
        own = dict(session.exec(of_operator).all())
        return Tree(
            operator=id_of(operator),
            ray=id_of(ray),
            cleo=id_of(cleo),
            carl=id_of(carl),
            income=own[WalletKind.INCOME] or 0,
            cash=own[WalletKind.CASH] or 0,
            ray_wallet=find_account(session, "ray").wallet_id,
            cleo_wallet=find_account(session, "cleo").wallet_id,
            carl_wallet=find_account(session, "carl").wallet_id,
        )


def balance(engine: Engine, wallet_id: int) -> int:
    """Return what the postings of a wallet sum to, and check that its kept balance says the same."""
    with reading(engine) as session:
        return balance_in(session, wallet_id)


def balance_in(session: Session, wallet_id: int) -> int:
    """Do the same inside a unit of work."""
    asked = select(func.coalesce(func.sum(Posting.amount_micros), 0)).where(col(Posting.wallet_id) == wallet_id)
    total = int(session.exec(asked).one())
    kind, kept = session.exec(select(Wallet.kind, Wallet.balance_micros).where(Wallet.id == wallet_id)).one()
    assert kept == (total if kind is WalletKind.MONEY else 0)
    return total
