"""The words of a price: what a customer reads of bands, steps, fees, bounds and exact amounts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from rating.bands import NO_BAND, Calendar, instant_ms, when_text
from rating.errors import AmountError
from rating.money import MICROS, format_amount, parse_amount, round_total
from rating.parts import Band, BandsAt, Conditions, Outside, Rounding, RoundingMode, Step, Surcharge, When
from rating.prefixes import RateMap
from rating.pricing import closing, cost, exact_cost, exact_text, local_time, price, price_ms, seconds_of
from rating.tariff import Rate, find_fault

ROUNDING = Rounding(RoundingMode.HALF_UP, 2)
MINUTE = (Step(0, Decimal("0.30"), 60, 60),)


def rate(steps: tuple[Step, ...] = MINUTE, fee: str = "0", bands: tuple[Band, ...] = (), **conditions: Any) -> Rate:
    return Rate("49", "Germany", Decimal(fee), steps, ROUNDING, bands=bands, conditions=Conditions(**conditions))


def lines(of: Rate, seconds: int, at: datetime | None = None) -> list[tuple[str, Any, str]]:
    return [(line.what, line.seconds, line.amount) for line in price(of, seconds, at=at).lines]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When(), "every day 00:00–24:00"),
        (When((1, 2, 3, 4, 5), 8 * 3600, 18 * 3600), "Monday–Friday 08:00–18:00"),
        (When((5, 3, 4), 0, 3600), "Wednesday–Friday 00:00–01:00"),
        (When((6, 7)), "Saturday, Sunday 00:00–24:00"),
        (When((3,), 61, 7384), "Wednesday 00:01:01–02:03:04"),
        (When((1, 3, 5)), "Monday, Wednesday, Friday 00:00–24:00"),
        (When((1, 2, 3, 5)), "Monday, Tuesday, Wednesday, Friday 00:00–24:00"),
        (When((7, 1)), "Monday, Sunday 00:00–24:00"),
        (When((2, 3, 4, 5, 6, 7)), "Tuesday–Sunday 00:00–24:00"),
        (When(from_s=79_200, to_s=21_600), "every day 22:00–06:00"),
        (When(dates=("12-25",)), "every day 00:00–24:00 on 12-25"),
        (When((1,), dates=("12-25", "12-26", "2027-03-28")), "Monday 00:00–24:00 on 12-25, 12-26, 2027-03-28"),
        (When(dates=("12-24", "12-25", "12-26", "01-01")), "every day 00:00–24:00 on 12-24, 12-25, 12-26 …"),
    ],
)
def test_the_times_of_a_band_in_words(when: When, words: str) -> None:
    """Three days or more in a row are from … to, others are named; dates beyond three are hinted at."""
    assert when_text(when) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (Fraction(0), "0"),
        (Fraction(3), "3"),
        (Fraction(1, 2), "0.5"),
        (Fraction(-1, 8), "-0.125"),
        (Fraction(100), "100"),
        (Fraction(1, 3), "0.333333333…"),
        (Fraction(-2, 3), "-0.666666666…"),
        (Fraction(1, 7 * 10**9), "0.000000000…"),
        (Fraction(1, 10**18), "0.000000000000000001"),
        (Fraction(12_345, 10_000), "1.2345"),
        (Fraction(1, 6) * 3, "0.5"),
    ],
)
def test_an_exact_amount_in_words(amount: Fraction, words: str) -> None:
    """All decimals where they end, nine and an ellipsis where they do not."""
    assert exact_text(amount) == words


def test_each_step_and_each_fee_has_its_line() -> None:
    """Steps in the order of talk, each with its seconds and what they cost; fees where they fell due."""
    of = rate((Step(0, Decimal("0.30"), 60, 60), Step(60, Decimal("0.10"), 60, 10, Decimal("0.05"))), fee="0.02")
    assert lines(of, 75) == [
        ("connect fee", 0, "0.02"),
        ("0.3 per 60 s, in increments of 60 s", 60, "0.3"),
        ("fee of the step after 60 s", 0, "0.05"),
        ("0.1 per 60 s, in increments of 10 s", 20, "0.033333333…"),
    ]
    assert lines(of, 0) == []


def test_what_is_free_is_said() -> None:
    """Free seconds, and calls too short to cost anything, each have a line of their own."""
    assert lines(rate(free_s=30), 31) == [
        ("no charge, as the first 30 s are free", 30, "0"),
        ("0.3 per 60 s, in increments of 60 s", 60, "0.3"),
    ]
    assert lines(rate(fee="1", free_below_s=6), 5) == [("calls shorter than 6 s are free", 0, "0")]


def test_bounds_and_surcharges_are_said() -> None:
    """What a minimum adds, a maximum takes off, and a surcharge that has come so many times."""
    assert lines(rate(min_charge=Decimal("0.50")), 60)[1:] == [("the minimum charge adds", 0, "0.2")]
    assert lines(rate(max_charge=Decimal("0.50")), 120)[1:] == [("the maximum charge takes off", 0, "-0.1")]
    due = (Surcharge(60, Decimal("0.07"), 30), Surcharge(90, Decimal("0.5")), Surcharge(999, Decimal(1)))
    assert lines(rate(surcharges=due), 120)[1:] == [
        ("0.07 after 60 s and every 30 s", 0, "0.21"),
        ("0.5 after 90 s", 0, "0.5"),
    ]


def test_bands_are_named_or_told_by_their_times() -> None:
    """What goes on in the same words is one line, although midnight lies in between; a fee of a band is its own."""
    night = Band(When(from_s=79_200, to_s=21_600), (Step(0, Decimal("0.06"), 60, 60),), Decimal("0.01"))
    day = Band(When(from_s=21_600, to_s=79_200), MINUTE, name="day")
    of = rate((), fee="0.5", bands=(night, day), timezone="Europe/Berlin")
    late = datetime(2026, 1, 5, 22, 59, tzinfo=UTC)  # 23:59 in Berlin
    assert lines(of, 120, late) == [
        ("connect fee", 0, "0.01"),
        ("0.06 per 60 s, in increments of 60 s (every day 22:00–06:00)", 120, "0.12"),
    ]
    morning = datetime(2026, 1, 5, 4, 59, tzinfo=UTC)
    assert lines(of, 120, morning)[1:] == [
        ("0.06 per 60 s, in increments of 60 s (every day 22:00–06:00)", 60, "0.06"),
        ("0.3 per 60 s, in increments of 60 s (day)", 60, "0.3"),
    ]
    assert local_time(of, late).isoformat() == "2026-01-05T23:59:00+01:00"


@pytest.mark.parametrize(
    ("of", "talk_ms", "exact"),
    [
        (rate(), 0, Fraction(0)),
        (rate(), -1, Fraction(0)),
        (rate(min_charge=Decimal("0.7")), 0, Fraction(0)),
        (rate(), 1, Fraction(3, 10)),
        (rate(fee="0.02"), 60_001, Fraction(62, 100)),
        (rate((Step(0, Decimal(1), 3, 1),)), 2_000, Fraction(2, 3)),
        (rate((Step(0, Decimal("0.001"), 1, 1),)), 1_000, Fraction(1, 1000)),
        (rate(fee="1", free_below_s=6), 5_999, Fraction(0)),
        (rate(fee="1", free_below_s=6), 6_000, Fraction(13, 10)),
        (rate(surcharges=(Surcharge(60, Decimal("0.07"), 30),)), 90_000, Fraction(60 + 14, 100)),
        # A bound that decides is what is charged; one that does not leaves the exact amount.
        (rate((Step(0, Decimal(1), 3, 1),), min_charge=Decimal("0.7")), 1_000, Fraction(7, 10)),
        (rate((Step(0, Decimal(1), 3, 1),), min_charge=Decimal("0.2")), 1_000, Fraction(1, 3)),
        (rate((Step(0, Decimal(1), 3, 1),), max_charge=Decimal("0.5")), 2_000, Fraction(1, 2)),
        (rate((Step(0, Decimal(1), 3, 1),), max_charge=Decimal("0.9")), 2_000, Fraction(2, 3)),
    ],
)
def test_the_exact_cost_is_what_is_rounded(of: Rate, talk_ms: int, exact: Fraction) -> None:
    """Before the one rounding nothing is lost; below the shortest charged call, and without talk, it is nothing."""
    assert exact_cost(of, talk_ms) == exact


def test_the_exact_cost_looks_at_the_band() -> None:
    """It is told the time of the answer as the price is."""
    cheap = Band(When(from_s=0, to_s=3600), (Step(0, Decimal("0.001"), 1, 1),))
    of = rate(bands=(cheap,), outside=Outside.BASE)
    assert exact_cost(of, 1_000, datetime(2026, 1, 5, 0, 30, tzinfo=UTC)) == Fraction(1, 1000)
    assert exact_cost(of, 1_000, datetime(2026, 1, 5, 1, 30, tzinfo=UTC)) == Fraction(3, 10)


def test_what_is_no_amount_is_repeated_in_its_error_but_not_without_end() -> None:
    """Forty characters of it, then an ellipsis: it may be a megabyte."""
    with pytest.raises(AmountError, match=r"at most 6 decimals, found '12,5'$"):
        parse_amount("12,5")
    with pytest.raises(AmountError, match=f"found '{'x' * 40}'$"):
        parse_amount("x" * 40)
    with pytest.raises(AmountError, match=f"found '{'x' * 40}…'$"):
        parse_amount("x" * 41)


@pytest.mark.parametrize(
    ("one", "other", "meets"),
    [
        # 29 February is a Sunday in 2032, and never in 2027; 2100 has none at all.
        (When((7,), dates=("02-29",)), When(dates=("2004-02-29",)), True),
        (When((6,), dates=("02-29",)), When(dates=("2004-02-29",)), False),
        (When(dates=("2032-02-29",)), When((7,)), True),
        (When(dates=("2031-05-05",)), When(dates=("05-05",)), True),
        (When(dates=("2031-05-05",)), When(dates=("05-06",)), False),
        (When((3,), dates=("05-05",)), When(dates=("2100-05-05",)), True),
        (When((4,), dates=("05-05",)), When(dates=("2100-05-05",)), False),
        (When(dates=("02-29",)), When(dates=("2100-05-05", "1900-05-05")), False),
        (When(dates=("02-29",)), When(dates=("2400-02-29",)), True),
        (When(dates=("2027-01-01", "05-05")), When(dates=("2031-05-05",)), True),
    ],
)
def test_dates_meet_in_the_years_they_mean(one: When, other: When, meets: bool) -> None:
    """Two bands of one priority that are in force together in some year are an error; in no year, they are fine."""
    of = rate(bands=(Band(one, MINUTE), Band(other, MINUTE)), outside=Outside.BASE)
    fault = find_fault(of)
    assert (fault is not None and "overlaps" in fault.reason) == meets


def test_every_rate_of_a_map_is_told() -> None:
    """Rates with and without dates, those made when they are first found, and each once."""
    later = datetime(2027, 1, 1, tzinfo=UTC)
    base = rate()
    dated = [
        Rate("44", "", Decimal(0), MINUTE, ROUNDING),
        Rate("44", "", Decimal(1), MINUTE, ROUNDING, effective_at=later),
    ]
    assert sorted(map(str, RateMap([base, *dated]))) == sorted(map(str, [base, *dated]))
    lazy = RateMap.of_rows(["49"], lambda number: [base][number], {"44": dated})
    assert sorted(map(str, lazy)) == sorted(map(str, [base, *dated]))
    assert lazy.longest("4930", later) is base
    assert lazy.longest("4430", later) is dated[1]
    assert lazy.longest("33", later) is None


def test_one_line_goes_on_over_the_midnight_of_utc() -> None:
    """Where the day of UTC ends inside a band, seconds and amounts of both sides are one line."""
    night = Band(When(from_s=79_200, to_s=21_600), (Step(0, Decimal("0.06"), 60, 60),), name="night")
    day = Band(When(from_s=21_600, to_s=79_200), MINUTE, name="day")
    of = rate((), bands=(night, day), timezone="Europe/Berlin")
    assert lines(of, 240, datetime(2026, 1, 5, 23, 58, tzinfo=UTC)) == [
        ("0.06 per 60 s, in increments of 60 s (night)", 240, "0.24")
    ]


def test_a_call_that_keeps_its_band_is_told_by_it_alone() -> None:
    """With `bands_at` start the lines name the band of the answer, however far into another one the call goes."""
    night = Band(When(from_s=79_200, to_s=21_600), (Step(0, Decimal("0.06"), 60, 60),), name="night")
    day = Band(When(from_s=21_600, to_s=79_200), MINUTE, name="day")
    of = rate((), bands=(night, day), bands_at=BandsAt.START)
    assert lines(of, 180, datetime(2026, 1, 5, 5, 59, tzinfo=UTC)) == [
        ("0.06 per 60 s, in increments of 60 s (night)", 180, "0.18")
    ]


def test_the_edges_of_what_is_said() -> None:
    """The fee of the first step, a call just long enough to cost, one of a millisecond, decimals only nearly ending."""
    assert lines(rate((Step(0, Decimal("0.30"), 60, 60, Decimal("0.05")),)), 1)[0] == ("fee of the step", 0, "0.05")
    assert lines(rate(free_below_s=6), 6) == [("0.3 per 60 s, in increments of 60 s", 60, "0.3")]
    assert [line.amount for line in price_ms(rate(), 1).lines] == ["0.3"]
    assert price_ms(rate(), 0).lines == ()
    assert exact_text(Fraction(1, 2 * (2**53 + 1))) == "0.000000000…"


def test_seconds_are_whole_numbers_where_they_are() -> None:
    """Milliseconds that make whole seconds are an integer, others a decimal; billed seconds are rounded up to one."""
    assert [(type(seconds_of(ms)), seconds_of(ms)) for ms in (0, 3_000, 1_001, 2_500)] == [
        (int, 0), (int, 3), (Decimal, Decimal("1.001")), (Decimal, Decimal("2.5")),
    ]  # fmt: skip
    billed = cost(rate((Step(0, Decimal(1), 1, Decimal("2.5")),)), 1)[1]
    assert (type(billed), billed) == (int, 3)


def test_a_tariff_closes_on_its_own_clock() -> None:
    """Open from 08:00 to 18:00 in Berlin: the end is told in Berlin's time."""
    open_by_day = Band(When(from_s=28_800, to_s=64_800), MINUTE)
    of = rate((), bands=(open_by_day,), timezone="Europe/Berlin", outside=Outside.CLOSED)
    at = datetime(2026, 1, 5, 16, 59, 0, tzinfo=UTC)
    closes_at = closing(of, at, 61_000)
    assert closes_at is not None
    assert closes_at.isoformat() == "2026-01-05T18:00:00+01:00"
    assert closing(of, at, 60_000) is None


def test_the_band_before_a_time_without_one() -> None:
    """The last that was in force: of the same day, of days before, or none for a year."""
    week = When((1, 2, 3, 4, 5), 28_800, 64_800), When((6,), 36_000, 43_200)
    calendar = Calendar(week, "UTC")

    def before(text: str) -> int:
        return calendar.before(instant_ms(datetime.fromisoformat(text)))

    assert before("2026-01-04T12:00Z") == 1  # Sunday: Saturday's
    assert before("2026-01-05T07:59Z") == 1  # Monday before eight: Saturday's still
    assert before("2026-01-05T08:00Z") == 0
    assert before("2026-01-05T12:00Z") == 0
    assert before("2026-01-06T07:00Z") == 0
    assert before("2026-01-10T09:00Z") == 0  # Saturday before ten: Friday's
    assert before("2026-01-10T11:00Z") == 1
    once = Calendar((When(dates=("2026-01-01",)),), "UTC")
    assert once.before(instant_ms(datetime(2027, 1, 1, 12, tzinfo=UTC))) == 0
    assert once.before(instant_ms(datetime(2027, 1, 2, 12, tzinfo=UTC))) == NO_BAND


@pytest.mark.parametrize(
    ("text", "rounded"), [("3.5", 4), ("4.5", 4), ("5.5", 6), ("6.5", 6), ("7.5", 8), ("-3.5", -4), ("-4.5", -4)]
)
def test_a_tie_goes_to_the_even_neighbour(text: str, rounded: int) -> None:
    """Half to even, at every whole number and for credits too; a price rounds as a total does."""
    even = Rounding(RoundingMode.HALF_EVEN, 0)
    assert round_total(Fraction(text), even) == rounded * MICROS
    if rounded > 0:
        assert cost(replace(rate((Step(0, Decimal(text), 1, 1),)), rounding=even), 1)[0] == rounded * MICROS


def test_an_amount_has_two_decimals_unless_told() -> None:
    """And as many as it needs."""
    assert [format_amount(micros) for micros in (5_000_000, 5_100_000, 5_123_400, 0, -1)] == [
        "5.00", "5.10", "5.1234", "0.00", "-0.000001",
    ]  # fmt: skip
    assert format_amount(5_000_000, decimals=0) == "5"
