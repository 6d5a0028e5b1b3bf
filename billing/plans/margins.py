"""What a call must earn: compared exactly, for a call of a minute and one of an hour, whenever it is answered. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from rating.pricing import exact_cost
from rating.tariff import Rate

LENGTHS_S: Final = (60, 3600)
"""A short call, in which connect fees weigh, and a long one, in which prices do."""


@dataclass(frozen=True, slots=True)
class Least:
    """What must be earned: so many percent of the price, and so much a minute; None is nothing of the kind."""

    percent: Decimal | None = None
    per_min: Decimal | None = None


def earns(sold: Rate, bought: Rate, worth: Decimal, least: Least, at: datetime) -> bool:
    """Return whether a call answered at `at` earns enough. `worth`: what one of the cost's currency is in the price's.

    What is compared is before any rounding of a total.
    """
    for seconds in LENGTHS_S:
        income = exact_cost(sold, seconds * 1000, at)
        margin = income - exact_cost(bought, seconds * 1000, at) * Fraction(worth)
        if least.percent is not None and margin < income * Fraction(least.percent) / 100:
            return False
        if least.per_min is not None and margin < Fraction(least.per_min) * seconds / 60:
            return False
    return True
