"""A rate deck: the CSV file of rates an operator imports. All rows or none; every bad row is named.

callctl's own format, one header line: prefix,destination,connect_fee,price,per_s,first_increment_s,increment_s,barred
(`price` per `per_s` seconds, per_s = 60 where absent; `first_increment_s` and `increment_s` in seconds, 1 where absent).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from rating.tariff import Rate, Rounding


@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row cannot be read: 1-based line of the file, the column's name, the reason in a sentence."""

    line: int
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Deck:
    """What a file held. `rates` is to be used only where `bad` is empty."""

    rates: tuple[Rate, ...]
    bad: tuple[BadRow, ...]


def read_deck(file: IO[str], *, rounding: Rounding, progress: Callable[[int], None] | None = None) -> Deck:
    """Read a deck (delimiter `,` `;` or tab, BOM allowed). `progress` is told the rows read so far."""
    raise NotImplementedError
