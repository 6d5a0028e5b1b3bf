"""Re-rating: what past calls would cost at other rates, booked as corrections, taken back. See docs/rerating.md.

A run is worked on in portions: `preview`, `post` and `undo` work for a moment and say how far it has come; they are
asked again until `going` is false. Asked twice, each call is priced and booked once.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import Response

from billing.errors import NotFound
from billing.models import Beyond, RerateRun, RunStatus
from billing.rerating.booking import OUTCOMES, Order
from billing.rerating.look import drop, start
from billing.rerating.pricer import WHY
from billing.rerating.report import AccountLine, Largest, Report, in_words, list_runs, report
from billing.rerating.selection import select_charges
from billing.store import reading, work
from web.api.auth import Asking, Caller, require_operator
from web.api.once import IdempotencyKey, once
from web.api.problems import Problem
from web.api.routes import MOST_ID, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Amount, Body, Currency, Moment, Page, SentMoment, Shape, amount
from web.context import CREDIT_DOWN, Panel, panel_of
from web.reruns import book_for_a_moment, find_numbered, look_for_a_moment

router = resource("reratings")

RunId = Annotated[int, Path(ge=1, le=MOST_ID, description="The run's number.", examples=[1])]
GoOn = Annotated[str, Query(max_length=200, description="`next` of the portion before.")]
TariffName = Annotated[str, Field(max_length=100)]
GOING = frozenset({RunStatus.LOOKING, RunStatus.POSTING, RunStatus.UNDOING})


class NewRun(Body):
    """Which charges are priced again, and at what rates. Nothing is booked by it."""

    since: SentMoment = Field(description="Calls that ended from then on.", examples=["2026-11-01T00:00:00Z"])
    until: SentMoment = Field(description="Until before then; it must be over.", examples=["2026-11-20T00:00:00Z"])
    account_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="Only what this account pays.")
    subtree: bool = Field(default=False, description="And what the accounts under it pay.")
    prefix: str = Field(default="", pattern="^[0-9]{0,32}$", description="Only calls to numbers that begin so.")
    tariff: TariffName | None = Field(default=None, description="Only what was priced by this tariff …")
    version: int | None = Field(default=None, ge=1, le=MOST_ID, description="… in this version.")
    to_tariff: TariffName | None = Field(default=None, description="By this tariff; each charge's own, if not given …")
    to_version: int | None = Field(default=None, ge=1, le=MOST_ID, description="… as it was in this version.")
    beyond: Annotated[Beyond, Field(strict=False)] = Field(
        default=Beyond.SKIP, description="Where a credit does not reach: leave the call out, or go below."
    )
    reason: str = Field(min_length=1, max_length=500, examples=["wrong price for Germany mobile"])


class RunShape(Shape):
    """A run. While `going`, ask for its next portion."""

    id: int = Field(examples=[1])
    operation: str = Field(examples=["api:1:8f14e45f"])
    status: RunStatus
    going: bool
    about: str = Field(examples=["calls that ended from 2026-11-01 00:00 to 2026-11-20 00:00 UTC"])
    beyond: Beyond
    reason: str = Field(examples=["wrong price for Germany mobile"])
    actor: str
    created_at: Moment
    charges: int = Field(description="How many it has to look at.", examples=[120000])
    looked: int = Field(examples=[120000])
    unchanged: int = Field(examples=[118000])
    unpriced: dict[str, int] = Field(description=f"Left as they are, by reason: {', '.join(WHY)}.")


class AccountLineShape(Shape):
    """What changes for one account at one level (0 is who pays for the call)."""

    account_id: int
    account: str = Field(examples=["Anna's Bakery"])
    level: int
    currency: Currency
    dearer: int
    cheaper: int
    more: Amount
    less: Amount
    lacks: Amount = Field(description="What its wallet lacks for all of it.")


class LargestShape(Shape):
    """One of the largest single changes."""

    call_id: str = Field(examples=["pbx:1763892000.7"])
    callee: str
    destination: str
    level: int
    account: str
    currency: Currency
    before: Amount
    after: Amount


class ReportShape(RunShape):
    """A run, and what it would change or has changed."""

    waiting: int = Field(description="Charges that would change and are not booked.")
    booked: int
    undone: int
    left_out: dict[str, int] = Field(description=f"By reason: {', '.join(OUTCOMES)}.")
    accounts: list[AccountLineShape]
    largest: list[LargestShape]


class PortionShape(Shape):
    """What a portion did, in calls. Where `going`, ask again with `after` = `next`."""

    id: int
    status: RunStatus
    going: bool
    done: int
    live: bool = Field(description="Whether the live credit store knows; else it is told as soon as it answers.")
    next: str | None


@router.get("/reratings", **needs("cdrs:read", "not_allowed", "cursor_invalid"))
def list_reratings(request: Request, caller: Asking, after: Cursor = "", most: PageSize = 100) -> Page[RunShape]:
    """List the runs, newest first. The operator's alone."""
    require_operator(caller)
    before = number_of(after)
    with reading(panel_of(request).engine) as session:
        found = list_runs(session, before_id=before or None, most=most + 1)
        items = [RunShape(**_facts(run, in_words(session, run))) for run in found[:most]]
    return Page(items=items, next=str(items[-1].id) if len(found) > most else None)


@router.post(
    "/reratings",
    status_code=201,
    response_model=RunShape,
    **needs("cdrs:write", "not_allowed", changes=True, once=True),
)
async def begin_rerating(
    request: Request, caller: Asking, body: NewRun, idempotency_key: IdempotencyKey = None
) -> Response:
    """Begin a run. Then ask for its preview, look at it, and post it or drop it."""
    panel = panel_of(request)

    def begin(operation: str) -> RunShape:
        with reading(panel.engine) as session:
            if body.account_id is not None:
                caller.reach.see(session, body.account_id)
            require_operator(caller)

        with work(panel.engine) as session:
            wanted = select_charges(
                session,
                since=body.since,
                until=body.until,
                account=None if body.account_id is None else str(body.account_id),
                subtree=body.subtree,
                prefix=body.prefix,
                tariff=body.tariff,
                version=body.version,
                to_tariff=body.to_tariff,
                to_version=body.to_version,
            )
            run, _ = start(
                session,
                wanted,
                operation=operation,
                beyond=body.beyond,
                reason=body.reason,
                actor=caller.actor,
                now=panel.clock.now(),
            )
            return RunShape(**_facts(run, in_words(session, run)))

    async def act(operation: str) -> RunShape:
        return await run_in_threadpool(begin, operation)

    facts = tuple(str(value) for _, value in body)
    return await once(request, caller, idempotency_key, facts, act)


@router.get("/reratings/{run_id}", **needs("cdrs:read"))
def get_rerating(request: Request, caller: Asking, run_id: RunId) -> ReportShape:
    """Return a run with what it would change, or has changed."""
    return _report(panel_of(request), caller, run_id)


@router.post("/reratings/{run_id}/preview", **needs("cdrs:write", changes=True))
async def preview_rerating(request: Request, caller: Asking, run_id: RunId) -> ReportShape:
    """Look at more of a run's charges, for a moment; nothing is booked."""
    panel = panel_of(request)
    await look_for_a_moment(panel, await run_in_threadpool(_see, panel, caller, run_id))
    return await run_in_threadpool(_report, panel, caller, run_id)


@router.post("/reratings/{run_id}/post", **needs("cdrs:write", changes=True))
async def post_rerating(request: Request, caller: Asking, run_id: RunId, after: GoOn = "") -> PortionShape:
    """Book more of a run as corrections, for a moment. Asked twice, each call is booked once."""
    return await _book(request, caller, run_id, after, undo=False)


@router.post("/reratings/{run_id}/undo", **needs("cdrs:write", changes=True))
async def undo_rerating(request: Request, caller: Asking, run_id: RunId, after: GoOn = "") -> PortionShape:
    """Take more of a booked run back, for a moment: each call costs again what it cost before."""
    return await _book(request, caller, run_id, after, undo=True)


@router.delete("/reratings/{run_id}", status_code=204, **needs("cdrs:write", changes=True))
def drop_rerating(request: Request, caller: Asking, run_id: RunId) -> Response:
    """Forget a run that has booked nothing."""
    panel = panel_of(request)
    operation = _see(panel, caller, run_id).operation
    with work(panel.engine) as session:
        drop(session, operation, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


async def _book(request: Request, caller: Caller, run_id: int, after: str, *, undo: bool) -> PortionShape:
    panel = panel_of(request)
    run = await run_in_threadpool(_see, panel, caller, run_id)
    try:
        portion = await book_for_a_moment(panel, Order(run.operation, caller.actor, undo=undo), after)
    except CREDIT_DOWN:
        raise Problem("credit_unavailable") from None
    status = (await run_in_threadpool(_see, panel, caller, run_id)).status
    return PortionShape(
        id=run_id,
        status=status,
        going=not portion.step.over,
        done=portion.done,
        live=portion.step.live,
        next=None if portion.step.over else portion.step.next_call,
    )


def _see(panel: Panel, caller: Caller, run_id: int) -> RerateRun:
    """Return a run. Raises `NotFound`, for whoever is not the operator's as well."""
    if not caller.reach.whole:
        raise NotFound(f"There is no re-rating {run_id}.")
    with reading(panel.engine) as session:
        run = find_numbered(session, run_id)
        session.expunge_all()
        return run


def _report(panel: Panel, caller: Caller, run_id: int) -> ReportShape:
    _see(panel, caller, run_id)
    with reading(panel.engine) as session:
        run = find_numbered(session, run_id)
        told, about = report(session, run), in_words(session, run)
        return _report_shape(told, about)


def _report_shape(told: Report, about: str) -> ReportShape:
    return ReportShape(
        **_facts(told.run, about),
        waiting=told.waiting,
        booked=told.booked,
        undone=told.undone,
        left_out=told.left_out,
        accounts=[_line(line) for line in told.accounts],
        largest=[_largest(one) for one in told.largest],
    )


def _line(line: AccountLine) -> AccountLineShape:
    return AccountLineShape(
        account_id=line.account_id,
        account=line.account,
        level=line.level,
        currency=line.currency,
        dearer=line.dearer,
        cheaper=line.cheaper,
        more=amount(line.more_micros),
        less=amount(line.less_micros),
        lacks=amount(line.lacks_micros),
    )


def _largest(one: Largest) -> LargestShape:
    facts = asdict(one)
    before, after = facts.pop("before_micros"), facts.pop("after_micros")
    return LargestShape(**facts, before=amount(before), after=amount(after))


def _facts(run: RerateRun, about: str) -> dict[str, Any]:
    return {
        "id": run.id,
        "operation": run.operation,
        "status": run.status,
        "going": run.status in GOING,
        "about": about,
        "beyond": run.beyond,
        "reason": run.reason,
        "actor": run.actor,
        "created_at": run.created_at,
        "charges": run.charges,
        "looked": run.looked,
        "unchanged": run.unchanged,
        "unpriced": run.unpriced,
    }
