"""Paying a commission as an edge does it: a reseller's money set aside first, then SQL, then Redis told."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sqlalchemy.engine import Engine
from sqlmodel import Session

from billing import commissions, moves
from billing.commissions import PaidOut
from billing.credit.store import CreditStore, Share
from billing.errors import NotFound
from billing.models import Account, AccountKind
from billing.operations import next_try
from billing.ports import Clock
from billing.store import reading


async def pay(
    engine: Engine, credit: CreditStore, account_id: int, month: str, *, actor: str, clock: Clock
) -> tuple[PaidOut, bool]:
    """Book a month's commission once; return it, and whether the live store knows.

    Raises what `commissions.pay_commission` raises, and `CreditUnavailable` where money cannot be set aside. A reseller
    that lacks the money may be asked again: each try that was refused is remembered for itself.
    """

    def look() -> str:
        with reading(engine) as session:
            return next_try(session, commissions.operation_of(account_id, month))

    operation = await asyncio.to_thread(look)

    def takes(session: Session) -> list[Share]:
        account = session.get(Account, account_id)
        above = session.get(Account, account.parent_id) if account else None
        if account is None or above is None:
            raise NotFound(f"there is no account '{account_id}'")
        amount = commissions.earned(session, account_id, month).amount_micros
        if above.kind is AccountKind.OPERATOR or not amount:
            return []
        return [Share(commissions.source_wallet(session, account, above), above.id or 0, amount)]

    def do(session: Session, hold: str | None, now: datetime) -> PaidOut:
        return commissions.pay_commission(
            session, account_id, month, operation=operation, hold=hold, actor=actor, now=now
        )

    order = moves.Order(operation, ["commission", account_id, month], takes, do)
    moved = await moves.move(engine, credit, order, clock=clock)
    return moved.done, moved.live
