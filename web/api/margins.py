"""Least margins: what the calls of an account, or those sold in a tariff, must earn. The operator's alone."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import Request
from pydantic import Field
from sqlmodel import Session, select
from starlette.responses import Response

from billing.account_changes import lock_account
from billing.errors import Refused
from billing.models import MinMargin
from billing.plans.carriers import set_min_margin
from billing.store import reading, work
from billing.tariff_sight import see_tariff
from billing.tariffs import lock_tariff
from web.api.auth import Asking, Caller, require_operator
from web.api.etags import IfMatch, check_match, etag_of
from web.api.prices import Price
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Body, Shape
from web.api.tariffs import TariffId
from web.context import panel_of

router = resource("plans")

Percent = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,4})?$", examples=["10"])]


class MarginShape(Shape):
    """What calls must earn of what they are sold for; both null is nothing. Less is refused before it rings."""

    percent: Percent | None = Field(description="Of the price.")
    per_min: Price | None = Field(description="A minute, in the currency of account or tariff.", examples=["0.002"])


class NewMargin(Body):
    """What calls must earn: percent, an amount a minute, or both."""

    percent: Percent | None = None
    per_min: Price | None = Field(default=None, examples=["0.002"])


@router.get("/accounts/{account_id}/least-margin", **needs("tariffs:read", "not_allowed"))
def get_account_margin(request: Request, response: Response, caller: Asking, account_id: AccountId) -> MarginShape:
    """Return what the calls of an account must earn. The ETag is what a change must name. The operator does."""
    with reading(panel_of(request).engine) as session:
        _see_account(session, caller, account_id)
        shape = _read(session, account_id=account_id)
    response.headers["etag"] = _tag(shape)
    return shape


@router.put("/accounts/{account_id}/least-margin", **needs("tariffs:write", "not_allowed", changes=True, edits=True))
def set_account_margin(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    account_id: AccountId,
    body: NewMargin,
    if_match: IfMatch = None,
) -> MarginShape:
    """Refuse calls of an account that would earn less, or of which that is not known. The operator does."""
    shape = _set_account(request, caller, account_id, body, if_match)
    response.headers["etag"] = _tag(shape)
    return shape


@router.delete(
    "/accounts/{account_id}/least-margin",
    status_code=204,
    **needs("tariffs:write", "not_allowed", changes=True, edits=True),
)
def remove_account_margin(
    request: Request, caller: Asking, account_id: AccountId, if_match: IfMatch = None
) -> Response:
    """Let the calls of an account earn what they earn. The operator does."""
    _set_account(request, caller, account_id, None, if_match)
    return Response(status_code=204)


@router.get("/tariffs/{tariff_id}/least-margin", **needs("tariffs:read", "not_allowed"))
def get_tariff_margin(request: Request, response: Response, caller: Asking, tariff_id: TariffId) -> MarginShape:
    """Return what calls sold in a tariff must earn. The ETag is what a change must name. The operator does."""
    with reading(panel_of(request).engine) as session:
        _see_tariff(session, caller, tariff_id)
        shape = _read(session, tariff_id=tariff_id)
    response.headers["etag"] = _tag(shape)
    return shape


@router.put("/tariffs/{tariff_id}/least-margin", **needs("tariffs:write", "not_allowed", changes=True, edits=True))
def set_tariff_margin(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    tariff_id: TariffId,
    body: NewMargin,
    if_match: IfMatch = None,
) -> MarginShape:
    """Refuse calls sold in a tariff that would earn less, or of which that is not known. The operator does."""
    shape = _set_tariff(request, caller, tariff_id, body, if_match)
    response.headers["etag"] = _tag(shape)
    return shape


@router.delete(
    "/tariffs/{tariff_id}/least-margin",
    status_code=204,
    **needs("tariffs:write", "not_allowed", changes=True, edits=True),
)
def remove_tariff_margin(request: Request, caller: Asking, tariff_id: TariffId, if_match: IfMatch = None) -> Response:
    """Let calls sold in a tariff earn what they earn. The operator does."""
    _set_tariff(request, caller, tariff_id, None, if_match)
    return Response(status_code=204)


def _set_account(
    request: Request, caller: Caller, account_id: int, body: NewMargin | None, if_match: str | None
) -> MarginShape:
    panel = panel_of(request)
    percent, per_min = _wanted(body)
    with work(panel.engine) as session:
        _see_account(session, caller, account_id)
        lock_account(session, account_id)
        check_match(if_match, _tag(_read(session, account_id=account_id)))
        set_min_margin(
            session,
            account=str(account_id),
            percent=percent,
            per_min=per_min,
            actor=caller.actor,
            now=panel.clock.now(),
        )
        return _read(session, account_id=account_id)


def _set_tariff(
    request: Request, caller: Caller, tariff_id: int, body: NewMargin | None, if_match: str | None
) -> MarginShape:
    panel = panel_of(request)
    percent, per_min = _wanted(body)
    with work(panel.engine) as session:
        _see_tariff(session, caller, tariff_id)
        name = lock_tariff(session, tariff_id).name
        check_match(if_match, _tag(_read(session, tariff_id=tariff_id)))
        set_min_margin(
            session, tariff=name, percent=percent, per_min=per_min, actor=caller.actor, now=panel.clock.now()
        )
        return _read(session, tariff_id=tariff_id)


def _wanted(body: NewMargin | None) -> tuple[Decimal | None, Decimal | None]:
    """Return percent and amount; both None takes the margin away. Raises `Refused` for a body that says neither."""
    if body is None:
        return None, None
    if body.percent is None and body.per_min is None:
        raise Refused("a least margin is a percentage, an amount a minute, or both: it is removed with DELETE")
    return (
        None if body.percent is None else Decimal(body.percent),
        None if body.per_min is None else Decimal(body.per_min),
    )


def _see_account(session: Session, caller: Caller, account_id: int) -> None:
    caller.reach.see(session, account_id)
    require_operator(caller)


def _see_tariff(session: Session, caller: Caller, tariff_id: int) -> None:
    see_tariff(session, caller.reach, tariff_id)
    require_operator(caller)


def _read(session: Session, *, account_id: int | None = None, tariff_id: int | None = None) -> MarginShape:
    whose = MinMargin.account_id == account_id if account_id is not None else MinMargin.tariff_id == tariff_id
    found = session.exec(select(MinMargin).where(whose)).one_or_none()
    if found is None:
        return MarginShape(percent=None, per_min=None)
    return MarginShape(percent=found.percent or None, per_min=found.per_min or None)


def _tag(shape: MarginShape) -> str:
    return etag_of(shape.model_dump(mode="json"))
