"""Top-ups: once for each Idempotency-Key, out of the reseller's own wallet, felt by live calls at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from billing import answers
from billing.models import ApiAnswer, AuditRow, OutboxRow, Posting
from billing.store import work
from tests.api.conftest import ANNA, BLUEBIRD, COPPER, DELTA, OPERATOR, Program

TOPUPS = f"/accounts/{ANNA}/topups"


def money(program: Program) -> dict[str, Any]:
    """Return all that a refused request must leave as it is."""
    world = program.world
    names = ("Bluebird Voice", "Anna's Bakery", "Copper & Sons", "Delta Logistics")
    return {
        "balances": {name: world.balance(name) for name in names},
        "postings": len(world.rows(Posting)),
        "outbox": len(world.rows(OutboxRow)),
        "audit": len(world.rows(AuditRow)),
    }


def test_a_resellers_top_up_comes_out_of_its_own_wallet(reseller: Program) -> None:
    """12.50 for a customer is 12.50 less for the reseller; the live store knows both before the answer goes out."""
    answer = reseller.post(TOPUPS, {"amount": "12.5", "reason": "cash"}, once="one")
    assert answer.status_code == 201, answer.text
    assert answer.json() == {
        "operation": "api:2:one",
        "account_id": ANNA,
        "amount": "12.50",
        "balance": "37.50",
        "currency": "EUR",
        "reason": "cash",
    }
    world = reseller.world
    assert world.balance("Anna's Bakery") == 37_500_000
    assert world.balance("Bluebird Voice") == 462_500_000
    for name, micros in (("Anna's Bakery", 37_500_000), ("Bluebird Voice", 462_500_000)):
        wallet_id = world.wallet_id(name)
        wallet = reseller.run(lambda wallet_id=wallet_id: world.credit.wallet(wallet_id))  # type: ignore[misc]
        assert wallet is not None
        assert wallet.balance_micros == micros
    (row,) = [row for row in world.rows(AuditRow) if row.action == "topup.add" and row.actor.startswith("key:")]
    assert row.before == {"balance_micros": 25_000_000}
    assert row.after is not None
    assert row.after["balance_micros"] == 37_500_000


def test_the_same_key_is_the_same_answer(reseller: Program) -> None:
    """Sent again, in whatever spelling of the amount, nothing moves and the answer is the first one's."""
    first = reseller.post(TOPUPS, {"amount": "12.5"}, once="one")
    before = money(reseller)
    again = reseller.post(TOPUPS, {"amount": "12.500000", "reason": ""}, once="one")
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert money(reseller) == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (TOPUPS, {"amount": "12.51"}),
        (TOPUPS, {"amount": "12.50", "reason": "another"}),
        (f"/accounts/{COPPER}/topups", {"amount": "12.50"}),
    ],
)
def test_the_same_key_with_another_body_is_refused(reseller: Program, path: str, body: dict[str, str]) -> None:
    """Another amount, reason or account under a used key is 422 other_body, and nothing moves."""
    assert reseller.post(TOPUPS, {"amount": "12.50"}, once="one").status_code == 201
    before = money(reseller)
    answer = reseller.post(path, body, once="one")
    assert (answer.status_code, answer.json()["code"]) == (422, "other_body")
    assert money(reseller) == before


def test_a_refusal_is_remembered(reseller: Program, owner: Program) -> None:
    """More than the reseller has is refused; under the same key it stays refused even when the money is there."""
    before = money(reseller)
    answer = reseller.post(TOPUPS, {"amount": "475.01"}, once="much")
    assert (answer.status_code, answer.json()["code"]) == (409, "refused")
    assert "lacks 0.01 EUR" in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert money(reseller) == before
    assert owner.post(f"/accounts/{BLUEBIRD}/topups", {"amount": "100"}, once="more").status_code == 201
    before = money(reseller)
    again = reseller.post(TOPUPS, {"amount": "475.01"}, once="much")
    assert (again.status_code, again.json()) == (409, answer.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert money(reseller) == before
    assert reseller.post(TOPUPS, {"amount": "475.01"}, once="anew").status_code == 201


def test_a_running_request_answers_409_and_a_dead_one_is_taken_over(reseller: Program) -> None:
    """While the first is at work its twin is told so; if the first died, its id is free again after the lease."""
    world = reseller.world
    body_hash = answers.hash_of("POST", "/api/v1" + TOPUPS, 5_000_000, None, "")
    with work(world.engine) as session:
        answers.claim(session, "api:2:slow", body_hash, now=world.clock.now())
    before = money(reseller)
    answer = reseller.post(TOPUPS, {"amount": "5"}, once="slow")
    assert (answer.status_code, answer.json()["code"]) == (409, "still_running")
    assert answer.headers["retry-after"] == "1"
    assert money(reseller) == before
    world.clock.at += answers.LEASE + timedelta(seconds=1)
    assert reseller.post(TOPUPS, {"amount": "5"}, once="slow").status_code == 201
    assert world.balance("Anna's Bakery") == 30_000_000


def test_many_at_once_are_one(reseller: Program) -> None:
    """Twenty copies of a request in the same moment move the money once; each is told the answer or to ask again."""
    with ThreadPoolExecutor(8) as pool:
        answered = list(pool.map(lambda _: reseller.post(TOPUPS, {"amount": "5"}, once="same"), range(20)))
    assert {answer.status_code for answer in answered} <= {201, 409}
    assert {answer.json()["code"] for answer in answered if answer.status_code == 409} <= {"still_running"}
    assert sum(answer.status_code == 201 and "idempotency-replayed" not in answer.headers for answer in answered) == 1
    assert reseller.world.balance("Anna's Bakery") == 30_000_000


def test_nobody_tops_up_itself_or_somebody_elses(reseller: Program, customer: Program, owner: Program) -> None:
    """One's own account is filled from above, a stranger does not exist, and a customer has no money to give."""
    before = money(reseller)
    own = reseller.post(f"/accounts/{BLUEBIRD}/topups", {"amount": "5"}, once="a")
    assert (own.status_code, own.json()["code"]) == (409, "refused")
    strange = reseller.post(f"/accounts/{DELTA}/topups", {"amount": "5"}, once="b")
    missing = reseller.post("/accounts/999/topups", {"amount": "5"}, once="c")
    assert (strange.status_code, strange.json()["code"]) == (404, "not_found")
    assert strange.json()["detail"].replace(str(DELTA), "999") == missing.json()["detail"]
    scope = customer.post(TOPUPS, {"amount": "5"}, once="d")
    assert (scope.status_code, scope.json()["code"], scope.json()["scope"]) == (403, "scope_missing", "money:write")
    assert owner.post(f"/accounts/{OPERATOR}/topups", {"amount": "5"}, once="e").status_code == 409
    assert money(reseller) == before
    # What was wrong by itself left nothing behind; what the rules refused is remembered.
    assert {row.id for row in reseller.world.rows(ApiAnswer)} == {"api:2:a", "api:1:e"}
