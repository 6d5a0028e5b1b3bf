"""Top-ups: money into an account below one's own. A reseller's comes out of its own wallet, never beyond it."""

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
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Amount, Body, Currency, Positive, Reason, Shape, amount
from web.context import panel_of

router = resource("money")


class NewTopUp(Body):
    """Money for an account."""

    amount: Positive
    currency: str | None = Field(
        default=None, pattern="^[A-Z]{3}$", description="If given, it must be the account's.", examples=["EUR"]
    )
    reason: Reason = ""


class TopUpShape(Shape):
    """A top-up that is booked."""

    operation: str = Field(description="Its name in the ledger.", examples=["api:2:8f14e45f"])
    account_id: int = Field(examples=[5])
    amount: Amount
    balance: Amount = Field(description="The account's balance right after it.")
    currency: Currency
    reason: str


@router.post(
    "/accounts/{account_id}/topups",
    status_code=201,
    response_model=TopUpShape,
    **needs("money:write", "not_allowed", changes=True, once=True),
)
async def add_topup(
    request: Request,
    caller: Asking,
    account_id: AccountId,
    body: NewTopUp,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Add money to an account; live calls of it get longer at once.

    The operator's money comes from outside. A reseller's comes out of its own wallet, so it tops up the accounts right
    below its own.
    """
    panel = panel_of(request)

    def check() -> str:
        with reading(panel.engine) as session:
            account = caller.reach.see_below(session, account_id)
            if not caller.reach.whole and account.parent_id != caller.reach.account_id:
                raise Problem("not_allowed", "This account's money comes from the reseller right above it.")
            check_currency(body.currency, account.currency)
            return account.currency

    async def act(operation: str) -> TopUpShape:
        currency = await run_in_threadpool(check)
        moved = await moves.pay_in(
            panel.engine,
            panel.credit,
            account_id,
            body.amount,
            operation=operation,
            actor=caller.actor,
            reason=body.reason,
            clock=panel.clock,
        )
        return TopUpShape(
            operation=operation,
            account_id=account_id,
            amount=amount(moved.done.amount_micros),
            balance=amount(moved.done.balance_micros),
            currency=currency,
            reason=body.reason,
        )

    return await once(request, caller, idempotency_key, (body.amount, body.currency, body.reason), act)


def check_currency(given: str | None, expected: str) -> None:
    """Raise `Problem` where an amount is meant in another currency than the account has."""
    if given is not None and given != expected:
        errors = [{"at": "body/currency", "what": f"the account is in {expected}"}]
        raise Problem("invalid", f"The account is in {expected}, not in {given}.", more={"errors": errors})
