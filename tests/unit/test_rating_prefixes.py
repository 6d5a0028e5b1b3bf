"""The longest prefix."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rating.errors import TariffError
from rating.prefixes import PrefixMap, RateMap
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


@pytest.mark.parametrize("items", [[("4x", 1)], [("+49", 1)], [("٤", 1)], [("49", 1), ("49", 2)], [(" ", 1)]])
def test_what_is_no_set_of_prefixes_is_refused(items: list[tuple[str, int]]) -> None:
    """Prefixes are digits and come once."""
    with pytest.raises(TariffError):
        PrefixMap(items)


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


BOOK = RateMap([
    scheduled("49", "Germany"),
    scheduled("49", "Germany, dearer", 2027),
    scheduled("4930", "Berlin", 2026, 2028),
    scheduled("44", "UK", None, 2026),
])  # fmt: skip


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
    rate = BOOK.longest(number, datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert (rate and rate.destination) == found
    assert len(BOOK) == 3


@pytest.mark.parametrize("since", [None, 2026])
def test_two_rates_of_a_prefix_from_the_same_time_on_are_an_error(since: int | None) -> None:
    """Which of them holds is nowhere said."""
    with pytest.raises(TariffError, match="'49' has two rates"):
        RateMap([scheduled("49", "a", since), scheduled("4", "b"), scheduled("49", "c", since)])


def test_a_map_without_a_schedule_finds_as_any_map() -> None:
    """Rates without dates are in force at all times."""
    book = RateMap([scheduled("49", "Germany"), scheduled("4930", "Berlin")])
    rate = book.longest("4930", datetime(1999, 1, 1, tzinfo=UTC))
    assert (rate and rate.destination, len(book)) == ("Berlin", 2)
