"""Bands on the days clocks change, worked out by hand from the published moments of the changes in 2026.

    Berlin     29 March 01:00Z 02:00 → 03:00      25 October 01:00Z 03:00 → 02:00
    New York    8 March 07:00Z 02:00 → 03:00       1 November 06:00Z 02:00 → 01:00
    Sydney      5 April 03:00 → 02:00 (4th 16:00Z)   4 October 02:00 → 03:00 (3rd 16:00Z)
    Lord Howe   5 April 02:00 → 01:30 (4th 15:00Z)   4 October 02:00 → 02:30 (3rd 15:30Z)

In each case a second costs 1, in the band 0.01, and the call talks ten seconds longer at both ends: its cost says how
long the band was.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from rating.bulk import BulkBook, call_columns
from rating.money import MICROS
from rating.parts import Band, BandsAt, Conditions, Outside, Rounding, RoundingMode, Step, When
from rating.pricing import afford, cost
from rating.tariff import Rate, check

HOUR = 3600
DEAR, CHEAP = (Step(0, Decimal(1), 1, 1),), (Step(0, Decimal("0.01"), 1, 1),)


def rate_of(zone: str, when: When, bands_at: BandsAt = BandsAt.EACH_INCREMENT) -> Rate:
    """Return a rate that is cheap in one band and dear outside it."""
    conditions = Conditions(timezone=zone, outside=Outside.BASE, bands_at=bands_at)
    rounding = Rounding(RoundingMode.HALF_UP, 6)
    made = Rate("", "", Decimal(0), DEAR, rounding, bands=(Band(when, CHEAP),), conditions=conditions)
    check(made)
    return made


def clock(begin: str, end: str, **more: object) -> When:
    """Return the times of a band that holds every day."""
    from_s, to_s = (int(text[:2]) * HOUR + int(text[3:]) * 60 for text in (begin, end))
    return When(from_s=from_s, to_s=to_s, **more)  # type: ignore[arg-type] # dates and priority


CASES = [
    # A night over the change: seven hours, nine hours, and eight and a half to the half hour of Lord Howe.
    ("Europe/Berlin", clock("22:00", "06:00"), "2026-03-28T21:00Z", 7 * HOUR),
    ("Europe/Berlin", clock("22:00", "06:00"), "2026-10-24T20:00Z", 9 * HOUR),
    ("America/New_York", clock("22:00", "06:00"), "2026-03-08T03:00Z", 7 * HOUR),
    ("America/New_York", clock("22:00", "06:00"), "2026-11-01T02:00Z", 9 * HOUR),
    ("Australia/Sydney", clock("22:00", "06:00"), "2026-04-04T11:00Z", 9 * HOUR),
    ("Australia/Sydney", clock("22:00", "06:00"), "2026-10-03T12:00Z", 7 * HOUR),
    ("Australia/Lord_Howe", clock("22:00", "06:00"), "2026-04-04T11:00Z", 8 * HOUR + HOUR // 2),
    ("Australia/Lord_Howe", clock("22:00", "06:00"), "2026-10-03T11:30Z", 7 * HOUR + HOUR // 2),
    # The hour that comes twice, wholly in the band: two hours, and one and a half.
    ("Europe/Berlin", clock("02:00", "03:00"), "2026-10-25T00:00Z", 2 * HOUR),
    ("America/New_York", clock("01:00", "02:00"), "2026-11-01T05:00Z", 2 * HOUR),
    ("Australia/Sydney", clock("02:00", "03:00"), "2026-04-04T15:00Z", 2 * HOUR),
    ("Australia/Lord_Howe", clock("01:00", "02:00"), "2026-04-04T14:00Z", HOUR + HOUR // 2),
    # A band that ends within the time that is missing: what of it exists.
    ("Europe/Berlin", clock("01:30", "02:30"), "2026-03-29T00:30Z", HOUR // 2),
    ("America/New_York", clock("01:30", "02:30"), "2026-03-08T06:30Z", HOUR // 2),
    ("Australia/Sydney", clock("01:30", "02:30"), "2026-10-03T15:30Z", HOUR // 2),
    ("Australia/Lord_Howe", clock("01:30", "02:15"), "2026-10-03T15:00Z", HOUR // 2),
    # A band that lies in it wholly: none of it.
    ("Europe/Berlin", clock("02:00", "03:00"), "2026-03-29T01:00Z", 0),
    ("America/New_York", clock("02:15", "02:45"), "2026-03-08T07:00Z", 0),
    ("Australia/Sydney", clock("02:00", "03:00"), "2026-10-03T16:00Z", 0),
    ("Australia/Lord_Howe", clock("02:00", "02:30"), "2026-10-03T15:30Z", 0),
    # A holiday: 23, 25, and 24 and a half hours.
    ("Europe/Berlin", clock("00:00", "24:00", dates=("2026-03-29",), priority=1), "2026-03-28T23:00Z", 23 * HOUR),
    ("Europe/Berlin", clock("00:00", "24:00", dates=("10-25",), priority=1), "2026-10-24T22:00Z", 25 * HOUR),
    ("America/New_York", clock("00:00", "24:00", dates=("03-08",)), "2026-03-08T05:00Z", 23 * HOUR),
    ("Australia/Lord_Howe", clock("00:00", "24:00", dates=("04-05",)), "2026-04-04T13:00Z", 24 * HOUR + HOUR // 2),
    ("Australia/Lord_Howe", clock("00:00", "24:00", dates=("10-04",)), "2026-10-03T13:30Z", 23 * HOUR + HOUR // 2),
    # A night that begins on the holiday and ends on the day after it, when the clock has changed meanwhile.
    ("Europe/Berlin", clock("22:00", "06:00", dates=("10-24",)), "2026-10-24T20:00Z", 9 * HOUR),
    ("Australia/Sydney", clock("22:00", "06:00", dates=("10-03",)), "2026-10-03T12:00Z", 7 * HOUR),
]


@pytest.mark.parametrize(("zone", "when", "begins", "length_s"), CASES)
def test_a_band_is_as_long_as_the_clock_makes_it(zone: str, when: When, begins: str, length_s: int) -> None:
    """Ten seconds before it, all of it, ten seconds after it: one price, its inverse, and the price in bulk."""
    rate = rate_of(zone, when)
    begin = datetime.fromisoformat(begins)
    answered_at = datetime.fromtimestamp(begin.timestamp() - 10, UTC)
    seconds = 10 + length_s + 10
    micros = 20 * MICROS + length_s * MICROS // 100
    assert cost(rate, seconds, answered_at) == (micros, seconds)
    assert afford(rate, micros, 200_000, answered_at) == seconds
    assert afford(rate, micros - 1, 200_000, answered_at) == seconds - 1
    calls = pl.DataFrame([("1", answered_at, answered_at, seconds * 1000)], call_columns(), orient="row")
    assert BulkBook([rate]).price(calls).frame["cost_micros"].to_list() == [micros]


@pytest.mark.parametrize(
    ("zone", "answered", "expected"),
    [
        # 02:30 comes twice in Berlin, 01:45 twice on Lord Howe: both times the band of the answer prices all of it.
        ("Europe/Berlin", "2026-10-25T00:30Z", "0.6"),
        ("Europe/Berlin", "2026-10-25T01:30Z", "0.6"),
        ("Europe/Berlin", "2026-10-25T02:00Z", "60"),
        ("Australia/Lord_Howe", "2026-04-04T15:29Z", "60"),
        ("Australia/Lord_Howe", "2026-04-04T15:30Z", "0.6"),
        ("Australia/Lord_Howe", "2026-10-03T15:29Z", "60"),
        ("Australia/Lord_Howe", "2026-10-03T15:30Z", "0.6"),
    ],
)
def test_the_band_of_the_answer_where_the_clock_has_just_changed(zone: str, answered: str, expected: str) -> None:
    """With `bands_at` start the local time of the answer decides: from 02:00 to 03:00 it is cheap."""
    rate = rate_of(zone, clock("02:00", "03:00"), BandsAt.START)
    assert cost(rate, 60, datetime.fromisoformat(answered))[0] == Decimal(expected) * MICROS
