"""A call paid partly by bundles of seconds and the rest in money: bundles first, in whole increments. Pure and exact.

Increments are laid from the answer as `rating.pricing` lays them. Each bundle in turn pays for as many whole increments
as it has time for; the increments after that, and the fees and surcharges that fall due with them, are money. The
connect fee is due with the first increment that is money. Free seconds at the beginning cost no bundle anything. What
bounds a charge (minimum, maximum, calls below some seconds free) is about the money.

`caps_ms`: how much of each bundle a call may use, in the order in which they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

from rating.money import MOST_MICROS, check_size
from rating.pricing import begin_of, open_ms, total_of, units_of, walk
from rating.tariff import Rate
from rating.terms import Terms, terms_of


class Paid(NamedTuple):
    """What a call costs: money, what it uses of each bundle, and the time that both pay for."""

    micros: int
    uses_ms: tuple[int, ...]
    billed_ms: int


def pay(rate: Rate, talk_ms: int, caps_ms: Sequence[int], at: datetime | None = None) -> Paid:
    """Price a time as it is, as `pricing.cost_ms` does; without bundles the two agree.

    Raises `TariffError` for bands without the time of the answer, `AmountError` for a cost too large to keep.
    """
    terms = terms_of(rate)
    begin_ms = begin_of(terms, at)
    ends_ms = _ends(terms, caps_ms, begin_ms)
    billed_ms = _billed(terms, talk_ms, begin_ms)
    micros = _money(terms, talk_ms, begin_ms, ends_ms[-1] if ends_ms else 0)
    check_size(micros)
    uses: list[int] = []
    since_ms = terms.free_ms
    for end_ms in ends_ms:
        uses.append(max(min(billed_ms, end_ms) - since_ms, 0))
        since_ms = end_ms
    return Paid(micros, tuple(uses), billed_ms)


def afford(rate: Rate, funds_micros: int, caps_ms: Sequence[int], most_s: int, at: datetime | None = None) -> int:
    """Return how many seconds, up to `most_s`, the bundles and the funds pay for; exactly consistent with `pay`.

    What bundles pay for needs no money. No more than the tariff lets a call last.
    """
    terms = terms_of(rate)
    begin_ms = begin_of(terms, at)
    if terms.ends and terms.bands is not None:
        most_s = open_ms(terms.bands, begin_ms, most_s * 1000) // 1000
    if most_s <= 0 or terms.free:
        return max(most_s, 0)
    ends_ms = _ends(terms, caps_ms, begin_ms)
    covered_ms = ends_ms[-1] if ends_ms else 0
    funds = min(funds_micros, MOST_MICROS)
    if terms.limits is not None and terms.limits.cut_units is not None:
        funds = min(funds, terms.limits.cut_units * terms.unit_micros)
    able = min(covered_ms // 1000, most_s) if covered_ms > terms.free_ms else 0
    if funds < 0:
        return able
    # The money never falls with time, and a search cannot disagree with it.
    step = 1
    while able + step <= most_s and _money(terms, (able + step) * 1000, begin_ms, covered_ms) <= funds:
        able, step = able + step, step * 2
    unable = min(able + step, most_s + 1)
    while unable - able > 1:
        middle = (able + unable) // 2
        if _money(terms, middle * 1000, begin_ms, covered_ms) <= funds:
            able = middle
        else:
            unable = middle
    return able


def left_exact(rate: Rate, talk_ms: int, caps_ms: Sequence[int], at: datetime | None = None) -> Fraction:
    """Return what is left for the money before the one rounding, in currency units; as `pricing.exact_cost` does."""
    terms = terms_of(rate)
    begin_ms = begin_of(terms, at)
    ends_ms = _ends(terms, caps_ms, begin_ms)
    total = _rest(terms, talk_ms, begin_ms, ends_ms[-1] if ends_ms else 0)
    if total is None:
        return Fraction(0)
    scale = 10**rate.rounding.decimals
    units = units_of(terms, total)
    bounded = units if terms.limits is None else terms.limits.bounded(units)
    return Fraction(bounded, scale) if bounded != units else Fraction(total, terms.divisor * scale)


def _money(terms: Terms, talk_ms: int, begin_ms: int, covered_ms: int) -> int:
    """Return what the increments that begin at `covered_ms` or later cost, with the connect fee if there are any."""
    total = _rest(terms, talk_ms, begin_ms, covered_ms)
    if total is None:
        return 0
    units = units_of(terms, total)
    return (units if terms.limits is None else terms.limits.bounded(units)) * terms.unit_micros


def _rest(terms: Terms, talk_ms: int, begin_ms: int, covered_ms: int) -> int | None:
    """Return the same in the parts of `terms`, before it is rounded and bounded; None where nothing is left."""
    limits = terms.limits
    if talk_ms <= 0 or (limits is not None and talk_ms < limits.free_below_ms):
        return None
    total, _ = total_of(terms, talk_ms, begin_ms)
    due = limits.surcharged(talk_ms) if limits is not None else 0
    if covered_ms > terms.free_ms:
        if talk_ms <= covered_ms:
            return None
        total += _connect_fee(terms, begin_ms) - total_of(terms, covered_ms, begin_ms)[0]
        due -= limits.surcharged(covered_ms) if limits is not None else 0
    return total + due


def _connect_fee(terms: Terms, begin_ms: int) -> int:
    ladder = terms.bands.at(begin_ms)[0] if terms.bands is not None else terms.ladder
    assert ladder is not None  # noqa: S101 - a rate has steps or bands
    return ladder.connect_fee


def _billed(terms: Terms, talk_ms: int, begin_ms: int) -> int:
    limits = terms.limits
    if talk_ms <= 0 or (limits is not None and talk_ms < limits.free_below_ms):
        return 0
    return total_of(terms, talk_ms, begin_ms)[1]


def _ends(terms: Terms, caps_ms: Sequence[int], begin_ms: int) -> list[int]:
    """Return until when each bundle pays, from the answer on: always the end of an increment."""
    ends: list[int] = []
    at_ms = terms.free_ms
    for cap_ms in caps_ms:
        at_ms = _whole(terms, at_ms, at_ms + max(cap_ms, 0), begin_ms)
        ends.append(at_ms)
    return ends


def _whole(terms: Terms, since_ms: int, most_ms: int, begin_ms: int) -> int:
    """Return the last end of an increment that is not after `most_ms`; `since_ms` is one."""
    end_ms = since_ms
    if most_ms <= since_ms:
        return end_ms
    ladder = terms.bands.at(begin_ms)[0] if terms.bands is not None else terms.ladder
    assert ladder is not None  # noqa: S101 - a rate has steps or bands
    for part in walk(terms, ladder, most_ms, begin_ms):
        whole = min(part.number, (most_ms - part.begin_ms) // part.increment_ms)
        end_ms = max(end_ms, part.begin_ms + whole * part.increment_ms)
    return end_ms
