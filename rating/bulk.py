"""Price many calls at once: a frame of calls against a set of rates, to the last digit what the scalar engine says.

Everything is whole numbers of 64 bits in polars columns. What cannot be shown to stay exact there goes, call by call,
to the scalar engine (`charged`): tariffs that end calls, amounts too large, and calls longer than a day that may go
through bands. `Priced.scalar` counts those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rating.bands import DAY_MS
from rating.bulk_find import RateFinder
from rating.bulk_tables import RateTables, TableMaker, gathered
from rating.bulk_walk import Timeline, found, walk
from rating.errors import AmountError
from rating.late import pl
from rating.pricing import charged
from rating.tariff import Rate

AT_A_TIME = 1 << 17
"""Calls in one go: few enough that their columns stay in the processor's cache."""
NO_RATE, BARRED, TOO_LARGE = "no_rate", "barred", "too_large"
"""Why a call has no price."""


def call_columns() -> dict[str, pl.DataType | type[pl.DataType]]:
    """Return the columns of calls: `number` holds international digits without a plus; `answered_at` may be missing
    where `talk_ms` is 0.
    """
    time = pl.Datetime("us", "UTC")
    return {"number": pl.String, "offered_at": time, "answered_at": time, "talk_ms": pl.Int64}


@dataclass(frozen=True, slots=True)
class Priced:
    """The prices of a frame of calls, in its order.

    `frame` has `rate` (a place in `BulkBook.rates`), `cost_micros`, `priced_ms`, `billed_ms` as `charged` returns them,
    and `why`: null, or why there is no price; the others are null then. `scalar`: how many calls the scalar engine
    priced.
    """

    frame: pl.DataFrame
    scalar: int


class BulkBook:
    """A set of rates, past and scheduled ones included, ready to price frames of calls. Raises as `RateMap` does."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self.rates: Sequence[Rate] = tuple(rates)
        maker = TableMaker()
        self._terms = pl.Series([maker.number(rate) for rate in self.rates], dtype=pl.Int64)
        self._barred = pl.Series([rate.barred for rate in self.rates], dtype=pl.Boolean)
        self._tables = maker.tables()
        self._finder = RateFinder(self.rates)
        self._only_plain = bool((self._tables.terms["plain"] > 0).all()) and not self._barred.any()

    def price(self, calls: pl.DataFrame) -> Priced:
        """Price calls with the columns of `call_columns`."""
        pieces = [self._price(calls.slice(at, AT_A_TIME)) for at in range(0, calls.height, AT_A_TIME)]
        frames = [piece.frame for piece in pieces] or [pl.DataFrame(schema=_prices())]
        return Priced(pl.concat(frames), sum(piece.scalar for piece in pieces))

    def _price(self, calls: pl.DataFrame) -> Priced:
        place = self._finder.find(calls["number"], calls["offered_at"])
        if not self.rates:
            return Priced(_refused(place, NO_RATE), 0)
        known = place.clip(lower_bound=0)
        terms = self._terms.gather(known)
        safe_ms, plain, add, to = gathered(self._tables.terms, terms, ("safe_ms", "plain", "round_add", "round_to"))
        # As each tariff says: `billable_ms`.
        talk_ms = ((calls["talk_ms"] + add) // to * to).clip(lower_bound=0)
        has_rate, is_safe = place >= 0, talk_ms <= safe_ms
        if self._only_plain and has_rate.all() and is_safe.all():
            return Priced(_frame(place, *_plain(self._tables, terms, talk_ms)), 0)
        rows = pl.DataFrame({
            "row": pl.int_range(calls.height, eager=True),
            "place": place,
            "terms": terms,
            "talk_ms": talk_ms,
            "at_ms": calls["answered_at"].dt.epoch("ms"),
            "has_rate": has_rate,
            "is_barred": self._barred.gather(known) & has_rate,
            "is_safe": is_safe,
            "is_plain": plain > 0,
        })  # fmt: skip
        return self._price_each_kind(calls, rows)

    def _price_each_kind(self, calls: pl.DataFrame, rows: pl.DataFrame) -> Priced:
        """Price each kind of call its own way, and put them together again in order."""
        refused = rows.filter(~pl.col("has_rate") | pl.col("is_barred"))
        why = pl.select(pl.when(refused["has_rate"]).then(pl.lit(BARRED)).otherwise(pl.lit(NO_RATE))).to_series()
        rows = rows.filter(pl.col("has_rate") & ~pl.col("is_barred"))
        plain = rows.filter(pl.col("is_safe") & pl.col("is_plain"))
        of_plain = _frame(plain["place"], *_plain(self._tables, plain["terms"], plain["talk_ms"]))
        with_more, left = _with_more(self._tables, rows.filter(pl.col("is_safe") & ~pl.col("is_plain")))
        alone = pl.concat([rows.filter(~pl.col("is_safe")), left])
        done = [
            _refused(refused["place"], why).with_columns(row=refused["row"]),
            of_plain.with_columns(row=plain["row"]),
            with_more,
            self._one_by_one(calls, alone),
        ]
        together = pl.concat(frame.select("row", *_prices()) for frame in done)
        return Priced(together.sort("row").drop("row"), alone.height)

    def _one_by_one(self, calls: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
        own = calls[rows["row"]].select("talk_ms", "answered_at")
        made: list[tuple[int, int | None, int | None, int | None, str | None]] = []
        for place, (talk_ms, answered_at) in zip(rows["place"], own.iter_rows(), strict=True):
            try:
                made.append((place, *charged(self.rates[place], talk_ms, answered_at), None))
            except AmountError:
                made.append((place, None, None, None, TOO_LARGE))
        return pl.DataFrame(made, _prices(), orient="row").with_columns(row=rows["row"])


def _plain(tables: RateTables, terms: pl.Series, talk_ms: pl.Series) -> tuple[pl.Series, pl.Series, pl.Series]:
    """Return the cost, the time priced and the time billed of calls without bands, bounds and surcharges."""
    ladder, add, divisor, half_even, unit_micros = gathered(
        tables.terms, terms, ("ladder", "add", "divisor", "half_even", "unit_micros")
    )
    total, billed = totals(tables, ladder, talk_ms)
    units = _units(total + add, divisor, half_even)
    talks = (talk_ms > 0).cast(pl.Int64)
    return units * unit_micros * talks, talk_ms, billed * talks


def totals(tables: RateTables, ladder: pl.Series, talk_ms: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return what increments and fees of one ladder add up to, and until when they pay; for talk above 0."""
    place = found(tables.spans["key"], ladder, talk_ms, side="left") if tables.stepped else ladder
    begin, increment, each, before = gathered(tables.spans, place, ("begin", "increment", "each", "before"))
    count = (talk_ms - begin + increment - 1) // increment
    return before + count * each, begin + count * increment


def _units(shifted: pl.Series, divisor: pl.Series, half_even: pl.Series) -> pl.Series:
    units = shifted // divisor
    if not half_even.max():
        return units
    tie = (units % 2 == 1) & (units * divisor == shifted)
    return units - tie.cast(pl.Int64) * half_even


def _with_more(tables: RateTables, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Price calls with bands, bounds and surcharges; return those, and the rows left to the scalar engine."""
    of_terms = tables.terms[rows["terms"]]
    banded = of_terms["of_bands"] >= 0
    at_ms = rows["at_ms"].fill_null(-1)
    able = ~banded | ((at_ms >= 0) & (rows["talk_ms"] <= DAY_MS))
    left = rows.filter(~able)
    rows, of_terms, at_ms, banded = rows.filter(able), of_terms.filter(able), at_ms.filter(able), banded.filter(able)
    talk_ms, ladder = rows["talk_ms"], of_terms["ladder"]
    crossing = pl.zeros(rows.height, pl.Boolean, eager=True)
    if banded.any():
        timeline = Timeline(tables, of_terms.filter(banded)["calendar"], at_ms.filter(banded))
        in_force, until_ms = timeline.at(of_terms["calendar"], at_ms, of_terms["of_bands"])
        ladder = pl.select(pl.when(banded).then(in_force).otherwise(ladder)).to_series()
        crossing = banded & (of_terms["changing"] > 0) & (at_ms + talk_ms > until_ms)
    total, billed = totals(tables, ladder, talk_ms)
    lost = pl.zeros(0, pl.Int64, eager=True)
    if crossing.any():
        numbers = crossing.arg_true().cast(pl.Int64)
        calls = pl.DataFrame({
            "ladder": ladder[numbers],
            "talk": talk_ms[numbers],
            "begin": at_ms[numbers],
            **{name: of_terms[name][numbers] for name in ("calendar", "of_bands", "free_ms")},
        })  # fmt: skip
        through = walk(tables, timeline, calls)
        total, billed = total.scatter(numbers, through.total), billed.scatter(numbers, through.billed)
        lost = numbers.filter(through.unfinished)
    priced = _bounded(tables, rows, of_terms, total, billed)
    if lost.len():
        kept = ~pl.int_range(rows.height, eager=True).is_in(lost.implode())
        return priced.filter(kept), pl.concat([left, rows.filter(~kept)])
    return priced, left


def _bounded(
    tables: RateTables, rows: pl.DataFrame, of_terms: pl.DataFrame, total: pl.Series, billed: pl.Series
) -> pl.DataFrame:
    talk_ms = rows["talk_ms"]
    for due in tables.surcharges:
        after, amount, every = gathered(due, rows["terms"], ("after", "amount", "every"))
        reached = (talk_ms >= after).cast(pl.Int64)
        total += reached * amount * (1 + (talk_ms - after) // every)
    units = _units(total + of_terms["add"], of_terms["divisor"], of_terms["half_even"])
    bounded = pl.select(pl.min_horizontal(pl.max_horizontal(units, of_terms["least"]), of_terms["most"])).to_series()
    costs = ((talk_ms > 0) & (talk_ms >= of_terms["free_below_ms"])).cast(pl.Int64)
    cost = bounded * costs * of_terms["unit_micros"]
    return _frame(rows["place"], cost, talk_ms, billed * costs).with_columns(row=rows["row"])


def _prices() -> dict[str, type[pl.DataType]]:
    numbers = ("rate", "cost_micros", "priced_ms", "billed_ms")
    return {**dict.fromkeys(numbers, pl.Int64), "why": pl.String}


def _frame(place: pl.Series, cost: pl.Series, priced_ms: pl.Series, billed: pl.Series) -> pl.DataFrame:
    return pl.DataFrame({
        "rate": place,
        "cost_micros": cost,
        "priced_ms": priced_ms,
        "billed_ms": billed,
        "why": pl.repeat(None, place.len(), eager=True, dtype=pl.String),
    })  # fmt: skip


def _refused(place: pl.Series, why: str | pl.Series) -> pl.DataFrame:
    nothing = pl.repeat(None, place.len(), eager=True, dtype=pl.Int64)
    frame = _frame(pl.select(pl.when(place >= 0).then(place)).to_series(), nothing, nothing, nothing)
    return frame.with_columns(why=pl.lit(why) if isinstance(why, str) else why)
