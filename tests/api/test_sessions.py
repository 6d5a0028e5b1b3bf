"""Sessions of people in the panel, and their second factor, over the API."""

from __future__ import annotations

import pyotp
from sqlmodel import select

from billing import second_factor, users
from billing.models import AuditRow, SecondFactor, User, UserSession
from billing.store import work
from tests.api.conftest import BLUEBIRD, Program, make_key
from tests.api.store_state import differences, state_of
from tests.api.test_resources import error
from tests.web.world import PASSWORD, World


def person(world: World, login: str) -> int:
    """Return the number of a person."""
    with work(world.engine) as session:
        return session.exec(select(User.id).where(User.login == login)).one() or 0


def log_in(world: World, login: str, address: str) -> str:
    """Log a person in; return the session's token."""
    with work(world.engine) as session:
        found = users.log_in(
            session, login, PASSWORD, ids=world.ids, now=world.clock.now(), address=address, agent="Firefox"
        )
    assert found is not None
    return found[1]


def stands(world: World, token: str) -> bool:
    """Return whether a session still opens something."""
    with work(world.engine) as session:
        return users.find_session(session, token, now=world.clock.now()) is not None


def test_sessions_are_listed_and_ended(reseller: Program) -> None:
    """Newest first, with where they came from, never a token; one is ended, the other stands; then all are."""
    world = reseller.world
    first = log_in(world, "anna", "203.0.113.1")
    world.clock.move(60)
    second = log_in(world, "anna", "203.0.113.2")
    number = person(world, "anna")
    listed = reseller.get(f"/users/{number}/sessions")
    told = listed.json()["items"]
    assert [(one["address"], one["agent"], one["user_id"]) for one in told] == [
        ("203.0.113.2", "Firefox", number),
        ("203.0.113.1", "Firefox", number),
    ]
    assert first not in listed.text
    assert world.rows(UserSession)[0].csrf not in listed.text
    assert reseller.ask("DELETE", f"/users/{number}/sessions/{told[1]['id']}").status_code == 204
    assert (stands(world, first), stands(world, second)) == (False, True)
    before = state_of(reseller)
    assert error(reseller.ask("DELETE", f"/users/{number}/sessions/{told[1]['id']}")) == (404, "not_found")
    # Under somebody else's number it is no session.
    assert error(reseller.ask("DELETE", f"/users/{person(world, 'blue')}/sessions/{told[0]['id']}")) == (
        404,
        "not_found",
    )
    assert differences(before, state_of(reseller)) == []
    log_in(world, "anna", "203.0.113.3")
    ended = reseller.ask("DELETE", f"/users/{number}/sessions")
    assert ended.json() == {"user_id": number, "ended": 2}
    assert not stands(world, second)
    assert world.rows(UserSession) == []
    rows = [row for row in world.rows(AuditRow) if row.action == "user.session_end"]
    assert [row.before["address"] for row in rows] == ["203.0.113.1", "203.0.113.2", "203.0.113.3"]
    assert {row.actor.partition("-")[0] for row in rows} == {"key:callctl"}


def test_a_second_factor_is_taken_away_by_who_may_as_much(owner: Program, reseller: Program, world: World) -> None:
    """The person logs in without it again, and their sessions end; a key that may less than they is refused."""
    number = person(world, "blue")
    now = world.clock.now()
    with work(world.engine) as session:
        secret, _ = second_factor.begin(session, number, "blue", ids=world.ids, now=now)
        code = pyotp.TOTP(secret).at(now)
        assert second_factor.confirm(session, number, code, actor="blue", ids=world.ids, now=now)
    token = log_in(world, "blue", "203.0.113.1")
    weak = Program(owner.client, make_key(world, BLUEBIRD, ["users:write"]), world)
    weak.get("/me")
    before = state_of(owner)
    assert error(weak.ask("DELETE", f"/users/{number}/second-factor")) == (403, "not_allowed")
    assert differences(before, state_of(owner)) == []
    assert owner.get(f"/users/{number}").json()["second_factor"] is True
    assert reseller.ask("DELETE", f"/users/{number}/second-factor").status_code == 204
    assert owner.get(f"/users/{number}").json()["second_factor"] is False
    assert (world.rows(SecondFactor), stands(world, token)) == ([], False)
