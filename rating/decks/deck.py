"""A deck in memory: a frame of rows, and beside it the terms that rows share.

`rows` has the columns `line`, `prefix`, `destination`, `terms` (the number of the row's terms), and `effective_us` and
`expires_us`, microseconds since 1970 with `ALWAYS` and `NEVER` where a rate says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from rating.decks.sheet import BadRow
from rating.late import pl
from rating.prefixes import RateMap
from rating.tariff import Rate
from rating.terms import terms_of

__all__ = [
    "ALWAYS",
    "NEVER",
    "BadRow",
    "Deck",
    "Note",
    "deck_columns",
    "deck_of",
    "instant_us",
    "moment",
    "rate_map",
    "rates_of",
]

ALWAYS = -(2**63)
"""In force since ever, in microseconds."""
NEVER = 2**63 - 1
"""In force for ever."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def deck_columns() -> dict[str, type[pl.DataType]]:
    """Return the columns of a deck's rows. `terms` is a place in `Deck.terms`."""
    return {
        "line": pl.Int64,
        "prefix": pl.String,
        "destination": pl.String,
        "terms": pl.UInt32,
        "effective_us": pl.Int64,
        "expires_us": pl.Int64,
    }


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was not written as it should be and was understood: in how many rows, and the first of them."""

    what: str
    count: int
    line: int
    found: str
    means: str


@dataclass(frozen=True, slots=True)
class Deck:
    """What a file held. It is to be used only where `bad` is empty."""

    rows: pl.DataFrame
    terms: tuple[Rate, ...]
    bad: tuple[BadRow, ...] = ()
    notes: tuple[Note, ...] = ()
    skipped: tuple[str, ...] = field(default=())

    @property
    def rates(self) -> tuple[Rate, ...]:
        """The rates one by one, in the order of lines: for decks that are small."""
        return tuple(rates_of(self.rows, self.terms))

    def __len__(self) -> int:
        """Return the number of rates."""
        return self.rows.height


def rates_of(rows: pl.DataFrame, terms: Sequence[Rate] | Mapping[int, Rate]) -> list[Rate]:
    """Return the rates of rows."""
    found: list[Rate] = []
    columns = ("prefix", "destination", "terms", "effective_us", "expires_us")
    for prefix, destination, number, effective_us, expires_us in rows.select(columns).iter_rows():
        rate = terms[number].under(prefix, destination)
        if effective_us != ALWAYS or expires_us != NEVER:
            rate = replace(rate, effective_at=moment(effective_us), expires_at=moment(expires_us))
        found.append(rate)
    return found


def deck_of(rates: Sequence[Rate], *, own: Callable[[Rate], Rate] = lambda rate: rate) -> Deck:
    """Put rates together as a deck; `own` may change each one's terms. Nothing is checked."""
    numbers: dict[Rate, int] = {}
    terms: list[Rate] = []
    rows: list[tuple[int, str, str, int, int, int]] = []
    for line, rate in enumerate(rates, 1):
        bare = own(replace(rate, prefix="", destination="", effective_at=None, expires_at=None))
        number = numbers.get(bare)
        if number is None:
            number = numbers[bare] = len(terms)
            terms.append(bare)
        rows.append((
            line,
            rate.prefix,
            rate.destination,
            number,
            ALWAYS if rate.effective_at is None else instant_us(rate.effective_at),
            NEVER if rate.expires_at is None else instant_us(rate.expires_at),
        ))  # fmt: skip
    return Deck(pl.DataFrame(rows, schema=deck_columns(), orient="row"), tuple(terms))


def instant_us(at: datetime) -> int:
    """Return an aware time in microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def moment(instant: int) -> datetime | None:
    """Return microseconds since 1970 as a time, None for `ALWAYS` and `NEVER`."""
    return None if instant in {ALWAYS, NEVER} else _EPOCH + timedelta(microseconds=instant)


def rate_map(rows: pl.DataFrame, terms: Mapping[int, Rate]) -> RateMap:
    """Return rows ready to be searched; their `terms` are keys of `terms`. Rates are made when they are first found.

    Raises `TariffError` as `RateMap` does.
    """
    undated = (pl.col("effective_us") == ALWAYS) & (pl.col("expires_us") == NEVER)
    plain, dated = rows.filter(undated), rows.filter(~undated)
    if dated.height:
        # A prefix that has any rate with a date has all of its rates together.
        dated = pl.concat([dated, plain.join(dated, on="prefix", how="semi")])
        plain = plain.join(dated, on="prefix", how="anti", maintain_order="left")
    versions: dict[str, list[Rate]] = {}
    for rate in rates_of(dated, terms):
        versions.setdefault(rate.prefix, []).append(rate)
    prefixes, destinations, numbers = plain["prefix"], plain["destination"], plain["terms"]

    def make(place: int) -> Rate:
        like = terms[numbers[place]]
        terms_of(like)
        return like.under(prefixes[place], destinations[place])

    return RateMap.of_rows(prefixes.to_list(), make, versions)
