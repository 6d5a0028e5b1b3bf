"""What a deck changes in a tariff: which rows end and which are new, and what becomes dearer, by how much.

Frames have the columns `prefix`, `destination`, `terms`, `effective_us`, `expires_us`, where `terms` are numbers of one
numbering for both sides. No two rows of a frame have the same prefix and the same `effective_us`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from rating.decks.deck import ALWAYS, NEVER
from rating.late import pl
from rating.parts import Conditions, Rounding, RoundingMode, Step
from rating.pricing import cost_ms
from rating.tariff import Rate

COLUMNS = ("prefix", "destination", "terms", "effective_us", "expires_us")
_KEY = ["prefix", "effective_us"]
_TALKS_S = (60, 1, 30, 61, 600, 3600)
"""Calls by which two prices are told apart: the first that differ decide."""
_MOST_PERMILLE = 10**9


class Mode(StrEnum):
    """What a deck does with the rates of a tariff.

    REPLACE: they become those of the deck. MERGE: those that the deck names become as it says. REMOVE: those go.
    """

    REPLACE = "replace"
    MERGE = "merge"
    REMOVE = "remove"


class Kind(StrEnum):
    """What becomes of a prefix."""

    ADDED = "added"
    REMOVED = "removed"
    DEARER = "dearer"
    CHEAPER = "cheaper"
    BARRED = "barred"
    UNBARRED = "unbarred"
    OTHERWISE = "otherwise"
    RENAMED = "renamed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Plan:
    """`after`: the rows of the next version; `ended` (prefix, effective_us) and `new` are how it differs."""

    after: pl.DataFrame
    ended: pl.DataFrame
    new: pl.DataFrame


def plan(current: pl.DataFrame, wanted: pl.DataFrame, mode: Mode, *, now_us: int, at_us: int | None = None) -> Plan:
    """Lay out the next version of a tariff.

    What the deck names comes into force at `at_us`, or when its rows say, or at once; until then what held goes on.
    What it replaces or removes ends at that moment, and is not in the next version at all where that moment has come.
    """
    at_us = at_us if at_us is not None and at_us > now_us else None
    if at_us is not None and mode is not Mode.REMOVE:
        wanted = wanted.with_columns(effective_us=pl.max_horizontal("effective_us", pl.lit(at_us)))
    wanted = wanted.select(COLUMNS)
    if not current.height and mode is not Mode.REMOVE:
        after = wanted.sort(_KEY)
        return Plan(after, after.clear().select(_KEY), after)
    begins = ALWAYS if at_us is None else at_us
    if mode is Mode.REMOVE:
        first = wanted.select("prefix").unique().with_columns(until=pl.lit(begins, pl.Int64))
        wanted = wanted.clear()
    else:
        first = wanted.group_by("prefix").agg(until=pl.col("effective_us").min())
        # A rate whose time has come replaces the one before: nobody asks any more what held until then.
        first = first.with_columns(until=pl.when(pl.col("until") > now_us).then("until").otherwise(pl.lit(ALWAYS)))
    rest = begins if mode is Mode.REPLACE else NEVER
    kept = (
        current.select(COLUMNS)
        .join(first, on="prefix", how="left")
        .with_columns(pl.col("until").fill_null(rest))
        .filter(pl.col("effective_us") < pl.col("until"))
        .with_columns(cut=pl.col("expires_us") > pl.col("until"))
        .with_columns(expires_us=pl.min_horizontal("expires_us", "until"))
    )
    after = _joined(kept, wanted)
    same = list(COLUMNS)
    ended = current.join(after, on=same, how="anti", nulls_equal=True).select(_KEY)
    new = after.join(current, on=same, how="anti", nulls_equal=True)
    return Plan(after, ended, new)


def _joined(kept: pl.DataFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """Put together what is kept and what is wanted; a rate that goes on as it was is not cut in two."""
    following = wanted.select(
        "prefix", "destination", "terms", pl.col("effective_us").alias("until"), pl.col("expires_us").alias("then")
    )
    kept = kept.join(following, on=["prefix", "destination", "terms", "until"], how="left")
    goes_on = kept.filter(pl.col("cut") & pl.col("then").is_not_null())
    if goes_on.height:
        swallowed = goes_on.select("prefix", pl.col("until").alias("effective_us"))
        wanted = wanted.join(swallowed, on=_KEY, how="anti")
        kept = kept.with_columns(
            expires_us=pl.when(pl.col("cut") & pl.col("then").is_not_null()).then("then").otherwise("expires_us")
        )
    return pl.concat([kept.select(COLUMNS), wanted]).sort(_KEY)


def moment_of(wanted: pl.DataFrame, *, now_us: int, at_us: int | None = None) -> int:
    """Return the moment at which all of a deck is in force: that at which before and after are compared."""
    last = wanted["effective_us"].max() if wanted.height else None
    return max(now_us, at_us or now_us, last if isinstance(last, int) else now_us)


def in_force(rows: pl.DataFrame, at_us: int) -> pl.DataFrame:
    """Return the row of each prefix that holds at a moment."""
    holding = rows.filter((pl.col("effective_us") <= at_us) & (pl.col("expires_us") > at_us))
    if not holding["prefix"].is_duplicated().any():
        return holding
    return holding.sort("effective_us").unique("prefix", keep="last", maintain_order=True)


@dataclass(frozen=True, slots=True)
class Terms:
    """What rows of one number cost: for a minute, in micro-units, and for other talks; and whether calls are barred."""

    minute_micros: int
    talks: tuple[int, ...]
    barred: bool


def worth(rate: Rate) -> Terms:
    """Return by what a rate is compared: what a minute costs, in the dearest of its bands."""
    ladders = [(rate.connect_fee if band.connect_fee is None else band.connect_fee, band.steps) for band in rate.bands]
    if rate.steps:
        ladders.append((rate.connect_fee, rate.steps))
    each = [_talks(fee, steps, rate.conditions) for fee, steps in ladders]
    talks = tuple(max(costs) for costs in zip(*each, strict=True))
    return Terms(talks[0], talks, rate.barred)


def _talks(fee: Decimal, steps: tuple[Step, ...], told: Conditions) -> tuple[int, ...]:
    rate = Rate("", "", fee, steps, Rounding(RoundingMode.HALF_UP, 6), conditions=told)
    return tuple(cost_ms(rate, talk_s * 1000)[0] for talk_s in _TALKS_S)


def compare(before: pl.DataFrame, after: pl.DataFrame, at_us: int, worths: Mapping[int, Terms]) -> pl.DataFrame:
    """Return what becomes of each prefix at a moment, the largest changes first.

    Columns: `prefix`, `destination`, `was` (the name before), `kind`, `old` and `new` (micro-units for a minute),
    `amount` (new − old) and `permille` of the old price, null where there is no price to compare.
    """
    old, new = in_force(before, at_us), in_force(after, at_us)
    pairs = old.select("prefix", pl.col("destination").alias("was"), pl.col("terms").alias("old_terms")).join(
        new.select("prefix", "destination", pl.col("terms").alias("new_terms")), on="prefix", how="full", coalesce=True
    )
    kinds = pairs.select("old_terms", "new_terms").unique()
    rows = [(old_terms, new_terms, *_judge(old_terms, new_terms, worths)) for old_terms, new_terms in kinds.iter_rows()]
    judged = pl.DataFrame(
        rows,
        schema={
            "old_terms": pairs.schema["old_terms"],
            "new_terms": pairs.schema["new_terms"],
            "kind": pl.String,
            "old": pl.Int64,
            "new": pl.Int64,
            "amount": pl.Int64,
            "permille": pl.Int64,
        },
        orient="row",
    )
    found = pairs.join(judged, on=["old_terms", "new_terms"], how="left", nulls_equal=True)
    renamed = (pl.col("kind") == Kind.UNCHANGED.value) & (pl.col("was") != pl.col("destination"))
    found = found.with_columns(
        kind=pl.when(renamed).then(pl.lit(Kind.RENAMED.value)).otherwise("kind"),
        destination=pl.coalesce("destination", "was"),
    )
    order = {kind.value: number for number, kind in enumerate(_ORDER)}
    # A price that has fallen to a tenth is as likely a slip as one that has risen: one list, by size.
    order[Kind.CHEAPER.value] = order[Kind.DEARER.value]
    from_nothing = (pl.col("old") == 0) & (pl.col("amount") != 0)
    return found.sort(
        pl.col("kind").replace_strict(order, return_dtype=pl.Int8),
        pl.when(from_nothing).then(pl.lit(_MOST_PERMILLE + 1)).otherwise(pl.col("permille").abs()),
        pl.col("amount").abs(),
        "prefix",
        descending=[False, True, True, False],
        nulls_last=True,
    ).select("prefix", "destination", "was", "kind", "old", "new", "amount", "permille")


_ORDER = (
    Kind.DEARER,
    Kind.CHEAPER,
    Kind.BARRED,
    Kind.UNBARRED,
    Kind.REMOVED,
    Kind.ADDED,
    Kind.OTHERWISE,
    Kind.RENAMED,
    Kind.UNCHANGED,
)

_Judged = tuple[str, int | None, int | None, int | None, int | None]


def _judge(old: int | None, new: int | None, worths: Mapping[int, Terms]) -> _Judged:
    if old is None or new is None:
        kind = Kind.ADDED if old is None else Kind.REMOVED
        return kind, _minute(old, worths), _minute(new, worths), None, None
    was, now = _minute(old, worths), _minute(new, worths)
    if old == new:
        return Kind.UNCHANGED, was, now, 0, 0
    before, after = worths[old], worths[new]
    amount = after.minute_micros - before.minute_micros
    permille = _permille(amount, before.minute_micros)
    if before.barred != after.barred:
        return (Kind.BARRED if after.barred else Kind.UNBARRED), was, now, amount, permille
    if before.talks == after.talks:
        return Kind.OTHERWISE, was, now, 0, 0
    return (Kind.DEARER if after.talks > before.talks else Kind.CHEAPER), was, now, amount, permille


def _minute(number: int | None, worths: Mapping[int, Terms]) -> int | None:
    return None if number is None else worths[number].minute_micros


def _permille(amount: int, old: int) -> int | None:
    """Return a change in thousandths of the old price; None where that is 0."""
    if old == 0:
        return 0 if amount == 0 else None
    return max(-_MOST_PERMILLE, min(_MOST_PERMILLE, amount * 1000 // old))
