"""Re-rating: what past calls would cost at other rates, booked as corrections, taken back, with its progress.

Long work goes in portions: a page that shows one asks for the next, and whatever stops in between goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import col, select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing.errors import BillingError, Conflict
from billing.models import Beyond, RerateRun, RunStatus, Tariff
from billing.rerating.booking import OUTCOMES, Order
from billing.rerating.look import drop, now_of, start
from billing.rerating.pricer import WHY
from billing.rerating.report import in_words, list_runs, report
from billing.rerating.selection import select_charges
from billing.store import reading, work
from web.context import CREDIT_DOWN, Panel, panel_of
from web.pages import is_fragment, show
from web.reruns import book_for_a_moment, find_numbered, look_for_a_moment
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("cdrs:read", whole=True))]
Keeper = Annotated[Principal, Depends(may("cdrs:write", whole=True))]

HOME = "/reratings"
MOST_ID = 2**53
GOING = frozenset({RunStatus.LOOKING, RunStatus.POSTING, RunStatus.UNDOING})
Number = Annotated[int, Path(ge=1, le=MOST_ID)]
Text = Annotated[str, Form()]


@router.get(HOME)
async def runs_page(request: Request, principal: Reader) -> Response:
    """Show the runs, newest first, and the form to begin one."""
    return await _list(request, principal)


async def _list(
    request: Request, principal: Principal, *, status: int = 200, error: str = "", form: Mapping[str, Any] | None = None
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[list[RerateRun], list[str]]:
        with reading(panel.engine) as session:
            names = session.exec(select(Tariff.name).order_by(col(Tariff.name)).limit(500)).all()
            return list_runs(session), list(names)

    runs, tariffs = await run_in_threadpool(read)
    today = panel.clock.now().date()
    blank = {
        # Minted with the page: sending the same form twice begins one run.
        "operation": panel.ids.new("rerate"),
        "since": (today.replace(day=1)).isoformat(),
        "until": today.isoformat(),
        "beyond": Beyond.SKIP.value,
        **dict.fromkeys(("account", "subtree", "prefix", "tariff", "to_tariff", "reason"), ""),
    }
    return show(
        request,
        principal,
        "reratings.html",
        status=status,
        runs=runs,
        tariffs=tariffs,
        error=error,
        form=form or blank,
    )


@router.post(HOME)
async def begin(
    request: Request,
    principal: Keeper,
    *,
    operation: Text = "",
    since: Text = "",
    until: Text = "",
    account: Text = "",
    subtree: Text = "",
    prefix: Text = "",
    tariff: Text = "",
    to_tariff: Text = "",
    beyond: Text = "skip",
    reason: Text = "",
) -> Response:
    """Begin a run: it looks at the charges, and books nothing."""
    panel = panel_of(request)
    form = {
        "operation": operation[:150],
        "since": since[:10],
        "until": until[:10],
        "account": account.strip()[:100],
        "subtree": subtree,
        "prefix": prefix.strip()[:40],
        "tariff": tariff[:100],
        "to_tariff": to_tariff[:100],
        "beyond": beyond,
        "reason": reason.strip()[:500],
    }
    if beyond not in list(Beyond):
        raise HTTPException(400)

    def begin_run() -> int:
        with work(panel.engine) as session:
            now = panel.clock.now()
            last = _day(form["until"]) + timedelta(days=1)
            wanted = select_charges(
                session,
                since=_day(form["since"]),
                # The last day is meant whole, as far as it has gone.
                until=now_of(session, form["operation"], now) if last > now else last,
                account=form["account"] or None,
                subtree=bool(subtree),
                prefix=form["prefix"],
                tariff=tariff or None,
                to_tariff=to_tariff or None,
            )
            run, _ = start(
                session,
                wanted,
                operation=form["operation"],
                beyond=Beyond(beyond),
                reason=form["reason"],
                actor=principal.login,
                now=now,
            )
            return run.id or 0

    try:
        number = await run_in_threadpool(begin_run)
    except BillingError as why:
        return await _list(request, principal, status=422, error=str(why), form=form)
    return flash(request, principal, "success", "Nothing is booked yet: this is a preview.", to=f"{HOME}/{number}")


@router.get(HOME + "/{number}")
async def run_page(request: Request, principal: Reader, number: Number) -> Response:
    """Show one run: what it would change, or has changed."""
    return await _run(request, principal, number)


async def _run(request: Request, principal: Principal, number: int, *, after: str = "", said: str = "") -> Response:
    panel = panel_of(request)

    def read() -> dict[str, Any]:
        with reading(panel.engine) as session:
            run = find_numbered(session, number)
            return {"run": run, "report": report(session, run), "about": in_words(session, run)}

    parts = await run_in_threadpool(read)
    fragment = is_fragment(request)
    template = "_rerating.html" if fragment else "rerating.html"
    going = parts["run"].status in GOING
    shown: dict[str, Any] = {
        "going": going,
        "why": WHY,
        "outcomes": OUTCOMES,
        "after": after,
        "said": said,
        "fragment": fragment,
    }
    return show(request, principal, template, **parts, **shown)


@router.post(HOME + "/{number}/go-on")
async def go_on(request: Request, principal: Keeper, number: Number, after: Text = "") -> Response:
    """Work for a moment on what goes on, and show how far it has come."""
    panel = panel_of(request)
    run = await run_in_threadpool(_read_run, panel, number)
    said = ""
    try:
        after = await _portion(panel, principal, run, after[:200])
    except CREDIT_DOWN:
        said = (
            "The live store does not answer, so no money can be set aside. What is booked stays; go on when it is back."
        )
    except Conflict as why:
        said = str(why)
    return await _run(request, principal, number, after=after, said=said)


async def _portion(panel: Panel, principal: Principal, run: RerateRun, after: str) -> str:
    """Do some of a run; return after which call to go on."""
    if run.status is RunStatus.LOOKING:
        await look_for_a_moment(panel, run)
    if run.status is RunStatus.LOOKING or run.status not in GOING:
        return ""
    order = Order(run.operation, principal.login, undo=run.status is RunStatus.UNDOING)
    return (await book_for_a_moment(panel, order, after)).step.next_call


@router.post(HOME + "/{number}/post")
async def post(request: Request, principal: Keeper, number: Number) -> Response:
    """Book a run: the first portion at once, the others as the page asks for them."""
    return await _book(request, principal, number, undo=False)


@router.post(HOME + "/{number}/undo")
async def undo(request: Request, principal: Keeper, number: Number) -> Response:
    """Take a run back, last call first told, in portions."""
    return await _book(request, principal, number, undo=True)


async def _book(request: Request, principal: Principal, number: int, *, undo: bool) -> Response:
    panel = panel_of(request)
    run = await run_in_threadpool(_read_run, panel, number)
    to = f"{HOME}/{number}"
    order = Order(run.operation, principal.login, undo=undo)
    try:
        portion = await book_for_a_moment(panel, order)
    except CREDIT_DOWN:
        text = "The live store does not answer, so no money can be set aside: try again when it is back."
        return flash(request, principal, "danger", text, to=to)
    except Conflict as why:
        return flash(request, principal, "danger", str(why), to=to)
    step, done = portion.step, portion.done
    if not step.over:
        return flash(request, principal, "success", "It has begun, and goes on while its page is open.", to=to)
    said = f"{done} call{'' if done == 1 else 's'} {'taken back' if undo else 'booked'}."
    if not step.live:
        said += " Live calls see it as soon as the live store answers."
    return flash(request, principal, "success" if step.live else "warning", said, to=to)


@router.post(HOME + "/{number}/drop")
async def drop_run(request: Request, principal: Keeper, number: Number) -> Response:
    """Forget a run that has booked nothing."""
    panel = panel_of(request)

    def forget() -> None:
        with work(panel.engine) as session:
            drop(session, find_numbered(session, number).operation, actor=principal.login, now=panel.clock.now())

    try:
        await run_in_threadpool(forget)
    except Conflict as why:
        return flash(request, principal, "danger", str(why), to=f"{HOME}/{number}")
    return flash(request, principal, "success", "The preview is dropped. It had booked nothing.", to=HOME)


def _read_run(panel: Panel, number: int) -> RerateRun:
    with reading(panel.engine) as session:
        return find_numbered(session, number)


def _day(text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise HTTPException(400) from None
