"""What an account has: booked, held by live calls, available; and the holds one by one."""

from __future__ import annotations

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from billing.accounts import AccountView
from billing.models import AccountKind
from billing.ports import to_ms
from billing.store import reading
from web.api.accounts import view_of
from web.api.auth import Asking
from web.api.problems import Problem
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Amount, Currency, Moment, Page, Shape, amount
from web.context import CREDIT_DOWN, panel_of
from web.render import from_ms

router = resource("money")

MOST_HOLDS = 1000


class BalanceShape(Shape):
    """Money at this moment. available = balance + credit_limit − held."""

    account_id: int = Field(examples=[5])
    currency: Currency
    balance: Amount
    credit_limit: Amount
    held: Amount | None = Field(description="By live calls; null where the live store does not know.")
    available: Amount | None
    live: bool = Field(description="Whether the live credit store has answered.")


class HoldShape(Shape):
    """Money set aside for one call, or for a movement that is under way."""

    call_id: str = Field(examples=["pbx:1763892000.7"])
    amount: Amount
    currency: Currency
    deadline_at: Moment | None = Field(description="Null where the call is over and its charge is being booked.")


@router.get("/accounts/{account_id}/balance", **needs("money:read", "refused"))
async def get_balance(request: Request, caller: Asking, account_id: AccountId) -> BalanceShape:
    """Return what an account has now."""
    panel = panel_of(request)
    view = await run_in_threadpool(_view, request, caller, account_id)
    try:
        wallet = await panel.credit.wallet(view.wallet_id)
    except CREDIT_DOWN:
        wallet = None
    return BalanceShape(
        account_id=view.id,
        currency=view.currency,
        balance=amount(view.balance_micros),
        credit_limit=amount(view.credit_limit_micros),
        held=None if wallet is None else amount(wallet.held_micros),
        available=None if wallet is None else amount(wallet.available_micros),
        live=wallet is not None,
    )


@router.get("/accounts/{account_id}/holds", **needs("money:read", "refused", "credit_unavailable"))
async def list_holds(request: Request, caller: Asking, account_id: AccountId) -> Page[HoldShape]:
    """List what is held of an account's money, the earliest deadline first."""
    panel = panel_of(request)
    view = await run_in_threadpool(_view, request, caller, account_id)
    try:
        holds = await panel.credit.holds()
    except CREDIT_DOWN:
        raise Problem("credit_unavailable") from None
    now_ms = to_ms(panel.clock.now())
    found = []
    for hold in sorted(holds, key=lambda one: (one.finished, one.deadline_ms)):
        share = next((one for one in hold.shares if one.wallet_id == view.wallet_id), None)
        if share is not None and share.amount_micros:
            # Of a call that is over the deadline is without end, or long gone.
            ends = None if hold.finished or hold.deadline_ms > now_ms * 2 else from_ms(hold.deadline_ms)
            found.append(
                HoldShape(
                    call_id=hold.call_id,
                    amount=amount(share.amount_micros),
                    currency=view.currency,
                    deadline_at=ends,
                )
            )
    return Page(items=found[:MOST_HOLDS])


def _view(request: Request, caller: Asking, account_id: int) -> AccountView:
    with reading(panel_of(request).engine) as session:
        view = view_of(session, caller, account_id)
    if view.kind is AccountKind.OPERATOR:
        raise Problem("refused", "The operator has no wallet of its own; see its books.")
    return view
