"""What an account pays beside its tariff: own rates, discounts, bundles and volume plans. To look at only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, select
from starlette.responses import Response

from billing import accounts
from billing.accounts import AccountView
from billing.models import Account, Tariff, VolumePlan
from billing.plans.bundles import BundleView, list_bundles
from billing.plans.edit import list_markups, list_plan, list_volumes
from billing.plans.volumes import usage_of
from billing.store import reading
from rating.volumes import month_of
from web.context import panel_of
from web.pages import show
from web.panel.accounts import AccountId
from web.security.sessions import Principal, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("accounts:read"))]


@dataclass(frozen=True, slots=True)
class PlanNow:
    """A volume plan and what the account has used of it this month."""

    plan: VolumePlan
    month: str
    used_s: int


@dataclass(frozen=True, slots=True)
class Prices:
    """All that stands around the prices of an account."""

    account: AccountView
    discounts: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    markups: list[dict[str, Any]]
    bundles: list[BundleView]
    volumes: list[PlanNow]


@router.get("/accounts/{account_id}/prices")
async def prices_page(request: Request, principal: Reader, account_id: AccountId) -> Response:
    """Show what is agreed with an account."""
    panel = panel_of(request)

    def read() -> Prices:
        with reading(panel.engine) as session:
            (view,) = accounts.views_of(session, [principal.reach.see(session, account_id)])
            own = list_plan(session, str(account_id))
            markups = list_markups(session, view.tariff) if view.tariff and principal.reach.whole else []
            bundles = list_bundles(session, str(account_id))
            return Prices(view, own["discounts"], own["rates"], markups, bundles, _volumes(session, account_id, panel))

    return show(request, principal, "account_prices.html", told=await run_in_threadpool(read))


def _volumes(session: Session, account_id: int, panel: Any) -> list[PlanNow]:
    owner = session.exec(select(Account.tariff_id).where(Account.id == account_id)).one()
    tariff = session.get(Tariff, owner) if owner is not None else None
    found: list[PlanNow] = []
    for plan in list_volumes(session):
        if plan.account_id == account_id or (tariff is not None and plan.tariff_id == tariff.id):
            month = month_of(plan.timezone, panel.clock.now())
            used_ms = dict(usage_of(session, plan.id or 0, month)).get(account_id, 0)
            found.append(PlanNow(plan, month, used_ms // 1000))
    session.expunge_all()
    return found
