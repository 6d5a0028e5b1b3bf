"""A place on disk where a million records are sorted out: which belong to one call, and how long that call was.

SQLite in a file that is nobody else's and is thrown away; memory stays the same however many records there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from billing.reconcile.records import Leg, SwitchCall

PAGE = 500
SOON_US = 2_000_000
"""What goes on with a channel after a transfer begins within this time of its last record's end, in whole seconds."""
MOST_PARTS = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_TABLES = """
CREATE TABLE leg (
  id TEXT, base TEXT, key TEXT, leg TEXT, is_call INT, controlled INT, rank INT, direction TEXT, account_code TEXT,
  caller TEXT, callee TEXT, started INT, answered INT, ended INT, talk_ms INT, cause INT, source TEXT,
  UNIQUE (id, started, answered, ended, talk_ms)
);
CREATE TABLE part (name TEXT, started INT, ended INT);
CREATE TABLE call (
  key TEXT PRIMARY KEY, controlled INT, rank INT, direction TEXT, account_code TEXT, caller TEXT, callee TEXT,
  started INT, answered INT, ended INT, talk_ms INT, cause INT, source TEXT, twice INT
) WITHOUT ROWID;
"""
_CALL = (
    "key, controlled, direction, account_code, caller, callee, started, answered, ended, talk_ms, cause, source, twice"
)


@dataclass(slots=True)
class _Offer:
    """Where the numbering of one channel's offers stands."""

    base: str = ""
    number: int = 0
    ended: int = 0
    callee: str = ""


class Scratch:
    """Takes records in any order; `merge` makes calls of them."""

    def __init__(self, path: Path, *, tolerance_ms: int = 1000) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_TABLES} BEGIN;")
        self._tolerance_ms = tolerance_ms
        self.repeated = 0

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add(self, leg: Leg) -> None:
        """Take a record; the same one read twice is counted and left out."""
        started, ended = _us(leg.started_at), _us(leg.ended_at)
        answered = _us(leg.answered_at) if leg.answered_at else -1
        added = self._db.execute(
            "INSERT OR IGNORE INTO leg VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            [
                *(leg.id, leg.base, leg.key, leg.leg, leg.is_call, leg.controlled, leg.rank, leg.direction),
                *(leg.account_code, leg.caller, leg.callee, started, answered, ended, leg.talk_ms, leg.cause),
                leg.source,
            ],
        )
        if not added.rowcount:
            self.repeated += 1
            return
        self._db.executemany("INSERT INTO part VALUES (?,?,?)", [(name, started, ended) for name in leg.part_of])

    def merge(self) -> None:
        """Make calls of the records: one for each key, the most trustworthy record's, to the billed leg's own end."""
        self._db.execute("CREATE INDEX part_name ON part (name, started)")
        self._db.execute("CREATE INDEX leg_base ON leg (base, started)")
        offer = _Offer()
        rows = self._db.execute(
            "SELECT base, key, leg, controlled, rank, direction, account_code, caller, callee, started, answered,"
            " ended, talk_ms, cause, source FROM leg WHERE is_call ORDER BY base, started, ended, id"
        )
        for base, key, leg, controlled, rank, direction, *rest in rows:
            account, caller, callee, started, answered, ended, talk_ms, cause, source = rest
            if not key:
                key, direction, callee = _number(offer, base, direction, callee, (started, answered, ended))  # noqa: PLW2901 - the record's own, completed
                last = self._last_end(leg, started, ended) if answered >= 0 else ended
                if last > ended:
                    ended, talk_ms = last, (last - answered) // 1000
            told = (account, caller, callee, started, answered, ended, talk_ms, cause, source)
            self._put((key, controlled, rank, direction, *told))

    def span(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last call ended."""
        first, last = self._db.execute("SELECT min(ended), max(ended) FROM call").fetchone()
        return None if first is None else (_moment(first), _moment(last))

    def calls(self, begin: datetime, end: datetime) -> Iterator[list[SwitchCall]]:
        """Yield the calls that ended in [begin, end), in pages, in order of their keys."""
        after = ""
        while True:
            rows = self._db.execute(
                f"SELECT {_CALL} FROM call WHERE key > ? AND ended >= ? AND ended < ? ORDER BY key LIMIT {PAGE}",  # noqa: S608 - our own names
                (after, _us(begin), _us(end)),
            ).fetchall()
            if not rows:
                return
            yield [_call(row) for row in rows]
            after = rows[-1][0]

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that are calls here."""
        marks = ",".join("?" * len(keys))
        return {key for (key,) in self._db.execute(f"SELECT key FROM call WHERE key IN ({marks})", list(keys))}  # noqa: S608 - only marks

    def _last_end(self, name: str, started: int, ended: int) -> int:
        """Follow a channel through the records that go on with it."""
        for _ in range(MOST_PARTS):
            (last,) = self._db.execute(
                "SELECT max(ended) FROM part WHERE name = ? AND started BETWEEN ? AND ?",
                (name, max(started, ended - SOON_US // 2), ended + SOON_US),
            ).fetchone()
            if last is None or last <= ended:
                break
            ended = last
        return ended

    def _put(self, row: tuple[object, ...]) -> None:
        key, rank, answered, talk_ms = row[0], int(str(row[2])), int(str(row[8])), int(str(row[10]))
        found = self._db.execute("SELECT rank, answered, talk_ms FROM call WHERE key = ?", (key,)).fetchone()
        twice = False
        if found is not None:
            was = (found[0], found[1] >= 0)
            now = (rank, answered >= 0)
            twice = was == now and answered >= 0 and abs(found[2] - talk_ms) > self._tolerance_ms
            if now <= was:
                if twice:
                    self._db.execute("UPDATE call SET twice = 1 WHERE key = ?", (key,))
                return
        self._db.execute("INSERT OR REPLACE INTO call VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", (*row, twice))


def _number(offer: _Offer, base: str, direction: str, callee: str, times: tuple[int, int, int]) -> tuple[str, str, str]:
    """Name the call of an Asterisk record by its place among its channel's: a channel offers again once transferred."""
    started, answered, ended = times
    if offer.base != base:
        offer.base, offer.number, offer.ended, offer.callee = base, 0, 0, callee
    number = offer.number + 1
    if answered >= 0:
        if offer.number and started < offer.ended:
            number = offer.number
        offer.number, offer.ended = number, max(ended, offer.ended)
    if number == 1:
        return base, direction, callee
    # Asterisk goes on writing the number that the channel dialled first.
    return f"{base}~{number}", "outbound", "" if callee == offer.callee else callee


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def _call(row: Sequence[object]) -> SwitchCall:
    key, controlled, direction, account, caller, callee, started, answered, ended, talk_ms, cause, source, twice = row
    return SwitchCall(
        key=str(key),
        controlled=bool(controlled),
        direction=str(direction),
        account_code=str(account),
        caller=str(caller),
        callee=str(callee),
        offered_at=_moment(int(str(started))),
        answered_at=_moment(int(str(answered))) if int(str(answered)) >= 0 else None,
        ended_at=_moment(int(str(ended))),
        talk_ms=int(str(talk_ms)),
        cause=int(str(cause)),
        source=str(source),
        twice=bool(twice),
    )
