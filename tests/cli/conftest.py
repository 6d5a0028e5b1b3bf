"""Fixtures of the command line's tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from callctl.app import read_settings, serving_credit
from tests.cli.support import Home


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command sets up the logs of its process; here that is the process of all tests."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A folder after `callctl init`, with a tariff and a customer. Made once; tests get copies."""
    made = Home(tmp_path_factory.mktemp("home"))
    made.ok("init", "--json")
    made.ok("tariff", "add", "retail")
    made.ok("account", "add", "acme", "--tariff", "retail", "--code", "acme-1", "--max-calls", "5", "--bar", "881")
    return made


@pytest.fixture
def home(first_home: Home, tmp_path: Path) -> Home:
    """A folder of the test's own."""
    shutil.copytree(first_home.folder, tmp_path, dirs_exist_ok=True)
    return Home(tmp_path)


@pytest.fixture
def credit(home: Home) -> Iterator[str]:
    """The embedded credit server of that folder, running as `callctl up` runs it."""
    with serving_credit(read_settings(home.config).credit) as url:
        yield url
