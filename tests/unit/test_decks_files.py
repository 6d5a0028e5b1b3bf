"""Whole files: encodings, delimiters, headers, workbooks, bombs, and the exports of other systems."""

from __future__ import annotations

import io
import random
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import xlsxwriter  # type: ignore[import-untyped] # has no types

import rating.decks.workbook
from rating.decks.changes import Mode
from rating.decks.deck import Deck
from rating.decks.mapping import guess_mapping, mapped
from rating.decks.reading import guess, read_deck
from rating.decks.sheet import open_sheet
from rating.errors import TariffError
from rating.pricing import cost
from rating.tariff import Rounding, RoundingMode, Step

ROUNDING = Rounding(RoundingMode.UP, 4)
PLAIN = "prefix,destination,price\n49,Zürich,0.5\n"


def read(data: bytes, **said: Any) -> Deck:
    """Read a file with all that is guessed about it."""
    sheet = open_sheet(data, **said)
    return read_deck(sheet, guess(sheet), rounding=ROUNDING)


def prices(deck: Deck) -> dict[str, str]:
    """Return the price of each prefix; there must be no bad row."""
    assert deck.bad == ()
    return {rate.prefix: str(rate.steps[0].price) for rate in deck.rates}


def archive(**files: str | bytes) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def workbook(rows: list[list[Any]], *, first: int = 0, **options: Any) -> bytes:
    """Return a workbook with rows from line `first` on."""
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True, **options}) as book:
        book.add_worksheet("about").write_row(0, 0, ["these are", "our rates"])
        sheet = book.add_worksheet("rates")
        for number, row in enumerate(rows):
            sheet.write_row(first + number, 0, row)
    return file.getvalue()


# -- encodings and tables ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (PLAIN.encode(), "UTF-8"),
        (PLAIN.encode("utf-8-sig"), "UTF-8 with a mark"),
        (PLAIN.encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "UTF-16"),
        (PLAIN.encode("utf-16-le"), "UTF-16 without a mark"),
        (PLAIN.encode("utf-16-be"), "UTF-16 without a mark"),
        (PLAIN.encode("windows-1252"), "Windows-1252 (guessed: it is not UTF-8)"),
    ],
)
def test_encodings_are_found_out(data: bytes, encoding: str) -> None:
    """Each is read as what it is, and named, so that a person can say no."""
    sheet = open_sheet(data)
    assert (sheet.encoding, sheet.frame["1"].to_list()) == (encoding, ["Zürich"])
    assert prices(read(data)) == {"49": "0.5"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"%PDF-1.7 x", "a PDF file"),
        (b"<html><table>", "a web page"),
        (b"\xd0\xcf\x11\xe0\xa1", "an old Excel workbook"),
        (b"\x1f\x8b\x08", "a compressed file"),
        (b'{"rates": []}', "JSON"),
        (b"prefix,price\n49,\x00\x00", "not text"),
        (b"\xff\xfe4", "not UTF-16"),
        (archive(a="x"), "neither a workbook nor a plan of CGRateS"),
        (b"PK\x03\x04\xff\xfe", "no whole workbook"),
        (b"", "found nothing"),
    ],
)
def test_a_file_that_is_something_else_says_what(data: bytes, told: str) -> None:
    """A file is what its bytes say, whatever its name; the reason is told in words."""
    deck = read(data, name="rates.csv")
    assert len(deck.bad) == 1
    assert told in deck.bad[0].reason
    assert len(deck) == 0


def test_a_wrong_name_is_told() -> None:
    """CSV that is called XLSX, and the other way round, are read all the same."""
    assert "is text (CSV)" in open_sheet(PLAIN.encode(), name="rates.xlsx").notes[0]
    assert "is a workbook" in open_sheet(workbook([["prefix", "price"], ["49", 1]]), name="rates.csv").notes[0]


def test_titles_above_the_header_are_passed() -> None:
    """The header is the first line that looks like one; lines keep their numbers."""
    deck = read(b"Carrier Ltd;;\nvalid from;2026-12-01;\n\nDial Code;Destination;Rate\n49;Germany;0,015\n44;UK;x\n")
    assert [(bad.line, bad.column) for bad in deck.bad] == [(6, "Rate")]
    assert deck.rates[0].steps[0].price == Decimal("0.015")


def test_a_header_that_comes_again_is_left_out() -> None:
    """Decks are put together of several files; the note says where."""
    data = b"prefix,price\n49,1\nprefix,price\n44,1\n"
    assert prices(read(data)) == {"49": "1", "44": "1"}
    assert open_sheet(data).notes == ["the header comes again on line 3: left out"]


def test_a_file_without_header_is_read_by_numbers() -> None:
    """Nothing is guessed of it, and columns are named by their number or letter."""
    sheet = open_sheet(b"49;Germany;0.5\n44;UK;0.7\n", header=False)
    assert sheet.columns == ("A", "B", "C")
    mapping = mapped(guess(sheet), sheet.columns, ["1=prefix", "c=price"])
    deck = read_deck(sheet, mapping, rounding=ROUNDING)
    assert prices(deck) == {"49": "0.5", "44": "0.7"}
    for wrong in ("9=price", "A", "A=prize", "=prefix"):
        with pytest.raises(TariffError):
            mapped(mapping, sheet.columns, [wrong])


def test_empty_fields_at_the_end_are_no_fields() -> None:
    """Spreadsheets write them; anything in them is a row with too many fields."""
    assert prices(read(b"prefix,price\n49,1,,,\n")) == {"49": "1"}
    assert [bad.line for bad in read(b'prefix,price\n49,"1",,x\n44,1,2\n').bad] == [2, 3]


def test_lines_with_and_without_quotes_are_read_alike() -> None:
    """One quote in a file makes another reader read it; both must say the same of the same rows."""
    chance = random.Random(5)
    cells = ["49", "", " x", "0.5", "é", "1,5", "a b", "-", "'"]
    for _ in range(300):
        width = chance.randint(1, 4)
        rows = [[chance.choice(cells) for _ in range(chance.randint(0, 5))] for _ in range(chance.randint(0, 6))]
        text = ";".join(["prefix", "price", "x", "y"][:width]) + "\n" + "\n".join(";".join(row) for row in rows)
        plain = open_sheet(text.encode(), delimiter=";", header=True)
        quoted = open_sheet((text + '\n"":""').replace('\n"":""', '\n""', 1).encode(), delimiter=";", header=True)
        strip = [column for column in plain.frame.columns if column != "#line"]
        left = [tuple(cell.lstrip(" ") for cell in row) for row in plain.frame.select(strip).iter_rows()]
        right = [tuple(cell.lstrip(" ") for cell in row) for row in quoted.frame.select(strip).iter_rows()]
        assert left == right
        assert plain.frame["#line"].to_list() == quoted.frame["#line"].to_list()
        assert [bad.line for bad in plain.bad] == [bad.line for bad in quoted.bad]


# -- workbooks ---------------------------------------------------------------------------------------------------------


def test_a_workbook_is_read() -> None:
    """The sheet with rates is found; numbers are what was typed; lines are those of the sheet."""
    rows: list[list[Any]] = [
        ["Code", "Destination", "Rate", "Interval 1"],
        [49, "Germany", 0.015, 60],
        ["49151", "Mobile", 0.1, 1],
        [44.0, "UK", 0.5, 1],
        [1e15, "too long", 1, 1],
        ["49x", "x", 1, 1],
    ]
    sheet = open_sheet(workbook(rows, first=2))
    deck = read_deck(sheet, guess(sheet), rounding=ROUNDING)
    assert (sheet.table, sheet.tables, sheet.header_line) == ("rates", ("about", "rates"), 3)
    assert [(bad.line, bad.column) for bad in deck.bad] == [(7, "Code"), (8, "Code")]
    assert [(rate.prefix, str(rate.steps[0].price)) for rate in deck.rates] == [
        ("49", "0.015"), ("49151", "0.1"), ("44", "0.5"),
    ]  # fmt: skip
    assert "there is no sheet" in open_sheet(workbook(rows), table="other").bad[0].reason


def test_a_date_of_a_workbook_needs_a_zone() -> None:
    """A spreadsheet knows no zones, so one is named for the file; midnight there, not here."""
    made = io.BytesIO()
    with xlsxwriter.Workbook(made, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["prefix", "price", "effective date"])
        sheet.write_row(1, 0, ["49", 1])
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        sheet.write_datetime(1, 2, datetime(2026, 12, 1), day)  # noqa: DTZ001 - as a spreadsheet has it
    found = open_sheet(made.getvalue())
    bad = read_deck(found, guess(found), rounding=ROUNDING).bad
    assert "which time zone" in bad[0].reason
    zoned = guess_mapping(found.columns)
    deck = read_deck(found, mapping_in(zoned, "Europe/Berlin"), rounding=ROUNDING)
    assert deck.rates[0].effective_at == datetime(2026, 11, 30, 23, tzinfo=UTC)


def mapping_in(mapping: Any, zone: str) -> Any:
    """Return a mapping with a zone."""
    from dataclasses import replace

    return replace(mapping, zone=zone)


def test_a_bomb_does_not_unfold(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the limit unfolded, one cell in the last corner, a size that lies: refused before it is laid out."""
    monkeypatch.setattr(rating.decks.workbook, "MOST_UNPACKED", 1_000_000)
    bomb = archive(xl__workbook=b"", **{"xl__workbook.xml": b"<x/>", "xl__sheet": b"0" * 2_000_000})
    assert "unfolds to more than" in read(bomb).bad[0].reason
    monkeypatch.undo()
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"in_memory": True}) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["prefix", "price"])
        sheet.write(1_048_575, 16_383, "x")
    assert "reaches to row 1048576, column 16384" in read(file.getvalue()).bad[0].reason
    lie = bytearray(archive(**{"xl__workbook.xml": b"1" * 5000, "xl__a": b"0" * 100_000}))
    place = lie.rindex(b"xl/a") - 46 + 24
    lie[place : place + 4] = (50).to_bytes(4, "little")
    assert read(bytes(lie)).bad[0].reason


# -- numbers and prefixes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "read_as"),
    [
        (["0,5", "1,25"], ["0.5", "1.25"]),
        (["0.5", "1.25"], ["0.5", "1.25"]),
        (["1.234", "2.500"], ["1.234", "2.500"]),
        (["1.234,50", "0,10"], ["1234.50", "0.10"]),
        (["1,234.50", "0.10"], ["1234.50", "0.10"]),
        (["1 234,5", "0,1"], ["1234.5", "0.1"]),
        (["1'234.5", "0.1"], ["1234.5", "0.1"]),
        (["5E-05", "1.5e-3"], ["0.00005", "0.0015"]),
    ],
)
def test_numbers_are_read_as_they_are_meant(cells: list[str], read_as: list[str]) -> None:
    """Decimal commas, thousands, small numbers of a spreadsheet."""
    text = "prefix;price\n" + "".join(f"{number};{cell}\n" for number, cell in enumerate(cells, 1))
    deck = read(text.encode())
    assert deck.bad == ()
    assert [rate.steps[0].price for rate in deck.rates] == [Decimal(number) for number in read_as]


@pytest.mark.parametrize(
    ("cells", "bad"),
    [
        (["1,234"], [2]),
        (["1,234", "2,500"], [2, 3]),
        (["0.5", "1,234"], [3]),
        (["0,5", "1.234"], [3]),
        (["0.5", "0.7", "0,5"], [4]),
        (["1E5"], [2]),
        (["1e400"], [2]),
        (["5E-19"], [2]),
        (["nan", "inf", "-inf", "-0.5", "0x1", "1_000", "\u0661"], [2, 3, 4, 5, 6, 7, 8]),
        (["1.2.3", "1,2,3"], [2, 3]),
    ],
)
def test_numbers_in_doubt_are_refused(cells: list[str], bad: list[int]) -> None:
    """Better no price than a thousand times the price."""
    text = "prefix;price\n" + "".join(f"{number};{cell}\n" for number, cell in enumerate(cells, 1))
    assert [(row.line, row.column) for row in read(text.encode()).bad] == [(line, "price") for line in bad]


def test_somebody_may_say_which_mark_is_meant() -> None:
    """Then a single group of thousands is one."""
    sheet = open_sheet(b"prefix;price\n1;1,234\n2;5,678\n")
    for decimal, first in ((",", "1.234"), (".", "1234")):
        from dataclasses import replace

        deck = read_deck(sheet, replace(guess(sheet), decimal=decimal), rounding=ROUNDING)
        assert prices(deck)["1"] == first


@pytest.mark.parametrize(
    ("cell", "prefixes"),
    [
        ("+49", "49"), ("49 151", "49151"), ("(49)151", "49151"), ("4915-4917", "4915 4916 4917"),
        ("4915–17", "4915 4916 4917"), ("1242-3", "1242 1243"), ("099-101", "099 100 101"),
        ("49151;49152", "49151 49152"), ("49151, 49153-49154", "49151 49153 49154"), ("49.0", "49"),
        ("'0049", "0049"), ("*", ""), ("01/02", "01 02"),
    ],
)  # fmt: skip
def test_prefixes_are_read_as_they_are_meant(cell: str, prefixes: str) -> None:
    """Plus signs, spaces, ranges and lists become prefixes; nothing but digits is left."""
    deck = read(f'prefix;price\n"{cell}";1\n'.encode())
    assert deck.bad == ()
    assert [rate.prefix for rate in deck.rates] == prefixes.split(" ")
    assert len(deck.notes) == (cell not in {"'0049", "*"})


@pytest.mark.parametrize(
    "cell",
    ["", "4.91E+10", "1E5", "49a", "49-30", "49-151", "4-", "-4", "1-99999", "'4x", "''49", "٤٩", "#N/A", "1" * 33],
)
def test_what_is_no_prefix_is_refused(cell: str) -> None:
    """Numbers that a spreadsheet has cut, letters, ranges that make no sense."""
    bad = read(f'prefix;price\n1;1\n"{cell}";1\n'.encode()).bad
    assert [(row.line, row.column) for row in bad] == [(3, "prefix")]


def test_00_is_taken_away_where_most_prefixes_have_it() -> None:
    """It is shown with an example; in a deck with few of them it stays."""
    deck = read(b"prefix,price\n0049,1\n0044,1\n1,1\n")
    assert [rate.prefix for rate in deck.rates] == ["49", "44", "1"]
    assert "00 before the country code" in deck.notes[0].what
    assert [rate.prefix for rate in read(b"prefix,price\n0049,1\n44,1\n1,1\n").rates] == ["0049", "44", "1"]


def test_country_and_area_codes_are_put_together() -> None:
    """A list of area codes, each behind the country code; none means the country."""
    deck = read(b'Country Code;Area Codes;Destination;Rate\n49;"151,152";Mobile;1\n49;;Germany;2\n')
    assert [(rate.prefix, str(rate.steps[0].price)) for rate in deck.rates] == [
        ("49151", "1"),
        ("49152", "1"),
        ("49", "2"),
    ]


def test_one_prefix_may_have_several_dates_but_no_date_twice() -> None:
    """The second row from the same time on is bad and says where the first is."""
    head = "prefix,price,effective_at,expires_at\n"
    assert len(read(f"{head}49,1,,\n49,2,2026-12-01T00:00Z,\n".encode())) == 2
    twice = read(f"{head}49,1,2026-12-01T00:00Z,\n49,2,2026-12-01T01:00+01:00,\n".encode())
    assert "line 2 already, from the same time on" in twice.bad[0].reason
    for cell in ("12/01/2026", "soon", "2026-13-01", "2026-12-01"):
        assert read(f"{head}49,1,{cell},\n".encode()).bad[0].column == "effective_at"
    late = read(f"{head}49,1,2026-12-02T00:00Z,2026-12-01T00:00Z\n".encode())
    assert (late.bad[0].column, late.bad[0].reason) == ("expires_at", "is later than the time it begins")


@pytest.mark.parametrize(
    ("columns", "cells", "column"),
    [
        ("steps", "0.1/60x60 | 30: 0.2/60x1 | 20: 0.3", "steps"),
        ("steps", "0.1/60x0", "steps"),
        ("steps", "0.1/0x1", "steps"),
        ("steps", "5: 0.1", "steps"),
        ("bands", "[Mon-Fri 08:00-18:00] 0.1", "bands"),
        ("bands", "[] 0.1 ; [Sun] 0.2", "bands"),
        ("bands", "[Mon-Fry] 0.1", "bands"),
        ("bands", "[25:00-26:00] 0.1", "bands"),
        ("bands", "[Mon] 0.1 ;", "bands"),
        ("price,surcharges", "1,30 0.1", "surcharges"),
        ("price,steps", "1,0.1", "steps"),
        ("price,outside", "1,never", "outside"),
        ("price,rounding", "1,up", "rounding"),
        ("price,timezone", "1,Mars/Olympus", "timezone"),
        ("price,max_charge,min_charge", "1,1,2", "max_charge"),
        ("price,increment_s", "1,0", "increment_s"),
        ("price,increment_s", "1,0.0001", "increment_s"),
    ],
)
def test_rates_that_make_no_sense_are_named_by_their_column(columns: str, cells: str, column: str) -> None:
    """Steps out of order, zero increments, gaps in the week, overlapping bands: the cell and the reason."""
    bad = read(f"prefix,{columns}\n49,{cells}\n".encode()).bad
    assert [(row.line, row.column) for row in bad] == [(2, column)]
    assert bad[0].reason


def test_the_increments_of_carriers_are_read() -> None:
    """60/1 in one cell: the first and the next."""
    deck = read(b"prefix,price,increment_s\n49,0.06,60/1\n44,0.06,1\n")
    assert deck.rates[0].steps == (Step(0, Decimal("0.06"), 60, 60), Step(60, Decimal("0.06"), 60, 1))


def test_another_currency_is_bad() -> None:
    """A deck in dollars is not imported into euros."""
    sheet = open_sheet(b"prefix,price,currency\n49,1,EUR\n44,1,usd\n1,1,\n")
    deck = read_deck(sheet, guess(sheet), rounding=ROUNDING, currency="EUR")
    assert [(row.line, row.column) for row in deck.bad] == [(3, "currency")]


# -- other systems -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "costs"),
    [
        # The price of 61 s: 31 s are 42 in ASTPP and Yeti, 36 in A2Billing and MagnusBilling, with 30/12 (see docs).
        (
            "a2billing",
            (
                '"dialprefix";"destination";"rateinitial";"initblock";"billingblock";"connectcharge"\n'
                '"49";"Germany";"0.60000";"30";"12";"0.00000"\n'
            ),
            {"49": 360_000},
        ),
        (
            "magnusbilling7",
            'Prefix;Destination;"Sell price";"Initial block";"Billing block"\n49;Germany;0.600000;30;12\n',
            {"49": 360_000},
        ),
        (
            "astpp",
            (
                'Code,Destination,Country,"Connection Cost(USD)","Grace Time","Cost / Min(USD)","Initial Increment",'
                'Increment,"Rate Group","Created Date","Modified Date",Status\n'
                "49,Germany,Germany,0.00000,0,0.60000,30,12,default,,,Active\n"
                "44,UK,UK,0.00000,0,0.60000,30,12,default,,,Inactive\n"
            ),
            {"49": 420_000},
        ),
        (
            "yeti",
            (
                "Id,Enabled,Prefix,Dst number min length,Country name,Network name,Rate group name,Reject calls,"
                "Initial interval,Next interval,Initial rate,Next rate,Connect fee,Attempt fee,Valid from,Valid till\n"
                "1,true,49,0,Germany,DT,g,false,30,12,0.6,0.6,0.0,0.0,2020-01-01 00:00:00 UTC,2099-01-01 00:00:00 UTC\n"
                "2,false,44,0,UK,BT,g,false,30,12,0.6,0.6,0.0,0.0,,\n"
            ),
            {"49": 420_000},
        ),
    ],
)
def test_exports_of_other_systems_are_recognised(name: str, text: str, costs: dict[str, int]) -> None:
    """By their header; each costs what its own system charges; what is switched off there is left out, and told."""
    sheet = open_sheet(text.encode())
    mapping = guess(sheet)
    deck = read_deck(sheet, mapping, rounding=ROUNDING)
    assert (mapping.format, mapping.is_exact, deck.bad) == (name, False, ())
    assert {rate.prefix: cost(rate, 31)[0] for rate in deck.rates} == costs
    assert deck.rates[0].destination in {"Germany", "DT"}
    assert bool(deck.skipped) == (name in {"astpp", "yeti"})


def test_a_short_export_of_a2billing_is_recognised() -> None:
    """Three columns are what it exports by default."""
    sheet = open_sheet(b'"destination","dialprefix","rateinitial"\n"Germany","49","0.5"\n')
    assert guess(sheet).format == "a2billing"
    assert prices(read_deck(sheet, guess(sheet), rounding=ROUNDING)) == {"49": "0.5"}


def test_what_a_rate_cannot_say_is_bad() -> None:
    """A fee for an attempt, a rounding above a threshold: refused by column, never left out."""
    yeti = b"prefix,next_rate,initial_rate,attempt_fee\n49,1,1,0.1\n44,1,1,0.0\n"
    assert [(row.line, row.column) for row in read(yeti).bad] == [(2, "attempt_fee")]
    a2b = b"dialprefix,rateinitial,rounding_calltime,rounding_threshold\n49,1,5,3\n"
    assert [(row.line, row.column) for row in read(a2b).bad] == [(2, "rounding_calltime")]


def test_one_file_of_destination_rates_is_enough_for_a_table() -> None:
    """A single table with the columns of CGRateS is a format of its own."""
    sheet = open_sheet(b"Prefix,Rate,RateUnit,RateIncrement\n49,0.6,60s,1s\n")
    assert guess(sheet).format == "cgrates"
    assert cost(read_deck(sheet, guess(sheet), rounding=ROUNDING).rates[0], 31)[0] == 310_000


def test_what_is_to_be_removed_needs_no_price() -> None:
    """A list of prefixes is a deck of removals."""
    sheet = open_sheet(b"prefix\n49\n4915-4916\n")
    deck = read_deck(sheet, guess(sheet), rounding=ROUNDING, prices=False)
    assert (deck.bad, deck.rows["prefix"].to_list()) == ((), ["49", "4915", "4916"])
    assert Mode.REMOVE in list(Mode)
