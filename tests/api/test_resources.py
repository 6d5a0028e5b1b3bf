"""The other resources: accounts, corrections, statements, live calls, tariffs, imports, keys, people, webhooks."""

from __future__ import annotations

from typing import Any

from fakeredis import FakeServer

from billing.credit.live import HangupRequest
from billing.credit.store import Share
from billing.models import ApiKey, AuditRow, LedgerTransaction, Listener, RateRow, TariffOwner, User
from billing.ports import to_ms
from tests.api.conftest import ANNA, BLUEBIRD, COPPER, DELTA, OPERATOR, Program
from tests.api.test_topups import money

DECK = "prefix,destination,connect_fee,price\n49,Germany,0,0.60\n4915,Germany mobile,0.05,1.20\n"


def error(answer: Any) -> tuple[int, str]:
    """Return status and code of a problem."""
    return answer.status_code, answer.json()["code"]


# -- accounts


def test_a_reseller_makes_and_changes_its_customers(reseller: Program) -> None:
    """A new customer hangs below; a change names what it was made from; a stale one is refused and changes nothing."""
    made = reseller.post("/accounts", {"name": "Elm Café", "max_calls": 2, "low_balance": "1.5"})
    assert made.status_code == 201, made.text
    account = made.json()
    assert (account["parent_id"], account["low_balance"], account["currency"]) == (BLUEBIRD, "1.50", "EUR")
    address, tag = made.headers["location"].removeprefix("/api/v1"), made.headers["etag"]
    assert reseller.get(address).headers["etag"] == tag
    change = {"max_calls": 3, "timezone": "Europe/Berlin", "low_balance": None}
    assert error(reseller.ask("PATCH", address, json=change)) == (428, "if_match_missing")
    changed = reseller.ask("PATCH", address, json=change, headers={"if-match": tag})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["max_calls"], changed.json()["low_balance"]) == (3, None)
    stale = reseller.ask("PATCH", address, json={"max_calls": 9}, headers={"if-match": tag})
    assert error(stale) == (412, "etag_mismatch")
    assert reseller.get(address).json()["max_calls"] == 3
    assert reseller.ask("PATCH", address, json={"max_calls": 9}, headers={"if-match": "*"}).status_code == 200
    rows = [row for row in reseller.world.rows(AuditRow) if row.action == "account.set"]
    assert rows[0].before == {"timezone": "UTC", "max_calls": 2, "low_balance_micros": 1_500_000}
    assert rows[0].actor.startswith("key:callctl-")


def test_a_reseller_does_not_change_itself(reseller: Program) -> None:
    """Its own limits are set from above, its brand by itself; it is not its own to block, close or park."""
    own = f"/accounts/{BLUEBIRD}"
    refused = reseller.ask("PATCH", own, json={"credit_limit": "1000"}, headers={"if-match": "*"})
    assert error(refused) == (403, "not_allowed")
    assert reseller.ask("PATCH", own, json={"brand": "Bluebird"}, headers={"if-match": "*"}).status_code == 200
    assert error(reseller.post(f"{own}/status", {"status": "blocked"})) == (409, "refused")
    assert error(reseller.post(f"/accounts/{ANNA}/status", {"status": "parked"})) == (403, "not_allowed")
    account = reseller.get(own).json()
    assert (account["credit_limit"], account["status"], account["parent_id"]) == ("0.00", "active", None)


def test_an_account_below_another_reseller_cannot_be_made(reseller: Program, customer: Program) -> None:
    """A parent out of sight does not exist; names that are taken are conflicts; a customer makes nothing."""
    before = len(reseller.world.rows(AuditRow))
    for parent in (OPERATOR, DELTA, 999):
        assert error(reseller.post("/accounts", {"name": "X", "parent_id": parent})) == (404, "not_found")
    assert error(reseller.post("/accounts", {"name": "Delta Logistics"})) == (409, "conflict")
    assert error(reseller.post("/accounts", {"name": "X", "kind": "operator"})) == (409, "refused")
    assert error(reseller.post("/accounts", {"name": "X", "currency": "XXX"})) == (409, "refused")
    assert error(customer.post("/accounts", {"name": "X"})) == (403, "scope_missing")
    assert len(reseller.world.rows(AuditRow)) == before


def test_identities_come_and_go(reseller: Program) -> None:
    """An identity that is in use is a conflict; freed, another account can have it."""
    path = f"/accounts/{COPPER}/identities"
    assert error(reseller.post(path, {"kind": "account_code", "value": "anna"})) == (409, "conflict")
    network = {"kind": "source_address", "value": "203.0.113.0/24"}
    assert reseller.post(path, network).json()["items"][-1] == {**network, "made_at": None}
    assert reseller.ask("DELETE", f"{path}/source_address/203.0.113.0/24").status_code == 204
    assert error(reseller.ask("DELETE", f"{path}/account_code/anna")) == (404, "not_found")
    assert reseller.ask("DELETE", f"/accounts/{ANNA}/identities/account_code/anna").status_code == 204
    assert reseller.post(path, {"kind": "account_code", "value": "anna"}).status_code == 201


def test_a_status_reaches_the_live_store(reseller: Program) -> None:
    """Blocked is blocked where calls are admitted, before the answer goes out."""
    assert reseller.post(f"/accounts/{ANNA}/status", {"status": "blocked"}).json()["status"] == "blocked"
    assert reseller.run(lambda: reseller.world.redis.hget("{callctl}:a:3", "status")) == "blocked"
    assert reseller.post(f"/accounts/{ANNA}/status", {"status": "active"}).status_code == 200


# -- money


def test_what_calls_hold_is_not_there_to_give(reseller: Program) -> None:
    """Of 475 the reseller's live calls hold 470: a top-up of 10 is refused, one of 5 is not; the balance says why."""
    world = reseller.world
    wallet = world.wallet_id("Bluebird Voice")
    now_ms = to_ms(world.clock.now())
    share = Share(wallet, BLUEBIRD, 470_000_000)
    reseller.run(lambda: world.credit.hold("pbx:9", [share], now_ms=now_ms, deadline_ms=now_ms + 60_000, facts="{}"))
    told = reseller.get(f"/accounts/{BLUEBIRD}/balance").json()
    assert (told["balance"], told["held"], told["available"], told["live"]) == ("475.00", "470.00", "5.00", True)
    (hold,) = reseller.get(f"/accounts/{BLUEBIRD}/holds").json()["items"]
    assert (hold["call_id"], hold["amount"], hold["deadline_at"]) == ("pbx:9", "470.00", "2026-11-23T12:01:00Z")
    before = money(reseller)
    refused = reseller.post(f"/accounts/{ANNA}/topups", {"amount": "10"}, once="much")
    assert error(refused) == (409, "refused")
    assert money(reseller) == before
    assert reseller.post(f"/accounts/{ANNA}/topups", {"amount": "5"}, once="little").status_code == 201


def test_a_transfer_comes_back_up(reseller: Program, owner: Program) -> None:
    """A reseller takes its own money back, no more than there is; strangers and others' money are out of reach."""
    back = {"from_account_id": ANNA, "to_account_id": BLUEBIRD, "amount": "5"}
    done = reseller.post("/transfers", back, once="back")
    assert (done.status_code, done.json()["balance"]) == (201, "20.00")
    before = money(reseller)
    assert error(reseller.post("/transfers", back | {"amount": "20.01"}, once="more")) == (409, "refused")
    for giver, taker in ((DELTA, BLUEBIRD), (BLUEBIRD, DELTA), (999, BLUEBIRD), (OPERATOR, BLUEBIRD)):
        body = {"from_account_id": giver, "to_account_id": taker, "amount": "1"}
        assert error(reseller.post("/transfers", body, once=f"{giver}-{taker}")) == (404, "not_found")
    aside = {"from_account_id": ANNA, "to_account_id": COPPER, "amount": "1"}
    assert error(reseller.post("/transfers", aside, once="aside")) == (403, "not_allowed")
    assert error(owner.post("/transfers", aside, once="aside")) == (409, "refused")
    assert money(reseller) == before


def test_a_correction_is_the_operators(owner: Program, reseller: Program, reader: Program) -> None:
    """An adjustment has a reason; a transaction is reversed once; nobody below or who only reads may."""
    given = owner.post(f"/accounts/{DELTA}/adjustments", {"amount": "-80.00", "reason": "typo"}, once="a")
    assert (given.status_code, given.json()["balance"]) == (201, "0.00")
    number = given.json()["transaction_id"]
    told = owner.get(f"/transactions/{number}").json()
    assert [(line["kind"], line["amount"]) for line in told["postings"]] == [
        ("money", "-80.00"),
        ("adjustment", "80.00"),
    ]
    undone = owner.post(f"/transactions/{number}/reversals", {"reason": "it was right"}, once="b")
    assert (undone.status_code, undone.json()["reverses_id"]) == (201, number)
    assert owner.world.balance("Delta Logistics") == 80_000_000
    before = money(owner)
    again = owner.post(f"/transactions/{number}/reversals", {"reason": "again"}, once="c")
    assert error(again) == (409, "refused")
    assert error(owner.post("/transactions/99999/reversals", {"reason": "x"}, once="d")) == (404, "not_found")
    assert error(owner.post(f"/accounts/{DELTA}/adjustments", {"amount": "5"}, once="e")) == (422, "invalid")
    for program in (reseller, reader):
        answer = program.post(f"/accounts/{ANNA}/adjustments", {"amount": "5", "reason": "x"}, once="f")
        assert error(answer) == (403, "scope_missing")
    assert money(owner) == before
    missing = reseller.get("/transactions/99999")
    foreign = reseller.get(f"/transactions/{number}")
    assert foreign.text.replace(f"transaction {number}", "transaction 99999") == missing.text


def test_a_transaction_shows_ones_own_side(reseller: Program, customer: Program) -> None:
    """Of a top-up both sides are in the reseller's sight, and the customer sees its own."""
    reseller.post(f"/accounts/{ANNA}/topups", {"amount": "5"}, once="a")
    number = max(row.id for row in reseller.world.rows(LedgerTransaction))
    assert len(reseller.get(f"/transactions/{number}").json()["postings"]) == 2
    assert [one["account_id"] for one in customer.get(f"/transactions/{number}").json()["postings"]] == [ANNA]


def test_a_statement_adds_up(reseller: Program, customer: Program) -> None:
    """Opening and lines make closing, in pages; a month that is none is refused."""
    reseller.post(f"/accounts/{ANNA}/topups", {"amount": "5", "reason": "cash"}, once="a")
    reseller.post(f"/accounts/{ANNA}/topups", {"amount": "2.5"}, once="b")
    told = customer.get(f"/accounts/{ANNA}/statement?month=2026-11&most=1").json()
    assert (told["opening"], told["closing"]) == ("25.00", "32.50")
    assert [(line["amount"], line["balance"], line["what"]) for line in told["items"]] == [("5.00", "30.00", "cash")]
    rest = customer.get(f"/accounts/{ANNA}/statement?month=2026-11&after={told['next']}").json()
    assert ([line["balance"] for line in rest["items"]], rest["next"]) == (["32.50"], None)
    assert error(customer.get(f"/accounts/{ANNA}/statement?month=2026-13")) == (422, "invalid")
    assert error(customer.get(f"/accounts/{BLUEBIRD}/statement")) == (404, "not_found")


# -- live calls


def test_live_calls_are_seen_and_ended_in_ones_own_subtree(reseller: Program, owner: Program) -> None:
    """A call of the subtree is listed and ended, and the audit log has it; another's is not there."""
    world = reseller.world
    own, other = world.call(1), world.call(2, "Delta Logistics")
    for call in (own, other):
        reseller.run(lambda call=call: world.live.put(call))  # type: ignore[misc]
    (told,) = reseller.get("/calls").json()["items"]
    assert (told["call_id"], told["limit_at"], told["held"]) == (own.call_id, "2026-11-23T12:01:35Z", "1.25")
    assert len(owner.get("/calls").json()["items"]) == 2
    first = owner.get("/calls?most=1").json()
    assert len(owner.get("/calls", params={"most": "1", "after": first["next"]}).json()["items"]) == 1
    before = len(world.rows(AuditRow))
    missing = reseller.get("/calls/pbx:none")
    for method, path in (("GET", ""), ("POST", "/hangup")):
        answer = reseller.ask(method, f"/calls/{other.call_id}{path}")
        assert (answer.status_code, answer.text) == (404, missing.text)
    assert len(world.rows(AuditRow)) == before
    assert reseller.ask("POST", f"/calls/{own.call_id}/hangup").status_code == 202

    async def hear() -> HangupRequest:
        return await anext(world.live.hangups())

    assert reseller.run(hear).call_id == own.call_id
    (row,) = [row for row in world.rows(AuditRow) if row.action == "call.hangup"]
    assert row.before is not None
    assert row.before["callee"] == own.callee
    assert reseller.ask("POST", f"/accounts/{ANNA}/hangup").status_code == 202


def test_without_the_live_store_the_rest_answers(reseller: Program, redis_server: FakeServer) -> None:
    """Balances say that they are not live; what needs the live store is 503 with a code, and moves nothing."""
    redis_server.connected = False
    told = reseller.get(f"/accounts/{ANNA}/balance").json()
    assert (told["balance"], told["available"], told["live"]) == ("25.00", None, False)
    assert error(reseller.get("/calls")) == (503, "credit_unavailable")
    before = money(reseller)
    refused = reseller.post(f"/accounts/{ANNA}/topups", {"amount": "5"}, once="a")
    assert error(refused) == (503, "credit_unavailable")
    assert money(reseller) == before
    redis_server.connected = True
    assert reseller.post(f"/accounts/{ANNA}/topups", {"amount": "5"}, once="a").status_code == 201


# -- prices


def send(program: Program, query: str, deck: bytes | str = DECK, **more: Any) -> Any:
    """Send a deck."""
    headers = {"content-type": "text/csv", **more.pop("headers", {})}
    return program.ask("POST", f"/imports?{query}", content=deck, headers=headers, **more)


def test_a_deck_is_looked_at_and_imported_once(owner: Program) -> None:
    """A dry run changes nothing and names the version; the import makes the next, once; a stale one is refused."""
    number = owner.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"]
    dry = send(owner, f"tariff_id={number}").json()
    assert (dry["imported"], dry["counts"].get("added"), dry["version"]) == (False, 2, 1)
    assert {change["prefix"] for change in dry["changes"]} == {"49", "4915"}
    assert owner.world.rows(RateRow) == []
    confirmed = f"tariff_id={number}&confirm=true&version=1"
    assert error(send(owner, confirmed)) == (400, "idempotency_key_missing")
    done = send(owner, confirmed, headers={"idempotency-key": "deck"})
    assert (done.status_code, done.json()["version"], done.json()["imported"]) == (200, 2, True)
    assert send(owner, confirmed, headers={"idempotency-key": "deck"}).json() == done.json()
    assert error(send(owner, confirmed, headers={"idempotency-key": "late"})) == (409, "conflict")
    other = send(owner, confirmed, DECK + "33,France,0,1\n", headers={"idempotency-key": "deck"})
    assert error(other) == (422, "other_body")
    assert len(owner.world.rows(RateRow)) == 2
    rates = owner.get(f"/tariffs/{number}/rates?most=1").json()
    assert (rates["items"][0]["prefix"], rates["items"][0]["steps"][0]["price"]) == ("49", "0.6")
    rest = owner.get(f"/tariffs/{number}/rates", params={"after": rates["next"]}).json()
    assert [rate["prefix"] for rate in rest["items"]] == ["4915"]
    quote = owner.post("/quotes", {"tariff_id": number, "to": "+4915112345", "seconds": 60}).json()
    assert (quote["cost"], quote["prefix"], quote["billed_seconds"]) == ("1.25", "4915", "60")
    assert error(owner.post("/quotes", {"tariff_id": number, "to": "33", "seconds": 60})) == (409, "refused")


def test_a_bad_deck_changes_nothing(owner: Program) -> None:
    """Bad rows are named; what is no deck, too large or of no known type is refused before anything is read."""
    number = owner.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"]
    bad = DECK + "4x,Nowhere,0,1\n"
    assert send(owner, f"tariff_id={number}", bad).json()["bad"][0]["line"] == 4
    confirmed = f"tariff_id={number}&confirm=true&version=1"
    assert error(send(owner, confirmed, bad, headers={"idempotency-key": "a"})) == (409, "refused")
    assert error(send(owner, f"tariff_id={number}", b"")) == (409, "refused")
    assert error(send(owner, f"tariff_id={number}", headers={"content-type": "text/html"})) == (415, "media_unknown")
    assert error(send(owner, f"tariff_id={number}", b"x" * 50_000_000)) == (413, "body_too_large")
    assert error(send(owner, "tariff_id=99")) == (404, "not_found")
    assert error(send(owner, f"tariff_id={number}&confirm=true", headers={"idempotency-key": "a"})) == (422, "invalid")
    assert owner.world.rows(RateRow) == []


def test_a_tariff_of_somebody_else_is_not_ones_own(reseller: Program, owner: Program) -> None:
    """A reseller makes its own; the operator's it does not see, unless it is charged by it, and then only sees it."""
    foreign = owner.post("/tariffs", {"name": "wholesale", "currency": "EUR"}).json()["id"]
    own = reseller.post("/tariffs", {"name": "bluebird", "currency": "EUR"}).json()["id"]
    assert [row.account_id for row in reseller.world.rows(TariffOwner)] == [BLUEBIRD]
    assert [tariff["id"] for tariff in reseller.get("/tariffs").json()["items"]] == [own]
    for method, path in (("GET", f"/tariffs/{foreign}"), ("GET", f"/tariffs/{foreign}/rates")):
        missing = reseller.ask(method, path.replace(str(foreign), "999"))
        assert reseller.ask(method, path).text.replace(f" {foreign}", " 999") == missing.text
        assert missing.status_code == 404
    assert error(send(reseller, f"tariff_id={foreign}")) == (404, "not_found")
    change = {"tariff": "wholesale"}
    assert owner.ask("PATCH", f"/accounts/{BLUEBIRD}", json=change, headers={"if-match": "*"}).status_code == 200
    assert reseller.get(f"/tariffs/{foreign}").status_code == 200
    assert error(send(reseller, f"tariff_id={foreign}")) == (403, "not_allowed")
    assert send(reseller, f"tariff_id={own}").json()["counts"]["added"] == 2


# -- keys, people, webhooks, vouchers, audit


def test_a_key_gives_away_what_it_has(reseller: Program, owner: Program) -> None:
    """Scopes of its own, for its own subtree; the secret is in one answer; revoked is revoked."""
    made = reseller.post("/keys", {"name": "robot", "account_id": ANNA, "scopes": ["money:read"]})
    assert made.status_code == 201, made.text
    key, number = made.json()["key"], made.json()["id"]
    robot = Program(reseller.client, key, reseller.world)
    assert robot.get(f"/accounts/{ANNA}/balance").status_code == 200
    assert error(robot.get(f"/accounts/{BLUEBIRD}/balance")) == (404, "not_found")
    assert key.partition(".")[2] not in owner.get("/keys").text + str(
        [row.model_dump() for row in owner.world.rows(AuditRow)]
    )
    keys = len(owner.world.rows(ApiKey))
    assert error(reseller.post("/keys", {"name": "x", "scopes": ["audit:read"]})) == (403, "not_allowed")
    assert error(reseller.post("/keys", {"name": "x", "scopes": ["cdrs:write"]})) == (403, "not_allowed")
    assert error(reseller.post("/keys", {"name": "x", "account_id": DELTA, "scopes": ["money:read"]})) == (
        404,
        "not_found",
    )
    assert error(reseller.post("/keys", {"name": "x", "account_id": ANNA, "scopes": ["keys:write"]})) == (
        409,
        "refused",
    )
    assert len(owner.world.rows(ApiKey)) == keys
    assert reseller.ask("DELETE", f"/keys/{number}").status_code == 204
    assert error(robot.get("/me")) == (401, "key_revoked")
    (others,) = [row for row in owner.world.rows(ApiKey) if row.account_id == OPERATOR]
    missing = reseller.get("/keys/callctl-none")
    for method in ("GET", "DELETE"):
        answer = reseller.ask(method, f"/keys/{others.public_id}")
        assert answer.text.replace(others.public_id, "callctl-none") == missing.text


def test_people_are_made_no_mightier_than_the_key(owner: Program, reseller: Program) -> None:
    """A reseller invites its own people; an administrator is out of its reach; a role needs all of its scopes."""
    assert reseller.post("/users", {"login": "cora", "role": "customer", "account_id": COPPER}).status_code == 201
    assert error(reseller.post("/users", {"login": "x", "role": "support"})) == (403, "not_allowed")
    assert error(reseller.post("/users", {"login": "x", "role": "customer", "account_id": DELTA})) == (404, "not_found")
    made = owner.post("/users", {"login": "bea", "role": "billing"})
    assert (made.status_code, len(made.json()["one_time_password"])) == (201, 20)
    number = made.json()["id"]
    tag = owner.get(f"/users/{number}").headers["etag"]
    changed = owner.ask("PATCH", f"/users/{number}", json={"disabled": True}, headers={"if-match": tag})
    assert changed.json()["disabled_at"] is not None
    stale = owner.ask("PATCH", f"/users/{number}", json={"role": "owner"}, headers={"if-match": tag})
    assert error(stale) == (412, "etag_mismatch")
    assert {user.login: user.role for user in owner.world.rows(User)}["bea"] == "billing"
    missing = reseller.get("/users/999")
    assert reseller.get("/users/1").text.replace("user 1", "user 999") == missing.text
    assert error(reseller.post("/users/1/password")) == (404, "not_found")
    assert owner.post(f"/users/{number}/password").json()["must_change"] is True


def test_webhooks_are_of_ones_own_subtree(reseller: Program, owner: Program) -> None:
    """The secret is shown once; another's webhook is not there; private addresses are nobody's hook."""
    hook = {"url": "https://hooks.example.com/x", "events": ["call.ended", "balance.low"]}
    made = reseller.post("/webhooks", hook)
    assert made.status_code == 201, made.text
    number = made.json()["id"]
    assert made.json()["secret"].startswith("whsec_")
    assert "whsec_" not in reseller.get("/webhooks").text
    theirs = owner.post("/webhooks", hook).json()["id"]
    missing = reseller.get("/webhooks/999")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/secret")):
        answer = reseller.ask(method, f"/webhooks/{theirs}{path}")
        assert answer.text.replace(f" {theirs}", " 999") == missing.text
    assert error(reseller.post("/webhooks", hook | {"url": "ftp://x"})) == (409, "refused")
    assert error(reseller.post("/webhooks", hook | {"events": ["sun.set"]})) == (422, "invalid")
    assert reseller.ask("DELETE", f"/webhooks/{number}").status_code == 204
    assert [row.ended_at is None for row in reseller.world.rows(Listener)] == [False, True]


def test_the_audit_log_and_the_books_are_the_operators(owner: Program, reseller: Program) -> None:
    """Changes newest first, by who and what; a trial balance whose sides are the same."""
    owner.post(f"/accounts/{DELTA}/topups", {"amount": "5"}, once="a")
    told = owner.get(f"/audit?action=topup.add&subject=account:{DELTA}&most=1").json()
    assert told["items"][0]["after"]["amount_micros"] == 5_000_000
    assert owner.get("/audit", params={"most": "1", "after": told["next"]}).status_code == 200
    (sheet,) = owner.get("/books/trial-balance").json()["sheets"]
    assert (sheet["balances"], sheet["debit"]) == (True, sheet["credit"])
    for path in ("/audit", "/books/trial-balance"):
        assert error(reseller.get(path)) == (403, "scope_missing")
