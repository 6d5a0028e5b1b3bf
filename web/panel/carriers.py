"""Who carries calls and at what cost, what a call must earn, and exchange rates: the operator's own business."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing.errors import Conflict, NotFound, Refused
from billing.models import ExchangeRate, Tariff
from billing.plans import carriers, exchange
from billing.plans.carriers import CarrierView, MarginView
from billing.store import reading, work
from rating.errors import TariffError
from web.context import panel_of
from web.pages import show
from web.panel import plan_forms as read_of
from web.panel.account_forms import typed
from web.panel.plan_forms import Wrong
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("tariffs:read", whole=True))]
Keeper = Annotated[Principal, Depends(may("tariffs:write", whole=True))]

CARRIERS, EXCHANGE = "/carriers", "/exchange"
REFUSED = (Refused, Conflict, NotFound, TariffError)
MOST_SHOWN = 500
Text = Annotated[str, Form(max_length=200)]


@router.get(CARRIERS)
async def carriers_page(request: Request, principal: Reader) -> Response:
    """Show the carriers, their routes, and what calls must earn."""
    return await _carriers(request, principal)


async def _carriers(
    request: Request,
    principal: Principal,
    *,
    form: Mapping[str, str] | None = None,
    wrong: Wrong | None = None,
    of: str = "",
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[list[CarrierView], list[MarginView], list[str]]:
        with reading(panel.engine) as session:
            tariffs = session.exec(select(Tariff.name).order_by(col(Tariff.name)).limit(MOST_SHOWN)).all()
            return carriers.list_carriers(session), carriers.list_margins(session), list(tariffs)

    found, margins, tariffs = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "carriers.html",
        status=422 if wrong else 200,
        carriers=found,
        margins=margins,
        tariffs=[(name, name) for name in tariffs],
        form=form or {},
        of=of,
        wrong=wrong.field if wrong else "",
        error=wrong.text if wrong else "",
    )


@router.post(CARRIERS)
async def set_something(request: Request, principal: Keeper) -> Response:
    """Make or change a carrier, a route, or what calls must earn; `of` says which form it was."""
    panel = panel_of(request)
    form = typed(await request.form())
    of = form.get("of", "")
    if of not in SETTERS:
        raise HTTPException(400)

    def change() -> str:
        with work(panel.engine) as session:
            return SETTERS[of](session, form, principal.login, panel.clock.now())

    try:
        said = await run_in_threadpool(change)
    except Wrong as wrong:
        return await _carriers(request, principal, form=form, wrong=wrong, of=of)
    except REFUSED as why:
        return await _carriers(request, principal, form=form, wrong=Wrong("", f"{why}."), of=of)
    return flash(request, principal, "success", said, to=CARRIERS)


def _carrier(session: Session, form: Mapping[str, str], actor: str, now: datetime) -> str:
    name, tariff = form.get("name", "").strip(), form.get("tariff", "")
    if not name:
        raise Wrong("name", "A carrier has a name.")
    if not tariff:
        raise Wrong("tariff", "Choose the tariff that it charges you by.")
    carriers.set_carrier(session, name, tariff, actor=actor, now=now)
    return f"{name} charges by {tariff}, from the next call on."


def _route(session: Session, form: Mapping[str, str], actor: str, now: datetime) -> str:
    prefix, carrier = read_of.prefix(form), form.get("carrier", "")
    if not carrier:
        raise Wrong("carrier", "Choose who carries these calls.")
    carriers.set_route(session, prefix, carrier, actor=actor, now=now)
    return f"{carrier} carries calls to {prefix + '…' if prefix else 'all numbers'}."


def _margin(session: Session, form: Mapping[str, str], actor: str, now: datetime) -> str:
    percent = _maybe(form, "percent")
    per_min = _maybe(form, "per_min")
    if percent is None and per_min is None:
        raise Wrong("percent", "Say how many percent, or how much a minute, or both.")
    tariff, account = form.get("sold_in", ""), form.get("account", "").strip()
    if bool(tariff) == bool(account):
        raise Wrong("account", "Choose a tariff, or write an account: one of them.")
    carriers.set_min_margin(
        session,
        account=account or None,
        tariff=tariff or None,
        percent=percent,
        per_min=per_min,
        actor=actor,
        now=now,
    )
    return f"Calls of {account or tariff} that earn less are refused from now on."


def _maybe(form: Mapping[str, str], field: str) -> Decimal | None:
    return read_of.number(form, field) if form.get(field, "").strip() else None


SETTERS = {"carrier": _carrier, "route": _route, "margin": _margin}


@router.post(CARRIERS + "/end")
async def end_something(
    request: Request,
    principal: Keeper,
    *,
    of: Annotated[str, Form(max_length=10)] = "",
    prefix: Annotated[str, Form(pattern=r"^[0-9]{0,32}$")] = "",
    account: Text = "",
    tariff: Text = "",
) -> Response:
    """Take a route or a least margin away."""
    panel = panel_of(request)

    def change() -> str:
        with work(panel.engine) as session:
            now = panel.clock.now()
            if of == "route":
                carriers.set_route(session, prefix, None, actor=principal.login, now=now)
                return "The route is gone: the next shorter one holds, if there is one."
            carriers.set_min_margin(
                session, account=account or None, tariff=tariff or None, actor=principal.login, now=now
            )
            return f"Calls of {account or tariff} need not earn anything any more."

    if of not in {"route", "margin"}:
        raise HTTPException(400)
    try:
        said = await run_in_threadpool(change)
    except (NotFound, Refused) as why:
        return flash(request, principal, "warning", f"{why}.", to=CARRIERS)
    return flash(request, principal, "success", said, to=CARRIERS)


@router.get(EXCHANGE)
async def exchange_page(request: Request, principal: Reader) -> Response:
    """Show the exchange rates, the latest of each pair first."""
    return await _exchange(request, principal)


async def _exchange(
    request: Request, principal: Principal, *, form: Mapping[str, str] | None = None, wrong: Wrong | None = None
) -> Response:
    panel = panel_of(request)

    def read() -> list[ExchangeRate]:
        with reading(panel.engine) as session:
            found = exchange.list_exchanges(session, most=MOST_SHOWN)
            session.expunge_all()
            return found

    found, now = await run_in_threadpool(read), panel.clock.now()
    return show(
        request,
        principal,
        "exchange.html",
        status=422 if wrong else 200,
        rates=[(rate, _state(rate, found, now)) for rate in found],
        form=form or {},
        wrong=wrong.field if wrong else "",
        error=wrong.text if wrong else "",
    )


def _state(rate: ExchangeRate, rates: list[ExchangeRate], now: datetime) -> str:
    """Return whether a rate holds, will, or has held: of a pair the last one that has begun holds."""
    if rate.at > now:
        return "scheduled"
    pair = (rate.from_currency, rate.to_currency)
    holds = max(one.at for one in rates if (one.from_currency, one.to_currency) == pair and one.at <= now)
    return "in force" if rate.at == holds else "over"


@router.post(EXCHANGE)
async def set_rate(request: Request, principal: Keeper) -> Response:
    """Say what a currency is worth in another from a moment on. Never edited: a right one follows a wrong one."""
    panel = panel_of(request)
    form = typed(await request.form())

    def change() -> str:
        now = panel.clock.now()
        pair = [form.get(field, "").strip().upper() for field in ("from_currency", "to_currency")]
        for field, code in zip(("from_currency", "to_currency"), pair, strict=True):
            if not (len(code) == 3 and code.isascii() and code.isalpha()):  # noqa: PLR2004 - ISO 4217
                raise Wrong(field, "A currency is three letters such as EUR.")
        source = form.get("source", "").strip()
        if not source:
            raise Wrong("source", "Say where the rate comes from: it stands on each charge.")
        value = read_of.number(form, "value")
        at = read_of.moment(form, "since", default=now)
        with work(panel.engine) as session:
            said = exchange.set_exchange(
                session, pair[0], pair[1], value, source=source, at=at, actor=principal.login, now=now
            )
        return f"1 {pair[0]} is {value} {pair[1]}." if said else "That was said before; nothing was changed."

    try:
        text = await run_in_threadpool(change)
    except Wrong as wrong:
        return await _exchange(request, principal, form=form, wrong=wrong)
    except REFUSED as why:
        return await _exchange(request, principal, form=form, wrong=Wrong("", f"{why}."))
    return flash(request, principal, "success", text, to=EXCHANGE)
