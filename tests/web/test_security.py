"""Who comes in, from where, how often; and what every response says to the browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import update
from sqlmodel import col
from starlette.requests import Request

from billing.models import AuditRow, User, UserSession
from billing.store import work
from tests.web.conftest import Visitor
from tests.web.world import ONE_TIME, PASSWORD, MovingClock, World
from web.app import PUBLIC_PATHS
from web.security.bodies import MOST_BODY_BYTES
from web.security.origin import local_path, same_origin
from web.security.throttle import PER_ADDRESS, PER_LOGIN, WINDOW_S, LoginThrottle, network_of

pytestmark = pytest.mark.filterwarnings("ignore:Setting per-request cookies")


def every_route(routes: Any) -> Iterator[tuple[str, str]]:
    """Walk an app's routes, included routers too."""
    for route in routes:
        if isinstance(route, APIRoute):
            for method in sorted(route.methods or ()):
                yield method, route.path
        elif getattr(route, "original_router", None) is not None:
            yield from every_route(route.original_router.routes)
        else:
            yield "GET", route.path


def test_every_route_that_is_not_public_wants_a_session(app: FastAPI, visitor: Visitor) -> None:
    """Without a session each route but the public ones answers with the way to the login page; nothing changes."""
    before = visitor.world.rows(AuditRow)
    walked = [(method, path) for method, path in every_route(app.routes) if path not in PUBLIC_PATHS]
    assert {"/", "/live", "/live/hangup", "/accounts/{account_id}/topup", "/cdrs/record", "/logout"} <= {
        path for _, path in walked
    }
    for method, template in walked:
        path = re.sub(r"{\w+}", "3", template)
        answer = visitor.request(method, path)
        assert answer.status_code == 303, (method, path)
        assert answer.headers["location"].split("?")[0] == "/login"
        fragment = visitor.request(method, path, headers={"hx-request": "true"})
        assert (fragment.status_code, fragment.headers["hx-redirect"]) == (401, "/login")
    assert visitor.world.rows(AuditRow) == before


def test_a_role_that_is_not_named_may_do_nothing(visitor: Visitor) -> None:
    """A person whose role is none of ours gets 403 everywhere, and can still log out."""
    with work(visitor.world.engine) as session:
        session.execute(update(User).where(col(User.login) == "guest").values(role="janitor"))
    visitor.log_in("guest")
    for path in ("/", "/live", "/accounts", "/cdrs"):
        assert visitor.get(path).status_code == 403
    assert visitor.submit("/logout").status_code == 303


def test_a_one_time_password_opens_only_its_own_change(visitor: Visitor) -> None:
    """Until it is changed every page leads to the change; afterwards it is worth nothing."""
    visitor.log_in("new", ONE_TIME)
    for path in ("/", "/live", "/accounts/3"):
        answer = visitor.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/password")
    for fields, sentence in (
        ({"old": "wrong", "new": "long enough it is", "again": "long enough it is"}, "present password is wrong"),
        ({"old": ONE_TIME, "new": "short", "again": "short"}, "needs 10 to"),
        ({"old": ONE_TIME, "new": "long enough it is", "again": "long enough it was"}, "not the same"),
        ({"old": ONE_TIME, "new": ONE_TIME, "again": ONE_TIME}, "is the old one"),
    ):
        refused = visitor.submit("/password", **fields)
        assert refused.status_code == 422
        assert sentence in refused.text
    assert [user.must_change for user in visitor.world.rows(User) if user.login == "new"] == [True]

    changed = visitor.submit("/password", old=ONE_TIME, new="long enough it is", again="long enough it is")
    assert (changed.status_code, changed.headers["location"]) == (303, "/")
    assert "Your password is changed" in visitor.get("/").text
    assert visitor.get("/live").status_code == 200
    visitor.cookies.clear()
    assert visitor.post("/login", data={"login": "new", "password": ONE_TIME}).status_code == 401


def test_an_unknown_login_is_answered_like_a_wrong_password(visitor: Visitor) -> None:
    """Nobody learns from the answer who has an account."""
    unknown = visitor.post("/login", data={"login": "nobody", "password": "x"})
    wrong = visitor.post("/login", data={"login": "owner", "password": "x"})
    assert unknown.status_code == wrong.status_code == 401
    assert unknown.text.replace("nobody", "owner") == wrong.text
    assert visitor.world.rows(UserSession) == []


def test_guessing_is_slow(visitor: Visitor) -> None:
    """After five failures even the right password waits, from this address; after a quarter of an hour it is heard."""
    for _ in range(PER_LOGIN):
        assert visitor.post("/login", data={"login": "owner", "password": "x"}).status_code == 401
    answer = visitor.post("/login", data={"login": "OWNER", "password": PASSWORD})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "901")
    assert "Too many attempts" in answer.text
    assert visitor.world.rows(UserSession) == []
    visitor.world.clock.move(WINDOW_S + 1)
    visitor.log_in()


def test_the_throttle_counts_addresses_and_stays_small() -> None:
    """Many logins from one address are stopped too; an IPv6 host is its /64; memory is bounded."""
    throttle = LoginThrottle(MovingClock(), most_keys=50)
    for number in range(PER_ADDRESS):
        assert throttle.admit(f"user{number}", "2001:db8::1") == 0
    assert throttle.admit("fresh", "2001:db8::ffff") > 0
    assert throttle.admit("fresh", "2001:db8:0:1::1") == 0
    for number in range(500):
        throttle.admit("x", f"198.51.{number // 250}.{number % 250}")
    assert len(throttle._failures) == 50
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"


def test_success_forgives_only_its_own_login() -> None:
    """Who knows one password does not get more guesses at another."""
    throttle = LoginThrottle(MovingClock())
    for _ in range(PER_LOGIN):
        assert throttle.admit("owner", "192.0.2.1") == 0
    assert throttle.admit("mallory", "192.0.2.1") == 0
    throttle.succeed("mallory", "192.0.2.1")
    assert throttle.admit("owner", "192.0.2.1") > 0


@pytest.mark.parametrize("path", ["/live/hangup", "/accounts/3/topup", "/accounts/3/status", "/logout", "/password"])
def test_a_change_needs_the_sessions_own_token(owner: Visitor, path: str) -> None:
    """Without the token, with another one, or from another site, a POST is refused and nothing happens."""
    before = owner.world.rows(AuditRow)
    fields = {"operation": "topup-000000", "amount": "5", "status": "blocked", "call_id": "pbx:1"}
    token = owner.token()
    assert owner.post(path, data=fields).status_code == 403
    assert owner.post(path, data={**fields, "csrf": token[:-1]}).status_code == 403
    assert owner.post(path, data={**fields, "csrf": "ü"}).status_code == 403
    elsewhere = owner.post(path, data={**fields, "csrf": token}, headers={"sec-fetch-site": "cross-site"})
    assert elsewhere.status_code == 403
    assert owner.world.rows(AuditRow) == before
    assert owner.world.balance("Anna's Bakery") == 25_000_000
    assert owner.get("/live").status_code == 200


def test_a_login_from_another_site_is_refused(visitor: Visitor) -> None:
    """Nobody is logged in as somebody else by a form on another page."""
    form = {"login": "owner", "password": PASSWORD}
    assert visitor.post("/login", data=form, headers={"origin": "https://evil.example"}).status_code == 403
    assert visitor.post("/login", data=form, headers={"origin": "null"}).status_code == 403
    assert visitor.world.rows(UserSession) == []
    assert visitor.post("/login", data=form, headers={"origin": "http://testserver"}).status_code == 303


def test_the_browser_tells_where_a_request_comes_from() -> None:
    """What Sec-Fetch-Site says counts; without it the origin's host must be ours."""

    def asked(**headers: str) -> bool:
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        return same_origin(Request({"type": "http", "headers": raw}))

    assert asked(host="panel:8080", origin="http://panel:8080")
    assert asked(host="panel:8080")
    assert asked(host="inside:80", origin="https://panel.example", sec_fetch_site="same-origin")
    assert not asked(host="panel:8080", origin="http://panel:9090")
    assert not asked(host="panel:8080", sec_fetch_site="same-site")


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [
        ("/live", "/live"),
        ("/cdrs?account=3&day=2026-11-23", "/cdrs?account=3&day=2026-11-23"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/\t/evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nset-cookie: x=y", "/"),
        ("", "/"),
        ("/" + "a" * 600, "/"),
    ],
)
def test_after_the_login_one_stays_here(visitor: Visitor, target: str, goes_to: str) -> None:
    """The way on after a login is a path on this host, whatever the address asked for."""
    assert local_path(target) == goes_to
    answer = visitor.post("/login", data={"login": "owner", "password": PASSWORD, "next": target})
    assert answer.headers["location"] == goes_to


def test_the_cookie_is_kept_from_scripts_and_other_sites(visitor: Visitor) -> None:
    """HttpOnly and SameSite always; over https Secure and bound to this host. Out is out, in the store too."""
    plain = visitor.post("/login", data={"login": "owner", "password": PASSWORD}).headers["set-cookie"]
    assert plain.startswith("callctl_session=")
    assert "HttpOnly" in plain
    assert "SameSite=lax" in plain
    assert "Secure" not in plain
    token = plain.split(";")[0].split("=")[1]
    assert token not in str([row.model_dump() for row in visitor.world.rows(UserSession)])

    assert visitor.submit("/logout").headers["location"] == "/login?out=1"
    assert visitor.world.rows(UserSession) == []
    visitor.cookies.set("callctl_session", token)
    assert visitor.get("/live").status_code == 303

    visitor.base_url = visitor.base_url.copy_with(scheme="https")
    secure = visitor.post("/login", data={"login": "owner", "password": PASSWORD})
    assert secure.headers["set-cookie"].startswith("__Host-callctl_session=")
    assert "Secure" in secure.headers["set-cookie"]
    assert secure.headers["strict-transport-security"] == "max-age=31536000"


def test_a_session_ends_by_itself(owner: Visitor) -> None:
    """After its time a session is nobody's."""
    owner.world.clock.move(13 * 3600)
    assert owner.get("/live").status_code == 303


@pytest.mark.parametrize("path", ["/login", "/nope", "/healthz", "/static/app.js", "/live"])
def test_every_response_forbids_what_no_page_needs(visitor: Visitor, path: str) -> None:
    """Scripts and styles from here only, no frames, no guessing; over plain http no promise of https."""
    headers = visitor.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "strict-transport-security" not in headers


def test_pages_are_not_kept_and_files_are(owner: Visitor) -> None:
    """No cache keeps a page with money on it; a file with its version in its address is kept for good."""
    assert owner.get("/accounts").headers["cache-control"] == "no-store"
    assert "immutable" in owner.get("/static/app.css?v=1").headers["cache-control"]
    assert owner.get("/static/../app.py").status_code == 404
    assert owner.get("/static/%2e%2e/app.py").status_code == 404


def test_a_body_beyond_a_forms_size_is_refused(owner: Visitor) -> None:
    """64 KB end it, whether announced or sent in pieces without a word; the pages keep their headers."""
    large = b"a=" + b"x" * MOST_BODY_BYTES
    announced = owner.post("/live/hangup", content=large)
    in_pieces = owner.post("/live/hangup", content=iter([large[:40_000], large[40_000:]]))
    for answer in (announced, in_pieces):
        assert answer.status_code == 413
        assert answer.headers["x-frame-options"] == "DENY"


def test_a_fault_is_a_page_with_a_number(owner: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected shows no inner words, has its headers, and a number that the log has too."""

    def broken(*_: object, **__: object) -> None:
        raise LookupError("a secret detail")

    monkeypatch.setattr("web.panel.cdrs.search_cdrs", broken)
    answer = owner.get("/cdrs")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "fault-0" in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_unknown_addresses_and_values_get_a_plain_page(owner: Visitor) -> None:
    """404 and 400 and 405 are pages, not dumps."""
    for path, status in (
        ("/nope", 404),
        ("/accounts/999", 404),
        ("/accounts/zero", 400),
        ("/accounts/" + "9" * 30, 400),
    ):
        answer = owner.get(path)
        assert answer.status_code == status, path
        assert "Go to the overview" in answer.text
    assert owner.get("/live/hangup").status_code == 405


def test_a_revoked_session_is_over_at_once(owner: Visitor, world: World) -> None:
    """No memory of a session outlives its row."""
    with work(world.engine) as session:
        for row in world.rows(UserSession):
            session.delete(row)
    assert owner.get("/").status_code == 303
