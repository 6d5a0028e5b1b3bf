"""What stands around a tariff: whose it is, from which others it is sold, volume plans of all who buy in it.

For administrators: a reseller's tariffs are filled from decks, what they are derived from is the operator's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing.decks.listing import TariffView, find_view
from billing.errors import Conflict, NotFound, Refused
from billing.models import Account, AccountKind, AccountStatus, Tariff, VolumePlan
from billing.plans import edit
from billing.store import reading, work
from billing.tariff_owners import own_tariff, owner_of
from rating.errors import TariffError
from rating.parts import RoundingMode
from rating.plans import MarkUp
from web.context import panel_of
from web.pages import show
from web.panel import plan_forms as read_of
from web.panel.account_forms import typed
from web.panel.accounts import MOST_ID
from web.panel.plan_forms import Wrong
from web.panel.tariffs import HOME, TariffId
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("tariffs:read", whole=True))]
Keeper = Annotated[Principal, Depends(may("tariffs:write", whole=True))]
KINDS = {
    "tiers": "Volume tiers: cheaper the more an account talks in a month",
    "flat": "Flat rate: free up to a fair use a month",
}
MOST_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Terms:
    """All that stands around a tariff, and what may be chosen."""

    tariff: TariffView
    owner: int | None
    markups: list[dict[str, Any]]
    plans: list[VolumePlan]
    resellers: list[tuple[str, str]]
    sources: list[tuple[str, str]]


@router.get(HOME + "/{tariff_id}/terms")
async def terms_page(request: Request, principal: Reader, tariff_id: TariffId) -> Response:
    """Show what stands around a tariff."""
    return await _page(request, principal, tariff_id)


async def _page(
    request: Request,
    principal: Principal,
    tariff_id: int,
    *,
    of: str = "",
    form: Mapping[str, str] | None = None,
    wrong: Wrong | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> Terms:
        with reading(panel.engine) as session:
            return _terms(session, tariff_id)

    told = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "tariff_terms.html",
        status=422 if wrong else 200,
        told=told,
        tariff=told.tariff,
        kinds=KINDS,
        of=of,
        form={"owner": str(told.owner or ""), "kind": "tiers", "timezone": "UTC"} | dict(form or {}),
        wrong=wrong.field if wrong else "",
        error=wrong.text if wrong else "",
    )


def _terms(session: Session, tariff_id: int) -> Terms:
    tariff, view = find_view(session, tariff_id)
    resellers = (
        select(Account.id, Account.name)
        .where(
            Account.kind == AccountKind.RESELLER,
            Account.status != AccountStatus.CLOSED,
            Account.currency == tariff.currency,
        )
        .order_by(col(Account.name))
        .limit(MOST_SHOWN)
    )
    others = select(Tariff.name).where(Tariff.currency == tariff.currency, Tariff.id != tariff_id)
    plans = [plan for plan in edit.list_volumes(session) if plan.tariff_id == tariff_id]
    told = Terms(
        tariff=view,
        owner=owner_of(session, tariff_id),
        markups=edit.list_markups(session, tariff.name),
        plans=plans,
        resellers=[(str(number), name) for number, name in session.exec(resellers)],
        sources=[(name, name) for name in session.exec(others.order_by(col(Tariff.name)).limit(MOST_SHOWN))],
    )
    session.expunge_all()
    return told


@router.post(HOME + "/{tariff_id}/terms")
async def set_terms(request: Request, principal: Keeper, tariff_id: TariffId) -> Response:
    """Change whose a tariff is, what it is sold from, or a plan of all who buy in it; `of` says which form it was."""
    panel = panel_of(request)
    form = typed(await request.form())
    of = form.get("of", "")
    if of not in SETTERS:
        raise HTTPException(400)

    def change() -> str:
        with work(panel.engine) as session:
            tariff, _ = find_view(session, tariff_id)
            return SETTERS[of](session, tariff.name, form, principal.login, panel.clock.now())

    try:
        said = await run_in_threadpool(change)
    except Wrong as wrong:
        return await _page(request, principal, tariff_id, of=of, form=form, wrong=wrong)
    except (Refused, Conflict, TariffError) as why:
        return await _page(request, principal, tariff_id, of=of, form=form, wrong=Wrong("", f"{why}."))
    return flash(request, principal, "success", said, to=f"{HOME}/{tariff_id}/terms")


def _owner(session: Session, tariff: str, form: Mapping[str, str], actor: str, now: datetime) -> str:
    owner = read_of.whole(form, "owner", default="0")
    try:
        own_tariff(session, tariff, owner or None, actor=actor, now=now)
    except NotFound as why:
        raise Wrong("owner", f"{why}.") from why
    return f"{tariff} holds the prices of its reseller now." if owner else f"{tariff} is yours."


def _markup(session: Session, tariff: str, form: Mapping[str, str], actor: str, now: datetime) -> str:
    source = form.get("source", "")
    if not source:
        raise Wrong("source", "Choose the tariff whose prices are taken.")
    markup = MarkUp(
        percent=read_of.number(form, "percent", default="0"),
        least_per_min=read_of.number(form, "least", default="0"),
        decimals=read_of.whole(form, "decimals", default="4"),
        mode=RoundingMode.UP,
    )
    try:
        edit.set_markup(session, tariff, source, read_of.prefix(form), markup, actor=actor, now=now)
    except NotFound as why:
        raise Wrong("source", f"{why}.") from why
    return f"{tariff} sells from {source}, {markup.percent} % dearer, from the next call on."


def _plan(session: Session, tariff: str, form: Mapping[str, str], actor: str, now: datetime) -> str:
    name, kind = form.get("name", "").strip(), form.get("kind", "")
    if not name:
        raise Wrong("name", "A plan has a name. It stands on the bill.")
    edit.set_volume(
        session,
        tariff=tariff,
        name=name,
        prefixes=read_of.prefixes(form),
        timezone=form.get("timezone", "").strip(),
        tiers=read_of.tiers(form) if kind == "tiers" else (),
        fair_s=read_of.whole(form, "fair", least=1) * read_of.MINUTE_S if kind == "flat" else 0,
        actor=actor,
        now=now,
    )
    return f"{name} holds for calls offered from now on."


SETTERS: dict[str, Callable[[Session, str, Mapping[str, str], str, datetime], str]] = {
    "owner": _owner,
    "markup": _markup,
    "plan": _plan,
}


@router.post(HOME + "/{tariff_id}/terms/end")
async def end_terms(
    request: Request,
    principal: Keeper,
    tariff_id: TariffId,
    *,
    of: Annotated[str, Form(max_length=10)] = "",
    prefix: Annotated[str, Form(pattern=r"^[0-9]{0,32}$")] = "",
    number: Annotated[int, Form(ge=0, le=MOST_ID)] = 0,
) -> Response:
    """End a mark-up or a plan: for calls that are offered from now on."""
    panel = panel_of(request)
    if of not in {"markup", "plan"}:
        raise HTTPException(400)

    def change() -> str:
        with work(panel.engine) as session:
            tariff, _ = find_view(session, tariff_id)
            now = panel.clock.now()
            if of == "markup":
                edit.remove_markup(session, tariff.name, prefix, actor=principal.login, now=now)
                return "The mark-up has ended: what stands in the tariff itself holds."
            plan = session.get(VolumePlan, number)
            if plan is None or plan.tariff_id != tariff_id:
                raise NotFound("this tariff has no such plan")
            edit.end_volume(session, number, actor=principal.login, now=now)
            return f"{plan.name} has ended. Calls that are up keep what they began with."

    said = await run_in_threadpool(change)
    return flash(request, principal, "success", said, to=f"{HOME}/{tariff_id}/terms")
