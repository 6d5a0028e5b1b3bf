"""What is laid around a listed rate: a mark-up on a carrier's prices, a discount, an exchange rate. Pure and exact.

Each makes a rate of a rate, so that the price, its inverse and its explanation need not know of any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from functools import lru_cache

from rating.errors import TariffError
from rating.parts import PLAIN, Conditions, Rounding, RoundingMode, Step
from rating.tariff import Rate, check

ONE = Decimal(1)
MOST_PERCENT = Decimal(100_000)
MOST_PERCENT_DECIMALS = 4
MOST_MARKUP_DECIMALS = 12
_EXACT = Context(prec=200, traps=[Inexact])
"""Prices multiply without losing a digit, or fail."""

Amount = Callable[[Decimal, int], Decimal]
"""What becomes of an amount; the second is the seconds it is for, 0 where it is for the call."""


@dataclass(frozen=True, slots=True)
class MarkUp:
    """Sell dearer than another tariff: so many percent, but at least so much a minute more.

    The percent is for every amount, the least for what is charged by time. The prices that come out are brought to
    `decimals`, upwards unless `mode` says otherwise.
    """

    percent: Decimal
    least_per_min: Decimal = Decimal(0)
    decimals: int = 6
    mode: RoundingMode = RoundingMode.UP

    def __post_init__(self) -> None:
        """Raise `TariffError` for what is no mark-up."""
        check_percent(self.percent, MOST_PERCENT)
        if not self.least_per_min.is_finite() or self.least_per_min.is_signed():
            raise TariffError("the least margin a minute is 0 or more")
        if not 0 <= self.decimals <= MOST_MARKUP_DECIMALS:
            raise TariffError(f"prices are brought to 0 to {MOST_MARKUP_DECIMALS} decimals")


def check_percent(percent: Decimal, most: Decimal) -> None:
    """Raise `TariffError` unless it is a percentage from 0 to `most`, with few enough decimals to stay exact."""
    if not percent.is_finite() or not 0 <= percent <= most:
        raise TariffError(f"a percentage is from 0 to {most}")
    exponent = percent.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > MOST_PERCENT_DECIMALS:
        raise TariffError(f"a percentage has at most {MOST_PERCENT_DECIMALS} decimals")


def times(one: Decimal, other: Decimal) -> Decimal:
    """Multiply two factors without losing a digit."""
    return _EXACT.multiply(one, other)


def less(percent: Decimal) -> Decimal:
    """Return the factor of a discount: 12.5 is 0.875."""
    check_percent(percent, Decimal(100))
    return _EXACT.subtract(Decimal(1), percent.scaleb(-2, _EXACT))


@lru_cache(maxsize=20_000)
def scaled(rate: Rate, factor: Decimal) -> Rate:
    """Return a rate whose every call costs `factor` times as much before the one rounding, exactly.

    Connect fee, steps, fees, surcharges and the bounds of the charge are all scaled. Raises `TariffError` for a factor
    below 0, and where a price would have too many digits to keep.
    """
    if not factor.is_finite() or factor < 0:
        raise TariffError("prices are multiplied by 0 or more")
    return _with_amounts(rate, lambda amount, _: _EXACT.multiply(amount, factor), rate.rounding)


@lru_cache(maxsize=20_000)
def marked_up(rate: Rate, markup: MarkUp, rounding: Rounding) -> Rate:
    """Return what a carrier's rate sells for; `rounding` is that of the tariff it is sold in."""
    more = 1 + Fraction(markup.percent) / 100
    least = Fraction(markup.least_per_min) / 60

    def dearer(amount: Decimal, per_s: int) -> Decimal:
        exact = Fraction(amount) * more
        if per_s:
            exact = max(exact, Fraction(amount) + least * per_s)
        return rounded(exact, markup.decimals, markup.mode)

    return _with_amounts(rate, dearer, rounding)


def rounded(exact: Fraction, decimals: int, mode: RoundingMode) -> Decimal:
    """Bring an exact price of 0 or more to so many decimals."""
    scaled_up = exact * 10**decimals
    whole, rest = divmod(scaled_up.numerator, scaled_up.denominator)
    twice = 2 * rest - scaled_up.denominator
    match mode:
        case RoundingMode.UP:
            whole += rest > 0
        case RoundingMode.HALF_UP:
            whole += twice >= 0
        case RoundingMode.HALF_EVEN:
            whole += twice > 0 or (twice == 0 and whole % 2 == 1)
        case RoundingMode.DOWN:
            pass
    return Decimal(whole).scaleb(-decimals, _EXACT)


def _with_amounts(rate: Rate, amount: Amount, rounding: Rounding) -> Rate:
    made = replace(
        rate,
        connect_fee=amount(rate.connect_fee, 0),
        steps=_steps(rate.steps, amount),
        rounding=rounding,
        bands=tuple(
            replace(
                band,
                steps=_steps(band.steps, amount),
                connect_fee=None if band.connect_fee is None else amount(band.connect_fee, 0),
            )
            for band in rate.bands
        ),
        conditions=_conditions(rate.conditions, amount),
    )
    check(made)
    return made


def _steps(steps: tuple[Step, ...], amount: Amount) -> tuple[Step, ...]:
    return tuple(
        replace(step, price=amount(step.price, step.per_s), fee=amount(step.fee, 0) if step.fee else step.fee)
        for step in steps
    )


def _conditions(conditions: Conditions, amount: Amount) -> Conditions:
    if conditions is PLAIN:
        return conditions
    return replace(
        conditions,
        min_charge=amount(conditions.min_charge, 0),
        max_charge=None if conditions.max_charge is None else amount(conditions.max_charge, 0),
        surcharges=tuple(replace(due, amount=amount(due.amount, 0)) for due in conditions.surcharges),
    )
