"""Price a call, and its inverse: how long can this much money talk.

Increments are laid end to end from the answer. Each is priced by the step in force at the moment it begins and is
billed whole, even where the next step begins inside it. Only the total is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import NamedTuple, assert_never

from rating.money import DECIMALS, MOST_MICROS, check_size
from rating.tariff import Rate, RoundingMode, Step, check, price_text

_SHOWN_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a price, in words' order: `seconds` of talk billed at a step, or the connect fee (`seconds` 0).

    `amount` is exact, in currency units, before the total is rounded; "…" stands for decimals without end.
    """

    what: str
    seconds: int
    amount: str


@dataclass(frozen=True, slots=True)
class Price:
    """What a call costs: micro-units, the seconds billed (whole increments), and the lines that explain it."""

    cost_micros: int
    billed_s: int
    lines: tuple[Line, ...]


class Span(NamedTuple):
    """The increments of one step: they begin at `begin_s`, each costs `each`, and `before` was spent until there."""

    begin_s: int
    increment_s: int
    each: int
    before: int
    step: Step


@dataclass(frozen=True, slots=True)
class Terms:
    """A rate in integers, so that a price is a few additions and one division.

    A total t of `each` and `before` costs (t + `add`) // `divisor` units of `unit_micros`; with `half_even` an exact
    tie that came to an odd number is one less. `spans` are in order of time, `latest_first` the other way.
    """

    spans: tuple[Span, ...]
    latest_first: tuple[Span, ...]
    add: int
    divisor: int
    half_even: bool
    unit_micros: int
    free: bool


def billable_seconds(talk_ms: int) -> int:
    """Round milliseconds of talk up to whole seconds."""
    return max(0, -(-talk_ms // 1000))


def price(rate: Rate, seconds: int) -> Price:
    """Price `seconds` of talk. 0 seconds cost nothing, not even the connect fee.

    Raises `TariffError` for what is no rate, `AmountError` for a cost too large to keep.
    """
    cost_micros, billed_s = cost(rate, seconds)
    if billed_s == 0:
        return Price(0, 0, ())
    lines = [Line("connect fee", 0, price_text(rate.connect_fee))] if rate.connect_fee else []
    spans = (rate.terms or terms_of(rate)).spans
    for span, following in zip(spans, (*spans[1:], None), strict=True):
        end_s = billed_s if following is None else min(billed_s, following.begin_s)
        if end_s > span.begin_s:
            talked_s, step = end_s - span.begin_s, span.step
            what = f"{price_text(step.price)} per {step.per_s} s, in increments of {step.increment_s} s"
            lines.append(Line(what, talked_s, _exact_text(Fraction(step.price) * talked_s / step.per_s)))
    return Price(cost_micros, billed_s, tuple(lines))


def cost(rate: Rate, seconds: int) -> tuple[int, int]:
    """Return (cost_micros, billed_s) of `price`, without the lines: the hot path. Raises as `price` does."""
    terms = rate.terms or terms_of(rate)
    for begin_s, increment_s, each, before, _ in terms.latest_first:
        if seconds > begin_s:
            count = -((begin_s - seconds) // increment_s)
            shifted = before + count * each + terms.add
            units = shifted // terms.divisor
            if terms.half_even and units & 1 and shifted % terms.divisor == 0:
                units -= 1
            micros = units * terms.unit_micros
            if micros > MOST_MICROS:
                check_size(micros)
            return micros, begin_s + count * increment_s
    return 0, 0


def afford(rate: Rate, funds_micros: int, most_s: int) -> int:
    """Return how many seconds, up to `most_s`, the funds pay for in whole increments; 0 where not even the first.

    Exactly consistent with `cost`: cost(afford) <= funds. Where `most_s` lies inside an increment that the funds pay
    for, the answer is `most_s`. A rate that costs nothing affords `most_s` with any funds, even negative ones.
    """
    terms = rate.terms or terms_of(rate)
    if terms.free:
        return max(0, most_s)
    if most_s <= 0 or funds_micros < 0:
        return 0
    most = _most_total(terms, min(funds_micros, MOST_MICROS))
    for span, following in zip(terms.spans, (*terms.spans[1:], None), strict=True):
        left = most - span.before
        if left < 0:
            # Only the connect fee can be too much: a later span is reached with its `before` already paid.
            return 0
        end_s = span.begin_s + left // span.each * span.increment_s if span.each else most_s
        if following is None or end_s < following.begin_s:
            break
    return min(end_s, most_s)


def _most_total(terms: Terms, funds_micros: int) -> int:
    """Return the largest total (see `Terms`) whose rounded cost the funds reach."""
    units = funds_micros // terms.unit_micros
    tie = terms.half_even and units % 2 == 0
    return (units + 1) * terms.divisor - 1 - terms.add + tie


def terms_of(rate: Rate) -> Terms:
    """Make a rate's terms and leave them with it. Raises `TariffError` for what is no rate."""
    check(rate)
    terms = _make_terms(rate)
    # Two threads may both make them: they are equal, so it does not matter whose stay.
    object.__setattr__(rate, "terms", terms)
    return terms


def _make_terms(rate: Rate) -> Terms:
    scale = 10**rate.rounding.decimals
    fee = Fraction(rate.connect_fee) * scale
    each = [Fraction(step.price) * step.increment_s / step.per_s * scale for step in rate.steps]
    divisor = lcm(fee.denominator, *(amount.denominator for amount in each))
    match rate.rounding.mode:
        case RoundingMode.UP:
            add, twice = divisor - 1, 1
        case RoundingMode.DOWN:
            add, twice = 0, 1
        case RoundingMode.HALF_UP | RoundingMode.HALF_EVEN:
            add, twice = divisor, 2
        case _:
            assert_never(rate.rounding.mode)
    whole = divisor * twice
    spans = _spans(rate.steps, [int(amount * whole) for amount in each], int(fee * whole))
    return Terms(
        spans=spans,
        latest_first=spans[::-1],
        add=add,
        divisor=whole,
        half_even=rate.rounding.mode is RoundingMode.HALF_EVEN,
        unit_micros=10 ** (DECIMALS - rate.rounding.decimals),
        free=not rate.connect_fee and not any(span.each for span in spans),
    )


def _spans(steps: tuple[Step, ...], each: list[int], fee: int) -> tuple[Span, ...]:
    """Lay the increments of each step end to end. A step that an increment of the one before covers has none."""
    spans: list[Span] = []
    begin_s, before = 0, fee
    for number, step in enumerate(steps):
        is_last = number + 1 == len(steps)
        until_s = begin_s if is_last else steps[number + 1].from_s
        count = max(0, -((begin_s - until_s) // step.increment_s))
        if count or is_last:
            spans.append(Span(begin_s, step.increment_s, each[number], before, step))
        begin_s += count * step.increment_s
        before += count * each[number]
    return tuple(spans)


def _exact_text(amount: Fraction) -> str:
    """Write an exact amount: all its decimals where they end, else the first nine and "…"."""
    rest = amount.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    ends = rest == 1
    places = _SHOWN_DECIMALS
    while ends and 10**places % amount.denominator:
        places += 1
    units, cut = divmod(amount.numerator * 10**places // amount.denominator, 10**places)
    text = f"{units}.{cut:0{places}d}"
    return text.rstrip("0").rstrip(".") if ends else f"{text}…"
