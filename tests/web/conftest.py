"""The panel under test: the real app on SQLite and a Redis in memory, and a browser without scripts."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from billing import outbox
from billing.settings import PinSettings, Settings
from tests.web.world import PASSWORD, World, make_world, open_world
from web.app import create_app

T = TypeVar("T")


class Visitor(TestClient):
    """A client that keeps cookies, follows no redirect by itself, and knows where the form's token stands."""

    world: World

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine on the app's own loop, where its Redis client lives."""
        assert self.portal is not None

        async def inside() -> T:
            return await work()

        return self.portal.call(inside)

    def log_in(self, login: str = "owner", password: str = PASSWORD) -> None:
        """Log in, or fail the test."""
        answer = self.post("/login", data={"login": login, "password": password})
        assert answer.status_code == 303, answer.text

    def token(self, path: str = "/password") -> str:
        """Return the CSRF token of the session."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def submit(self, path: str, *, at: str = "/password", **fields: str) -> Any:
        """Post a form as the page at `at` would."""
        return self.post(path, data={"csrf": self.token(at), **fields})


@pytest.fixture
def redis_server() -> FakeServer:
    """The Redis in memory; `connected = False` takes it away."""
    return FakeServer()


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The company's store, made once: passwords take their time."""
    return make_world(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made_world: Path, tmp_path: Path, redis_server: FakeServer) -> Iterator[World]:
    """The company."""
    world = open_world(made_world, tmp_path, FakeAsyncRedis(server=redis_server, decode_responses=True))
    yield world
    world.engine.dispose()


@pytest.fixture
def app(world: World) -> FastAPI:
    """The app on it."""
    settings = Settings(pins=PinSettings(secret=SecretStr("a-secret-of-this-installation-0123")))
    return create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)


@pytest.fixture
def visitor(app: FastAPI, world: World) -> Iterator[Visitor]:
    """Somebody without a session."""
    with Visitor(app, follow_redirects=False, raise_server_exceptions=False, client=("203.0.113.9", 50000)) as client:
        client.world = world
        client.run(lambda: outbox.sync_all(world.engine, world.credit))
        yield client


@pytest.fixture
def owner(visitor: Visitor) -> Visitor:
    """An owner with a session."""
    visitor.log_in()
    return visitor
