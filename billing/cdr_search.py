"""Records of calls, found and read to the end: by account and all below it, time, number, destination, outcome.

Every question is answered newest first, in pages that go on where the last one ended, so that an archive of any size
is read in bounded memory. What is asked of few accounts is asked of each by itself: the index of (account, time) then
answers without looking at anybody else's records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, union_all
from sqlalchemy import select as rows
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing.models import Cdr
from billing.store import reading
from billing.subtree import ids_within

Place = tuple[datetime, str]
"""Where a page ended: (ended_at, call_id) of its last record."""
ONE_BY_ONE = 100
"""Up to so many accounts are asked one by one; SQLite joins five hundred questions at most."""
EXPORT_PAGE = 1000
_LIKE_SPECIAL = str.maketrans({"\\": r"\\", "%": r"\%", "_": r"\_"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for. `root_id`: an account and all below it (None: everything, calls of nobody included).

    `since` and `until` bound the end of the call, `until` excluded. `number` is the beginning of the caller's or the
    callee's; `destination` a name as the tariff has it.
    """

    root_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    number: str = ""
    destination: str = ""
    disposition: str = ""


def search(session: Session, wanted: Wanted, *, before: Place | None = None, most: int = 100) -> list[Cdr]:
    """Return matching records, newest first, after `before`."""
    rules = _rules(wanted, before)
    newest = select(Cdr).order_by(col(Cdr.ended_at).desc(), col(Cdr.call_id).desc()).limit(most)
    if wanted.root_id is not None:
        ids = session.execute(ids_within(wanted.root_id).limit(ONE_BY_ONE + 1)).scalars().all()
        if len(ids) <= ONE_BY_ONE:
            return list(session.exec(newest.where(col(Cdr.call_id).in_(_of_each(ids, rules, most)))).all())
        rules.append(col(Cdr.account_id).in_(ids_within(wanted.root_id)))
    return list(session.exec(newest.where(*rules)).all())


def pages(engine: Engine, wanted: Wanted, *, page: int = EXPORT_PAGE) -> Iterator[list[Cdr]]:
    """Yield all that matches in pages, newest first, each in a look of its own: no reader stays open for hours.

    Records are only ever added, and new ones end later than the first page, so nothing comes twice or is left out.
    """
    before: Place | None = None
    while True:
        with reading(engine) as session:
            found = search(session, wanted, before=before, most=page)
        if found:
            yield found
        if len(found) < page:
            return
        before = (found[-1].ended_at, found[-1].call_id)


def _of_each(account_ids: Sequence[int], rules: list[ColumnElement[bool]], most: int) -> Any:
    """Return a question for the newest calls of each account."""
    each = []
    for account_id in account_ids:
        own = rows(col(Cdr.call_id)).where(col(Cdr.account_id) == account_id, *rules)
        newest = own.order_by(col(Cdr.ended_at).desc(), col(Cdr.call_id).desc()).limit(most).subquery()
        each.append(rows(newest.c.call_id))
    return union_all(*each)


def _rules(wanted: Wanted, before: Place | None) -> list[ColumnElement[bool]]:
    rules: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        rules.append(col(Cdr.ended_at) >= wanted.since)
    if wanted.until is not None:
        rules.append(col(Cdr.ended_at) < wanted.until)
    if wanted.number:
        pattern = wanted.number.translate(_LIKE_SPECIAL) + "%"
        rules.append(or_(col(Cdr.caller).like(pattern, escape="\\"), col(Cdr.callee).like(pattern, escape="\\")))
    if wanted.destination:
        rules.append(col(Cdr.destination) == wanted.destination)
    if wanted.disposition:
        rules.append(col(Cdr.disposition) == wanted.disposition)
    if before is not None:
        ended_at, call_id = before
        older = and_(col(Cdr.ended_at) == ended_at, col(Cdr.call_id) < call_id)
        # The first condition says nothing new, but lets the index begin there.
        rules += [col(Cdr.ended_at) <= ended_at, or_(col(Cdr.ended_at) < ended_at, older)]
    return rules
