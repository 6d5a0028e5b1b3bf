"""Changing what is there: a tariff, a webhook, an address that is written to, a key; each from what was read of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

from billing.events import deliveries
from billing.events.emit import emit
from billing.events.kinds import EventKind
from billing.models import ApiKey, AuditRow, Delivery, Event, Listener, Tariff, TariffOwner
from billing.store import work
from tests.api.conftest import ANNA, BLUEBIRD, DELTA, OPERATOR, Program, make_key
from tests.api.store_state import differences, state_of
from tests.api.test_resources import error
from tests.web.world import World

HOOK = {"url": "https://hooks.example.com/x", "events": ["balance.low"]}
LETTER = {"address": "anna@example.com", "events": ["balance.low"], "account_id": ANNA}


def patch(program: Program, path: str, body: dict[str, Any], tag: str = "*") -> Any:
    """Send a change made from what has this tag."""
    return program.ask("PATCH", path, json=body, headers={"if-match": tag})


def noted(world: World, action: str) -> list[tuple[Any, Any]]:
    """Return before and after of each row of the audit log about this."""
    return [(row.before, row.after) for row in world.rows(AuditRow) if row.action == action]


def make_all(program: Program) -> dict[str, dict[str, Any]]:
    """Make one of each; return by address a change that is right."""
    tariff = program.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"]
    hook = program.post("/webhooks", HOOK).json()["id"]
    letter = program.post("/mail-addresses", LETTER).json()["id"]
    key = program.post("/keys", {"name": "robot", "scopes": ["money:read"]}).json()["id"]
    return {
        f"/tariffs/{tariff}": {"name": "retail 2027"},
        f"/webhooks/{hook}": {"paused": True},
        f"/mail-addresses/{letter}": {"language": "de"},
        f"/keys/{key}": {"name": "billing robot"},
    }


def test_a_change_names_what_it_was_made_from(reseller: Program) -> None:
    """Without a tag 428, with that of before 412 and nothing has moved; with the one that was read it is done."""
    for path, change in make_all(reseller).items():
        tag = reseller.get(path).headers["etag"]
        before = state_of(reseller)
        assert error(reseller.ask("PATCH", path, json=change)) == (428, "if_match_missing"), path
        assert error(patch(reseller, path, change, '"of-before"')) == (412, "etag_mismatch"), path
        assert differences(before, state_of(reseller)) == []
        done = patch(reseller, path, change, tag)
        assert done.status_code == 200, done.text
        assert done.headers["etag"] != tag
        assert reseller.get(path).headers["etag"] == done.headers["etag"]
        assert reseller.get(path).json() == done.json()
        before = state_of(reseller)
        stale = patch(reseller, path, change, tag)
        assert (error(stale), stale.headers["etag"]) == ((412, "etag_mismatch"), done.headers["etag"])
        # What is so already leaves no trace.
        assert patch(reseller, path, change, done.headers["etag"]).status_code == 200
        assert patch(reseller, path, {}, done.headers["etag"]).status_code == 200
        assert differences(before, state_of(reseller)) == []


def test_what_was_made_has_the_tag_that_is_read(reseller: Program) -> None:
    """The answer to making a thing is enough to change it."""
    for path, body in (
        ("/tariffs", {"name": "retail", "currency": "EUR"}),
        ("/webhooks", HOOK),
        ("/mail-addresses", LETTER),
        ("/keys", {"name": "robot", "scopes": ["money:read"], "expires_at": "2099-01-01T00:00:00Z"}),
    ):
        made = reseller.post(path, body)
        assert reseller.get(f"{path}/{made.json()['id']}").headers["etag"] == made.headers["etag"], path


# -- tariffs


def test_a_tariff_gets_another_name(owner: Program) -> None:
    """The accounts it charges stay with it, a new import finds it under its new name, and the audit log has both."""
    number = owner.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"]
    owner.post("/tariffs", {"name": "other", "currency": "EUR"})
    assert patch(owner, f"/accounts/{DELTA}", {"tariff": "retail"}).status_code == 200
    assert patch(owner, f"/tariffs/{number}", {"name": "retail 2027"}).json()["name"] == "retail 2027"
    assert owner.get(f"/accounts/{DELTA}").json()["tariff"] == "retail 2027"
    assert noted(owner.world, "tariff.rename") == [({"name": "retail"}, {"name": "retail 2027"})]
    before = state_of(owner)
    assert error(patch(owner, f"/tariffs/{number}", {"name": "other"})) == (409, "conflict")
    assert error(patch(owner, f"/tariffs/{number}", {"name": " x"})) == (409, "refused")
    assert error(patch(owner, f"/tariffs/{number}", {"name": None})) == (422, "invalid")
    assert error(patch(owner, f"/tariffs/{number}", {"currency": "USD"})) == (422, "invalid")
    assert differences(before, state_of(owner)) == []


def test_a_tariff_is_given_to_a_reseller_and_taken_back(owner: Program, reseller: Program) -> None:
    """The operator gives and takes; a reseller gives its own to nobody beside it, and takes none from above."""
    number = owner.post("/tariffs", {"name": "bluebird", "currency": "EUR"}).json()["id"]
    path = f"/tariffs/{number}"
    assert error(patch(reseller, path, {"name": "mine"})) == (404, "not_found")
    given = patch(owner, path, {"owner_id": BLUEBIRD})
    assert (given.status_code, given.json()["owner_id"]) == (200, BLUEBIRD)
    assert reseller.get(path).json()["owner_id"] == BLUEBIRD
    assert patch(reseller, path, {"name": "mine"}).json()["name"] == "mine"
    before = state_of(owner)
    assert error(patch(owner, path, {"owner_id": ANNA})) == (409, "refused")
    assert error(patch(reseller, path, {"owner_id": DELTA})) == (404, "not_found")
    assert error(patch(reseller, path, {"owner_id": None})) == (409, "refused")
    assert differences(before, state_of(owner)) == []
    assert patch(owner, path, {"owner_id": None}).json()["owner_id"] is None
    assert owner.world.rows(TariffOwner) == []


def test_a_tariff_of_who_charges_is_not_renamed(owner: Program, reseller: Program) -> None:
    """A reseller sees the tariff it is charged by, and changes nothing of it."""
    number = owner.post("/tariffs", {"name": "wholesale", "currency": "EUR"}).json()["id"]
    patch(owner, f"/accounts/{BLUEBIRD}", {"tariff": "wholesale"})
    assert error(patch(reseller, f"/tariffs/{number}", {"name": "x"})) == (403, "not_allowed")
    assert [row.name for row in owner.world.rows(Tariff)] == ["wholesale"]


# -- webhooks and letters


def test_a_webhook_posts_elsewhere_and_other_events(reseller: Program) -> None:
    """URL and events under the rules for a new one; the secret stays; what is refused changes nothing."""
    made = reseller.post("/webhooks", HOOK).json()
    path = f"/webhooks/{made['id']}"
    reseller.post("/webhooks", HOOK | {"url": "https://hooks.example.com/second"})
    changed = patch(reseller, path, {"url": "https://hooks.example.com/new", "events": ["call.ended", "balance.low"]})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["url"], changed.json()["events"]) == (
        "https://hooks.example.com/new",
        ["balance.low", "call.ended"],
    )
    assert "secret" not in changed.json()
    assert reseller.world.rows(Listener)[0].secret == made["secret"]
    assert noted(reseller.world, "listener.set") == [
        (
            {"address": HOOK["url"], "kinds": ["balance.low"]},
            {"address": "https://hooks.example.com/new", "kinds": ["balance.low", "call.ended"]},
        )
    ]
    before = state_of(reseller)
    for body, code in (
        ({"url": "ftp://x"}, (409, "refused")),
        ({"url": "https://hooks.example.com/second"}, (409, "refused")),
        ({"url": "https://user:secret@hooks.example.com/"}, (409, "refused")),
        ({"events": []}, (422, "invalid")),
        ({"events": ["sun.set"]}, (422, "invalid")),
        ({"subtree": False}, (422, "invalid")),
        ({"account_id": BLUEBIRD}, (422, "invalid")),
    ):
        assert error(patch(reseller, path, body)) == code, body
    assert differences(before, state_of(reseller)) == []


def test_a_webhook_that_is_off_is_told_nothing(reseller: Program) -> None:
    """What happens while it is off is not posted; what waited is, once it is on again, to where it posts then."""
    world = reseller.world
    path = f"/webhooks/{reseller.post('/webhooks', HOOK).json()['id']}"

    def tell(key: str) -> list[str]:
        now = world.clock.now()
        with work(world.engine) as session:
            emit(session, EventKind.BALANCE_LOW, [(key, ANNA, {"message": "low"})], now=now)
            deliveries.spread(session, now=now)
        with work(world.engine) as session:
            return [due.address for due in deliveries.claim(session, "me", now=now)]

    with work(world.engine) as session:
        emit(session, EventKind.BALANCE_LOW, [("1", ANNA, {"message": "low"})], now=world.clock.now())
        deliveries.spread(session, now=world.clock.now())
    off = patch(reseller, path, {"paused": True}).json()
    assert off["paused_at"] == "2026-11-23T12:00:00Z"
    assert tell("2") == []
    with work(world.engine) as session:
        assert not deliveries.anything_due(session, world.clock.now())
    on = patch(reseller, path, {"paused": False, "url": "https://hooks.example.com/new"}).json()
    assert on["paused_at"] is None
    assert tell("3") == ["https://hooks.example.com/new"] * 2
    assert [row.key for row in world.rows(Event)] == ["balance.low:1", "balance.low:3"]
    assert len(world.rows(Delivery)) == 2


def test_letters_are_asked_for_changed_and_ended(reseller: Program, customer: Program) -> None:
    """Whose, of what, in which language; a webhook's number is none of theirs, nor theirs a webhook's."""
    made = reseller.post("/mail-addresses", LETTER | {"language": "de"})
    assert made.status_code == 201, made.text
    path = made.headers["location"].removeprefix("/api/v1")
    assert (made.json()["account"], made.json()["language"], made.json()["subtree"]) == ("Anna's Bakery", "de", False)
    changed = patch(reseller, path, {"address": "office@example.com", "events": ["topup.created"], "subtree": True})
    assert (changed.json()["address"], changed.json()["events"], changed.json()["subtree"]) == (
        "office@example.com",
        ["topup.created"],
        True,
    )
    hook = reseller.post("/webhooks", HOOK).json()["id"]
    number = made.json()["id"]
    assert [one["id"] for one in reseller.get("/mail-addresses").json()["items"]] == [number]
    assert [one["id"] for one in reseller.get("/webhooks").json()["items"]] == [hook]
    before = state_of(reseller)
    assert error(reseller.get(f"/mail-addresses/{hook}")) == (404, "not_found")
    assert error(reseller.ask("DELETE", f"/mail-addresses/{hook}")) == (404, "not_found")
    assert error(patch(reseller, f"/webhooks/{number}", {"paused": True})) == (404, "not_found")
    assert error(reseller.post("/mail-addresses", LETTER | {"address": "nobody"})) == (409, "refused")
    assert error(reseller.post("/mail-addresses", LETTER | {"language": "tlh"})) == (409, "refused")
    assert error(reseller.post("/mail-addresses", LETTER | {"account_id": DELTA})) == (404, "not_found")
    assert error(patch(reseller, path, {"address": "no one"})) == (409, "refused")
    assert error(customer.get("/mail-addresses")) == (403, "scope_missing")
    assert differences(before, state_of(reseller)) == []
    assert reseller.ask("DELETE", path).status_code == 204
    assert reseller.get("/mail-addresses").json()["items"] == []
    assert reseller.get(path).json()["ended_at"] is not None
    before = state_of(reseller)
    assert error(patch(reseller, path, {"paused": True})) == (409, "refused")
    assert differences(before, state_of(reseller)) == []


# -- keys


def test_a_key_is_changed_and_its_secret_stays(reseller: Program) -> None:
    """Name, networks, expiry and scopes; it opens with the same text, and only from where it may be used."""
    made = reseller.post("/keys", {"name": "robot", "account_id": ANNA, "scopes": ["money:read"]}).json()
    robot = Program(reseller.client, made["key"], reseller.world)
    path = f"/keys/{made['id']}"
    assert robot.get(f"/accounts/{ANNA}/balance").status_code == 200
    changed = patch(
        reseller,
        path,
        {"name": "till", "allow_from": ["198.51.100.0/24"], "expires_at": "2026-12-01T00:00:00+01:00"},
    ).json()
    assert (changed["name"], changed["allow_from"]) == ("till", ["198.51.100.0/24"])
    assert changed["expires_at"] == "2026-11-30T23:00:00Z"
    assert changed["scopes"] == ["money:read"]
    assert error(robot.get("/me")) == (403, "key_not_from_here")
    assert noted(reseller.world, "key.set") == [
        (
            {"name": "robot", "allow_from": [], "expires_at": None},
            {"name": "till", "allow_from": ["198.51.100.0/24"], "expires_at": "2026-11-30T23:00:00+00:00"},
        )
    ]
    patch(reseller, path, {"allow_from": [], "scopes": ["calls:read"]})
    assert error(robot.get(f"/accounts/{ANNA}/balance")) == (403, "scope_missing")
    assert robot.get("/calls").status_code == 200
    reseller.world.clock.at += timedelta(days=8)
    assert error(robot.get("/me")) == (401, "key_expired")
    assert patch(reseller, path, {"expires_at": None}).json()["expires_at"] is None
    assert robot.get("/me").status_code == 200
    tag = reseller.get(path).headers["etag"]
    reseller.world.clock.move(120)
    robot.get("/me")
    assert reseller.get(path).headers["etag"] == tag


def test_a_key_gets_no_scope_that_its_giver_lacks(reseller: Program, owner: Program, world: World) -> None:
    """Neither one that the giver has not, nor one that its account cannot have; nor is a mightier key touched."""
    made = reseller.post("/keys", {"name": "robot", "account_id": ANNA, "scopes": ["money:read"]}).json()
    path = f"/keys/{made['id']}"
    weak = Program(owner.client, make_key(world, BLUEBIRD, ["keys:write", "money:read"]), world)
    mighty = reseller.post("/keys", {"name": "shop", "scopes": ["money:write"]}).json()["id"]
    weak.get("/me")
    before = state_of(owner)
    for program, address, body, code in (
        (weak, path, {"scopes": ["money:write"]}, (403, "not_allowed")),
        (weak, path, {"scopes": ["calls:read"]}, (403, "not_allowed")),
        (weak, f"/keys/{mighty}", {"expires_at": None}, (403, "not_allowed")),
        (weak, f"/keys/{mighty}", {"scopes": ["money:read"]}, (403, "not_allowed")),
        (reseller, path, {"scopes": ["audit:read"]}, (403, "not_allowed")),
        (owner, path, {"scopes": ["keys:write"]}, (409, "refused")),
        (reseller, path, {"scopes": []}, (422, "invalid")),
        (owner, path, {"scopes": ["sun:shine"]}, (403, "not_allowed")),
        (reseller, path, {"expires_at": "2026-11-23T12:00:00Z"}, (409, "refused")),
        (reseller, path, {"allow_from": ["here"]}, (409, "refused")),
        (reseller, path, {"name": " x"}, (409, "refused")),
        (reseller, path, {"account_id": DELTA}, (422, "invalid")),
        (reseller, path, {"revoked_at": None}, (422, "invalid")),
    ):
        assert error(patch(program, address, body)) == code, body
    assert differences(before, state_of(owner)) == []
    assert patch(weak, path, {"name": "till"}).status_code == 200
    reseller.ask("DELETE", path)
    before = state_of(owner)
    assert error(patch(reseller, path, {"name": "again"})) == (409, "refused")
    assert differences(before, state_of(owner)) == []


def test_a_key_of_somebody_else_is_not_there(reseller: Program, owner: Program) -> None:
    """To be changed as little as to be seen: in the words for one that nobody has."""
    with work(owner.world.engine) as session:
        theirs = session.exec(select(ApiKey.public_id).where(ApiKey.account_id == OPERATOR)).first()
    assert error(patch(reseller, f"/keys/{theirs}", {"name": "x"})) == (404, "not_found")


# -- people


@pytest.mark.parametrize("path", ["/users/999", "/users/1"])
def test_administrators_are_out_of_a_resellers_reach(reseller: Program, path: str) -> None:
    """Their second factor and their sessions too: answered like a number that nobody has."""
    before = state_of(reseller)
    for method, part in (("DELETE", "/second-factor"), ("GET", "/sessions"), ("DELETE", "/sessions")):
        assert error(reseller.ask(method, f"{path}{part}")) == (404, "not_found")
    assert error(reseller.ask("DELETE", f"{path}/sessions/session-1")) == (404, "not_found")
    assert differences(before, state_of(reseller)) == []
