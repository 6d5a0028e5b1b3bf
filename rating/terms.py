"""A rate in integers, worked out once: so that a price is a few additions and one division.

Time is in milliseconds. Money is in parts of which `divisor` make one unit of the rounding, chosen so that every
increment, fee and surcharge of the rate is a whole number of them: nothing is rounded before the total.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple, assert_never

from rating.bands import Calendar, calendar_of
from rating.money import DECIMALS
from rating.parts import Band, BandsAt, Conditions, Outside, RoundingMode, Seconds, Step, ThenWhat
from rating.tariff import Rate, check


class Span(NamedTuple):
    """The increments of one step: they begin at `begin_ms`, each costs `each`, and `before` was spent until there.

    The free seconds of a call are one increment that costs nothing.
    """

    begin_ms: int
    increment_ms: int
    each: int
    before: int


class Rung(NamedTuple):
    """A step in integers, for calls that change bands. `from_ms` counts from the answer, free seconds included."""

    from_ms: int
    increment_ms: int
    each: int
    fee: int
    step: Step


@dataclass(frozen=True, slots=True)
class Ladder:
    """What holds in one band, or in all calls of a rate without bands."""

    band: Band | None
    connect_fee: int
    rungs: tuple[Rung, ...]
    spans: tuple[Span, ...]
    latest_first: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Bands:
    """The ladders of a rate with bands, by their number in the calendar.

    `base` holds where the calendar knows no band; where it is None the tariff is closed then, and what is talked all
    the same is priced by the band before.
    """

    calendar: Calendar
    ladders: tuple[Ladder, ...]
    base: Ladder | None
    changing: bool

    def at(self, moment_ms: int) -> tuple[Ladder, int]:
        """Return what holds at a moment, and a moment up to which it certainly does."""
        number, until_ms = self.calendar.at(moment_ms)
        if number >= 0:
            return self.ladders[number], until_ms
        if self.base is not None:
            return self.base, until_ms
        return self.ladders[max(self.calendar.before(moment_ms), 0)], until_ms

    def is_closed(self, moment_ms: int) -> bool:
        """Return whether no call may be going on at a moment."""
        return self.base is None and self.calendar.at(moment_ms)[0] < 0


class Due(NamedTuple):
    """A surcharge in integers."""

    after_ms: int
    amount: int
    every_ms: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds and raises a total. `least_units`, `most_units` and `cut_units` are units of the rounding.

    `most_units`: no call costs more. `cut_units`: no call that costs more is granted.
    """

    free_below_ms: int
    least_units: int
    most_units: int | None
    cut_units: int | None
    surcharges: tuple[Due, ...]

    def surcharged(self, talk_ms: int) -> int:
        """Return the surcharges due after so much talk."""
        total = 0
        for after_ms, amount, every_ms in self.surcharges:
            if talk_ms >= after_ms:
                total += amount * (1 + (talk_ms - after_ms) // every_ms if every_ms else 1)
        return total

    def bounded(self, units: int) -> int:
        """Return a rounded total within its bounds."""
        units = max(units, self.least_units)
        return units if self.most_units is None else min(units, self.most_units)


Quick = tuple[tuple[tuple[int, int, int, int], ...], int, int, bool, int]
"""(begin_ms, increment_ms, each, before) of the spans, latest first; `add`, `divisor`, `half_even`, `unit_micros`."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A rate in integers.

    A total t costs (t + `add`) // `divisor` units of `unit_micros`; with `half_even` an exact tie that came to an odd
    number is one less. `spans` are those of a rate without bands, in order of time, `latest_first` the other way.
    `quick`: all that makes the price of a rate without bands, bounds and surcharges, at hand for the hot path.
    """

    spans: tuple[Span, ...]
    latest_first: tuple[Span, ...]
    add: int
    divisor: int
    half_even: bool
    unit_micros: int
    free: bool
    quick: Quick | None
    ladder: Ladder | None
    bands: Bands | None
    limits: Limits | None
    free_ms: int
    ends: bool
    """Whether there is a time at which a call ends however much money there is."""


def terms_of(rate: Rate) -> Terms:
    """Return a rate's terms, made at its first use and left with it. Raises `TariffError` for what is no rate."""
    if rate.terms is None:
        check(rate)
        # Two threads may both make them: they are equal, so it does not matter whose stay.
        object.__setattr__(rate, "terms", _make_terms(rate))
    assert rate.terms is not None  # noqa: S101 - set above
    return rate.terms


def _make_terms(rate: Rate) -> Terms:
    conditions = rate.conditions
    scale = 10**rate.rounding.decimals
    divisor = lcm(*(ratio[1] for ratio in _amounts(rate, scale)))
    match rate.rounding.mode:
        case RoundingMode.UP:
            add, twice = divisor - 1, 1
        case RoundingMode.DOWN:
            add, twice = 0, 1
        case RoundingMode.HALF_UP | RoundingMode.HALF_EVEN:
            add, twice = divisor, 2
        case _:
            assert_never(rate.rounding.mode)
    divisor *= twice
    making = _Making(scale, divisor, conditions.free_s * 1000)
    base = making.ladder(None, rate.connect_fee, rate.steps) if rate.steps else None
    bands = _bands(rate, making, base) if rate.bands else None
    limits = _limits(conditions, scale, making)
    ladders = [*(bands.ladders if bands else ()), *([base] if base else [])]
    only = base if base and not bands else None
    half_even = rate.rounding.mode is RoundingMode.HALF_EVEN
    unit_micros = 10 ** (DECIMALS - rate.rounding.decimals)
    quick = None
    if only and limits is None:
        quick = (tuple((*span,) for span in only.latest_first), add, divisor, half_even, unit_micros)
    return Terms(
        spans=only.spans if only else (),
        latest_first=only.latest_first if only else (),
        add=add,
        divisor=divisor,
        half_even=half_even,
        unit_micros=unit_micros,
        free=_is_free(ladders, limits),
        quick=quick,
        ladder=only,
        bands=bands,
        limits=limits,
        free_ms=making.free_ms,
        ends=(bands is not None and conditions.outside is Outside.CLOSED)
        or (limits is not None and limits.cut_units is not None),
    )


Ratio = tuple[int, int]
"""An amount as numerator and denominator, in lowest terms: what `Fraction` does, at a quarter of its time."""


def _amounts(rate: Rate, scale: int) -> Iterable[Ratio]:
    """Yield every amount that may be part of a total, in units of the rounding."""
    yield _ratio(rate.connect_fee, scale)
    for band in rate.bands:
        if band.connect_fee is not None:
            yield _ratio(band.connect_fee, scale)
    for steps in (rate.steps, *(band.steps for band in rate.bands)):
        for step in steps:
            yield _ratio(step.price, scale, _ms(step.increment_s), step.per_s * 1000)
            if step.fee:
                yield _ratio(step.fee, scale)
    for surcharge in rate.conditions.surcharges:
        yield _ratio(surcharge.amount, scale)


def _ratio(amount: Decimal, scale: int, times: int = 1, per: int = 1) -> Ratio:
    """Return amount × times / per, in units of which `scale` make one of the currency."""
    numerator, denominator = amount.as_integer_ratio()
    numerator *= times * scale
    denominator *= per
    common = gcd(numerator, denominator)
    return numerator // common, denominator // common


def _ms(seconds: Seconds) -> int:
    return int(seconds * 1000)


@dataclass(frozen=True, slots=True)
class _Making:
    """`scale` units of the rounding make one of the currency, `divisor` parts make a unit."""

    scale: int
    divisor: int
    free_ms: int

    def whole(self, amount: Decimal, times: int = 1, per: int = 1) -> int:
        numerator, denominator = _ratio(amount, self.scale, times, per)
        return numerator * (self.divisor // denominator)

    def ladder(self, band: Band | None, connect_fee: Decimal, steps: tuple[Step, ...]) -> Ladder:
        rungs = tuple(
            Rung(
                self.free_ms + step.from_s * 1000,
                _ms(step.increment_s),
                self.whole(step.price, _ms(step.increment_s), step.per_s * 1000),
                self.whole(step.fee) if step.fee else 0,
                step,
            )
            for step in steps
        )
        fee = self.whole(connect_fee)
        spans = tuple(_spans(rungs, fee, self.free_ms))
        return Ladder(band, fee, rungs, spans, spans[::-1])


def _spans(rungs: tuple[Rung, ...], connect_fee: int, free_ms: int) -> Iterable[Span]:
    """Lay the increments of each step end to end. A step that an increment of the one before covers has none."""
    begin_ms, before = free_ms, connect_fee
    if free_ms:
        yield Span(0, free_ms, 0, connect_fee)
    for number, rung in enumerate(rungs):
        before += rung.fee
        is_last = number + 1 == len(rungs)
        until_ms = begin_ms if is_last else rungs[number + 1].from_ms
        count = max(0, -((begin_ms - until_ms) // rung.increment_ms))
        if count or is_last:
            yield Span(begin_ms, rung.increment_ms, rung.each, before)
        begin_ms += count * rung.increment_ms
        before += count * rung.each


def _bands(rate: Rate, making: _Making, base: Ladder | None) -> Bands:
    ladders = tuple(
        making.ladder(band, rate.connect_fee if band.connect_fee is None else band.connect_fee, band.steps)
        for band in rate.bands
    )
    return Bands(
        calendar=calendar_of(tuple(band.when for band in rate.bands), rate.conditions.timezone),
        ladders=ladders,
        base=base,
        changing=rate.conditions.bands_at is BandsAt.EACH_INCREMENT,
    )


def _limits(conditions: Conditions, scale: int, making: _Making) -> Limits | None:
    most = conditions.max_charge
    if not (conditions.free_below_s or conditions.min_charge or most is not None or conditions.surcharges):
        return None
    # Never less than the minimum and never more than the maximum, even where these have more decimals than the total.
    most_units = None if most is None else int(most * scale)
    least = Fraction(conditions.min_charge) * scale
    cuts = conditions.max_charge_then is ThenWhat.DISCONNECT
    return Limits(
        free_below_ms=conditions.free_below_s * 1000,
        least_units=-(-least.numerator // least.denominator),
        most_units=None if cuts else most_units,
        cut_units=most_units if cuts else None,
        surcharges=tuple(
            Due(due.after_s * 1000, making.whole(due.amount), due.every_s * 1000) for due in conditions.surcharges
        ),
    )


def _is_free(ladders: list[Ladder], limits: Limits | None) -> bool:
    if limits and (limits.least_units or any(due.amount for due in limits.surcharges)):
        return False
    return not any(ladder.connect_fee or any(rung.each or rung.fee for rung in ladder.rungs) for ladder in ladders)
