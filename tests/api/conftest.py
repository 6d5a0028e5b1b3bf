"""The API under test: the real app on SQLite and a Redis in memory, and a key for each kind of caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from fastapi import FastAPI
from httpx2 import Response
from pydantic import SecretStr
from starlette.testclient import TestClient

from billing import keys, outbox
from billing.access import CEILINGS, READ, SCOPES
from billing.models import AccountKind
from billing.settings import ApiSettings, PinSettings, Settings, VoucherSettings
from billing.store import work
from tests.web.world import World, make_world, open_world
from web.app import create_app

T = TypeVar("T")
PREFIX = "/api/v1"
PINS = PinSettings(secret=SecretStr("a-secret-of-this-installation-0123"))
OPERATOR, BLUEBIRD, ANNA, COPPER, DELTA = 1, 2, 3, 4, 5
"""The accounts of the world: the operator, a reseller, its two customers, and a customer of the operator."""


@dataclass
class Program:
    """A program with a key."""

    client: TestClient
    key: str
    world: World

    def ask(self, method: str, path: str, **more: Any) -> Response:
        """Send a request under the prefix of the API."""
        headers = {"authorization": f"Bearer {self.key}", **more.pop("headers", {})}
        answer: Response = self.client.request(method, PREFIX + path, headers=headers, **more)
        return answer

    def get(self, path: str, **more: Any) -> Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: Any = None, *, once: str | None = None, **more: Any) -> Response:
        """Send JSON, with an Idempotency-Key where one is given."""
        headers = {**({"idempotency-key": once} if once else {}), **more.pop("headers", {})}
        return self.ask("POST", path, json=body, headers=headers, **more)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine on the app's own loop, where its Redis client lives."""
        assert self.client.portal is not None

        async def inside() -> T:
            return await work()

        return self.client.portal.call(inside)


@pytest.fixture
def redis_server() -> FakeServer:
    """The Redis in memory; `connected = False` takes it away."""
    return FakeServer()


@pytest.fixture(scope="session")
def made_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The company's store, made once."""
    return make_world(tmp_path_factory.mktemp("made"))


@pytest.fixture
def world(made_world: Path, tmp_path: Path, redis_server: FakeServer) -> Iterator[World]:
    """The company."""
    world = open_world(made_world, tmp_path, FakeAsyncRedis(server=redis_server, decode_responses=True))
    yield world
    world.engine.dispose()


@pytest.fixture
def app(world: World, tmp_path: Path) -> FastAPI:
    """The app on it, for callers who never wait."""
    keys_of_vouchers = VoucherSettings(key_file=tmp_path / "voucher.key")
    settings = Settings(api=ApiSettings(per_s=1e6, burst=10**6), vouchers=keys_of_vouchers, pins=PINS)
    return create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)


@pytest.fixture
def client(app: FastAPI, world: World) -> Iterator[TestClient]:
    """Somebody without a key."""
    with TestClient(
        app, follow_redirects=False, raise_server_exceptions=False, client=("203.0.113.9", 50000)
    ) as client:
        assert client.portal is not None
        client.portal.call(lambda: outbox.sync_all(world.engine, world.credit))
        yield client


def make_key(
    world: World,
    account_id: int,
    scopes: Sequence[str],
    *,
    allow_from: Sequence[str] = (),
    expires_at: datetime | None = None,
) -> str:
    """Make a key straight in the store; return its text."""
    with work(world.engine) as session:
        _, token = keys.add_key(
            session,
            account_id=account_id,
            name="test",
            scopes=scopes,
            allow_from=allow_from,
            expires_at=expires_at,
            actor="test",
            ids=world.ids,
            now=world.clock.now(),
        )
    return token


@pytest.fixture
def owner(client: TestClient, world: World) -> Program:
    """A key of the operator with every scope."""
    return Program(client, make_key(world, OPERATOR, SCOPES), world)


@pytest.fixture
def reader(client: TestClient, world: World) -> Program:
    """A key of the operator that only reads."""
    return Program(client, make_key(world, OPERATOR, [one for one in SCOPES if one.endswith(READ)]), world)


@pytest.fixture
def reseller(client: TestClient, world: World) -> Program:
    """A key of the reseller Bluebird Voice with all that a reseller may have."""
    return Program(client, make_key(world, BLUEBIRD, sorted(CEILINGS[AccountKind.RESELLER])), world)


@pytest.fixture
def customer(client: TestClient, world: World) -> Program:
    """A key of the customer Anna's Bakery with all that a customer may have."""
    return Program(client, make_key(world, ANNA, sorted(CEILINGS[AccountKind.CUSTOMER])), world)
