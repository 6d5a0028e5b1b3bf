"""Tariffs: those one gives and is charged by, and their rates."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing.access import Reach
from billing.decks.listing import TariffView, page_of_rates
from billing.models import Tariff, TariffOwner
from billing.store import reading, work
from billing.tariff_sight import is_own, list_in_sight, see_tariff
from billing.tariffs import add_tariff as make_tariff
from rating.decks.deck import ALWAYS, instant_us
from rating.parts import Rounding, RoundingMode
from rating.tariff import Rate
from web.api.auth import Asking
from web.api.problems import Problem
from web.api.routes import MOST_ID, PageSize, needs, resource
from web.api.shapes import Body, Currency, Moment, Page, Shape
from web.context import panel_of

router = resource("tariffs")

TariffId = Annotated[int, Path(ge=1, le=MOST_ID, examples=[1])]


class TariffShape(Shape):
    """A tariff; an import makes its next version."""

    id: int = Field(examples=[1])
    name: str = Field(examples=["retail"])
    currency: Currency
    version: int
    rounding: str = Field(examples=["half up, 4 decimals"])
    rates: int
    accounts: int = Field(description="How many accounts in your sight are charged by it.")
    changed_at: Moment | None


class StepShape(Shape):
    """A price from some second on."""

    from_s: int
    price: str = Field(examples=["0.012"])
    per_s: int
    increment_s: int


class RateShape(Shape):
    """What calls to numbers that begin with `prefix` cost. `steps` is empty where prices depend on the time."""

    prefix: str = Field(examples=["4915"])
    destination: str = Field(examples=["Germany mobile"])
    connect_fee: str = Field(examples=["0.05"])
    barred: bool
    banded: bool = Field(description="The price depends on weekday, clock or date.")
    steps: list[StepShape]


class NewTariff(Body):
    """An empty tariff."""

    name: str = Field(min_length=1, max_length=100, examples=["retail"])
    currency: Currency
    rounding: Annotated[RoundingMode, Field(strict=False)] = RoundingMode.HALF_UP
    decimals: int = Field(default=4, ge=0, le=6)


def see_own(session: Session, reach: Reach, tariff_id: int) -> Tariff:
    """Return a tariff that one may change: the operator's keys all, a reseller's its own. Raises `Problem`."""
    tariff, _ = see_tariff(session, reach, tariff_id)
    if not is_own(session, reach, tariff_id):
        raise Problem("not_allowed", "This tariff belongs to whoever charges you by it.")
    return tariff


@router.get("/tariffs", **needs("tariffs:read"))
def list_tariffs(request: Request, caller: Asking) -> Page[TariffShape]:
    """List the tariffs that you give and those you are charged by."""
    with reading(panel_of(request).engine) as session:
        return Page(items=[_shape(view) for view in list_in_sight(session, caller.reach)])


@router.post("/tariffs", status_code=201, **needs("tariffs:write", changes=True))
def add_tariff(request: Request, response: Response, caller: Asking, body: NewTariff) -> TariffShape:
    """Make an empty tariff; a reseller's is its own. Rates come in by an import."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        made = make_tariff(
            session,
            name=body.name,
            currency=body.currency,
            rounding=Rounding(body.rounding, body.decimals),
            actor=caller.actor,
            now=panel.clock.now(),
        )
        if not caller.reach.whole:
            session.add(TariffOwner(tariff_id=made.id or 0, account_id=caller.reach.account_id))
            session.flush()
        shape = _shape(see_tariff(session, caller.reach, made.id or 0)[1])
    response.headers["location"] = f"/api/v1/tariffs/{shape.id}"
    return shape


@router.get("/tariffs/{tariff_id}", **needs("tariffs:read"))
def get_tariff(request: Request, caller: Asking, tariff_id: TariffId) -> TariffShape:
    """Return one tariff."""
    with reading(panel_of(request).engine) as session:
        return _shape(see_tariff(session, caller.reach, tariff_id)[1])


@router.get("/tariffs/{tariff_id}/rates", **needs("tariffs:read", "cursor_invalid"))
def list_rates(
    request: Request,
    caller: Asking,
    *,
    tariff_id: TariffId,
    prefix: Annotated[str, Query(pattern="^[0-9]{0,32}$", description="Only prefixes that begin so.")] = "",
    after: Annotated[str, Query(pattern=r"^([0-9]{0,32}\.-?[0-9]{1,19})?$", max_length=60)] = "",
    most: PageSize = 100,
) -> Page[RateShape]:
    """List the rates of a tariff in the order of their prefixes, those to come included."""
    begins, _, moment = after.partition(".")
    cursor = (begins, int(moment)) if moment else None
    with reading(panel_of(request).engine) as session:
        see_tariff(session, caller.reach, tariff_id)
        found = page_of_rates(session, tariff_id, prefix=prefix, after=cursor, most=most + 1)
    more = None
    if len(found) > most:
        last = found[most - 1]
        begins_us = ALWAYS if last.effective_at is None else instant_us(last.effective_at)
        more = f"{last.prefix}.{begins_us}"
    return Page(items=[_rate(rate) for rate in found[:most]], next=more)


def _shape(view: TariffView) -> TariffShape:
    return TariffShape(**{name: getattr(view, name) for name in TariffShape.model_fields})


def _rate(rate: Rate) -> RateShape:
    return RateShape(
        prefix=rate.prefix,
        destination=rate.destination,
        connect_fee=str(rate.connect_fee),
        barred=rate.barred,
        banded=bool(rate.bands),
        steps=[
            StepShape(
                from_s=int(step.from_s), price=str(step.price), per_s=int(step.per_s), increment_s=int(step.increment_s)
            )
            for step in rate.steps
        ],
    )
