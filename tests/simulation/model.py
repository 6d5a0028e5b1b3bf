"""A plain model of prices: increments laid one after the other from the answer, added up in fractions, rounded once.

It shares no code with `rating`: what a call costs is worked out anew, with bands, bundles, exchange rates and tiers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from rating.tariff import Rate, RoundingMode, Step

MICROS = 1_000_000


def increments(rate: Rate, seconds: int, answered_at: datetime | None) -> Iterator[tuple[int, int, Fraction]]:
    """Yield begin, length and price of each increment begun within so many seconds."""
    at_s = 0
    while at_s < seconds:
        steps = _steps(rate, at_s, answered_at)
        step = max((one for one in steps if one.from_s <= at_s), key=lambda one: one.from_s)
        length_s = int(step.increment_s)
        yield at_s, length_s, Fraction(str(step.price)) * length_s / step.per_s
        at_s += length_s


def _steps(rate: Rate, at_s: int, answered_at: datetime | None) -> tuple[Step, ...]:
    if answered_at is None or not rate.bands:
        return rate.steps
    since_day = answered_at.hour * 3600 + answered_at.minute * 60 + answered_at.second + at_s
    micros = answered_at.microsecond
    for band in rate.bands:
        if (band.when.from_s, 0) <= (since_day, micros) < (band.when.to_s, 0):
            return band.steps
    return rate.steps


def exact(rate: Rate, seconds: int, answered_at: datetime | None = None, covered_s: int = 0) -> Fraction:
    """Return what so many seconds cost before it is rounded. The first `covered_s` are paid for otherwise."""
    paid = [cost for begin_s, _, cost in increments(rate, seconds, answered_at) if begin_s >= covered_s]
    return sum(paid, Fraction(str(rate.connect_fee))) if paid else Fraction(0)


def price(
    rate: Rate,
    seconds: int,
    answered_at: datetime | None = None,
    *,
    covered_s: int = 0,
    factor: Fraction = Fraction(1),
) -> int:
    """Return what so many seconds cost, micro-units: each begun increment, rounded once."""
    if seconds <= 0:
        return 0
    scaled = exact(rate, seconds, answered_at, covered_s) * factor * 10**rate.rounding.decimals
    whole: int = scaled.numerator // scaled.denominator
    rest: int = scaled.numerator % scaled.denominator
    half = Fraction(rest, scaled.denominator) - Fraction(1, 2)
    match rate.rounding.mode:
        case RoundingMode.UP:
            whole += rest > 0
        case RoundingMode.HALF_UP:
            whole += half >= 0
        case RoundingMode.HALF_EVEN:
            whole += half > 0 or (half == 0 and whole % 2 == 1)
        case RoundingMode.DOWN:
            pass
    unit: int = 10 ** (6 - rate.rounding.decimals)
    return whole * unit


@dataclass(frozen=True, slots=True)
class Payer:
    """One level of a chain: whose wallet, at which rate, and what stands around it."""

    account_id: int
    wallet_id: int
    rate: Rate
    worths: tuple[tuple[datetime, Fraction], ...] = ()
    """From when on what one unit of the tariff's currency is worth in the account's, oldest first."""
    tiers: tuple[tuple[int, Fraction], ...] = ()
    """From so many seconds of a month on what is paid of each unit."""
    bundles: tuple[int, ...] = ()
    """The wallets whose seconds are used before the money."""
    flat_s: int = 0
    most_micros: int | None = None
    """What one call may cost."""
    most_day_micros: int | None = None
    plain: bool = field(init=False)
    """Whether the rate alone says what a call costs and how long it lasts."""

    def __post_init__(self) -> None:
        """Look once."""
        around = (self.worths, self.tiers, self.bundles, self.flat_s, self.rate.bands)
        limits = (self.most_micros, self.most_day_micros)
        object.__setattr__(self, "plain", not any(around) and limits == (None, None))

    def prices(self, seconds: int, answered_at: datetime | None, offered_at: datetime, covered_s: int) -> set[int]:
        """Return what a call may cost: one amount for each tier it may have had."""
        worth = next((value for since, value in reversed(self.worths) if since <= offered_at), Fraction(1))
        pays = [pay for _, pay in self.tiers] or [Fraction(1)]
        return {price(self.rate, seconds, answered_at, covered_s=covered_s, factor=worth * pay) for pay in pays}

    def least(self, seconds: int, answered_at: datetime | None, hold: Mapping[str, str]) -> int:
        """Return what so much talk costs at least, beside what the hold has of bundles."""
        if self.flat_s:
            return 0
        covered_s = sum(int(hold.get(f"w:{wallet_id}", "0")) for wallet_id in self.bundles) // MICROS
        factors = [
            worth * pay
            for worth in ([value for _, value in self.worths] or [Fraction(1)])
            for pay in ([pay for _, pay in self.tiers] or [Fraction(1)])
        ]
        return min(price(self.rate, seconds, answered_at, covered_s=covered_s, factor=one) for one in factors)

    def whole(self, covered_s: int, billed_s: int, answered_at: datetime | None) -> bool:
        """Return whether what was paid for otherwise are whole increments of the call."""
        return covered_s == 0 or covered_s in {
            begin_s + length_s for begin_s, length_s, _ in increments(self.rate, billed_s, answered_at)
        }
