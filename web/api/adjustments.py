"""Adjustments: money given or taken by hand, with a reason, against the operator's books."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import Response

from billing import moves
from billing.store import reading
from web.api.auth import Asking
from web.api.once import IdempotencyKey, once
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Amount, Body, Currency, NotZero, Shape, amount
from web.api.topups import check_currency
from web.context import panel_of

router = resource("corrections")

Why = Annotated[str, Field(min_length=1, max_length=500, examples=["goodwill for the outage of Monday"])]


class NewAdjustment(Body):
    """Money given (more than 0) or taken (less than 0)."""

    amount: NotZero
    currency: str | None = Field(
        default=None, pattern="^[A-Z]{3}$", description="If given, it must be the account's.", examples=["EUR"]
    )
    reason: Why
    beyond: bool = Field(default=False, description="Take it even where the money is not there.")


class AdjustmentShape(Shape):
    """An adjustment that is booked."""

    operation: str = Field(examples=["api:1:8f14e45f"])
    transaction_id: int = Field(examples=[4711])
    account_id: int
    amount: Amount
    balance: Amount
    currency: Currency
    reason: str


@router.post(
    "/accounts/{account_id}/adjustments",
    status_code=201,
    response_model=AdjustmentShape,
    **needs("corrections:write", changes=True, once=True),
)
async def add_adjustment(
    request: Request,
    caller: Asking,
    *,
    account_id: AccountId,
    body: NewAdjustment,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Give an account money, or take some, with a reason that stands in its statement."""
    panel = panel_of(request)

    def check() -> str:
        with reading(panel.engine) as session:
            account = caller.reach.see_below(session, account_id)
            check_currency(body.currency, account.currency)
            return account.currency

    async def act(operation: str) -> AdjustmentShape:
        currency = await run_in_threadpool(check)
        moved = await moves.adjust(
            panel.engine,
            panel.credit,
            account_id,
            body.amount,
            operation=operation,
            actor=caller.actor,
            reason=body.reason,
            beyond=body.beyond,
            clock=panel.clock,
        )
        return AdjustmentShape(
            operation=operation,
            transaction_id=moved.done.transaction_id,
            account_id=account_id,
            amount=amount(moved.done.amount_micros),
            balance=amount(moved.done.balance_micros),
            currency=currency,
            reason=body.reason,
        )

    facts = (body.amount, body.currency, body.reason, body.beyond)
    return await once(request, caller, idempotency_key, facts, act)
