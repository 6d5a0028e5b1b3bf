"""The fraud guard: its rules, the list of dangerous ranges, and lifting what it did. See docs/fraud.md."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing.access import Reach
from billing.errors import NotFound
from billing.fraud import ranges, rules
from billing.fraud.rules import Wanted
from billing.fraud.words import when
from billing.models import AccountKind, AccountStatus
from billing.models.fraud import FraudAction, FraudKind, FraudRule
from billing.store import reading, work
from web.api.accounts import Hours, Prefixes, tell, view_of
from web.api.auth import Asking, Caller, require_operator
from web.api.files import read_file
from web.api.problems import Problem
from web.api.routes import MOST_ID, AccountId, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Amount, Body, Moment, NotNegative, Page, Shape, amount
from web.context import panel_of

router = resource("fraud")

MOST_BYTES: Final = 16 * 1024 * 1024
PLAIN = "text/csv"
SENT = {"required": True, "content": {PLAIN: {"schema": {"type": "string", "format": "binary"}}}}

RuleId = Annotated[int, Path(ge=1, le=MOST_ID, description="The rule's number.", examples=[3])]
Range = Annotated[str, Path(pattern="^[0-9]{2,32}$", description="Numbers that begin so.", examples=["88213"])]
Label = Annotated[str, Field(max_length=100, description="What it is.", examples=["satellite, revenue share"])]


WORKED_OUT = frozenset({"limit", "says", "made_by_id", "yours"})
"""What is not a column of a rule."""


class RuleShape(Shape):
    """A rule for an account and all below it. It is never edited: ended, and made anew."""

    id: int = Field(examples=[3])
    account_id: int = Field(examples=[5])
    kind: FraudKind
    action: FraudAction = Field(description="warn; block the account; end its calls too; refuse the single call.")
    prefixes: list[str] = Field(description="Only these destinations.", examples=[["882"]])
    risky: bool = Field(description="Only premium-rate and revenue-share numbers.")
    limit: Amount | None = Field(description="spend_hour and spend_day: more than this.")
    calls: int | None = Field(description="short_calls: so many …", examples=[20])
    within_s: int | None = Field(description="… within so many seconds …", examples=[600])
    shorter_s: int | None = Field(description="… each shorter than this.", examples=[10])
    hours: list[str] = Field(description="outside_hours: the usual ones.", examples=[["mon-fri 08:00-18:00"]])
    learn_days: int | None = Field(description="new_country: first days in which no country is new.", examples=[7])
    says: str = Field(description="When it is broken, in words.", examples=["more than 50.00 a day"])
    made_by_id: int | None = Field(
        description="The reseller whose rule it is; null is the operator, or somebody beyond your sight.", examples=[2]
    )
    yours: bool = Field(description="Whether it is yours to end, and what it did yours to lift.")
    created_at: Moment
    ended_at: Moment | None


class NewRule(Body):
    """A rule to be made. Which members it takes depends on its kind; what does not fit is refused."""

    account_id: int | None = Field(
        default=None, ge=1, le=MOST_ID, description="It and all below; you, if not given: everybody in your sight."
    )
    kind: Annotated[FraudKind, Field(strict=False, examples=["spend_day"])]
    action: Annotated[FraudAction, Field(strict=False, examples=["block"])]
    prefixes: Prefixes = Field(default=[], examples=[[]])
    risky: bool = False
    limit: NotNegative | None = Field(default=None, examples=["50.00"])
    calls: int | None = Field(default=None, ge=1, le=100_000, examples=[None])
    within_s: int | None = Field(default=None, ge=1, le=86_400, examples=[None])
    shorter_s: int | None = Field(default=None, ge=1, le=3600, examples=[None])
    hours: Hours = Field(default=[], examples=[[]])
    learn_days: int | None = Field(default=None, ge=0, le=365, examples=[None])


class RangeShape(Shape):
    """Numbers that cost more than they seem to."""

    prefix: str = Field(examples=["88213"])
    label: Label


class NewRange(Body):
    """What a range is."""

    label: Label = ""


class RangesShape(Shape):
    """How many ranges the list has now."""

    ranges: int = Field(examples=[3120])


class LiftedShape(Shape):
    """What an account is after a lift: what was before counts no more."""

    account_id: int = Field(examples=[5])
    alerts: int = Field(description="How many alerts were cleared.", examples=[1])
    status: AccountStatus


@router.get("/fraud/rules", **needs("alerts:read", "cursor_invalid"))
def list_fraud_rules(
    request: Request,
    caller: Asking,
    *,
    account: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only those made for this account.")] = None,
    ended: Annotated[bool, Query(description="Also those that have ended.")] = False,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[RuleShape]:
    """List the rules made for accounts in your sight, in order of their number."""
    with reading(panel_of(request).engine) as session:
        if account is not None:
            caller.reach.see(session, account)
            ids: list[int] | None = [account]
        else:
            ids = None if caller.reach.whole else list(session.execute(caller.reach.ids()).scalars())
        found = rules.list_rules(session, account_ids=ids, ended=ended, after_id=number_of(after), most=most + 1)
        items = [_shape(session, caller.reach, rule) for rule in found[:most]]
    return Page(items=items, next=str(items[-1].id) if len(found) > most else None)


@router.post(
    "/fraud/rules",
    status_code=201,
    **needs("alerts:write", "not_allowed", "amount_invalid", "too_large", changes=True),
)
def add_fraud_rule(request: Request, response: Response, caller: Asking, body: NewRule) -> RuleShape:
    """Make a rule for your own accounts; all that match count, so that none lets through what another stops.

    The operator does, and a reseller for itself and those below it: what its rules do is its own to lift.
    """
    panel = panel_of(request)
    wanted = Wanted(
        kind=body.kind,
        action=body.action,
        prefixes=tuple(body.prefixes),
        risky=body.risky,
        limit_micros=body.limit,
        calls=body.calls,
        within_s=body.within_s,
        shorter_s=body.shorter_s,
        hours=tuple(body.hours),
        learn_days=body.learn_days,
    )
    with work(panel.engine) as session:
        account_id = body.account_id or caller.reach.account_id
        caller.reach.see(session, account_id)
        _require_seller(caller)
        within, now = caller.reach.within, panel.clock.now()
        made = rules.add_rule(session, account_id, wanted, by=within, actor=caller.actor, now=now)
        shape = _shape(session, caller.reach, rules.find_rule(session, made))
    response.headers["location"] = f"/api/v1/fraud/rules/{made}"
    return shape


@router.get("/fraud/rules/{rule_id}", **needs("alerts:read"))
def get_fraud_rule(request: Request, caller: Asking, rule_id: RuleId) -> RuleShape:
    """Return one rule, ended or not."""
    with reading(panel_of(request).engine) as session:
        return _shape(session, caller.reach, _see(session, caller.reach, rule_id))


@router.delete("/fraud/rules/{rule_id}", status_code=204, **needs("alerts:write", "not_allowed", changes=True))
def end_fraud_rule(request: Request, caller: Asking, rule_id: RuleId) -> Response:
    """Judge by a rule of yours no more; what it did stands until it is lifted."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        rule = _see(session, caller.reach, rule_id)
        if not rules.is_of(session, rule.by_account_id, caller.reach.within):
            raise Problem("not_allowed", "This rule belongs to who stands above you.")
        rules.end_rule(session, rule_id, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


@router.post("/accounts/{account_id}/fraud-lift", **needs("alerts:write", "not_allowed", changes=True))
async def lift_fraud(request: Request, caller: Asking, account_id: AccountId) -> LiftedShape:
    """Undo what the guard did to an account: its alerts are cleared, it calls again, and all counts from now on.

    A reseller lifts what its own rules did, and those of resellers below it. An account that somebody else blocked, the
    operator's rules included, stays blocked.
    """
    panel = panel_of(request)

    def lift() -> LiftedShape:
        with work(panel.engine) as session:
            caller.reach.see(session, account_id)
            _require_seller(caller)
            by = caller.reach.within
            cleared = rules.lift(session, account_id, by=by, actor=caller.actor, now=panel.clock.now())
            if not cleared and by is not None and rules.standing_of(session, account_id):
                raise Problem("not_allowed", "What the operator's rules did is lifted by the operator.")
            view = view_of(session, caller, account_id)
        return LiftedShape(account_id=account_id, alerts=cleared, status=view.status)

    shape = await run_in_threadpool(lift)
    await tell(panel, account_id)
    return shape


@router.get("/fraud/ranges", **needs("alerts:read"))
def list_fraud_ranges(
    request: Request,
    caller: Asking,  # noqa: ARG001 - the list is one for all
    *,
    prefix: Annotated[str, Query(pattern="^[0-9]{0,32}$", description="Only those that begin so.")] = "",
    after: Annotated[str, Query(pattern="^[0-9]{0,32}$", description="`next` of the page before.")] = "",
    most: PageSize = 100,
) -> Page[RangeShape]:
    """List the ranges of premium-rate and revenue-share numbers, in the order of their prefixes."""
    with reading(panel_of(request).engine) as session:
        found = ranges.list_ranges(session, begins=prefix, after=after, most=most + 1)
        items = [RangeShape(prefix=one.prefix, label=one.label) for one in found[:most]]
    return Page(items=items, next=items[-1].prefix if len(found) > most else None)


def _described() -> dict[str, object]:
    told = needs("alerts:write", "not_allowed", "body_too_large", "media_unknown", "timeout", "refused")
    told["openapi_extra"]["requestBody"] = SENT
    return told


@router.put("/fraud/ranges", **_described())  # type: ignore[arg-type] # as `needs` returns it
async def replace_fraud_ranges(request: Request, caller: Asking) -> RangesShape:
    """Replace the list with a CSV file: a prefix, and perhaps what it is, in each line. All of it, or nothing."""
    panel = panel_of(request)
    require_operator(caller)
    data = await read_file(request, {PLAIN}, MOST_BYTES)

    def replace() -> int:
        with work(panel.engine) as session:
            return rules.replace_ranges(session, ranges.read_ranges(data), actor=caller.actor, now=panel.clock.now())

    return RangesShape(ranges=await run_in_threadpool(replace))


@router.put("/fraud/ranges/{prefix}", **needs("alerts:write", "not_allowed", changes=True))
def set_fraud_range(request: Request, caller: Asking, prefix: Range, body: NewRange) -> RangeShape:
    """Put a range into the list, or say anew what it is. The operator does."""
    require_operator(caller)
    panel = panel_of(request)
    with work(panel.engine) as session:
        row = ranges.set_range(session, prefix, body.label, actor=caller.actor, now=panel.clock.now())
        return RangeShape(prefix=row.prefix, label=row.label)


@router.delete("/fraud/ranges/{prefix}", status_code=204, **needs("alerts:write", "not_allowed", changes=True))
def remove_fraud_range(request: Request, caller: Asking, prefix: Range) -> Response:
    """Take a range out of the list. The operator does."""
    require_operator(caller)
    panel = panel_of(request)
    with work(panel.engine) as session:
        ranges.remove_range(session, prefix, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _see(session: Session, reach: Reach, rule_id: int) -> FraudRule:
    """Return a rule made for an account in sight. Raises `NotFound`."""
    rule = rules.find_rule(session, rule_id)
    if not reach.holds(session, rule.account_id):
        raise NotFound(f"there is no rule {rule_id}")
    return rule


def _require_seller(caller: Caller) -> None:
    """Raise `Problem` for a customer's key: rules are made by who sells."""
    if caller.reach.kind is AccountKind.CUSTOMER:
        raise Problem("not_allowed", "This is done by who stands above you.")


def _shape(session: Session, reach: Reach, rule: FraudRule) -> RuleShape:
    facts = {name: getattr(rule, name) for name in RuleShape.model_fields if name not in WORKED_OUT}
    maker = rule.by_account_id
    return RuleShape(
        **facts,
        limit=None if rule.limit_micros is None else amount(rule.limit_micros),
        says=when(rule),
        made_by_id=maker if maker is not None and reach.holds(session, maker) else None,
        yours=rules.is_of(session, maker, reach.within),
    )
