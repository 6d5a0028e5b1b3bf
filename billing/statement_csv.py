"""A statement as CSV, line by line: text from outside can be no formula of a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from sqlmodel import Session

from billing.statements import Line, Statement, all_lines
from rating.money import format_amount

COLUMNS: Final = ("seq", "time", "kind", "what", "reference", "amount", "balance")
_FORMULA = frozenset("=+-@\t\r")
"""What a spreadsheet takes for a formula at the beginning of a cell."""


def csv_lines(session: Session, told: Statement) -> Iterator[str]:
    """Yield the file's lines: opening balance, every line, closing balance."""
    yield _row(COLUMNS)
    yield _row(("", _moment(told.period.since), "opening", "", "", "", format_amount(told.opening_micros)))
    for line in all_lines(session, told.account_id, told.period):
        yield _row(_cells(line))
    yield _row(("", _moment(told.period.until), "closing", "", "", "", format_amount(told.closing_micros)))


def _cells(line: Line) -> tuple[object, ...]:
    return (
        line.seq,
        _moment(line.at),
        line.kind,
        _plain(line.what),
        _plain(line.reference),
        format_amount(line.amount_micros),
        format_amount(line.balance_micros),
    )


def _row(cells: tuple[object, ...]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in _FORMULA else text


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
