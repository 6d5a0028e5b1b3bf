"""People, their sessions, their second factor, and the keys of programs, on the panel."""

from __future__ import annotations

import re

import pyotp
import pytest
from fakeredis import FakeServer
from fastapi import FastAPI

from billing.models import ApiKey, AuditRow, RecoveryCode, SecondFactor, User, UserSession
from billing.settings import Settings, WebSettings
from tests.web.conftest import Visitor
from tests.web.world import PASSWORD, World
from web.app import create_app

GUEST = 3


def shown_once(page: str) -> str:
    """Return what a page shows only now."""
    found = re.search(r'class="shown-once[^"]*"[^>]*>([^<]+)<', page)
    assert found is not None, page
    return found[1].strip()


def another(app: FastAPI, world: World) -> Visitor:
    """Return a second browser of the same app."""
    made = Visitor(app, follow_redirects=False, raise_server_exceptions=False, client=("198.51.100.7", 1))
    made.world = world
    return made


def test_a_person_is_invited_and_comes_in(owner: Visitor, app: FastAPI) -> None:
    """The one-time password is shown once and opens the change of it; the audit log knows who invited whom."""
    answer = owner.submit("/people", at="/people", login="bea", role="billing", account="")
    assert answer.status_code == 200
    password = shown_once(answer.text)
    assert password not in owner.get("/people").text
    (row,) = [row for row in owner.world.rows(AuditRow) if row.action == "user.add" and row.actor == "owner"]
    assert row.after == {"login": "bea", "role": "billing", "account_id": None, "must_change": True}
    with another(app, owner.world) as bea:
        bea.log_in("bea", password)
        assert bea.get("/accounts").headers["location"] == "/password"
    for fields, sentence in (
        ({"login": "bea", "role": "billing", "account": ""}, "there is a user"),
        ({"login": "x", "role": "reseller", "account": ""}, "belong"),
        ({"login": "x", "role": "owner", "account": "Bluebird Voice"}, "administrators belong to no account"),
        ({"login": "x", "role": "customer", "account": "Bluebird Voice"}, "is a reseller"),
        ({"login": "x", "role": "customer", "account": "Nobody"}, "there is no account"),
        ({"login": " ", "role": "owner", "account": ""}, "a login is"),
    ):
        refused = owner.submit("/people", at="/people", **fields)
        assert refused.status_code == 422
        assert sentence in refused.text
    assert owner.submit("/people", at="/people", login="x", role="king").status_code == 400
    assert "x" not in [user.login for user in owner.world.rows(User)]


def test_a_disabled_person_is_out_at_once(owner: Visitor, app: FastAPI) -> None:
    """Sessions end, the password opens nothing, enabling lets in again; nobody disables themselves."""
    with another(app, owner.world) as guest:
        guest.log_in("guest")
        assert guest.get("/accounts").status_code == 200
        assert owner.submit(f"/people/{GUEST}/disable").status_code == 303
        assert guest.get("/accounts").status_code == 303
        assert guest.post("/login", data={"login": "guest", "password": PASSWORD}).status_code == 401
        assert owner.submit(f"/people/{GUEST}/enable").status_code == 303
        guest.log_in("guest")
    assert owner.submit("/people/1/disable").status_code == 403
    actions = [row.action for row in owner.world.rows(AuditRow) if row.subject == f"user:{GUEST}"]
    assert actions[-2:] == ["user.disable", "user.enable"]


def test_the_last_owner_stays(owner: Visitor) -> None:
    """With the other owner disabled, the last one can be neither disabled nor given another role."""
    assert owner.submit("/people/2/disable").status_code == 303
    assert owner.submit("/people/1/role", role="support").status_code == 303
    assert "is the last owner" in owner.get("/people/1").text
    assert [user.role for user in owner.world.rows(User) if user.login == "owner"] == ["owner"]
    assert owner.submit("/people/2/enable").status_code == 303
    assert owner.submit("/people/1/role", role="support").status_code == 303
    assert owner.get("/people").status_code == 403


def test_a_password_is_reset(owner: Visitor, app: FastAPI) -> None:
    """The new one works once, the old one not at all, and sessions end."""
    with another(app, owner.world) as guest:
        guest.log_in("guest")
        password = shown_once(owner.submit(f"/people/{GUEST}/password").text)
        assert guest.get("/accounts").status_code == 303
        assert guest.post("/login", data={"login": "guest", "password": PASSWORD}).status_code == 401
        guest.log_in("guest", password)
        assert guest.get("/accounts").headers["location"] == "/password"
    assert password not in str([row.model_dump() for row in owner.world.rows(AuditRow)])


def test_sessions_are_listed_and_ended(owner: Visitor, app: FastAPI) -> None:
    """One's own and, by an owner, another's: each has its address and browser; an ended one is over at once."""
    with another(app, owner.world) as second, another(app, owner.world) as guest:
        second.headers["user-agent"] = "Firefox on a phone <b>"
        second.log_in()
        guest.log_in("guest")
        page = owner.get("/me").text
        assert "198.51.100.7" in page
        assert "Firefox on a phone &lt;b&gt;" in page
        assert "this one" in page
        (handle,) = re.findall(r'name="handle" value="([^"]+)"', page)
        assert owner.submit("/me/sessions/end", handle=handle).status_code == 303
        assert second.get("/accounts").status_code == 303
        assert owner.get("/accounts").status_code == 200
        (guests,) = re.findall(r'name="handle" value="([^"]+)"', owner.get(f"/people/{GUEST}").text)
        # Another's handle is no handle of mine, nor of anybody else.
        assert owner.submit("/me/sessions/end", handle=guests).status_code == 404
        assert owner.submit("/people/2/sessions/end", handle=guests).status_code == 404
        assert guest.get("/accounts").status_code == 200
        assert owner.submit(f"/people/{GUEST}/sessions/end", handle=guests).status_code == 303
        assert guest.get("/accounts").status_code == 303
    tokens = [row.token_hash for row in owner.world.rows(UserSession)]
    assert not any(token[:16] in owner.get("/me").text for token in tokens)


def test_people_of_others_are_nobody(visitor: Visitor) -> None:
    """A reseller sees its own people and its customers', makes no administrators, and finds nobody else."""
    visitor.log_in("blue")
    page = visitor.get("/people").text
    assert re.findall(r'href="/people/\d+"><bdi>([^<]+)</bdi>', page) == ["blue", "anna"]
    assert "billing" not in re.findall(r'<option value="(\w+)"', page)
    assert visitor.submit("/people", at="/people", login="x", role="owner").status_code == 400
    assert visitor.submit("/people", login="x", role="customer", account="Delta Logistics").status_code == 422
    for action in ("", "/role", "/disable", "/enable", "/password", "/second-factor", "/sessions/end"):
        method = "GET" if not action else "POST"
        token = visitor.token()
        for stranger in (1, 2, 3, 999):
            answer = visitor.request(method, f"/people/{stranger}{action}", data={"csrf": token, "role": "owner"})
            assert answer.status_code == 404, (stranger, action)
    made = visitor.submit("/people", at="/people", login="cora", role="customer", account="Copper & Sons")
    assert made.status_code == 200
    assert {user.login: user.account_id for user in visitor.world.rows(User)}["cora"] == 4


# -- the second factor


def code_at(secret: str, visitor: Visitor) -> str:
    """Return what a phone shows now."""
    return pyotp.TOTP(secret).at(visitor.world.clock.now())


def enrol(visitor: Visitor) -> tuple[str, list[str]]:
    """Set up a second factor; return its secret and the recovery codes."""
    page = visitor.get("/second-factor/new").text
    assert "<svg" in page
    secret = shown_once(page).replace(" ", "")
    answer = visitor.submit("/second-factor/new", code=code_at(secret, visitor))
    assert answer.status_code == 200
    return secret, re.findall(r"<li>([a-z2-7-]{19})</li>", answer.text)


def test_a_second_factor_stands_at_the_door(owner: Visitor) -> None:
    """Once it is set up a password opens nothing but the question for the code; a code opens once, an old one never."""
    secret, codes = enrol(owner)
    assert len(set(codes)) == 10
    used = code_at(secret, owner)
    kept = str([row.model_dump() for row in (*owner.world.rows(RecoveryCode), *owner.world.rows(AuditRow))])
    assert secret not in kept
    assert not any(code.replace("-", "") in kept for code in codes)
    assert owner.get("/accounts").status_code == 200, "the session that set it up goes on"
    owner.cookies.clear()
    owner.log_in()
    for path in ("/accounts", "/password", "/second-factor/new", "/me", "/live/board"):
        assert owner.get(path).headers["location"] == "/second-factor", path
    token = owner.token("/second-factor")
    assert (
        owner.post("/password", data={"csrf": token, "old": PASSWORD, "new": "x" * 12, "again": "x" * 12}).headers[
            "location"
        ]
        == "/second-factor"
    )
    replayed = owner.post("/second-factor", data={"csrf": token, "code": used})
    assert (replayed.status_code, "has been used" in replayed.text) == (422, True)
    owner.world.clock.move(30)
    assert owner.post("/second-factor", data={"csrf": token, "code": code_at(secret, owner)}).status_code == 303
    assert owner.get("/accounts").status_code == 200
    owner.cookies.clear()
    owner.log_in()
    again = owner.post("/second-factor", data={"csrf": owner.token("/second-factor"), "code": code_at(secret, owner)})
    assert again.status_code == 422, "the same code in another session"


def test_a_clock_may_be_half_a_minute_off(owner: Visitor) -> None:
    """A code of the step before or after is right; two steps off is wrong."""
    secret, _ = enrol(owner)
    owner.world.clock.move(300)
    totp, now = pyotp.TOTP(secret), int(owner.world.clock.now().timestamp())
    for offset, status in ((-60, 422), (60, 422), (-30, 303), (30, 303), (0, 422)):
        owner.cookies.clear()
        owner.log_in()
        token = owner.token("/second-factor")
        answer = owner.post("/second-factor", data={"csrf": token, "code": totp.at(now + offset)})
        assert answer.status_code == status, offset


def test_a_recovery_code_opens_once(owner: Visitor) -> None:
    """In whatever case and with or without dashes; the second time it is a wrong code."""
    _, codes = enrol(owner)
    for code, status in ((codes[0].upper().replace("-", " "), 303), (codes[0], 422), (codes[1], 303), ("x" * 16, 422)):
        owner.cookies.clear()
        owner.log_in()
        answer = owner.post("/second-factor", data={"csrf": owner.token("/second-factor"), "code": code})
        assert answer.status_code == status
    assert sum(row.used_at is not None for row in owner.world.rows(RecoveryCode)) == 2


def test_guessing_codes_is_slow(owner: Visitor, app: FastAPI) -> None:
    """After five wrong codes even the right one waits, whatever address it comes from."""
    secret, _ = enrol(owner)
    owner.world.clock.move(60)
    with another(app, owner.world) as elsewhere:
        for number in range(5):
            guesser = owner if number % 2 else elsewhere
            guesser.cookies.clear()
            guesser.log_in()
            token = guesser.token("/second-factor")
            assert guesser.post("/second-factor", data={"csrf": token, "code": "000000"}).status_code == 422
        right = owner.post(
            "/second-factor", data={"csrf": owner.token("/second-factor"), "code": code_at(secret, owner)}
        )
        assert right.status_code == 429
    owner.world.clock.move(901)
    right = owner.post("/second-factor", data={"csrf": owner.token("/second-factor"), "code": code_at(secret, owner)})
    assert right.status_code == 303


def test_a_wrong_first_code_sets_up_nothing(owner: Visitor) -> None:
    """Until a code has confirmed it, a secret counts for nothing: nobody locks themselves out."""
    page = owner.get("/second-factor/new").text
    assert owner.submit("/second-factor/new", code="123").status_code == 422
    assert owner.world.rows(SecondFactor)[0].confirmed_at is None
    assert shown_once(owner.get("/second-factor/new").text) == shown_once(page), "the phone keeps its secret"
    owner.cookies.clear()
    owner.log_in()
    assert owner.get("/accounts").status_code == 200


def test_a_second_factor_is_taken_away_for_a_code(owner: Visitor) -> None:
    """Not without one; new recovery codes cost a code as well and end the old ones."""
    secret, codes = enrol(owner)
    owner.world.clock.move(30)
    assert owner.submit("/second-factor/codes", code="000000").status_code == 403
    fresh = owner.submit("/second-factor/codes", code=code_at(secret, owner))
    assert fresh.status_code == 200
    assert not set(codes) & set(re.findall(r"<li>([a-z2-7-]{19})</li>", fresh.text))
    assert owner.submit("/second-factor/remove", code=codes[0]).status_code == 403
    owner.world.clock.move(30)
    assert owner.submit("/second-factor/remove", code=code_at(secret, owner)).status_code == 303
    assert owner.world.rows(SecondFactor) == owner.world.rows(RecoveryCode) == []
    changes = [row.after for row in owner.world.rows(AuditRow) if row.action == "user.second_factor"]
    assert changes == [{"on": True}, {"on": False}]


def test_an_owner_helps_who_lost_the_phone(owner: Visitor, app: FastAPI) -> None:
    """The factor is taken away by somebody with the right to, and the person's sessions end."""
    with another(app, owner.world) as guest:
        guest.log_in("guest")
        enrol(guest)
        assert owner.submit(f"/people/{GUEST}/second-factor").status_code == 303
        assert guest.get("/accounts").status_code == 303
        guest.log_in("guest")
        assert guest.get("/accounts").status_code == 200


def test_a_role_may_have_to_have_one(world: World, redis_server: FakeServer) -> None:
    """Where the settings say so a role's people set one up before the panel opens; others need none."""
    assert redis_server.connected
    settings = Settings(web=WebSettings(second_factor_for="owner, billing"))
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)
    with another(app, world) as owner:
        owner.log_in()
        for path in ("/", "/accounts", "/keys"):
            assert owner.get(path).headers["location"] == "/second-factor/new"
        enrol(owner)
        assert owner.get("/accounts").status_code == 200
        owner.cookies.clear()
        owner.log_in("guest")
        assert owner.get("/accounts").status_code == 200
    with pytest.raises(ValueError, match="king"):
        WebSettings(second_factor_for="king")


# -- keys


def test_a_key_is_made_shown_once_and_revoked(owner: Visitor) -> None:
    """What the form says is what the key may; its text is on one answer and nowhere else."""
    fields = {"scope-money": "write", "scope-cdrs": "read", "account": "Bluebird Voice", "days": "30"}
    answer = owner.submit("/keys", at="/keys", name="robot", allow_from="203.0.113.0/24, 10.0.0.1", **fields)
    assert answer.status_code == 200
    token = shown_once(answer.text)
    (key,) = owner.world.rows(ApiKey)
    assert token.startswith(f"{key.public_id}.")
    assert (key.account_id, key.scopes, key.allow_from) == (
        2,
        ["money:write", "cdrs:read"],
        ["203.0.113.0/24", "10.0.0.1/32"],
    )
    page = owner.get("/keys").text
    assert "robot" in page
    assert token not in page
    headers = {"authorization": f"Bearer {token}"}
    assert owner.get("/api/v1/me", headers=headers).status_code == 200
    assert owner.submit(f"/keys/{key.public_id}/revoke").status_code == 303
    assert owner.get("/api/v1/me", headers=headers).json()["code"] == "key_revoked"
    assert token.partition(".")[2] not in str([row.model_dump() for row in owner.world.rows(AuditRow)])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "robot"}, "without scopes"),
        ({"name": "", "scope-money": "read"}, "name is 1 to"),
        ({"name": "robot", "scope-money": "read", "days": "0"}, "Days are"),
        ({"name": "robot", "scope-money": "read", "days": "x"}, "Days are"),
        ({"name": "robot", "scope-money": "read", "allow_from": "home"}, "an IP address"),
        ({"name": "robot", "scope-money": "read", "account": "Nobody"}, "there is no account"),
        ({"name": "robot", "scope-audit": "read", "account": "Bluebird Voice"}, "cannot have audit:read"),
    ],
)
def test_a_bad_key_is_not_made(owner: Visitor, fields: dict[str, str], sentence: str) -> None:
    """The form says what is wrong and keeps what was typed."""
    answer = owner.submit("/keys", at="/keys", **fields)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert owner.world.rows(ApiKey) == []


def test_nobody_gives_away_what_they_have_not(visitor: Visitor) -> None:
    """A reseller's person makes keys for its subtree with what a reseller may, and no others."""
    visitor.log_in("blue")
    assert visitor.submit("/keys", at="/keys", name="x", **{"scope-audit": "read"}).status_code == 403
    assert visitor.submit("/keys", name="x", account="Delta Logistics", **{"scope-money": "read"}).status_code == 422
    assert visitor.world.rows(ApiKey) == []
    assert visitor.submit("/keys", name="x", **{"scope-money": "write"}).status_code == 200
    assert visitor.world.rows(ApiKey)[0].account_id == 2
