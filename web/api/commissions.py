"""Commissions: what an account earns of what it brings in, paid by whoever stands right above it, once a month."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlmodel import Session, col, select
from starlette.responses import Response

from billing import commission_moves, commissions
from billing.account_changes import lock_account
from billing.errors import NotFound
from billing.models import Account, Commission, CommissionOf
from billing.store import reading, work
from web.api.auth import Asking, Caller
from web.api.bundles import see_customer
from web.api.etags import IfMatch, check_match, etag_of
from web.api.once import IdempotencyKey, once
from web.api.routes import AccountId, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Amount, Body, Currency, Page, Shape, amount
from web.context import panel_of

router = resource("money")

Percent = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})?$", examples=["12.5"])]
MonthName = Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", examples=["2026-10"])]


class CommissionShape(Shape):
    """An account's commission; null where it has none."""

    account_id: int = Field(examples=[5])
    account: str = Field(examples=["Anna's Bakery"])
    currency: Currency
    basis: CommissionOf | None
    percent: str | None = Field(examples=["12.5"])


class NewCommission(Body):
    """A commission to be given."""

    basis: Annotated[CommissionOf, Field(strict=False)]
    percent: Percent


class EarnedShape(Shape):
    """What a month earned, so far."""

    account_id: int = Field(examples=[5])
    month: str = Field(examples=["2026-10"])
    currency: Currency
    calls: int = Field(description="That count.", examples=[731])
    without_cost: int = Field(description="Calls whose cost nobody knows: they earn no commission of the margin.")
    base: Amount
    amount: Amount


class NewPayment(Body):
    """The month to be booked; it must be over on the account's clock."""

    month: MonthName


class PaidShape(Shape):
    """What was booked for a month."""

    account_id: int = Field(examples=[5])
    month: str = Field(examples=["2026-10"])
    base: Amount
    amount: Amount
    currency: Currency
    replayed: bool = Field(description="It had been booked before, and was not again.")


@router.get("/commissions", **needs("money:read", "cursor_invalid"))
def list_commissions(
    request: Request, caller: Asking, after: Cursor = "", most: PageSize = 100
) -> Page[CommissionShape]:
    """List the accounts in your sight that earn a commission, in order of their number."""
    asked = select(Commission, Account).join(Account, col(Account.id) == col(Commission.account_id))
    asked = asked.where(col(Commission.account_id) > number_of(after)).order_by(col(Commission.account_id))
    if not caller.reach.whole:
        asked = asked.where(col(Commission.account_id).in_(caller.reach.ids()))
    with reading(panel_of(request).engine) as session:
        items = [_shape(account, one) for one, account in session.exec(asked.limit(most + 1))]
    return Page(items=items[:most], next=str(items[most - 1].account_id) if len(items) > most else None)


@router.get("/accounts/{account_id}/commission", **needs("money:read"))
def get_commission(request: Request, response: Response, caller: Asking, account_id: AccountId) -> CommissionShape:
    """Return an account's commission. Its ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _read(session, caller, account_id)
    response.headers["etag"] = _tag(shape)
    return shape


@router.put("/accounts/{account_id}/commission", **needs("money:write", "not_allowed", changes=True, edits=True))
def set_commission(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    account_id: AccountId,
    body: NewCommission,
    if_match: IfMatch = None,
) -> CommissionShape:
    """Give an account right below yours a commission, or another one: you pay it."""
    shape = _set(request, caller, account_id, if_match, body)
    response.headers["etag"] = _tag(shape)
    return shape


@router.delete(
    "/accounts/{account_id}/commission",
    status_code=204,
    **needs("money:write", "not_allowed", changes=True, edits=True),
)
def remove_commission(request: Request, caller: Asking, account_id: AccountId, if_match: IfMatch = None) -> Response:
    """Take a commission away. Months that are not booked yet earn nothing any more."""
    _set(request, caller, account_id, if_match, None)
    return Response(status_code=204)


@router.get("/accounts/{account_id}/commission/{month}", **needs("money:read", "refused"))
def get_earned(request: Request, caller: Asking, account_id: AccountId, month: MonthName) -> EarnedShape:
    """Return what a month earned an account, booked or not."""
    with reading(panel_of(request).engine) as session:
        account = caller.reach.see(session, account_id)
        found = commissions.earned(session, account_id, month)
        return EarnedShape(
            account_id=account_id,
            month=month,
            currency=account.currency,
            calls=found.calls,
            without_cost=found.without_cost,
            base=amount(found.base_micros),
            amount=amount(found.amount_micros),
        )


@router.post(
    "/accounts/{account_id}/commission/payments",
    status_code=201,
    response_model=PaidShape,
    **needs("money:write", "not_allowed", changes=True, once=True),
)
async def pay_commission(
    request: Request,
    caller: Asking,
    account_id: AccountId,
    body: NewPayment,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Book a month's commission: each month once, under whatever key. A reseller's comes out of its own wallet."""
    panel = panel_of(request)

    def check() -> str:
        with reading(panel.engine) as session:
            account = caller.reach.see(session, account_id)
            see_customer(session, caller, account_id)
            return account.currency

    async def act(operation: str) -> PaidShape:  # noqa: ARG001 - a month has an operation of its own
        currency = await run_in_threadpool(check)
        paid, _ = await commission_moves.pay(
            panel.engine, panel.credit, account_id, body.month, actor=caller.actor, clock=panel.clock
        )
        return PaidShape(
            account_id=account_id,
            month=body.month,
            base=amount(paid.base_micros),
            amount=amount(paid.amount_micros),
            currency=currency,
            replayed=paid.replayed,
        )

    return await once(request, caller, idempotency_key, (body.month,), act)


def _set(
    request: Request, caller: Caller, account_id: int, if_match: str | None, body: NewCommission | None
) -> CommissionShape:
    panel = panel_of(request)
    with work(panel.engine) as session:
        caller.reach.see(session, account_id)
        lock_account(session, account_id, within=caller.reach.within)
        check_match(if_match, _tag(_read(session, caller, account_id)))
        see_customer(session, caller, account_id)
        commissions.set_commission(
            session,
            account_id,
            None if body is None else body.basis,
            0 if body is None else commissions.read_percent(body.percent),
            within=caller.reach.within,
            actor=caller.actor,
            now=panel.clock.now(),
        )
        return _read(session, caller, account_id)


def _read(session: Session, caller: Caller, account_id: int) -> CommissionShape:
    account = caller.reach.see(session, account_id)
    return _shape(account, session.exec(select(Commission).where(Commission.account_id == account_id)).one_or_none())


def _shape(account: Account, one: Commission | None) -> CommissionShape:
    if account.id is None:
        raise NotFound("there is no such account")
    return CommissionShape(
        account_id=account.id,
        account=account.name,
        currency=account.currency,
        basis=None if one is None else one.basis,
        percent=None if one is None else commissions.percent_of(one.ppm),
    )


def _tag(shape: CommissionShape) -> str:
    return etag_of(shape.model_dump(mode="json", include={"basis", "percent"}))
