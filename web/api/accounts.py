"""Accounts: the tree that a caller sees, one account, new ones, changes, status."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select
from starlette.responses import Response

from billing import accounts
from billing.access import Reach
from billing.accounts import AccountView
from billing.credit.store import AccountState
from billing.models import Account, AccountKind, AccountStatus, IdentityKind
from billing.store import reading, work
from web.api.auth import Asking, Caller
from web.api.etags import etag_of
from web.api.problems import Problem
from web.api.routes import AccountId, Cursor, PageSize, needs, resource
from web.api.shapes import Amount, Body, Currency, Moment, Name, NotNegative, Page, Shape, amount
from web.context import CREDIT_DOWN, panel_of

router = resource("accounts")


class IdentityShape(Shape):
    """By what a call names its payer."""

    kind: IdentityKind
    value: str = Field(examples=["anna"])


class AccountShape(Shape):
    """An account. `balance` is what is booked; what live calls hold of it is in /balance."""

    id: int = Field(examples=[5])
    name: str = Field(examples=["Anna's Bakery"])
    kind: AccountKind
    status: AccountStatus
    parent_id: int | None = Field(description="Who stands above it; null where that is beyond your sight.")
    currency: Currency
    tariff: str | None = Field(examples=["retail"])
    balance: Amount
    credit_limit: Amount
    max_calls: int | None = Field(description="Calls at once; null is no limit.", examples=[4])
    max_cps: int | None = Field(description="New calls a second; null is no limit.")
    barred: list[str] = Field(description="Beginnings of numbers it must not call.", examples=[["900"]])
    identities: list[IdentityShape]
    created_at: Moment


class NewAccount(Body):
    """A new reseller or customer under yours."""

    name: Name
    kind: Annotated[AccountKind, Field(strict=False)] = AccountKind.CUSTOMER
    parent_id: int | None = Field(default=None, ge=1, le=2**53 - 1, description="Your own account, if not given.")
    tariff: str | None = Field(default=None, max_length=100)
    credit_limit: NotNegative = 0
    max_calls: int | None = Field(default=None, ge=0, le=1_000_000)
    max_cps: int | None = Field(default=None, ge=0, le=1_000_000)
    barred: list[Annotated[str, Field(pattern="^[0-9]{1,32}$")]] = Field(default=[], max_length=1000)
    identities: list[NewIdentity] = Field(default=[], max_length=100)


class NewIdentity(Body):
    """An identity to be given to an account."""

    kind: Annotated[IdentityKind, Field(strict=False)]
    value: str = Field(min_length=1, max_length=100, examples=["anna"])


class NewStatus(Body):
    """What an account is to be."""

    status: Annotated[AccountStatus, Field(strict=False)]


NewAccount.model_rebuild()


@router.get("/accounts", **needs("accounts:read", "cursor_invalid"))
def list_accounts(
    request: Request,
    caller: Asking,
    *,
    parent: Annotated[int | None, Query(ge=1, le=2**53 - 1, description="Only those right below this one.")] = None,
    name: Annotated[str, Query(max_length=100, description="Only the one of this name.")] = "",
    status: AccountStatus | None = None,
    kind: AccountKind | None = None,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[AccountShape]:
    """List the accounts in your sight, your own first, in order of their number."""
    with reading(panel_of(request).engine) as session:
        rules: list[ColumnElement[bool]] = []
        if not caller.reach.whole:
            rules.append(col(Account.id).in_(caller.reach.ids()))
        if parent is not None:
            caller.reach.see(session, parent)
            rules.append(col(Account.parent_id) == parent)
        if name:
            rules.append(col(Account.name) == name)
        if status is not None:
            rules.append(col(Account.status) == status)
        if kind is not None:
            rules.append(col(Account.kind) == kind)
        page = select(Account).where(col(Account.id) > _after(after), *rules).order_by(col(Account.id))
        found = session.exec(page.limit(most + 1)).all()
        views = accounts.views_of(session, found[:most])
    more = str(views[-1].id) if len(found) > most else None
    return Page(items=[shape_of(view, caller.reach) for view in views], next=more)


@router.post("/accounts", status_code=201, **needs("accounts:write", "amount_invalid", "too_large", changes=True))
def add_account(request: Request, response: Response, caller: Asking, body: NewAccount) -> AccountShape:
    """Add a reseller or a customer below yours, in the currency of the account above."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        parent_id = body.parent_id or caller.reach.account_id
        above = caller.reach.see(session, parent_id)
        made = accounts.add_account(
            session,
            name=body.name,
            kind=body.kind,
            parent=None if above.kind is AccountKind.OPERATOR else above.name,
            tariff=body.tariff,
            credit_limit_micros=body.credit_limit,
            max_calls=body.max_calls,
            max_cps=body.max_cps,
            barred=body.barred,
            identities=[(one.kind, one.value) for one in body.identities],
            actor=caller.actor,
            now=panel.clock.now(),
        )
        shape = shape_of(view_of(session, caller, made.id or 0), caller.reach)
    response.headers["location"] = f"/api/v1/accounts/{shape.id}"
    response.headers["etag"] = tag_of(shape)
    return shape


@router.get("/accounts/{account_id}", **needs("accounts:read"))
def get_account(request: Request, response: Response, caller: Asking, account_id: AccountId) -> AccountShape:
    """Return one account. Its ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = shape_of(view_of(session, caller, account_id), caller.reach)
    response.headers["etag"] = tag_of(shape)
    return shape


@router.post("/accounts/{account_id}/status", **needs("accounts:write", "not_allowed", changes=True))
async def set_status(request: Request, caller: Asking, account_id: AccountId, body: NewStatus) -> AccountShape:
    """Block an account below yours, let it call again, or close it. Live calls go on; /hangup ends them."""
    if body.status is AccountStatus.PARKED:
        raise Problem("not_allowed", "Accounts are parked by the check of the books only.")
    panel = panel_of(request)

    def change() -> tuple[AccountView, AccountShape]:
        with work(panel.engine) as session:
            account = caller.reach.see_below(session, account_id)
            if not caller.reach.whole and account.status in {AccountStatus.PARKED, AccountStatus.CLOSED}:
                raise Problem("not_allowed", f"A {account.status.value} account is opened by the operator only.")
            now = panel.clock.now()
            accounts.set_status(session, account_id, body.status, actor=caller.actor, now=now)
            view = view_of(session, caller, account_id)
            return view, shape_of(view, caller.reach)

    view, shape = await run_in_threadpool(change)
    with contextlib.suppress(*CREDIT_DOWN):  # a controller brings it over with the next version of the catalogue
        await panel.credit.sync_account(AccountState(view.id, view.status.value, view.max_calls, view.max_cps))
    return shape


def view_of(session: Session, caller: Caller, account_id: int) -> AccountView:
    """Return an account in the caller's sight. Raises `NotFound`."""
    return accounts.views_of(session, [caller.reach.see(session, account_id)])[0]


def shape_of(view: AccountView, reach: Reach) -> AccountShape:
    """Return an account as this API says it."""
    return AccountShape(
        id=view.id,
        name=view.name,
        kind=view.kind,
        status=view.status,
        parent_id=None if view.id == reach.account_id else view.parent_id,
        currency=view.currency,
        tariff=view.tariff,
        balance=amount(view.balance_micros),
        credit_limit=amount(view.credit_limit_micros),
        max_calls=view.max_calls,
        max_cps=view.max_cps,
        barred=list(view.barred),
        identities=[IdentityShape(kind=kind, value=value) for kind, value in view.identities],
        created_at=view.created_at,
    )


def tag_of(shape: AccountShape) -> str:
    """Return the tag of what can be edited: money that moves meanwhile changes nothing about it."""
    return etag_of(_editable(shape))


def _editable(shape: AccountShape) -> dict[str, Any]:
    return shape.model_dump(mode="json", exclude={"balance", "created_at"})


def _after(cursor: str) -> int:
    if not cursor:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or int(cursor[:17]) > 2**53:
        raise Problem("cursor_invalid")
    return int(cursor)
