"""Deliveries, the fraud guard, limits, bundles, volume plans, exchange rates, carriers, commissions, transactions."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import select

from billing import commissions
from billing.accounts import set_status
from billing.alerts import raise_alert
from billing.events import deliveries
from billing.events.emit import emit
from billing.events.kinds import EventKind
from billing.models import (
    AccountStatus,
    Alert,
    AuditRow,
    Bundle,
    Delivery,
    DeliveryState,
    ExchangeRate,
    LedgerTransaction,
    RiskyRange,
    Route,
    VolumePlan,
)
from billing.models.fraud import FraudRule
from billing.store import work
from tests.api.conftest import ANNA, BLUEBIRD, COPPER, DELTA, OPERATOR, Program
from tests.api.store_state import differences, state_of
from tests.api.test_resources import error
from tests.api.test_topups import money
from tests.web.world import EURO, World, add_record

HOOK = {"url": "https://hooks.example.com/x", "events": ["balance.low"]}


def tell(world: World, account_id: int) -> None:
    """Let something happen that is told, and make its deliveries out."""
    now = world.clock.now()
    with work(world.engine) as session:
        emit(session, EventKind.BALANCE_LOW, [("1", account_id, {"message": "low"})], now=now)
        deliveries.spread(session, now=now)


def give_up(world: World) -> None:
    """Let every delivery be dead."""
    with work(world.engine) as session:
        for row in session.exec(select(Delivery)):
            row.state, row.attempts, row.answer = DeliveryState.DEAD, 11, "500"
            session.add(row)


# -- webhooks' deliveries


def test_what_was_given_up_is_sent_again(reseller: Program) -> None:
    """A dead delivery is listed with what came back, and waits again after one request, from its first try on."""
    hook = reseller.post("/webhooks", HOOK).json()["id"]
    tell(reseller.world, ANNA)
    give_up(reseller.world)
    (told,) = reseller.get(f"/webhooks/{hook}/deliveries?state=dead").json()["items"]
    assert (told["kind"], told["state"], told["attempts"], told["answer"]) == ("balance.low", "dead", 11, "500")
    assert (told["account_id"], told["data"], told["next_at"]) == (ANNA, {"message": "low"}, None)
    assert told["event"].startswith("evt_")
    again = reseller.post(f"/deliveries/{told['id']}/resend")
    assert (again.status_code, again.json()["state"], again.json()["attempts"]) == (202, "waiting", 0)
    assert again.json()["event"] == told["event"]
    assert reseller.get(f"/deliveries/{told['id']}").json() == again.json()
    assert reseller.get(f"/webhooks/{hook}/deliveries?state=dead").json()["items"] == []
    reseller.ask("DELETE", f"/webhooks/{hook}")
    before = state_of(reseller)
    assert error(reseller.post(f"/deliveries/{told['id']}/resend")) == (409, "refused")
    assert differences(before, state_of(reseller)) == []


def test_mails_are_no_deliveries_of_webhooks(owner: Program) -> None:
    """A delivery by e-mail has a number of the same kind, and is not there."""
    from billing.events import listeners

    world = owner.world
    with work(world.engine) as session:
        listeners.add_email(
            session,
            account_id=OPERATOR,
            address="ops@example.com",
            kinds=[EventKind.BALANCE_LOW],
            subtree=True,
            actor="test",
            now=world.clock.now(),
        )
    tell(world, ANNA)
    (row,) = world.rows(Delivery)
    assert error(owner.get(f"/deliveries/{row.id}")) == (404, "not_found")
    assert error(owner.post(f"/deliveries/{row.id}/resend")) == (404, "not_found")


# -- the fraud guard


def test_a_rule_is_made_listed_and_ended(owner: Program, reseller: Program) -> None:
    """The operator makes and ends rules; a reseller sees those made for its accounts, and ends none of them."""
    made = owner.post("/fraud/rules", {"account_id": ANNA, "kind": "spend_day", "action": "block", "limit": "50"})
    assert made.status_code == 201, made.text
    rule = made.json()
    assert (rule["limit"], rule["says"], rule["ended_at"]) == ("50.00", "more than 50.00 a day", None)
    owner.post("/fraud/rules", {"kind": "destination", "action": "refuse", "risky": True})
    assert [one["account_id"] for one in owner.get("/fraud/rules").json()["items"]] == [ANNA, OPERATOR]
    assert [one["id"] for one in reseller.get("/fraud/rules").json()["items"]] == [rule["id"]]
    first = owner.get("/fraud/rules?most=1").json()
    assert len(owner.get(f"/fraud/rules?after={first['next']}").json()["items"]) == 1
    before = state_of(owner)
    assert error(reseller.ask("DELETE", f"/fraud/rules/{rule['id']}")) == (403, "not_allowed")
    assert error(owner.post("/fraud/rules", {"kind": "spend_day", "action": "warn"})) == (409, "refused")
    assert error(owner.post("/fraud/rules", {"kind": "spend_day", "action": "refuse", "limit": "1"})) == (
        409,
        "refused",
    )
    assert differences(before, state_of(owner)) == []
    assert owner.ask("DELETE", f"/fraud/rules/{rule['id']}").status_code == 204
    assert owner.ask("DELETE", f"/fraud/rules/{rule['id']}").status_code == 204
    assert reseller.get("/fraud/rules").json()["items"] == []
    assert reseller.get(f"/fraud/rules/{rule['id']}").json()["ended_at"] is not None
    assert len(owner.world.rows(FraudRule)) == 2


def test_a_reseller_makes_rules_for_its_own(owner: Program, reseller: Program, customer: Program) -> None:
    """For itself and those below it, in its own name; a customer makes none; the operator may end them."""
    body = {"kind": "spend_day", "action": "block", "limit": "50"}
    made = reseller.post("/fraud/rules", body)
    assert made.status_code == 201, made.text
    rule = made.json()
    assert (rule["account_id"], rule["made_by_id"], rule["yours"]) == (BLUEBIRD, BLUEBIRD, True)
    theirs = owner.post("/fraud/rules", body | {"account_id": ANNA}).json()
    assert (theirs["made_by_id"], theirs["yours"]) == (None, True)
    assert [(one["id"], one["yours"]) for one in reseller.get("/fraud/rules").json()["items"]] == [
        (rule["id"], True),
        (theirs["id"], False),
    ]
    assert customer.get("/fraud/rules").json()["items"][0]["yours"] is False
    before = state_of(owner)
    assert error(reseller.post("/fraud/rules", body | {"account_id": DELTA})) == (404, "not_found")
    assert error(reseller.post("/fraud/rules", body | {"account_id": OPERATOR})) == (404, "not_found")
    assert error(reseller.ask("DELETE", f"/fraud/rules/{theirs['id']}")) == (403, "not_allowed")
    assert error(reseller.ask("PUT", "/fraud/ranges/88213", json={"label": "x"})) == (403, "not_allowed")
    assert error(customer.post("/fraud/rules", body)) == (403, "scope_missing")
    assert differences(before, state_of(owner)) == []
    second = reseller.post("/fraud/rules", body | {"account_id": ANNA}).json()["id"]
    assert owner.ask("DELETE", f"/fraud/rules/{second}").status_code == 204
    assert reseller.ask("DELETE", f"/fraud/rules/{rule['id']}").status_code == 204
    assert [row.by_account_id for row in owner.world.rows(FraudRule)] == [BLUEBIRD, None, BLUEBIRD]


def test_a_reseller_lifts_what_its_own_rule_did(owner: Program, reseller: Program) -> None:
    """Its alert is cleared and its account calls again; an alert of its own it may also just dismiss."""
    world = owner.world
    rule = reseller.post("/fraud/rules", {"kind": "spend_day", "action": "block", "limit": "50"}).json()["id"]

    def broken(account_id: int) -> int | None:
        with work(world.engine) as session:
            set_status(
                session, account_id, AccountStatus.BLOCKED, by=BLUEBIRD, actor="fraud guard", now=world.clock.now()
            )
            return raise_alert(
                session,
                kind="fraud.spend_day",
                subject=f"account:{account_id} rule:{rule}",
                message="too much",
                account_id=account_id,
                facts={"rule": rule, "blocked": True},
                now=world.clock.now(),
            )

    broken(ANNA)
    lifted = reseller.post(f"/accounts/{ANNA}/fraud-lift")
    assert lifted.json() == {"account_id": ANNA, "alerts": 1, "status": "active"}
    second = broken(COPPER)
    assert reseller.post(f"/alerts/{second}/dismissal").json()["cleared_at"] is not None
    assert reseller.get(f"/accounts/{COPPER}").json()["status"] == "blocked"


def test_a_block_of_the_guard_is_lifted_with_one_request(owner: Program, reseller: Program) -> None:
    """Its alerts are cleared and the account calls again, in the live store too; only the operator does it."""
    world = owner.world
    owner.post(f"/accounts/{ANNA}/status", {"status": "blocked"})
    with work(world.engine) as session:
        number = raise_alert(
            session,
            kind="fraud.spend_day",
            subject=f"account:{ANNA} rule:1",
            message="too much",
            account_id=ANNA,
            facts={"blocked": True},
            now=world.clock.now(),
        )
    assert reseller.get(f"/alerts/{number}").json()["message"] == "too much"
    before = state_of(owner)
    assert error(reseller.post(f"/accounts/{ANNA}/fraud-lift")) == (403, "not_allowed")
    assert differences(before, state_of(owner)) == []
    lifted = owner.post(f"/accounts/{ANNA}/fraud-lift")
    assert (lifted.status_code, lifted.json()) == (200, {"account_id": ANNA, "alerts": 1, "status": "active"})
    assert owner.run(lambda: world.redis.hget("{callctl}:a:3", "status")) == "active"
    assert all(row.cleared_at for row in world.rows(Alert))


def test_the_list_of_ranges_is_replaced_by_a_file_or_not_at_all(owner: Program, reseller: Program) -> None:
    """A CSV replaces all of it; a line that is none changes nothing; one range is set and taken out by itself."""

    def put(text: str | bytes, kind: str = "text/csv", program: Program = owner) -> Any:
        return program.ask("PUT", "/fraud/ranges", content=text, headers={"content-type": kind})

    assert put("prefix,what\n88213,satellite\n# old\n+4 990,premium\n").json() == {"ranges": 2}
    before = state_of(owner)
    bad = [put("88213\nnone\n"), put(b"\xff\xfe"), put('88213,"' + "x" * 200_000 + "\n"), put("88213,a\x00b\n")]
    for answer in bad:
        assert error(answer) == (409, "refused"), answer.text
    assert error(put("88213\n", "application/json")) == (415, "media_unknown")
    assert error(put("88213\n", program=reseller)) == (403, "not_allowed")
    assert error(reseller.ask("PUT", "/fraud/ranges/88299", json={"label": "x"})) == (403, "not_allowed")
    assert differences(before, state_of(owner)) == []
    assert owner.ask("PUT", "/fraud/ranges/88299", json={"label": "islands"}).json()["label"] == "islands"
    assert [one["prefix"] for one in reseller.get("/fraud/ranges?prefix=882").json()["items"]] == ["88213", "88299"]
    first = owner.get("/fraud/ranges?most=1").json()
    assert (first["items"][0]["prefix"], first["next"]) == ("4990", "4990")
    assert [one["prefix"] for one in owner.get("/fraud/ranges?after=4990").json()["items"]] == ["88213", "88299"]
    assert owner.ask("DELETE", "/fraud/ranges/88213").status_code == 204
    assert error(owner.ask("DELETE", "/fraud/ranges/88213")) == (404, "not_found")
    assert {row.prefix for row in owner.world.rows(RiskyRange)} == {"4990", "88299"}


# -- limits


def test_limits_are_set_whole_and_from_above(reseller: Program, customer: Program) -> None:
    """What is not named has no limit afterwards; a stale or missing If-Match, and one's own limits, change nothing."""
    path = f"/accounts/{ANNA}/limits"
    read = reseller.get(path)
    assert read.json()["max_calls"] == 4
    new = {"max_cps": 2, "max_day": "50", "barred": ["900"], "hours": ["mon-fri 08:00-18:00"]}
    before = state_of(reseller)
    assert error(reseller.ask("PUT", path, json=new)) == (428, "if_match_missing")
    assert error(reseller.ask("PUT", path, json=new, headers={"if-match": '"0"'})) == (412, "etag_mismatch")
    own = reseller.ask("PUT", f"/accounts/{BLUEBIRD}/limits", json=new, headers={"if-match": "*"})
    assert error(own) == (403, "not_allowed")
    assert error(customer.ask("PUT", path, json=new, headers={"if-match": "*"})) == (403, "scope_missing")
    assert differences(before, state_of(reseller)) == []
    done = reseller.ask("PUT", path, json=new, headers={"if-match": read.headers["etag"]})
    assert done.status_code == 200, done.text
    assert customer.get(path).json() == {
        "account_id": ANNA,
        "max_calls": None,
        "max_cps": 2,
        "max_day": "50.00",
        "max_call": None,
        "barred": ["900"],
        "allowed": [],
        "hours": ["mon-fri 08:00-18:00"],
    }
    assert reseller.get(path).headers["etag"] == done.headers["etag"]


# -- what calls cost


def test_a_bundle_is_given_once(reseller: Program, customer: Program, owner: Program) -> None:
    """Minutes move once under their key, to an account right below; nobody gives them to itself or to a stranger."""
    path = f"/accounts/{ANNA}/bundles"
    new = {"name": "300 minutes", "seconds": 18000, "prefixes": ["49"], "expires_at": "2026-12-01T00:00:00Z"}
    assert error(reseller.post(path, new)) == (400, "idempotency_key_missing")
    first = reseller.post(path, new, once="b")
    assert (first.status_code, first.json()["seconds"]) == (201, 18000)
    again = reseller.post(path, new, once="b")
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    before = money(reseller)
    assert error(reseller.post(path, new | {"seconds": 1}, once="b")) == (422, "other_body")
    past = new | {"expires_at": "2026-11-01T00:00:00Z"}
    assert error(reseller.post(path, past, once="c")) == (409, "refused")
    assert error(reseller.post(f"/accounts/{BLUEBIRD}/bundles", new, once="d")) == (409, "refused")
    assert money(reseller) == before
    (told,) = customer.get(path).json()["items"]
    assert (told["name"], told["seconds_left"], told["expired"]) == ("300 minutes", 18000, False)
    assert len(owner.world.rows(Bundle)) == 1


def test_a_volume_plan_belongs_to_who_makes_the_price(reseller: Program, owner: Program) -> None:
    """A reseller's plan is for its customers; the plan that the operator gave it, it sees and cannot end."""
    flat = {"account_id": ANNA, "name": "flat", "prefixes": ["49"], "fair_s": 60000}
    made = reseller.post("/volume-plans", flat)
    assert made.status_code == 201, made.text
    tiers = [{"from_s": 0, "percent": "0"}, {"from_s": 3600, "percent": "5"}]
    above = owner.post("/volume-plans", {"account_id": BLUEBIRD, "name": "volume", "prefixes": [""], "tiers": tiers})
    assert [one["name"] for one in reseller.get("/volume-plans").json()["items"]] == ["flat", "volume"]
    assert reseller.get(made.headers["location"].removeprefix("/api/v1")).json() == made.json()
    before = state_of(reseller)
    assert error(reseller.ask("DELETE", f"/volume-plans/{above.json()['id']}")) == (403, "not_allowed")
    assert error(reseller.post("/volume-plans", flat | {"account_id": BLUEBIRD})) == (409, "refused")
    assert error(reseller.post("/volume-plans", flat | {"tiers": tiers})) == (409, "refused")
    bad = {"account_id": ANNA, "name": "x", "prefixes": ["49"], "tiers": tiers[1:]}
    assert error(reseller.post("/volume-plans", bad)) == (422, "invalid")
    assert error(reseller.post("/volume-plans", flat | {"timezone": "Moon/Crater"})) == (422, "invalid")
    assert differences(before, state_of(reseller)) == []
    assert reseller.ask("DELETE", f"/volume-plans/{made.json()['id']}").status_code == 204
    assert [row.ended for row in reseller.world.rows(VolumePlan)] == [True, False]


def test_an_exchange_rate_is_set_once_by_the_operator(owner: Program, reseller: Program) -> None:
    """Told again it is one; another value for the same moment is a conflict; a reseller only reads."""
    new = {"from_currency": "USD", "to_currency": "EUR", "value": "0.92", "source": "ECB", "at": "2026-11-23T12:00:00Z"}
    assert owner.post("/exchange-rates", new).status_code == 201
    assert owner.post("/exchange-rates", new).status_code == 201
    before = state_of(owner)
    assert error(owner.post("/exchange-rates", new | {"value": "0.93"})) == (409, "conflict")
    assert error(owner.post("/exchange-rates", new | {"to_currency": "USD"})) == (409, "refused")
    assert error(owner.post("/exchange-rates", new | {"value": "0", "at": None})) == (409, "refused")
    for value in ("1e3", "-1", "NaN", "0.1234567890123"):
        assert error(owner.post("/exchange-rates", new | {"value": value})) == (422, "invalid")
    assert error(reseller.post("/exchange-rates", new)) == (403, "not_allowed")
    assert differences(before, state_of(owner)) == []
    (told,) = reseller.get("/exchange-rates?from_currency=USD").json()["items"]
    assert (told["value"], told["source"]) == ("0.92", "ECB")
    assert len(owner.world.rows(ExchangeRate)) == 1


def test_carriers_are_the_operators(owner: Program, reseller: Program) -> None:
    """Made, given routes, moved to another tariff with its ETag; below the operator there are none."""
    for name in ("wholesale", "better"):
        owner.post("/tariffs", {"name": name, "currency": "EUR"})
    made = owner.post("/carriers", {"name": "Transatlantic", "tariff": "wholesale"})
    assert made.status_code == 201, made.text
    path = f"/carriers/{made.json()['id']}"
    assert owner.ask("PUT", f"{path}/routes/44").json()["prefixes"] == ["44"]
    assert owner.ask("PUT", f"{path}/routes/all").json()["prefixes"] == ["", "44"]
    before = state_of(owner)
    assert error(owner.post("/carriers", {"name": "Transatlantic", "tariff": "better"})) == (409, "conflict")
    assert error(owner.post("/carriers", {"name": "X", "tariff": "none"})) == (404, "not_found")
    stale = owner.ask("PATCH", path, json={"tariff": "better"}, headers={"if-match": '"0"'})
    assert error(stale) == (412, "etag_mismatch")
    assert error(reseller.get("/carriers")) == (403, "not_allowed")
    assert error(reseller.get(path)) == (404, "not_found")
    assert error(owner.ask("DELETE", f"{path}/routes/33")) == (404, "not_found")
    assert differences(before, state_of(owner)) == []
    changed = owner.ask("PATCH", path, json={"tariff": "better"}, headers={"if-match": made.headers["etag"]})
    assert changed.json()["tariff"] == "better"
    assert owner.ask("DELETE", f"{path}/routes/44").status_code == 204
    assert [row.prefix for row in owner.world.rows(Route)] == [""]


# -- money


def test_a_month_s_commission_is_booked_once(owner: Program, reseller: Program, customer: Program) -> None:
    """5 % of last month's 1.23 are 0.0615, out of the reseller's wallet; asked again under another key, nothing."""
    world = owner.world
    with work(world.engine) as session:
        add_record(session, world, 1, "Anna's Bakery", ended_at=world.clock.now() - timedelta(days=30))
    path = f"/accounts/{ANNA}/commission"
    assert reseller.get(path).json()["percent"] is None
    new = {"basis": "revenue", "percent": "5"}
    tag = reseller.get(path).headers["etag"]
    assert error(reseller.ask("PUT", path, json=new)) == (428, "if_match_missing")
    done = reseller.ask("PUT", path, json=new, headers={"if-match": tag})
    assert (done.status_code, done.json()["percent"]) == (200, "5")
    assert error(reseller.ask("PUT", path, json=new, headers={"if-match": tag})) == (412, "etag_mismatch")
    assert [one["account_id"] for one in customer.get("/commissions").json()["items"]] == [ANNA]
    assert customer.get(f"{path}/2026-10").json()["amount"] == "0.0615"
    before = money(owner)
    assert error(reseller.post(f"{path}/payments", {"month": "2026-11"}, once="early")) == (409, "refused")
    assert money(owner) == before
    paid = reseller.post(f"{path}/payments", {"month": "2026-10"}, once="a")
    assert (paid.status_code, paid.json()["amount"], paid.json()["replayed"]) == (201, "0.0615", False)
    assert world.balance("Anna's Bakery") == 25 * EURO + 61_500
    assert world.balance("Bluebird Voice") == 475 * EURO - 61_500
    before = money(owner)
    again = reseller.post(f"{path}/payments", {"month": "2026-10"}, once="b")
    assert (again.status_code, again.json()["replayed"]) == (201, True)
    assert money(owner) == before
    gone = reseller.ask("DELETE", path, headers={"if-match": "*"})
    assert gone.status_code == 204
    with work(world.engine) as session:
        assert commissions.list_commissions(session) == []


def test_transactions_are_listed_with_ones_own_side(owner: Program, reseller: Program, customer: Program) -> None:
    """Newest first, in pages; of an account in sight; the operator's are all there are."""
    reseller.post(f"/accounts/{ANNA}/topups", {"amount": "5"}, once="a")
    reseller.post(f"/accounts/{COPPER}/topups", {"amount": "6"}, once="b")
    told = customer.get("/transactions").json()["items"]
    assert [line["amount"] for one in told for line in one["postings"]] == ["5.00", "25.00"]
    assert {line["account_id"] for one in told for line in one["postings"]} == {ANNA}
    own = [one["operation"] for one in reseller.get("/transactions?most=2").json()["items"]]
    assert own == ["topup:api:2:b", "topup:api:2:a"]
    first = owner.get("/transactions?most=1").json()
    assert first["items"][0]["operation"] == "topup:api:2:b"
    rest = owner.get(f"/transactions?after={first['next']}").json()
    assert len(rest["items"]) == len(owner.world.rows(LedgerTransaction)) - 1
    page = reseller.get(f"/transactions?account={ANNA}&most=1").json()
    assert len(reseller.get(f"/transactions?account={ANNA}&after={page['next']}").json()["items"]) == 1
    assert error(reseller.get(f"/transactions?account={DELTA}")) == (404, "not_found")


def test_a_statement_is_a_file_too(reseller: Program, customer: Program) -> None:
    """Opening balance, every line, closing balance; a reason that a spreadsheet would obey is text."""
    reseller.post(f"/accounts/{ANNA}/topups", {"amount": "5", "reason": "=1+1"}, once="a")
    answer = customer.get(f"/accounts/{ANNA}/statement.csv?month=2026-11")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.reader(io.StringIO(answer.text)))
    assert [line[2] for line in lines[1:]] == ["opening", "transfer", "closing"]
    assert [line[-1] for line in lines[1:]] == ["25.00", "30.00", "30.00"]
    assert lines[2][3] == "'=1+1"
    assert error(customer.get(f"/accounts/{BLUEBIRD}/statement.csv")) == (404, "not_found")
    assert error(customer.get(f"/accounts/{ANNA}/statement.csv?month=2026-13")) == (422, "invalid")


@pytest.mark.parametrize("query", ["", "?month=2026-10"])
def test_the_operator_has_no_statement(owner: Program, query: str) -> None:
    """Its books are ledger accounts, not a wallet."""
    assert error(owner.get(f"/accounts/{OPERATOR}/statement.csv{query}")) == (409, "refused")


def test_every_change_is_in_the_audit_log(owner: Program) -> None:
    """Who, what, before and after of the changes of this file's kinds."""
    owner.post("/fraud/rules", {"kind": "spend_day", "action": "warn", "limit": "1"})
    owner.ask("PUT", "/fraud/ranges/88299", json={"label": "islands"})
    owner.ask("PUT", "/fraud/ranges/88299", json={"label": "other islands"})
    owner.ask("PUT", f"/accounts/{DELTA}/limits", json={"max_calls": 9}, headers={"if-match": "*"})
    rows = {row.action: row for row in owner.world.rows(AuditRow) if row.actor.startswith("key:")}
    assert {"fraud.rule.add", "fraud.range.set", "account.set"} <= set(rows)
    assert (rows["fraud.range.set"].before, rows["fraud.range.set"].after) == (
        {"label": "islands"},
        {"label": "other islands"},
    )
    assert rows["account.set"].after is not None
    assert rows["account.set"].after["max_calls"] == 9
