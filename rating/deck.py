"""A rate deck: the CSV file of rates an operator imports. All rows or none; every bad row is named.

callctl's own format, one header line: prefix,destination,connect_fee,price,per_s,first_increment_s,increment_s,barred
(`price` per `per_s` seconds, 60 where absent; `increment_s` in seconds, 1 where absent; `first_increment_s` as
`increment_s` where absent; `barred` 1 or 0). Only `prefix` and `price` must be there; a barred row needs no price.
A decimal comma is read where the delimiter is another character.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import IO

from rating.tariff import Rate, Rounding, Step, find_fault

MOST_ROWS = 5_000_000
MOST_BAD = 10_000
"""After so many bad rows the file is something else: reading stops and says so."""
MOST_LINE = 10_000
"""Characters in a line; a rate needs a hundredth of it."""

_COLUMNS = ("prefix", "destination", "connect_fee", "price", "per_s", "first_increment_s", "increment_s", "barred")
_REQUIRED = ("prefix", "price")
_DELIMITERS = ",;\t"
_PER_S = 60
_PRICE = re.compile(r"[0-9]{0,10}(?:\.[0-9]{0,18})?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_BARRED = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}
_COLUMN_OF = {
    "steps.0.price": "price",
    "steps.0.per_s": "per_s",
    "steps.0.increment_s": "first_increment_s",
    "steps.1.from_s": "first_increment_s",
    "steps.1.price": "price",
    "steps.1.per_s": "per_s",
    "steps.1.increment_s": "increment_s",
}
_SHOWN = 40
_TELL_EVERY = 10_000


@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row cannot be read: 1-based line of the file, the column's name ("" = the row), the reason in words."""

    line: int
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deck:
    """What a file held. `rates` is to be used only where `bad` is empty."""

    rates: tuple[Rate, ...]
    bad: tuple[BadRow, ...]


def read_deck(file: IO[str], *, rounding: Rounding, progress: Callable[[int], None] | None = None) -> Deck:
    """Read a deck (delimiter `,` `;` or tab, BOM allowed). `progress` is told the rows read so far.

    Never raises for what the file holds: that is in `bad`, in the order of lines.
    """
    reading = _Reading(rounding=rounding)
    rows = 0
    for line, row in reading.rows(file):
        if rows == MOST_ROWS or len(reading.bad) >= MOST_BAD:
            most = f"{MOST_ROWS} rows" if rows == MOST_ROWS else f"{MOST_BAD} bad rows"
            reading.bad.append(BadRow(line, "", f"reading stopped here, after {most}"))
            break
        rows += 1
        reading.read_row(line, row)
        if progress is not None and rows % _TELL_EVERY == 0:
            progress(rows)
    if progress is not None:
        progress(rows)
    if not rows and not reading.bad:
        reading.bad.append(BadRow(1, "", "expected rates below the header, found none"))
    return Deck(tuple(reading.rates), tuple(reading.bad))


class _BadCell(Exception):
    """A cell that cannot be read; never leaves this module."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


@dataclass(slots=True)
class _Reading:
    """The state of one reading. Prices and steps that come again are shared: decks repeat them thousands of times."""

    rounding: Rounding
    rates: list[Rate] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    delimiter: str = ","
    lines: dict[str, int] = field(default_factory=dict)
    prices: dict[str, Decimal] = field(default_factory=dict)
    steps: dict[tuple[str, int, int, int], tuple[Step, ...]] = field(default_factory=dict)

    def rows(self, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows below the header, each with the line it begins on; put what is no row into `bad`."""
        lines = self._lines(file)
        header = next(lines, "").removeprefix("\ufeff")
        if self.bad or not self._read_header(header):
            return
        reader = csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True, strict=True)
        while True:
            line = reader.line_num + 2
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.bad.append(BadRow(line, "", f"not CSV: {error}"))
                continue
            if any(cell and not cell.isspace() for cell in row):
                yield line, row

    def read_row(self, line: int, row: list[str]) -> None:
        """Read one row into `rates`, or say in `bad` why not."""
        if len(row) > len(self.columns):
            reason = f"expected at most {len(self.columns)} fields, found {len(row)}"
            self.bad.append(BadRow(line, "", reason))
            return
        try:
            rate = self._rate({column: cell.strip() for column, cell in zip(self.columns, row, strict=False)})
        except _BadCell as error:
            self.bad.append(BadRow(line, error.column, error.reason))
            return
        fault = find_fault(rate)
        first = self.lines.setdefault(rate.prefix, line)
        if fault is not None:
            column = _COLUMN_OF.get(fault.where, fault.where)
            if column == "first_increment_s" and column not in self.columns:
                column = "increment_s"
            self.bad.append(BadRow(line, column, fault.reason))
        elif first != line:
            self.bad.append(BadRow(line, "prefix", f"{rate.prefix} is on line {first} already"))
        else:
            self.rates.append(rate)

    def _lines(self, file: IO[str]) -> Iterator[str]:
        number = 0
        try:
            while text := file.readline(MOST_LINE + 1):
                number += 1
                if len(text) > MOST_LINE:
                    self.bad.append(BadRow(number, "", f"a line has at most {MOST_LINE} characters; reading stopped"))
                    return
                yield text
        except UnicodeDecodeError as error:
            # Decoding runs ahead of the lines, so the line named is where reading had come to.
            reason = f"not {error.encoding.upper()} from here on; reading stopped"
            self.bad.append(BadRow(number + 1, "", reason))

    def _read_header(self, header: str) -> bool:
        self.delimiter = max(_DELIMITERS, key=header.count)
        try:
            cells = next(csv.reader([header], delimiter=self.delimiter, skipinitialspace=True), [])
        except csv.Error:
            cells = []
        self.columns = [cell.strip().lower() for cell in cells]
        if not any(column in _COLUMNS for column in self.columns):
            self.bad.append(BadRow(1, "", f"expected a header such as {','.join(_COLUMNS)}, found {_shown(header)}"))
            return False
        for column in self.columns:
            if column not in _COLUMNS:
                near = difflib.get_close_matches(column[:_SHOWN], _COLUMNS, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; expected some of {', '.join(_COLUMNS)}"
                self.bad.append(BadRow(1, column[:_SHOWN], f"no such column{hint}"))
        twice = {column for column in self.columns if self.columns.count(column) > 1}
        self.bad.extend(BadRow(1, column, "the column is there twice") for column in sorted(twice & set(_COLUMNS)))
        self.bad.extend(
            BadRow(1, column, "the column is missing") for column in _REQUIRED if column not in self.columns
        )
        return not self.bad

    def _rate(self, cells: dict[str, str]) -> Rate:
        prefix = cells.get("prefix", "")
        if not prefix:
            raise _BadCell("prefix", "expected digits, found nothing")
        barred = _BARRED.get(cells.get("barred", "").lower())
        if barred is None:
            raise _BadCell("barred", f"expected 1 or 0, found {_shown(cells['barred'])}")
        price = cells.get("price", "") or ("0" if barred else "")
        per_s = _whole(cells, "per_s", _PER_S)
        increment_s = _whole(cells, "increment_s", 1)
        first_s = _whole(cells, "first_increment_s", increment_s)
        return Rate(
            prefix=prefix,
            destination=cells.get("destination", ""),
            connect_fee=self._price("connect_fee", cells.get("connect_fee") or "0"),
            steps=self._steps(price, per_s, first_s, increment_s),
            rounding=self.rounding,
            barred=barred,
        )

    def _steps(self, price: str, per_s: int, first_s: int, increment_s: int) -> tuple[Step, ...]:
        key = (price, per_s, first_s, increment_s)
        steps = self.steps.get(key)
        if steps is None:
            amount = self._price("price", price)
            steps = (Step(0, amount, per_s, first_s),)
            if first_s != increment_s:
                steps += (Step(first_s, amount, per_s, increment_s),)
            self.steps[key] = steps
        return steps

    def _price(self, column: str, text: str) -> Decimal:
        price = self.prices.get(text)
        if price is None:
            # With commas between fields a quoted "1,234" may be a thousand: better refused than a thousandth of it.
            plain = text if self.delimiter == "," else text.replace(",", ".", 1)
            if _PRICE.fullmatch(plain) is None or not plain.strip("."):
                raise _BadCell(column, f"expected a price such as 0.0125, found {_shown(text)}")
            price = self.prices[text] = Decimal(plain)
        return price


def _whole(cells: dict[str, str], column: str, absent: int) -> int:
    text = cells.get(column, "")
    if not text:
        return absent
    if _WHOLE.fullmatch(text) is None:
        raise _BadCell(column, f"expected a whole number of seconds, found {_shown(text)}")
    return int(text)


def _shown(text: str) -> str:
    if not text:
        return "nothing"
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
