"""What an account pays beside its tariff, what a tariff is sold from, what calls must earn: read, set, removed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.catalogue import load_catalogue
from billing.models import AccountDiscount, AccountRate, AuditRow, MinMargin, TariffMarkup
from billing.store import reading
from rating.pricing import price_ms
from tests.api.conftest import ANNA, BLUEBIRD, COPPER, DELTA, OPERATOR, Program
from tests.api.store_state import differences, state_of
from tests.api.test_resources import DECK, error
from tests.api.test_resources import send as send_deck
from tests.web.world import World

RATE = {"destination": "Germany", "steps": [{"price": "0.30"}]}


def put(program: Program, path: str, body: Any, tag: str = "") -> Any:
    """Set what an address names."""
    return program.ask("PUT", path, json=body, headers={"if-match": tag} if tag else {})


def noted(world: World, action: str) -> list[tuple[Any, Any]]:
    """Return before and after of each row of the audit log about this."""
    return [(row.before, row.after) for row in world.rows(AuditRow) if row.action == action]


def version(world: World) -> int:
    """Return the version that tells controllers to look again."""
    with reading(world.engine) as session:
        return load_catalogue(session).version


def test_a_discount_is_set_and_removed(reseller: Program, customer: Program) -> None:
    """By prefix, replaced by the next of the same prefix; who pays it sees it; controllers are told."""
    path = f"/accounts/{ANNA}/discounts"
    before = version(reseller.world)
    assert put(reseller, f"{path}/49", {"percent": "12.50"}).json() == {"prefix": "49", "percent": "12.5"}
    assert put(reseller, f"{path}/all", {"percent": "5"}).json() == {"prefix": "", "percent": "5"}
    assert put(reseller, f"{path}/49", {"percent": "10"}).status_code == 200
    assert version(reseller.world) == before + 3
    assert customer.get(path).json()["items"] == [{"prefix": "", "percent": "5"}, {"prefix": "49", "percent": "10"}]
    assert reseller.ask("DELETE", f"{path}/all").status_code == 204
    assert error(reseller.ask("DELETE", f"{path}/all")) == (404, "not_found")
    assert [(row.account_id, row.prefix, row.percent) for row in reseller.world.rows(AccountDiscount)] == [
        (ANNA, "49", "10")
    ]
    assert noted(reseller.world, "account.discount") == [
        (None, {"prefix": "49", "percent": "12.5"}),
        (None, {"prefix": "", "percent": "5"}),
        ({"prefix": "49", "percent": "12.5"}, {"prefix": "49", "percent": "10"}),
        ({"prefix": "", "percent": "5"}, None),
    ]


def test_an_own_rate_is_what_calls_cost(reseller: Program, customer: Program) -> None:
    """Set over the API it prices the next call; a fee of 0.05, a minute of 0.20, then 0.30 a minute."""
    path = f"/accounts/{ANNA}/rates"
    body = RATE | {
        "connect_fee": "0.05",
        "steps": [{"price": "0.20", "increment_s": 60}, {"from_s": 60, "price": "0.30"}],
    }
    made = put(reseller, f"{path}/49", body)
    assert made.status_code == 200, made.text
    assert customer.get(path).json()["items"] == [made.json()]
    assert customer.get(f"{path}/49").json() == made.json()
    assert [step["price"] for step in made.json()["steps"]] == ["0.2", "0.3"]
    with reading(reseller.world.engine) as session:
        plan = load_catalogue(session).parties[ANNA].plan
    assert plan is not None
    assert plan.rates is not None
    rate = plan.rates.longest("4930123", reseller.world.clock.now() + timedelta(seconds=1))
    assert rate is not None
    # 0.05 + 0.20 for the first minute, then 30 seconds of 0.30 a minute: 0.15.
    assert price_ms(rate, 90_000).cost_micros == 400_000
    assert reseller.ask("DELETE", f"{path}/49").status_code == 204
    assert error(reseller.ask("DELETE", f"{path}/49")) == (404, "not_found")
    assert error(reseller.get(f"{path}/49")) == (404, "not_found")
    assert reseller.world.rows(AccountRate) == []


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("discounts/49", {"percent": "100.5"}, (422, "invalid")),
        ("discounts/49", {"percent": "0"}, (409, "refused")),
        ("discounts/49", {"percent": "-5"}, (422, "invalid")),
        ("discounts/49", {"percent": 5}, (422, "invalid")),
        ("discounts/49", {"percent": "1e1"}, (422, "invalid")),
        ("discounts/4a", {"percent": "5"}, (422, "invalid")),
        ("discounts/" + "4" * 33, {"percent": "5"}, (422, "invalid")),
        ("rates/49", {"steps": []}, (422, "invalid")),
        ("rates/49", {"steps": [{"price": "0.30", "from_s": 5}]}, (422, "invalid")),
        ("rates/49", {"steps": [{"price": "0.30"}, {"price": "0.20"}]}, (422, "invalid")),
        ("rates/49", {"steps": [{"price": 0.3}]}, (422, "invalid")),
        ("rates/49", {"steps": [{"price": "0.30", "per_s": 0}]}, (422, "invalid")),
        ("rates/49", RATE | {"destination": "a\nb"}, (422, "invalid")),
        ("rates/49", RATE | {"barred": True}, (422, "invalid")),
        ("rates/49", RATE | {"connect_fee": "1" * 11}, (422, "invalid")),
    ],
)
def test_what_is_no_price_is_refused(reseller: Program, path: str, body: Any, code: tuple[int, str]) -> None:
    """With a code, and nothing has changed."""
    before = state_of(reseller)
    assert error(put(reseller, f"/accounts/{ANNA}/{path}", body)) == code
    assert differences(before, state_of(reseller)) == []


def test_prices_are_made_by_who_is_paid(reseller: Program, customer: Program, owner: Program) -> None:
    """Nobody sets their own; a reseller only those right under it; what is closed needs none any more."""
    shop = owner.post("/accounts", {"name": "Shop", "kind": "reseller", "parent_id": BLUEBIRD}).json()["id"]
    deep = owner.post("/accounts", {"name": "Deep", "parent_id": shop}).json()["id"]
    assert owner.post(f"/accounts/{COPPER}/status", {"status": "closed"}).status_code == 200
    before = state_of(owner)
    for program, account, code in (
        (reseller, BLUEBIRD, (409, "refused")),
        (reseller, deep, (403, "not_allowed")),
        (reseller, DELTA, (404, "not_found")),
        (reseller, COPPER, (409, "refused")),
        (customer, ANNA, (403, "scope_missing")),
        (owner, OPERATOR, (409, "refused")),
    ):
        for part, body in (("discounts/49", {"percent": "5"}), ("rates/49", RATE)):
            assert error(put(program, f"/accounts/{account}/{part}", body)) == code, (account, part)
    assert differences(before, state_of(owner)) == []
    assert put(owner, f"/accounts/{deep}/discounts/49", {"percent": "5"}).status_code == 200


def test_a_tariff_is_sold_from_another(owner: Program, reseller: Program) -> None:
    """The source's prices and so much more, from the next call on; a circle and another currency are refused."""
    source = owner.post("/tariffs", {"name": "wholesale", "currency": "EUR"}).json()["id"]
    sold = owner.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"]
    dollars = owner.post("/tariffs", {"name": "dollars", "currency": "USD"}).json()["id"]
    imported = send_deck(owner, f"tariff_id={source}&confirm=true&version=1", DECK, headers={"idempotency-key": "deck"})
    assert imported.json()["imported"] is True, imported.text
    patched = owner.ask("PATCH", f"/accounts/{DELTA}", json={"tariff": "retail"}, headers={"if-match": "*"})
    assert patched.status_code == 200
    path = f"/tariffs/{sold}/markups"
    made = put(owner, f"{path}/all", {"from_tariff_id": source, "percent": "20", "least_per_min": "0.002"})
    assert made.status_code == 200, made.text
    assert made.json() == {
        "prefix": "",
        "from_tariff_id": source,
        "from_tariff": "wholesale",
        "percent": "20",
        "least_per_min": "0.002",
        "decimals": 6,
        "rounding": "up",
    }
    assert owner.get(path).json()["items"] == [made.json()]
    # 0.60 a minute and a fifth more.
    quote = owner.post("/quotes", {"account_id": DELTA, "to": "4930123", "seconds": 60})
    assert Decimal(quote.json()["cost"]) == Decimal("0.72"), quote.text
    before = state_of(owner)
    for program, address, body, code in (
        (owner, f"/tariffs/{source}/markups/all", {"from_tariff_id": sold, "percent": "5"}, (409, "refused")),
        (owner, f"{path}/49", {"from_tariff_id": dollars, "percent": "5"}, (409, "refused")),
        (owner, f"{path}/49", {"from_tariff_id": 999, "percent": "5"}, (404, "not_found")),
        (owner, f"{path}/49", {"from_tariff_id": source, "percent": "100000.1"}, (422, "invalid")),
        (owner, f"{path}/49", {"from_tariff_id": source, "decimals": 13}, (422, "invalid")),
        (reseller, f"{path}/49", {"from_tariff_id": source, "percent": "5"}, (404, "not_found")),
    ):
        assert error(put(program, address, body)) == code, body
    assert differences(before, state_of(owner)) == []
    assert owner.ask("DELETE", f"{path}/all").status_code == 204
    assert error(owner.ask("DELETE", f"{path}/all")) == (404, "not_found")
    assert owner.world.rows(TariffMarkup) == []


def test_what_a_tariff_is_derived_from_is_the_operators_business(owner: Program, reseller: Program) -> None:
    """A reseller that owns the tariff sees neither mark-ups nor least margins of it, and sets none."""
    number = reseller.post("/tariffs", {"name": "mine", "currency": "EUR"}).json()["id"]
    before = state_of(owner)
    for method, path, body in (
        ("GET", f"/tariffs/{number}/markups", None),
        ("PUT", f"/tariffs/{number}/markups/49", {"from_tariff_id": number, "percent": "5"}),
        ("DELETE", f"/tariffs/{number}/markups/49", None),
        ("GET", f"/tariffs/{number}/least-margin", None),
        ("PUT", f"/tariffs/{number}/least-margin", {"percent": "5"}),
        ("GET", f"/accounts/{ANNA}/least-margin", None),
        ("PUT", f"/accounts/{ANNA}/least-margin", {"percent": "5"}),
        ("DELETE", f"/accounts/{ANNA}/least-margin", None),
    ):
        assert error(reseller.ask(method, path, json=body, headers={"if-match": "*"})) == (403, "not_allowed"), path
    assert differences(before, state_of(owner)) == []


@pytest.mark.parametrize("whose", ["accounts", "tariffs"])
def test_what_calls_must_earn_is_set_and_removed(owner: Program, whose: str) -> None:
    """Percent, an amount a minute, or both; each change from what was read; neither is no margin."""
    number = owner.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"] if whose == "tariffs" else DELTA
    path = f"/{whose}/{number}/least-margin"
    none = owner.get(path)
    assert none.json() == {"percent": None, "per_min": None}
    assert error(put(owner, path, {"percent": "10"})) == (428, "if_match_missing")
    made = put(owner, path, {"percent": "10", "per_min": "0.0020"}, none.headers["etag"])
    assert (made.status_code, made.json()) == (200, {"percent": "10", "per_min": "0.002"})
    assert owner.get(path).headers["etag"] == made.headers["etag"]
    before = state_of(owner)
    assert error(put(owner, path, {"percent": "11"}, none.headers["etag"])) == (412, "etag_mismatch")
    assert error(put(owner, path, {}, "*")) == (409, "refused")
    assert error(put(owner, path, {"percent": "100.5"}, "*")) == (422, "invalid")
    assert error(put(owner, path, {"per_min": "-1"}, "*")) == (422, "invalid")
    assert differences(before, state_of(owner)) == []
    assert put(owner, path, {"per_min": "0.001"}, made.headers["etag"]).json() == {
        "percent": None,
        "per_min": "0.001",
    }
    assert owner.ask("DELETE", path, headers={"if-match": "*"}).status_code == 204
    assert owner.world.rows(MinMargin) == []
    assert [after for _, after in noted(owner.world, "margin.set")] == [
        {"percent": "10", "per_min": "0.002"},
        {"percent": "", "per_min": "0.001"},
        None,
    ]
