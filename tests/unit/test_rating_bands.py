"""Bands: by weekday, clock and date, in the tariff's zone, over midnight and on the days the clock changes.

Every amount is worked out by hand. A second of the day costs 1 in band A and 0.01 in band B, so that a cost tells how
many seconds fell into which.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from rating.errors import TariffError
from rating.pricing import Line, afford, band_changes, closing, cost, longest, price
from rating.tariff import (
    Band,
    BandsAt,
    Conditions,
    Outside,
    Rate,
    Rounding,
    RoundingMode,
    Step,
    When,
    check,
    find_fault,
)

HOUR = 3600
WORK = (1, 2, 3, 4, 5)
WEEKEND = (6, 7)


def steps(price: str, increment_s: int = 1) -> tuple[Step, ...]:
    return (Step(0, Decimal(price), 1, increment_s),)


def at(text: str, zone: str = "UTC") -> datetime:
    """Return a local time of the zone, as an instant. A second time of an hour is written with a trailing !."""
    return (
        datetime.fromisoformat(text.rstrip("!")).replace(tzinfo=ZoneInfo(zone), fold=text.endswith("!")).astimezone(UTC)
    )


def rate(
    *bands: Band, zone: str = "UTC", base: str = "", at_start: bool = False, outside: Outside | None = None
) -> Rate:
    conditions = Conditions(
        timezone=zone,
        bands_at=BandsAt.START if at_start else BandsAt.EACH_INCREMENT,
        outside=outside or (Outside.BASE if base else Outside.FORBIDDEN),
    )
    return Rate(
        "49", "Germany", Decimal(0), steps(base) if base else (), Rounding(RoundingMode.HALF_UP, 6),
        bands=bands, conditions=conditions,
    )  # fmt: skip


def day_and_night(zone: str = "UTC", *, at_start: bool = False, increment_s: int = 1) -> Rate:
    """Return 1 a second from 08:00 to 18:00 every day, 0.01 at all other times."""
    return rate(
        Band(When(from_s=8 * HOUR, to_s=18 * HOUR), steps("1", increment_s), name="day"),
        Band(When(from_s=18 * HOUR, to_s=8 * HOUR), steps("0.01", increment_s), name="night"),
        zone=zone,
        at_start=at_start,
    )


def units(of: Rate, seconds: int, when: datetime) -> Decimal:
    return Decimal(cost(of, seconds, when)[0]) / 1_000_000


@pytest.mark.parametrize(
    ("answered", "seconds", "expected"),
    [
        ("2026-01-05T17:59:50", 10, "10"),
        ("2026-01-05T17:59:50", 11, "10.01"),
        ("2026-01-05T18:00:00", 11, "0.11"),
        ("2026-01-05T07:59:59.500", 2, "1.01"),
        ("2026-01-05T07:59:59.999", 1, "0.01"),
        # From day over the night into the next day: 1 h + 14 h + 1 h.
        ("2026-01-05T17:00:00", 16 * HOUR, "7704"),
    ],
)
def test_each_increment_has_the_band_in_force_when_it_begins(answered: str, seconds: int, expected: str) -> None:
    """A call that goes over a band's end is priced by both bands, to the millisecond."""
    assert units(day_and_night(), seconds, at(answered)) == Decimal(expected)


@pytest.mark.parametrize(("answered", "expected"), [("2026-01-05T17:59:59", "100"), ("2026-01-05T18:00:00", "1")])
def test_a_tariff_may_keep_the_band_of_the_answer(answered: str, expected: str) -> None:
    """With `bands_at` start the whole call is priced by the band in which it was answered."""
    assert units(day_and_night(at_start=True), 100, at(answered)) == Decimal(expected)


def test_an_increment_is_billed_whole_over_the_end_of_its_band() -> None:
    """A minute begun at 17:59:30 costs a minute of the day; the next one begins at 18:00:30."""
    of = day_and_night(increment_s=60)
    assert cost(of, 30, at("2026-01-05T17:59:30")) == (60_000_000, 60)
    assert cost(of, 61, at("2026-01-05T17:59:30")) == (60_600_000, 120)


def test_a_band_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    """Friday night goes on into Saturday; Sunday night is not one of them."""
    of = rate(Band(When(days=(5,), from_s=22 * HOUR, to_s=6 * HOUR), steps("1")), base="0.01")
    assert units(of, 1, at("2026-01-09T21:59:59")) == Decimal("0.01")
    assert units(of, 1, at("2026-01-09T22:00:00")) == 1
    assert units(of, 1, at("2026-01-10T05:59:59")) == 1
    assert units(of, 1, at("2026-01-10T06:00:00")) == Decimal("0.01")
    assert units(of, 1, at("2026-01-09T05:00:00")) == Decimal("0.01")
    # Saturday night to Sunday, 00:00: Friday's band was over 18 h ago.
    assert units(of, 1, at("2026-01-11T00:00:00")) == Decimal("0.01")


def test_midnight_is_the_end_of_one_day_and_the_beginning_of_the_next() -> None:
    """24:00 on Friday is 00:00 on Saturday, with no second in both or in none."""
    of = rate(Band(When(days=WORK), steps("1")), Band(When(days=WEEKEND), steps("0.01")))
    assert units(of, 3, at("2026-01-09T23:59:58")) == Decimal("2.01")
    assert units(of, 3, at("2026-01-11T23:59:58")) == Decimal("1.02")


@pytest.mark.parametrize(
    ("answered", "seconds", "expected"),
    [
        # 29 March 2026: 02:00 becomes 03:00 in Berlin. The night 01:59:59 → 03:00:00 is one second long.
        ("2026-03-29T01:59:59", 2, "1.01"),
        ("2026-03-29T01:00:00", 2 * HOUR, "3636"),
        # From midnight to 08:00 are seven hours: 2 h of A, 5 h of B.
        ("2026-03-29T00:00:00", 7 * HOUR, "7380"),
        # 25 October 2026: 03:00 becomes 02:00. Band A, until 03:00, holds an hour longer.
        ("2026-10-25T02:30:00", HOUR, "3600"),
        ("2026-10-25T02:30:00", HOUR + 1800, "5400"),
        ("2026-10-25T02:30:00", HOUR + 1801, "5400.01"),
        ("2026-10-25T02:30:00!", 1801, "1800.01"),
        # From midnight to 08:00 are nine hours: 4 h of A, 5 h of B.
        ("2026-10-25T00:00:00", 9 * HOUR, "14580"),
    ],
)
def test_bands_hold_on_the_days_the_clock_changes(answered: str, seconds: int, expected: str) -> None:
    """Band A holds on the clock of Berlin from 00:00 to 03:00, however many hours that is."""
    of = rate(
        Band(When(from_s=0, to_s=3 * HOUR), steps("1")),
        Band(When(from_s=3 * HOUR, to_s=24 * HOUR), steps("0.01")),
        zone="Europe/Berlin",
    )
    assert units(of, seconds, at(answered, "Europe/Berlin")) == Decimal(expected)


@pytest.mark.parametrize(
    ("answered", "seconds", "expected"),
    [
        # A band inside the hour that does not exist never holds on that day.
        ("2026-03-29T01:00:00", 2 * HOUR, "72"),
        # And one inside the hour that comes twice holds twice: 15 min, 45 min between, 15 min, and 45 min.
        ("2026-10-25T02:00:00", 2 * HOUR, "1854"),
    ],
)
def test_a_band_within_the_hour_that_is_missing_or_doubled(answered: str, seconds: int, expected: str) -> None:
    """From 02:00 to 02:15: nothing in March, half an hour in October."""
    of = rate(Band(When(from_s=2 * HOUR, to_s=2 * HOUR + 900), steps("1")), zone="Europe/Berlin", base="0.01")
    assert units(of, seconds, at(answered, "Europe/Berlin")) == Decimal(expected)


def test_a_zone_whose_clock_changes_at_midnight() -> None:
    """In Havana 00:00 became 01:00 on 8 March 2026: Saturday ends, and Sunday begins at one o'clock."""
    of = rate(
        Band(When(days=(7,)), steps("1")),
        Band(When(days=(1, 2, 3, 4, 5, 6)), steps("0.01")),
        zone="America/Havana",
    )
    assert units(of, 3, at("2026-03-07T23:59:58", "America/Havana")) == Decimal("1.02")
    # Sunday has 23 hours.
    assert units(of, 24 * HOUR, at("2026-03-08T01:00:00", "America/Havana")) == 23 * HOUR + HOUR * Decimal("0.01")


def test_days_and_clock_are_those_of_the_zone() -> None:
    """Friday 23:30 in New York is Saturday in London; the tariff says whose clock counts."""
    moment = at("2026-01-09T23:30:00", "America/New_York")
    weekend = (Band(When(days=WORK), steps("1")), Band(When(days=WEEKEND), steps("0.01")))
    assert units(rate(*weekend, zone="America/New_York"), 1, moment) == 1
    assert units(rate(*weekend, zone="Europe/London"), 1, moment) == Decimal("0.01")
    # 05:45 ahead of UTC.
    nepal = day_and_night("Asia/Kathmandu")
    assert units(nepal, 2, at("2026-01-05T02:14:59")) == Decimal("1.01")


def test_holidays_win_by_their_priority() -> None:
    """Christmas comes every year, Easter is named with its year; both beat the working day."""
    of = rate(
        Band(When(), steps("1")),
        Band(When(dates=("12-25", "2026-04-06"), priority=10), steps("0.01"), Decimal("0.5")),
    )
    assert units(of, 2, at("2026-12-24T23:59:59")) == Decimal("1.01")
    assert units(of, 2, at("2027-12-25T23:59:59")) == Decimal("1.51")
    assert units(of, 1, at("2026-04-06T12:00:00")) == Decimal("0.51")
    assert units(of, 1, at("2027-04-06T12:00:00")) == 1


def test_a_leap_day_is_a_date() -> None:
    """02-29 holds in leap years and never otherwise."""
    of = rate(Band(When(dates=("02-29",)), steps("1")), base="0.01")
    assert units(of, 1, at("2028-02-29T12:00:00")) == 1
    assert units(of, 1, at("2027-03-01T00:00:00")) == Decimal("0.01")


def test_the_band_of_the_answer_gives_the_connect_fee() -> None:
    """A band's own fee wins over the rate's, and the fee of a band that is reached later is not charged."""
    bands = (
        Band(When(from_s=0, to_s=12 * HOUR), steps("1"), Decimal("0.25")),
        Band(When(from_s=12 * HOUR, to_s=24 * HOUR), steps("0.01")),
    )
    of = replace(rate(*bands), connect_fee=Decimal("0.75"))
    assert units(of, 2, at("2026-01-05T11:59:59")) == Decimal("1.26")
    assert units(of, 1, at("2026-01-05T12:00:00")) == Decimal("0.76")


def test_steps_count_from_the_answer_in_every_band() -> None:
    """After ten seconds the second step holds, also in a band that has just begun; its fee is charged once."""
    cheaper = (Step(0, Decimal(1), 1, 1), Step(10, Decimal("0.5"), 1, 1, Decimal("0.2")))
    night = (Step(0, Decimal("0.1"), 1, 1), Step(10, Decimal("0.01"), 1, 1, Decimal(7)))
    of = rate(
        Band(When(from_s=0, to_s=12 * HOUR), cheaper),
        Band(When(from_s=12 * HOUR, to_s=24 * HOUR), night),
    )
    # 10 × 1, then 0.2 and 5 × 0.5, then 5 × 0.01: the second step was reached before the night.
    assert units(of, 20, at("2026-01-05T11:59:45")) == Decimal("12.75")
    # 5 × 1, 5 × 0.1, then 7 and 10 × 0.01: it was reached in the night.
    assert units(of, 20, at("2026-01-05T11:59:55")) == Decimal("12.6")


def test_a_price_tells_its_bands() -> None:
    """Each band has its line; a night that goes on after midnight is one."""
    priced = price(day_and_night(), 6 * HOUR + 10, at=at("2026-01-05T17:59:50"))
    assert priced.lines == (
        Line("1 per 1 s, in increments of 1 s (day)", 10, "10"),
        Line("0.01 per 1 s, in increments of 1 s (night)", 6 * HOUR, "216"),
    )


def test_without_the_time_of_the_answer_there_is_no_price() -> None:
    """A rate with bands asks when; a time without a zone is no time."""
    with pytest.raises(TariffError, match="time of the answer"):
        cost(day_and_night(), 1)
    with pytest.raises(TariffError, match="zone"):
        cost(day_and_night(), 1, datetime(2026, 1, 5))  # noqa: DTZ001 - that is the point


def test_funds_last_over_the_end_of_a_band() -> None:
    """12 pay for ten seconds of the day and two hundred of the night."""
    assert afford(day_and_night(), 12_000_000, 10_000, at("2026-01-05T17:59:50")) == 210
    assert afford(day_and_night(), 12_000_000, 100, at("2026-01-05T17:59:50")) == 100
    assert afford(day_and_night(), 999_999, 100, at("2026-01-05T17:59:50")) == 0


# -- closed hours ------------------------------------------------------------------------------------------------------


def shop() -> Rate:
    """Return a tariff that is open from 08:00 to 18:00 on working days."""
    return rate(Band(When(WORK, 8 * HOUR, 18 * HOUR), steps("1")), outside=Outside.CLOSED)


def test_a_closed_tariff_ends_the_call() -> None:
    """However much money there is, the time ends at 18:00; at the weekend no call begins."""
    assert longest(shop(), 3600, at("2026-01-05T17:59:50")) == 10
    assert longest(shop(), 5, at("2026-01-05T17:59:50")) == 5
    assert longest(shop(), 3600, at("2026-01-05T18:00:00")) == 0
    assert afford(shop(), 10**12, 3600, at("2026-01-10T12:00:00")) == 0
    assert closing(shop(), at("2026-01-05T17:59:50"), 10_000) is None
    assert closing(shop(), at("2026-01-05T17:59:50"), 10_001) == at("2026-01-05T18:00:00")


def test_talk_in_closed_hours_has_the_price_of_the_band_before() -> None:
    """There is always a price, and it never falls with time."""
    assert units(shop(), 20, at("2026-01-05T17:59:50")) == 20
    assert units(shop(), 20, at("2026-01-11T12:00:00")) == 20
    dated = rate(Band(When(dates=("2020-01-01",)), steps("1")), outside=Outside.CLOSED)
    assert units(dated, 20, at("2026-01-11T12:00:00")) == 20


def test_the_changes_of_band_in_a_stretch_of_time() -> None:
    """What may come into force while a call rings."""
    of = day_and_night("Europe/Berlin")
    assert band_changes(of, at("2026-01-05T16:59:00"), at("2026-01-06T07:00:00")) == [
        at("2026-01-05T17:00:00"),
        at("2026-01-06T07:00:00"),
    ]
    assert band_changes(of, at("2026-01-05T17:00:00"), at("2026-01-05T17:01:00")) == []
    assert band_changes(rate(base="1"), at("2026-01-05T17:00:00"), at("2027-01-05T17:01:00")) == []


# -- bands that are none -----------------------------------------------------------------------------------------------


def band(days: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7), begin: int = 0, end: int = 24, **more: object) -> Band:
    return Band(When(days, begin * HOUR, end * HOUR, **more), steps("1"))  # type: ignore[arg-type] # what a test says


@pytest.mark.parametrize(
    ("bands", "gap"),
    [
        ([band(WORK)], "Saturday from 00:00 to 24:00"),
        ([band(WEEKEND), band(WORK, 8, 18)], "Monday from 00:00 to 08:00"),
        ([band(begin=8, end=18), band(begin=19, end=8)], "Monday from 18:00 to 19:00"),
        ([band((1, 2, 3, 4, 5, 6)), band((7,), 0, 23)], "Sunday from 23:00 to 24:00"),
        ([band((1, 2, 3, 4, 5, 6, 7), dates=("12-25",))], "Monday from 00:00 to 24:00"),
        ([band(begin=22, end=21)], "Monday from 21:00 to 22:00"),
    ],
)
def test_a_gap_in_the_week_is_named(bands: list[Band], gap: str) -> None:
    """Bands cover the week, or the tariff says what holds outside."""
    of = rate(*bands)
    with pytest.raises(TariffError, match=f"nothing covers {gap}"):
        check(of)
    assert find_fault(rate(*bands, base="1")) is None
    assert find_fault(rate(*bands, outside=Outside.CLOSED)) is None


@pytest.mark.parametrize(
    ("bands", "place", "told"),
    [
        ([band(), band(WORK, 8, 18)], "bands.1", "bands.0 at the same priority, on Monday 08:00"),
        ([band(priority=1), band(), band((7,), 23, 24, priority=1)], "bands.2", "on Sunday 23:00"),
        ([band((1,), 22, 6), band((2,), 5, 7)], "bands.1", "bands.0 at the same priority, on Tuesday 05:00"),
        ([band((7,), 22, 6), band((1,), 0, 1)], "bands.1", "bands.0 at the same priority, on Monday 00:00"),
        ([band(dates=("12-25",)), band(dates=("2031-12-25",))], "bands.1", "on 2031-12-25 00:00"),
        ([band((6,), dates=("12-24",), begin=20, end=4), band(dates=("12-25",))], "bands.1", "on 2005-12-25 00:00"),
        ([band(dates=("02-29",)), band((7,))], "bands.1", "on 2004-02-29 00:00"),
    ],
)  # fmt: skip
def test_bands_of_one_priority_do_not_overlap(bands: list[Band], place: str, told: str) -> None:
    """Which of them would hold is nowhere said, so it is an error that names both and when."""
    fault = find_fault(rate(*bands, base="1"))
    assert fault is not None
    assert fault.where == place
    assert fault.reason.endswith(told)


@pytest.mark.parametrize(
    "bands",
    [
        [band(), band(WORK, 8, 18, priority=1)],
        [band((1,), 22, 6), band((2,), 6, 7), band((1,), 6, 22)],
        [band(dates=("12-25",)), band(dates=("12-26", "2026-04-05"))],
        # 24 December 2026 is a Thursday.
        [band(dates=("2026-12-24",)), band((5,))],
        [band((5,), 22, 6, dates=("2026-12-25",)), band((6,), 6, 7), band((5,), 0, 22)],
    ],
)
def test_bands_that_never_meet_are_fine(bands: list[Band]) -> None:
    """Other hours, other days, other dates or another priority: no overlap."""
    assert find_fault(rate(*bands, base="1")) is None


@pytest.mark.parametrize(
    ("when", "place"),
    [
        (When(days=()), "days"),
        (When(days=(0, 1)), "days"),
        (When(days=(8,)), "days"),
        (When(days=(1, 1)), "days"),
        (When(from_s=-1), "from"),
        (When(from_s=86_400), "from"),
        (When(to_s=86_401), "to"),
        (When(from_s=60, to_s=60), "to"),
        (When(from_s=0, to_s=0), "to"),
        (When(dates=("02-30",)), "dates.0"),
        (When(dates=("12-25", "2027-02-29")), "dates.1"),
        (When(dates=("25.12.",)), "dates.0"),
        (When(priority=10**9), "priority"),
    ],
)
def test_times_that_are_none_are_refused_with_their_place(when: When, place: str) -> None:
    """Each part of a band is checked by itself before the bands are compared."""
    fault = find_fault(rate(Band(When(), steps("1")), Band(when, steps("1"))))
    assert fault is not None
    assert fault.where == f"bands.1.{place}"


@pytest.mark.parametrize("zone", ["", "Europe/Atlantis", "../../etc/passwd", "/etc/localtime", "UTC\x00", "Europe"])
def test_a_time_zone_is_one_of_iana(zone: str) -> None:
    """A name that is no zone is refused, whatever it tries to reach."""
    fault = find_fault(rate(Band(When(), steps("1")), zone=zone))
    assert fault is not None
    assert fault.where == "timezone"


def test_base_steps_need_a_place_to_hold() -> None:
    """Steps of the rate beside bands that cover the week would never be used: that is a mistake, not a rate."""
    fault = find_fault(replace(rate(band()), steps=steps("1")))
    assert fault is not None
    assert fault.where == "steps"
    fault = find_fault(rate(band(), outside=Outside.BASE))
    assert fault is not None
    assert fault.where == "steps"
