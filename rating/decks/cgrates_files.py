"""A tariff plan of CGRateS, several files in one ZIP archive, as a sheet in callctl's own format.

    Destinations.csv      tag → prefixes
    Rates.csv             tag → steps, a line each
    DestinationRates.csv  tag → destinations with their rates, rounding and highest cost
    RatingPlans.csv       plan → destination rates with a timing and a weight; one plan becomes the deck
    Timings.csv           tag → days of the week and the time at which it begins

Of two timings that have begun on a day the heavier holds, and of equal weights the later. Timings that name years,
months or days of the month are refused. Without RatingPlans.csv all of DestinationRates.csv is read, at all times.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from rating.bands import DAY_S
from rating.decks import own
from rating.decks.prefixes import write_prefix
from rating.decks.workbook import NotASheet
from rating.dialects import cgrates
from rating.dialects.columns import money
from rating.errors import TariffError
from rating.parts import Band, Conditions, Outside, When
from rating.tariff import Rate, find_fault

FILES = ("Destinations", "Rates", "DestinationRates", "RatingPlans", "Timings")
NEEDED = ("Rates", "DestinationRates")
COLUMNS = ("prefix", "destination", *own.TERMS)
_ANY = "*any"
_MOST_ROWS = 5_000_000
_WEEK = (1, 2, 3, 4, 5, 6, 7)

Row = dict[str, str]
Bad = tuple[int, str, str]
"""Line, file and column, reason."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Days of the week (1 = Monday) and the second of the day at which it begins."""

    days: tuple[int, ...]
    begin_s: int


@dataclass(slots=True)
class Plan:
    """What the files hold, by tag; `plans` are the names of the rating plans."""

    files: dict[str, list[tuple[int, Row]]]
    bad: list[Bad] = field(default_factory=list)

    @property
    def plans(self) -> tuple[str, ...]:
        """The rating plans, in their order."""
        return tuple(dict.fromkeys(_tag(row) for _, row in self.files.get("RatingPlans", [])))


def read_plan(files: dict[str, bytes]) -> Plan:
    """Read the files, by their names without `.csv`. Raises `NotASheet` where one is missing."""
    for name in NEEDED:
        if name not in files:
            raise NotASheet(f"a plan of CGRateS has a file {name}.csv, and this archive has none")
    return Plan({name: list(_rows(data)) for name, data in files.items() if name in FILES})


def _rows(data: bytes) -> Iterator[tuple[int, Row]]:
    text = data.decode("utf-8-sig", errors="replace")
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lstrip("#") for cell in cells]
            elif not cells[0].startswith("#"):
                yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=False))
    except csv.Error as error:
        raise NotASheet(f"line {reader.line_num} is not CSV: {error}") from error


def _tag(row: Row) -> str:
    return row.get("Id") or row.get("Tag") or ""


def sheet_rows(plan: Plan, name: str) -> tuple[list[int], list[list[str]]]:
    """Return the lines of DestinationRates.csv, and rows in callctl's own columns; what is bad goes into `plan.bad`."""
    prefixes: dict[str, list[str]] = {}
    for _, row in plan.files.get("Destinations", []):
        prefixes.setdefault(_tag(row), []).append(row.get("Prefix", "").removeprefix("+"))
    rates: dict[str, list[Row]] = {}
    for _, row in plan.files["Rates"]:
        rates.setdefault(_tag(row), []).append(row)
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, destination, told in _told(plan, name):
        rate = _rate(plan, line, destination, told, rates)
        if rate is None:
            continue
        cells = own.write_terms(rate)
        said = [cells.get(column, "") for column in COLUMNS[2:]]
        for prefix in [""] if destination == _ANY else prefixes.get(destination, [destination]):
            lines.append(line)
            # Only `*any` is everything: a destination without a prefix is a mistake, which who reads rows will name.
            written = write_prefix(prefix) if prefix or destination == _ANY else ""
            rows.append([written, "" if destination == _ANY else destination, *said])
        if len(rows) > _MOST_ROWS:
            raise NotASheet(f"the plan has more than {_MOST_ROWS} prefixes")
    return lines, rows


_Told = list[tuple[Row, Timing | None, Decimal]]


def _told(plan: Plan, name: str) -> Iterator[tuple[int, str, _Told]]:
    """Yield each destination with its rows of destination rates, their timings and weights."""
    by_tag: dict[str, list[tuple[int, Row]]] = {}
    for line, row in plan.files["DestinationRates"]:
        by_tag.setdefault(_tag(row), []).append((line, row))
    uses: list[tuple[str, Timing | None, Decimal]] = []
    if not plan.plans:
        uses = [(tag, None, Decimal(0)) for tag in by_tag]
    else:
        timings = {_tag(row): (line, row) for line, row in plan.files.get("Timings", [])}
        for line, row in plan.files["RatingPlans"]:
            if _tag(row) == name:
                try:
                    timing, weight = _timing(row.get("TimingTag", ""), timings), money(row, "Weight")
                    uses.append((_known(row.get("DestinationRatesId", ""), by_tag), timing, weight))
                except TariffError as error:
                    plan.bad.append((line, "RatingPlans", str(error)))
    found: dict[str, tuple[int, _Told]] = {}
    for tag, timing, weight in uses:
        for line, row in by_tag[tag]:
            found.setdefault(row.get("DestinationId", ""), (line, []))[1].append((row, timing, weight))
    for destination, (line, told) in found.items():
        yield line, destination, told


def _known(tag: str, by_tag: Container[str]) -> str:
    if tag not in by_tag:
        raise TariffError(f"there are no rates {tag[:40]} in DestinationRates.csv")
    return tag


def _timing(tag: str, timings: dict[str, tuple[int, Row]]) -> Timing | None:
    if tag in {_ANY, ""}:
        return None
    if tag not in timings:
        raise TariffError(f"there is no timing {tag[:40]} in Timings.csv")
    _, row = timings[tag]
    for column in ("Years", "Months", "MonthDays"):
        if row.get(column, _ANY) not in {_ANY, ""}:
            raise TariffError(f"the timing {tag[:40]} names {column}, which a band cannot tell")
    days, time = row.get("WeekDays", _ANY), row.get("Time") or "00:00:00"
    try:
        numbers = _WEEK if days in {_ANY, ""} else tuple(sorted(int(day) or 7 for day in days.split(";")))
        hours, minutes, seconds = (int(part) for part in time.split(":"))
    except ValueError as error:
        told = f"expected days such as 1;2;3 and a time such as 08:00:00, found {days[:40]!r} and {time[:40]!r}"
        raise TariffError(f"the timing {tag[:40]}: {told}") from error
    return Timing(numbers, hours * 3600 + minutes * 60 + seconds)


_Made = tuple[Rate, Timing, Decimal]
"""A rate, from when on and how heavily it holds."""


def _rate(plan: Plan, line: int, destination: str, told: _Told, rates: dict[str, list[Row]]) -> Rate | None:
    """Return what a destination costs, with bands where its timings differ; None where that cannot be told."""
    made: list[_Made] = []
    for row, timing, weight in told:
        tag = row.get("RatesTag", "")
        try:
            if tag not in rates:
                raise TariffError(f"RatesTag: there is no rate {tag[:40]} in Rates.csv")  # noqa: TRY301 - told below
            one = cgrates.read({**row, "rates": rates[tag]})
        except TariffError as error:
            plan.bad.append((line, "DestinationRates", str(error)))
            return None
        made.append((one, timing or Timing(_WEEK, 0), weight))
    if len({(timing, weight) for _, timing, weight in made}) < len(made):
        plan.bad.append((line, "DestinationRates", f"{destination} has two rates for the same times"))
        return None
    if len({(one.rounding, one.conditions) for one, _, _ in made}) > 1:
        differ = "rates that round in different ways, or have different highest costs"
        plan.bad.append((line, "DestinationRates", f"{destination} has {differ}"))
        return None
    rate = made[0][0] if len(made) == 1 and made[0][1] == Timing(_WEEK, 0) else _banded(made)
    fault = find_fault(rate)
    if fault is not None:
        plan.bad.append((line, "DestinationRates", f"{destination}: {fault.where} {fault.reason}"))
        return None
    return rate


def _banded(made: Sequence[_Made]) -> Rate:
    """Lay the timings out day by day; days that are laid out alike become one band."""
    spans: dict[tuple[int, int, int], list[int]] = {}
    for day in _WEEK:
        begins = sorted({0, *(timing.begin_s for _, timing, _ in made if day in timing.days)})
        for begin_s, end_s in zip(begins, [*begins[1:], DAY_S], strict=True):
            number = _holding(made, day, begin_s)
            if number is not None:
                spans.setdefault((begin_s, end_s, number), []).append(day)
    bands = tuple(
        Band(When(tuple(days), begin_s, end_s), made[number][0].steps, made[number][0].connect_fee)
        for (begin_s, end_s, number), days in spans.items()
    )
    first = made[0][0]
    conditions: Conditions = replace(first.conditions, outside=Outside.CLOSED)
    return replace(first, steps=(), bands=bands, conditions=conditions)


def _holding(made: Sequence[_Made], day: int, at_s: int) -> int | None:
    begun = [number for number, (_, timing, _) in enumerate(made) if day in timing.days and timing.begin_s <= at_s]
    return max(begun, key=lambda number: (made[number][2], made[number][1].begin_s), default=None)
