"""What commands print: tables for people, one JSON value for programs. Text from calls is hostile, here too."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

from rating.money import format_amount

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories that a terminal obeys or hides instead of showing."""


def visible(text: str) -> str:
    """Replace what a terminal would obey (escapes, line ends, direction marks) by U+FFFD."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(char) in _HIDDEN else char for char in text)


def people() -> Console:
    """Return the console for people, made anew so that a test's or pager's standard output is the one in use."""
    return Console(highlight=False)


def say(text: str, *, style: str = "") -> None:
    """Print a sentence for people, without reading markup in it."""
    people().print(Text(visible(text), style=style), soft_wrap=True)


def stderr() -> Console:
    """Return the console for what is said beside the answer: progress, warnings."""
    return Console(stderr=True, highlight=False)


def warn(text: str) -> None:
    """Print a sentence on standard error."""
    stderr().print(Text(visible(text), style="yellow"), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON value on standard output, in ASCII: no byte of a caller's name reaches a terminal raw."""
    sys.stdout.write(json.dumps(value, indent=2 if sys.stdout.isatty() else None) + "\n")


def table(*columns: str, title: str | None = None, right: Iterable[str] = (), fold: bool = True) -> Table:
    """Return an empty table in the house's look; columns in `right` hold numbers; `fold` keeps long text whole."""
    made = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        header_style="bold",
        title_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    numbers = frozenset(right)
    overflow: OverflowMethod = "fold" if fold else "ellipsis"
    for column in columns:
        made.add_column(column, justify="right" if column in numbers else "left", overflow=overflow, no_wrap=not fold)
    return made


WIDE = 110
"""A terminal with fewer columns shows the columns that matter; --json has them all."""


def is_wide() -> bool:
    """Whether there is room for every column."""
    return people().width >= WIDE


def add_id_column(into: Table, name: str, ids: Iterable[str]) -> None:
    """Add a column of ids that people copy: never cut, never folded."""
    longest = max((len(visible(value)) for value in ids), default=0)
    into.add_column(name, no_wrap=True, min_width=max(longest, len(name)), style="dim")


def row(into: Table, cells: Sequence[object], *, style: str = "") -> None:
    """Add a row; None is an empty cell, and nothing in a cell is markup."""
    into.add_row(*(Text("" if cell is None else visible(str(cell))) for cell in cells), style=style)


def money(micros: int, currency: str = "", *, decimals: int = 2) -> str:
    """Write an amount for people."""
    return f"{format_amount(micros, decimals=decimals)} {currency}".rstrip()


def count(number: int, thing: str) -> str:
    """Write a number of things."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def moment(at: datetime | None) -> str | None:
    """Write a moment as RFC 3339 in UTC."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(seconds: float) -> str:
    """Write a duration as m:ss or h:mm:ss."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
