"""What makes a rate, and its facts."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from rating.errors import TariffError
from rating.pricing import cost
from rating.tariff import Rate, Rounding, RoundingMode, Step, check

RATE = Rate(
    prefix="4930",
    destination="Germany, Berlin",
    connect_fee=Decimal("0.10"),
    steps=(Step(0, Decimal("0.05"), 60, 30), Step(30, Decimal("0.0000001"), 60, 6)),
    rounding=Rounding(RoundingMode.UP, 4),
)
FACTS: dict[str, Any] = {
    "v": 1,
    "prefix": "4930",
    "destination": "Germany, Berlin",
    "connect_fee": "0.1",
    "steps": [
        {"from_s": 0, "price": "0.05", "per_s": 60, "increment_s": 30},
        {"from_s": 30, "price": "0.0000001", "per_s": 60, "increment_s": 6},
    ],
    "rounding": {"mode": "up", "decimals": 4},
    "barred": False,
}


def test_facts_are_plain_json_with_prices_as_strings() -> None:
    """The facts are written so that JSON keeps them exactly."""
    assert RATE.facts() == FACTS
    assert Rate.from_facts(json.loads(json.dumps(FACTS))) == RATE


def test_one_price_has_one_text() -> None:
    """Prices that are equal have equal facts, however they were written."""
    assert replace(RATE, connect_fee=Decimal("1.0E-1")).facts() == FACTS
    assert replace(RATE, connect_fee=Decimal("1E+2")).facts()["connect_fee"] == "100"


def test_the_first_use_leaves_no_trace_in_facts_and_equality() -> None:
    """A priced rate equals one that was never priced, has the same hash and facts, and can be copied and pickled."""
    used, fresh = replace(RATE), replace(RATE)
    cost(used, 10)
    assert used == fresh
    assert hash(used) == hash(fresh)
    assert repr(used) == repr(fresh)
    assert used.facts() == FACTS
    assert pickle.loads(pickle.dumps(used)) == fresh  # noqa: S301 - our own bytes
    assert cost(replace(used, connect_fee=Decimal(7)), 10) != cost(used, 10)


def altered(path: str, value: object) -> dict[str, Any]:
    """Return the facts with one value replaced ("DROP" takes the key away)."""
    facts = copy.deepcopy(FACTS)
    *parents, last = path.split(".")
    place: Any = facts
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    if value == "DROP":
        del place[last]
    else:
        place[last] = value
    return facts


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("v", 0), ("v", 3), ("v", True), ("v", "DROP"),
        ("v", None), ("more", 1), ("prefix", "DROP"), ("prefix", "49a"), ("prefix", 49),
        ("prefix", "٤"), ("prefix", "1" * 33), ("destination", "a\nb"), ("destination", "x" * 101),
        ("destination", "a\u2028b"), ("destination", None), ("connect_fee", 0.1), ("connect_fee", "-0.1"),
        ("connect_fee", "NaN"), ("connect_fee", "1E5"), ("connect_fee", ""), ("connect_fee", "1000000001"),
        ("connect_fee", "0." + "0" * 18 + "1"), ("barred", 0), ("barred", "no"), ("steps", []), ("steps", {}),
        ("steps", None), ("steps.0.from_s", 1), ("steps.1.from_s", 0), ("steps.1.from_s", -1), ("steps.1.from_s", 30.0),
        ("steps.1.from_s", True), ("steps.0.per_s", 0), ("steps.0.increment_s", 0), ("steps.1.increment_s", -6),
        ("steps.0.increment_s", 10**12), ("steps.0.price", "-1"), ("steps.0.price", "Infinity"), ("steps.0.more", 1),
        ("steps.0.price", "DROP"), ("rounding", None), ("rounding.mode", "sideways"), ("rounding.mode", None),
        ("rounding.decimals", 7), ("rounding.decimals", -1), ("rounding.decimals", True), ("rounding.decimals", "4"),
    ],
)  # fmt: skip
def test_facts_that_describe_no_rate_are_refused(path: str, value: object) -> None:
    """Each value is checked for its type and its range."""
    with pytest.raises(TariffError):
        Rate.from_facts(altered(path, value))


@pytest.mark.parametrize("facts", [None, [], "x", 1, {}])
def test_what_is_no_object_is_refused(facts: Any) -> None:
    """Anything but an object of the right version is refused."""
    with pytest.raises(TariffError):
        Rate.from_facts(facts)


@pytest.mark.parametrize("fee", ["-0", "-1", "NaN", "sNaN", "Infinity", "1E+10", "1E-19"])
def test_a_rate_made_in_code_is_checked_too(fee: str) -> None:
    """A rate that breaks the rules is not priced, wherever it came from."""
    rate = replace(RATE, connect_fee=Decimal(fee))
    with pytest.raises(TariffError, match="connect_fee"):
        check(rate)
    with pytest.raises(TariffError, match="connect_fee"):
        cost(rate, 1)


def test_too_many_steps_are_refused() -> None:
    """Steps have a limit."""
    steps = tuple(Step(second, Decimal(1), 1, 1) for second in range(101))
    with pytest.raises(TariffError, match="steps"):
        check(replace(RATE, steps=steps))
