"""Carriers: who carries calls and by what tariff it charges, and which numbers go there. The operator's alone."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing.errors import Conflict, NotFound
from billing.plans import carriers
from billing.plans.carriers import CarrierView
from billing.store import reading, work
from web.api.auth import Asking, Caller, require_operator
from web.api.etags import IfMatch, check_match, etag_of
from web.api.routes import MOST_ID, needs, resource
from web.api.shapes import Body, Currency, Name, Page, Shape
from web.context import panel_of

router = resource("plans")

CarrierId = Annotated[int, Path(ge=1, le=MOST_ID, description="The carrier's number.", examples=[1])]
Beginning = Annotated[
    str, Path(pattern="^([0-9]{1,32}|all)$", description='Numbers that begin so; "all" is every number.')
]
TariffName = Annotated[str, Field(min_length=1, max_length=100, examples=["transatlantic wholesale"])]


class CarrierShape(Shape):
    """A carrier. Calls to numbers that begin so cost what its tariff says; the longest beginning counts."""

    id: int = Field(examples=[1])
    name: str = Field(examples=["Transatlantic"])
    tariff: TariffName
    currency: Currency
    prefixes: list[str] = Field(examples=[["1", "44"]])


class NewCarrier(Body):
    """A carrier to be made."""

    name: Name = Field(examples=["Transatlantic"])
    tariff: TariffName


class ChangedCarrier(Body):
    """By what tariff a carrier charges from now on."""

    tariff: TariffName


@router.get("/carriers", **needs("tariffs:read", "not_allowed"))
def list_carriers(request: Request, caller: Asking) -> Page[CarrierShape]:
    """List the carriers by name."""
    require_operator(caller)
    with reading(panel_of(request).engine) as session:
        return Page(items=[_shape(one) for one in carriers.list_carriers(session)])


@router.post("/carriers", status_code=201, **needs("tariffs:write", "not_allowed", changes=True))
def add_carrier(request: Request, response: Response, caller: Asking, body: NewCarrier) -> CarrierShape:
    """Make a carrier; its ledger accounts are made with it. Then say which numbers go there."""
    require_operator(caller)
    panel = panel_of(request)
    with work(panel.engine) as session:
        if any(one.name == body.name for one in carriers.list_carriers(session)):
            raise Conflict(f"there is a carrier {body.name!r} already")
        made = carriers.set_carrier(session, body.name, body.tariff, actor=caller.actor, now=panel.clock.now())
        shape = _shape(carriers.find_carrier(session, made.id or 0))
    response.headers["location"] = f"/api/v1/carriers/{shape.id}"
    response.headers["etag"] = _tag(shape)
    return shape


@router.get("/carriers/{carrier_id}", **needs("tariffs:read"))
def get_carrier(request: Request, response: Response, caller: Asking, carrier_id: CarrierId) -> CarrierShape:
    """Return one carrier. Its ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _shape(_see(session, caller, carrier_id))
    response.headers["etag"] = _tag(shape)
    return shape


@router.patch("/carriers/{carrier_id}", **needs("tariffs:write", changes=True, edits=True))
def change_carrier(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    carrier_id: CarrierId,
    body: ChangedCarrier,
    if_match: IfMatch = None,
) -> CarrierShape:
    """Let a carrier charge by another tariff, for calls offered from now on."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        found = _see(session, caller, carrier_id)
        check_match(if_match, _tag(_shape(found)))
        carriers.set_carrier(session, found.name, body.tariff, actor=caller.actor, now=panel.clock.now())
        shape = _shape(carriers.find_carrier(session, carrier_id))
    response.headers["etag"] = _tag(shape)
    return shape


@router.put("/carriers/{carrier_id}/routes/{prefix}", **needs("tariffs:write", changes=True))
def set_route(request: Request, caller: Asking, carrier_id: CarrierId, prefix: Beginning) -> CarrierShape:
    """Let calls to numbers that begin so cost what this carrier charges; another carrier of this beginning loses it."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        found = _see(session, caller, carrier_id)
        carriers.set_route(session, _digits(prefix), found.name, actor=caller.actor, now=panel.clock.now())
        return _shape(carriers.find_carrier(session, carrier_id))


@router.delete("/carriers/{carrier_id}/routes/{prefix}", status_code=204, **needs("tariffs:write", changes=True))
def remove_route(request: Request, caller: Asking, carrier_id: CarrierId, prefix: Beginning) -> Response:
    """Name no carrier for numbers that begin so any more."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        if _digits(prefix) not in _see(session, caller, carrier_id).prefixes:
            raise NotFound(f"this carrier has no route for {prefix}")
        carriers.set_route(session, _digits(prefix), None, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _see(session: Session, caller: Caller, carrier_id: int) -> CarrierView:
    """Return a carrier. Raises `NotFound`, for whoever is not the operator's as well."""
    if not caller.reach.whole:
        raise NotFound(f"there is no carrier {carrier_id}")
    return carriers.find_carrier(session, carrier_id)


def _digits(prefix: str) -> str:
    return "" if prefix == "all" else prefix


def _shape(one: CarrierView) -> CarrierShape:
    return CarrierShape(id=one.id, name=one.name, tariff=one.tariff, currency=one.currency, prefixes=list(one.prefixes))


def _tag(shape: CarrierShape) -> str:
    return etag_of(shape.model_dump(mode="json", include={"name", "tariff"}))
