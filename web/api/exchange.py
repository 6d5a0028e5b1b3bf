"""Exchange rates: what a currency is worth in another, from a moment on. Never edited: a wrong one is followed."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import Query, Request
from pydantic import Field

from billing.models import ExchangeRate
from billing.plans import exchange
from billing.store import reading, work
from web.api.auth import Asking, require_operator
from web.api.routes import Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Body, Currency, Moment, Page, SentMoment, Shape
from web.context import panel_of

router = resource("plans")

Code = Annotated[str, Query(pattern="^([A-Z]{3})?$")]


class ExchangeShape(Shape):
    """One `from_currency` is `value` of `to_currency` for calls offered from `at` on."""

    from_currency: Currency = Field(examples=["USD"])
    to_currency: Currency
    value: str = Field(examples=["0.92"])
    source: str = Field(examples=["ECB"])
    at: Moment


class NewExchange(Body):
    """An exchange rate to be set."""

    from_currency: Currency = Field(examples=["USD"])
    to_currency: Currency
    value: str = Field(pattern=r"^[0-9]{1,10}(\.[0-9]{1,12})?$", examples=["0.92"])
    source: str = Field(default="operator", min_length=1, max_length=40, description="Who says so.", examples=["ECB"])
    at: SentMoment | None = Field(default=None, description="From when on; now, if not given.")


@router.get("/exchange-rates", **needs("tariffs:read", "cursor_invalid"))
def list_exchange_rates(
    request: Request,
    caller: Asking,  # noqa: ARG001 - one list for all
    *,
    from_currency: Code = "",
    to_currency: Code = "",
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[ExchangeShape]:
    """List exchange rates in the order in which they were set, the newest first."""
    with reading(panel_of(request).engine) as session:
        found = exchange.newest_exchanges(
            session,
            from_currency=from_currency,
            to_currency=to_currency,
            before_id=number_of(after),
            most=most + 1,
        )
        more = str(found[most - 1].id) if len(found) > most else None
        return Page(items=[_shape(row) for row in found[:most]], next=more)


@router.post("/exchange-rates", status_code=201, **needs("tariffs:write", "not_allowed", changes=True))
def set_exchange_rate(request: Request, caller: Asking, body: NewExchange) -> ExchangeShape:
    """Set an exchange rate; told again, it is set once. Calls offered before keep theirs. The operator does."""
    require_operator(caller)
    panel = panel_of(request)
    now = panel.clock.now()
    with work(panel.engine) as session:
        exchange.set_exchange(
            session,
            body.from_currency,
            body.to_currency,
            Decimal(body.value),
            source=body.source,
            at=body.at or now,
            actor=caller.actor,
            now=now,
        )
    return ExchangeShape(
        from_currency=body.from_currency,
        to_currency=body.to_currency,
        value=body.value,
        source=body.source,
        at=body.at or now,
    )


def _shape(row: ExchangeRate) -> ExchangeShape:
    return ExchangeShape(**{name: getattr(row, name) for name in ExchangeShape.model_fields})
