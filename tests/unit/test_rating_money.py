"""Amounts: text to micro-units and back, and the one rounding."""

from __future__ import annotations

from fractions import Fraction

import pytest

from rating.errors import AmountError
from rating.money import MOST_MICROS, format_amount, parse_amount, round_total
from rating.tariff import Rounding, RoundingMode


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("12.50", 12_500_000),
        ("-3", -3_000_000),
        ("0.000001", 1),
        ("-0", 0),
        (" 7 ", 7_000_000),
        ("9007199254.740991", MOST_MICROS),
        ("-9007199254.740991", -MOST_MICROS),
    ],
)
def test_plain_decimals_are_read_exactly(text: str, micros: int) -> None:
    """A plain decimal is read to the last of its six decimals."""
    assert parse_amount(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "-", ".5", "5.", "1,5", "1,000.00", "1 000", "1_000", "+1", "--1", "1E5", "1e-3", "NaN", "Infinity",
        "-inf", "0x10", "٣", "1.2.3", "1.0000001", "1.0000000", "9007199254.740992", "9" * 17, "9" * 1_000_000, "1\n2",
    ],
)  # fmt: skip
def test_anything_else_is_no_amount(text: str) -> None:
    """What is no plain decimal, or too large to keep exactly, is refused with a short text."""
    with pytest.raises(AmountError) as refused:
        parse_amount(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("micros", "decimals", "text"),
    [
        (1_500_000, 2, "1.50"),
        (1_234_567, 2, "1.234567"),
        (1_230_000, 2, "1.23"),
        (-500_000, 2, "-0.50"),
        (-1, 2, "-0.000001"),
        (0, 2, "0.00"),
        (3_000_000, 0, "3"),
        (1_000_000_000_000, 2, "1000000.00"),
    ],
)
def test_an_amount_is_written_with_no_more_places_than_needed(micros: int, decimals: int, text: str) -> None:
    """The least number of places is kept, no digit is lost, and no separator is put between thousands."""
    assert format_amount(micros, decimals=decimals) == text


UP, DOWN, HALF_UP, HALF_EVEN = RoundingMode.UP, RoundingMode.DOWN, RoundingMode.HALF_UP, RoundingMode.HALF_EVEN


@pytest.mark.parametrize(
    ("exact", "mode", "decimals", "micros"),
    [
        (Fraction(1, 3), UP, 2, 340_000),
        (Fraction(1, 3), DOWN, 2, 330_000),
        (Fraction(2, 3), HALF_UP, 2, 670_000),
        (Fraction(125, 1000), HALF_UP, 2, 130_000),
        (Fraction(125, 1000), HALF_EVEN, 2, 120_000),
        (Fraction(135, 1000), HALF_EVEN, 2, 140_000),
        (Fraction(126, 1000), HALF_EVEN, 2, 130_000),
        (Fraction(124, 1000), HALF_EVEN, 2, 120_000),
        (Fraction(5, 2), HALF_EVEN, 0, 2_000_000),
        (Fraction(1, 10**9), UP, 0, 1_000_000),
        (Fraction(1, 10**9), UP, 6, 1),
        (Fraction(12, 100), UP, 2, 120_000),
        (Fraction(-1, 3), UP, 2, -340_000),
        (Fraction(-1, 3), DOWN, 2, -330_000),
        (Fraction(-125, 1000), HALF_UP, 2, -130_000),
        (Fraction(0), UP, 2, 0),
    ],
)
def test_a_total_is_rounded_by_its_mode(exact: Fraction, mode: RoundingMode, decimals: int, micros: int) -> None:
    """Each mode rounds as its name says, ties and negative totals included."""
    assert round_total(exact, Rounding(mode, decimals)) == micros


def test_a_total_too_large_to_keep_is_refused() -> None:
    """A total beyond 2**53 micro-units is an error, not a wrong number."""
    with pytest.raises(AmountError):
        round_total(Fraction(2**53, 10**6), Rounding())
