"""The SQL store: engines, sessions, migrations. Sessions are synchronous and commit once, at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Engine
from sqlmodel import Session


def open_store(url: str) -> Engine:
    """Open SQLite (WAL, synchronous FULL, foreign keys, busy time-out, BEGIN IMMEDIATE) or PostgreSQL (psycopg 3)."""
    raise NotImplementedError


@contextmanager
def work(engine: Engine) -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on an error. Nothing below commits."""
    raise NotImplementedError


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest migration."""
    raise NotImplementedError


def migrations_missing(engine: Engine) -> int:
    """Return how many migrations the store lacks."""
    raise NotImplementedError
