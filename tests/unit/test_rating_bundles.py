"""Bundles first, then money: the edges of both, worked by hand. Most rates here cost a cent a second."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from rating.bundles import afford, left_exact, pay
from rating.errors import AmountError, TariffError
from rating.parts import Band, BandsAt, Outside, Seconds, Surcharge, ThenWhat, When
from rating.tariff import Conditions, Rate, Rounding, RoundingMode, Step

MINUTE, HOUR = 60_000, 3600
CENT = 10_000


def step(price: str, increment_s: Seconds = 1, from_s: int = 0, fee: str = "0") -> Step:
    """Return a step that costs `price` a minute."""
    return Step(from_s, Decimal(price), 60, increment_s, Decimal(fee))


def rate(*steps: Step, fee: str = "0", decimals: int = 2, bands: tuple[Band, ...] = (), **said: Any) -> Rate:
    rounding = Rounding(RoundingMode.HALF_UP, decimals)
    return Rate("49", "Germany", Decimal(fee), steps, rounding, bands=bands, conditions=Conditions(**said))


BY_SECOND = rate(step("0.6"))
BY_MINUTE = rate(step("0.6", 60), fee="0.05")

# -- what a call costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caps_ms", [(), (0,), (-5_000,), (0, -1)])
def test_a_bundle_without_time_is_none(caps_ms: tuple[int, ...]) -> None:
    """Not a millisecond of it is used, where increments are as short as one; the connect fee is due as ever."""
    none = tuple(0 for _ in caps_ms)
    finest = rate(step("0.6", Decimal("0.001")), decimals=6)
    assert pay(finest, 1, caps_ms) == (10, none, 1)
    assert pay(BY_MINUTE, 1, caps_ms) == (650_000, none, MINUTE)
    assert pay(BY_MINUTE, 0, caps_ms) == (0, none, 0)
    assert left_exact(BY_MINUTE, 1, caps_ms) == Fraction(65, 100)


@pytest.mark.parametrize(
    ("caps_ms", "talk_ms", "paid"),
    [
        # All of it and not more than the call: the second bundle is not touched.
        ((600_000, 600_000), 61_000, (0, (120_000, 0), 120_000)),
        ((60_000, 600_000), 60_000, (0, (60_000, 0), 60_000)),
        # A bundle keeps what is no whole minute; the next one pays for the next whole minutes.
        ((119_999,), 180_000, (1_250_000, (60_000,), 180_000)),
        ((70_000, 70_000), 180_000, (650_000, (60_000, 60_000), 180_000)),
        ((59_999, 60_000), 180_000, (1_250_000, (0, 60_000), 180_000)),
        ((60_000, 0, 120_000), 180_000, (0, (60_000, 0, 120_000), 180_000)),
        # A millisecond more than it pays for is the fee and a minute.
        ((60_000,), 60_001, (650_000, (60_000,), 120_000)),
    ],
)
def test_each_bundle_in_turn_pays_for_whole_increments(
    caps_ms: tuple[int, ...], talk_ms: int, paid: tuple[int, tuple[int, ...], int]
) -> None:
    """Minutes at 0.60 and 0.05 to connect, as soon as any of it is money."""
    assert pay(BY_MINUTE, talk_ms, caps_ms) == paid


@pytest.mark.parametrize(
    ("cap_ms", "used_ms"),
    [(59_999, 0), (60_000, 60_000), (119_999, 60_000), (120_000, 120_000), (121_500, 121_000), (122_000, 122_000)],
)
def test_a_bundle_ends_where_the_increments_of_its_step_do(cap_ms: int, used_ms: int) -> None:
    """Minutes, and seconds from 90 s on: the second minute covers the step's beginning, so they begin at 120 s."""
    of = rate(step("0.6", 60), step("0.3", 1, 90))
    assert pay(of, 600_000, (cap_ms,)).uses_ms == (used_ms,)


def test_a_bundle_counts_from_the_end_of_the_one_before() -> None:
    """A minute, then seconds: the second bundle's 1.5 s are one second, whichever step they begin in."""
    of = rate(step("0.6", 60), step("0.3", 1, 60))
    assert pay(of, 600_000, (60_000, 1_500)).uses_ms == (60_000, 1_000)
    assert pay(of, 600_000, (61_900, 1_500, 700)).uses_ms == (61_000, 1_000, 0)


def test_without_a_bundle_even_free_seconds_owe_the_connect_fee() -> None:
    """Ten seconds free, then minutes; an empty bundle is none; one that pays for the minute spares the fee."""
    of = rate(step("0.6", 60), fee="0.05", free_s=10)
    assert pay(of, 5_000, (0,)) == (50_000, (0,), 10_000)
    assert pay(of, 5_000, (59_999,)) == (50_000, (0,), 10_000)
    assert pay(of, 5_000, (60_000,)) == (0, (0,), 10_000)
    assert pay(of, 10_001, (60_000,)) == (0, (60_000,), 70_000)
    assert left_exact(of, 5_000, (0,)) == Fraction(5, 100)
    assert left_exact(of, 5_000, (60_000,)) == 0


def test_a_call_too_short_to_cost_anything_uses_no_bundle() -> None:
    """Below five seconds nothing is billed; with five all five are, by the bundle or in money, fee included."""
    of = rate(step("0.6"), fee="0.05", free_below_s=5)
    assert pay(of, 4_999, (60_000,)) == (0, (0,), 0)
    assert pay(of, 4_999, ()) == (0, (), 0)
    assert pay(of, 5_000, (60_000,)) == (0, (5_000,), 5_000)
    assert pay(of, 5_000, ()) == (100_000, (), 5_000)
    assert [left_exact(of, talk_ms, ()) for talk_ms in (4_999, 5_000)] == [0, Fraction(1, 10)]


def test_the_minimum_is_for_the_money_alone() -> None:
    """What a bundle pays for wholly costs nothing; one second more costs the minimum; no talk is no call."""
    of = rate(step("0.6"), min_charge=Decimal("0.5"))
    assert [pay(of, talk_ms, (MINUTE,)).micros for talk_ms in (-1, 0, 1, 60_000, 61_000, 111_000)] == [
        0, 0, 0, 0, 500_000, 510_000,
    ]  # fmt: skip
    assert [pay(of, talk_ms, ()).micros for talk_ms in (-1, 0, 1)] == [0, 0, 500_000]
    assert [left_exact(of, talk_ms, (MINUTE,)) for talk_ms in (0, 60_000, 61_000, 111_000)] == [
        0, 0, Fraction(1, 2), Fraction(51, 100),
    ]  # fmt: skip
    assert [left_exact(of, talk_ms, ()) for talk_ms in (-1, 0, 1)] == [0, 0, Fraction(1, 2)]


def test_the_maximum_is_for_the_money_alone() -> None:
    """A minute in the bundle, then 0.25 at most; where calls are cut there, longer talk has its price all the same."""
    free, cut = (rate(step("0.6"), max_charge=Decimal("0.25"), max_charge_then=then) for then in ThenWhat)
    assert [pay(free, talk_ms, (MINUTE,)).micros for talk_ms in (84_000, 85_000, 86_000)] == [240_000, 250_000, 250_000]
    assert pay(cut, 100_000, (MINUTE,)).micros == 400_000
    assert [left_exact(of, 100_000, (MINUTE,)) for of in (free, cut)] == [Fraction(1, 4), Fraction(2, 5)]


def test_what_is_left_is_exact_until_a_bound_decides() -> None:
    """A third a second: after one of the bundle two are left, 2/3; bounds below or above that decide, others do not."""
    third = (Step(0, Decimal(1), 3, 1),)
    assert left_exact(rate(*third), 3_000, (1_000,)) == Fraction(2, 3)
    assert left_exact(rate(*third, max_charge=Decimal("0.9")), 3_000, (1_000,)) == Fraction(2, 3)
    assert left_exact(rate(*third, max_charge=Decimal("0.5")), 3_000, (1_000,)) == Fraction(1, 2)
    assert left_exact(rate(*third, min_charge=Decimal("0.7")), 3_000, (1_000,)) == Fraction(7, 10)
    assert pay(rate(*third), 3_000, (1_000,)).micros == 670_000


def test_surcharges_that_fell_due_while_a_bundle_paid_are_not_asked_for() -> None:
    """0.02 at 45 s and every 30 s from then on: those at 75 and 105 s are money, the one at 45 s is not."""
    of = rate(step("0.6"), surcharges=(Surcharge(45, Decimal("0.02"), 30),))
    assert [pay(of, talk_ms, (MINUTE,)).micros for talk_ms in (60_000, 61_000, 74_999, 75_000, 105_000)] == [
        0, 10_000, 150_000, 170_000, 490_000,
    ]  # fmt: skip
    assert left_exact(of, 105_000, (MINUTE,)) == Fraction(49, 100)
    assert pay(of, 105_000, ()).micros == 1_110_000
    # Due with the very last millisecond that the bundle pays for: the bundle's.
    at_its_end = rate(step("0.6"), surcharges=(Surcharge(60, Decimal("0.02")),))
    assert pay(at_its_end, 61_000, (MINUTE,)).micros == 10_000


def test_a_cost_too_large_to_keep_is_refused() -> None:
    """Nine seconds at a thousand million each can be kept, ten cannot; what the bundle pays for does not count."""
    dear = rate(Step(0, Decimal(1_000_000_000), 1, 1))
    assert pay(dear, 14_000, (5_000,)).micros == 9 * 10**15
    with pytest.raises(AmountError):
        pay(dear, 15_000, (5_000,))


# -- bands -------------------------------------------------------------------------------------------------------------


def day_and_night(**said: Any) -> Rate:
    """Return 0.60 a minute in tens with 0.05 to connect by day, from 18:00 on 0.30 in fifteens with 0.20."""
    day = Band(When(from_s=6 * HOUR, to_s=18 * HOUR), (step("0.6", 10),))
    night = Band(When(from_s=18 * HOUR, to_s=6 * HOUR), (step("0.3", 15),), Decimal("0.2"))
    return rate(fee="0.05", decimals=4, bands=(day, night), **said)


def at(hour: int, minute: int, second: int, ms: int = 0) -> datetime:
    return datetime(2026, 3, 2, hour, minute, second, ms * 1000, tzinfo=UTC)


def test_the_connect_fee_is_that_of_the_answer() -> None:
    """Money begins at night, in the last fifteen seconds; the call was answered by day, half a minute before."""
    assert pay(day_and_night(), 60_000, (45_000,), at(17, 59, 30)) == (50_000 + 75_000, (45_000,), 60_000)
    assert left_exact(day_and_night(), 60_000, (45_000,), at(17, 59, 30)) == Fraction(125, 1000)
    assert pay(day_and_night(), 60_000, (45_000,), at(18, 0, 0)) == (200_000 + 75_000, (45_000,), 60_000)


def test_a_call_that_keeps_its_band_uses_bundles_by_it() -> None:
    """Tens to the end, however far into the night: 45 s are four of them, two are money."""
    of = day_and_night(bands_at=BandsAt.START)
    assert pay(of, 60_000, (45_000,), at(17, 59, 30)) == (50_000 + 200_000, (40_000,), 60_000)
    assert afford(of, 249_999, (45_000,), 600, at(17, 59, 30)) == 50


def test_an_increment_that_begins_by_day_is_used_whole() -> None:
    """Answered at 17:59:55, the first ten seconds end five seconds into the night, where fifteens begin."""
    of = day_and_night()
    assert [pay(of, 60_000, (cap,), at(17, 59, 55)).uses_ms for cap in (9_999, 24_999, 25_000, 40_000)] == [
        (0,), (10_000,), (25_000,), (40_000,),
    ]  # fmt: skip


def test_bands_need_the_time_of_the_answer() -> None:
    """For the price, for what is left, and for how long it lasts."""
    with pytest.raises(TariffError, match="the time of the answer"):
        pay(day_and_night(), 1_000, ())
    with pytest.raises(TariffError, match="the time of the answer"):
        left_exact(day_and_night(), 1_000, ())
    with pytest.raises(TariffError, match="the time of the answer"):
        afford(day_and_night(), 1_000, (), 60)


# -- how long it lasts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1, 2, 3, 4, 6, 7, 8, 10, 15, 16, 20])
def test_each_cent_is_a_second_after_the_bundle(seconds: int) -> None:
    """A micro-unit less than so many cents is a second less; no money lasts beyond what is asked for."""
    for caps_ms, covered_s in (((), 0), ((30_000,), 30), ((30_999,), 30)):
        assert afford(BY_SECOND, seconds * CENT, caps_ms, HOUR) == covered_s + seconds
        assert afford(BY_SECOND, seconds * CENT - 1, caps_ms, HOUR) == covered_s + seconds - 1
        assert afford(BY_SECOND, seconds * CENT, caps_ms, covered_s + seconds) == covered_s + seconds
        assert afford(BY_SECOND, 10**9, caps_ms, covered_s + seconds) == covered_s + seconds


def test_what_bundles_pay_for_needs_no_money() -> None:
    """With nothing and with debts; in whole seconds where the bundle ends within one, and as long as asked for."""
    halves = rate(step("0.6", Decimal("0.5")), decimals=4)
    for funds in (-1, 0):
        assert afford(BY_SECOND, funds, (MINUTE,), HOUR) == 60
        assert afford(halves, funds, (59_500,), HOUR) == 59
        assert [afford(BY_SECOND, funds, (600_000,), most_s) for most_s in (90, 1, 0, -5)] == [90, 1, 0, 0]
        assert [afford(BY_SECOND, funds, (), most_s) for most_s in (HOUR, 1, 0, -5)] == [0, 0, 0, 0]
    assert type(afford(halves, -1, (59_500,), HOUR)) is int


def test_debts_pay_for_no_free_seconds_without_a_bundle() -> None:
    """Ten seconds free with 0.05 to connect: the fee is asked for at once, unless a bundle pays for what follows."""
    of = rate(step("0.6", 60), fee="0.05", free_s=10)
    assert [afford(of, funds, (0,), HOUR) for funds in (-1, 0, 49_999, 50_000, 649_999, 650_000)] == [
        0, 0, 0, 10, 10, 70,
    ]  # fmt: skip
    assert [afford(of, funds, (MINUTE,), HOUR) for funds in (-1, 0, 649_999, 650_000)] == [70, 70, 70, 130]


def test_what_is_free_after_the_bundle_needs_no_money_but_no_debts_either() -> None:
    """From the second minute on a call costs nothing."""
    of = rate(step("0.6"), step("0", 1, 60))
    assert [afford(of, funds, (MINUTE,), HOUR) for funds in (-1, 0)] == [60, HOUR]


def test_a_rate_that_costs_nothing_lasts_with_debts_too() -> None:
    """As without bundles."""
    assert [afford(rate(step("0")), -5, caps_ms, 100) for caps_ms in ((), (0,), (MINUTE,))] == [100, 100, 100]
    assert afford(rate(step("0")), -5, (), -1) == 0


def test_no_funds_are_larger_than_the_largest_amount() -> None:
    """Nine seconds at a thousand million each after five in the bundle."""
    dear = rate(Step(0, Decimal(1_000_000_000), 1, 1))
    assert [afford(dear, 10**30, caps_ms, 10**7) for caps_ms in ((), (5_000,))] == [9, 14]


@pytest.mark.parametrize("most", ["0.25", "0.2599"])
def test_a_call_that_is_cut_at_its_maximum_is_cut_by_its_money(most: str) -> None:
    """25 whole cents are 25 seconds after the minute of the bundle; less money ends it before."""
    of = rate(step("0.6"), max_charge=Decimal(most), max_charge_then=ThenWhat.DISCONNECT)
    assert [afford(of, funds, (MINUTE,), HOUR) for funds in (-1, 0, 10 * CENT, 25 * CENT, 26 * CENT, 10**12)] == [
        60, 60, 70, 85, 85, 85,
    ]  # fmt: skip
    assert [afford(of, 10**12, caps_ms, HOUR) for caps_ms in ((), (0,), (7_000_000,))] == [25, 25, HOUR]


def test_a_call_that_talks_on_at_its_maximum_lasts_for_it() -> None:
    """0.25 after the bundle pay for all that is asked for, a micro-unit less for 24 seconds."""
    of = rate(step("0.6"), max_charge=Decimal("0.25"))
    assert [afford(of, funds, (MINUTE,), HOUR) for funds in (25 * CENT - 1, 25 * CENT)] == [84, HOUR]


def test_funds_below_the_minimum_end_with_the_bundle() -> None:
    """0.50 at least, which is 50 s."""
    of = rate(step("0.6"), min_charge=Decimal("0.5"))
    assert [afford(of, funds, (MINUTE,), HOUR) for funds in (499_999, 500_000, 510_000)] == [60, 110, 111]


def test_neither_money_nor_bundles_last_beyond_closing_time() -> None:
    """Answered 10.5 s before: ten whole seconds, one before the last second, and none when it is closed."""
    office = Band(When(from_s=8 * HOUR, to_s=18 * HOUR), (step("0.6"),))
    of = rate(bands=(office,), outside=Outside.CLOSED)
    for funds, caps_ms in ((0, (600_000,)), (10**9, ()), (10**9, (5_000,)), (-1, (600_000,))):
        assert afford(of, funds, caps_ms, HOUR, at(17, 59, 49, 500)) == 10
        assert afford(of, funds, caps_ms, 7, at(17, 59, 49, 500)) == 7
        assert afford(of, funds, caps_ms, HOUR, at(17, 59, 59)) == 1
        assert afford(of, funds, caps_ms, HOUR, at(18, 0, 0)) == 0
    assert afford(of, 10**9, (), 2_500, at(8, 0, 0)) == 2_500
    assert afford(of, 0, (), HOUR, at(17, 59, 59)) == 0
    assert pay(of, 10_000, (4_000,), at(17, 59, 49)) == (60_000, (4_000,), 10_000)
