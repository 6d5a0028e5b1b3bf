"""Cases from other billing engines (`tests/data/rating_cases`): does rating mean what the field means."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rating.money import parse_amount
from rating.pricing import afford, cost, price
from rating.tariff import MOST_DECIMALS, Rate, Rounding, RoundingMode, Step

CASES = Path(__file__).parents[1] / "data" / "rating_cases"
ALL_WEEK = {"days": [1, 2, 3, 4, 5, 6, 7], "from": "00:00", "to": "24:00"}


def cases(file: str) -> list[dict[str, Any]]:
    """Return the cases of a file whose tariff is one band for the whole week, without a highest charge."""
    lines = [json.loads(line) for line in (CASES / file).read_text(encoding="utf-8").splitlines()]
    return [
        line
        for line in lines
        if "max_charge" not in line["tariff"]
        and len(line["tariff"]["bands"]) == 1
        and "dates" not in line["tariff"]["bands"][0]
        and ALL_WEEK.items() <= line["tariff"]["bands"][0].items()
    ]


def rate(tariff: dict[str, Any]) -> Rate:
    """Return the rate of a tariff with one band."""
    (band,) = tariff["bands"]
    return Rate(
        prefix="49",
        destination="",
        connect_fee=Decimal(band.get("connect_fee", tariff["connect_fee"])),
        steps=tuple(
            Step(step["from_s"], Decimal(step["price"]), step["per_s"], step["increment_s"]) for step in band["steps"]
        ),
        # An amount ends at micro-units, so one engine's twenty decimals are six here.
        rounding=Rounding(RoundingMode(tariff["rounding"]["mode"]), min(tariff["rounding"]["decimals"], MOST_DECIMALS)),
    )


def test_the_cases_are_all_there() -> None:
    """The files hold as many cases as were counted by hand, so the tests below cannot run none unnoticed."""
    assert len(cases("price.jsonl")) == 18
    assert len(cases("afford.jsonl")) == 2


@pytest.mark.parametrize("case", cases("price.jsonl"), ids=lambda case: case["id"])
def test_a_call_costs_what_others_say(case: dict[str, Any]) -> None:
    """The seconds of a case cost its amount and bill its seconds."""
    of = rate(case["tariff"])
    assert cost(of, case["seconds"]) == (parse_amount(case["cost"]), case["billed_seconds"])
    explained = price(of, case["seconds"])
    assert (explained.cost_micros, explained.billed_s) == cost(of, case["seconds"])


@pytest.mark.parametrize("case", cases("afford.jsonl"), ids=lambda case: case["id"])
def test_funds_last_as_long_as_others_say(case: dict[str, Any]) -> None:
    """The funds of a case afford its seconds of those asked for."""
    assert afford(rate(case["tariff"]), parse_amount(case["funds"]), case["ask_seconds"]) == case["seconds"]
