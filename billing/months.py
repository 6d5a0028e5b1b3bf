"""Months of call records and postings: on PostgreSQL each month is a table of its own, made before it begins.

What falls into no month (a clock that is wrong, a call found years later) goes to the rest, where it is found as well.
SQLite has no such thing: there this module does nothing.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

PARENTS: Final = ("cdr", "posting")
AHEAD: Final = 3
"""So many months are made before they begin."""


def add_months(session: Session, today: date, *, since: date | None = None) -> list[str]:
    """Make the months from `since` (default: this one) to `AHEAD` ahead that are missing; return their names."""
    if session.get_bind().dialect.name != "postgresql":
        return []
    made: list[str] = []
    month = (since or today).replace(day=1)
    last = _later(today.replace(day=1), AHEAD)
    while month <= last:
        for parent in PARENTS:
            # A look first: making a month locks its table for a moment, and mostly there is nothing to make.
            name = f"{parent}_{month:%Y_%m}"
            there = session.execute(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name}).scalar_one()
            added = text("SELECT add_month(:parent, :month)")
            if not there and session.execute(added, {"parent": parent, "month": month}).scalar_one():
                made.append(name)
        month = _later(month, 1)
    return made


def in_rest(session: Session) -> dict[str, int]:
    """Return how many rows lie in no month, where there are any."""
    if session.get_bind().dialect.name != "postgresql":
        return {}
    counted = {
        parent: int(session.execute(text(f"SELECT count(*) FROM {parent}_rest")).scalar_one())  # noqa: S608 - our names
        for parent in PARENTS
    }
    return {parent: rows for parent, rows in counted.items() if rows}


def _later(month: date, by: int) -> date:
    years, rest = divmod(month.month - 1 + by, 12)
    return date(month.year + years, rest + 1, 1)
