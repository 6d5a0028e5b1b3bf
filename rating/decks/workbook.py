"""Workbooks (XLSX): bytes that may be a bomb become rows of texts, or are refused before they unfold.

A workbook is a ZIP archive of XML. What it unfolds to is counted first, and so is the rectangle of its cells: one cell
in the last corner of a sheet would make every reader lay out seventeen thousand million empty ones.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook

from rating.decks import mapping

ZIP = b"PK"
MOST_UNPACKED = 512 * 1024 * 1024
MOST_ENTRIES = 2_000
MOST_CELLS = 60_000_000
_CHUNK = 1 << 20
_OVERLAP = 64
_REFERENCE = re.compile(rb"""\sr=["'](?:([A-Z]{1,3}))?([0-9]{1,7})["']""")
_LETTERS = 26
_EXACT = 10**15
"""A spreadsheet keeps fifteen digits: a longer number has lost some."""
_SAMPLE = 30


class NotASheet(Exception):
    """Why a file is no table; never leaves `rating.decks`."""


@dataclass(frozen=True, slots=True)
class Book:
    """The rows of one sheet as texts, from the first row that has something; `before` rows came before it."""

    rows: list[list[str]]
    before: int
    table: str
    tables: tuple[str, ...]


def read_workbook(data: bytes, table: str, most_rows: int) -> Book:
    """Read a sheet of a workbook that `check_archive` has passed: the one named, or the one most like rates.

    Raises `NotASheet`.
    """
    try:
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        tables = tuple(book.sheet_names)
        if table and table not in tables:
            raise NotASheet(f"there is no sheet {table[:40]!r}; the workbook has {', '.join(tables)[:200]}")
        best: Book | None = None
        for name in (table,) if table else tables:
            found = _rows_of(book, name, tables)
            if len(found.rows) > most_rows:
                raise NotASheet(f"a sheet has at most {most_rows} rows")
            if best is None or _score(found) > _score(best):
                best = found
    except (CalamineError, OSError, ValueError) as error:
        raise NotASheet(f"the workbook cannot be read: {str(error)[:100]}") from error
    if best is None:
        raise NotASheet("the workbook has no sheets")
    return best


def _score(book: Book) -> int:
    return max((mapping.score(row) for row in book.rows[:_SAMPLE]), default=0)


def _rows_of(book: CalamineWorkbook, name: str, tables: tuple[str, ...]) -> Book:
    sheet = book.get_sheet_by_name(name)
    start = sheet.start[0] if sheet.start else 0
    rows = [[_text(cell) for cell in row] for row in sheet.to_python(skip_empty_area=True)]
    return Book(rows, start, name, tables)


def _text(cell: Any) -> str:
    """Return a cell as a person sees it, all digits."""
    match cell:
        case str():
            return cell
        case None:
            return ""
        case bool():
            return "1" if cell else "0"
        case float():
            return _number(cell)
        case datetime() | date() | time():
            return cell.isoformat()
        case _:
            return str(cell)


def _number(cell: float) -> str:
    # The shortest text that means this number is what was typed; it is never calculated with.
    number = Decimal(repr(cell))
    if not number.is_finite() or abs(number) >= _EXACT:
        return f"{number:.5E}"
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def files_of(data: bytes) -> dict[str, bytes]:
    """Return the CSV files of an archive that `check_archive` has passed, by their names without the ending."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        paths = [entry.filename for entry in archive.infolist() if entry.filename.lower().endswith(".csv")]
        return {path.rpartition("/")[2][:-4]: archive.read(path) for path in paths}


def check_archive(data: bytes) -> bool:
    """Unfold the archive once, a piece at a time, and count; return whether it is a workbook. Raises `NotASheet`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > MOST_UNPACKED:
                raise NotASheet(f"the archive unfolds to more than {MOST_UNPACKED // 1024 // 1024} MB")
            for entry in entries:
                _check_entry(archive, entry)
            return any(entry.filename.endswith("workbook.xml") for entry in entries)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise NotASheet(f"the file is not text (UTF-8 …), and no whole workbook: {str(error)[:100]}") from error
    except zlib.error as error:
        raise NotASheet("the workbook is damaged") from error


def _check_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Read an entry to its end: what is longer than it says fails by its check sum, whatever it says."""
    is_sheet = "/worksheets/" in f"/{entry.filename}"
    rows = columns = 0
    tail = b""
    with archive.open(entry) as file:
        while chunk := file.read(_CHUNK):
            if is_sheet:
                for letters, digits in set(_REFERENCE.findall(tail + chunk)):
                    rows = max(rows, int(digits))
                    columns = max(columns, _column(letters)) if letters else columns
                tail = chunk[-_OVERLAP:]
    if rows * columns > MOST_CELLS:
        raise NotASheet(f"a sheet reaches to row {rows}, column {columns}: it is laid out too large to be a deck")


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * _LETTERS + letter - ord("A") + 1
    return number
