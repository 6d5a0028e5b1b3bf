"""The books: what the last check found, who is parked for it, the trial balance of any day, and earlier checks."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing import nightly, outbox
from billing.alerts import dismiss_alert, list_alerts
from billing.chart import CHART
from billing.errors import NotFound
from billing.models import Alert, BooksRun
from billing.store import reading, work
from billing.trial_balance import trial_balance
from web.context import CREDIT_DOWN, panel_of
from web.pages import show
from web.panel.cdrs import read_day
from web.queries import account_names
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("books:read", whole=True))]
Keeper = Annotated[Principal, Depends(may("books:write", whole=True))]

HOME = "/books"
MOST_RUNS = 30
MOST_ALERTS = 100
TIMEOUT_S = 120.0


@router.get(HOME)
async def books_page(request: Request, principal: Reader, at: str = "") -> Response:
    """Show it all."""
    panel = panel_of(request)
    day = read_day(at.strip()[:10])
    moment = None if day is None else datetime.combine(day.date(), time.max, UTC)

    def read() -> dict[str, Any]:
        with reading(panel.engine) as session:
            alerts = list_alerts(session, standing=True, kind=nightly.ALERT, most=MOST_ALERTS)
            return {
                "answer": nightly.last_run(session),
                "alerts": alerts,
                "names": account_names(session, [alert.account_id for alert in alerts]),
                "sheets": trial_balance(session, at=moment),
                "runs": _runs(session),
            }

    shown = await run_in_threadpool(read)
    return show(request, principal, "books.html", busy=False, at=at, chart=CHART, took=took, **shown)


@router.post(f"{HOME}/check")
async def check(request: Request, principal: Keeper, scope: Annotated[str, Form()] = "new") -> Response:
    """Check the books now. What takes long goes on without the browser: its result is shown when it is there."""
    panel = panel_of(request)
    if panel.books_lock.locked():
        return flash(request, principal, "warning", "A check is running already.", to=HOME)

    async def run() -> BooksRun | None:
        async with panel.books_lock:
            return await nightly.check_books(
                panel.engine,
                panel.credit,
                everything=scope == "everything",
                actor=principal.login,
                clock=panel.clock,
            )

    checking = asyncio.ensure_future(run())
    try:
        found = await asyncio.wait_for(asyncio.shield(checking), TIMEOUT_S)
    except TimeoutError:
        return flash(request, principal, "warning", "The check goes on; its result will be shown here.", to=HOME)
    if found is not None and found.findings:
        return flash(request, principal, "danger", "The books do not balance.", to=HOME)
    return flash(request, principal, "success", "The books balance.", to=HOME)


@router.post(f"{HOME}/lift")
async def lift(request: Request, principal: Keeper, alert: Annotated[int, Form(ge=1, le=2**53)]) -> Response:
    """Clear an alert and let its account call again."""
    panel = panel_of(request)

    def change() -> Alert:
        with work(panel.engine) as session:
            found = session.get(Alert, alert)
            if found is None or found.kind != nightly.ALERT:
                raise HTTPException(404)
            dismiss_alert(session, alert, actor=principal.login, now=panel.clock.now())
            if found.account_id is not None:
                nightly.lift(session, found.account_id, actor=principal.login, now=panel.clock.now())
            return found

    try:
        found = await run_in_threadpool(change)
    except NotFound:
        raise HTTPException(404) from None
    if found.account_id is None:
        return flash(request, principal, "success", "The alert is cleared.", to=HOME)
    try:
        await outbox.tell_accounts(panel.engine, panel.credit, [found.account_id], clock=panel.clock)
    except CREDIT_DOWN:
        return flash(request, principal, "warning", "It may call again as soon as the live store answers.", to=HOME)
    return flash(request, principal, "success", "The account may call again.", to=HOME)


def took(run: BooksRun) -> str:
    """Return how long a check took, for people."""
    if run.ended_at is None:
        return "–"
    seconds = int((run.ended_at - run.started_at).total_seconds())
    return f"{seconds // 60}:{seconds % 60:02d}"


def _runs(session: Session) -> list[BooksRun]:
    newest = select(BooksRun).order_by(col(BooksRun.started_at).desc(), col(BooksRun.id).desc()).limit(MOST_RUNS)
    return list(session.exec(newest).all())
