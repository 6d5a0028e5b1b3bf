"""The facts of a rate, word for word: what is written, what is read, and what is said about facts that are none."""

from __future__ import annotations

import os
import time
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest

from rating.errors import TariffError
from rating.facts import price_text, read_steps
from rating.parts import PLAIN, Conditions, Durations, Surcharge
from rating.tariff import Rate, Rounding, RoundingMode, Step

STEP: dict[str, Any] = {"from_s": 0, "price": "0.6", "per_s": 60, "increment_s": 1}
FACTS: dict[str, Any] = {
    "v": 2,
    "prefix": "49",
    "destination": "Germany",
    "connect_fee": "0",
    "steps": [STEP],
    "rounding": {"mode": "up", "decimals": 4},
    "barred": False,
}
BAND: dict[str, Any] = {"days": [1, 2, 3, 4, 5, 6, 7], "from": "00:00", "to": "24:00", "priority": 0, "steps": [STEP]}
BANDED: dict[str, Any] = {**FACTS, "steps": [], "bands": [BAND]}
RATE = Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.6"), 60, 1),), Rounding(RoundingMode.UP, 4))


def read(of: dict[str, Any], **more: Any) -> Rate:
    return Rate.from_facts({**of, **more})


def altered(of: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return facts with one value replaced; a key that is not there is added."""
    facts = deepcopy(of)
    place: Any = facts
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[int(last) if last.isdigit() else last] = value
    return facts


def refusal(facts: Any) -> str:
    with pytest.raises(TariffError) as told:
        Rate.from_facts(facts)
    return str(told.value)


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "text"),
    [
        ("0", "0"), ("0.00", "0"), ("100", "100"), ("1E+2", "100"), ("10.50", "10.5"), ("1E-7", "0.0000001"),
        ("0.10", "0.1"), ("1000.0", "1000"), ("12.3450", "12.345"),
    ],
)  # fmt: skip
def test_a_price_has_one_text(price: str, text: str) -> None:
    """Without an exponent and without zeros at its end; those before the point stay."""
    assert price_text(Decimal(price)) == text


@pytest.mark.parametrize(
    ("of", "version"),
    [
        (RATE, 1),
        (replace(RATE, steps=(*RATE.steps, Step(30, Decimal(1), 60, 6))), 1),
        (replace(RATE, steps=(*RATE.steps, Step(30, Decimal(1), 60, 6, Decimal("0.1")))), 2),
        (replace(RATE, steps=(*RATE.steps, Step(30, Decimal(1), 60, Decimal("0.5")))), 2),
        (replace(RATE, conditions=Conditions(free_s=1)), 2),
        (replace(RATE, conditions=Conditions()), 1),
        (replace(RATE, expires_at=datetime(2027, 1, 1, tzinfo=UTC)), 2),
    ],
)
def test_facts_are_of_the_oldest_version_that_can_tell_them(of: Rate, version: int) -> None:
    """A fee or an increment below a second in any of the steps, a condition, a date: they need the second version."""
    facts = of.facts()
    assert facts["v"] == version
    assert Rate.from_facts(facts) == of


def test_a_time_is_written_and_read_in_utc() -> None:
    """Whatever its zone, and whatever that of the machine: midnight in Berlin is an hour earlier there."""
    berlin = datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    try:
        with patch.dict(os.environ, TZ="NPT-5:45"):
            time.tzset()
            facts = replace(RATE, effective_at=berlin).facts()
            rate = read(FACTS, effective_at="2027-01-01T00:00:00+01:00", expires_at="2027-01-02T00:00:00Z")
    finally:
        time.tzset()
    assert facts["effective_at"] == "2026-12-31T23:00:00+00:00"
    assert str(rate.effective_at) == "2026-12-31 23:00:00+00:00"
    assert (rate.effective_at, rate.expires_at) == (berlin, datetime(2027, 1, 2, tzinfo=UTC))


def test_a_band_says_only_what_is_its_own() -> None:
    """Dates, a connect fee and a name are left out where there are none; a connect fee of nothing is one."""
    assert read(BANDED).facts() == BANDED
    own = altered(BANDED, "bands.0", {**BAND, "connect_fee": "0", "name": "always", "dates": ["12-25"]})
    own["outside"] = "closed"
    rate = Rate.from_facts(own)
    assert (rate.bands[0].connect_fee, rate.bands[0].name, rate.bands[0].when.dates) == (
        Decimal(0),
        "always",
        ("12-25",),
    )
    assert rate.facts() == own


# -- reading -----------------------------------------------------------------------------------------------------------


def test_what_facts_leave_out_is_nothing() -> None:
    """No priority, no name, no fee of its own, no dates; a step without a fee; a surcharge that comes once."""
    least = {key: BAND[key] for key in ("days", "from", "to", "steps")}
    band = read(BANDED, bands=[least]).bands[0]
    assert (band.when.priority, band.name, band.connect_fee, band.when.dates) == (0, "", None, ())
    assert band.steps[0].fee == 0
    conditions = read(FACTS, surcharges=[{"after_s": 60, "amount": "0.1"}]).conditions
    assert conditions == Conditions(surcharges=(Surcharge(60, Decimal("0.1")),))
    assert read(FACTS).conditions is PLAIN


@pytest.mark.parametrize(
    ("told", "read_as"),
    [(1, 1), ("1", 1), ("60.0", 60), ("0.5", Decimal("0.5")), ("7.250", Decimal("7.25")), ("0.001", Decimal("0.001"))],
)
def test_an_increment_is_whole_seconds_or_a_decimal(told: Any, read_as: Any) -> None:
    """Whole ones are integers however they were written."""
    increment_s = read_steps([{**STEP, "increment_s": told}], "steps")[0].increment_s
    assert (type(increment_s), increment_s) == (type(read_as), read_as)


@pytest.mark.parametrize(
    ("told", "second"),
    [("00:00", 0), ("00:00:01", 1), ("00:59", 3540), ("12:34:56", 45_296), ("23:59:59", 86_399), ("01:00", 3600)],
)
def test_a_clock_is_read_to_the_second(told: str, second: int) -> None:
    """Hours, minutes, and seconds where there are any."""
    assert Rate.from_facts(altered(BANDED, "bands.0.from", told) | {"outside": "closed"}).bands[0].when.from_s == second


def test_steps_alone_are_read_in_any_version() -> None:
    """As a deck or a form tells them; a fee only from the second version on."""
    fee = [{**STEP, "fee": "0.2"}]
    assert read_steps(fee, "at") == (Step(0, Decimal("0.6"), 60, 1, Decimal("0.2")),)
    assert read_steps((STEP,), "at", version=1) == (Step(0, Decimal("0.6"), 60, 1),)
    with pytest.raises(TariffError) as told:
        read_steps(fee, "at", version=1)
    assert str(told.value) == "at.0: there is no key 'fee'; expected from_s, increment_s, per_s, price"
    with pytest.raises(TariffError) as told:
        read_steps([{**STEP, "increment_s": "0.5"}], "at", version=1)
    assert str(told.value) == "at.0.increment_s: expected whole seconds, or a plain decimal in a string"


KEYS = "barred, connect_fee, destination, prefix, rounding, steps, v"
MAY = (
    "bands, bands_at, barred, connect_fee, destination, durations, effective_at, expires_at, free_below_s, free_s, "
    "max_charge, max_charge_then, min_charge, outside, prefix, rounding, steps, surcharges, timezone, v"
)
BAND_MAY = "connect_fee, dates, days, from, name, priority, steps, to"
CLOCK = "expected a time of day such as 08:00, to 24:00"
PRICE = 'expected a plain decimal in a string, such as "0.0125"'
SECONDS = "expected whole seconds, or a plain decimal in a string"


@pytest.mark.parametrize("facts", [None, [], "x", {}, {"v": 3}, {"v": 0}, {"v": True}, {"v": "1"}, {"v": 1.0}])
def test_what_is_of_no_known_version_is_no_rate(facts: Any) -> None:
    """No version is newer than this program reads, and none is a text."""
    assert refusal(facts) == "expected the facts of a rate, version 1 to 2"


@pytest.mark.parametrize("missing", sorted(set(FACTS) - {"v"}))
def test_a_key_that_is_missing_is_named(missing: str) -> None:
    """With all that must be there."""
    facts = {key: value for key, value in FACTS.items() if key != missing}
    assert refusal(facts) == f"rate: the key {missing} is missing; expected {KEYS}"
    facts.pop("steps", None)
    assert refusal(facts) == f"rate: the key {min(missing, 'steps')} is missing; expected {KEYS}"


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("more", 1, f"rate: there is no key 'more'; expected {MAY}"),
        ("x" * 41, 1, f"rate: there is no key '{'x' * 40}'; expected {MAY}"),
        ("prefix", 49, "prefix: expected str"),
        ("destination", None, "destination: expected str"),
        ("barred", 0, "barred: expected bool"),
        ("connect_fee", "1E5", f"connect_fee: {PRICE}"),
        ("connect_fee", 1, f"connect_fee: {PRICE}"),
        ("steps", {}, "steps: expected a list"),
        ("steps.0", [], "steps.0: expected an object with the keys from_s, increment_s, per_s, price"),
        ("steps.0", {}, "steps.0: the key from_s is missing; expected from_s, increment_s, per_s, price"),
        ("steps.0.more", 1, "steps.0: there is no key 'more'; expected fee, from_s, increment_s, per_s, price"),
        ("steps.0.from_s", "0", "steps.0.from_s: expected int"),
        ("steps.0.per_s", True, "steps.0.per_s: expected int"),
        ("steps.0.price", ".5", f"steps.0.price: {PRICE}"),
        ("steps.0.fee", None, f"steps.0.fee: {PRICE}"),
        ("steps.0.increment_s", 1.5, f"steps.0.increment_s: {SECONDS}"),
        ("steps.0.increment_s", "1E5", f"steps.0.increment_s: {SECONDS}"),
        ("steps.0.increment_s", True, f"steps.0.increment_s: {SECONDS}"),
        ("rounding", None, "rounding: expected an object with the keys decimals, mode"),
        ("rounding.more", 1, "rounding: there is no key 'more'; expected decimals, mode"),
        ("rounding.mode", "sideways", "rounding.mode: expected one of up, half_up, half_even, down"),
        ("rounding.mode", 1, "rounding.mode: expected one of up, half_up, half_even, down"),
        ("rounding.decimals", True, "rounding.decimals: expected a whole number"),
        ("bands", None, "bands: expected a list"),
        ("timezone", 1, "timezone: expected a text"),
        ("bands_at", "end", "bands_at: expected one of start, each_increment"),
        ("outside", None, "outside: expected one of forbidden, base, closed"),
        ("durations", "sideways", "durations: expected one of up, nearest, down, exact"),
        ("free_s", "10", "free_s: expected a whole number"),
        ("free_below_s", 1.5, "free_below_s: expected a whole number"),
        ("min_charge", 0.01, f"min_charge: {PRICE}"),
        ("max_charge", None, f"max_charge: {PRICE}"),
        ("max_charge_then", "beep", "max_charge_then: expected one of free, disconnect"),
        ("surcharges", {}, "surcharges: expected a list"),
        ("surcharges", [1], "surcharges.0: expected an object with the keys after_s, amount"),
        ("surcharges", [{"after_s": 1}], "surcharges.0: the key amount is missing; expected after_s, amount"),
        (
            "surcharges",
            [{"after_s": 1, "amount": "1", "more": 1}],
            "surcharges.0: there is no key 'more'; expected after_s, amount, every_s",
        ),
        ("surcharges", [{"after_s": "1", "amount": "1"}], "surcharges.0.after_s: expected int"),
        ("surcharges", [{"after_s": 1, "amount": 1}], f"surcharges.0.amount: {PRICE}"),
        (
            "surcharges",
            [{"after_s": 1, "amount": "1", "every_s": "1"}],
            "surcharges.0.every_s: expected a whole number",
        ),
        ("effective_at", 2027, "effective_at: expected a time such as 2027-01-01T00:00:00+00:00"),
        ("effective_at", "soon", "effective_at: expected a time such as 2027-01-01T00:00:00+00:00"),
        ("expires_at", "2027-01-01", "expires_at: expected a time with a zone, such as 2027-01-01T00:00:00+00:00"),
    ],
)
def test_what_is_wrong_with_facts_is_told_by_its_place(path: str, value: Any, why: str) -> None:
    """Whoever wrote them finds what to mend, and reads what may stand there."""
    assert refusal(altered(FACTS, path, value)) == why


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("bands.0", 1, "bands.0: expected an object with the keys days, from, steps, to"),
        ("bands.0.more", 1, f"bands.0: there is no key 'more'; expected {BAND_MAY}"),
        ("bands.0.days", "Monday", "bands.0.days: expected a list"),
        ("bands.0.days", [1, "2"], "bands.0.days.1: expected a whole number"),
        ("bands.0.from", 8, f"bands.0.from: {CLOCK}"),
        ("bands.0.from", "8:00", f"bands.0.from: {CLOCK}"),
        ("bands.0.from", "08:60", f"bands.0.from: {CLOCK}"),
        ("bands.0.from", "08:00:60", f"bands.0.from: {CLOCK}"),
        ("bands.0.to", "24:00:01", f"bands.0.to: {CLOCK}"),
        ("bands.0.to", "24:01", f"bands.0.to: {CLOCK}"),
        ("bands.0.dates", "12-25", "bands.0.dates: expected a list"),
        ("bands.0.dates", [1225], "bands.0.dates.0: expected a text"),
        ("bands.0.priority", "high", "bands.0.priority: expected a whole number"),
        ("bands.0.connect_fee", None, f"bands.0.connect_fee: {PRICE}"),
        ("bands.0.name", 7, "bands.0.name: expected a text"),
        ("bands.0.steps", {}, "bands.0.steps: expected a list"),
        ("bands.0.steps.0.fee", 1, f"bands.0.steps.0.fee: {PRICE}"),
        ("bands.0.steps.0.per_s", "60", "bands.0.steps.0.per_s: expected int"),
    ],
)
def test_what_is_wrong_with_a_band_is_told_by_its_place(path: str, value: Any, why: str) -> None:
    """Its number, and the key in it."""
    assert refusal(altered(BANDED, path, value)) == why


def test_the_first_version_reads_none_of_the_second() -> None:
    """Nor says that it could."""
    assert refusal({**FACTS, "v": 1, "free_s": 1}) == f"rate: there is no key 'free_s'; expected {KEYS}"
    assert read(FACTS, v=1) == RATE


def test_a_key_that_is_no_text_is_no_key() -> None:
    """JSON has none, a program may: it is named among others, not a fault of the one who reads."""
    assert refusal({**FACTS, 1: 1, "more": 1}) == f"rate: there is no key '1'; expected {MAY}"


def test_a_word_is_read_as_what_it_means() -> None:
    """Not as the text that it was."""
    assert read(FACTS, durations="exact").conditions.durations is Durations.EXACT
    assert read(FACTS).rounding.mode is RoundingMode.UP
