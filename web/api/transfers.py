"""Transfers: one's own money to an account right below, or back from it."""

from __future__ import annotations

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import Response

from billing import moves
from billing.store import reading
from web.api.auth import Asking
from web.api.once import IdempotencyKey, once
from web.api.problems import Problem
from web.api.routes import MOST_ID, needs, resource
from web.api.shapes import Amount, Body, Currency, Positive, Reason, Shape, amount
from web.api.topups import check_currency
from web.context import panel_of

router = resource("money")


class NewTransfer(Body):
    """Money from one account to the one right above or below it."""

    from_account_id: int = Field(ge=1, le=MOST_ID, examples=[2])
    to_account_id: int = Field(ge=1, le=MOST_ID, examples=[5])
    amount: Positive
    currency: str | None = Field(
        default=None, pattern="^[A-Z]{3}$", description="If given, it must be the accounts'.", examples=["EUR"]
    )
    reason: Reason = ""


class TransferShape(Shape):
    """A transfer that is booked."""

    operation: str = Field(description="Its name in the ledger.", examples=["api:2:8f14e45f"])
    transaction_id: int = Field(examples=[4711])
    from_account_id: int
    to_account_id: int
    amount: Amount
    balance: Amount = Field(description="What the giver has left.")
    currency: Currency
    reason: str


@router.post(
    "/transfers",
    status_code=201,
    response_model=TransferShape,
    **needs("money:write", "not_allowed", changes=True, once=True),
)
async def add_transfer(
    request: Request, caller: Asking, body: NewTransfer, idempotency_key: IdempotencyKey = None
) -> Response:
    """Move money between neighbours in the tree, out of what the giver has available; live calls feel it at once."""
    panel = panel_of(request)

    def check() -> str:
        with reading(panel.engine) as session:
            giver = caller.reach.see(session, body.from_account_id)
            caller.reach.see(session, body.to_account_id)
            if not caller.reach.whole and caller.reach.account_id not in {body.from_account_id, body.to_account_id}:
                raise Problem("not_allowed", "A reseller gives and takes back its own money only.")
            check_currency(body.currency, giver.currency)
            return giver.currency

    async def act(operation: str) -> TransferShape:
        currency = await run_in_threadpool(check)
        moved = await moves.transfer(
            panel.engine,
            panel.credit,
            body.from_account_id,
            body.to_account_id,
            body.amount,
            operation=operation,
            actor=caller.actor,
            reason=body.reason,
            clock=panel.clock,
        )
        return TransferShape(
            operation=operation,
            transaction_id=moved.done.transaction_id,
            from_account_id=body.from_account_id,
            to_account_id=body.to_account_id,
            amount=amount(moved.done.amount_micros),
            balance=amount(moved.done.balance_micros),
            currency=currency,
            reason=body.reason,
        )

    facts = (body.from_account_id, body.to_account_id, body.amount, body.currency, body.reason)
    return await once(request, caller, idempotency_key, facts, act)
