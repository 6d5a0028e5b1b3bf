"""Rate decks: every bad row is named with line, column and reason."""

from __future__ import annotations

from decimal import Decimal

import pytest

import rating.decks.reading
import rating.decks.sheet
from rating.decks.deck import BadRow, Deck
from rating.decks.reading import guess, read_deck
from rating.decks.sheet import open_sheet
from rating.tariff import Rate, Rounding, RoundingMode, Step

HEADER = "prefix,destination,connect_fee,price,per_s,first_increment_s,increment_s,barred\n"
ROUNDING = Rounding(RoundingMode.UP, 4)


def read(text: str | bytes) -> Deck:
    """Read a deck from a file as it stands, with what is guessed about it."""
    sheet = open_sheet(text.encode() if isinstance(text, str) else text)
    return read_deck(sheet, guess(sheet), rounding=ROUNDING)


def reasons(text: str) -> list[tuple[int, str]]:
    """Return line and column of each bad row; there is a reason for each."""
    bad = read(text).bad
    assert all(row.reason for row in bad)
    return [(row.line, row.column) for row in bad]


def test_a_full_row_is_a_rate() -> None:
    """Each column means what the header says."""
    deck = read(HEADER + '4930,"Germany, Berlin",0.10,0.05,60,30,6,0\n88,Satellite,,,,,,yes\n')
    assert (deck.rates, deck.bad) == (
        (
            Rate(
                "4930",
                "Germany, Berlin",
                Decimal("0.10"),
                (Step(0, Decimal("0.05"), 60, 30), Step(30, Decimal("0.05"), 60, 6)),
                ROUNDING,
            ),
            Rate("88", "Satellite", Decimal(0), (Step(0, Decimal(0), 60, 1),), ROUNDING, barred=True),
        ),
        (),
    )


@pytest.mark.parametrize(
    ("columns", "cells", "step"),
    [
        ("", "", Step(0, Decimal(1), 60, 1)),
        (",per_s", ",1", Step(0, Decimal(1), 1, 1)),
        (",increment_s", ",60", Step(0, Decimal(1), 60, 60)),
        (",first_increment_s,increment_s", ",,60", Step(0, Decimal(1), 60, 60)),
        (",per_s,increment_s", "", Step(0, Decimal(1), 60, 1)),
    ],
)
def test_what_is_absent_has_its_default(columns: str, cells: str, step: Step) -> None:
    """A missing column, a missing cell and an empty cell all mean the default."""
    deck = read(f"prefix,price{columns}\n49,1{cells}\n")
    assert deck.bad == ()
    assert deck.rates[0].steps == (step,)


@pytest.mark.parametrize(
    "text",
    [
        "prefix,price\n49,1.5\n",
        "\ufeffprefix,price\r\n49,1.5\r\n",
        "prefix;price\n49;1.5",
        "prefix;price\n49;1,5\n",
        "prefix\tprice\n49\t1,5\n",
        '"Prefix" , "PRICE"\n 49 , 1.5 \n',
        "price;prefix\n1.50;49\n",
        "prefix,price\n\n49,1.5\n , \n\n",
        'prefix,price\n"49","1.5"\n',
        "prefix,price\r49,1.5\r",
    ],
)
def test_delimiters_and_marks_are_found_out(text: str) -> None:
    """Delimiter, byte order mark, line ends, quotes, blank lines and the order of columns do not matter."""
    deck = read(text)
    assert deck.bad == ()
    assert deck.rates == (Rate("49", "", Decimal(0), (Step(0, Decimal("1.5"), 60, 1),), ROUNDING),)


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("49,x,0,1E5,60,1,1,0", "price"),
        ("49,x,0,NaN,60,1,1,0", "price"),
        ("49,x,0,inf,60,1,1,0", "price"),
        ("49,x,0,-0.1,60,1,1,0", "price"),
        ("49,x,0,.,60,1,1,0", "price"),
        ("49,x,0,,60,1,1,0", "price"),
        ("49,x,0,€1,60,1,1,0", "price"),
        ("49,x,0,٣,60,1,1,0", "price"),
        ("49,x,0,9999999999,60,1,1,0", "price"),
        ("49,x,0,0.1234567890123456789,60,1,1,0", "price"),
        ("49,x,-1,1,60,1,1,0", "connect_fee"),
        ("49,x,0,1,0,1,1,0", "per_s"),
        ("49,x,0,1,1.5,1,1,0", "per_s"),
        ("49,x,0,1,60,0,1,0", "first_increment_s"),
        ("49,x,0,1,60,1,0,0", "increment_s"),
        ("49,x,0,1,60,999999999,1,0", "first_increment_s"),
        ("49,x,0,1,60,1,one,0", "increment_s"),
        ("49,x,0,1,60,1,1,maybe", "barred"),
        (",x,0,1,60,1,1,0", "prefix"),
        ("49a,x,0,1,60,1,1,0", "prefix"),
        ("1" * 33 + ",x,0,1,60,1,1,0", "prefix"),
        ("49," + "x" * 101 + ",0,1,60,1,1,0", "destination"),
        ("49,a\x1bb,0,1,60,1,1,0", "destination"),
        ("49,x,0,1,60,1,1,0,9", ""),
        ('49,"x"y,0,1,60,1,1,0', ""),
    ],
)
def test_a_bad_row_is_named(row: str, column: str) -> None:
    """A row that cannot be read is named by its line and its column, and the rows around it are read all the same."""
    deck = read(f"{HEADER}1,x,0,1,60,1,1,0\n{row}\n2,x,0,1,60,1,1,0\n44,x,,-1,60,1,1,0\n")
    assert [(bad.line, bad.column) for bad in deck.bad] == [(3, column), (5, "price")]
    assert [rate.prefix for rate in deck.rates] == ["1", "2"]
    assert all(len(bad.reason) < 120 for bad in deck.bad)


def test_the_column_named_is_one_of_the_file() -> None:
    """A fault of the increment is named by the column that holds it."""
    assert reasons("prefix,price,increment_s\n49,1,0\n") == [(2, "increment_s")]


def test_a_prefix_comes_once() -> None:
    """The second row of a prefix is bad and says where the first is."""
    assert read("prefix,price\n49,1\n44,1\n\n49,2\n").bad == (BadRow(5, "prefix", "49 is on line 2 already"),)


def test_a_bad_cell_says_what_was_expected_and_found() -> None:
    """The reason is a sentence for the person who mends the row."""
    assert read("prefix,price\n49,1E5\n").bad == (BadRow(2, "price", "expected a price such as 0.0125, found '1E5'"),)


def test_a_row_over_several_lines_is_named_by_its_first() -> None:
    """A quoted line break moves the lines, not their names."""
    assert reasons('prefix,destination,price\n1,"a\nb",1\n2,x,y\n') == [(2, "destination"), (4, "price")]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", [(1, "")]),
        ("\n", [(1, "")]),
        ("49,Germany,0.1\n", [(1, "")]),
        ("prefix,price\n", [(2, "")]),
        ("prefix,price\n\n\n", [(2, "")]),
        ("prefix,destination\n49,x\n", [(1, "price")]),
        ("prefix,destination,prize\n49,x,1\n", [(1, "price")]),
        ("prefix,price,price\n49,1,2\n", [(1, "price")]),
        ('prefix,price\n49,"1\n', [(2, "")]),
    ],
)
def test_a_file_that_is_no_deck_says_so(text: str, named: list[tuple[int, str]]) -> None:
    """Without a header, a required column or a rate nothing is imported."""
    deck = read(text)
    assert [(bad.line, bad.column) for bad in deck.bad] == named
    assert deck.rates == ()


def test_a_line_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at a line longer than any rate."""
    monkeypatch.setattr(rating.decks.sheet, "MOST_LINE", 50)
    assert reasons("prefix,price\n49," + "1" * 60 + "\n44,1\n") == [(2, "")]


def test_rows_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of more rows than the limit is bad as a whole."""
    monkeypatch.setattr(rating.decks.sheet, "MOST_ROWS", 2)
    assert read("prefix,price\n1,1\n2,1\n").bad == ()
    assert reasons("prefix,price\n1,1\n2,1\n3,1\n4,1\n") == [(4, "")]


def test_bad_rows_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is no deck at all does not fill the memory with reasons."""
    monkeypatch.setattr(rating.decks.reading, "MOST_BAD", 2)
    assert reasons("prefix,price\na,1\nb,1\nc,1\nd,1\n") == [(2, "prefix"), (3, "prefix"), (4, "")]


def test_progress_is_told() -> None:
    """Whoever waits is told how far reading is, and at last that all rows are read."""
    told: list[int] = []
    sheet = open_sheet(b"prefix,price\n" + b"".join(b"%d,1\n" % number for number in range(100, 108)))
    read_deck(sheet, guess(sheet), rounding=ROUNDING, progress=told.append)
    assert told == [2, 6, 8]
