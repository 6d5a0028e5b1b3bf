"""What is wrong gets a 4xx with a code, nothing changes, nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import ANNA, PREFIX, Program
from tests.api.test_topups import TOPUPS, money

AMOUNTS = [
    "1.0000001",
    "-1",
    "0",
    "0.000000",
    "-0",
    "NaN",
    "Infinity",
    "1e3",
    "1" + "0" * 30,
    "1,000.00",
    "1.000,00",
    "",
    " ",
    "+1",
    "١٢",
    "0x10",
    "1.",
    ".5",
    "9" * 20,
]


@pytest.fixture(autouse=True)
def nothing_changes(reseller: Program, owner: Program) -> Iterator[None]:  # noqa: ARG001 - a key of its own
    """Whatever a test of this file sends, the money and the outbox stay as they are."""
    before = money(reseller)
    yield
    assert money(reseller) == before


@pytest.mark.parametrize("text", AMOUNTS)
def test_what_is_no_amount_is_refused(reseller: Program, text: str) -> None:
    """Seven decimals, signs, zero, exponents, separators, other digits: 422 amount_invalid."""
    answer = reseller.post(TOPUPS, {"amount": text}, once="bad")
    assert (answer.status_code, answer.json()["code"]) == (422, "amount_invalid"), answer.text
    assert answer.json()["errors"][0]["at"] == "body/amount"


@pytest.mark.parametrize("value", [5, 5.5, None, True, ["5"], {"amount": "5"}])
def test_an_amount_is_a_text(reseller: Program, value: Any) -> None:
    """A number of JSON may have been a float on its way: it is refused, as is anything else."""
    answer = reseller.post(TOPUPS, {"amount": value}, once="bad")
    assert (answer.status_code, answer.json()["code"]) == (422, "amount_invalid")


def test_an_amount_beyond_what_can_be_kept_is_refused(owner: Program) -> None:
    """Each amount fits, the balance would not: 422 too_large."""
    answer = owner.post("/accounts/2/topups", {"amount": "9007199254.740991"}, once="large")
    assert (answer.status_code, answer.json()["code"]) == (422, "too_large")


@pytest.mark.parametrize("currency", ["USD", "XXX"])
def test_another_currency_is_refused(reseller: Program, currency: str) -> None:
    """An amount meant in a currency that the account does not have is not booked in another."""
    answer = reseller.post(TOPUPS, {"amount": "5", "currency": currency}, once="bad")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("currency", ["eur", "EURO", "", "€"])
def test_what_is_no_currency_is_refused(reseller: Program, currency: str) -> None:
    """A currency is three capital letters."""
    answer = reseller.post(TOPUPS, {"amount": "5", "currency": currency}, once="bad")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "idempotency_key_missing"),
        ("", "idempotency_key_missing"),
        ("k" * 256, "idempotency_key_invalid"),
        ("k" * 101, "idempotency_key_invalid"),
        ("a b", "idempotency_key_invalid"),
        ("ü", "idempotency_key_invalid"),
    ],
)
def test_a_top_up_wants_a_key_of_its_own(reseller: Program, key: str | None, code: str) -> None:
    """Without an Idempotency-Key, or with one that is none, no money moves."""
    headers = {} if key is None else {"idempotency-key": key.encode()}
    answer = reseller.ask("POST", TOPUPS, json={"amount": "5"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "invalid"),
        (b"{", 400, "json_invalid"),
        (b'{"amount": "5", "amount": "6"}', 400, "json_invalid"),
        (b'{"amount": "5", "x": {"a": 1, "a": 1}}', 400, "json_invalid"),
        (b'{"amount": NaN}', 400, "json_invalid"),
        (b'{"amount": "5", "reason": "\\ud800"}', 400, "json_invalid"),
        (b'{"amount": "5", "reason": "\\u0000"}', 400, "json_invalid"),
        (b'{"amount": "5", "reason": "\xff"}', 400, "json_invalid"),
        (b'{"amount": ' + b"9" * 5000 + b"}", 400, "json_invalid"),
        (b"[" * 10_000 + b"]" * 10_000, 400, "json_too_deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, 400, "json_too_deep"),
        (b"[" * 33 + b"]" * 33, 400, "json_too_deep"),
        (b"[]", 422, "invalid"),
        (b"null", 422, "invalid"),
        (b'"5"', 422, "invalid"),
        (b'{"amount": "5", "reson": "cash"}', 422, "invalid"),
        (b'{"amount": "5", "reason": "' + b"r" * 201 + b'"}', 422, "invalid"),
        (b'{"amount": "5", "reason": 5}', 422, "invalid"),
    ],
)
def test_a_body_is_strict_json(reseller: Program, body: bytes, status: int, code: str) -> None:
    """Keys twice, NaN, halves of characters, depth, unknown members, wrong types: each a code of its own kind."""
    headers = {"idempotency-key": "bad", "content-type": "application/json"}
    answer = reseller.ask("POST", TOPUPS, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "json"])
def test_a_body_says_that_it_is_json(reseller: Program, kind: str) -> None:
    """Anything else is 415: a form of some web page can never be taken for a program's request."""
    headers = {"idempotency-key": "bad", "content-type": kind}
    answer = reseller.ask("POST", TOPUPS, content=b'{"amount": "5"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")


def test_a_body_of_50_mb_is_not_read(reseller: Program) -> None:
    """It is refused by its announced length, and in pieces as soon as it is more than a body can be."""
    headers = {"idempotency-key": "bad", "content-type": "application/json"}
    large = b'{"amount": "' + b"1" * 50_000_000 + b'"}'
    announced = reseller.ask("POST", TOPUPS, content=large, headers=headers)
    pieces = (large[at : at + 100_000] for at in range(0, len(large), 100_000))
    in_pieces = reseller.ask("POST", TOPUPS, content=pieces, headers=headers)
    for answer in (announced, in_pieces):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("account", ["0", "-1", "1.5", "abc", "9" * 30, "%00", "5%09", "5%0a", "%F0%9F%92%A9"])
def test_a_number_that_is_none_is_refused(reseller: Program, account: str) -> None:
    """What cannot be an account's number is 422 (with a line end in it 404); it never reaches the store."""
    answer = reseller.post(f"/accounts/{account}/topups", {"amount": "5"}, once="bad")
    assert (answer.status_code, answer.json()["code"]) in {(422, "invalid"), (404, "not_found")}


@pytest.mark.parametrize(
    "query",
    [
        "most=0",
        "most=501",
        "most=x",
        "after=x",
        "after=-1",
        "after=" + "9" * 400,
        "parent=0",
        "status=gone",
        "limit=5",
        "staus=active",
        "name=%00",
    ],
)
def test_a_list_has_bounds(reseller: Program, query: str) -> None:
    """Pages have sizes and cursors that this list gave; anything else is refused."""
    answer = reseller.get(f"/accounts?{query}")
    assert (answer.status_code, answer.json()["code"]) in {(422, "invalid"), (400, "cursor_invalid")}, answer.text


def test_a_fault_is_a_problem_with_a_number(owner: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expected shows no inner words; the log has it under the same number."""

    def broken(*_: object, **__: object) -> None:
        raise LookupError("a secret detail")

    monkeypatch.setattr("web.api.accounts.view_of", broken)
    answer = owner.get(f"/accounts/{ANNA}")
    assert (answer.status_code, answer.json()["code"]) == (500, "fault")
    assert answer.json()["fault"].startswith("fault-")
    assert "secret detail" not in answer.text
    assert answer.json()["type"] == f"{PREFIX}/docs#code-fault"
