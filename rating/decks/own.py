"""callctl's own format: what the cells of a row say about the price, and how a rate is written so that it reads again.

prefix, destination: what it is for. price, per_s, first_increment_s, increment_s: the usual price, such as 0.05 per
60 s, the first 30 s at once, then every 6 s. steps (instead of price), bands, surcharges: what is not usual, as
`rating.decks.cells` writes it. rounding: "half_up 4"; that of the tariff where nothing is said. The others are named as
the parts of a rate are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from rating.decks.cells import (
    read_bands,
    read_steps,
    read_surcharges,
    seconds_text,
    shown,
    write_bands,
    write_steps,
    write_surcharges,
)
from rating.decks.numbers import PRICE, WHOLE
from rating.errors import TariffError
from rating.facts import price_text
from rating.faults import Fault
from rating.parts import PLAIN, BandsAt, Conditions, Durations, Outside, Rounding, RoundingMode, Seconds, Step, ThenWhat
from rating.tariff import Rate, find_fault

MONEY = ("connect_fee", "price", "min_charge", "max_charge")
SIMPLE = ("price", "per_s", "first_increment_s", "increment_s")
TERMS = (
    "connect_fee",
    *SIMPLE,
    "barred",
    "steps",
    "bands",
    "surcharges",
    "free_s",
    "free_below_s",
    "min_charge",
    "max_charge",
    "max_charge_then",
    "durations",
    "outside",
    "bands_at",
    "timezone",
    "rounding",
)
"""What decides the price."""
COLUMNS = ("prefix", "destination", *TERMS, "effective_at", "expires_at")
"""All columns, in the order in which they are written."""

_PER_S = 60
_BARRED = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}
_ROUNDING = re.compile(r"(up|half_up|half_even|down)[ :]+([0-6])", re.ASCII)
_INCREMENT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,18})?", re.ASCII)
_INCREMENTS = re.compile(r"([0-9]{1,9})\s*[/+:-]\s*([0-9]{1,9})", re.ASCII)

_ONE_OF = {"bands": "band", "steps": "step", "surcharges": "surcharge", "dates": "date"}
_THINGS = {
    "bands": "the bands",
    "steps": "the steps",
    "from_s": "its beginning",
    "increment_s": "its increment",
    "per_s": "what its price is per",
    "from": "its beginning",
    "to": "its end",
}
_DEMANDS = {
    "is not ": "must not be ",
    "is ": "must be ",
    "are ": "must be ",
    "cover ": "must cover ",
    "begin ": "must begin ",
}
_PRICE_BESIDE_BANDS = {
    "begin": "is missing: `outside` says that it holds where no band does",
    "hold": "holds beside bands only where `outside` says `base`",
}
_BAND = re.compile(r"bands\.([0-9]+)")

Word = TypeVar("Word", bound=StrEnum)


class BadCell(Exception):
    """A cell that cannot be read; caught where its line is known."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column
        self.reason = reason


def read_terms(cells: Mapping[str, str], rounding: Rounding) -> Rate:
    """Return what a row costs, as a rate without prefix and destination. Raises `BadCell`.

    `cells` are stripped texts by column; what is missing or empty has its default.
    """
    barred = _BARRED.get(cells.get("barred", "").lower())
    if barred is None:
        raise BadCell("barred", f"expected 1 or 0, found {shown(cells['barred'])}")
    bands = _parsed(cells, "bands", read_bands, ())
    told = cells.get("rounding", "")
    rate = Rate(
        prefix="",
        destination="",
        connect_fee=_price(cells, "connect_fee", "0"),
        steps=_steps(cells, barred=barred, needed=not bands),
        rounding=_rounding(told) if told else rounding,
        barred=barred,
        bands=bands,
        conditions=_conditions(cells),
    )
    fault = find_fault(rate)
    if fault is not None:
        column = _column_of(fault.where, cells)
        raise BadCell(column, _in_words(fault, column))
    return rate


def write_terms(rate: Rate) -> dict[str, str]:
    """Return the cells that `read_terms` reads as the same rate; those that say nothing are left out."""
    said = rate.conditions
    cells = {
        "connect_fee": price_text(rate.connect_fee) if rate.connect_fee else "",
        **(_write_steps(rate.steps) if rate.steps else {}),
        "barred": "1" if rate.barred else "",
        "bands": write_bands(rate.bands),
        "surcharges": write_surcharges(said.surcharges),
        "free_s": str(said.free_s or ""),
        "free_below_s": str(said.free_below_s or ""),
        "min_charge": price_text(said.min_charge) if said.min_charge else "",
        "max_charge": "" if said.max_charge is None else price_text(said.max_charge),
        "rounding": f"{rate.rounding.mode.value} {rate.rounding.decimals}",
    }
    for column in ("max_charge_then", "durations", "outside", "bands_at", "timezone"):
        told = str(getattr(said, column))
        cells[column] = "" if told == str(getattr(PLAIN, column)) else told
    return {column: cell for column, cell in cells.items() if cell}


def _write_steps(steps: tuple[Step, ...]) -> dict[str, str]:
    first, last = steps[0], steps[-1]
    if isinstance(first.increment_s, int) and steps == _simple(
        first.price, first.per_s, first.increment_s, last.increment_s
    ):
        cells = {"price": price_text(first.price), "increment_s": seconds_text(last.increment_s)}
        if first.per_s != _PER_S:
            cells["per_s"] = str(first.per_s)
        if len(steps) > 1:
            cells["first_increment_s"] = str(first.increment_s)
        return cells
    return {"steps": write_steps(steps)}


def _simple(price: Decimal, per_s: int, first_s: Seconds, increment_s: Seconds) -> tuple[Step, ...]:
    first = Step(0, price, per_s, first_s)
    return (first,) if first_s == increment_s else (first, Step(int(first_s), price, per_s, increment_s))


def _steps(cells: Mapping[str, str], *, barred: bool, needed: bool) -> tuple[Step, ...]:
    price = cells.get("price", "")
    if cells.get("steps"):
        if price:
            raise BadCell("steps", "stands instead of price, not beside it")
        return _parsed(cells, "steps", read_steps, ())
    if not price and not needed:
        return ()
    per_s = _whole(cells, "per_s", _PER_S)
    both = _INCREMENTS.fullmatch(cells.get("increment_s", ""))
    if both is not None and not cells.get("first_increment_s"):
        first_s, increment_s = int(both[1]), int(both[2])
        return _simple(_price(cells, "price", "0" if barred else ""), per_s, first_s, increment_s)
    increment: Seconds = _increment(cells)
    if not cells.get("first_increment_s"):
        return _simple(_price(cells, "price", "0" if barred else ""), per_s, increment, increment)
    first_s = _whole(cells, "first_increment_s", 1)
    return _simple(_price(cells, "price", "0" if barred else ""), per_s, first_s, increment)


def _conditions(cells: Mapping[str, str]) -> Conditions:
    said = {
        "timezone": cells.get("timezone") or PLAIN.timezone,
        "bands_at": _word(cells, "bands_at", BandsAt, PLAIN.bands_at),
        "outside": _word(cells, "outside", Outside, PLAIN.outside),
        "durations": _word(cells, "durations", Durations, PLAIN.durations),
        "free_s": _whole(cells, "free_s", 0),
        "free_below_s": _whole(cells, "free_below_s", 0),
        "min_charge": _price(cells, "min_charge", "0"),
        "max_charge": _price(cells, "max_charge", "0") if cells.get("max_charge") else None,
        "max_charge_then": _word(cells, "max_charge_then", ThenWhat, PLAIN.max_charge_then),
        "surcharges": _parsed(cells, "surcharges", read_surcharges, ()),
    }
    conditions = Conditions(**said)  # type: ignore[arg-type] # each of the type its name has
    return PLAIN if conditions == PLAIN else conditions


def _parsed(cells: Mapping[str, str], column: str, read: object, absent: tuple[()]) -> tuple:  # type: ignore[type-arg]
    text = cells.get(column, "")
    if not text:
        return absent
    try:
        return read(text)  # type: ignore[operator,no-any-return]
    except TariffError as error:
        raise BadCell(column, str(error)) from error


def _word(cells: Mapping[str, str], column: str, kind: type[Word], absent: Word) -> Word:
    text = cells.get(column, "").lower()
    if text and text not in list(kind):
        raise BadCell(column, f"expected one of {', '.join(kind)}, found {shown(text)}")
    return kind(text) if text else absent


def _rounding(text: str) -> Rounding:
    match = _ROUNDING.fullmatch(text.lower())
    if match is None:
        raise BadCell("rounding", f"expected a rounding such as half_up 4, found {shown(text)}")
    return Rounding(RoundingMode(match[1]), int(match[2]))


def _price(cells: Mapping[str, str], column: str, absent: str) -> Decimal:
    text = cells.get(column, "") or absent
    if PRICE.fullmatch(text) is None or not text.strip("."):
        raise BadCell(column, f"expected a price such as 0.0125, found {shown(text)}")
    return Decimal(text)


def _whole(cells: Mapping[str, str], column: str, absent: int) -> int:
    text = cells.get(column, "")
    if not text:
        return absent
    if WHOLE.fullmatch(text) is None:
        raise BadCell(column, f"expected a whole number of seconds, found {shown(text)}")
    return int(text.partition(".")[0])


def _increment(cells: Mapping[str, str]) -> Seconds:
    text = cells.get("increment_s", "")
    if not text:
        return 1
    if _INCREMENT.fullmatch(text) is None:
        raise BadCell("increment_s", f"expected seconds such as 60 or 0.1, found {shown(text)}")
    seconds = Decimal(text)
    return int(seconds) if seconds == seconds.to_integral_value() else seconds


def _in_words(fault: Fault, column: str) -> str:
    """Say what is wrong in a cell, and where in it: the first band and the first step are number 1."""
    if column == "price" and fault.where == "steps":
        # The steps of a price are in order by themselves: only beside bands there are none, or some too many.
        return _PRICE_BESIDE_BANDS["begin" if fault.reason.startswith("begin") else "hold"]
    reason = _BAND.sub(lambda found: f"band {int(found.group(1)) + 1}", fault.reason)
    for states, demands in _DEMANDS.items():
        if reason.startswith(states):
            reason = demands + reason.removeprefix(states)
            break
    if column not in _ONE_OF:
        return f"{column} {reason}"
    places: list[str] = []
    last = ""
    for part in fault.where.split("."):
        if part.isdecimal():
            places.append(f"{_ONE_OF[last]} {int(part) + 1}")
        last = part
    return f"{': '.join(part for part in (', '.join(places), _THINGS.get(last, '')) if part)} {reason}"


def _column_of(where: str, cells: Mapping[str, str]) -> str:
    """Return the column to which a fault of a rate belongs."""
    thing, _, rest = where.partition(".")
    if thing != "steps" or cells.get("steps"):
        return thing
    number, _, what = rest.partition(".")
    if what == "increment_s" and number == "0" and cells.get("first_increment_s"):
        return "first_increment_s"
    return what if what in SIMPLE else "price"
