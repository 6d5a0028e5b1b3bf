"""Price a call, and its inverse: how long can this much money talk.

Increments are laid end to end from the answer. Each is priced by the band and the step in force at the moment it begins
and is billed whole, even where the next step or band begins inside it. Only the total is rounded.

A rate with bands must be told when the call was answered (`at`); to any other rate it makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple, assert_never

from rating.bands import instant_ms, when_text, zone_of
from rating.errors import TariffError
from rating.money import MOST_MICROS, check_size
from rating.parts import Band, Durations, Seconds, Step
from rating.tariff import Rate, price_text
from rating.terms import Bands, Ladder, Limits, Terms, terms_of

_SHOWN_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a price, in words' order: `seconds` of talk billed at a step, or a fee (`seconds` 0).

    `amount` is exact, in currency units, before the total is rounded; "…" stands for decimals without end. Seconds are
    whole except where increments are shorter.
    """

    what: str
    seconds: Seconds
    amount: str


@dataclass(frozen=True, slots=True)
class Price:
    """What a call costs: micro-units, the time billed (whole increments), and the lines that explain it."""

    cost_micros: int
    billed_ms: int
    lines: tuple[Line, ...]

    @property
    def billed_s(self) -> int:
        """The whole seconds that hold the time billed."""
        return -(-self.billed_ms // 1000)


def billable_seconds(talk_ms: int) -> int:
    """Round milliseconds of talk up to whole seconds."""
    return max(0, -(-talk_ms // 1000))


def billable_ms(rate: Rate, talk_ms: int) -> int:
    """Return the time that is priced, in milliseconds: talk rounded as the tariff says, up to the second by default."""
    match rate.conditions.durations:
        case Durations.UP:
            return max(0, -(-talk_ms // 1000)) * 1000
        case Durations.NEAREST:
            return max(0, (talk_ms + 500) // 1000) * 1000
        case Durations.DOWN:
            return max(0, talk_ms // 1000) * 1000
        case Durations.EXACT:
            return max(0, talk_ms)
        case _:
            assert_never(rate.conditions.durations)


def cost(rate: Rate, seconds: int, at: datetime | None = None) -> tuple[int, int]:
    """Return (cost_micros, billed_s) of `price`, without the lines. Raises as `price` does."""
    micros, billed_ms = cost_ms(rate, seconds * 1000, at)
    return micros, -(-billed_ms // 1000)


def cost_ms(rate: Rate, talk_ms: int, at: datetime | None = None) -> tuple[int, int]:
    """Return (cost_micros, billed_ms) of a time as it is, which `billable_ms` rounds: the hot path."""
    terms = rate.terms or terms_of(rate)
    if terms.quick is None:
        micros, billed_ms = _priced(terms, talk_ms, begin_of(terms, at))
        check_size(micros)
        return micros, billed_ms
    latest_first, add, divisor, half_even, unit_micros = terms.quick
    for begin_ms, increment_ms, each, before in latest_first:
        if talk_ms > begin_ms:
            count = (talk_ms - begin_ms + increment_ms - 1) // increment_ms
            shifted = before + count * each + add
            units = shifted // divisor
            if half_even and units & 1 and shifted % divisor == 0:
                units -= 1
            micros = units * unit_micros
            if micros > MOST_MICROS:
                check_size(micros)
            return micros, begin_ms + count * increment_ms
    return 0, 0


def charged(rate: Rate, talk_ms: int, answered_at: datetime | None = None) -> tuple[int, int, int]:
    """Return (cost_micros, priced_ms, billed_ms) of a call that is over: its talk rounded as the tariff says, and no
    more of it priced than the tariff lets a call last.
    """
    priced_ms = billable_ms(rate, talk_ms)
    if priced_ms <= 0:
        return 0, 0, 0
    priced_ms = min(priced_ms, longest(rate, -(-priced_ms // 1000), answered_at) * 1000)
    micros, billed_ms = cost_ms(rate, priced_ms, answered_at)
    return micros, priced_ms, billed_ms


def price(rate: Rate, seconds: int, *, at: datetime | None = None) -> Price:
    """Price `seconds` of talk. 0 seconds cost nothing, not even the connect fee.

    Raises `TariffError` for what is no rate, or for bands without the time of the answer, `AmountError` for a cost too
    large to keep.
    """
    return price_ms(rate, seconds * 1000, at=at)


def price_ms(rate: Rate, talk_ms: int, *, at: datetime | None = None) -> Price:
    """Price a time as it is, as `price` does: `billable_ms` rounds it first."""
    cost_micros, billed_ms = cost_ms(rate, talk_ms, at)
    if talk_ms <= 0:
        return Price(0, 0, ())
    return Price(cost_micros, billed_ms, tuple(_lines(rate, talk_ms, at)))


def afford(rate: Rate, funds_micros: int, most_s: int, at: datetime | None = None) -> int:
    """Return how many seconds, up to `most_s`, the funds pay for in whole increments; 0 where not even the first.

    Exactly consistent with `cost`: cost(afford) <= funds. Where `most_s` lies inside an increment that the funds pay
    for, the answer is `most_s`; where a surcharge falls due inside an increment, the second before. No more than
    `longest`. A rate that costs nothing affords `most_s` with any funds, even negative ones.
    """
    terms = rate.terms or terms_of(rate)
    if terms.quick is None:
        return _afford_with_more(terms, funds_micros, most_s, at)
    if terms.free:
        return max(0, most_s)
    if most_s <= 0 or funds_micros < 0:
        return 0
    most = _most_total(terms, min(funds_micros, MOST_MICROS))
    most_ms = most_s * 1000
    for span, following in zip(terms.spans, (*terms.spans[1:], None), strict=True):
        left = most - span.before
        if left < 0:
            # The connect fee, or the fee of a step that has been reached, is too much.
            end_ms = span.begin_ms
            break
        end_ms = span.begin_ms + left // span.each * span.increment_ms if span.each else most_ms
        if following is None or end_ms < following.begin_ms:
            break
    return min(end_ms // 1000, most_s)


def longest(rate: Rate, most_s: int, at: datetime | None = None) -> int:
    """Return how many seconds, up to `most_s`, a call may last with all the money there is.

    Less than `most_s` only where the tariff cuts calls: at its highest charge, or at hours when it is closed.
    """
    terms = rate.terms or terms_of(rate)
    return afford(rate, MOST_MICROS, most_s, at) if terms.ends else most_s


def closing(rate: Rate, at: datetime, talk_ms: int) -> datetime | None:
    """Return when, on its own clock, the tariff is closed during a call; None where it stays open."""
    bands = terms_of(rate).bands
    if bands is None:
        return None
    begin_ms = instant_ms(at)
    stays_ms = open_ms(bands, begin_ms, max(talk_ms, 1))
    return bands.calendar.local(begin_ms + stays_ms) if stays_ms < max(talk_ms, 1) else None


def local_time(rate: Rate, at: datetime) -> datetime:
    """Return a time on the clock of the rate's tariff."""
    return at.astimezone(zone_of(rate.conditions.timezone))


def band_changes(rate: Rate, since: datetime, until: datetime) -> list[datetime]:
    """Return the moments after `since`, up to `until`, at which another band may come into force."""
    bands = terms_of(rate).bands
    if bands is None:
        return []
    begin_ms, end_ms = instant_ms(since), instant_ms(until)
    moments: list[datetime] = []
    number, at_ms = bands.calendar.at(begin_ms)
    while at_ms <= end_ms:
        following, until_ms = bands.calendar.at(at_ms)
        if following != number:
            moments.append(bands.calendar.local(at_ms))
        number, at_ms = following, until_ms
    return moments


def seconds_of(milliseconds: int) -> Seconds:
    """Return milliseconds as seconds: whole ones as an integer."""
    whole, rest = divmod(milliseconds, 1000)
    return Decimal(milliseconds) / 1000 if rest else whole


def exact_cost(rate: Rate, talk_ms: int, at: datetime | None = None) -> Fraction:
    """Return what a time costs before the one rounding, in currency units; a bound that decides is in it."""
    terms = terms_of(rate)
    limits = terms.limits
    if talk_ms <= 0 or (limits is not None and talk_ms < limits.free_below_ms):
        return Fraction(0)
    scale = 10**rate.rounding.decimals
    total = total_of(terms, talk_ms, begin_of(terms, at))[0]
    if limits is not None:
        total += limits.surcharged(talk_ms)
        units = units_of(terms, total)
        if limits.bounded(units) != units:
            return Fraction(limits.bounded(units), scale)
    return Fraction(total, terms.divisor * scale)


def _most_total(terms: Terms, funds_micros: int) -> int:
    """Return the largest total (see `Terms`) whose rounded cost the funds reach."""
    units = funds_micros // terms.unit_micros
    tie = terms.half_even and units % 2 == 0
    return (units + 1) * terms.divisor - 1 - terms.add + tie


# -- bands, bounds and surcharges --------------------------------------------------------------------------------------


def begin_of(terms: Terms, at: datetime | None) -> int:
    """Return the time of the answer in milliseconds since 1970, 0 where it makes no difference."""
    if terms.bands is None:
        return 0
    if at is None:
        raise TariffError("a rate with bands is priced by the time of the answer, and that is not known")
    return instant_ms(at)


def _priced(terms: Terms, talk_ms: int, begin_ms: int) -> tuple[int, int]:
    """Return (micros, billed_ms); the amount may be too large to keep."""
    limits = terms.limits
    if talk_ms <= 0 or (limits is not None and talk_ms < limits.free_below_ms):
        return 0, 0
    total, billed_ms = total_of(terms, talk_ms, begin_ms)
    if limits is not None:
        total += limits.surcharged(talk_ms)
    units = units_of(terms, total)
    if limits is not None:
        units = limits.bounded(units)
    return units * terms.unit_micros, billed_ms


def units_of(terms: Terms, total: int) -> int:
    """Round a total, in the parts of `terms`, to units of the rounding."""
    shifted = total + terms.add
    units = shifted // terms.divisor
    return units - 1 if terms.half_even and units & 1 and shifted % terms.divisor == 0 else units


def total_of(terms: Terms, talk_ms: int, begin_ms: int) -> tuple[int, int]:
    """Return what increments and fees add up to, and until when they pay."""
    latest_first = terms.latest_first
    if terms.bands is not None:
        ladder, until_ms = terms.bands.at(begin_ms)
        if terms.bands.changing and begin_ms + talk_ms > until_ms:
            total, billed_ms = ladder.connect_fee, terms.free_ms
            for part in walk(terms, ladder, talk_ms, begin_ms):
                total += part.fees + part.number * part.each
                billed_ms = part.begin_ms + part.number * part.increment_ms
            return total, billed_ms
        latest_first = ladder.latest_first
    for span in latest_first:
        if talk_ms > span.begin_ms:
            count = -((span.begin_ms - talk_ms) // span.increment_ms)
            return span.before + count * span.each, span.begin_ms + count * span.increment_ms
    return 0, 0


class Part(NamedTuple):
    """Increments of one step in one band, `number` from `begin_ms` on; `fees` of the steps they reach."""

    band: Band | None
    step: Step
    begin_ms: int
    increment_ms: int
    number: int
    each: int
    fees: int
    fee_steps: tuple[Step, ...]


def walk(terms: Terms, ladder: Ladder, talk_ms: int, begin_ms: int) -> Iterator[Part]:
    """Yield the increments of a call in the order of time, from one change of step or band to the next."""
    bands = terms.bands if terms.bands is not None and terms.bands.changing else None
    at_ms, reached_ms = terms.free_ms, -1
    while at_ms < talk_ms:
        until_ms = talk_ms
        if bands is not None:
            ladder, band_ends_ms = bands.at(begin_ms + at_ms)
            until_ms = min(until_ms, band_ends_ms - begin_ms)
        rung = ladder.rungs[0]
        fees, fee_steps = 0, []
        for each_rung in ladder.rungs:
            if each_rung.from_ms > at_ms:
                until_ms = min(until_ms, each_rung.from_ms)
                break
            rung = each_rung
            if rung.fee and rung.from_ms > reached_ms:
                fees += rung.fee
                fee_steps.append(rung.step)
        count = -((at_ms - until_ms) // rung.increment_ms)
        yield Part(ladder.band, rung.step, at_ms, rung.increment_ms, count, rung.each, fees, tuple(fee_steps))
        at_ms += count * rung.increment_ms
        reached_ms = at_ms - rung.increment_ms


def _afford_with_more(terms: Terms, funds_micros: int, most_s: int, at: datetime | None) -> int:
    """Search: the cost never falls with time, and a search cannot disagree with it."""
    begin_ms = begin_of(terms, at)
    if terms.ends and terms.bands is not None:
        most_s = open_ms(terms.bands, begin_ms, most_s * 1000) // 1000
    if most_s <= 0:
        return 0
    if terms.free:
        return most_s
    if funds_micros < 0:
        return 0
    funds_micros = min(funds_micros, MOST_MICROS)
    if terms.limits is not None and terms.limits.cut_units is not None:
        funds_micros = min(funds_micros, terms.limits.cut_units * terms.unit_micros)
    able, unable = 0, 1
    while unable <= most_s and _priced(terms, unable * 1000, begin_ms)[0] <= funds_micros:
        able, unable = unable, unable * 2
    unable = min(unable, most_s + 1)
    while unable - able > 1:
        middle = (able + unable) // 2
        if _priced(terms, middle * 1000, begin_ms)[0] <= funds_micros:
            able = middle
        else:
            unable = middle
    return able


def open_ms(bands: Bands, begin_ms: int, most_ms: int) -> int:
    """Return for how long from a moment on, up to `most_ms`, the tariff is open."""
    at_ms, end_ms = begin_ms, begin_ms + most_ms
    while at_ms < end_ms and not bands.is_closed(at_ms):
        at_ms = bands.calendar.at(at_ms)[1]
    return max(0, min(at_ms, end_ms) - begin_ms)


# -- words -------------------------------------------------------------------------------------------------------------


def _lines(rate: Rate, talk_ms: int, at: datetime | None) -> Iterator[Line]:
    """Say what a price is made of. The amounts add up to the exact total; a bound that changes it has a line too."""
    terms, conditions = terms_of(rate), rate.conditions
    limits = terms.limits
    if limits is not None and talk_ms < limits.free_below_ms:
        yield Line(f"calls shorter than {conditions.free_below_s} s are free", 0, "0")
        return
    begin_ms = begin_of(terms, at)
    ladder = terms.bands.at(begin_ms)[0] if terms.bands is not None else terms.ladder
    assert ladder is not None  # noqa: S101 - a rate has steps or bands
    fee = rate.connect_fee if ladder.band is None or ladder.band.connect_fee is None else ladder.band.connect_fee
    if fee:
        yield Line("connect fee", 0, price_text(fee))
    if terms.free_ms:
        yield Line(f"no charge, as the first {conditions.free_s} s are free", conditions.free_s, "0")
    yield from _step_lines(terms, ladder, talk_ms, begin_ms)
    if limits is None:
        return
    for due, said in zip(limits.surcharges, conditions.surcharges, strict=True):
        if due.amount and talk_ms >= due.after_ms:
            times = 1 + (talk_ms - due.after_ms) // due.every_ms if due.every_ms else 1
            every = f" and every {said.every_s} s" if said.every_s else ""
            what = f"{price_text(said.amount)} after {said.after_s} s{every}"
            yield Line(what, 0, exact_text(Fraction(said.amount) * times))
    yield from _bound_lines(terms, limits, rate, total_of(terms, talk_ms, begin_ms)[0] + limits.surcharged(talk_ms))


def _bound_lines(terms: Terms, limits: Limits, rate: Rate, total: int) -> Iterator[Line]:
    """Say what the lowest or the highest charge adds or takes."""
    units = units_of(terms, total)
    bounded = limits.bounded(units)
    if bounded != units:
        scale = 10**rate.rounding.decimals
        differs = Fraction(bounded, scale) - Fraction(total, terms.divisor * scale)
        what = "the minimum charge adds" if bounded > units else "the maximum charge takes off"
        yield Line(what, 0, exact_text(differs))


def _step_lines(terms: Terms, ladder: Ladder, talk_ms: int, begin_ms: int) -> Iterator[Line]:
    """Yield a line for each step in each band, and for each fee; what follows on in the same words is one line."""
    pending, milliseconds = "", 0
    amount = Fraction(0)
    for part in walk(terms, ladder, talk_ms, begin_ms):
        words = _words(part)
        if pending and (part.fee_steps or words != pending):
            yield Line(pending, seconds_of(milliseconds), exact_text(amount))
            milliseconds, amount = 0, Fraction(0)
        for step in part.fee_steps:
            told = f" after {step.from_s} s" if step.from_s else ""
            yield Line(f"fee of the step{told}", 0, price_text(step.fee))
        pending = words
        milliseconds += part.number * part.increment_ms
        amount += Fraction(part.step.price) * part.number * part.increment_ms / (part.step.per_s * 1000)
    if pending:
        yield Line(pending, seconds_of(milliseconds), exact_text(amount))


def _words(part: Part) -> str:
    step, band = part.step, part.band
    words = f"{price_text(step.price)} per {step.per_s} s, in increments of {step.increment_s} s"
    return f"{words} ({band_text(band)})" if band is not None else words


def band_text(band: Band) -> str:
    """Name a band as its tariff does, or by its times."""
    return band.name or when_text(band.when)


def exact_text(amount: Fraction) -> str:
    """Write an exact amount: all its decimals where they end, else the first nine and "…"."""
    if amount < 0:
        return f"-{exact_text(-amount)}"
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
