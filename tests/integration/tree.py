"""A small tree of accounts that the store's tests share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import func
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing.accounts import add_account, add_operator, find_account
from billing.cdrs import EndedCall, EndedCharge
from billing.models import LIVE_KINDS, AccountKind, Posting, Wallet, WalletKind, id_of
from billing.store import reading, work
from rating.pricing import cost
from rating.tariff import Rate, Rounding, RoundingMode, Step

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
    assert kept == (total if kind in LIVE_KINDS else 0)
    return total


RATE = Rate(
    prefix="4930",
    destination="Berlin",
    connect_fee=Decimal("0.05"),
    steps=(Step(from_s=0, price=Decimal("0.06"), per_s=60, increment_s=30),),
    rounding=Rounding(RoundingMode.HALF_UP, 4),
)
"""5 cents, then a tenth of a cent per second, in half minutes."""


def charge(account_id: int, wallet_id: int, to_wallet_id: int, seconds: int, **changes: Any) -> EndedCharge:
    """Charge one account for that much talk at `RATE`."""
    amount, billed_s = cost(RATE, seconds)
    facts = {"tariff": "retail", "tariff_id": 1, "version": 3, "rate": RATE.facts(), "billable_s": seconds}
    made = EndedCharge(account_id, wallet_id, to_wallet_id, amount, "EUR", billed_s, facts)
    return replace(made, **changes)


def ended(call_id: str, account_id: int | None, *charges: EndedCharge, seconds: int = 0, **changes: Any) -> EndedCall:
    """Return a call that ended `seconds` after its answer."""
    answered = NOW if seconds else None
    made = EndedCall(
        call_id=call_id,
        switch="sw",
        account_id=account_id,
        direction="outbound",
        caller="100",
        callee="49301234",
        destination="Berlin",
        disposition="answered" if seconds else "busy",
        reason="",
        sip_status=None,
        cause=16,
        hung_up_by="caller",
        offered_at=NOW,
        answered_at=answered,
        ended_at=NOW + timedelta(seconds=seconds),
        talk_ms=seconds * 1000,
        billable_ms=seconds * 1000,
        estimated=False,
        charges=charges,
    )
    return replace(made, **changes)


def cleos_call(tree: Tree, call_id: str, seconds: int, **changes: Any) -> EndedCall:
    """Return a call of cleo: she pays ray, ray pays the operator."""
    cleos = charge(tree.cleo, tree.cleo_wallet, tree.ray_wallet, seconds)
    rays = charge(tree.ray, tree.ray_wallet, tree.income, seconds)
    return ended(call_id, tree.cleo, cleos, rays, seconds=seconds, **changes)


def carls_call(tree: Tree, call_id: str, seconds: int, **changes: Any) -> EndedCall:
    """Return a call of carl, who pays the operator."""
    one = charge(tree.carl, tree.carl_wallet, tree.income, seconds)
    return ended(call_id, tree.carl, one, seconds=seconds, **changes)
