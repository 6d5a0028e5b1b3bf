"""What people write for prefixes: digits with a plus, spaces, ranges and lists become the prefixes they mean.

A text behind an apostrophe is meant as it stands, as in a spreadsheet: `'0049` is the prefix 0049, and `'*` nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rating.decks.cells import shown
from rating.decks.numbers import is_spreadsheet_exponent
from rating.errors import TariffError
from rating.faults import MOST_PREFIX

MOST_OF_ONE_CELL = 10_000
"""Prefixes that one cell may stand for."""
EVERYTHING = "*"
"""How the empty prefix is written: it matches every number."""

PLAIN = r"^[0-9]{1,32}$"
"""What needs no reading at all, as a pattern that polars understands too."""

_DIGITS = re.compile(r"[0-9]{1,32}", re.ASCII)
_SPACING = re.compile(r"[\s\u00a0\u202f()]+")
_LIST = re.compile(r"[;,|/&\n]")
_RANGE = re.compile(r"([0-9]+)\s*[-–—]\s*([0-9]+)")
_DECIMAL_ZERO = re.compile(r"([0-9]{1,15})\.0", re.ASCII)


@dataclass(frozen=True, slots=True)
class Understood:
    """The prefixes a cell means, and in words what was understood ("" where it was written as a prefix is)."""

    prefixes: tuple[str, ...]
    what: str = ""


def read_prefix(text: str, *, international: str = "", code: str = "") -> Understood:
    """Read a cell. `international` is taken away where a prefix begins with it, `code` is put before each prefix.

    Raises `TariffError` for what is no prefix.
    """
    if text.startswith("'"):
        return Understood((_digits(text[1:]),))
    if text == EVERYTHING:
        return Understood((code,))
    if is_spreadsheet_exponent(text):
        raise TariffError(f"a spreadsheet has cut this number to {shown(text)}: make the column text, with all digits")
    whats: list[str] = []
    found: list[str] = []
    parts = [part for part in (part.strip() for part in _LIST.split(text)) if part]
    if len(parts) > 1:
        whats.append("lists")
    for part in parts:
        found += _read_part(part, international, code, whats)
        if len(found) > MOST_OF_ONE_CELL:
            raise TariffError(f"a cell stands for at most {MOST_OF_ONE_CELL} prefixes, {shown(text)} for more")
    if not found:
        raise TariffError(f"expected digits, found {shown(text)}")
    return Understood(tuple(found), ", ".join(dict.fromkeys(whats)))


def _read_part(text: str, international: str, code: str, whats: list[str]) -> list[str]:
    plain = text
    if plain.startswith("+"):
        plain = plain[1:]
        whats.append("plus signs")
    if match := _DECIMAL_ZERO.fullmatch(plain):
        plain = match[1]
        whats.append("decimals of a spreadsheet")
    span = _RANGE.fullmatch(_SPACING.sub("", plain))
    if span is not None:
        whats.append("ranges")
        first, last = _cut(span[1], international, whats), span[2]
        if len(last) == len(span[1]) and span[1] != first:
            last = last.removeprefix(international)
        return [code + prefix for prefix in _span(first, last, text)]
    closed = _SPACING.sub("", plain)
    if closed != plain and _DIGITS.fullmatch(closed):
        whats.append("spaces")
        plain = closed
    return [code + _digits(_cut(plain, international, whats), text)]


def _cut(text: str, international: str, whats: list[str]) -> str:
    if international and text.startswith(international) and len(text) > len(international):
        whats.append(f"{international} before the country code")
        return text[len(international) :]
    return text


def _span(first: str, last: str, text: str) -> list[str]:
    """Return the prefixes from one to another: 4915-4917, or 4915-17, or 4915-7."""
    if len(last) < len(first):
        last = first[: len(first) - len(last)] + last
    if len(last) != len(first) or last < first:
        raise TariffError(f"expected a range such as 4915-4917, found {shown(text)}")
    if int(last) - int(first) >= MOST_OF_ONE_CELL:
        raise TariffError(f"a range has at most {MOST_OF_ONE_CELL} prefixes, {shown(text)} has more")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _digits(text: str, whole: str | None = None) -> str:
    if _DIGITS.fullmatch(text) is not None:
        return text
    if len(text) > MOST_PREFIX and text.isascii() and text.isdigit():
        raise TariffError(f"has at most {MOST_PREFIX} digits")
    raise TariffError(f"has only digits, found {shown(text if whole is None else whole)}")


def write_prefix(prefix: str) -> str:
    """Write a prefix so that it reads as it is, in every spreadsheet."""
    if not prefix:
        return EVERYTHING
    return f"'{prefix}" if prefix.startswith("0") else prefix
