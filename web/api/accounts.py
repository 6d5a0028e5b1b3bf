"""Accounts: the tree that a caller sees, one account, new ones, changes, status, closing."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing import account_changes, accounts, blocks, outbox
from billing.access import Reach
from billing.account_changes import Changes
from billing.accounts import AccountView
from billing.models import AccountKind, AccountStatus, BillingMode, IdentityKind
from billing.store import reading, work
from billing.subtree import list_within
from web.api.auth import Asking, Caller
from web.api.etags import IfMatch, check_match, etag_of
from web.api.problems import Problem
from web.api.routes import MOST_ID, AccountId, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Amount, Body, Currency, Moment, Name, NotNegative, Page, Shape, amount
from web.context import CREDIT_DOWN, Panel, panel_of

router = resource("accounts")

Limit = Annotated[int, Field(ge=0, le=1_000_000)]
Prefixes = Annotated[list[Annotated[str, Field(pattern="^[0-9]{1,32}$")]], Field(max_length=1000, examples=[["900"]])]
Hours = Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=50, examples=[["mon-fri 08:00-18:00"]])]
Kind = Annotated[IdentityKind, Field(strict=False)]
IdentityValue = Annotated[str, Field(min_length=1, max_length=100, examples=["anna"])]
Mode = Annotated[BillingMode, Field(strict=False)]
Zone = Annotated[str, Field(max_length=64, examples=["Europe/Berlin"])]
Language = Annotated[str, Field(max_length=20, examples=["de"])]


class IdentityShape(Shape):
    """By what a call names its payer. The value of a PIN is its number: nobody has the PIN itself."""

    kind: IdentityKind
    value: IdentityValue
    made_at: Moment | None = Field(default=None, description="When a PIN was made; null for other kinds.")


class NewIdentity(Body):
    """An identity to be given to an account. A PIN is made for an account that is there, by /identities."""

    kind: Kind
    value: IdentityValue


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
    billing_mode: BillingMode
    timezone: str = Field(examples=["Europe/Berlin"])
    language: str = Field(examples=["de"])
    brand: str = Field(description="The name that a reseller's customers see.")
    max_calls: int | None = Field(description="Calls at once; null is no limit.", examples=[4])
    max_cps: int | None = Field(description="New calls a second; null is no limit.")
    max_day: Amount | None = Field(description="What its calls of a day may cost; null is no limit.")
    max_call: Amount | None = Field(description="What one call may cost; null is no limit.")
    barred: list[str] = Field(description="Beginnings of numbers it must not call.", examples=[["900"]])
    allowed: list[str] = Field(description="If any, it may call numbers that begin so, and no others.")
    hours: list[str] = Field(description="When calls may begin, on its own clock; none: at any time.")
    low_balance: Amount | None = Field(description="Below it an alert is raised.")
    clear_balance: Amount | None = Field(description="From here on the alert is over.")
    identities: list[IdentityShape]
    created_at: Moment


class NewAccount(Body):
    """A new reseller or customer under yours. What is not given is as at the account above, or without a limit."""

    name: Name
    kind: Annotated[AccountKind, Field(strict=False)] = AccountKind.CUSTOMER
    parent_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="Your own account, if not given.")
    currency: Currency | None = None
    tariff: str | None = Field(default=None, max_length=100)
    credit_limit: NotNegative = 0
    billing_mode: Mode | None = None
    timezone: Zone | None = None
    language: Language | None = None
    brand: str = Field(default="", max_length=100)
    max_calls: Limit | None = None
    max_cps: Limit | None = None
    max_day: NotNegative | None = None
    max_call: NotNegative | None = None
    barred: Prefixes = Field(default=[])
    allowed: Prefixes = Field(default=[])
    hours: Hours = Field(default=[])
    low_balance: NotNegative | None = None
    clear_balance: NotNegative | None = None
    identities: list[NewIdentity] = Field(default=[], max_length=100)


class ChangedAccount(Body):
    """What is to be set. What is not named stays; null takes a limit, a threshold or the tariff away."""

    name: Name = ""
    tariff: str | None = Field(default=None, max_length=100)
    credit_limit: NotNegative = 0
    billing_mode: Mode = BillingMode.PREPAID
    timezone: Zone = ""
    language: Language = ""
    brand: str = Field(default="", max_length=100)
    max_calls: Limit | None = None
    max_cps: Limit | None = None
    max_day: NotNegative | None = None
    max_call: NotNegative | None = None
    barred: Prefixes = Field(default=[])
    allowed: Prefixes = Field(default=[])
    hours: Hours = Field(default=[])
    low_balance: NotNegative | None = None
    clear_balance: NotNegative | None = None


class NewStatus(Body):
    """What an account is to be. Closed is for good."""

    status: Annotated[AccountStatus, Field(strict=False)]


MICROS = {
    "credit_limit": "credit_limit_micros",
    "max_day": "max_day_micros",
    "max_call": "max_call_micros",
    "low_balance": "low_balance_micros",
    "clear_balance": "clear_balance_micros",
}
"""Amounts are decimal texts outside and micro-units inside."""
OWN = frozenset({"timezone", "language", "brand", "low_balance", "clear_balance"})
"""What an account may set for itself; the rest is set by who stands above it."""


@router.get("/accounts", **needs("accounts:read", "cursor_invalid"))
def list_accounts(
    request: Request,
    caller: Asking,
    *,
    parent: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only those right below this one.")] = None,
    q: Annotated[str, Query(max_length=100, description="Part of a name, beginning of an identity, a number.")] = "",
    status: AccountStatus | None = None,
    kind: AccountKind | None = None,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[AccountShape]:
    """List the accounts in your sight, your own first, in order of their number."""
    with reading(panel_of(request).engine) as session:
        if parent is not None:
            caller.reach.see(session, parent)
        found = list_within(
            session,
            caller.reach.within,
            q=q,
            parent_id=parent,
            kind=kind,
            status=status,
            after_id=number_of(after),
            most=most + 1,
        )
    more = str(found[most - 1].id) if len(found) > most else None
    return Page(items=[shape_of(view, caller.reach) for view in found[:most]], next=more)


@router.post("/accounts", status_code=201, **needs("accounts:write", "amount_invalid", "too_large", changes=True))
def add_account(request: Request, response: Response, caller: Asking, body: NewAccount) -> AccountShape:
    """Add a reseller or a customer below yours."""
    panel = panel_of(request)
    given = {MICROS.get(name, name): value for name, value in body if name not in {"parent_id", "identities"}}
    with work(panel.engine) as session:
        above = caller.reach.see(session, body.parent_id or caller.reach.account_id)
        made = accounts.add_account(
            session,
            **given,
            parent=above.name,
            identities=[(one.kind, one.value) for one in body.identities],
            within=caller.reach.within,
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


@router.patch(
    "/accounts/{account_id}",
    **needs("accounts:write", "amount_invalid", "too_large", "not_allowed", changes=True, edits=True),
)
async def change_account(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    account_id: AccountId,
    body: ChangedAccount,
    if_match: IfMatch = None,
) -> AccountShape:
    """Set what is named. Of your own account only its time zone, language, brand and thresholds."""
    changes: Changes = {MICROS.get(name, name): getattr(body, name) for name in body.model_fields_set}  # type: ignore[assignment]
    panel = panel_of(request)

    def change() -> AccountShape:
        with work(panel.engine) as session:
            caller.reach.see(session, account_id)
            account_changes.lock_account(session, account_id, within=caller.reach.within)
            check_match(if_match, tag_of(shape_of(view_of(session, caller, account_id), caller.reach)))
            own = account_id == caller.reach.account_id and not caller.reach.whole
            if own and not OWN.issuperset(body.model_fields_set):
                raise Problem("not_allowed", "This of an account is set by who stands above it.")
            account_changes.change_account(
                session, account_id, changes, within=caller.reach.within, actor=caller.actor, now=panel.clock.now()
            )
            return shape_of(view_of(session, caller, account_id), caller.reach)

    shape = await run_in_threadpool(change)
    await tell(panel, account_id)
    response.headers["etag"] = tag_of(shape)
    return shape


@router.post("/accounts/{account_id}/status", **needs("accounts:write", "not_allowed", changes=True))
async def set_status(request: Request, caller: Asking, account_id: AccountId, body: NewStatus) -> AccountShape:
    """Block an account below yours, let it call again, or close it. Live calls go on; /hangup ends them."""
    if body.status is AccountStatus.PARKED:
        raise Problem("not_allowed", "Accounts are parked by the check of the books only.")
    panel = panel_of(request)

    def change() -> AccountShape:
        with work(panel.engine) as session:
            account = caller.reach.see_below(session, account_id)
            if account.status is AccountStatus.PARKED and not caller.reach.whole:
                raise Problem("not_allowed", "A parked account is opened by the operator.")
            now = panel.clock.now()
            if body.status is AccountStatus.CLOSED:
                account_changes.close_account(
                    session, account_id, within=caller.reach.within, actor=caller.actor, now=now
                )
            else:
                by = caller.reach.within
                lifts = account.status is AccountStatus.BLOCKED and body.status is AccountStatus.ACTIVE
                if lifts and not blocks.may_lift(session, account_id, by):
                    raise Problem("not_allowed", "This account was blocked by who stands above you: only they lift it.")
                accounts.set_status(session, account_id, body.status, by=by, actor=caller.actor, now=now)
            return shape_of(view_of(session, caller, account_id), caller.reach)

    shape = await run_in_threadpool(change)
    await tell(panel, account_id)
    return shape


async def tell(panel: Panel, account_id: int) -> None:
    """Tell the live store an account's limits and credit. Where it does not answer, a controller brings them over."""
    with contextlib.suppress(*CREDIT_DOWN):
        await outbox.tell_accounts(panel.engine, panel.credit, [account_id], clock=panel.clock)


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
        billing_mode=view.billing_mode,
        timezone=view.timezone,
        language=view.language,
        brand=view.brand,
        max_calls=view.max_calls,
        max_cps=view.max_cps,
        max_day=_maybe(view.max_day_micros),
        max_call=_maybe(view.max_call_micros),
        barred=list(view.barred),
        allowed=list(view.allowed),
        hours=list(view.hours),
        low_balance=_maybe(view.low_balance_micros),
        clear_balance=_maybe(view.clear_balance_micros),
        identities=identities_of(view),
        created_at=view.created_at,
    )


def identities_of(view: AccountView) -> list[IdentityShape]:
    """Return an account's identities as this API says them."""
    made = dict(view.pins)
    return [
        IdentityShape(kind=kind, value=value, made_at=made.get(value) if kind is IdentityKind.PIN else None)
        for kind, value in view.identities
    ]


def tag_of(shape: AccountShape) -> str:
    """Return the tag of what can be edited: money that moves meanwhile changes nothing about it."""
    return etag_of(_editable(shape))


def _editable(shape: AccountShape) -> dict[str, Any]:
    return shape.model_dump(mode="json", exclude={"balance", "created_at"})


def _maybe(micros: int | None) -> str | None:
    return None if micros is None else amount(micros)
