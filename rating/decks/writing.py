"""Rates become a deck in callctl's own format, which reads as the same rates, and which no spreadsheet runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rating.decks import own
from rating.decks.deck import ALWAYS, NEVER, moment
from rating.decks.guards import guard
from rating.decks.prefixes import write_prefix
from rating.late import pl
from rating.tariff import Rate

_ALWAYS_THERE = ("prefix", "destination", "connect_fee", "price", "increment_s")
_AT_A_TIME = 50_000


def columns_of(rows: pl.DataFrame, cells: Sequence[dict[str, str]]) -> list[str]:
    """Return the columns a deck needs: those that some rate says something in."""
    said = {column for each in cells for column in each} | set(_ALWAYS_THERE)
    if rows.height:
        if rows["effective_us"].ne(ALWAYS).any():
            said.add("effective_at")
        if rows["expires_us"].ne(NEVER).any():
            said.add("expires_at")
    return [column for column in own.COLUMNS if column in said]


def write_rows(rows: pl.DataFrame, terms: Sequence[Rate]) -> Iterator[list[list[str]]]:
    """Yield the header, then pages of rows, as texts. `rows` and `terms` are as in a `Deck`."""
    cells = [own.write_terms(rate) for rate in terms]
    columns = columns_of(rows, cells)
    yield [columns]
    said = [[each.get(column, "") for column in columns] for each in cells]
    places = {column: number for number, column in enumerate(columns)}
    when = [(places[name], at) for name, at in (("effective_at", 3), ("expires_at", 4)) if name in places]
    for page in rows.select("prefix", "destination", "terms", "effective_us", "expires_us").iter_slices(_AT_A_TIME):
        made: list[list[str]] = []
        for row in page.iter_rows():
            line = said[row[2]].copy()
            line[0], line[1] = write_prefix(row[0]), guard(row[1])
            for place, at in when:
                told = moment(row[at])
                line[place] = "" if told is None else told.isoformat()
            made.append(line)
        yield made


def write_csv(
    rows: pl.DataFrame, terms: Sequence[Rate], *, progress: Callable[[int], None] | None = None
) -> Iterator[str]:
    """Yield the deck as CSV, a page at a time."""
    done = -1
    for page in write_rows(rows, terms):
        yield "".join(",".join(map(_quoted, line)) + "\r\n" for line in page)
        done += len(page)
        if progress is not None:
            progress(max(done, 0))


def _quoted(cell: str) -> str:
    if any(char in cell for char in ',"\r\n;\t|') or cell != cell.strip():
        return '"' + cell.replace('"', '""') + '"'
    return cell
