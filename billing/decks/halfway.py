"""A version of a tariff that is half written: seen by nobody, and taken away where its writer is gone.

Rows belong to versions, so what is written for the next one changes nothing of today: rows end *with* it or begin with
it, and `rows.in_version` leaves both as they were while `rate_writing` names it.
"""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta

from sqlmodel import Session

from billing.decks.rows import cursor_of
from billing.errors import Conflict
from billing.models import RateWriting, Tariff, id_of
from billing.models.rates import STILL

GONE_AFTER = timedelta(minutes=2)
"""Who writes rates says so more often than that."""
_KEY = "tariff_id, until_version, prefix, effective_us"
_DROP = (
    f"DELETE FROM rate WHERE ({_KEY}) IN"  # noqa: S608 - names of columns
    f" (SELECT {_KEY} FROM rate WHERE tariff_id = ? AND until_version = ? AND since_version = ? LIMIT ?)"
)
_BACK = (
    f"UPDATE rate SET until_version = ? WHERE ({_KEY}) IN"  # noqa: S608 - names of columns
    f" (SELECT {_KEY} FROM rate WHERE tariff_id = ? AND until_version = ? LIMIT ?)"
)
_ALL = -1
"""SQLite's word for no limit."""


def give_way(session: Session, tariff: Tariff, now: datetime) -> None:
    """Raise `Conflict` where somebody is writing the tariff's rates; take away what one who is gone has left."""
    found = session.get(RateWriting, id_of(tariff))
    if found is None:
        return
    if not is_gone(found, now):
        raise Conflict(
            f"the rates of tariff {tariff.name} are just being imported: look again when that is done, or, if it was "
            f"stopped, after {found.touched_at + GONE_AFTER:%H:%M:%S} UTC"
        )
    take_back(session, found, _ALL)
    session.delete(found)
    session.flush()


def is_gone(found: RateWriting, now: datetime) -> bool:
    """Return whether the writer has said nothing for so long that it is gone."""
    return now - found.touched_at > GONE_AFTER


def take_back(session: Session, found: RateWriting, most: int) -> int:
    """Undo up to `most` rows of what is half written; 0 when nothing is left of it. For SQLite, which alone has it."""
    with closing(cursor_of(session)) as cursor:
        # What begins goes first: what ended may have the same key.
        cursor.execute(_DROP, (found.tariff_id, STILL, found.version, most))
        done = int(cursor.rowcount)
        if done == 0 or most == _ALL:
            cursor.execute(_BACK, (STILL, found.tariff_id, found.version, most))
            done += int(cursor.rowcount)
        return done
