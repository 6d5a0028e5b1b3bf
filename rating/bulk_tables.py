"""Rates laid out as columns, so that a million calls are priced by a few operations on whole columns.

Ladders (what holds in one band, or in a rate without bands) are numbered through; the spans and rungs of all of them
stand one after the other, found by `ladder * REACH_MS + time`. A column holds 64 bits, a rate may hold numbers without
end: `safe_ms` says up to which talk every number of a rate's price stays within them. Beyond it nothing is lost: such a
call goes to the scalar engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rating.bands import Calendar
from rating.late import pl
from rating.money import MOST_MICROS
from rating.parts import Durations
from rating.tariff import Rate
from rating.terms import Bands, Ladder, Limits, Terms, terms_of

REACH_MS = 2**35
"""No talk in a column is longer: more than a year."""
LARGEST = 2**62
"""No number of a price in columns is larger: half of what 64 bits hold."""
MOST_PARTS = 200
"""A call through more parts (steps × bands) goes to the scalar engine."""

_ROUNDED = {
    Durations.UP: (999, 1000),
    Durations.NEAREST: (500, 1000),
    Durations.DOWN: (0, 1000),
    Durations.EXACT: (0, 1),
}
"""What is added to milliseconds, and to what multiples they are then cut."""

Columns = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class RateTables:
    """All different terms of a set of rates.

    `terms`: a row for each. `spans`, `rungs`: those of all ladders in order, `key` = ladder × `REACH_MS` + begin.
    `connect_fees`: one for each ladder. `ladders`: for each terms with bands the ladder outside all bands (-1: none),
    then one for each band. `surcharges`: a frame for each place in a list of surcharges, a row for each terms.
    """

    terms: pl.DataFrame
    spans: pl.DataFrame
    rungs: pl.DataFrame
    ladders: pl.Series
    connect_fees: pl.Series
    surcharges: tuple[pl.DataFrame, ...]
    calendars: tuple[Calendar, ...]
    stepped: bool
    """Whether any ladder has more than one span."""


class TableMaker:
    """Takes rates one by one and gives each its number in the tables; rates that say the same share one."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._seen: dict[int, int] = {}
        self._kept: list[Terms] = []
        self._durations: list[Durations] = []

    def number(self, rate: Rate) -> int:
        """Return the number of a rate's terms. Raises `TariffError` for what is no rate."""
        if rate.terms is not None and (known := self._seen.get(id(rate.terms))) is not None:
            return known
        said = (rate.connect_fee, rate.steps, rate.rounding, rate.bands, rate.conditions)
        number = self._numbers.get(said)
        if number is None:
            number = self._numbers[said] = len(self._kept)
            self._kept.append(terms_of(rate))
            self._durations.append(rate.conditions.durations)
            # Kept in `_kept`, so no other terms can take its address.
            self._seen[id(self._kept[number])] = number
        return number

    def tables(self) -> RateTables:
        """Return the tables of all rates taken."""
        spans: Columns = {"key": [], "begin": [], "increment": [], "each": [], "before": [], "ladder": []}
        rungs: Columns = {"key": [], "begin": [], "increment": [], "each": [], "until": [], "fees": [], "ladder": []}
        ladders: list[int] = []
        calendars: dict[int, tuple[int, Calendar]] = {}
        connect_fees: list[int] = []
        rows: Columns = {name: [] for name in _TERMS_COLUMNS}
        for terms, durations in zip(self._kept, self._durations, strict=True):
            of_bands = -1
            first = len(connect_fees)
            for ladder in _ladders(terms):
                _lay_spans(spans, ladder, len(connect_fees))
                _lay_rungs(rungs, ladder, len(connect_fees))
                connect_fees.append(_fit(ladder.connect_fee))
            if terms.bands is not None:
                of_bands = len(ladders)
                ladders.append(first if terms.bands.base is not None else -1)
                has_base = terms.bands.base is not None
                ladders.extend(range(first + has_base, len(connect_fees)))
                key = id(terms.bands.calendar)
                calendars.setdefault(key, (len(calendars), terms.bands.calendar))
            _add_row(rows, terms, durations)
            rows["ladder"].append(first)
            rows["of_bands"].append(of_bands)
            rows["calendar"].append(calendars[id(terms.bands.calendar)][0] if terms.bands is not None else 0)
        return RateTables(
            terms=pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.Int64)),
            spans=pl.DataFrame(spans, schema=dict.fromkeys(spans, pl.Int64)),
            rungs=pl.DataFrame(rungs, schema=dict.fromkeys(rungs, pl.Int64)),
            ladders=pl.Series(ladders, dtype=pl.Int64),
            connect_fees=pl.Series(connect_fees, dtype=pl.Int64),
            surcharges=_surcharges(self._kept),
            calendars=tuple(calendar for _, calendar in calendars.values()),
            stepped=len(spans["key"]) > len(connect_fees),
        )


_TERMS_COLUMNS = (
    "ladder",
    "of_bands",
    "calendar",
    "safe_ms",
    "plain",
    "changing",
    "add",
    "divisor",
    "half_even",
    "unit_micros",
    "round_add",
    "round_to",
    "free_ms",
    "free_below_ms",
    "least",
    "most",
)


def _add_row(rows: Columns, terms: Terms, durations: Durations) -> None:
    limits = terms.limits
    most = LARGEST if limits is None or limits.most_units is None else limits.most_units
    round_add, round_to = _ROUNDED[durations]
    rows["safe_ms"].append(safe_ms(terms))
    rows["plain"].append(terms.quick is not None)
    rows["changing"].append(terms.bands is not None and terms.bands.changing)
    rows["add"].append(_fit(terms.add))
    rows["divisor"].append(_fit(terms.divisor))
    rows["half_even"].append(terms.half_even)
    rows["unit_micros"].append(terms.unit_micros)
    rows["round_add"].append(round_add)
    rows["round_to"].append(round_to)
    rows["free_ms"].append(terms.free_ms)
    rows["free_below_ms"].append(limits.free_below_ms if limits else 0)
    rows["least"].append(_fit(limits.least_units) if limits else 0)
    rows["most"].append(_fit(most))


def _ladders(terms: Terms) -> list[Ladder]:
    if terms.bands is None:
        return [terms.ladder] if terms.ladder is not None else []
    return [*([terms.bands.base] if terms.bands.base is not None else []), *terms.bands.ladders]


def _lay_spans(spans: Columns, ladder: Ladder, number: int) -> None:
    for span in ladder.spans:
        spans["key"].append(number * REACH_MS + min(span.begin_ms, REACH_MS - 1))
        spans["begin"].append(span.begin_ms)
        spans["increment"].append(span.increment_ms)
        spans["each"].append(_fit(span.each))
        spans["before"].append(_fit(span.before))
        spans["ladder"].append(number)


def _lay_rungs(rungs: Columns, ladder: Ladder, number: int) -> None:
    fees = 0
    for rung, following in zip(ladder.rungs, (*ladder.rungs[1:], None), strict=True):
        fees += rung.fee
        rungs["key"].append(number * REACH_MS + min(rung.from_ms, REACH_MS - 1))
        rungs["begin"].append(rung.from_ms)
        rungs["increment"].append(rung.increment_ms)
        rungs["each"].append(_fit(rung.each))
        rungs["until"].append(following.from_ms if following is not None else LARGEST)
        rungs["fees"].append(_fit(fees))
        rungs["ladder"].append(number)


def _surcharges(kept: Sequence[Terms]) -> tuple[pl.DataFrame, ...]:
    dues = [terms.limits.surcharges if terms.limits is not None else () for terms in kept]
    frames = []
    for place in range(max((len(of_one) for of_one in dues), default=0)):
        rows: Columns = {"after": [], "amount": [], "every": []}
        for of_one in dues:
            after, amount, every = of_one[place] if place < len(of_one) else (LARGEST, 0, 0)
            rows["after"].append(after)
            rows["amount"].append(_fit(amount))
            rows["every"].append(every or LARGEST)
        frames.append(pl.DataFrame(rows, schema=dict.fromkeys(rows, pl.Int64)))
    return tuple(frames)


def _fit(value: int) -> int:
    """Cut what is too large for a column: `safe_ms` keeps the calls away that it would change."""
    return min(value, LARGEST)


# -- what stays exact --------------------------------------------------------------------------------------------------


def safe_ms(terms: Terms) -> int:
    """Return the longest talk whose price columns work out exactly, or -1 where they never do.

    A tariff that ends calls is for the scalar engine alone, since only that knows when.
    """
    if terms.ends or not _within(terms, 1):
        return -1
    if _within(terms, REACH_MS - 1):
        return REACH_MS - 1
    able, unable = 1, REACH_MS - 1
    while unable - able > 1:
        middle = (able + unable) // 2
        if _within(terms, middle):
            able = middle
        else:
            unable = middle
    return able


def _within(terms: Terms, talk_ms: int) -> bool:
    """Return whether no number on the way to the price of a talk, or of a shorter one, can be too large.

    Every number grows with the talk. The total is bounded and not worked out where bands change.
    """
    limits = terms.limits
    total = _highest_total(terms, talk_ms) + (_highest_surcharge(limits, talk_ms) if limits is not None else 0)
    shifted = total + terms.add
    units = max(shifted // terms.divisor, limits.least_units if limits is not None else 0)
    return shifted <= LARGEST and terms.divisor <= LARGEST and units * terms.unit_micros <= MOST_MICROS


def _highest_total(terms: Terms, talk_ms: int) -> int:
    if terms.bands is not None and terms.bands.changing:
        return _highest_of_all(terms.bands, talk_ms)
    return max(_total_at(ladder, talk_ms) for ladder in _ladders(terms))


def _total_at(ladder: Ladder, talk_ms: int) -> int:
    for span in ladder.latest_first:
        if talk_ms > span.begin_ms:
            return span.before - (span.begin_ms - talk_ms) // span.increment_ms * span.each
    return 0


def _highest_of_all(bands: Bands, talk_ms: int) -> int:
    """Return what no walk through these bands can exceed: each part bills its time, and less than an increment more."""
    ladders = [*bands.ladders, *([bands.base] if bands.base is not None else [])]
    rungs = [rung for ladder in ladders for rung in ladder.rungs]
    count = talk_ms // min(rung.increment_ms for rung in rungs) + MOST_PARTS
    dearest = max(rung.each for rung in rungs)
    return max(ladder.connect_fee for ladder in ladders) + sum(rung.fee for rung in rungs) + count * dearest


def _highest_surcharge(limits: Limits, talk_ms: int) -> int:
    return sum(due.amount * (1 + (talk_ms // due.every_ms if due.every_ms else 0)) for due in limits.surcharges)


def gathered(frame: pl.DataFrame, rows: pl.Series, names: Iterable[str]) -> tuple[pl.Series, ...]:
    """Return columns of a table, a value for each row number."""
    return tuple(frame[name].gather(rows) for name in names)
