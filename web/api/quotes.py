"""Quotes: what a call would cost, and why. Nothing is touched."""

from __future__ import annotations

from datetime import datetime

from fastapi import Request
from pydantic import Field
from sqlmodel import Session

from billing.access import Reach
from billing.catalogue import Catalogue
from billing.plans.lookup import NoExchange, Priced, find_listed, find_price
from billing.plans.store import catalogue_in_store
from billing.store import reading
from billing.tariff_sight import see_tariff
from rating.faults import MOST_SECONDS
from rating.money import format_amount
from rating.pricing import billable_ms, closing, price_ms, seconds_of
from web.api.auth import Asking
from web.api.problems import Problem
from web.api.routes import MOST_ID, needs, resource
from web.api.shapes import Amount, Body, Currency, Moment, SentMoment, Shape
from web.context import panel_of

router = resource("tariffs")


class Question(Body):
    """A call that might be made: by an account, or at a tariff."""

    account_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="At what this account pays.")
    tariff_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="Or at what this tariff lists.")
    to: str = Field(pattern=r"^\+?[0-9]{1,32}$", examples=["+442071838750"])
    seconds: int = Field(ge=0, le=MOST_SECONDS, examples=[61])
    at: SentMoment | None = Field(default=None, description="When it is answered; now, if not given.")


class LineShape(Shape):
    """A part of the price."""

    what: str = Field(examples=["1.10 per 60 s in steps of 6 s"])
    seconds: str
    amount: str = Field(description="Exact, before the one rounding at the end.", examples=["1.21"])


class QuoteShape(Shape):
    """What the call would cost."""

    cost: Amount
    currency: Currency
    billed_seconds: str = Field(examples=["66"])
    prefix: str = Field(examples=["44"])
    destination: str = Field(examples=["United Kingdom"])
    answered_at: Moment
    lines: list[LineShape]


@router.post(
    "/quotes",
    **needs("tariffs:read", "json_invalid", "json_too_deep", "not_json", "body_too_large", "timeout", "refused"),
)
def make_quote(request: Request, caller: Asking, body: Question) -> QuoteShape:
    """Price a call."""
    if (body.account_id is None) == (body.tariff_id is None):
        raise Problem("invalid", "Name an account or a tariff.", more={"errors": []})
    panel = panel_of(request)
    at = body.at or panel.clock.now()
    with reading(panel.engine) as session:
        catalogue = catalogue_in_store(session)
        currency, priced = _priced(session, catalogue, caller.reach, body, at)
        if priced is None:
            raise Problem("refused", f"There is no rate for {body.to}.")
        return _quote(priced, currency, body, at)


def _priced(
    session: Session, catalogue: Catalogue, reach: Reach, body: Question, at: datetime
) -> tuple[str, Priced | None]:
    number = body.to.removeprefix("+")
    if body.tariff_id is not None:
        tariff, _ = see_tariff(session, reach, body.tariff_id)
        book = catalogue.tariffs.get(body.tariff_id)
        return tariff.currency, None if book is None else find_listed(catalogue.tariffs, book, number, at)
    account = reach.see(session, body.account_id or 0)
    party = catalogue.parties.get(account.id or 0)
    if party is None:
        raise Problem("refused", f"{account.name} pays for no calls.")
    found = find_price(catalogue, party, number, at)
    if isinstance(found, NoExchange):
        raise Problem("refused", "There is no exchange rate into the account's currency.")
    return account.currency, found


def _quote(priced: Priced, currency: str, body: Question, at: datetime) -> QuoteShape:
    rate = priced.rate
    if rate.barred:
        raise Problem("refused", f"Calls to {body.to} are barred ({rate.destination}, prefix {rate.prefix}).")
    talk_ms = billable_ms(rate, body.seconds * 1000)
    closes_at = closing(rate, at, talk_ms)
    if closes_at is not None:
        raise Problem("refused", f"There is no price for {body.to} on {closes_at:%A %Y-%m-%d at %H:%M:%S}.")
    price = price_ms(rate, talk_ms, at=at)
    return QuoteShape(
        cost=format_amount(price.cost_micros),
        currency=currency,
        billed_seconds=str(seconds_of(price.billed_ms)),
        prefix=rate.prefix,
        destination=rate.destination,
        answered_at=at,
        lines=[LineShape(what=one.what, seconds=str(one.seconds), amount=str(one.amount)) for one in price.lines],
    )
