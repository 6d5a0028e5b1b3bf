"""Volume plans: tiers and flat rates that look at a calendar month, of an account or of all that buy in a tariff."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import Field
from sqlmodel import Session, col, or_, select
from starlette.responses import Response

from billing.access import Reach
from billing.errors import NotFound
from billing.models import VolumePlan
from billing.plans import edit
from billing.plans.volumes import TIERS
from billing.store import reading, work
from billing.tariff_sight import ids_in_sight
from rating.volumes import MOST_FROM_S, MOST_TIERS, Tier
from web.api.accounts import Zone
from web.api.auth import Asking, Caller
from web.api.bundles import Beginnings, see_customer
from web.api.problems import Problem
from web.api.routes import MOST_ID, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Body, Name, Page, Shape
from web.api.tariffs import see_own
from web.context import panel_of

router = resource("plans")

PlanId = Annotated[int, Path(ge=1, le=MOST_ID, description="The plan's number.", examples=[2])]
Percent = Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$", examples=["5"])]


class TierShape(Shape):
    """So many percent off for who has used so much in the month before the call."""

    from_s: int = Field(examples=[60000])
    percent: str = Field(examples=["5"])


class PlanShape(Shape):
    """A plan: with `tiers`, or with `fair_s` seconds a month that cost nothing."""

    id: int = Field(examples=[2])
    account_id: int | None = Field(examples=[5])
    tariff_id: int | None = Field(examples=[None])
    name: str = Field(examples=["Germany flat"])
    prefixes: list[str] = Field(examples=[["49"]])
    timezone: str = Field(description="On whose clock a month begins.", examples=["Europe/Berlin"])
    tiers: list[TierShape]
    fair_s: int | None = Field(description="The fair use of a month; beyond it calls cost money.", examples=[60000])
    ended: bool


class NewTier(Body):
    """A tier; the first begins at 0."""

    from_s: int = Field(ge=0, le=MOST_FROM_S, examples=[0])
    percent: Percent


class NewPlan(Body):
    """A plan for an account or for a tariff, with tiers or with a fair use."""

    account_id: int | None = Field(default=None, ge=1, le=MOST_ID, examples=[5])
    tariff_id: int | None = Field(default=None, ge=1, le=MOST_ID, examples=[None])
    name: Name = Field(examples=["Germany flat"])
    prefixes: Beginnings
    timezone: Zone = "UTC"
    tiers: list[NewTier] = Field(default=[], max_length=MOST_TIERS, examples=[[]])
    fair_s: int | None = Field(default=None, ge=1, le=MOST_FROM_S, examples=[60000])


@router.get("/volume-plans", **needs("tariffs:read", "cursor_invalid"))
def list_volume_plans(
    request: Request,
    caller: Asking,
    *,
    account: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only those of this account.")] = None,
    ended: Annotated[bool, Query(description="Also those that have ended.")] = False,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[PlanShape]:
    """List the plans of accounts and tariffs in your sight, in order of their number."""
    asked = select(VolumePlan).where(col(VolumePlan.id) > number_of(after)).order_by(col(VolumePlan.id))
    if not ended:
        asked = asked.where(col(VolumePlan.ended).is_(False))
    with reading(panel_of(request).engine) as session:
        if account is not None:
            caller.reach.see(session, account)
            asked = asked.where(VolumePlan.account_id == account)
        elif not caller.reach.whole:
            tariffs = ids_in_sight(session, caller.reach) or set()
            inside = col(VolumePlan.account_id).in_(caller.reach.ids())
            asked = asked.where(or_(inside, col(VolumePlan.tariff_id).in_(tariffs)))
        items = [_shape(row) for row in session.exec(asked.limit(most + 1))]
    return Page(items=items[:most], next=str(items[most - 1].id) if len(items) > most else None)


@router.post("/volume-plans", status_code=201, **needs("tariffs:write", "not_allowed", changes=True))
def add_volume_plan(request: Request, response: Response, caller: Asking, body: NewPlan) -> PlanShape:
    """Make a plan for an account right below yours, or for a tariff of yours, for calls offered from now on."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        if body.account_id is not None:
            see_customer(session, caller, body.account_id)
        tariff = None if body.tariff_id is None else see_own(session, caller.reach, body.tariff_id)
        made = edit.set_volume(
            session,
            account=None if body.account_id is None else str(body.account_id),
            tariff=None if tariff is None else tariff.name,
            name=body.name,
            prefixes=body.prefixes,
            timezone=body.timezone,
            tiers=[Tier(one.from_s, Decimal(one.percent)) for one in body.tiers],
            fair_s=body.fair_s or 0,
            actor=caller.actor,
            now=panel.clock.now(),
        )
        shape = _shape(_see(session, caller.reach, made))
    response.headers["location"] = f"/api/v1/volume-plans/{made}"
    return shape


@router.get("/volume-plans/{plan_id}", **needs("tariffs:read"))
def get_volume_plan(request: Request, caller: Asking, plan_id: PlanId) -> PlanShape:
    """Return one plan, ended or not."""
    with reading(panel_of(request).engine) as session:
        return _shape(_see(session, caller.reach, plan_id))


@router.delete("/volume-plans/{plan_id}", status_code=204, **needs("tariffs:write", "not_allowed", changes=True))
def end_volume_plan(request: Request, caller: Asking, plan_id: PlanId) -> Response:
    """End a plan: calls offered from now on do not fall under it."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        row = _see(session, caller.reach, plan_id)
        _check_own(session, caller, row)
        if not row.ended:
            edit.end_volume(session, plan_id, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _check_own(session: Session, caller: Caller, row: VolumePlan) -> None:
    """Raise `Problem` where a plan in sight is made by who stands above."""
    if row.tariff_id is not None:
        see_own(session, caller.reach, row.tariff_id)
    elif row.account_id == caller.reach.account_id:
        raise Problem("not_allowed", "What an account pays is set by who stands above it.")
    elif row.account_id is not None:
        see_customer(session, caller, row.account_id)


def _see(session: Session, reach: Reach, plan_id: int) -> VolumePlan:
    """Return a plan of an account or a tariff in sight. Raises `NotFound`."""
    row = session.get(VolumePlan, plan_id)
    if row is not None and row.account_id is not None and reach.holds(session, row.account_id):
        return row
    tariffs = ids_in_sight(session, reach)
    if row is None or row.tariff_id is None or (tariffs is not None and row.tariff_id not in tariffs):
        raise NotFound(f"there is no volume plan {plan_id}")
    return row


def _shape(row: VolumePlan) -> PlanShape:
    tiers = row.terms if row.kind == TIERS else []
    return PlanShape(
        id=row.id or 0,
        account_id=row.account_id,
        tariff_id=row.tariff_id,
        name=row.name,
        prefixes=row.prefixes,
        timezone=row.timezone,
        tiers=[TierShape(from_s=one["from_s"], percent=one["percent"]) for one in tiers],
        fair_s=None if row.kind == TIERS else row.terms["fair_s"],
        ended=row.ended,
    )
