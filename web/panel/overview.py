"""The overview: what goes on, what today has brought, whether the books balance, whether the controllers live."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from billing import nightly
from billing.models import BooksRun
from billing.ports import to_ms
from billing.store import reading
from web.context import CREDIT_DOWN, Panel, panel_of
from web.pages import is_fragment, show
from web.queries import Today, outbox_waiting, today
from web.security.sessions import Inside, Principal, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("books:read"))]
MOST_COUNTED = 5000
STALE_MS = 10_000
"""A controller that has not said anything for so long is taken for dead."""

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
async def overview_page(request: Request, principal: Inside) -> Response:
    """Show the overview; its figures renew themselves. They are the operator's: others begin with their accounts."""
    if not principal.may("books:read"):
        home = "/accounts" if principal.sells else f"/accounts/{principal.reach.account_id}"
        return RedirectResponse(home, 303)
    panel = panel_of(request)
    last = await run_in_threadpool(_last_check, panel)
    return show(request, principal, "overview.html", answer=last, busy=False, **await figures(panel))


def _last_check(panel: Panel) -> BooksRun | None:
    with reading(panel.engine) as session:
        return nightly.last_run(session)


@router.get("/overview/figures")
async def overview_figures(request: Request, principal: Reader) -> Response:
    """Return the figures alone."""
    return show(request, principal, "_figures.html", **await figures(panel_of(request)))


@router.post("/overview/books")
async def run_books(request: Request, principal: Annotated[Principal, Depends(may("books:write"))]) -> Response:
    """Check what is new in the books, now; one check at a time. Accounts that a finding names are parked."""
    panel = panel_of(request)
    answer: BooksRun | None = None
    busy = panel.books_lock.locked()
    if not busy:
        async with panel.books_lock:
            checking = nightly.check_books(
                panel.engine, panel.credit, everything=False, actor=principal.login, clock=panel.clock
            )
            answer = await asyncio.wait_for(checking, BOOKS_TIMEOUT_S)
    if is_fragment(request):
        return show(request, principal, "_books.html", answer=answer, busy=busy)
    return show(request, principal, "overview.html", answer=answer, busy=busy, **await figures(panel))
