"""What people and spreadsheets write for numbers: decimal commas, thousands, exponents.

Which mark is the decimal one is decided for a column as a whole, from what its cells leave no doubt about. Where
"1,234" may be one and a part or more than a thousand, and no other cell tells, the column is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

PRICE = re.compile(r"[0-9]{0,10}(?:\.[0-9]{0,18})?", re.ASCII)
"""A price as rating wants it; alone, a dot matches too."""
WHOLE = re.compile(r"[0-9]{1,9}(?:\.0{1,6})?", re.ASCII)
_EXPONENT = re.compile(r"([0-9])(?:[.,]([0-9]{1,14}))?[eE]-0?([0-9]{1,2})", re.ASCII)
_POSITIVE_EXPONENT = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]{1,3}", re.ASCII)
_SPACES = re.compile(r"[\s\u00a0\u202f']")
_GROUPED = {
    ".": re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?", re.ASCII),
    ",": re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]*)?", re.ASCII),
}
_SPACED = re.compile(r"[0-9]{1,3}(?:[\s\u00a0\u202f'][0-9]{3})+(?:[.,][0-9]*)?")
_DOUBTFUL = re.compile(r"[0-9.,]+", re.ASCII)
_MOST_DECIMALS = 18


@dataclass(frozen=True, slots=True)
class Marks:
    """How a column writes its numbers. `decimal` is "." or ","; "" where nobody can tell, and `example` says why."""

    decimal: str
    example: str = ""


def guess_marks(texts: Iterable[str]) -> Marks:
    """Find a column's decimal mark from its distinct cells: that of the most, where they disagree."""
    commas = dots = 0
    doubt = ""
    for text in texts:
        digits = _SPACES.sub("", text)
        comma, dot = digits.count(","), digits.count(".")
        if comma and dot:
            is_comma = digits.rfind(",") > digits.rfind(".")
            commas, dots = commas + is_comma, dots + (not is_comma)
        elif comma > 1 or (dot == 1 and not _may_be_grouped(digits, ".")):
            dots += 1  # commas that come again part thousands
        elif dot > 1 or (comma == 1 and not _may_be_grouped(digits, ",")):
            commas += 1
        elif comma:
            doubt = doubt or text
    if doubt and not commas and not dots:
        return Marks("", doubt)
    return Marks("," if commas > dots else ".")


def _may_be_grouped(digits: str, mark: str) -> bool:
    """Return whether what stands around a mark may be thousands and the rest."""
    head, _, tail = digits.partition(mark)
    return len(tail) == 3 and bool(head.strip("0"))  # noqa: PLR2004 - a group of digits


def plain_number(text: str, decimal: str, *, is_sure: bool = False) -> tuple[str, str]:
    """Return a cell as a plain decimal, and in words what was understood ("" where it was one).

    What cannot be understood is returned as it is: whoever reads the number then says so. A single group of thousands
    is read only where the mark `is_sure`, as somebody said which it is.
    """
    if PRICE.fullmatch(text) is not None and (decimal == "." or "." not in text):
        return text, ""
    exponent = _EXPONENT.fullmatch(text)
    if exponent is not None:
        plain = _without_exponent(exponent)
        return (text, "") if plain is None else (plain, "numbers with an exponent")
    other = "," if decimal == "." else "."
    if _GROUPED[decimal].fullmatch(text) is not None and (text.count(other) > 1 or decimal in text or is_sure):
        return text.replace(other, "").replace(decimal, "."), "thousands"
    if _SPACED.fullmatch(text) is not None and other not in text:
        return _SPACES.sub("", text).replace(decimal, "."), "thousands"
    if decimal == "," and "." not in text and PRICE.fullmatch(text.replace(",", ".")) is not None:
        return text.replace(",", "."), "decimal commas"
    return text, ""


def is_doubtful(text: str, decimal: str) -> bool:
    """Return whether a text may be thousands, or a number with the other decimal mark: it must not be read at all."""
    other = "," if decimal == "." else "."
    return _DOUBTFUL.fullmatch(text) is not None and other in text


def is_spreadsheet_exponent(text: str) -> bool:
    """Return whether a text is 4.91E+10 or the like: a spreadsheet has thrown digits away."""
    return _POSITIVE_EXPONENT.fullmatch(text) is not None


def _without_exponent(match: re.Match[str]) -> str | None:
    first, more, exponent = match[1], match[2] or "", int(match[3])
    if exponent == 0 or exponent + len(more) > _MOST_DECIMALS:
        return None
    return "0." + "0" * (exponent - 1) + first + more
