"""Limits of an account: calls at once and a second, cost of a day and of a call, destinations, hours."""

from __future__ import annotations

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import Response

from billing import account_changes
from billing.account_changes import Changes
from billing.accounts import AccountView
from billing.store import reading, work
from web.api.accounts import MICROS, Hours, Limit, Prefixes, tell, view_of
from web.api.auth import Asking
from web.api.etags import IfMatch, check_match, etag_of
from web.api.problems import Problem
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Amount, Body, NotNegative, Shape, amount
from web.context import panel_of

router = resource("accounts")


class LimitsShape(Shape):
    """What calls of an account may do. Null, and an empty list, is no limit."""

    account_id: int = Field(examples=[5])
    max_calls: int | None = Field(description="Calls at once.", examples=[4])
    max_cps: int | None = Field(description="New calls a second.", examples=[2])
    max_day: Amount | None = Field(description="What its calls of a day may cost.", examples=["50.00"])
    max_call: Amount | None = Field(description="What one call may cost.", examples=["10.00"])
    barred: list[str] = Field(description="Beginnings of numbers it must not call.", examples=[["900"]])
    allowed: list[str] = Field(description="If any, it may call numbers that begin so, and no others.", examples=[[]])
    hours: list[str] = Field(description="When calls may begin, on its own clock.", examples=[["mon-fri 08:00-18:00"]])


class NewLimits(Body):
    """All limits of an account: what is not named has none afterwards."""

    max_calls: Limit | None = Field(default=None, examples=[4])
    max_cps: Limit | None = Field(default=None, examples=[2])
    max_day: NotNegative | None = Field(default=None, examples=["50.00"])
    max_call: NotNegative | None = Field(default=None, examples=["10.00"])
    barred: Prefixes = Field(default=[])
    allowed: Prefixes = Field(default=[], examples=[[]])
    hours: Hours = Field(default=[])


@router.get("/accounts/{account_id}/limits", **needs("accounts:read"))
def get_limits(request: Request, response: Response, caller: Asking, account_id: AccountId) -> LimitsShape:
    """Return the limits of an account. Their ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _shape(view_of(session, caller, account_id))
    response.headers["etag"] = _tag(shape)
    return shape


@router.put(
    "/accounts/{account_id}/limits",
    **needs("accounts:write", "amount_invalid", "too_large", "not_allowed", changes=True, edits=True),
)
async def set_limits(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    account_id: AccountId,
    body: NewLimits,
    if_match: IfMatch = None,
) -> LimitsShape:
    """Set all limits of an account below yours, at once. Live calls go on as they were admitted."""
    panel = panel_of(request)
    changes: Changes = {MICROS.get(name, name): value for name, value in body}  # type: ignore[assignment] # all of them

    def change() -> LimitsShape:
        with work(panel.engine) as session:
            caller.reach.see(session, account_id)
            account_changes.lock_account(session, account_id, within=caller.reach.within)
            check_match(if_match, _tag(_shape(view_of(session, caller, account_id))))
            if account_id == caller.reach.account_id:
                raise Problem("not_allowed", "An account's limits are set by who stands above it.")
            account_changes.change_account(
                session, account_id, changes, within=caller.reach.within, actor=caller.actor, now=panel.clock.now()
            )
            return _shape(view_of(session, caller, account_id))

    shape = await run_in_threadpool(change)
    await tell(panel, account_id)
    response.headers["etag"] = _tag(shape)
    return shape


def _shape(view: AccountView) -> LimitsShape:
    return LimitsShape(
        account_id=view.id,
        max_calls=view.max_calls,
        max_cps=view.max_cps,
        max_day=None if view.max_day_micros is None else amount(view.max_day_micros),
        max_call=None if view.max_call_micros is None else amount(view.max_call_micros),
        barred=list(view.barred),
        allowed=list(view.allowed),
        hours=list(view.hours),
    )


def _tag(shape: LimitsShape) -> str:
    return etag_of(shape.model_dump(mode="json"))
