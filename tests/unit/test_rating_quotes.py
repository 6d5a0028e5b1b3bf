"""Questions about a price: what a question may leave out, how exact it may be, and what is wrong with others."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from rating.errors import TariffError
from rating.parts import Conditions, Durations, Outside, Rounding, RoundingMode, Step
from rating.quotes import answer, rate_of_tariff
from rating.tariff import MOST_SECONDS, Rate

PER_SECOND: dict[str, Any] = {
    "rounding": {"mode": "up", "decimals": 6},
    "steps": [{"from_s": 0, "price": "0.000001", "per_s": 1, "increment_s": 1}],
}
FREE_MINUTE: dict[str, Any] = {
    **PER_SECOND,
    "steps": [{"from_s": 0, "price": "0", "per_s": 1, "increment_s": 1}, {**PER_SECOND["steps"][0], "from_s": 60}],
}
OFFICE: dict[str, Any] = {
    "rounding": PER_SECOND["rounding"],
    "bands": [{"days": [1, 2, 3, 4, 5], "from": "08:00", "to": "18:00", "steps": PER_SECOND["steps"]}],
}
NOON = "2026-01-05T12:00:00Z"
ROW = {"rateinitial": "0.06", "initblock": 60, "billingblock": 60}


def asked(tariff: dict[str, Any] = PER_SECOND, **more: Any) -> dict[str, Any]:
    """Return the answer to a question, without its id."""
    answered = answer({"id": "q", "tariff": tariff, "answered_at": NOON, **more})
    assert answered.pop("id") == "q"
    return answered


def seconds_for(funds: str, tariff: dict[str, Any] = PER_SECOND, ask: int | Decimal = 100) -> Any:
    return asked(tariff, funds=funds, ask_seconds=ask).get("seconds")


def test_a_tariff_needs_only_steps_and_a_rounding() -> None:
    """It is closed outside its bands, priced to the millisecond, and never barred: what is asked for is the price."""
    conditions = Conditions(outside=Outside.CLOSED, durations=Durations.EXACT)
    steps = (Step(0, Decimal("0.000001"), 1, 1),)
    rate = Rate("", "", Decimal(0), steps, Rounding(RoundingMode.UP, 6), conditions=conditions)
    assert rate_of_tariff(PER_SECOND) == rate
    assert rate_of_tariff({**PER_SECOND, "barred": True, "connect_fee": None, "free_s": None, "bands": None}) == rate
    named = rate_of_tariff({**PER_SECOND, "prefix": "49", "destination": "Germany", "connect_fee": "2"})
    assert (named.prefix, named.destination, named.connect_fee) == ("49", "Germany", Decimal(2))
    said = rate_of_tariff({**PER_SECOND, "outside": "base", "durations": "up"})
    assert said.conditions == Conditions(outside=Outside.BASE, durations=Durations.UP)


@pytest.mark.parametrize(("decimals", "cost"), [(2, "0.34"), (6, "0.333334"), (7, "0.333334"), (20, "0.333334")])
def test_more_decimals_than_micro_units_are_six(decimals: int, cost: str) -> None:
    """A third of a unit, rounded up."""
    third = {"rounding": {"mode": "up", "decimals": decimals}, "steps": [{**PER_SECOND["steps"][0], "price": "1"}]}
    third["steps"][0]["per_s"] = 3  # type: ignore[index] # the steps are a list
    assert asked(third, seconds=1) == {"cost": cost, "billed_seconds": 1}


def test_a_rounding_that_is_none_is_refused_as_facts_are() -> None:
    """Text for decimals, text for an object, nothing at all."""
    for rounding, why in (
        ({"mode": "up", "decimals": "4"}, "rounding.decimals: expected a whole number"),
        ("up", "rounding: expected an object with the keys decimals, mode"),
        ({"mode": "up"}, "rounding: the key decimals is missing; expected decimals, mode"),
    ):
        with pytest.raises(TariffError) as told:
            rate_of_tariff({**PER_SECOND, "rounding": rounding})
        assert str(told.value) == why


@pytest.mark.parametrize(
    ("seconds", "cost", "billed"),
    [
        (0, "0", 0),
        (1, "0.000001", 1),
        (Decimal("0.001"), "0.000001", 1),
        (Decimal("1.0000"), "0.000001", 1),
        (Decimal("1.001"), "0.000002", 2),
        (MOST_SECONDS, "31.6224", MOST_SECONDS),
        (Decimal(MOST_SECONDS), "31.6224", MOST_SECONDS),
    ],
)
def test_seconds_are_told_to_the_millisecond(seconds: int | Decimal, cost: str, billed: int) -> None:
    """From none to a leap year of them."""
    assert asked(seconds=seconds) == {"cost": cost, "billed_seconds": billed}


def test_seconds_asked_for_are_whole() -> None:
    """Money lasts for whole seconds, so what is asked for beyond one is left out."""
    assert [seconds_for("1", ask=ask) for ask in (0, 9, Decimal("9.999"), MOST_SECONDS)] == [0, 9, 9, 1_000_000]


@pytest.mark.parametrize(
    ("funds", "seconds"),
    [
        ("0", 60),
        ("0.000003", 63),
        ("0.0000039", 63),
        ("3E-6", 63),
        (" 0.000003 ", 63),
        ("-0", 60),
        ("-0.0000001", 0),
        ("9007199254.740991", 100),
        ("-9007199254.740991", 0),
        # Longer than any arithmetic keeps: it is less than a micro-unit all the same, and debts are debts.
        ("0.000000" + "9" * 60, 60),
        ("-0." + "0" * 60 + "1", 0),
        ("1E-999999999", 60),
    ],
)
def test_funds_are_whole_micro_units(funds: str, seconds: int) -> None:
    """What is less than one buys nothing; a minute is free, but not with debts; then a second costs one."""
    assert seconds_for(funds, FREE_MINUTE) == seconds


TIME = "answered_at: expected a time such as 2027-01-31T12:00:00Z"
SECONDS = "seconds: expected seconds, from 0 to 31622400"
FUNDS = "funds: expected at most 9007199254.740991"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tariff": None}, "tariff: expected an object"),
        ({"tariff": "retail"}, "tariff: expected an object"),
        ({"answered_at": None}, "answered_at: expected a text"),
        ({"answered_at": 2027}, "answered_at: expected a text"),
        ({"answered_at": "noon"}, TIME),
        ({"answered_at": "2027-02-29T12:00:00Z"}, TIME),
        (
            {"answered_at": "2027-01-31T12:00:00"},
            "answered_at: expected a time with a zone, such as 2027-01-31T12:00:00Z",
        ),
        ({"answered_at": "1969-12-31T23:59:59Z"}, "answered_at: expected a year from 1970 to 9000"),
        ({"answered_at": "9001-01-01T00:00:00Z"}, "answered_at: expected a year from 1970 to 9000"),
        ({"seconds": None}, SECONDS),
        ({"seconds": "1"}, SECONDS),
        ({"seconds": 1.5}, SECONDS),
        ({"seconds": False}, SECONDS),
        ({"seconds": -1}, SECONDS),
        ({"seconds": Decimal("-0.001")}, SECONDS),
        ({"seconds": MOST_SECONDS + 1}, SECONDS),
        ({"seconds": Decimal(MOST_SECONDS) + Decimal("0.001")}, SECONDS),
        ({"seconds": Decimal("Infinity")}, SECONDS),
        ({"seconds": Decimal("1.0001")}, "seconds: expected at most 3 decimals"),
        ({"funds": "1"}, "ask_seconds: expected seconds, from 0 to 31622400"),
        ({"funds": "1", "ask_seconds": "9"}, "ask_seconds: expected seconds, from 0 to 31622400"),
        ({"funds": 1, "ask_seconds": 9}, "funds: expected a text"),
        ({"funds": "much", "ask_seconds": 9}, "funds: expected a plain decimal in a string"),
        ({"funds": "", "ask_seconds": 9}, "funds: expected a plain decimal in a string"),
        ({"funds": "NaN", "ask_seconds": 9}, FUNDS),
        ({"funds": "-Infinity", "ask_seconds": 9}, FUNDS),
        ({"funds": "9007199254.740992", "ask_seconds": 9}, FUNDS),
        ({"funds": "-9007199254.740992", "ask_seconds": 9}, FUNDS),
        ({"funds": "9007199254.7409910001", "ask_seconds": 9}, FUNDS),
        ({"funds": "1E+999999999", "ask_seconds": 9}, FUNDS),
        ({"dialect": "yeti", "row": []}, "row: expected an object"),
        ({"dialect": 1, "row": {}}, "dialect: expected a text"),
        ({"dialect": None, "row": {}}, "dialect: expected a text"),
        ({"dialect": "a2billing", "row": ROW, "answered_at": "noon"}, TIME),
        ({"dialect": "a2billing", "row": ROW, "answered_at": None}, "answered_at: expected a text"),
    ],
)
def test_what_is_wrong_with_a_question_is_its_answer(change: dict[str, Any], why: str) -> None:
    """The place, and what is expected there; the id is that of the question."""
    assert asked(**{"seconds": 1, **change}) == {"error": why}


def test_what_is_no_question_is_answered_without_an_id() -> None:
    """So is one that has none."""
    questions: list[Any] = [None, [], "x", 1]
    for question in questions:
        assert answer(question) == {"id": None, "error": "expected a JSON object"}
    assert answer({}) == {"id": None, "error": "tariff: expected an object"}


def test_a_time_that_no_band_covers_is_told_on_the_clock_of_the_tariff() -> None:
    """A call that would reach it is no call; how long money lasts ends there."""
    evening = "2026-01-05T17:59:58Z"
    assert asked(OFFICE, answered_at=evening, seconds=2) == {"cost": "0.000002", "billed_seconds": 2}
    assert asked(OFFICE, answered_at=evening, seconds=3) == {
        "error": "tariff: no band covers Monday 2026-01-05 18:00:00"
    }
    assert asked(OFFICE, answered_at=evening, funds="1", ask_seconds=60) == {"seconds": 2}
    berlin = {**OFFICE, "timezone": "Europe/Berlin"}
    assert asked(berlin, answered_at="2026-01-05T16:59:59Z", seconds=Decimal("1.001")) == {
        "error": "tariff: no band covers Monday 2026-01-05 18:00:00"
    }


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00+14:00", "9000-12-31T23:59:59-12:00"])
def test_the_first_and_the_last_year_are_priced(at: str) -> None:
    """The longest call there is, in any zone: no day of it is beyond the calendar."""
    always = {**OFFICE["bands"][0], "days": [1, 2, 3, 4, 5, 6, 7], "from": "00:00", "to": "24:00"}
    told = asked({**OFFICE, "bands": [always], "timezone": "Pacific/Kiritimati"}, answered_at=at, seconds=MOST_SECONDS)
    assert told == {"cost": "31.6224", "billed_seconds": MOST_SECONDS}


def test_rows_of_other_systems_are_asked_as_tariffs_are() -> None:
    """A price and how long money lasts, with or without a time: 0.06 a minute in minutes."""
    for when in ({}, {"answered_at": NOON}):
        told = {"id": 1, "dialect": "a2billing", "row": ROW, **when}
        assert answer({**told, "seconds": 61}) == {"id": 1, "cost": "0.12", "billed_seconds": 120}
        assert answer({**told, "ask_seconds": 600, "funds": "0.119"}) == {"id": 1, "seconds": 60}
