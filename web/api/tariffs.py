"""Tariffs: those one gives and is charged by, and their rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing.access import Reach
from billing.decks.listing import TariffView, page_of_rates
from billing.models import Tariff, TariffOwner
from billing.store import reading, work
from billing.tariff_owners import own_tariff
from billing.tariff_sight import is_own, list_in_sight, owners_in_sight, see_tariff
from billing.tariffs import add_tariff as make_tariff
from billing.tariffs import lock_tariff, rename_tariff
from rating.decks.deck import ALWAYS, instant_us
from rating.parts import Rounding, RoundingMode
from rating.tariff import Rate
from web.api.auth import Asking
from web.api.etags import IfMatch, check_match, etag_of
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
    owner_id: int | None = Field(
        description="The reseller whose prices it holds; null is the operator, or somebody beyond your sight.",
        examples=[2],
    )
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


class ChangedTariff(Body):
    """What is to be set; what is not named stays. `owner_id`: a reseller it is given to; null takes it back."""

    name: str = Field(default="", min_length=1, max_length=100, examples=["retail 2027"])
    owner_id: int | None = Field(default=None, ge=1, le=MOST_ID, examples=[2])


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
        owners = owners_in_sight(session, caller.reach)
        return Page(items=[_shape(view, owners) for view in list_in_sight(session, caller.reach)])


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
        shape = _see(session, caller.reach, made.id or 0)
    response.headers["location"] = f"/api/v1/tariffs/{shape.id}"
    response.headers["etag"] = _tag(shape)
    return shape


@router.get("/tariffs/{tariff_id}", **needs("tariffs:read"))
def get_tariff(request: Request, response: Response, caller: Asking, tariff_id: TariffId) -> TariffShape:
    """Return one tariff. Its ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _see(session, caller.reach, tariff_id)
    response.headers["etag"] = _tag(shape)
    return shape


@router.patch("/tariffs/{tariff_id}", **needs("tariffs:write", "not_allowed", changes=True, edits=True))
def change_tariff(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    tariff_id: TariffId,
    body: ChangedTariff,
    if_match: IfMatch = None,
) -> TariffShape:
    """Give a tariff of yours another name, or to another reseller. What was charged by it keeps the old name.

    Currency and rounding stay as they were made: past calls were priced by them. Rates, and the time zones in them,
    come with a deck.
    """
    panel = panel_of(request)
    said, now = body.model_fields_set, panel.clock.now()
    with work(panel.engine) as session:
        if body.owner_id is not None:
            caller.reach.see(session, body.owner_id)
        see_own(session, caller.reach, tariff_id)
        lock_tariff(session, tariff_id)
        check_match(if_match, _tag(_see(session, caller.reach, tariff_id)))
        if "name" in said:
            rename_tariff(session, tariff_id, body.name, actor=caller.actor, now=now)
        if "owner_id" in said:
            name, within = lock_tariff(session, tariff_id).name, caller.reach.within
            own_tariff(session, name, body.owner_id, within=within, actor=caller.actor, now=now)
        shape = _see(session, caller.reach, tariff_id)
    response.headers["etag"] = _tag(shape)
    return shape


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
    return Page(items=[rate_shape(rate) for rate in found[:most]], next=more)


def _see(session: Session, reach: Reach, tariff_id: int) -> TariffShape:
    """Return a tariff in sight as this API says it. Raises `NotFound`."""
    return _shape(see_tariff(session, reach, tariff_id)[1], owners_in_sight(session, reach))


def _shape(view: TariffView, owners: Mapping[int, int]) -> TariffShape:
    facts = {name: getattr(view, name) for name in TariffShape.model_fields if name != "owner_id"}
    return TariffShape(**facts, owner_id=owners.get(view.id))


def _tag(shape: TariffShape) -> str:
    return etag_of(shape.model_dump(mode="json", include={"id", "name", "owner_id"}))


def rate_shape(rate: Rate) -> RateShape:
    """Return a rate as this API says it."""
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
