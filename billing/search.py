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

from billing.models import Account, AccountKind, Cdr, Charge

LIKE_SPECIAL: Final = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})
LAST: Final = "\U0010ffff"
"""No text sorts behind it."""
COMMON_BEGINNING: Final = 5
"""A shorter beginning of a number is in so many records that the newest of them are found sooner by time."""
FEW_PAYERS: Final = 8
"""So many are each asked for a page, in the order of an index; the charges of more are sorted."""

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
    number_ways = _number_ways(wanted, sqlite=sqlite)
    facts = _facts(wanted)
    ways = [
        _Way((*made, *facts, *number), wanted, before)
        for made in ([[]] if _everybody(wanted) else [[_is_any(Cdr.account_id, _ids(wanted))]])
        for number in number_ways
    ]
    # What the payer itself made is in the ways before: these are for those above it, each by its own index.
    ways += [
        _Way((*facts, *number), wanted, before, payer)
        for payer in _payers_above(session, wanted)
        for number in number_ways
    ]
    if len(ways) == 1:
        found = _newest(session, [*ways[0].rules, *_times(wanted, before, Cdr)], most)
    else:
        # Each way by its own index, and no further than a page: then the newest of all, each once.
        parts = [way.places().limit(most).subquery() for way in ways]
        both = union_all(*(select(part.c.ended_at, part.c.call_id) for part in parts)).subquery()
        places = select(both.c.ended_at, both.c.call_id).distinct()
        newest = places.order_by(both.c.ended_at.desc(), both.c.call_id.desc()).limit(most)
        found = _at(session, [(ended_at, call_id) for ended_at, call_id in session.execute(newest)])
    session.expunge_all()
    return found


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to what is wanted: rules for records, and whose charges name them where it is not the record itself."""

    rules: tuple[ColumnElement[bool], ...]
    wanted: CdrFilter
    before: Place | None
    payer: ColumnElement[bool] | None = None

    def places(self) -> Select[datetime, str]:
        """Return where its records are, newest first."""
        of: type[Cdr | Charge] = Cdr if self.payer is None else Charge
        asked = select(col(of.ended_at), col(of.call_id)).where(*_times(self.wanted, self.before, of))
        if self.payer is None:
            asked = asked.where(*self.rules)
        else:
            asked = asked.where(self.payer, col(Charge.level) > 0)
            if self.rules:
                same = and_(col(Cdr.call_id) == col(Charge.call_id), col(Cdr.ended_at) == col(Charge.ended_at))
                asked = asked.join_from(Charge, Cdr, same).where(*self.rules)
        return asked.order_by(col(of.ended_at).desc(), col(of.call_id).desc())


def _facts(wanted: CdrFilter) -> list[ColumnElement[bool]]:
    rules: list[ColumnElement[bool]] = []
    if wanted.disposition:
        rules.append(col(Cdr.disposition) == wanted.disposition)
    if wanted.destination:
        rules.append(col(Cdr.destination) == wanted.destination)
    if wanted.switch:
        rules.append(col(Cdr.switch) == wanted.switch)
    return rules


def _times(wanted: CdrFilter, before: Place | None, of: type[Cdr | Charge]) -> list[ColumnElement[bool]]:
    rules: list[ColumnElement[bool]] = []
    since, until = wanted.since, wanted.until
    if wanted.day is not None:
        since, until = wanted.day, wanted.day + timedelta(days=1)
    if since is not None:
        rules.append(col(of.ended_at) >= since)
    if until is not None:
        rules.append(col(of.ended_at) < until)
    if before is not None:
        ended_at, call_id = before
        older = and_(col(of.ended_at) == ended_at, col(of.call_id) < call_id)
        # The first condition says nothing new, but lets an index begin there, and leaves out later months.
        rules += [col(of.ended_at) <= ended_at, or_(col(of.ended_at) < ended_at, older)]
    return rules


def _everybody(wanted: CdrFilter) -> bool:
    return wanted.account_id is None and wanted.account_ids is None


def _ids(wanted: CdrFilter) -> list[int]:
    if wanted.account_id is None:
        return list(wanted.account_ids or ())
    return [wanted.account_id] if wanted.account_ids is None or wanted.account_id in wanted.account_ids else []


def _is_any(column: Any, ids: Sequence[int]) -> ColumnElement[bool]:
    return col(column) == ids[0] if len(ids) == 1 else col(column).in_(ids)


def _payers_above(session: Session, wanted: CdrFilter) -> list[ColumnElement[bool]]:
    """Return who may have paid for calls of others: nobody is under a customer. Few of them are asked one by one."""
    if _everybody(wanted):
        return []
    above = select(col(Account.id)).where(col(Account.id).in_(_ids(wanted)), col(Account.kind) != AccountKind.CUSTOMER)
    ids = list(session.execute(above).scalars())
    if len(ids) <= FEW_PAYERS:
        return [col(Charge.account_id) == payer for payer in ids]
    return [col(Charge.account_id).in_(ids)]


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


def _newest(session: Session, rules: Sequence[ColumnElement[bool]], most: int) -> list[Cdr]:
    newest = select(Cdr).where(*rules).order_by(col(Cdr.ended_at).desc(), col(Cdr.call_id).desc()).limit(most)
    return list(session.execute(newest).scalars())


def _at(session: Session, places: list[Place]) -> list[Cdr]:
    if not places:
        return []
    ids = [call_id for _, call_id in places]
    within = and_(col(Cdr.ended_at) <= places[0][0], col(Cdr.ended_at) >= places[-1][0])
    return _newest(session, [col(Cdr.call_id).in_(ids), within], len(places))
