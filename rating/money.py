"""Amounts: integers of micro-units inside, `Decimal` and text at the edges, never float."""

from __future__ import annotations

from fractions import Fraction

from rating.tariff import Rounding

MICROS = 1_000_000
MOST_MICROS = 2**53 - 1
"""No amount and no balance is larger than this: Redis' Lua counts in doubles."""


def parse_amount(text: str) -> int:
    """Read a plain decimal ("12.50", "-3") as micro-units. Raises `AmountError` (exponents, NaN, > 6 decimals, size)."""
    raise NotImplementedError


def format_amount(micros: int, *, decimals: int = 2) -> str:
    """Write micro-units as a decimal with at least `decimals` places and no more than needed: 1500000 -> "1.50"."""
    raise NotImplementedError


def round_total(exact: Fraction, rounding: Rounding) -> int:
    """Round an exact amount of currency units once, to micro-units."""
    raise NotImplementedError
