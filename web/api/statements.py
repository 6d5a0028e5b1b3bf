"""Statements: what an account had, what came and went in a month of its own clock, what it has then."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import Response

from billing import statements
from billing.models import AccountKind
from billing.statement_csv import csv_lines
from billing.statements import Line, Period, Statement
from billing.store import reading
from web.api import exports
from web.api.accounts import view_of
from web.api.auth import Asking, Caller
from web.api.problems import Problem
from web.api.routes import AccountId, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Amount, Currency, Moment, Shape, amount
from web.context import Panel, panel_of

router = resource("money")

Month = Annotated[
    str | None, Query(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$", description="A month; without one, this month.")
]


class SumShape(Shape):
    """What one kind of line came to."""

    kind: str = Field(examples=["call"])
    lines: int
    amount: Amount


class LineShape(Shape):
    """One posting; `balance` is the opening balance and all lines up to and with this one."""

    seq: int
    at: Moment
    kind: str = Field(examples=["topup"])
    what: str = Field(description="Number and destination of a call, or the reason.")
    reference: str = Field(description="The call, or the operation.")
    amount: Amount
    balance: Amount


class StatementShape(Shape):
    """opening + lines = closing."""

    account_id: int = Field(examples=[5])
    currency: Currency
    month: str = Field(examples=["2026-11"])
    since: Moment
    until: Moment = Field(description="The first moment that does not belong to it.")
    opening: Amount
    closing: Amount
    sums: list[SumShape]
    items: list[LineShape]
    next: str | None = Field(description="Send it as `after` to get the following lines; null at the end.")


@router.get("/accounts/{account_id}/statement", **needs("money:read", "cursor_invalid", "refused"))
async def get_statement(
    request: Request,
    caller: Asking,
    account_id: AccountId,
    *,
    month: Month = None,
    after: Cursor = "",
    most: PageSize = 100,
) -> StatementShape:
    """Return a month of an account: opening balance, lines, closing balance. Days are those of its own clock."""
    panel = panel_of(request)
    after_seq = number_of(after)

    period = await run_in_threadpool(_period, panel, caller, account_id, month)

    def read() -> tuple[Statement, list[Line]]:
        with reading(panel.engine) as session:
            told = statements.statement(session, account_id, period)
            return told, statements.lines(session, account_id, period, after_seq=after_seq, most=most + 1)

    told, lines = await run_in_threadpool(read)
    return _shape(account_id, told, lines, most)


@router.get(
    "/accounts/{account_id}/statement.csv",
    **needs("money:read", "refused", answers={200: {"description": "A line each.", "content": {exports.CSV: {}}}}),
)
async def export_statement(request: Request, caller: Asking, account_id: AccountId, month: Month = None) -> Response:
    """Stream a month of an account as CSV: opening balance, every line, closing balance."""
    panel = panel_of(request)
    period = await run_in_threadpool(_period, panel, caller, account_id, month)

    def write(pipe: exports.Pipe) -> None:
        with reading(panel.engine) as session:
            for line in csv_lines(session, statements.statement(session, account_id, period)):
                pipe.write(line.encode())

    return exports.stream(panel, write, f"{exports.CSV}; charset=utf-8", f"statement-{period.name}.csv")


def _period(panel: Panel, caller: Caller, account_id: int, month: str | None) -> Period:
    """Return the month that is asked for, of an account in sight. Raises `NotFound`, `Refused`, `Problem`."""
    with reading(panel.engine) as session:
        view = view_of(session, caller, account_id)
        if view.kind is AccountKind.OPERATOR:
            raise Problem("refused", "The operator has no wallet of its own; see its books.")
        wanted = month or statements.this_month(panel.clock.now(), view.timezone)
        return statements.month_of(wanted, view.timezone)


def _shape(account_id: int, told: Statement, lines: list[Line], most: int) -> StatementShape:
    return StatementShape(
        account_id=account_id,
        currency=told.currency,
        month=told.period.name,
        since=told.period.since,
        until=told.period.until,
        opening=amount(told.opening_micros),
        closing=amount(told.closing_micros),
        sums=[SumShape(kind=one.kind, lines=one.lines, amount=amount(one.amount_micros)) for one in told.sums],
        items=[
            LineShape(
                seq=line.seq,
                at=line.at,
                kind=line.kind,
                what=line.what,
                reference=line.reference,
                amount=amount(line.amount_micros),
                balance=amount(line.balance_micros),
            )
            for line in lines[:most]
        ],
        next=str(lines[most - 1].seq) if len(lines) > most else None,
    )
