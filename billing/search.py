"""Finding call records: newest first, page by page, without reading the whole table however many there are.

Each way to look (an account, a number, a destination, …) has an index that ends in the time. A number is looked for
from its beginning, in the caller's and in the callee's, each by its own index; an account in what it made and in what
it paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, literal_column, or_, select, union_all
from sqlmodel import Session, col

from billing.models import Cdr, Charge

LIKE_SPECIAL: Final = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})
LAST: Final = "\U0010ffff"
"""No text sorts behind it."""
COMMON_BEGINNING: Final = 5
"""A shorter beginning of a number is in so many records that the newest of them are found sooner by time."""

Place = tuple[datetime, str]
"""(ended_at, call_id) of a record: where a page ends."""


@dataclass(frozen=True, slots=True)
class CdrFilter:
    """What to look for. `number`: how the caller's or the callee's begins; `day`: a UTC day (or `since`, `until`).

    `account_id`: an account that made the call or paid for it; `account_ids`: any of these (a reseller's subtree).
    `exact`: the number is the whole number.
    """

    account_id: int | None = None
    number: str = ""
    disposition: str = ""
    day: datetime | None = None
    account_ids: Sequence[int] | None = None
    destination: str = ""
    switch: str = ""
    since: datetime | None = None
    until: datetime | None = None
    exact: bool = False


def search_cdrs(session: Session, wanted: CdrFilter, *, before: Place | None = None, most: int = 50) -> list[Cdr]:
    """Return matching records, newest first, after the (ended_at, call_id) last seen."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    rules = _rules(wanted, before)
    ways = [
        (*rules, *account, *number)
        for account in _account_ways(wanted)
        for number in _number_ways(wanted, sqlite=sqlite)
    ]
    if len(ways) == 1:
        found = _newest(session, ways[0], most)
    else:
        # Each way by its own index, and no further than a page: then the newest of all, each once.
        parts = [_places(way).limit(most).subquery() for way in ways]
        both = union_all(*(select(part.c.ended_at, part.c.call_id) for part in parts)).subquery()
        places = select(both.c.ended_at, both.c.call_id).distinct()
        newest = places.order_by(both.c.ended_at.desc(), both.c.call_id.desc()).limit(most)
        found = _at(session, [(ended_at, call_id) for ended_at, call_id in session.execute(newest)])
    session.expunge_all()
    return found


def _rules(wanted: CdrFilter, before: Place | None) -> list[ColumnElement[bool]]:
    rules: list[ColumnElement[bool]] = []
    if wanted.disposition:
        rules.append(col(Cdr.disposition) == wanted.disposition)
    if wanted.destination:
        rules.append(col(Cdr.destination) == wanted.destination)
    if wanted.switch:
        rules.append(col(Cdr.switch) == wanted.switch)
    since, until = wanted.since, wanted.until
    if wanted.day is not None:
        since, until = wanted.day, wanted.day + timedelta(days=1)
    if since is not None:
        rules.append(col(Cdr.ended_at) >= since)
    if until is not None:
        rules.append(col(Cdr.ended_at) < until)
    if before is not None:
        ended_at, call_id = before
        older = and_(col(Cdr.ended_at) == ended_at, col(Cdr.call_id) < call_id)
        # The first condition says nothing new, but lets an index begin there, and leaves out later months.
        rules += [col(Cdr.ended_at) <= ended_at, or_(col(Cdr.ended_at) < ended_at, older)]
    return rules


def _account_ways(wanted: CdrFilter) -> list[list[ColumnElement[bool]]]:
    if wanted.account_id is None and wanted.account_ids is None:
        return [[]]
    ids = list(wanted.account_ids) if wanted.account_ids is not None else None
    if wanted.account_id is not None:
        ids = [wanted.account_id] if ids is None or wanted.account_id in ids else []
    chosen = ids or []
    if len(chosen) == 1:
        made, paid = col(Cdr.account_id) == chosen[0], col(Charge.account_id) == chosen[0]
    else:
        made, paid = col(Cdr.account_id).in_(chosen), col(Charge.account_id).in_(chosen)
    # What the payer itself made is in the first: the second is for those above it.
    return [[made], [paid, col(Charge.level) > 0]]


def _number_ways(wanted: CdrFilter, *, sqlite: bool) -> list[list[ColumnElement[bool]]]:
    number = wanted.number
    if not number:
        return [[]]
    if wanted.exact:
        return [[col(Cdr.caller) == number], [col(Cdr.callee) == number]]
    if not sqlite:
        pattern = number.translate(LIKE_SPECIAL) + "%"
        return [[column.like(pattern, escape="\\")] for column in (col(Cdr.caller), col(Cdr.callee))]
    columns: list[Any] = [col(Cdr.caller), col(Cdr.callee)]
    if len(number) < COMMON_BEGINNING:
        # SQLite does not guess how many match: a "+" before the name keeps it from this index.
        columns = [literal_column("+cdr.caller"), literal_column("+cdr.callee")]
    return [[column >= number, column < number + LAST] for column in columns]


def _places(way: Sequence[ColumnElement[bool]]) -> Select[datetime, str]:
    """Return where the records of one way are, newest first; those paid for are found by their charges."""
    if not any("charge.level" in str(rule) for rule in way):
        asked = select(col(Cdr.ended_at), col(Cdr.call_id)).where(*way)
        return asked.order_by(col(Cdr.ended_at).desc(), col(Cdr.call_id).desc())
    same = and_(col(Cdr.call_id) == col(Charge.call_id), col(Cdr.ended_at) == col(Charge.ended_at))
    asked = select(col(Charge.ended_at), col(Charge.call_id)).join_from(Charge, Cdr, same).where(*way)
    return asked.order_by(col(Charge.ended_at).desc(), col(Charge.call_id).desc())


def _newest(session: Session, rules: Sequence[ColumnElement[bool]], most: int) -> list[Cdr]:
    newest = select(Cdr).where(*rules).order_by(col(Cdr.ended_at).desc(), col(Cdr.call_id).desc()).limit(most)
    return list(session.execute(newest).scalars())


def _at(session: Session, places: list[Place]) -> list[Cdr]:
    if not places:
        return []
    ids = [call_id for _, call_id in places]
    within = and_(col(Cdr.ended_at) <= places[0][0], col(Cdr.ended_at) >= places[-1][0])
    return _newest(session, [col(Cdr.call_id).in_(ids), within], len(places))
