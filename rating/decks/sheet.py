"""A file of rates as a sheet of texts: what encoding, delimiter and header row it has is found out, and shown.

Bytes that are no table, rows with too many cells, quotes that do not end: each is a `BadRow` with its line. Nothing is
left out in silence.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rating.decks import cgrates_files, mapping
from rating.decks.workbook import ZIP, NotASheet, check_archive, files_of, read_workbook
from rating.late import pl

MOST_BYTES = 256 * 1024 * 1024
MOST_ROWS = 5_000_000
MOST_BAD = 10_000
"""After so many bad rows the file is something else: no more are told."""
MOST_LINE = 10_000
"""Characters in a line; a rate needs a hundredth of it."""
MOST_COLUMNS = 200

DELIMITERS = ",;\t|"
LINE = "#line"
"""The frame's column with the line of each row; the others are "0", "1", …"""
_SAMPLE = 30
_ENOUGH = 2
_SHOWN = 40
_OLE = b"\xd0\xcf\x11\xe0"
_SAYS = {b"%PDF": "a PDF file", b"\x1f\x8b": "a compressed file (gzip)", b"{": "JSON", b"\x89PNG": "a picture"}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with a mark"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_LAST_RESORT = "windows-1252"

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class BadRow:
    """Why a row cannot be read: 1-based line of the file, the column's name ("" = the row), the reason in words."""

    line: int
    column: str
    reason: str


@dataclass(slots=True)
class Sheet:
    """A table of texts. `header_line` 0: the file has no header, and columns are named by their letters.

    `frame` has a column for the line of each row and one for each column of the file, with "" for empty cells.
    """

    kind: str
    encoding: str
    delimiter: str
    header_line: int
    columns: tuple[str, ...]
    frame: pl.DataFrame
    bad: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    table: str = ""
    tables: tuple[str, ...] = ()


def open_sheet(
    data: bytes,
    *,
    name: str = "",
    encoding: str = "",
    delimiter: str = "",
    header: bool | None = None,
    table: str = "",
) -> Sheet:
    """Read a file's bytes. `header` False: there is none; what is not said is found out. Never raises for the bytes.

    `table` names a sheet of a workbook; the first one with rates is taken otherwise.
    """
    if len(data) > MOST_BYTES:
        return _no_sheet(f"a file has at most {MOST_BYTES // 1024 // 1024} MB")
    try:
        if data.startswith(ZIP):
            if not check_archive(data):
                return _of_plan(data, table)
            sheet = _of_workbook(data, table, header)
            if not name.lower().endswith((".xlsx", ".xlsm")) and name:
                sheet.notes.append("the file is a workbook (XLSX), whatever its name says")
            return sheet
        what = _known_as(data)
        if what:
            return _no_sheet(f"the file is {what}: save it as CSV or XLSX")
        text, encoding_name = _decoded(data, encoding)
    except NotASheet as error:
        return _no_sheet(str(error))
    sheet = _of_text(text, delimiter, header)
    sheet.encoding = encoding_name
    if name.lower().endswith((".xlsx", ".xls", ".xlsm", ".ods")):
        sheet.notes.append("the file is text (CSV), whatever its name says")
    return sheet


def _no_sheet(reason: str) -> Sheet:
    return Sheet("", "", "", 0, (), _empty(), [BadRow(1, "", reason)])


def _known_as(data: bytes) -> str:
    if data.startswith(_OLE):
        return "an old Excel workbook (XLS)"
    head = data[:1000].lstrip()
    if head.lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<table")):
        return "a web page or XML"
    return next((what for mark, what in _SAYS.items() if head.startswith(mark)), "")


def _decoded(data: bytes, encoding: str) -> tuple[str, str]:
    """Return the text and the name of its encoding. Raises `NotASheet`."""
    if encoding:
        try:
            return data.decode(encoding).removeprefix("\ufeff"), encoding
        except (UnicodeDecodeError, LookupError) as error:
            raise NotASheet(f"not {encoding[:_SHOWN]}: {str(error)[:100]}") from error
    for mark, codec, name in _MARKS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(codec), name
            except UnicodeDecodeError as error:
                raise NotASheet(f"not {name} from byte {error.start} on, though it begins so") from error
    text, name = _decoded_without_mark(data)
    if "\0" in text:
        raise NotASheet("the file is not text (UTF-8, UTF-16, Windows-1252), and no XLSX either")
    return text, name


def _decoded_without_mark(data: bytes) -> tuple[str, str]:
    sample = data[:1000]
    # Text of Europe in UTF-16: every other byte is zero.
    evens, odds = sample[::2].count(0), sample[1::2].count(0)
    if max(evens, odds) * 4 > len(sample):
        try:
            return data.decode("utf-16-le" if odds > evens else "utf-16-be"), "UTF-16 without a mark"
        except UnicodeDecodeError:
            pass
    try:
        return data.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        return data.decode(_LAST_RESORT, errors="replace"), "Windows-1252 (guessed: it is not UTF-8)"


# -- text --------------------------------------------------------------------------------------------------------------


def _of_text(text: str, delimiter: str, header: bool | None) -> Sheet:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    bad: list[BadRow] = []
    for number, line in enumerate(lines, 1) if lines and len(max(lines, key=len)) > MOST_LINE else ():
        if len(line) > MOST_LINE:
            bad.append(BadRow(number, "", f"a line has at most {MOST_LINE} characters; reading stopped"))
            del lines[number - 1 :]
            break
    sample = lines[:_SAMPLE]
    delimiter = delimiter or max(DELIMITERS, key=lambda mark: _table_score(sample, mark))
    rows = [_cells(line, delimiter) for line in sample]
    first = _header_of(rows, header)
    columns = _names(rows, first)
    if not columns or len(columns) > MOST_COLUMNS:
        return _no_sheet(_no_header(sample)) if not bad else Sheet("csv", "", delimiter, 0, (), _empty(), bad)
    body = lines[first:]
    if len(body) > MOST_ROWS:
        bad.append(BadRow(first + MOST_ROWS + 1, "", f"reading stopped here, after {MOST_ROWS} rows"))
        del body[MOST_ROWS:]
    quoted = '"' in text
    split = _split_quoted if quoted else _split
    frame = split(body, first, len(columns), delimiter, bad)
    sheet = Sheet("csv", "", delimiter, first, columns, frame, bad)
    _without_blanks(sheet)
    return sheet


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema={LINE: pl.Int64})


def _no_header(sample: Sequence[str]) -> str:
    found = next((line for line in sample if line.strip()), "")
    shown = repr(found[:_SHOWN] + "…" * (len(found) > _SHOWN)) if found else "nothing"
    return f"expected a header such as prefix,destination,price, found {shown}"


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:
        return line.split(delimiter)


def _table_score(sample: Sequence[str], delimiter: str) -> tuple[int, int, int]:
    """Return how much a delimiter makes of the first lines: names known, lines of one width, that width."""
    rows = [_cells(line, delimiter) for line in sample if line.strip()]
    widths = [len(row) for row in rows]
    usual = max(set(widths), key=widths.count, default=0)
    named = max((mapping.score(row) for row in rows), default=0)
    return named, widths.count(usual) if usual > 1 else 0, usual


def _header_of(rows: Sequence[Sequence[str]], header: bool | None) -> int:
    """Return the line of the header, 1-based; 0 where there is none."""
    scores = [mapping.score(row) for row in rows]
    best = max(scores, default=0)
    if header is False:
        return 0
    if header is None and best < _ENOUGH:
        # A list of prefixes has one column.
        alone = [sum(bool(cell.strip()) for cell in row) == 1 for row in rows]
        named = [bool(found and one) for found, one in zip(scores, alone, strict=True)]
        return named.index(True) + 1 if True in named else 0
    if best == 0:
        return next((number for number, row in enumerate(rows, 1) if any(cell.strip() for cell in row)), 0)
    return scores.index(best) + 1


def _names(rows: Sequence[Sequence[str]], header_line: int) -> tuple[str, ...]:
    if header_line:
        return tuple(cell.strip() for cell in rows[header_line - 1])
    return tuple(_letter(number) for number in range(max((len(row) for row in rows), default=0)))


def _letter(number: int) -> str:
    """Return a column's letter, as a spreadsheet counts: A to Z, then AA."""
    head, tail = divmod(number, 26)
    return (_letter(head - 1) if head else "") + chr(ord("A") + tail)


def _split(lines: list[str], before: int, width: int, delimiter: str, bad: list[BadRow]) -> pl.DataFrame:
    """Split lines without quotes, all at once."""
    whole = pl.DataFrame({"text": lines}, schema={"text": pl.String}).with_row_index(LINE, before + 1)
    many = whole.filter(pl.col("text").str.count_matches(delimiter, literal=True) >= width)
    if many.height:
        drop: list[int] = []
        for number, text in many.iter_rows():
            extra = text.split(delimiter)[width:]
            if any(cell.strip() for cell in extra):
                drop.append(number)
                _too_many(bad, number, width, width + len(extra))
        whole = whole.filter(~pl.col(LINE).is_in(drop)) if drop else whole
    parts = pl.col("text").str.split_exact(delimiter, width - 1).alias("parts")
    names = [str(number) for number in range(width)]
    frame = whole.select(pl.col(LINE).cast(pl.Int64), parts.struct.rename_fields(names)).unnest("parts")
    return frame.with_columns(pl.col(names).fill_null(""))


def _split_quoted(lines: list[str], before: int, width: int, delimiter: str, bad: list[BadRow]) -> pl.DataFrame:
    """Split lines with quotes; a quoted cell may go over several lines, and its row has the first one's number."""
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, row in _csv_rows(lines, before, delimiter, bad):
        if len(row) != width:
            if len(row) > width and any(cell.strip() for cell in row[width:]):
                _too_many(bad, number, width, len(row))
                continue
            row = [*row[:width], *[""] * (width - len(row))]  # noqa: PLW2901 - the same row, as wide as the others
        numbers.append(number)
        rows.append(row)
    columns = zip(*rows, strict=True) if rows else ((),) * width
    names = [str(number) for number in range(width)]
    data = dict(zip(names, (list(column) for column in columns), strict=True))
    return pl.DataFrame({LINE: numbers, **data}, schema={LINE: pl.Int64, **dict.fromkeys(names, pl.String)})


def _csv_rows(lines: list[str], before: int, delimiter: str, bad: list[BadRow]) -> Iterator[tuple[int, list[str]]]:
    # The reader must see where lines end, or a cell over several lines would lose its breaks.
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        number = before + reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if len(bad) < MOST_BAD:
                bad.append(BadRow(number, "", f"not CSV: {error}"))


def _too_many(bad: list[BadRow], line: int, width: int, found: int) -> None:
    if len(bad) < MOST_BAD:
        bad.append(BadRow(line, "", f"expected at most {width} fields, found {found}"))


# -- workbooks ---------------------------------------------------------------------------------------------------------


def _of_workbook(data: bytes, table: str, header: bool | None) -> Sheet:
    book = read_workbook(data, table, MOST_ROWS)
    rows = book.rows
    first = _header_of(rows[:_SAMPLE], header)
    columns = _names(rows[:_SAMPLE], first)
    if not columns or len(columns) > MOST_COLUMNS:
        raise NotASheet(f"the sheet {book.table!r} has no rates in it")
    width = len(columns)
    body = rows[first:]
    names = [str(number) for number in range(width)]
    data_of = {name: [row[number] if number < len(row) else "" for row in body] for number, name in enumerate(names)}
    frame = pl.DataFrame(
        {LINE: range(first + book.before + 1, first + book.before + 1 + len(body)), **data_of},
        schema={LINE: pl.Int64, **dict.fromkeys(names, pl.String)},
    )
    sheet = Sheet("xlsx", "", "", first and first + book.before, columns, frame, table=book.table, tables=book.tables)
    _without_blanks(sheet)
    return sheet


def _of_plan(data: bytes, table: str) -> Sheet:
    """Read an archive of several CSV files, as CGRateS has them."""
    files = files_of(data)
    if not set(cgrates_files.NEEDED) <= set(files):
        raise NotASheet("the file is a ZIP archive, and neither a workbook nor a plan of CGRateS: unpack it first")
    plan = cgrates_files.read_plan(files)
    name = table or next(iter(plan.plans), "")
    if name and name not in plan.plans:
        raise NotASheet(f"there is no rating plan {name[:_SHOWN]!r}; there are {', '.join(plan.plans)[:200]}")
    lines, rows = cgrates_files.sheet_rows(plan, name)
    columns = cgrates_files.COLUMNS
    names = [str(number) for number in range(len(columns))]
    cells = zip(*rows, strict=True) if rows else ((),) * len(columns)
    frame = pl.DataFrame(
        {LINE: lines, **dict(zip(names, (list(column) for column in cells), strict=True))},
        schema={LINE: pl.Int64, **dict.fromkeys(names, pl.String)},
    )
    bad = [BadRow(line, column, reason) for line, column, reason in plan.bad[:MOST_BAD]]
    notes = [
        f"a plan of CGRateS, {f'rating plan {name}' if name else 'all destination rates'}; lines are those of its files"
    ]
    if plan.files.get("Timings"):
        notes.append("the times of its timings are in the time zone named for the file, or else in UTC")
    return Sheet("cgrates", "UTF-8", "", 1, columns, frame, bad, notes, table=name, tables=plan.plans)


# -- rows that say nothing ---------------------------------------------------------------------------------------------


def _without_blanks(sheet: Sheet) -> None:
    """Take away empty rows, and the header where it comes again: files are often put together of several."""
    cells = pl.all().exclude(LINE)
    frame = sheet.frame.filter(pl.any_horizontal(cells.str.contains(r"\S")))
    if sheet.header_line:
        names = [re.escape(name) for name in sheet.columns]
        again = pl.all_horizontal(
            *(pl.col(str(number)).str.strip_chars() == name for number, name in enumerate(sheet.columns))
        )
        twice = frame.filter(again) if any(names) else frame.clear()
        if twice.height:
            lines = ", ".join(str(line) for line in twice[LINE].head(5).to_list())
            sheet.notes.append(f"the header comes again on line {lines}{' …' if twice.height > 5 else ''}: left out")  # noqa: PLR2004
            frame = frame.filter(~again)
    sheet.frame = frame
