"""What is wrong, sent to every place of the API that takes money: a 4xx with a code, nothing changed, nothing sent.

The places come from the API's own description: every operation with an amount in its body, or with an
Idempotency-Key. A new one is in the table by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from billing.events.kinds import EventKind
from tests.api.conftest import ANNA, BLUEBIRD, Program
from tests.api.routes import Operation, api_of, operations
from tests.api.store_state import differences, state_of
from tests.api.test_id_walk import described
from tests.api.test_topups import money
from web.api.problems import CODES
from web.api.shapes import NOT_NEGATIVE, NOT_ZERO, POSITIVE

NO_AMOUNTS: list[Any] = [
    "1.0000001",
    "NaN",
    "Infinity",
    "-Infinity",
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
    5,
    5.5,
    1e30,
    True,
    ["5"],
    {"amount": "5"},
]
"""Seven decimals, no number, exponents, 10³⁰, separators, other digits; numbers of JSON, which may have been floats."""
BY_PATTERN = {
    POSITIVE: ["-1", "0", "0.000000", "-0", "-0.000001"],
    NOT_NEGATIVE: ["-1", "-0.000001"],
    NOT_ZERO: ["0", "0.000000", "-0"],
}
"""What else is no amount, by what is asked for."""
NO_CURRENCIES = ["XXX", "eur", "EURO", "", "€", 978, ["EUR"]]
NO_KEYS = {
    "": "idempotency_key_missing",
    "k" * 256: "idempotency_key_invalid",
    "k" * 101: "idempotency_key_invalid",
    "a b": "idempotency_key_invalid",
    "ü": "idempotency_key_invalid",
}
NO_BODIES = [
    (b"{", "json_invalid"),
    (b'{"reason": "a", "reason": "b"}', "json_invalid"),
    (b'{"x": {"a": 1, "a": 1}}', "json_invalid"),
    (b'{"amount": NaN}', "json_invalid"),
    (b'{"amount": Infinity}', "json_invalid"),
    (b'{"reason": "\\ud800"}', "json_invalid"),
    (b'{"reason": "\\u0000"}', "json_invalid"),
    (b'{"reason": "a\x00b"}', "json_invalid"),
    (b'{"reason": "\xff"}', "json_invalid"),
    (b'{"re\\u0000ason": "a"}', "json_invalid"),
    (b'{"amount": ' + b"9" * 5000 + b"}", "json_invalid"),
    (b"[" * 10_000 + b"]" * 10_000, "json_too_deep"),
    (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "json_too_deep"),
    (b"[" * 33 + b"]" * 33, "json_too_deep"),
    (b"", "invalid"),
    (b"[]", "invalid"),
    (b"null", "invalid"),
    (b'"5"', "invalid"),
]
LARGE = b'{"amount": "' + b"1" * 50_000_000 + b'"}'
KINDS = ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "json"]


def amounts_of(app: FastAPI, operation: Operation) -> dict[str, str]:
    """Return the members of a body that are amounts, with their patterns."""
    found: dict[str, str] = {}
    for name, member in members_of(app, operation).items():
        for one in (member, *member.get("anyOf", ())):
            if one.get("pattern") in BY_PATTERN:
                found[name] = one["pattern"]
    return found


def members_of(app: FastAPI, operation: Operation) -> dict[str, Any]:
    """Return the members of an operation's body, as they are described."""
    sent = described(app, operation).get("requestBody", {}).get("content", {}).get("application/json", {})
    name = sent.get("schema", {}).get("$ref", "").rpartition("/")[2]
    shape: dict[str, Any] = api_of(app).openapi()["components"]["schemas"].get(name, {})
    return dict(shape.get("properties", {}))


def money_operations(app: FastAPI) -> list[Operation]:
    """Return every operation that takes an amount or moves something once."""
    found = [one for one in operations(app) if (one.once and not one.raw) or amounts_of(app, one)]
    names = {one.name for one in found}
    assert names >= {
        "add_topup",
        "add_transfer",
        "add_adjustment",
        "add_reversal",
        "add_voucher_batch",
        "add_bundle",
        "pay_commission",
        "change_account",
        "set_limits",
    }, names
    return found


@pytest.fixture
def payer(owner: Program, reseller: Program) -> Iterator[Program]:
    """An operator with a listener for everything, who must find all as it was: rows, live store, events, answers."""
    hook = {"url": "https://hooks.example.com/x", "events": [kind.value for kind in EventKind]}
    assert owner.post("/webhooks", hook).status_code == 201
    assert reseller.get("/me").status_code == 200
    before = state_of(owner)
    yield owner
    assert differences(before, state_of(owner)) == []


def send(program: Program, operation: Operation, **more: Any) -> Any:
    """Send an operation's request for Anna's account, or for her first transaction."""
    headers = {**operation.headers, "content-type": "application/json", **more.pop("headers", {})}
    path = operation.address(account_id=ANNA)
    return program.ask(operation.method, path, headers=headers, **more)


def check(answer: Any, *expected: str) -> str:
    """Return what is wrong with a refusal, "" where nothing is."""
    if not 400 <= answer.status_code < 500:
        return f"status {answer.status_code}: {answer.text[:300]}"
    if answer.headers["content-type"] != "application/problem+json":
        return f"type {answer.headers['content-type']}"
    code = answer.json()["code"]
    if code not in CODES or CODES[code][0] != answer.status_code or (expected and code not in expected):
        return f"code {code}: {answer.text[:300]}"
    return ""


def test_what_is_no_amount_is_refused_everywhere(app: FastAPI, payer: Program) -> None:
    """In each member that is an amount: 422 amount_invalid, with the place."""
    wrong: list[Any] = []
    for operation in money_operations(app):
        for name, pattern in amounts_of(app, operation).items():
            for value in (*NO_AMOUNTS, *BY_PATTERN[pattern]):
                answer = send(payer, operation, json={**operation.body, name: value})
                says = check(answer, "amount_invalid")
                if says or answer.json()["errors"][0]["at"] != f"body/{name}":
                    wrong.append((operation.name, name, value, says or answer.text))
    assert not wrong, "\n".join(str(one) for one in wrong)


def test_what_is_no_currency_is_refused_everywhere(app: FastAPI, payer: Program) -> None:
    """A currency that nobody knows, or in another spelling, books nothing in any other."""
    wrong: list[Any] = []
    for operation in money_operations(app):
        if "currency" not in members_of(app, operation):
            continue
        for value in NO_CURRENCIES:
            answer = send(payer, operation, json={**operation.body, "currency": value})
            if says := check(answer, "invalid", "refused"):
                wrong.append((operation.name, value, says))
    assert not wrong, "\n".join(str(one) for one in wrong)


def test_what_is_no_idempotency_key_is_refused_everywhere(app: FastAPI, payer: Program) -> None:
    """None, 256 characters, spaces, other letters: 400, whatever would have moved."""
    wrong: list[Any] = []
    for operation in money_operations(app):
        for key, code in NO_KEYS.items() if operation.once else ():
            answer = send(payer, operation, json=operation.body, headers={"idempotency-key": key.encode()})
            if says := check(answer, code):
                wrong.append((operation.name, key, says))
    assert not wrong, "\n".join(str(one) for one in wrong)


def test_what_is_no_body_is_refused_everywhere(app: FastAPI, payer: Program) -> None:
    """Keys twice, NaN, NUL, bytes that are no text, depth, other types, other media: each a code of its own kind."""
    wrong: list[Any] = []
    for operation in money_operations(app):
        for body, code in NO_BODIES:
            if says := check(send(payer, operation, content=body), code):
                wrong.append((operation.name, body[:40], says))
        for kind in KINDS:
            answer = send(payer, operation, content=b"{}", headers={"content-type": kind})
            if says := check(answer, "not_json"):
                wrong.append((operation.name, kind, says))
        unknown = send(payer, operation, json={**operation.body, "amont": "5"})
        if says := check(unknown, "invalid"):
            wrong.append((operation.name, "a member nobody knows", says))
    assert not wrong, "\n".join(str(one) for one in wrong)


def test_a_body_of_50_mb_is_read_nowhere(app: FastAPI, payer: Program) -> None:
    """It is refused by its announced length, and in pieces as soon as it is more than a body can be."""
    wrong: list[Any] = []
    for operation in money_operations(app):
        announced = send(payer, operation, content=LARGE)
        pieces = (LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000))
        in_pieces = send(payer, operation, content=pieces)
        wrong += [(operation.name, says) for one in (announced, in_pieces) if (says := check(one, "body_too_large"))]
    assert not wrong, "\n".join(str(one) for one in wrong)


def test_what_would_be_too_large_is_refused(owner: Program) -> None:
    """Each amount fits, the balance would not: 422 too_large, however it comes; no money moves."""
    most = "9007199254.740991"
    before = money(owner)
    own = owner.post(f"/accounts/{BLUEBIRD}/topups", {"amount": most}, once="own")
    assert check(own, "too_large") == ""
    given = owner.post(f"/accounts/{ANNA}/adjustments", {"amount": most, "reason": "x"}, once="given")
    assert check(given, "too_large") == ""
    assert money(owner) == before
