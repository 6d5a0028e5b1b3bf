"""What is wrong in a deck, as `callctl rates import` tells it: line, column and why; CSV and XLSX alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import xlsxwriter  # type: ignore[import-untyped] # it has no types

from tests.cli.support import Home

PRICES = ("prefix", "price")
GOOD = {"bands": "[00:00-24:00] 0.1/60x1", "steps": "0.1/60x1"}
OUTSIDE = "or the tariff says what holds outside"
MARKS = "is it one and a part or more than a thousand? Say which mark is the decimal one"


def written(folder: Path, kind: str, rows: tuple[tuple[str, ...], ...]) -> str:
    """Write a deck, with tabs between its fields or as cells of text."""
    file = folder / f"deck.{kind}"
    if kind == "csv":
        file.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8-sig")
    else:
        with xlsxwriter.Workbook(str(file)) as book:
            sheet = book.add_worksheet("rates")
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return str(file)


def state(home: Home) -> Any:
    return home.ok("tariff", "list", "--json").json


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize(
    ("columns", "row", "column", "reason"),
    [
        (PRICES, ("49", "-0.01"), "price", "expected a price such as 0.0125, found '-0.01'"),
        (PRICES, ("49", "NaN"), "price", "expected a price such as 0.0125, found 'NaN'"),
        (PRICES, ("49", "1,000"), "price", f"'1,000': {MARKS}"),
        (PRICES, ("49x", "0.1"), "prefix", "has only digits, found '49x'"),
        (
            PRICES,
            ("1E5", "0.1"),
            "prefix",
            "a spreadsheet has cut this number to '1E5': make the column text, with all digits",
        ),
        (PRICES, ("44", "0.2"), "prefix", "44 is on line 2 already"),
        (
            (*PRICES, "increment_s"),
            ("49", "0.1", "0"),
            "increment_s",
            "increment_s must be from 1 to 31622400, or down to 0.001 in whole milliseconds",
        ),
        (("prefix", "price", "per_s"), ("49", "0.1", "0"), "per_s", "per_s must be from 1 to 31622400"),
        (
            ("prefix", "steps"),
            ("49", "0.12/60x60 | 120: 0.10/60x1 | 60: 0.09/60x1"),
            "steps",
            "step 3: its beginning must be more than that of the step before, and at most 31622400",
        ),
        (
            ("prefix", "bands"),
            ("49", "[Mon-Fri 08:00-18:00] 0.10/60x1; [17:00-09:00] 0.05/60x1"),
            "bands",
            "band 2 overlaps band 1 at the same priority, on Monday 17:00",
        ),
        (
            ("prefix", "bands"),
            ("49", "[Mon-Fri 08:00-18:00] 0.10/60x1; [18:00-08:00] 0.05/60x1"),
            "bands",
            f"the bands must cover the whole week, {OUTSIDE}; nothing covers Saturday from 08:00 to 18:00",
        ),
        (
            ("prefix", "bands"),
            ("49", "[08:00-20:00] 0.10/60x1; [20:00-08:00] 0.05/60x0"),
            "bands",
            "band 2, step 1: its increment must be from 1 to 31622400, or down to 0.001 in whole milliseconds",
        ),
    ],
)
def test_a_bad_cell_is_told_with_its_place(
    home: Home, kind: str, *, columns: tuple[str, ...], row: tuple[str, ...], column: str, reason: str
) -> None:
    """The good row before it is not imported either, and nothing has changed."""
    before = state(home)
    good = ("44", *(GOOD.get(name, "1") for name in columns[1:]))
    file = written(home.folder, kind, (columns, good, row))
    ran = home.run("rates", "import", file, "--tariff", "retail", "--yes", "--json")
    assert ran.status == 1
    assert ran.json["bad"] == [{"line": 3, "column": column, "reason": reason}]
    assert state(home) == before


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_two_rates_of_a_prefix_from_one_time_on_are_told(home: Home, kind: str) -> None:
    """However the time is written; two times are two rates."""
    rows = (
        ("prefix", "price", "effective_at"),
        ("49", "0.1", "2027-01-01T00:00Z"),
        ("49", "0.2", "2027-01-01T01:00:00+01:00"),
        ("49", "0.3", "2027-01-02T00:00Z"),
    )
    ran = home.run("rates", "import", written(home.folder, kind, rows), "--tariff", "retail", "--json")
    assert ran.json["bad"] == [
        {"line": 3, "column": "prefix", "reason": "49 is on line 2 already, from the same time on"}
    ]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_what_an_operator_would_expect_is_understood_and_shown(home: Home, kind: str) -> None:
    """Comma decimals, an exponent of a spreadsheet in a price, a plus, spaces: told before, and taken with --yes."""
    rows = (PRICES, ("+49 30", "0,012"), ("+44", "1E-3"))
    file = written(home.folder, kind, rows)
    shown = home.ok("rates", "import", file, "--tariff", "retail", "--dry-run").err
    for told in (
        "decimal commas in price (1 row, first on line 2): 0,012 is read as 0.012.",
        "numbers with an exponent in price (1 row, first on line 3): 1E-3 is read as 0.001.",
        "plus signs in prefix",
        "+49 30 is read as 4930.",
    ):
        assert told in shown
    refused = home.run("rates", "import", file, "--tariff", "retail")
    assert refused.status == 1
    assert "Nothing was imported" in refused.err
    home.ok("rates", "import", file, "--tariff", "retail", "--yes")
    quoted = home.ok("quote", "--tariff", "retail", "--to", "493012", "--seconds", "60", "--json").json
    assert (quoted["prefix"], quoted["cost"]) == ("4930", "0.012")
