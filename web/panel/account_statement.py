"""The statement of an account: a month of its own clock, with every line, as a page and as a file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from billing import accounts, statements
from billing.accounts import AccountView
from billing.statement_csv import csv_lines
from billing.statements import Line, Statement
from billing.store import reading
from web.context import panel_of
from web.pages import show
from web.panel.accounts import MOST_ID, AccountId
from web.security.sessions import Principal, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("money:read"))]
PAGE = 100
MonthText = Annotated[str, Query(max_length=7)]


@router.get("/accounts/{account_id}/statement")
async def statement_page(
    request: Request,
    principal: Reader,
    account_id: AccountId,
    month: MonthText = "",
    after: Annotated[int, Query(ge=0, le=MOST_ID)] = 0,
) -> Response:
    """Show a month: what there was, what came and went, what there is."""
    panel = panel_of(request)

    def read() -> tuple[AccountView, Statement, list[Line]]:
        with reading(panel.engine) as session:
            (view,) = accounts.views_of(session, [principal.reach.see(session, account_id)])
            wanted = month or statements.this_month(panel.clock.now(), view.timezone)
            period = statements.month_of(wanted, view.timezone)
            told = statements.statement(session, view.id, period)
            return view, told, statements.lines(session, view.id, period, after_seq=after, most=PAGE + 1)

    view, told, lines = await run_in_threadpool(read)
    first = date.fromisoformat(f"{told.period.name}-01")
    current = statements.this_month(panel.clock.now(), view.timezone)
    following = f"{first.year + first.month // 12}-{first.month % 12 + 1:02}"
    return show(
        request,
        principal,
        "statement.html",
        account=view,
        told=told,
        lines=lines[:PAGE],
        more=lines[PAGE - 1].seq if len(lines) > PAGE else None,
        after=after,
        earlier=f"{first.year - (first.month == 1)}-{(first.month - 2) % 12 + 1:02}",
        later=following if told.period.name < current else None,
        timezone=view.timezone,
    )


@router.get("/accounts/{account_id}/statement.csv")
async def statement_file(request: Request, principal: Reader, account_id: AccountId, month: MonthText) -> Response:
    """Send a month as a file, line by line."""
    panel = panel_of(request)

    def check() -> Statement:
        with reading(panel.engine) as session:
            (view,) = accounts.views_of(session, [principal.reach.see(session, account_id)])
            return statements.statement(session, view.id, statements.month_of(month, view.timezone))

    told = await run_in_threadpool(check)

    def rows() -> Iterator[str]:
        with reading(panel.engine) as session:
            yield from csv_lines(session, statements.statement(session, account_id, told.period))

    name = f"statement-{account_id}-{told.period.name}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(rows(), media_type="text/csv; charset=utf-8", headers=headers)
