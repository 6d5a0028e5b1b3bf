"""Mark-ups: numbers that a tariff sells at the prices of another one, and more. The operator's alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import Request
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing.errors import NotFound
from billing.models import Tariff
from billing.plans import edit
from billing.store import reading, work
from billing.tariff_sight import see_tariff
from billing.tariffs import lock_tariff
from rating.parts import RoundingMode
from rating.plans import MOST_MARKUP_DECIMALS, MarkUp
from web.api.auth import Asking, Caller, require_operator
from web.api.prices import Beginning, Prefix, Price, digits_of
from web.api.routes import MOST_ID, needs, resource
from web.api.shapes import Body, Page, Shape
from web.api.tariffs import TariffId
from web.context import panel_of

router = resource("plans")

Percent = Annotated[str, Field(pattern=r"^[0-9]{1,6}(\.[0-9]{1,4})?$", examples=["20"])]


class MarkUpShape(Shape):
    """A mark-up; the longest prefix counts, and what stands in the tariff itself wins over it."""

    prefix: Prefix
    from_tariff_id: int = Field(examples=[2])
    from_tariff: str = Field(examples=["transatlantic wholesale"])
    percent: Percent
    least_per_min: Price = Field(description="How much dearer a minute at least.", examples=["0.002"])
    decimals: int = Field(description="To how many decimals the prices are brought.", examples=[6])
    rounding: RoundingMode


class NewMarkUp(Body):
    """Whose prices are marked up, and how: both tariffs have the same currency."""

    from_tariff_id: int = Field(ge=1, le=MOST_ID, examples=[2])
    percent: Percent = "0"
    least_per_min: Price = Field(default="0", examples=["0.002"])
    decimals: int = Field(default=6, ge=0, le=MOST_MARKUP_DECIMALS)
    rounding: Annotated[RoundingMode, Field(strict=False)] = RoundingMode.UP


@router.get("/tariffs/{tariff_id}/markups", **needs("tariffs:read", "not_allowed"))
def list_markups(request: Request, caller: Asking, tariff_id: TariffId) -> Page[MarkUpShape]:
    """List from what a tariff is sold, in the order of prefixes. The operator does."""
    with reading(panel_of(request).engine) as session:
        tariff = _see(session, caller, tariff_id)
        return Page(items=[_shape(one) for one in edit.list_markups(session, tariff.name)])


@router.put("/tariffs/{tariff_id}/markups/{prefix}", **needs("tariffs:write", "not_allowed", changes=True))
def set_markup(
    request: Request, caller: Asking, tariff_id: TariffId, prefix: Beginning, body: NewMarkUp
) -> MarkUpShape:
    """Sell the numbers of a prefix at another tariff's prices, marked up, from the next call on. The operator does."""
    panel, digits = panel_of(request), digits_of(prefix)
    markup = MarkUp(Decimal(body.percent), Decimal(body.least_per_min), body.decimals, body.rounding)
    with work(panel.engine) as session:
        source, _ = see_tariff(session, caller.reach, body.from_tariff_id)
        sold, now = _see(session, caller, tariff_id), panel.clock.now()
        lock_tariff(session, tariff_id)
        edit.set_markup(session, sold.name, source.name, digits, markup, actor=caller.actor, now=now)
        return _shape(_find(session, sold, digits))


@router.delete(
    "/tariffs/{tariff_id}/markups/{prefix}", status_code=204, **needs("tariffs:write", "not_allowed", changes=True)
)
def remove_markup(request: Request, caller: Asking, tariff_id: TariffId, prefix: Beginning) -> Response:
    """Let a tariff sell at another one's prices no more: what stands in it holds. The operator does."""
    panel, digits = panel_of(request), digits_of(prefix)
    with work(panel.engine) as session:
        sold = _see(session, caller, tariff_id)
        _find(session, lock_tariff(session, tariff_id), digits)
        edit.remove_markup(session, sold.name, digits, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _see(session: Session, caller: Caller, tariff_id: int) -> Tariff:
    """Return a tariff in sight. Raises `NotFound`; and `Problem` for who does not act for the operator."""
    tariff, _ = see_tariff(session, caller.reach, tariff_id)
    require_operator(caller)
    return tariff


def _find(session: Session, sold: Tariff, digits: str) -> dict[str, Any]:
    found = next((one for one in edit.list_markups(session, sold.name) if one["prefix"] == digits), None)
    if found is None:
        raise NotFound(f"this tariff has no mark-up for {digits or 'all'}")
    return found


def _shape(facts: dict[str, Any]) -> MarkUpShape:
    return MarkUpShape(
        prefix=facts["prefix"],
        from_tariff_id=facts["from_tariff_id"],
        from_tariff=facts["from"],
        percent=facts["percent"],
        least_per_min=facts["least_per_min"],
        decimals=facts["decimals"],
        rounding=RoundingMode(facts["mode"]),
    )
