"""What makes a rate, and its facts."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from rating.errors import TariffError
from rating.pricing import cost
from rating.tariff import Rate, Rounding, RoundingMode, Step, Surcharge, When, check
from rating.terms import terms_of

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


def altered(path: str, value: object, of: dict[str, Any] = FACTS) -> dict[str, Any]:
    """Return the facts with one value replaced ("DROP" takes the key away)."""
    facts = copy.deepcopy(of)
    *parents, last = path.split(".")
    place: Any = facts
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    last = int(last) if last.isdigit() else last  # type: ignore[assignment] # a place in a list
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
        ("connect_fee", "0." + "0" * 40 + "1"), ("barred", 0), ("barred", "no"), ("steps", []), ("steps", {}),
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


@pytest.mark.parametrize("fee", ["-0", "-1", "NaN", "sNaN", "Infinity", "1E+10", "1E-41"])
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


BANDS: dict[str, Any] = {
    "v": 2,
    "prefix": "49",
    "destination": "Germany",
    "connect_fee": "0",
    "steps": [{"from_s": 0, "price": "1", "per_s": 60, "increment_s": "0.5", "fee": "0.2"}],
    "rounding": {"mode": "up", "decimals": 4},
    "barred": False,
    "timezone": "Europe/Berlin",
    "bands_at": "start",
    "outside": "base",
    "durations": "exact",
    "free_s": 10,
    "free_below_s": 3,
    "min_charge": "0.01",
    "max_charge": "9.5",
    "max_charge_then": "disconnect",
    "surcharges": [{"after_s": 60, "amount": "0.1"}, {"after_s": 1, "amount": "0.1", "every_s": 30}],
    "bands": [
        {
            "days": [1, 2],
            "from": "22:00",
            "to": "06:30:15",
            "dates": ["12-25", "2027-03-28"],
            "priority": 3,
            "connect_fee": "0.5",
            "name": "night",
            "steps": [{"from_s": 0, "price": "2", "per_s": 60, "increment_s": 1}],
        },
        {"days": [7], "from": "00:00", "to": "24:00", "priority": 0, "steps": FACTS["steps"]},
    ],
    "effective_at": "2027-01-01T00:00:00+00:00",
    "expires_at": "2028-01-01T00:00:00+00:00",
}


def test_all_that_a_rate_may_say_is_kept_in_its_facts() -> None:
    """Through JSON and back, each with its value."""
    rate = Rate.from_facts(json.loads(json.dumps(BANDS)))
    assert rate.facts() == BANDS
    assert rate.bands[0].when == When((1, 2), 22 * 3600, 6 * 3600 + 1815, ("12-25", "2027-03-28"), 3)
    assert rate.conditions.surcharges[1] == Surcharge(1, Decimal("0.1"), 30)
    assert rate.steps[0] == Step(0, Decimal(1), 60, Decimal("0.5"), Decimal("0.2"))
    assert rate.expires_at == datetime(2028, 1, 1, tzinfo=UTC)


def test_what_is_not_said_is_not_written() -> None:
    """A rate without anything new has facts of version 1, to the letter; a key says only what differs."""
    plain = {key: FACTS[key] for key in FACTS}
    assert Rate.from_facts({**plain, "v": 2, "bands": [], "free_s": 0, "timezone": "UTC"}).facts() == FACTS
    assert Rate.from_facts({**plain, "v": 2, "free_s": 7}).facts() == {**FACTS, "v": 2, "free_s": 7}


@pytest.mark.parametrize("key", sorted(set(BANDS) - set(FACTS)))
def test_version_1_knows_nothing_new(key: str) -> None:
    """A key of version 2 under the number 1 is a key that nobody would read."""
    with pytest.raises(TariffError, match=f"rate: there is no key '{key}'"):
        Rate.from_facts({**FACTS, key: BANDS[key]})
    with pytest.raises(TariffError, match=r"steps\.0: there is no key 'fee'"):
        Rate.from_facts({**FACTS, "steps": [{**FACTS["steps"][0], "fee": "0"}]})
    with pytest.raises(TariffError, match=r"steps\.0\.increment_s"):
        Rate.from_facts({**FACTS, "steps": [{**FACTS["steps"][0], "increment_s": "0.5"}]})


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("bands", {}, "bands"),
        ("bands", None, "bands"),
        ("bands.1", None, "bands.1"),
        ("bands.1.more", 1, "bands.1"),
        ("bands.1.days", "DROP", "bands.1"),
        ("bands.1.days", "Monday", "bands.1.days"),
        ("bands.1.days", ["1"], "bands.1.days.0"),
        ("bands.1.days", [True], "bands.1.days.0"),
        ("bands.1.days", [9], "bands.1.days"),
        ("bands.1.from", "8:00", "bands.1.from"),
        ("bands.1.from", "24:00", "bands.1.from"),
        ("bands.1.to", "24:01", "bands.1.to"),
        ("bands.1.to", "12:60", "bands.1.to"),
        ("bands.1.to", "12:00:60", "bands.1.to"),
        ("bands.1.to", 24, "bands.1.to"),
        ("bands.1.to", "00:00", "bands.1.to"),
        ("bands.0.dates", ["13-01"], "bands.0.dates.0"),
        ("bands.0.dates", [1225], "bands.0.dates.0"),
        ("bands.0.priority", "high", "bands.0.priority"),
        ("bands.0.connect_fee", "-1", "bands.0.connect_fee"),
        ("bands.0.connect_fee", None, "bands.0.connect_fee"),
        ("bands.0.name", 7, "bands.0.name"),
        ("bands.0.name", "a\nb", "bands.0.name"),
        ("bands.0.name", "x" * 41, "bands.0.name"),
        ("bands.0.steps", [], "bands.0.steps"),
        ("bands.0.steps.0.price", "1E5", "bands.0.steps.0.price"),
        ("bands.0.steps.0.price", "NaN", "bands.0.steps.0.price"),
        ("bands.0.steps.0.increment_s", 0, "bands.0.steps.0.increment_s"),
        ("bands.0.steps.0.increment_s", "0.0001", "bands.0.steps.0.increment_s"),
        ("bands.0.steps.0.increment_s", 1.5, "bands.0.steps.0.increment_s"),
        ("bands.0.steps.0.from_s", 5, "bands.0.steps"),
        ("timezone", "Mars/Olympus", "timezone"),
        ("timezone", 1, "timezone"),
        ("bands_at", "end", "bands_at"),
        ("outside", None, "outside"),
        ("outside", "forbidden", "steps"),
        ("durations", "sideways", "durations"),
        ("free_s", "10", "free_s"),
        ("free_below_s", -1, "free_below_s"),
        ("min_charge", 0.01, "min_charge"),
        ("max_charge", "0.001", "max_charge"),
        ("max_charge_then", "beep", "max_charge_then"),
        ("surcharges", {}, "surcharges"),
        ("surcharges.0.after_s", 0, "surcharges.0.after_s"),
        ("surcharges.0.amount", "x", "surcharges.0.amount"),
        ("surcharges.0.more", 1, "surcharges.0"),
        ("effective_at", "2027-01-01", "effective_at"),
        ("effective_at", 2027, "effective_at"),
        ("expires_at", "2026-01-01T00:00:00Z", "expires_at"),
    ],
)
def test_bad_facts_are_refused_with_their_place(path: str, value: object, place: str) -> None:
    """Whoever wrote them finds what to mend."""
    with pytest.raises(TariffError) as refused:
        Rate.from_facts(altered(path, value, BANDS))
    assert str(refused.value).startswith(f"{place}: ")


def test_the_same_price_under_another_prefix_keeps_all_that_it_says() -> None:
    """Only prefix and destination are others; what was worked out for the one is not worked out again."""
    rate = replace(Rate.from_facts(BANDS), barred=True)
    under = rate.under("44", "UK")
    assert under == replace(rate, prefix="44", destination="UK")
    assert under.terms is None
    worked_out = terms_of(rate)
    assert rate.under("44", "UK").terms is worked_out


NEW_YEAR, LATER = datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("since", "until", "holds"),
    [
        (None, None, [True, True, True, True]),
        (NEW_YEAR, None, [False, True, True, True]),
        (None, LATER, [True, True, True, False]),
        (NEW_YEAR, LATER, [False, True, True, False]),
    ],
)
def test_a_rate_is_in_force_from_its_first_moment_until_before_its_last(
    since: datetime | None, until: datetime | None, holds: list[bool]
) -> None:
    """A rate without dates always is."""
    rate = replace(RATE, effective_at=since, expires_at=until)
    assert [rate.holds_at(at) for at in (NEW_YEAR - MOMENT, NEW_YEAR, LATER - MOMENT, LATER)] == holds
