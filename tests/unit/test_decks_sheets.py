"""Bytes become a sheet of texts: what is found out about a file, and the words for what is wrong with it."""

from __future__ import annotations

import io
import zipfile
import zlib
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest
import xlsxwriter  # type: ignore[import-untyped] # has no types

import rating.decks.sheet
import rating.decks.workbook
from rating.decks.deck import BadRow
from rating.decks.sheet import LINE, Sheet, open_sheet
from rating.decks.workbook import NotASheet, check_archive, files_of, read_workbook
from rating.decks.workbook_writing import write_workbook

RATES = b"prefix,price\n49,1\n"


def rows(sheet: Sheet) -> list[tuple[Any, ...]]:
    """Return line and cells of each row."""
    return list(sheet.frame.iter_rows())


def archive(**files: str | bytes) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name.replace("__", "/").replace("_dot_", "."), content)
    return file.getvalue()


def workbook(**sheets: list[list[Any]]) -> bytes:
    """Return a workbook with sheets of rows."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        for name, of_sheet in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(of_sheet):
                sheet.write_row(number, 0, row)
    return file.getvalue()


# -- what a file is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"%PDF-1.7", "the file is a PDF file: save it as CSV or XLSX"),
        (b"\xd0\xcf\x11\xe0\xa1", "the file is an old Excel workbook (XLS): save it as CSV or XLSX"),
        (b"\x1f\x8b\x08", "the file is a compressed file (gzip): save it as CSV or XLSX"),
        (b" \n{}", "the file is JSON: save it as CSV or XLSX"),
        (b"\x89PNG", "the file is a picture: save it as CSV or XLSX"),
        (b"\r\n<!DOCTYPE html>", "the file is a web page or XML: save it as CSV or XLSX"),
        (b"<HTML>", "the file is a web page or XML: save it as CSV or XLSX"),
        (b"<?xml version='1.0'?>", "the file is a web page or XML: save it as CSV or XLSX"),
        (b"<table>", "the file is a web page or XML: save it as CSV or XLSX"),
        (b"prefix,price\n49,\x00", "the file is not text (UTF-8, UTF-16, Windows-1252), and no XLSX either"),
        (b"\xff\xfe4", "not UTF-16 from byte 0 on, though it begins so"),
        (b"\xef\xbb\xbfabc\xff", "not UTF-8 with a mark from byte 3 on, though it begins so"),
        (b"", "expected a header such as prefix,destination,price, found nothing"),
        (b"\n\n", "expected a header such as prefix,destination,price, found nothing"),
    ],
)
def test_a_file_that_is_no_table(data: bytes, told: str) -> None:
    """There is one bad row, the first, and no sheet."""
    sheet = open_sheet(data)
    assert sheet.bad == [BadRow(1, "", told)]
    assert (sheet.kind, sheet.delimiter, sheet.header_line, sheet.columns) == ("", "", 0, ())
    assert sheet.encoding == ("" if data.strip() else "UTF-8")
    assert not rows(sheet)
    assert not sheet.notes
    assert list(sheet.frame.schema.items()) == [(LINE, pl.Int64())]


def test_a_file_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told in megabytes, and nothing is looked at beyond it."""
    monkeypatch.setattr(rating.decks.sheet, "MOST_BYTES", 2 * 1024 * 1024)
    assert open_sheet(b"x" * (2 * 1024 * 1024 + 1)).bad == [BadRow(1, "", "a file has at most 2 MB")]
    monkeypatch.setattr(rating.decks.sheet, "MOST_BYTES", len(RATES))
    assert open_sheet(RATES).bad == []


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", "not utf-8: 'utf-8' codec can't decode byte 0xfc in position 1: invalid start byte"),
        ("x-" + "y" * 50, f"not x-{'y' * 38}: unknown encoding: x-{'y' * 50}"),
        ("z" * 100, f"not {'z' * 40}: unknown encoding: {'z' * 82}"),
    ],
)
def test_an_encoding_that_is_named_and_does_not_fit(encoding: str, told: str) -> None:
    """Nothing else is tried then."""
    assert open_sheet(b"Z\xfcrich", encoding=encoding).bad == [BadRow(1, "", told)]


@pytest.mark.parametrize(
    ("data", "said", "encoding"),
    [
        (RATES, {}, "UTF-8"),
        (b"\xef\xbb\xbf" + RATES, {}, "UTF-8 with a mark"),
        (b"\xff\xfe" + RATES.decode().encode("utf-16-le"), {}, "UTF-16"),
        (b"\xfe\xff" + RATES.decode().encode("utf-16-be"), {}, "UTF-16"),
        (RATES.decode().encode("utf-16-le"), {}, "UTF-16 without a mark"),
        (RATES.decode().encode("utf-16-be"), {}, "UTF-16 without a mark"),
        (b"\xef\xbb\xbf" + RATES, {"encoding": "utf-8"}, "utf-8"),
        (RATES, {"encoding": "latin-1"}, "latin-1"),
        (RATES + b"44,\xfc\n", {}, "Windows-1252 (guessed: it is not UTF-8)"),
        (RATES + b"44,\x81\n", {}, "Windows-1252 (guessed: it is not UTF-8)"),
    ],
)
def test_the_encoding_is_told(data: bytes, said: dict[str, Any], encoding: str) -> None:
    """A mark at the beginning is no part of the first name; a byte that means nothing does not stop the rest."""
    sheet = open_sheet(data, **said)
    assert (sheet.encoding, sheet.kind, sheet.columns, sheet.bad) == (encoding, "csv", ("prefix", "price"), [])
    assert rows(sheet)[0] == (2, "49", "1")


@pytest.mark.parametrize(
    ("name", "text_note", "workbook_note"),
    [
        ("", [], []),
        ("rates.csv", [], ["the file is a workbook (XLSX), whatever its name says"]),
        ("RATES.XLSX", ["the file is text (CSV), whatever its name says"], []),
        ("rates.xlsm", ["the file is text (CSV), whatever its name says"], []),
        (
            "rates.xls",
            ["the file is text (CSV), whatever its name says"],
            ["the file is a workbook (XLSX), whatever its name says"],
        ),
        (
            "rates.ods",
            ["the file is text (CSV), whatever its name says"],
            ["the file is a workbook (XLSX), whatever its name says"],
        ),
    ],
)
def test_a_name_that_says_something_else(name: str, text_note: list[str], workbook_note: list[str]) -> None:
    """The file is read all the same, and the note says so."""
    assert open_sheet(RATES, name=name).notes == text_note
    assert open_sheet(workbook(a=[["prefix", "price"], ["49", 1]]), name=name).notes == workbook_note


# -- lines, delimiters, headers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("prefix,price\n49,1\n", ","), ("prefix;price\n49;1,5\n", ";"), ("prefix\tprice\n49\t1\n", "\t"),
        ("prefix|price\n49|1\n", "|"), ("a,b;c\nprefix;price\n", ";"), ("prefix\n49\n", ","),
        # Of no known name: the one that makes most lines of one width, then the widest.
        ("a;b\n1;2\n3,4\n", ";"), ("a;b,x\nc;d,x\ne;f,x\ng;h\n1;2;3;4\n", ";"),
        ("prefix;price\na,b\nc,d\ne,f\n", ";"), ("a;b,c;d,e;f\n", ";"), ("a,b\nc,d;e\nf,g\n", ","),
    ],
)  # fmt: skip
def test_the_delimiter_is_found_out(text: str, delimiter: str) -> None:
    """The one that makes most of the first lines."""
    assert open_sheet(text.encode(), header=True).delimiter == delimiter


def test_a_delimiter_may_be_named() -> None:
    """Then the others are a part of the cells."""
    sheet = open_sheet(b"prefix;price,x\n49;1,5\n", delimiter=",", header=True)
    assert (sheet.columns, rows(sheet)) == (("prefix;price", "x"), [(2, "49;1", "5")])


@pytest.mark.parametrize(
    ("text", "header", "line", "columns"),
    [
        ("title\n\nprefix,price\n49,1\n", None, 3, ("prefix", "price")),
        ("prefix,x\nprefix,price\n", None, 2, ("prefix", "price")),
        # A list of prefixes has one column.
        ("prefix\n49\n", None, 1, ("prefix",)),
        ("\n,prefix,\n,49,\n", None, 2, ("", "prefix", "")),
        ("rates,x\nprefix\n49\n", None, 2, ("prefix",)),
        # One name among others is a chance.
        ("prefix,x\n49,1\n", None, 0, ("A", "B")),
        ("49,1\n", None, 0, ("A", "B")),
        # Somebody says that there is one, or none.
        ("prefix,x\n49,1\n", True, 1, ("prefix", "x")),
        ("\n , \nfoo,bar\n49,1\n", True, 3, ("foo", "bar")),
        ("prefix,price\n49,1,2\n", False, 0, ("A", "B", "C")),
    ],
)
def test_the_header_is_found_out(text: str, header: bool | None, line: int, columns: tuple[str, ...]) -> None:
    """The first line that names most columns, two at least; titles above it are passed."""
    sheet = open_sheet(text.encode(), header=header)
    assert (sheet.header_line, sheet.columns) == (line, columns)


def test_columns_without_a_header_have_letters() -> None:
    """As in a spreadsheet: after Z comes AA, after ZZ comes AAA."""
    sheet = open_sheet((",".join(["1"] * 54)).encode(), header=False)
    letters = [chr(ord("A") + number) for number in range(26)]
    assert sheet.columns == (*letters, *(f"A{letter}" for letter in letters), "BA", "BB")
    assert [rating.decks.sheet._letter(number) for number in (701, 702)] == ["ZZ", "AAA"]


def test_a_table_has_a_widest_width() -> None:
    """Two hundred columns; more are no table of rates."""
    head = ["prefix", "price"]
    assert len(open_sheet(",".join([*head, *["x"] * 198]).encode()).columns) == 200
    wide = open_sheet(",".join([*head, *["x"] * 199]).encode())
    found = ",".join([*head, *["x"] * 199])[:40]
    told = f"expected a header such as prefix,destination,price, found '{found}…'"
    assert (wide.columns, wide.bad) == ((), [BadRow(1, "", told)])
    assert open_sheet(b'prefix, "price"\n49,1\n').columns == ("prefix", "price")
    short = "x" * 9
    monkey = open_sheet(f"\n{short}{',' * 200}".encode(), header=True)
    assert monkey.bad[0].reason.endswith(f"found '{short}{',' * 31}…'")


def test_lines_keep_their_numbers() -> None:
    """Blank lines and lines of nothing but delimiters are no rows; short rows are filled up."""
    sheet = open_sheet(b"x\n\nprefix,price\n\n49,1\n , \n44\r\n1,2,,\r33,4")
    assert rows(sheet) == [(5, "49", "1"), (7, "44", ""), (8, "1", "2"), (9, "33", "4")]
    assert (sheet.header_line, sheet.bad) == (3, [])
    quoted = open_sheet(b'x\n\nprefix,price\n\n"49",1\n , \n44\r\n1,2,,\r33,"4"')
    assert (rows(quoted), quoted.bad) == (rows(sheet), [])
    over = open_sheet(b'prefix,price\n"4\n9",1\n44,"a ""b"""\n')
    assert rows(over) == [(2, "4\n9", "1"), (4, "44", 'a "b"')]


def test_a_space_before_a_quote_is_no_part_of_the_cell() -> None:
    """In rows as in the header."""
    assert rows(open_sheet(b'prefix,price\n49, "1"\n')) == [(2, "49", "1")]


def test_a_workbook_with_a_header_alone() -> None:
    """Its columns are texts all the same; two hundred of them are not too many."""
    sheet = open_sheet(workbook(rates=[["prefix", "price", *["x"] * 198]]))
    assert (sheet.bad, len(sheet.columns), rows(sheet)) == ([], 200, [])
    assert set(sheet.frame.schema.values()) == {pl.Int64(), pl.String()}


def test_rows_that_are_too_wide_are_named() -> None:
    """With how many fields there may be, and are; the same with quotes and without."""
    told = BadRow(3, "", "expected at most 2 fields, found 4")
    for text in (b"prefix,price\n49,1\n44,1,,x\n33,1\n", b'prefix,price\n"49",1\n44,1,,"x"\n33,1\n'):
        sheet = open_sheet(text)
        assert (rows(sheet), sheet.bad) == ([(2, "49", "1"), (4, "33", "1")], [told])
    assert open_sheet(b'prefix,price\n49,1\n"44"x,1\n').bad == [BadRow(3, "", "not CSV: ',' expected after '\"'")]
    assert open_sheet(b'prefix,price\n49,"1\n').bad == [BadRow(2, "", "not CSV: unexpected end of data")]


def test_bad_rows_of_a_sheet_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many the file is something else."""
    monkeypatch.setattr(rating.decks.sheet, "MOST_BAD", 2)
    for row in (b"1,1,1\n", b'1,1,"1"\n', b'"1"x,1\n'):
        assert len(open_sheet(b"prefix,price\n" + row * 4).bad) == 2


def test_reading_stops_where_the_file_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a line without end, or after so many rows; what came before is there."""
    monkeypatch.setattr(rating.decks.sheet, "MOST_LINE", 20)
    long = open_sheet(b"prefix,price\n49,1\n44," + b"1" * 17 + b"\n33," + b"1" * 18 + b"\n1,1\n")
    assert long.bad == [BadRow(4, "", "a line has at most 20 characters; reading stopped")]
    assert [row[:2] for row in rows(long)] == [(2, "49"), (3, "44")]
    at_once = open_sheet(b"x" * 21)
    assert (at_once.kind, at_once.delimiter, at_once.header_line, at_once.columns) == ("csv", ",", 0, ())
    assert at_once.bad == [BadRow(1, "", "a line has at most 20 characters; reading stopped")]
    assert at_once.frame.columns == [LINE]
    monkeypatch.setattr(rating.decks.sheet, "MOST_ROWS", 2)
    many = open_sheet(b"x\nprefix,price\n1,1\n2,1\n3,1\n4,1\n")
    assert many.bad == [BadRow(5, "", "reading stopped here, after 2 rows")]
    assert [row[0] for row in rows(many)] == [3, 4]
    assert open_sheet(b"prefix,price\n1,1\n2,1\n").bad == []


def test_a_header_that_comes_again_is_told() -> None:
    """The first five lines of it."""
    head = b"prefix,price\n"
    assert open_sheet(head + b"1,1\n prefix , price \n").notes == ["the header comes again on line 3: left out"]
    many = open_sheet(head * 7 + b"1,1\n")
    assert many.notes == ["the header comes again on line 2, 3, 4, 5, 6 …: left out"]
    assert rows(many) == [(8, "1", "1")]
    assert open_sheet(head * 6 + b"1,1\n").notes == ["the header comes again on line 2, 3, 4, 5, 6: left out"]
    # Without a header nothing comes again.
    assert len(rows(open_sheet(b"A,B\nA,B\n", header=False))) == 2


# -- workbooks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("x ", "x "),
        (None, ""),
        (True, "1"),
        (False, "0"),
        (0.1, "0.1"),
        (44.0, "44"),
        (100.0, "100"),
        (1.50, "1.5"),
        (1e-5, "0.00001"),
        (0.0, "0"),
        (-2.0, "-2"),
        (999_999_999_999_999.0, "999999999999999"),
        (1e15, "1.00000E+15"),
        (-1e15, "-1.00000E+15"),
        (float("inf"), "Infinity"),
        (datetime(2026, 12, 1, 8, tzinfo=UTC), "2026-12-01T08:00:00+00:00"),
        (date(2026, 12, 1), "2026-12-01"),
        (time(8, 30), "08:30:00"),
        (timedelta(minutes=1), "0:01:00"),
    ],
)
def test_a_cell_of_a_workbook_as_a_text(cell: Any, text: str) -> None:
    """As a person sees it, all digits; a number that has lost some looks like it."""
    assert rating.decks.workbook._text(cell) == text


def test_a_sheet_of_a_workbook() -> None:
    """The one named, or the one most like rates; lines are those of the sheet, empty rows above it counted."""
    table: list[list[Any]] = [[], [], ["prefix", "price"], ["49", 1, "x"], [], ["44", 2.5]]
    data = workbook(about=[["our rates"]], rates=table, old=[["prefix"], ["33"]])
    sheet = open_sheet(data)
    assert (sheet.kind, sheet.table, sheet.tables) == ("xlsx", "rates", ("about", "rates", "old"))
    assert (sheet.encoding, sheet.delimiter, sheet.header_line, sheet.columns) == ("", "", 3, ("prefix", "price", ""))
    assert (rows(sheet), sheet.notes) == ([(4, "49", "1", "x"), (6, "44", "2.5", "")], [])
    named = open_sheet(workbook(rates=[["foo", "bar"], ["49", "1"]]), header=True)
    assert (named.header_line, named.columns) == (1, ("foo", "bar"))
    assert open_sheet(data, table="rates", header=False).columns == ("A", "B", "C")
    old = open_sheet(data, table="old")
    assert (old.table, old.header_line, rows(old)) == ("old", 1, [(2, "33")])
    without = open_sheet(workbook(rates=[[], ["49", "1"]]))
    assert (without.header_line, without.columns, rows(without)) == (0, ("A", "B"), [(2, "49", "1")])
    # Of two that are alike the first.
    assert open_sheet(workbook(a=table, b=table)).table == "a"


def test_a_workbook_without_rates() -> None:
    """The sheet, or what there is instead of it, is named."""
    assert open_sheet(workbook(about=[])).bad == [BadRow(1, "", "the sheet 'about' has no rates in it")]
    data = workbook(about=[["prefix", "price"], ["49", 1]], more=[])
    for name in ("other", "o" * 41):
        told = f"there is no sheet {name[:40]!r}; the workbook has about, more"
        assert open_sheet(data, table=name).bad == [BadRow(1, "", told)]
    with pytest.raises(NotASheet, match=r"^the workbook cannot be read: (?!None)."):
        read_workbook(archive(xl__workbook_dot_xml="x"), "", 1)
    with pytest.raises(NotASheet, match=r"^a sheet has at most 1 rows$"):
        read_workbook(data, "", 1)
    assert len(read_workbook(data, "", 2).rows) == 2
    wide = workbook(a=[["prefix", "price", *["x"] * 199]])
    assert open_sheet(wide).bad == [BadRow(1, "", "the sheet 'a' has no rates in it")]


def test_an_archive_is_counted_before_it_unfolds(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much it holds, how many files, and how far its sheets reach."""
    module = rating.decks.workbook
    monkeypatch.setattr(module, "MOST_UNPACKED", 2 * 1024 * 1024)
    with pytest.raises(NotASheet, match=r"^the archive unfolds to more than 2 MB$"):
        check_archive(archive(a=b"0" * (2 * 1024 * 1024), b=b"1"))
    assert not check_archive(archive(a=b"0" * (2 * 1024 * 1024)))
    monkeypatch.setattr(module, "MOST_ENTRIES", 2)
    assert check_archive(archive(a="", xl__workbook_dot_xml=""))
    with pytest.raises(NotASheet, match=r"^the archive unfolds to more than 2 MB$"):
        check_archive(archive(a="", b="", c=""))
    monkeypatch.setattr(module, "MOST_CELLS", 20)
    assert not check_archive(archive(xl__worksheets__s=b'<c r="B2"/><c r="D5"/><row r="3"/>'))
    told = "a sheet reaches to row 7, column 3: it is laid out too large to be a deck"
    with pytest.raises(NotASheet, match=f"^{told}$"):
        check_archive(archive(xl__worksheets__s=b'<c r="C2"/><row r="7"/><c r="A1"/>'))
    with pytest.raises(NotASheet, match="row 3, column 27:"):
        check_archive(archive(worksheets__s=b"<c r='AA3'/>"))
    assert not check_archive(archive(xl__other=b'<c r="C7"/>'))


def test_a_sheet_is_counted_over_the_seams_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that lies across two pieces is seen."""
    monkeypatch.setattr(rating.decks.workbook, "_CHUNK", 70)
    monkeypatch.setattr(rating.decks.workbook, "MOST_CELLS", 20)
    for before in range(60, 75):
        with pytest.raises(NotASheet, match="row 7, column 703:"):
            check_archive(archive(worksheets__s=b" " * before + b'<c r="AAA0000007"/>' + b" " * 200))


def test_an_archive_that_is_damaged() -> None:
    """Said as such, whatever is wrong with it."""
    with pytest.raises(NotASheet, match=r"^the file is not text \(UTF-8 …\), and no whole workbook: File is not a zip"):
        check_archive(b"PK\x03\x04")
    whole = archive(a=zlib.compress(bytes(range(256)) * 9))
    with pytest.raises(
        NotASheet, match=r"^the file is not text \(UTF-8 …\), and no whole workbook: Bad CRC-32 for file"
    ):
        check_archive(whole[:40] + b"\xff" * 20 + whole[60:])
    # No block of packed bytes begins so, right behind the head of the entry.
    with pytest.raises(NotASheet, match=r"^the workbook is damaged$"):
        check_archive(whole[:31] + b"\xff" + whole[32:])


def test_the_csv_files_of_an_archive() -> None:
    """By their names without folder and ending; others are passed."""
    assert files_of(archive(a__Rates_dot_csv="x", Timings_dot_CSV="y", readme_dot_txt="z")) == {
        "Rates": b"x",
        "Timings": b"y",
    }


def test_a_workbook_is_written_as_texts() -> None:
    """Every cell is text, empty ones are there, and what XML cannot hold is replaced; the same rows, the same bytes."""
    written = [io.BytesIO(), io.BytesIO()]
    for file in written:
        write_workbook(file, [[["prefix", ""]], [["a<&>b", " x_x0041_ "], ["\ufffe\uffff", "_x004_"]]])
    assert written[0].getvalue() == written[1].getvalue()
    with zipfile.ZipFile(written[0]) as zipped:
        entries = {entry.filename: entry for entry in zipped.infolist()}
        sheet = zipped.read("xl/worksheets/sheet1.xml").decode()
    assert list(entries) == [
        "[Content_Types].xml", "_rels/.rels", "xl/workbook.xml", "xl/_rels/workbook.xml.rels",
        "xl/worksheets/sheet1.xml",
    ]  # fmt: skip
    assert {(entry.date_time, entry.compress_type) for entry in entries.values()} == {((1980, 1, 1, 0, 0, 0), 8)}
    cell = '<c t="inlineStr"><is><t xml:space="preserve">'
    assert sheet == (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        f"<row>{cell}prefix</t></is></c><c/></row>"
        f"<row>{cell}a&lt;&amp;&gt;b</t></is></c>{cell} x_x005F_x0041_ </t></is></c></row>"
        f"<row>{cell}\ufffd\ufffd</t></is></c>{cell}_x004_</t></is></c></row>"
        "</sheetData></worksheet>"
    )
