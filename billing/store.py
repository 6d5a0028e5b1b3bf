"""The SQL store: engines, sessions, migrations. Sessions are synchronous and commit once, at the edge.

Locks are taken in one order everywhere, so that no two units of work wait for each other: keys that make a thing happen
once (call records, operations), then wallets by id, then everything else. SQLite knows one lock, taken at the start.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from sqlalchemy import Connection, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session, SQLModel, create_engine

from billing.errors import Refused

if TYPE_CHECKING:
    # Alembic is imported where a schema is looked at: no command else waits for it.
    from alembic.config import Config

BUSY_S = 10.0
"""How long a unit of work waits for another one's lock."""
STATEMENT_S = 60.0
"""How long PostgreSQL lets one statement run."""
MIGRATION_LOCK = 0x63616C6C
"""The PostgreSQL advisory lock of whoever migrates."""
NUMBERING_LOCK = 0x63616C6D
"""The PostgreSQL advisory lock of whoever numbers records or postings (shared), or wants to know the last (alone)."""
COPY_FROM = 16
"""From so many rows on COPY is quicker than INSERT."""


def open_store(url: str) -> Engine:
    """Open SQLite (WAL, synchronous FULL, foreign keys, busy time-out, BEGIN IMMEDIATE) or PostgreSQL (psycopg 3)."""
    where = make_url(url)
    match where.get_backend_name():
        case "sqlite":
            return _open_sqlite(where)
        case "postgresql":
            return _open_postgresql(where)
        case other:
            raise ValueError(f"the store must be sqlite:///… or postgresql+psycopg://…, not {other}")


class Remembered(Refused):
    """A refusal that is stored under its operation: the unit of work that raises it is committed, not rolled back."""


T = TypeVar("T")
AGAIN_TRIES = 6
AGAIN_PAUSE_S = 0.05
CROWDED = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL's states of serialization failure, deadlock, and a lock that was not had in time."""
WAL_TRIES = 100
WAL_PAUSE_S = 0.05


@contextmanager
def work(engine: Engine) -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on an error. Nothing below commits."""
    with Session(engine, expire_on_commit=False) as session:
        try:
            yield session
        except Remembered:
            session.commit()
            raise
        session.commit()


def again(engine: Engine, change: Callable[[Session], T]) -> T:
    """Do one unit of work, and do it again where only the crowd was in its way: a deadlock, a lock not had in time.

    What has a caller's id may be told twice, so `change` is of that kind; nothing of a failed try is left.
    """
    for attempt in range(AGAIN_TRIES):
        try:
            with work(engine) as session:
                return change(session)
        except OperationalError as error:
            if attempt == AGAIN_TRIES - 1 or not was_crowded(error):
                raise
        time.sleep(AGAIN_PAUSE_S * 2**attempt)
    raise AssertionError("the last try returns or raises")


def was_crowded(error: DBAPIError) -> bool:
    """Return whether a unit of work failed for others that were at work, and would do if tried again."""
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return getattr(error.orig, "sqlstate", None) in CROWDED


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Read one consistent state of the store without stopping any writer; writing fails, and nothing is kept."""
    if engine.dialect.name == "sqlite":
        snapshot = engine.execution_options(reading=True)
    else:
        snapshot = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with Session(snapshot, expire_on_commit=False) as session:
        try:
            yield session
        finally:
            session.expunge_all()  # what was read stays readable
            session.rollback()


def insert_or_skip(session: Session, table: type[SQLModel], rows: list[dict[str, Any]], returning: str) -> list[Any]:
    """Insert rows unless a unique key holds them back; return `returning` of those that were written.

    A key that another unit of work is just writing is waited for, and skipped if that one commits.
    """
    if not rows:
        return []
    on = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    # The table and not its mapper: rows in bulk, all columns given, no objects made.
    core = table.__table__  # type: ignore[attr-defined]
    written = on.insert(core).on_conflict_do_nothing().returning(core.c[returning])
    return list(session.execute(written, rows).scalars())


def insert_rows(session: Session, table: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows that all name the same columns; PostgreSQL takes more than a few by COPY."""
    if not rows:
        return
    core = table.__table__  # type: ignore[attr-defined] # the table, not the mapper: rows in bulk, no objects made
    if session.get_bind().dialect.name == "sqlite" or len(rows) < COPY_FROM:
        session.execute(core.insert(), list(rows))
        return
    dialect = session.get_bind().dialect
    names = list(rows[0])
    bound = [core.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names]
    driver = session.connection().connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection to PostgreSQL is closed")
    columns = ", ".join(f'"{name}"' for name in names)
    with driver.cursor() as cursor, cursor.copy(f'COPY "{core.name}" ({columns}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row([
                value if write is None or value is None else write(value)
                for write, value in zip(bound, (row[name] for name in names), strict=True)
            ])  # fmt: skip


def announce_numbers(session: Session) -> None:
    """Say, before the first is given, that this unit of work numbers records or postings: see `numbered_until`."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": NUMBERING_LOCK})


def numbered_until(session: Session, *tables: str) -> list[int]:
    """Return the last id of each table up to which nothing will appear any more (of those numbered as announced).

    Numbers are given before a unit of work commits, so a greater one may be seen before a smaller one. On PostgreSQL
    this waits, for a moment, until nobody is between the two; SQLite has one writer anyway. Raises `OperationalError`
    where that takes too long: then try again later.
    """
    asked = text("SELECT " + ", ".join(f"(SELECT coalesce(max(id), 0) FROM {table})" for table in tables))  # noqa: S608
    if session.get_bind().dialect.name == "sqlite":
        return [int(last) for last in session.execute(asked).one()]
    # A transaction of its own, so that the lock goes with it, whatever happens: everybody who writes waits for it.
    with session.get_bind().engine.connect() as connection, connection.begin():
        connection.execute(text("SET LOCAL lock_timeout = '500ms'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": NUMBERING_LOCK})
        return [int(last) for last in connection.execute(asked).one()]


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest migration. Two processes that start at once do it once."""
    from alembic import command  # noqa: PLC0415 - see above

    with migrating(engine) as config:
        command.upgrade(config, "head")


def migrations_missing(engine: Engine) -> int:
    """Return how many migrations the store lacks."""
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415 - see above
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see above

    with reading(engine) as session:
        have = MigrationContext.configure(session.connection()).get_current_heads()
    scripts = ScriptDirectory.from_config(_alembic_config())
    return len(list(scripts.iterate_revisions("heads", have or "base")))


@contextmanager
def migrating(engine: Engine) -> Iterator[Config]:
    """Lock the store and yield what alembic's commands need; all they do is one transaction."""
    config = _alembic_config()
    with _connected(engine) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            # A migration may take its time, and so may waiting for one.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        yield config
        if connection.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise IntegrityError("migrate", {}, Exception(f"rows that point to nothing: {broken[:5]}"))


@contextmanager
def _connected(engine: Engine) -> Iterator[Connection]:
    """Connect to migrate. SQLite changes a table by building it anew, which rows that point to it must allow."""
    with engine.connect() as connection:
        if connection.dialect.name != "sqlite":
            yield connection
            return
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            yield connection
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


def _alembic_config() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - see above

    config = Config(stdout=sys.stdout)  # of now: its default is that of the first import
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _open_sqlite(where: URL) -> Engine:
    if where.database and where.database != ":memory:":
        Path(where.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        where,
        connect_args={"timeout": BUSY_S},
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        pool_size=8,
        max_overflow=24,
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver would begin transactions by itself, late and without the write lock; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Bring the file to WAL, once in its life. SQLite does not wait by itself where two processes do that at once."""
    for attempt in range(WAL_TRIES):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if attempt == WAL_TRIES - 1:
                raise
            time.sleep(WAL_PAUSE_S)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and asks for the write lock later fails when another wrote in between: so writers
    # take the lock at once, and readers never take it.
    if connection.get_execution_options().get("reading"):
        connection.exec_driver_sql("PRAGMA query_only = ON")
        connection.exec_driver_sql("BEGIN DEFERRED")
    else:
        connection.exec_driver_sql("PRAGMA query_only = OFF")
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_postgresql(where: URL) -> Engine:
    connect_args: dict[str, Any] = {"connect_timeout": 10}
    if "options" not in where.query:
        connect_args["options"] = (
            f"-c statement_timeout={int(STATEMENT_S * 1000)} -c lock_timeout={int(BUSY_S * 1000)}"
            f" -c idle_in_transaction_session_timeout={int(STATEMENT_S * 1000)}"
        )
    return create_engine(
        where.set(drivername="postgresql+psycopg"),
        connect_args=connect_args,
        isolation_level="READ COMMITTED",
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
        pool_pre_ping=True,
        pool_size=8,
        max_overflow=24,
    )


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()
