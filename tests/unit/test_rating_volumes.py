"""Volume tiers: which one an account has reached, what is no set of tiers, and whose month it is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rating.errors import TariffError
from rating.volumes import Tier, check_tiers, month_of, tier_of


def tiers(*begins: int, percent: str = "5") -> list[Tier]:
    return [Tier(from_s, Decimal(percent)) for from_s in begins]


@pytest.mark.parametrize(
    ("used_ms", "from_s"),
    [(0, 0), (1, 0), (599_999, 0), (600_000, 600), (600_001, 600), (1_199_999, 600), (1_200_000, 1200), (10**12, 1200)],
)
def test_a_tier_is_reached_with_its_first_second(used_ms: int, from_s: int) -> None:
    """Ten minutes used are ten minutes or more, a millisecond less is not."""
    assert tier_of(tiers(0, 600, 1200), used_ms).from_s == from_s


@pytest.mark.parametrize(
    "good",
    [
        tiers(0),
        tiers(0, 1),
        tiers(0, 10**9),
        tiers(*range(20)),
        [Tier(0, Decimal(0)), Tier(1, Decimal(100)), Tier(2, Decimal("0.0001"))],
    ],
)
def test_tiers_begin_at_nothing_and_rise(good: Sequence[Tier]) -> None:
    """One to twenty of them, to a thousand million seconds; a later one may well be dearer."""
    check_tiers(good)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ([], "tiers are 1 to 20, and the first begins at 0 s"),
        (tiers(1), "tiers are 1 to 20, and the first begins at 0 s"),
        (tiers(600, 0), "tiers are 1 to 20, and the first begins at 0 s"),
        (tiers(*range(21)), "tiers are 1 to 20, and the first begins at 0 s"),
        (tiers(0, 10**9 + 1), "a tier begins at 1000000000 s at most"),
        (tiers(0, 600, 600), "each tier begins later than the one before"),
        (tiers(0, 1200, 600), "each tier begins later than the one before"),
        (tiers(0, 600, -1), "each tier begins later than the one before"),
        (tiers(0, percent="100.01"), "a percentage is from 0 to 100"),
        (tiers(0, percent="-1"), "a percentage is from 0 to 100"),
        (tiers(0, percent="1.00001"), "a percentage has at most 4 decimals"),
        ([*tiers(0), *tiers(1, percent="NaN")], "a percentage is from 0 to 100"),
    ],
)
def test_what_is_no_set_of_tiers_is_told_why(bad: Sequence[Tier], why: str) -> None:
    """Every tier is looked at, not the first alone."""
    with pytest.raises(TariffError) as told:
        check_tiers(bad)
    assert str(told.value) == why


@pytest.mark.parametrize(
    ("zone", "at", "month"),
    [
        ("UTC", "2026-03-31T23:59:59", "2026-03"),
        ("UTC", "2026-04-01T00:00:00", "2026-04"),
        # Berlin is two hours ahead from 29 March on, one hour in December.
        ("Europe/Berlin", "2026-03-31T21:59:59", "2026-03"),
        ("Europe/Berlin", "2026-03-31T22:00:00", "2026-04"),
        ("Europe/Berlin", "2026-12-31T23:00:00", "2027-01"),
        ("America/New_York", "2027-01-01T04:59:59", "2026-12"),
    ],
)
def test_a_month_is_that_of_a_clock(zone: str, at: str, month: str) -> None:
    """Of the tariff's zone, summer time and the turn of the year included."""
    assert month_of(zone, datetime.fromisoformat(at).replace(tzinfo=UTC)) == month


def test_a_month_needs_a_clock() -> None:
    """A zone that there is none of is refused as everywhere."""
    with pytest.raises(TariffError, match="there is no time zone 'Mars/Olympus'"):
        month_of("Mars/Olympus", datetime(2026, 1, 1, tzinfo=UTC))
