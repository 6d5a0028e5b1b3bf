"""Prices and their inverse, by hand-worked examples."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rating.errors import AmountError
from rating.pricing import Line, Price, afford, billable_seconds, cost, price
from rating.tariff import Rate, Rounding, RoundingMode, Step


def rate(*steps: tuple[int, str, int, int], fee: str = "0", rounding: str = "half_up 6") -> Rate:
    """Return a rate of steps (from_s, price, per_s, increment_s)."""
    mode, decimals = rounding.split()
    made = tuple(Step(from_s, Decimal(amount), per_s, increment_s) for from_s, amount, per_s, increment_s in steps)
    return Rate("49", "Germany", Decimal(fee), made, Rounding(RoundingMode(mode), int(decimals)))


THIRTY_SIX = rate((0, "0.006", 60, 30), (30, "0.006", 60, 6), rounding="up 4")
PER_MINUTE = rate((0, "0.05", 60, 60), fee="0.1")
PER_SECOND = rate((0, "1", 1, 1))
FREE = rate((0, "0", 60, 60))


@pytest.mark.parametrize(
    ("talk_ms", "seconds"), [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (3_600_000, 3600), (-1, 0), (-5000, 0)]
)
def test_a_begun_second_counts(talk_ms: int, seconds: int) -> None:
    """Milliseconds are rounded up; a clock that went back is no talk."""
    assert billable_seconds(talk_ms) == seconds


@pytest.mark.parametrize(
    ("of", "seconds", "expected"),
    [
        (PER_MINUTE, 0, (0, 0)),
        (PER_MINUTE, -5, (0, 0)),
        (PER_MINUTE, 1, (150_000, 60)),
        (PER_MINUTE, 60, (150_000, 60)),
        (PER_MINUTE, 61, (200_000, 120)),
        (THIRTY_SIX, 1, (3_000, 30)),
        (THIRTY_SIX, 30, (3_000, 30)),
        (THIRTY_SIX, 31, (3_600, 36)),
        (THIRTY_SIX, 57, (6_000, 60)),
        # The 60 s increment that begins at 0 covers the second step's beginning: it goes on from 60 s.
        (rate((0, "1", 60, 60), (30, "60", 60, 1)), 60, (1_000_000, 60)),
        (rate((0, "1", 60, 60), (30, "60", 60, 1)), 61, (2_000_000, 61)),
        # A step that lies inside one increment of the step before has no increment of its own.
        (rate((0, "1", 60, 60), (10, "1000", 1, 1), (20, "2", 1, 1)), 61, (3_000_000, 61)),
        # 25 s increments from 0: 0, 25, then 50 begins after the step at 40.
        (rate((0, "1", 25, 25), (40, "3", 1, 1)), 51, (5_000_000, 51)),
        (rate((0, "0.001", 60, 1), rounding="up 2"), 1, (10_000, 1)),
        (rate((0, "0.001", 60, 1), rounding="down 2"), 599, (0, 599)),
        (rate((0, "0.001", 60, 1), rounding="down 2"), 600, (10_000, 600)),
        (rate((0, "0.005", 1, 1), rounding="half_up 2"), 1, (10_000, 1)),
        (rate((0, "0.005", 1, 1), rounding="half_even 2"), 1, (0, 1)),
        (rate((0, "0.005", 1, 1), rounding="half_even 2"), 3, (20_000, 3)),
        (rate((0, "0.005", 1, 1), rounding="half_even 2"), 5, (20_000, 5)),
    ],
)
def test_a_price_is_whole_increments_rounded_once(of: Rate, seconds: int, expected: tuple[int, int]) -> None:
    """Increments are laid end to end, priced by the step in force where they begin, and only the total is rounded."""
    assert cost(of, seconds) == expected


def test_a_third_of_a_cent_is_not_rounded_on_the_way() -> None:
    """Three parts of 1/3 are one: nothing is rounded before the total."""
    assert cost(rate((0, "1", 3, 1), rounding="down 0"), 3) == (1_000_000, 3)
    assert cost(rate((0, "0.1", 60, 1)), 86_400) == (144_000_000, 86_400)


def test_a_price_explains_itself() -> None:
    """The lines are the connect fee and each step that was talked in; they add up to the exact total."""
    of = rate((0, "2", 1, 1), (30, "1", 1, 60), fee="0.25")
    assert price(of, 31) == Price(
        120_250_000,
        90_000,
        (
            Line("connect fee", 0, "0.25"),
            Line("2 per 1 s, in increments of 1 s", 30, "60"),
            Line("1 per 1 s, in increments of 60 s", 60, "60"),
        ),
    )
    assert [line.seconds for line in price(of, 30).lines] == [0, 30]
    assert price(of, 0) == Price(0, 0, ())


def test_decimals_without_end_are_marked() -> None:
    """An exact amount that no decimal can write ends in an ellipsis."""
    assert price(rate((0, "0.05", 60, 1)), 1).lines[0].amount == "0.000833333…"
    assert price(rate((0, "0.000000000000000001", 1, 1)), 3).lines[0].amount == "0.000000000000000003"


def test_a_cost_too_large_to_keep_is_refused() -> None:
    """A cost beyond 2**53 micro-units is an error; the funds that can be kept never reach there."""
    dear = rate((0, "1000000000", 1, 1))
    assert cost(dear, 9) == (9 * 10**15, 9)
    with pytest.raises(AmountError):
        cost(dear, 10)
    with pytest.raises(AmountError):
        price(dear, 10)
    assert afford(dear, 10**30, 10**7) == 9


@pytest.mark.parametrize(
    ("of", "funds_micros", "most_s", "seconds"),
    [
        (PER_MINUTE, 149_999, 3600, 0),
        (PER_MINUTE, 150_000, 3600, 60),
        (PER_MINUTE, 199_999, 3600, 60),
        (PER_MINUTE, 200_000, 3600, 120),
        (PER_MINUTE, 200_000, 90, 90),
        (PER_MINUTE, 10**12, 3600, 3600),
        (PER_MINUTE, 10**12, 0, 0),
        (PER_MINUTE, 10**12, -1, 0),
        (PER_MINUTE, 0, 3600, 0),
        (PER_MINUTE, -1, 3600, 0),
        (THIRTY_SIX, 2_999, 3600, 0),
        (THIRTY_SIX, 3_000, 3600, 30),
        (THIRTY_SIX, 3_600, 3600, 36),
        (PER_SECOND, 10_000_000_000, 10**7, 10_000),
        (FREE, 0, 100, 100),
        (FREE, -5, 100, 100),
        (FREE, -5, -1, 0),
        (rate((0, "0", 1, 1), fee="1.12"), 200_000, 601, 0),
        (rate((0, "0", 1, 1), fee="1.12"), 1_120_000, 601, 601),
        (rate((0, "0", 60, 60), (60, "1", 1, 1)), 0, 100, 60),
        (rate((0, "0", 60, 60), (60, "1", 1, 1)), 3_000_000, 100, 63),
        (rate((0, "1", 1, 1), (10, "0", 1, 1)), 9_999_999, 100, 9),
        (rate((0, "1", 1, 1), (10, "0", 1, 1)), 10_000_000, 100, 100),
        # Rounded down to whole cents, the first 9 seconds cost nothing.
        (rate((0, "0.001", 1, 1), rounding="down 2"), 0, 100, 9),
        # A tie goes to the even unit: 0.025 costs 0.02, and 0.035 costs 0.04.
        (rate((0, "0.005", 1, 1), rounding="half_even 2"), 20_000, 100, 5),
        (rate((0, "0.005", 1, 1), rounding="half_even 2"), 30_000, 100, 6),
    ],
)
def test_funds_afford_whole_increments(of: Rate, funds_micros: int, most_s: int, seconds: int) -> None:
    """Money talks for as many whole increments as it pays for, and not a cent over."""
    assert afford(of, funds_micros, most_s) == seconds
