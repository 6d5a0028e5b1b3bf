"""Nobody passes without the right key: every route is walked without one, with a wrong one, with another's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from billing import keys
from billing.access import SCOPES, operators_reach
from billing.models import ApiKey, AuditRow, OutboxRow, Posting
from billing.settings import ApiSettings, Settings
from billing.store import work
from tests.api.conftest import OPERATOR, PREFIX, Program, make_key
from tests.api.routes import Operation, operations
from tests.web.world import World
from web.app import create_app

QUESTIONS = {"make_quote"}
"""What is asked with a body and changes nothing."""


def state(world: World) -> tuple[int, ...]:
    """Return what a refused request must not move."""
    return tuple(len(world.rows(table)) for table in (AuditRow, Posting, OutboxRow, ApiKey))


def send(program: Program, operation: Operation, **values: Any) -> Any:
    """Send an operation's own good request."""
    return program.ask(
        operation.method, operation.address(**values), json=operation.body, headers=dict(operation.headers)
    )


def test_every_route_wants_a_key_that_is_right(app: FastAPI, client: TestClient, world: World) -> None:
    """No key, an unknown, wrong, revoked or expired one, one from elsewhere: refused, and nothing moves."""
    good = make_key(world, OPERATOR, SCOPES)
    revoked = make_key(world, OPERATOR, SCOPES)
    with work(world.engine) as session:
        reach, now = operators_reach(session), world.clock.now()
        keys.revoke_key(session, reach, revoked.partition(".")[0], actor="test", now=now)
    expired = make_key(world, OPERATOR, SCOPES, expires_at=world.clock.now() + timedelta(seconds=1))
    world.clock.move(2)
    elsewhere = make_key(world, OPERATOR, SCOPES, allow_from=["198.51.100.0/24"])
    before = state(world)
    walked = list(operations(app))
    assert len({operation.name for operation in walked}) == len(walked), "two operations of one name"
    for operation in walked:
        for key, status, code in (
            ("", 401, "key_missing"),
            ("nonsense", 401, "key_unknown"),
            ("ü" * 10, 401, "key_unknown"),
            ("k" * 300, 401, "key_unknown"),
            (good[:-1] + ("x" if good[-1] != "x" else "y"), 401, "key_unknown"),
            (revoked, 401, "key_revoked"),
            (revoked + "x", 401, "key_unknown"),
            (expired, 401, "key_expired"),
            (elsewhere, 403, "key_not_from_here"),
        ):
            headers: dict[str, str | bytes] = {"authorization": f"Bearer {key}".encode(), **operation.headers}
            sent: Any = {"json": operation.body, "headers": headers}
            answer = client.request(operation.method, PREFIX + operation.address(), **sent)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (operation.name, key)
            assert answer.headers["content-type"] == "application/problem+json"
            if status == 401:
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert client.request(operation.method, PREFIX + operation.address()).status_code == 401
    assert state(world) == before


def test_every_route_wants_its_scope(app: FastAPI, client: TestClient, world: World) -> None:
    """A key with every scope but the one that is needed gets 403 and is told which; reading never needs writing."""
    before = state(world)
    for operation in operations(app):
        if operation.scope is None:
            continue
        area = operation.scope.partition(":")[0]
        others = [scope for scope in SCOPES if not scope.startswith(f"{area}:")]
        if operation.scope.endswith(":write"):
            others.append(f"{area}:read")
        elif operation.method != "GET" and operation.name not in QUESTIONS:
            raise AssertionError(f"{operation.name} changes something with a scope to read")
        answer = send(Program(client, make_key(world, OPERATOR, others), world), operation)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), operation.name
        assert answer.json()["scope"] == operation.scope
    moved = state(world)
    assert moved[1:3] == before[1:3]


def test_everything_else_is_not_found_in_the_apis_own_words(client: TestClient, owner: Program) -> None:
    """An address that is none and a method that is none are problems with a code, with a key and without."""
    for path in ("/", "/nope", "/accounts/5/nope", "/Accounts"):
        answer = owner.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    answer = owner.ask("PUT", "/accounts")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]
    assert client.get(f"{PREFIX}/openapi.json").status_code == 200


def test_a_key_says_when_it_was_used(owner: Program) -> None:
    """The time and the address of the last use are kept, to the minute: not a write for each request."""
    assert owner.get("/me").json()["account"] == "Northwind Telecom"
    (row,) = owner.world.rows(ApiKey)
    first = row.last_used_at
    assert (first, row.last_used_from) == (owner.world.clock.now(), "203.0.113.9")
    owner.world.clock.move(30)
    owner.get("/me")
    assert owner.world.rows(ApiKey)[0].last_used_at == first
    owner.world.clock.move(31)
    owner.get("/me")
    assert owner.world.rows(ApiKey)[0].last_used_at == owner.world.clock.now()


def test_a_key_that_asks_too_often_waits(world: World) -> None:
    """Beyond its burst a key gets 429 and a time to wait; another key does not, and it passes again afterwards."""
    settings = Settings(api=ApiSettings(per_s=0.5, burst=3))
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)
    with TestClient(app) as client:
        hasty = Program(client, make_key(world, OPERATOR, SCOPES), world)
        patient = Program(client, make_key(world, OPERATOR, SCOPES), world)
        assert [hasty.get("/me").status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = hasty.get("/me")
        assert (answer.json()["code"], answer.headers["retry-after"]) == ("too_many_requests", "3")
        assert patient.get("/me").status_code == 200
        world.clock.move(2)
        assert hasty.get("/me").status_code == 200
        assert hasty.get("/me").status_code == 429
