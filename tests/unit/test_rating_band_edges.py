"""Bands at their edges: days laid out, a second beside a change of the clock, priorities, and bands that meet."""

from __future__ import annotations

from datetime import datetime

import pytest

from rating.bands import DAY_MS, NO_BAND, Calendar, find_overlap, instant_ms, zone_of
from rating.errors import TariffError
from rating.parts import When

HOUR = 3600
DAY_S = 86_400
EVERY = (1, 2, 3, 4, 5, 6, 7)


def ms(text: str) -> int:
    """Return a time of UTC on 29 March 2026, a Sunday; in Berlin the clock jumps from 02:00 to 03:00 at 01:00 UTC."""
    return instant_ms(datetime.fromisoformat(f"2026-03-29T{text}+00:00"))


def test_a_time_without_a_zone_is_refused() -> None:
    """An instant is none without it; a name that is no zone is repeated, in forty characters."""
    with pytest.raises(TariffError) as told:
        instant_ms(datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused
    assert str(told.value) == "a time has a zone"
    with pytest.raises(TariffError) as told:
        zone_of("Berlin/" + "x" * 40)
    assert str(told.value) == f"timezone: there is no time zone 'Berlin/{'x' * 33}'"


def test_a_day_is_laid_out_from_midnight_to_midnight() -> None:
    """Of UTC: the moments at which bands begin lie within it, and the next day is not in it."""
    calendar = Calendar((When(EVERY, 8 * HOUR, 18 * HOUR), When(EVERY, 18 * HOUR, 8 * HOUR)), "UTC")
    begins, bands = calendar.day(2)
    assert [(begin - 2 * DAY_MS) // 1000 for begin in begins] == [0, 8 * HOUR, 18 * HOUR]
    assert bands == [1, 0, 1]
    assert calendar.at(2 * DAY_MS + 20 * HOUR * 1000) == (1, 3 * DAY_MS)


def test_a_band_that_begins_in_the_hour_that_is_left_out_begins_with_the_jump() -> None:
    """Band 1 begins at 02:00:01, a time that does not exist that day: it holds from 03:00:00 on, at 01:00:00 UTC."""
    calendar = Calendar((When(EVERY, 0, 2 * HOUR + 1), When(EVERY, 2 * HOUR + 1, DAY_S)), "Europe/Berlin")
    assert calendar.at(ms("00:59:59.999")) == (0, ms("01:00"))
    assert calendar.at(ms("01:00:00")) == (1, ms("22:00"))


def test_a_band_of_one_second_holds_for_one_second() -> None:
    """The first of the day too."""
    calendar = Calendar((When(EVERY, 0, 1),), "UTC")
    assert calendar.at(ms("00:00:00")) == (0, ms("00:00:01"))
    assert calendar.at(ms("00:00:01"))[0] == NO_BAND


@pytest.mark.parametrize("first", [True, False])
def test_the_higher_priority_holds_wherever_it_stands(first: bool) -> None:
    """Its place among the bands says nothing."""
    low, high = When(EVERY), When(EVERY, 8 * HOUR, 9 * HOUR, priority=1)
    calendar = Calendar((high, low) if first else (low, high), "UTC")
    number = 0 if first else 1
    assert [calendar.at(ms(text))[0] for text in ("07:59:59", "08:00", "09:00")] == [1 - number, number, 1 - number]


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Niue"])
def test_a_time_at_the_ends_of_the_calendar_is_refused(zone: str) -> None:
    """Where a zone's clock would show a year that there is none of; the years before are laid out as any."""
    calendar = Calendar((When(EVERY),), zone)
    for known in ("0002-01-01T00:00:00+00:00", "9998-12-31T23:59:59+00:00"):
        assert calendar.at(instant_ms(datetime.fromisoformat(known)))[0] == 0
    for beyond in ("0001-12-31T23:59:59+00:00", "9999-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(TariffError) as told:
            calendar.at(instant_ms(datetime.fromisoformat(beyond)))
        assert str(told.value) == "bands are known from the year 2 to the year 9998"


MORNING = 6 * HOUR


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [
        # 25 December 2026 is a Friday.
        (When((5,)), When(dates=("2026-12-25",)), "2026-12-25 00:00"),
        (When(dates=("2026-12-25",)), When((5,)), "2026-12-25 00:00"),
        (When((4,)), When(dates=("2026-12-25",)), None),
        # What begins on Thursday night holds on Friday morning, what begins on Friday night or Saturday does not.
        (When(dates=("2026-12-25",), to_s=MORNING), When((4,), 22 * HOUR, MORNING), "2026-12-25 00:00"),
        (When(dates=("2026-12-25",), to_s=MORNING), When((5,), 22 * HOUR, MORNING), None),
        (When(dates=("2026-12-25",), to_s=MORNING), When((6,), 22 * HOUR, MORNING), None),
        (When((4,), 22 * HOUR, MORNING), When(dates=("2026-12-25",), to_s=MORNING), "2026-12-25 00:00"),
        (When((5,), 0, MORNING), When((4,), 22 * HOUR, MORNING), "Friday 00:00"),
        (When((5,), 0, MORNING), When((6,), 22 * HOUR, MORNING), None),
        (When((5,), 0, MORNING), When((3,), 22 * HOUR, MORNING), None),
        (When((4,), 22 * HOUR, MORNING), When((5,), 0, MORNING), "Friday 00:00"),
        # Over the end of the week.
        (When((1,), 0, MORNING), When((7,), 22 * HOUR, MORNING), "Monday 00:00"),
        (When((7,), 22 * HOUR, MORNING), When((1,), HOUR, 2 * HOUR), "Monday 01:00"),
    ],
)
def test_bands_that_meet_are_told_by_the_time_at_which_they_do(one: When, other: When, met: str | None) -> None:
    """A band over midnight belongs to the day on which it begins, whether the other one has dates or weekdays."""
    assert find_overlap((one, other)) == (None if met is None else (0, 1, met))
