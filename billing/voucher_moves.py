"""Redeeming a voucher as an edge does it: the reseller's money set aside first, then SQL, then Redis told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.engine import Engine
from sqlmodel import Session

from billing import moves, topups, vouchers
from billing.adjustments import money_wallet
from billing.credit.store import CreditStore, Share
from billing.errors import OtherBody, Refused
from billing.ledger import Applied
from billing.models import Account
from billing.operations import next_try
from billing.ports import Clock
from billing.store import again
from billing.vouchers import Redeemed


@dataclass(frozen=True, slots=True)
class _Done:
    """A redemption as a movement of money."""

    redeemed: Redeemed

    @property
    def applied(self) -> tuple[Applied, ...]:
        """The postings that the live credit store must be told."""
        return self.redeemed.top_up.applied if self.redeemed.top_up else ()


async def redeem(
    engine: Engine,
    credit: CreditStore,
    code: str,
    account_id: int,
    *,
    key: bytes,
    actor: str,
    clock: Clock,
) -> tuple[Redeemed, bool]:
    """Redeem a voucher and return what it did, and whether the live store knows; live calls get longer at once.

    Raises what `vouchers.redeem` raises, and `CreditUnavailable` where a reseller's money cannot be set aside.
    """

    def look(session: Session) -> tuple[int, str | None, int]:
        voucher, batch = vouchers.find_open(session, code, account_id, key=key, now=clock.now())
        by_operator = topups.is_paid_by_operator(session, account_id)
        return voucher.id or 0, None if by_operator else next_try(session, f"voucher:{voucher.id}"), batch.face_micros

    voucher_id, own_try, face_micros = await asyncio.to_thread(again, engine, look)
    operation = own_try or f"voucher:{voucher_id}"
    set_aside: list[str] = []

    def takes(session: Session) -> list[Share]:
        account = session.get(Account, account_id)
        above = session.get(Account, account.parent_id) if account and own_try else None
        return [] if above is None else [Share(money_wallet(session, above), above.id or 0, face_micros)]

    def do(session: Session, hold: str | None, now: datetime) -> _Done:
        if hold is not None:
            set_aside.append(hold)
        done = vouchers.redeem(session, code, account_id, key=key, operation=operation, hold=hold, actor=actor, now=now)
        return _Done(done)

    order = moves.Order(operation, topups.topup_body(account_id, face_micros), takes, do)
    try:
        moved = await moves.move(engine, credit, order, clock=clock)
    except OtherBody:
        raise Refused("this voucher is used") from None
    except Refused:
        await moves.settle_reserved(engine, credit, set_aside, clock=clock)
        raise
    if moved.done.redeemed.top_up is None:
        await moves.settle_reserved(engine, credit, set_aside, clock=clock)
    return moved.done.redeemed, moved.live
