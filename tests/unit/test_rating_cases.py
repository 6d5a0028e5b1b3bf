"""Cases from other billing engines (`tests/data/rating_cases`): does rating mean what the field means."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rating.quotes import answer

CASES = Path(__file__).parents[1] / "data" / "rating_cases"
COUNTS = {"price": 32, "afford": 3, "dialect": 16}


def cases(name: str) -> list[dict[str, Any]]:
    """Return all cases of a file."""
    lines = (CASES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_float=Decimal) for line in lines]


@pytest.mark.parametrize("name", COUNTS)
def test_the_cases_are_all_there(name: str) -> None:
    """The files hold as many cases as were counted by hand, so the tests below cannot run none unnoticed."""
    assert len(cases(name)) == COUNTS[name]


@pytest.mark.parametrize("case", cases("price"), ids=lambda case: case["id"])
def test_a_call_costs_what_others_say(case: dict[str, Any]) -> None:
    """The seconds of a case cost its amount and bill its seconds."""
    assert answer(case) == {"id": case["id"], "cost": case["cost"], "billed_seconds": case["billed_seconds"]}


@pytest.mark.parametrize("case", cases("afford"), ids=lambda case: case["id"])
def test_funds_last_as_long_as_others_say(case: dict[str, Any]) -> None:
    """The funds of a case afford its seconds of those asked for."""
    assert answer(case) == {"id": case["id"], "seconds": case["seconds"]}


@pytest.mark.parametrize("case", cases("dialect"), ids=lambda case: case["id"])
def test_a_row_of_another_system_costs_what_it_costs_there(case: dict[str, Any]) -> None:
    """The seconds of a case cost, by the rate made of its row, what its system charges."""
    answered = answer(case)
    assert (answered.get("error"), answered.get("cost")) == (None, case["cost"])


TARIFF: dict[str, Any] = {
    "rounding": {"mode": "up", "decimals": 4},
    "bands": [
        {
            "days": [1, 2, 3, 4, 5],
            "from": "08:00",
            "to": "18:00",
            "steps": [{"from_s": 0, "price": "1", "per_s": 1, "increment_s": 1}],
        }
    ],
}


NOON: dict[str, Any] = {"tariff": TARIFF, "answered_at": "2026-01-05T12:00:00Z"}
EVENING, LATE = "2026-01-05T19:00:00Z", "2026-01-05T17:59:59Z"


@pytest.mark.parametrize(
    ("question", "error"),
    [
        ([], "expected a JSON object"),
        ({}, "tariff: expected an object"),
        ({"tariff": TARIFF, "seconds": 1}, "answered_at: expected a text"),
        ({**NOON, "answered_at": "noon", "seconds": 1}, "answered_at: expected a time such as"),
        ({**NOON, "answered_at": "2026-01-05T12:00:00", "seconds": 1}, "answered_at: expected a time with a zone"),
        (NOON, "seconds: expected seconds"),
        ({**NOON, "seconds": -1}, "seconds: expected seconds"),
        ({**NOON, "seconds": True}, "seconds: expected seconds"),
        ({**NOON, "seconds": Decimal("0.0001")}, "seconds: expected at most 3"),
        ({**NOON, "ask_seconds": 9, "funds": "NaN"}, "funds: expected at most"),
        ({**NOON, "ask_seconds": 9, "funds": "much"}, "funds: expected a plain decimal"),
        ({**NOON, "answered_at": EVENING, "seconds": 1}, "tariff: no band covers Monday 2026-01-05 19:00:00"),
        ({**NOON, "answered_at": LATE, "seconds": 2}, "tariff: no band covers Monday 2026-01-05 18:00:00"),
        ({**NOON, "tariff": {**TARIFF, "extra": 1}, "seconds": 1}, "rate: there is no key 'extra'"),
        ({**NOON, "tariff": {"steps": []}, "seconds": 1}, "rate: the key rounding is missing"),
        ({"dialect": "vcard", "row": {}, "seconds": 1}, "dialect: expected one of a2billing"),
        ({"dialect": "yeti", "row": {}, "seconds": 1}, "next_rate: expected a number"),
        ({"dialect": "yeti", "row": 1, "seconds": 1}, "row: expected an object"),
    ],
)
def test_a_question_that_makes_no_sense_has_an_error_for_an_answer(question: Any, error: str) -> None:
    """The answer names the place, under the question's id."""
    answered = answer({"id": 7, **question} if isinstance(question, dict) else question)
    assert answered["id"] == (7 if isinstance(question, dict) else None)
    assert answered["error"].startswith(error)


def test_the_last_second_before_a_gap_is_priced() -> None:
    """A call that ends when the band does never needs the band that is missing."""
    asked = {"id": 1, "tariff": TARIFF, "answered_at": "2026-01-05T17:59:59Z", "seconds": 1}
    assert answer(asked) == {"id": 1, "cost": "1", "billed_seconds": 1}


def test_seconds_are_priced_to_the_millisecond() -> None:
    """An increment below a second is billed as it is; a tariff may say that seconds are rounded first."""
    step = {"from_s": 0, "price": "0.6", "per_s": 60, "increment_s": "0.1"}
    tariff: dict[str, Any] = {"rounding": {"mode": "up", "decimals": 6}, "steps": [step]}
    asked = {"id": 1, "tariff": tariff, "answered_at": "2026-01-05T12:00:00Z", "seconds": Decimal("1.23")}
    assert answer(asked) == {"id": 1, "cost": "0.013", "billed_seconds": Decimal("1.3")}
    tariff["durations"] = "up"
    assert answer(asked) == {"id": 1, "cost": "0.02", "billed_seconds": 2}
