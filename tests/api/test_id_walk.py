"""Every id of every route, of another subtree: 404 like an id that nobody has, and nothing has changed.

The routes come from the API's own description, so a new one is walked by itself; one whose id is of a kind that the
walk does not know fails it (see `strangers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from fastapi import FastAPI
from sqlmodel import select

from billing.access import CEILINGS, ROLES, SCOPES, Role, covers
from billing.models import AccountKind, ApiKey
from billing.store import work
from tests.api import strangers
from tests.api.conftest import ANNA, BLUEBIRD, Program, make_key
from tests.api.routes import Operation, api_of, operations
from tests.api.store_state import differences, state_of

NOBODYS: dict[type, Any] = {int: 999_999, str: "nobody-s-999"}
"""An id of each form that nothing has."""
OUTSIDERS = {"reseller": (BLUEBIRD, AccountKind.RESELLER), "customer": (ANNA, AccountKind.CUSTOMER)}


@pytest.fixture(params=OUTSIDERS)
def outsider(request: pytest.FixtureRequest, owner: Program) -> Program:
    """A key below the operator with every scope there is, more than it can be given: the subtree alone holds it."""
    account_id, kind = OUTSIDERS[request.param]
    world = owner.world
    token = make_key(world, account_id, sorted(CEILINGS[kind]))
    with work(world.engine) as session:
        row = session.exec(select(ApiKey).where(ApiKey.public_id == token.partition(".")[0])).one()
        row.scopes = list(SCOPES)
        session.add(row)
    return Program(owner.client, token, world)


def described(app: FastAPI, operation: Operation) -> dict[str, Any]:
    """Return what the API says of an operation."""
    told: dict[str, Any] = api_of(app).openapi()["paths"][operation.path][operation.method.lower()]
    return told


def members_of(app: FastAPI, shape: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all members of a body, those inside others too."""
    if "$ref" in shape:
        shape = api_of(app).openapi()["components"]["schemas"][shape["$ref"].rpartition("/")[2]]
    for name, member in shape.get("properties", {}).items():
        yield name
        yield from members_of(app, member)
    for key in ("anyOf", "oneOf", "allOf"):
        for one in shape.get(key, ()):
            yield from members_of(app, one)
    if "items" in shape:
        yield from members_of(app, shape["items"])


def path_ids(operation: Operation) -> list[tuple[str, str]]:
    """Return the ids in an address: what stands before each, and its name."""
    parts = operation.path.split("/")
    named = [(before, part.strip("{}")) for before, part in pairwise(parts) if part.startswith("{")]
    return [(before, name) for before, name in named if name not in strangers.INSIDE]


def places(app: FastAPI, operation: Operation, ids: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield each place of an operation where an id can stand: (path, query or body; its name; the stranger's id)."""
    for kind, name in path_ids(operation):
        assert kind in ids, f"say in strangers.py what the id of /{kind}/{{{name}}} is, of {operation.name}"
        yield "path", name, ids[kind]
    for parameter in described(app, operation).get("parameters", ()):
        if parameter["in"] == "query":
            name = parameter["name"]
            assert name in strangers.QUERIES or name in strangers.NO_IDS, (
                f"say in strangers.py whether ?{name}= of {operation.name} is an id"
            )
            if name in strangers.QUERIES:
                yield "query", name, ids[strangers.QUERIES[name]]
    sent = described(app, operation).get("requestBody", {}).get("content", {}).get("application/json", {})
    for name in dict.fromkeys(members_of(app, sent.get("schema", {}))):
        if name in strangers.BODIES:
            yield "body", name, ids[strangers.BODIES[name]]
        else:
            assert not name.endswith(("_id", "_ids")), f"say in strangers.py what {name} of {operation.name} is"


def ask(program: Program, operation: Operation, place: str, name: str, value: Any) -> Any:
    """Send the operation's own good request with a value in one of its places; all else is the caller's own."""
    own = {"account_id": ANNA}
    path = operation.address(**(own | {name: value} if place == "path" else own))
    body = strangers.VALID.get(operation.name, operation.body)
    if place == "body":
        body = {**(body or {}), name: value}
        body = {member: known for member, known in body.items() if member not in strangers.INSTEAD.get(name, ())}
    query = {**operation.query, **({name: value} if place == "query" else {})}
    headers = dict(operation.headers)
    if operation.raw:
        headers["content-type"] = "text/csv"
        return program.ask(operation.method, path, params=query, content=operation.raw, headers=headers)
    return program.ask(operation.method, path, params=query, json=body, headers=headers)


def told(answer: Any, value: Any = None) -> tuple[int, str, str]:
    """Return status, code and sentence of a problem, with `?` in the place of the value that was asked for."""
    body = answer.json()
    says = body.get("detail", "")
    return answer.status_code, body.get("code", ""), re.sub(rf"\b{re.escape(str(value))}\b", "?", says)


def test_an_id_of_another_subtree_is_no_id(app: FastAPI, owner: Program, outsider: Program) -> None:
    """Reading and writing, in address, query and body: 404, word for word as for an id that nothing has."""
    ids = strangers.make_strangers(owner)
    assert outsider.get("/me").status_code == 200
    before = state_of(owner)
    walked = 0
    wrong: list[Any] = []
    for operation in operations(app):
        for place, name, stranger in places(app, operation, ids):
            walked += 1
            nobodys = NOBODYS[type(stranger)]
            answer = ask(outsider, operation, place, name, stranger)
            missing = ask(outsider, operation, place, name, nobodys)
            right = [(404, "not_found")]
            if name == "tariff":
                # A name, and the first thing that is wrong may be another one: the same for both.
                right.append(told(missing)[:2])
            if told(answer)[:2] not in right or told(answer, stranger) != told(missing, nobodys):
                wrong.append((operation.name, place, name, answer.text, missing.text))
    assert not wrong, "\n".join(str(one) for one in wrong)
    assert walked > 45
    assert differences(before, state_of(owner)) == []


@pytest.mark.parametrize("role", [Role.RESELLER, Role.CUSTOMER])
def test_what_a_role_may_not_do_at_all_says_nothing_of_ids(app: FastAPI, owner: Program, role: Role) -> None:
    """With the scopes of the role: 404 where it has the scope; else 403, the same for every id there is or is not."""
    account_id, _ = OUTSIDERS[role.value]
    program = Program(owner.client, make_key(owner.world, account_id, sorted(ROLES[role])), owner.world)
    ids = strangers.make_strangers(owner)
    before = state_of(owner)
    wrong: list[Any] = []
    for operation in operations(app):
        may = operation.scope is None or covers(ROLES[role], operation.scope)
        for place, name, stranger in places(app, operation, ids):
            answer = ask(program, operation, place, name, stranger)
            expected = [(404, "not_found")] if may else [(403, "scope_missing")]
            if may and name == "tariff":
                expected.append((403, "not_allowed"))
            nobodys = ask(program, operation, place, name, NOBODYS[type(stranger)])
            if told(answer)[:2] not in expected or (not may and answer.text != nobodys.text):
                wrong.append((operation.name, place, name, answer.text, nobodys.text))
    assert not wrong, "\n".join(str(one) for one in wrong)
    assert differences(before, state_of(owner)) == []


def test_the_strangers_things_are_there(app: FastAPI, owner: Program) -> None:
    """Whoever may see them finds every one of them by the same addresses: the walk is not past things that are not."""
    ids = strangers.make_strangers(owner)
    seen = set()
    for operation in operations(app):
        found = path_ids(operation)
        if operation.method == "GET" and found and operation.path.endswith("}"):
            ((kind, name),) = found
            answer = owner.get(operation.address(**{name: ids[kind]}))
            assert answer.status_code == 200, (operation.name, answer.text)
            seen.add(kind)
    assert seen >= {"accounts", "cdrs", "calls", "keys", "users", "webhooks", "tariffs", "transactions"}
