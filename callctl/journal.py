"""The journal: a local SQLite file in which every ended call is written before anything else is done about it.

synchronous=FULL, group commit: whoever waits while a write is under way goes into the next one together. A row leaves
when SQL has the record and Redis has been told. Of several controllers on one machine each has a file of its own, and
takes along what the dead left in theirs. Owns nothing else; never prices, never talks to SQL or Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import sqlite3
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson
import structlog

from billing.cdrs import EndedCall

log = structlog.get_logger(__name__)

MOST_FILES = 4
"""How many controllers of one machine may have a file each beside the one that was configured."""
SETTLED_WAIT_S = 0.2
"""How long settled entries wait for a write that takes them along."""


class JournalBroken(Exception):
    """The journal cannot be written (disk full, file gone): new calls must be refused."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An ended call as it waits; `held`: there may be a hold to trim."""

    ended: EndedCall
    held: bool


class Journal:
    """Opened once by one controller; safe to use from many tasks of one loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._waiting: list[tuple[str, tuple[object, ...], asyncio.Future[None] | None]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None
        self._db: sqlite3.Connection | None = None
        self._lock: IO[str] | None = None
        self.broken = False

    async def open(self) -> list[Entry]:
        """Open or make the file; return what waited in it, oldest first. Raises `JournalBroken`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._open)
        except (sqlite3.Error, OSError) as error:
            self.broken = True
            raise JournalBroken(f"the journal {self._path} cannot be opened: {error}") from error

    async def write(self, entry: Entry) -> None:
        """Return once the entry is on the disk. Writing the same call again changes nothing. Raises `JournalBroken`."""
        data = {"ended": entry.ended.to_json(), "held": entry.held}
        try:
            body = orjson.dumps(data).decode()
        except TypeError:  # half a surrogate pair, say: it is ASCII then
            body = json.dumps(data, separators=(",", ":"))
        await self._do("INSERT OR IGNORE INTO ended (call_id, body) VALUES (?, ?)", (entry.ended.call_id, body))

    async def park(self, call_id: str, why: str) -> None:
        """Keep an entry that cannot be settled for a person to look at; it is not tried again by itself."""
        await self._do("UPDATE ended SET parked = ? WHERE call_id = ?", (why[:500], call_id))

    async def probe(self) -> None:
        """Find out whether a broken journal can be written again. Raises `JournalBroken`."""
        await self._do("DELETE FROM ended WHERE id = ?", (-1,))

    def settled(self, call_ids: Iterable[str]) -> None:
        """Drop entries that SQL and Redis have; not waited for, since settling twice is harmless."""
        self._waiting += [("DELETE FROM ended WHERE call_id = ?", (call_id,), None) for call_id in call_ids]
        if self._waiting and self._late is None:
            # They go with the next entry that is written, and alone only where none comes.
            self._late = asyncio.get_running_loop().call_later(SETTLED_WAIT_S, self._begin)

    async def close(self) -> None:
        """Write what waits, then close."""
        self._begin()
        while self._flusher and not self._flusher.done():
            await asyncio.wait([self._flusher])
        try:
            if self._db is not None:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
        except sqlite3.Error as error:
            # A full disk, say. What is on it stays on it, and a stop must not fail for it.
            log.warning("journal_not_closed", error=str(error))
        finally:
            if self._lock is not None:
                self._lock.close()
            self._thread.shutdown()

    async def _do(self, sql: str, values: tuple[object, ...]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((sql, values, done))
        self._begin()
        await done

    def _begin(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self._waiting and (self._flusher is None or self._flusher.done()):
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._thread, self._commit, [(sql, values) for sql, values, _ in batch])
            except (sqlite3.Error, OSError) as error:
                self.broken = True
                for _, _, done in batch:
                    if done and not done.done():
                        done.set_exception(JournalBroken(f"the journal {self._path} cannot be written: {error}"))
            else:
                self.broken = False
                for _, _, done in batch:
                    if done and not done.done():
                        done.set_result(None)

    # -- in the journal's own thread -----------------------------------------------------------------------------------

    def _open(self) -> list[Entry]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        paths = [self._path, *(self._path.with_name(f"{self._path.name}.{n}") for n in range(2, MOST_FILES + 1))]
        for path in paths:
            if (lock := _locked(path)) is not None:
                self._lock, mine = lock, path
                break
        else:
            raise OSError(f"{MOST_FILES} controllers use it and its neighbours")
        self._db = _opened(mine)
        for path in paths:
            if path != mine and path.exists() and (lock := _locked(path)) is not None:
                # Left by a controller of this machine that is dead: whoever leads now settles what waits in it.
                with contextlib.closing(lock), contextlib.closing(_opened(path)) as left:
                    rows = left.execute("SELECT call_id, body, parked FROM ended ORDER BY id").fetchall()
                    self._db.executemany("INSERT OR IGNORE INTO ended (call_id, body, parked) VALUES (?, ?, ?)", rows)
                    left.execute("DELETE FROM ended")
        entries = []
        rows = self._db.execute("SELECT call_id, body FROM ended WHERE parked IS NULL ORDER BY id").fetchall()
        for call_id, body in rows:
            try:
                data = json.loads(body)
                entries.append(Entry(EndedCall.from_json(data["ended"]), bool(data["held"])))
            except (KeyError, TypeError, ValueError) as error:
                # A row nobody can read must not keep a controller from starting: a person looks at it.
                log.error("journal_row_unreadable", call_id=call_id, error=str(error))  # noqa: TRY400
                self._db.execute("UPDATE ended SET parked = ? WHERE call_id = ?", (f"unreadable: {error}", call_id))
        return entries

    def _commit(self, batch: list[tuple[str, tuple[object, ...]]]) -> None:
        if self._db is None:
            raise sqlite3.OperationalError("not open")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in batch:
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _locked(path: Path) -> IO[str] | None:
    """Return the lock of a journal file; None where a living process has it, frozen or not."""
    lock = path.with_name(path.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(
        "CREATE TABLE IF NOT EXISTS ended"
        " (id INTEGER PRIMARY KEY, call_id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, parked TEXT)"
    )
    return db
