"""The files of a simulating process: a migrated store to copy, and the store and the journals of the seed at hand."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from billing.store import migrate, open_store


class Folder:
    """One for each process that simulates: seeds use it one after the other."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")  # noqa: S108 - memory, where there is some
        self._kept = tempfile.TemporaryDirectory(prefix="callctl-sim-", dir=shared if shared.is_dir() else None)
        self.path = Path(self._kept.name)
        self._template = self.path / "template.db"
        template = open_store(f"sqlite:///{self._template}")
        migrate(template)
        template.dispose()
        with sqlite3.connect(self._template) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.store = self.path / "store.db"
        self.engine = open_store(f"sqlite:///{self.store}")
        event.listen(self.engine, "connect", _do_not_sync)
        event.listen(self.engine, "before_cursor_execute", self._before)
        self.full: Callable[[], bool] = lambda: False
        """Whether nothing can be written now."""

    def fresh(self) -> Engine:
        """Return the engine over an empty store."""
        self.full = lambda: False
        self.engine.dispose()
        for old in self.path.glob("[sj]*.db*"):
            old.unlink()
        shutil.copy(self._template, self.store)
        return self.engine

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if self.full() and statement.startswith(("INSERT", "UPDATE", "DELETE")):
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise OperationalError(statement, {}, error)

    def close(self) -> None:
        """Remove it all."""
        self.engine.dispose()
        self._kept.cleanup()


def _do_not_sync(connection: sqlite3.Connection, _entry: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")
