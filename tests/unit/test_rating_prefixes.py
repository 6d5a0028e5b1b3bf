"""The longest prefix."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rating.errors import TariffError
from rating.prefixes import PrefixMap, RateMap, Reach
from rating.tariff import Rate, Rounding, Step


@pytest.mark.parametrize(
    ("number", "found"),
    [
        ("4930123", "Berlin"),
        ("4930", "Berlin"),
        ("493", "Germany"),
        ("49", "Germany"),
        ("4", None),
        ("", None),
        ("1212", None),
        ("49a30", "Germany"),
        ("+4930", None),
        ("49 30", "Germany"),
        ("٤٩", None),
        ("49" + "0" * 100_000, "Germany"),
    ],
)
def test_the_longest_prefix_wins(number: str, found: str | None) -> None:
    """The longest prefix is found, and a character that is no digit ends the search."""
    assert PrefixMap({"49": "Germany", "4930": "Berlin", "44": "UK"}).longest(number) == found


def test_the_empty_prefix_matches_everything() -> None:
    """A value of the empty prefix is found where nothing longer is."""
    prefixes = PrefixMap([("", "rest"), ("49", "Germany")])
    assert prefixes.longest("1") == "rest"
    assert prefixes.longest("") == "rest"
    assert prefixes.longest("491") == "Germany"
    assert len(prefixes) == 2


def test_an_empty_map_finds_nothing() -> None:
    """Without prefixes nothing matches."""
    assert PrefixMap[str]({}).longest("49") is None


def test_a_later_change_of_the_source_changes_nothing() -> None:
    """The map keeps a copy."""
    source = {"49": 1}
    prefixes = PrefixMap(source)
    source["49"] = 2
    assert prefixes.longest("49") == 1


LONG = "4" * 50
FORTY = f"'{'4' * 40}'"


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([("4x", 1)], "a prefix has only digits, found '4x'"),
        ([("+49", 1)], "a prefix has only digits, found '+49'"),
        ([("٤", 1)], "a prefix has only digits, found '٤'"),
        ([(" ", 1)], "a prefix has only digits, found ' '"),
        ([("", 1), ("49", 1), ("4x", 1)], "a prefix has only digits, found '4x'"),
        ([(LONG + "x", 1)], f"a prefix has only digits, found {FORTY}"),
        ([("49", 1), ("49", 2)], "the prefix '49' comes twice"),
        ([(LONG, 1), (LONG, 2)], f"the prefix {FORTY} comes twice"),
    ],
)
def test_what_is_no_set_of_prefixes_is_refused(items: list[tuple[str, int]], why: str) -> None:
    """Prefixes are digits and come once; the one that is not is named, in forty characters of it."""
    with pytest.raises(TariffError) as told:
        PrefixMap(items)
    assert str(told.value) == why


def test_a_large_set_is_searched_only_as_far_as_a_beginning_reaches() -> None:
    """From a thousand prefixes on the first digits of a number say how long its prefix can be, below all are tried."""
    few = [str(number) for number in range(1000, 1997)] + ["19961234", "2"]
    assert {number: Reach(few).lengths(number) for number in ("19961234", "2999")} == {
        "19961234": (8, 4, 1),
        "2999": (8, 4, 1),
    }
    many = Reach([*few, "1997"])
    assert {number: many.lengths(number) for number in ("1996123", "1000123", "2999", "29", "29a9", "")} == {
        "1996123": (8, 4, 1),
        "1000123": (4, 1),
        "2999": (1,),
        "29": (8, 4, 1),
        "29a9": (8, 4, 1),
        "": (8, 4, 1),
    }


def scheduled(prefix: str, destination: str, since: int | None = None, until: int | None = None) -> Rate:
    """Return a rate that is in force from one year until before another."""
    return Rate(
        prefix,
        destination,
        Decimal(0),
        (Step(0, Decimal(1), 60, 1),),
        Rounding(),
        effective_at=datetime(since, 1, 1, tzinfo=UTC) if since else None,
        expires_at=datetime(until, 1, 1, tzinfo=UTC) if until else None,
    )


BOOK = [
    scheduled("49", "Germany"),
    scheduled("49", "Germany, dearer", 2027),
    scheduled("4930", "Berlin", 2026, 2028),
    scheduled("44", "UK", None, 2026),
]


@pytest.mark.parametrize(
    ("number", "at", "found"),
    [
        ("4930123", "2025-12-31T23:59:59", "Germany"),
        ("4930123", "2026-01-01T00:00:00", "Berlin"),
        ("4930123", "2027-12-31T23:59:59", "Berlin"),
        ("4930123", "2028-01-01T00:00:00", "Germany, dearer"),
        ("4940", "2026-12-31T23:59:59", "Germany"),
        ("4940", "2027-01-01T00:00:00", "Germany, dearer"),
        ("44", "2025-12-31T23:59:59", "UK"),
        ("44", "2026-01-01T00:00:00", None),
        ("1", "2026-01-01T00:00:00", None),
    ],
)
def test_the_longest_prefix_in_force_wins(number: str, at: str, found: str | None) -> None:
    """A rate that is not in force is not there; of two that are, the one that came later holds."""
    book = RateMap(BOOK)
    rate = book.longest(number, datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert (rate and rate.destination) == found
    assert len(book) == 3


@pytest.mark.parametrize(
    ("prefix", "since", "why"),
    [
        ("49", None, "the prefix '49' has two rates without a date"),
        ("49", 2026, "the prefix '49' has two rates from 2026-01-01T00:00:00+00:00 on"),
        (LONG, None, f"the prefix {FORTY} has two rates without a date"),
    ],
)
def test_two_rates_of_a_prefix_from_the_same_time_on_are_an_error(prefix: str, since: int | None, why: str) -> None:
    """Which of them holds is nowhere said; the error names the prefix, in forty characters, and the time."""
    with pytest.raises(TariffError) as told:
        RateMap([scheduled(prefix, "a", since), scheduled("4", "b"), scheduled(prefix, "c", since)])
    assert str(told.value) == why


@pytest.mark.parametrize(("prefix", "named"), [("49", "'49'"), (LONG, FORTY)])
def test_rates_with_and_without_dates_are_told_together(prefix: str, named: str) -> None:
    """A map of rows takes all rates of a prefix in one place: which of two places would win is nowhere said."""
    dated = scheduled(prefix, "Germany", 2026)
    with pytest.raises(TariffError) as told:
        RateMap.of_rows([prefix], lambda _: dated, {prefix: [dated]})
    assert str(told.value) == f"the prefix {named} has rates with and without dates: tell them together"


def test_a_map_without_a_schedule_finds_as_any_map() -> None:
    """Rates without dates are in force at all times."""
    book = RateMap([scheduled("49", "Germany"), scheduled("4930", "Berlin")])
    rate = book.longest("4930", datetime(1999, 1, 1, tzinfo=UTC))
    assert (rate and rate.destination, len(book)) == ("Berlin", 2)
