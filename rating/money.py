"""Amounts: integers of micro-units inside, `Decimal` and text at the edges, never float."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import assert_never

from rating.errors import AmountError
from rating.parts import Rounding, RoundingMode

MICROS = 1_000_000
MOST_MICROS = 2**53 - 1
"""No amount and no balance is larger than this: Redis' Lua counts in doubles."""

DECIMALS = 6
_PLAIN = re.compile(r"(-?)([0-9]{1,16})(?:\.([0-9]{1,6}))?", re.ASCII)
_SHOWN = 40
"""How much of a bad text an error repeats: it may be a megabyte of somebody's making."""


def parse_amount(text: str) -> int:
    """Read a plain decimal ("12.50", "-3") as micro-units.

    Raises `AmountError` for anything else: exponents, NaN, thousands separators, more than 6 decimals, the size.
    """
    match = _PLAIN.fullmatch(text.strip())
    if match is None:
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
        raise AmountError(f"expected an amount such as 12.50 with at most {DECIMALS} decimals, found {shown!r}")
    sign, units, decimals = match.groups()
    micros = int(units) * MICROS + int((decimals or "").ljust(DECIMALS, "0"))
    check_size(micros)
    return -micros if sign else micros


def format_amount(micros: int, *, decimals: int = 2) -> str:
    """Write micro-units as a decimal with at least `decimals` places and no more than needed: 1500000 -> "1.50"."""
    units, rest = divmod(abs(micros), MICROS)
    places = f"{rest:0{DECIMALS}d}".rstrip("0").ljust(decimals, "0")
    return f"{'-' if micros < 0 else ''}{units}{'.' if places else ''}{places}"


def check_size(micros: int) -> None:
    """Raise `AmountError` for an amount, in micro-units, that Redis could not keep exactly."""
    if not -MOST_MICROS <= micros <= MOST_MICROS:
        raise AmountError(f"an amount is at most {format_amount(MOST_MICROS)} in size")


def round_total(exact: Fraction, rounding: Rounding) -> int:
    """Round an exact amount of currency units once, to micro-units.

    `up` is away from zero and `down` towards it, so that a credit mirrors its charge. Raises `AmountError` for the
    size.
    """
    scaled: Fraction = abs(exact) * 10**rounding.decimals
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest - scaled.denominator
    match rounding.mode:
        case RoundingMode.UP:
            more = rest > 0
        case RoundingMode.DOWN:
            more = False
        case RoundingMode.HALF_UP:
            more = twice >= 0
        case RoundingMode.HALF_EVEN:
            more = twice > 0 or (twice == 0 and whole % 2 == 1)
        case _:
            assert_never(rounding.mode)
    micros: int = (whole + more) * 10 ** (DECIMALS - rounding.decimals)
    check_size(micros)
    return -micros if exact < 0 else micros
