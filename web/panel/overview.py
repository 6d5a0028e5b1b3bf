"""The overview: what goes on, what today has brought, whether the books balance, whether the controllers live."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from billing import books
from billing.books import BooksReport, Finding
from billing.ports import to_ms
from billing.store import reading
from web.context import CREDIT_DOWN, Panel, panel_of
from web.pages import is_fragment, show
from web.queries import Today, outbox_waiting, today
from web.security.sessions import Owner

router = APIRouter(include_in_schema=False)

MOST_COUNTED = 5000
STALE_MS = 10_000
"""A controller that has not said anything for so long is taken for dead."""

MOST_FINDINGS = 100
BOOKS_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Link:
    """A switch as its controller last spoke of it."""

    switch: str
    status: str
    age_ms: int

    @property
    def stale(self) -> bool:
        """Whether nobody has spoken of it lately."""
        return self.age_ms > STALE_MS


@dataclass(frozen=True, slots=True)
class BooksAnswer:
    """What a check of the books found; `credit_down` where it could look at SQL only."""

    report: BooksReport
    holds: int
    findings: tuple[Finding, ...]
    credit_down: bool


async def figures(panel: Panel) -> dict[str, Any]:
    """Return what the upper part of the page shows."""
    now = panel.clock.now()

    def read() -> tuple[Today, int]:
        with reading(panel.engine) as session:
            return today(session, now), outbox_waiting(session)

    day, waiting = await run_in_threadpool(read)
    shown: dict[str, Any] = {"today": day, "waiting": waiting, "calls": None, "links": [], "down": False}
    try:
        calls = await panel.live.list(most=MOST_COUNTED)
        beats = await panel.live.beats()
    except CREDIT_DOWN:
        return shown | {"down": True}
    links = [Link(name, status, max(to_ms(now) - at_ms, 0)) for name, (status, at_ms) in sorted(beats.items())]
    talking = sum(call.state == "talking" for call in calls)
    return shown | {"calls": len(calls), "talking": talking, "many": len(calls) >= MOST_COUNTED, "links": links}


@router.get("/")
async def overview_page(request: Request, principal: Owner) -> Response:
    """Show the overview; its figures renew themselves."""
    return show(request, principal, "overview.html", answer=None, busy=False, **await figures(panel_of(request)))


@router.get("/overview/figures")
async def overview_figures(request: Request, principal: Owner) -> Response:
    """Return the figures alone."""
    return show(request, principal, "_figures.html", **await figures(panel_of(request)))


async def check_books(panel: Panel) -> BooksAnswer:
    """Check SQL in a thread, then the live store against it."""

    def read() -> BooksReport:
        with reading(panel.engine) as session:
            return books.check_store(session)

    report = await run_in_threadpool(read)
    try:
        with reading(panel.engine) as session:
            holds, found = await books.check_credit(session, panel.credit)
    except CREDIT_DOWN:
        return BooksAnswer(report, 0, report.findings[:MOST_FINDINGS], credit_down=True)
    findings = (*report.findings, *found)[:MOST_FINDINGS]
    return BooksAnswer(report, holds, findings, credit_down=False)


@router.post("/overview/books")
async def run_books(request: Request, principal: Owner) -> Response:
    """Check the books now. It changes nothing; one check at a time, since it reads everything."""
    panel = panel_of(request)
    answer: BooksAnswer | None = None
    busy = panel.books_lock.locked()
    if not busy:
        async with panel.books_lock:
            answer = await asyncio.wait_for(check_books(panel), BOOKS_TIMEOUT_S)
    if is_fragment(request):
        return show(request, principal, "_books.html", answer=answer, busy=busy)
    return show(request, principal, "overview.html", answer=answer, busy=busy, **await figures(panel))
