"""What an account pays beside its tariff: discounts, and rates of its own. Set by who is paid, right above it."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import Path, Request
from pydantic import Field
from sqlmodel import Session, select
from starlette.responses import Response

from billing.account_changes import lock_account
from billing.errors import NotFound, Refused
from billing.models import Account, AccountDiscount, AccountRate, AccountStatus
from billing.plans import edit
from billing.store import reading, work
from rating.parts import Rounding
from rating.tariff import Rate, Step
from web.api.auth import Asking, Caller
from web.api.bundles import see_customer
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Body, Page, Shape
from web.api.tariffs import RateShape, rate_shape
from web.context import panel_of

router = resource("plans")

MOST_SECONDS = 366 * 86_400
NOTHING = Decimal(0)
Beginning = Annotated[
    str, Path(pattern="^([0-9]{1,32}|all)$", description='Numbers that begin so; "all" is every number.')
]
Percent = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})?$", examples=["12.5"])]
Price = Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,18})?$", examples=["0.025"])]
Prefix = Annotated[str, Field(description='Numbers that begin so; "" is every number.', examples=["49"])]


class DiscountShape(Shape):
    """So many percent off what the tariff says; of several the longest prefix counts."""

    prefix: Prefix
    percent: Percent


class NewDiscount(Body):
    """How many percent less: more than 0, at most 100."""

    percent: Percent


class NewStep(Body):
    """A price from some second of talk on."""

    from_s: int = Field(default=0, ge=0, le=MOST_SECONDS, examples=[0])
    price: Price
    per_s: int = Field(default=60, ge=1, le=MOST_SECONDS, examples=[60])
    increment_s: int = Field(default=1, ge=1, le=MOST_SECONDS, examples=[1])


class NewOwnRate(Body):
    """A rate in the account's own currency; it rounds as the account's tariff does. The first step begins at 0."""

    destination: str = Field(default="", max_length=100, examples=["Germany"])
    connect_fee: Price = Field(default="0", examples=["0"])
    steps: list[NewStep] = Field(min_length=1, max_length=100)


@router.get("/accounts/{account_id}/discounts", **needs("tariffs:read", "refused"))
def list_discounts(request: Request, caller: Asking, account_id: AccountId) -> Page[DiscountShape]:
    """List the discounts of an account in the order of their prefixes."""
    with reading(panel_of(request).engine) as session:
        caller.reach.see(session, account_id)
        found = edit.list_plan(session, str(account_id))["discounts"]
    return Page(items=[DiscountShape(**one) for one in found])


@router.put("/accounts/{account_id}/discounts/{prefix}", **needs("tariffs:write", "not_allowed", changes=True))
def set_discount(
    request: Request, caller: Asking, account_id: AccountId, prefix: Beginning, body: NewDiscount
) -> DiscountShape:
    """Give an account right below yours so many percent off, for calls offered from now on."""
    percent, digits = Decimal(body.percent), digits_of(prefix)
    if percent == 0:
        raise Refused("a discount is more than 0: one that is there is removed with DELETE")
    panel = panel_of(request)
    with work(panel.engine) as session:
        _lock_open(session, caller, account_id)
        edit.set_discount(session, str(account_id), digits, percent, actor=caller.actor, now=panel.clock.now())
        return DiscountShape(prefix=digits, percent=_discount(session, account_id, digits))


@router.delete(
    "/accounts/{account_id}/discounts/{prefix}",
    status_code=204,
    **needs("tariffs:write", "not_allowed", changes=True),
)
def remove_discount(request: Request, caller: Asking, account_id: AccountId, prefix: Beginning) -> Response:
    """Take a discount away. Calls that are up keep what they began with."""
    panel, digits = panel_of(request), digits_of(prefix)
    with work(panel.engine) as session:
        _lock(session, caller, account_id)
        _discount(session, account_id, digits)
        edit.set_discount(session, str(account_id), digits, NOTHING, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


@router.get("/accounts/{account_id}/rates", **needs("tariffs:read", "refused"))
def list_own_rates(request: Request, caller: Asking, account_id: AccountId) -> Page[RateShape]:
    """List the rates of an account alone, in the order of their prefixes; each wins over the tariff's of its prefix."""
    with reading(panel_of(request).engine) as session:
        caller.reach.see(session, account_id)
        found = edit.list_plan(session, str(account_id))["rates"]
    return Page(items=[rate_shape(Rate.from_facts(facts)) for facts in found])


@router.put("/accounts/{account_id}/rates/{prefix}", **needs("tariffs:write", "not_allowed", changes=True))
def set_own_rate(
    request: Request, caller: Asking, account_id: AccountId, prefix: Beginning, body: NewOwnRate
) -> RateShape:
    """Give an account right below yours a rate of its own, or another one, for calls offered from now on."""
    digits = digits_of(prefix)
    steps = tuple(Step(one.from_s, Decimal(one.price), one.per_s, one.increment_s) for one in body.steps)
    rate = Rate(digits, body.destination, Decimal(body.connect_fee), steps, Rounding())
    panel = panel_of(request)
    with work(panel.engine) as session:
        _lock_open(session, caller, account_id)
        edit.set_own_rate(session, str(account_id), rate, actor=caller.actor, now=panel.clock.now())
        return rate_shape(_own_rate(session, account_id, digits))


@router.get("/accounts/{account_id}/rates/{prefix}", **needs("tariffs:read"))
def get_own_rate(request: Request, caller: Asking, account_id: AccountId, prefix: Beginning) -> RateShape:
    """Return the rate that an account alone has for a prefix."""
    with reading(panel_of(request).engine) as session:
        caller.reach.see(session, account_id)
        return rate_shape(_own_rate(session, account_id, digits_of(prefix)))


@router.delete(
    "/accounts/{account_id}/rates/{prefix}", status_code=204, **needs("tariffs:write", "not_allowed", changes=True)
)
def remove_own_rate(request: Request, caller: Asking, account_id: AccountId, prefix: Beginning) -> Response:
    """Take an own rate away: the tariff's holds again. Calls that are up keep what they began with."""
    panel, digits = panel_of(request), digits_of(prefix)
    with work(panel.engine) as session:
        _lock(session, caller, account_id)
        _own_rate(session, account_id, digits)
        edit.remove_own_rate(session, str(account_id), digits, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def digits_of(prefix: str) -> str:
    """Return the prefix that an address names."""
    return "" if prefix == "all" else prefix


def _lock(session: Session, caller: Caller, account_id: int) -> Account:
    """Return an account whose prices are the caller's to make, locked. Raises as `see_customer` does."""
    see_customer(session, caller, account_id)
    return lock_account(session, account_id)


def _lock_open(session: Session, caller: Caller, account_id: int) -> None:
    """Do so for an account to which prices are still of use. Raises `Refused` for a closed one."""
    account = _lock(session, caller, account_id)
    if account.status is AccountStatus.CLOSED:
        raise Refused(f"{account.name!r} is closed")


def _discount(session: Session, account_id: int, digits: str) -> str:
    asked = select(AccountDiscount.percent)
    asked = asked.where(AccountDiscount.account_id == account_id, AccountDiscount.prefix == digits)
    found = session.exec(asked).one_or_none()
    if found is None:
        raise NotFound(f"this account has no discount for {digits or 'all'}")
    return found


def _own_rate(session: Session, account_id: int, digits: str) -> Rate:
    asked = select(AccountRate.facts).where(AccountRate.account_id == account_id, AccountRate.prefix == digits)
    found = session.exec(asked).one_or_none()
    if found is None:
        raise NotFound(f"this account has no rate of its own for {digits or 'all'}")
    return Rate.from_facts(dict(found))
