"""What an account pays beside its tariff: own rates, discounts, bundles and volume plans; agreed, and ended.

Prices are made by who is paid: administrators for every account, a reseller for those right under it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing import accounts, outbox
from billing.accounts import AccountView
from billing.errors import Conflict, NotFound, Refused
from billing.ledger import Applied
from billing.models import Account, AccountKind, AccountStatus, Tariff, VolumePlan
from billing.plans import edit
from billing.plans.bundles import BundleView, end_bundle, give_bundle, list_bundles
from billing.plans.edit import list_markups, list_plan, list_volumes
from billing.plans.volumes import usage_of
from billing.store import reading, work
from rating.errors import TariffError
from rating.volumes import month_of
from web.context import CREDIT_DOWN, panel_of
from web.pages import show
from web.panel import plan_forms as read_of
from web.panel.account_forms import typed
from web.panel.accounts import LATER, MOST_ID, OPERATION, AccountId
from web.panel.plan_forms import Wrong
from web.security.sessions import Forbidden, Principal, Tone, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("accounts:read"))]
Keeper = Annotated[Principal, Depends(may("tariffs:write"))]

KINDS = {
    "discount": "Discount: so many percent off",
    "rate": "Own rate: a price for some numbers",
    "bundle": "Bundle: minutes, used before money",
    "tiers": "Volume tiers: cheaper the more is talked in a month",
    "flat": "Flat rate: free up to a fair use a month",
}
"""What can be agreed with an account."""
REFUSED = (Refused, Conflict, TariffError)


@dataclass(frozen=True, slots=True)
class PlanNow:
    """A volume plan and what the account has used of it this month. `of_tariff`: everybody's who buys in the tariff."""

    plan: VolumePlan
    month: str
    used_s: int
    of_tariff: bool


@dataclass(frozen=True, slots=True)
class Prices:
    """All that stands around the prices of an account. `may_change`: whether this person agrees on them."""

    account: AccountView
    discounts: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    markups: list[dict[str, Any]]
    bundles: list[BundleView]
    volumes: list[PlanNow]
    may_change: bool


@dataclass(frozen=True, slots=True)
class Agreed:
    """What is to be said, and what the live store must be told."""

    text: str
    applied: tuple[Applied, ...] = ()
    tone: Tone = "success"


@router.get("/accounts/{account_id}/prices")
async def prices_page(request: Request, principal: Reader, account_id: AccountId) -> Response:
    """Show what is agreed with an account."""
    return await _page(request, principal, account_id)


async def _page(
    request: Request,
    principal: Principal,
    account_id: int,
    *,
    form: Mapping[str, str] | None = None,
    wrong: Wrong | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> Prices:
        with reading(panel.engine) as session:
            found = principal.reach.see(session, account_id)
            (view,) = accounts.views_of(session, [found])
            own = list_plan(session, str(account_id))
            markups = list_markups(session, view.tariff) if view.tariff and principal.reach.whole else []
            bundles = list_bundles(session, str(account_id))
            volumes = _volumes(session, account_id, panel)
            return Prices(
                view, own["discounts"], own["rates"], markups, bundles, volumes, _may_change(principal, found)
            )

    told = await run_in_threadpool(read)
    fresh = {"kind": "discount", "operation": panel.ids.new("bundle"), "timezone": told.account.timezone}
    return show(
        request,
        principal,
        "account_prices.html",
        status=422 if wrong else 200,
        told=told,
        kinds=KINDS,
        form=fresh | dict(form or {}),
        wrong=wrong.field if wrong else "",
        error=wrong.text if wrong else "",
        now=panel.clock.now(),
    )


def _may_change(principal: Principal, account: Account) -> bool:
    """Return whether somebody agrees on the prices of an account."""
    if not principal.may("tariffs:write") or account.kind is AccountKind.OPERATOR:
        return False
    if account.status is AccountStatus.CLOSED:
        return False
    return principal.reach.whole or account.parent_id == principal.reach.account_id


async def _do(
    request: Request, principal: Principal, account_id: int, change: Callable[[Session, datetime], Agreed]
) -> Agreed:
    """Change something in one unit of work; the live store is told of what was posted."""
    panel = panel_of(request)

    def work_on() -> Agreed:
        with work(panel.engine) as session:
            account = principal.reach.see(session, account_id)
            if not _may_change(principal, account):
                raise Forbidden("Prices of an account are agreed on by who is paid: the reseller right above it.")
            return change(session, panel.clock.now())

    agreed = await run_in_threadpool(work_on)
    try:
        await outbox.apply_now(panel.engine, panel.credit, agreed.applied, clock=panel.clock)
    except CREDIT_DOWN:
        return Agreed(f"{agreed.text} {LATER}")
    return agreed


@router.post("/accounts/{account_id}/prices")
async def agree(request: Request, principal: Keeper, account_id: AccountId) -> Response:
    """Agree on something with an account: what holds for calls that are offered from now on."""
    form = typed(await request.form())
    kind = form.get("kind", "")
    if kind not in KINDS:
        raise HTTPException(400)

    def change(session: Session, now: datetime) -> Agreed:
        return MAKERS[kind](session, str(account_id), form, principal, now)

    try:
        agreed = await _do(request, principal, account_id, change)
    except Wrong as wrong:
        return await _page(request, principal, account_id, form=form, wrong=wrong)
    except REFUSED as why:
        return await _page(request, principal, account_id, form=form, wrong=Wrong("", f"{why}."))
    return flash(request, principal, "success", agreed.text, to=f"/accounts/{account_id}/prices")


def _discount(session: Session, account: str, form: Mapping[str, str], principal: Principal, now: datetime) -> Agreed:
    percent = read_of.number(form, "percent")
    if percent == 0:
        raise Wrong("percent", "A discount is more than 0. One that is there is ended in the list.")
    prefix = read_of.prefix(form)
    edit.set_discount(session, account, prefix, percent, actor=principal.login, now=now)
    return Agreed(f"{percent} % off {_numbers(prefix)}, from the next call on.")


def _rate(session: Session, account: str, form: Mapping[str, str], principal: Principal, now: datetime) -> Agreed:
    rate = read_of.own_rate(form)
    edit.set_own_rate(session, account, rate, actor=principal.login, now=now)
    return Agreed(f"{rate.steps[0].price} a minute for {_numbers(rate.prefix)}, from the next call on.")


def _bundle(session: Session, account: str, form: Mapping[str, str], principal: Principal, now: datetime) -> Agreed:
    operation = form.get("operation", "")
    if not OPERATION.fullmatch(operation):
        raise HTTPException(400)
    minutes = read_of.whole(form, "minutes", least=1)
    done = give_bundle(
        session,
        account,
        name=_name(form),
        seconds=minutes * read_of.MINUTE_S,
        prefixes=read_of.prefixes(form),
        priority=read_of.whole(form, "priority", default="0"),
        expires_at=read_of.last_day(form),
        operation=f"panel:{principal.user_id}:{operation}",
        actor=principal.login,
        now=now,
    )
    if done.replayed:
        return Agreed("This bundle was given before. Nothing was added again.")
    return Agreed(f"{minutes} minutes are there, from the next call on.", done.applied)


def _tiers(session: Session, account: str, form: Mapping[str, str], principal: Principal, now: datetime) -> Agreed:
    edit.set_volume(
        session,
        account=account,
        name=_name(form),
        prefixes=read_of.prefixes(form),
        timezone=form.get("timezone", "").strip(),
        tiers=read_of.tiers(form),
        actor=principal.login,
        now=now,
    )
    return Agreed(f"{_name(form)} holds for calls offered from now on.")


def _flat(session: Session, account: str, form: Mapping[str, str], principal: Principal, now: datetime) -> Agreed:
    edit.set_volume(
        session,
        account=account,
        name=_name(form),
        prefixes=read_of.prefixes(form),
        timezone=form.get("timezone", "").strip(),
        fair_s=read_of.whole(form, "fair", least=1) * read_of.MINUTE_S,
        actor=principal.login,
        now=now,
    )
    return Agreed(f"{_name(form)} holds for calls offered from now on.")


MAKERS = {"discount": _discount, "rate": _rate, "bundle": _bundle, "tiers": _tiers, "flat": _flat}


def _name(form: Mapping[str, str]) -> str:
    name = form.get("name", "").strip()
    if not name or len(name) > 100 or not name.isprintable():  # noqa: PLR2004 - the column's
        raise Wrong("name", "A name is 1 to 100 printable characters. It stands on the bill.")
    return name


def _numbers(prefix: str) -> str:
    return f"numbers that begin with {prefix}" if prefix else "all numbers"


@router.post("/accounts/{account_id}/prices/end")
async def end(
    request: Request,
    principal: Keeper,
    account_id: AccountId,
    *,
    kind: Annotated[str, Form(max_length=10)] = "",
    prefix: Annotated[str, Form(pattern=r"^[0-9]{0,32}$")] = "",
    number: Annotated[int, Form(ge=0, le=MOST_ID)] = 0,
) -> Response:
    """End what was agreed: for calls that are offered from now on. `number`: of a plan, or of a bundle's wallet."""

    def change(session: Session, now: datetime) -> Agreed:
        try:
            return _end(session, str(account_id), kind, prefix, number, principal.login, now)
        except NotFound as why:
            return Agreed(f"{why}.", tone="warning")

    agreed = await _do(request, principal, account_id, change)
    return flash(request, principal, agreed.tone, agreed.text, to=f"/accounts/{account_id}/prices")


def _end(  # noqa: PLR0917 - private, what the form says
    session: Session, account: str, kind: str, prefix: str, number: int, actor: str, now: datetime
) -> Agreed:
    match kind:
        case "discount":
            edit.set_discount(session, account, prefix, read_of.NOTHING, actor=actor, now=now)
            return Agreed(f"No discount for {_numbers(prefix)} any more.")
        case "rate":
            edit.remove_own_rate(session, account, prefix, actor=actor, now=now)
            return Agreed(f"No own rate for {_numbers(prefix)} any more: its tariff's holds.")
        case "bundle":
            ended = end_bundle(session, account, number, actor=actor, now=now)
            return Agreed("The bundle has ended." if ended else "It had ended before.")
        case "volume":
            plan = session.get(VolumePlan, number)
            if plan is None or plan.account_id != int(account):
                raise NotFound("this account has no such plan")
            edit.end_volume(session, number, actor=actor, now=now)
            return Agreed(f"{plan.name} has ended. Calls that are up keep what they began with.")
    raise HTTPException(400)


def _volumes(session: Session, account_id: int, panel: Any) -> list[PlanNow]:
    owner = session.exec(select(Account.tariff_id).where(Account.id == account_id)).one()
    tariff = session.get(Tariff, owner) if owner is not None else None
    found: list[PlanNow] = []
    for plan in list_volumes(session):
        if plan.account_id == account_id or (tariff is not None and plan.tariff_id == tariff.id):
            month = month_of(plan.timezone, panel.clock.now())
            used_ms = dict(usage_of(session, plan.id or 0, month)).get(account_id, 0)
            found.append(PlanNow(plan, month, used_ms // 1000, plan.account_id is None))
    session.expunge_all()
    return found
