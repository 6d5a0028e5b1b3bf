"""What is wrong gets a 4xx with a code, nothing changes, nothing is sent. See also `test_bad_money.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.conftest import ANNA, PREFIX, Program
from tests.api.test_topups import TOPUPS, money


@pytest.fixture(autouse=True)
def nothing_changes(reseller: Program, owner: Program) -> Iterator[None]:  # noqa: ARG001 - a key of its own
    """Whatever a test of this file sends, the money and the outbox stay as they are."""
    before = money(reseller)
    yield
    assert money(reseller) == before


@pytest.mark.parametrize("currency", ["USD", "GBP"])
def test_another_currency_is_refused(reseller: Program, currency: str) -> None:
    """An amount meant in a currency that the account does not have is not booked in another."""
    answer = reseller.post(TOPUPS, {"amount": "5", "currency": currency}, once="bad")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"amount": "5", "reason": "' + b"r" * 201 + b'"}', 422, "invalid"),
        (b'{"amount": "5", "reason": 5}', 422, "invalid"),
    ],
)
def test_a_reason_is_a_text(reseller: Program, body: bytes, status: int, code: str) -> None:
    """Up to 200 characters, and nothing else."""
    headers = {"idempotency-key": "bad", "content-type": "application/json"}
    answer = reseller.ask("POST", TOPUPS, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


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
