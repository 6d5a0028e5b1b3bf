"""Roles: what each may do, and that people of an account see their part of the tree and nothing else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import update
from sqlmodel import col

from billing.access import ROLES, SCOPES, Role
from billing.models import AuditRow, OutboxRow, Posting, User
from billing.store import work
from tests.web.conftest import Visitor
from tests.web.test_security import every_route
from tests.web.world import add_record, refused
from web.app import PUBLIC_PATHS

OPERATOR, BLUEBIRD, ANNA, COPPER, DELTA = 1, 2, 3, 4, 5
OWN_LOGIN = {"/", "/logout", "/password", "/me", "/me/sessions/end"}
"""What everybody with a session may use: one's own login, and the way in."""


def state(visitor: Visitor) -> tuple[int, ...]:
    """Return what a refused request must not move."""
    return tuple(len(visitor.world.rows(table)) for table in (AuditRow, Posting, OutboxRow))


def guards_of(route: APIRoute) -> set[str]:
    """Return the permissions that a route asks for."""
    found: set[str] = set()
    waiting = [route.dependant]
    while waiting:
        one = waiting.pop()
        scope = getattr(one.call, "scope", None)
        found |= {scope} if scope else set()
        waiting.extend(one.dependencies)
    return found


def panel_routes(routes: Any) -> list[APIRoute]:
    """Return the routes of the panel, included ones too."""
    found = []
    for route in routes:
        if isinstance(route, APIRoute):
            found.append(route)
        elif getattr(route, "original_router", None) is not None:
            found += panel_routes(route.original_router.routes)
    return found


def test_every_page_asks_for_a_permission(app: FastAPI) -> None:
    """No route of the panel is open to whoever is logged in, but those of one's own login; a change asks to write."""
    walked = [route for route in panel_routes(app.routes) if route.path not in PUBLIC_PATHS]
    assert len(walked) == len([path for _, path in every_route(app.routes) if path not in PUBLIC_PATHS])
    for route in walked:
        if route.path in OWN_LOGIN or route.path.startswith("/second-factor"):
            continue
        scopes = guards_of(route)
        assert scopes, route.path
        assert scopes <= set(SCOPES)
        if route.methods == {"POST"}:
            assert all(scope.endswith(":write") for scope in scopes), route.path


@pytest.mark.parametrize("role", [role for role in Role if role not in {Role.RESELLER, Role.CUSTOMER}])
def test_an_administrator_may_what_the_role_says(app: FastAPI, visitor: Visitor, role: Role) -> None:
    """Each route lets a role in exactly where the role has its permission; what is refused leaves no trace."""
    with work(visitor.world.engine) as session:
        session.execute(update(User).where(col(User.login) == "guest").values(role=role.value))
    visitor.log_in("guest")
    token = visitor.token()
    for route in panel_routes(app.routes):
        needed = guards_of(route)
        if not needed:
            continue
        may = all(scope in ROLES[role] or scope.replace(":read", ":write") in ROLES[role] for scope in needed)
        path = re.sub(r"{\w+}", "999", route.path)
        before = state(visitor)
        for method in route.methods or ():
            answer = visitor.request(method, path, data={"csrf": token} if method == "POST" else None)
            assert (answer.status_code == 403) == (not may), (role, method, path, answer.status_code)
        if not may:
            assert state(visitor) == before


def test_a_resellers_person_sees_its_subtree(visitor: Visitor) -> None:
    """Its own account and its customers; the others are as good as none, in the list, by number, by name, as a call."""
    world = visitor.world
    with work(world.engine) as session:
        add_record(session, world, 1, "Anna's Bakery")
        add_record(session, world, 2, "Delta Logistics")
        refused(session, world, 3, "unknown_account", account=None)
    visitor.run(lambda: world.live.put(world.call(1)))
    visitor.run(lambda: world.live.put(world.call(2, "Delta Logistics")))
    visitor.log_in("blue")
    assert visitor.get("/").headers["location"] == "/accounts"
    page = visitor.get("/accounts").text
    assert re.findall(r"<bdi>([^<]+)</bdi></a>", page) == ["Bluebird Voice", "Anna&#39;s Bakery", "Copper &amp; Sons"]
    for text in (visitor.get("/live").text, visitor.get("/cdrs").text):
        assert "Anna&#39;s Bakery" in text
        assert "Delta" not in text
    assert "pbx:000003" not in visitor.get("/cdrs").text
    missing = visitor.get("/accounts/999")
    for stranger in (OPERATOR, DELTA):
        foreign = visitor.get(f"/accounts/{stranger}")
        assert (foreign.status_code, foreign.text) == (404, missing.text)
        assert visitor.get(f"/live/board?account={stranger}").status_code == 404
    for query in ("q=Delta+Logistics", "q=5", "q=Northwind+Telecom", "q=1"):
        assert visitor.get(f"/accounts?{query}").status_code == 404
    assert "No such account" in visitor.get("/cdrs?account=Delta+Logistics").text
    none = visitor.get("/cdrs/record?id=pbx:none")
    for call_id in ("pbx:000002", "pbx:000003"):
        answer = visitor.get(f"/cdrs/record?id={call_id}")
        assert (answer.status_code, answer.text) == (404, none.text)
    assert visitor.get("/cdrs/record?id=pbx:000001").status_code == 200
    assert "Northwind" not in visitor.get(f"/accounts/{BLUEBIRD}").text
    assert visitor.get("/audit").status_code == 403


def test_a_resellers_person_moves_its_own_money_only(visitor: Visitor) -> None:
    """A top-up of its customer comes out of its own wallet; strangers, the operator and itself get nothing."""
    visitor.log_in("blue")
    fields = {"operation": "topup-12345678", "amount": "5"}
    assert visitor.submit(f"/accounts/{ANNA}/topup", **fields).status_code == 303
    assert visitor.world.balance("Anna's Bakery") == 30_000_000
    assert visitor.world.balance("Bluebird Voice") == 470_000_000
    before = state(visitor)
    fields["operation"] = "topup-87654321"
    assert "Add money" not in visitor.get(f"/accounts/{BLUEBIRD}").text
    assert visitor.submit(f"/accounts/{BLUEBIRD}/topup", **fields).status_code == 403
    for stranger in (OPERATOR, DELTA, 999):
        for action in ("topup", "status", "hangup"):
            answer = visitor.submit(f"/accounts/{stranger}/{action}", **fields, status="blocked")
            assert answer.status_code == 404, (stranger, action)
    assert visitor.submit(f"/accounts/{BLUEBIRD}/status", status="blocked").status_code == 409
    assert state(visitor) == before
    assert visitor.submit(f"/accounts/{ANNA}/status", status="blocked").status_code == 303


def test_a_call_of_a_stranger_cannot_be_ended(visitor: Visitor) -> None:
    """For a call out of sight the answer is that of a call that is over, and nobody is asked for anything."""
    world = visitor.world
    call = world.call(2, "Delta Logistics")
    visitor.run(lambda: world.live.put(call))
    visitor.log_in("blue")
    before = state(visitor)
    visitor.submit("/live/hangup", call_id=call.call_id)
    assert "has ended already" in visitor.get("/live").text
    assert state(visitor) == before
    assert visitor.run(lambda: world.redis.keys("*hangups*")) == []


def test_a_customers_person_looks_and_ends_its_calls(visitor: Visitor) -> None:
    """No top-up, no block, no keys, no people; its own calls it may end."""
    world = visitor.world
    visitor.run(lambda: world.live.put(world.call(1)))
    visitor.log_in("anna")
    page = visitor.get(f"/accounts/{ANNA}").text
    assert "25.00" in page
    for button in ("Add money", ">Block<", "Unblock"):
        assert button not in page
    before = state(visitor)
    assert visitor.submit(f"/accounts/{ANNA}/topup", operation="topup-12345678", amount="5").status_code == 403
    assert visitor.submit(f"/accounts/{ANNA}/status", status="active").status_code == 403
    for path in ("/people", "/keys", "/audit"):
        assert visitor.get(path).status_code == 403
    for stranger in (OPERATOR, BLUEBIRD, COPPER, DELTA):
        assert visitor.get(f"/accounts/{stranger}").status_code == 404
    assert state(visitor) == before
    assert visitor.submit(f"/accounts/{ANNA}/hangup").status_code == 303
    assert visitor.run(lambda: world.redis.keys("*hangups*")) != []
