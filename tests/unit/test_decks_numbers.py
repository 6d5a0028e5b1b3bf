"""Numbers, prefixes and guarded cells: what each text means, and the words for what means nothing."""

from __future__ import annotations

import pytest

from rating.decks.guards import guard, guarded, unguarded
from rating.decks.numbers import Marks, guess_marks, is_doubtful, is_spreadsheet_exponent, plain_number
from rating.decks.prefixes import MOST_OF_ONE_CELL, Understood, read_prefix, write_prefix
from rating.errors import TariffError

# -- which mark is the decimal one -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "marks"),
    [
        ([], Marks(".")),
        (["15", "7"], Marks(".")),
        (["0,5"], Marks(",")),
        (["0.5"], Marks(".")),
        # Both marks: the last one is the decimal one.
        (["1.234,50"], Marks(",")),
        (["1,234.50"], Marks(".")),
        # A mark that comes again parts thousands.
        (["1,234,567"], Marks(".")),
        (["1.234.567"], Marks(",")),
        # Three digits behind a comma may be thousands, unless nothing but zeros stands before it.
        (["1,234"], Marks("", "1,234")),
        (["1,234", "2,500"], Marks("", "1,234")),
        (["10,234"], Marks("", "10,234")),
        (["0,234"], Marks(",")),
        (["00,234"], Marks(",")),
        ([",234"], Marks(",")),
        (["1,23"], Marks(",")),
        (["1,2345"], Marks(",")),
        # A dot before three digits alone says nothing: it is the decimal mark where nothing says otherwise.
        (["1.234"], Marks(".")),
        (["0.234"], Marks(".")),
        # Other cells of the column tell.
        (["1,234", "0.5"], Marks(".")),
        (["1,234", "0,5"], Marks(",")),
        (["1.234", "0,5"], Marks(",")),
        # Where they disagree it is that of the most, and the dot where they are as many.
        (["0,5", "0.5"], Marks(".")),
        (["0,5", "0,7", "0.5"], Marks(",")),
        (["0.5", "0.7", "0,5"], Marks(".")),
        (["1.234,5", "0.5", "0.7"], Marks(".")),
        (["1,234.5", "0,5", "0,7"], Marks(",")),
        (["1,234,567", "1,234.5", "0,5", "0,7"], Marks(".")),
        (["1,234,567", "1,234,568", "0,5", "0,7"], Marks(".")),
        (["1.234.567", "1.234,5", "0.5", "0.7", "0,7"], Marks(",")),
        # Spaces and apostrophes part thousands everywhere.
        (["1 234,5"], Marks(",")),
        (["1'234.5"], Marks(".")),
        (["0 000,234"], Marks(",")),
        (["1 234,567"], Marks("", "1 234,567")),
    ],
)
def test_the_decimal_mark_of_a_column(cells: list[str], marks: Marks) -> None:
    """What its cells leave no doubt about; an example where nobody can tell."""
    assert guess_marks(cells) == marks


EXPONENTS, THOUSANDS, COMMAS = "numbers with an exponent", "thousands", "decimal commas"


@pytest.mark.parametrize(
    ("text", "decimal", "plain", "what"),
    [
        ("1.5", ".", "1.5", ""),
        ("15", ".", "15", ""),
        ("15", ",", "15", ""),
        (".5", ".", ".5", ""),
        ("0,5", ",", "0.5", COMMAS),
        (",5", ",", ".5", COMMAS),
        ("5E-05", ".", "0.00005", EXPONENTS),
        ("1.5e-3", ".", "0.0015", EXPONENTS),
        ("1,5e-3", ",", "0.0015", EXPONENTS),
        ("1.5E-3", ",", "0.0015", EXPONENTS),
        ("5E-1", ".", "0.5", EXPONENTS),
        ("5E-01", ".", "0.5", EXPONENTS),
        ("5E-18", ".", "0.000000000000000005", EXPONENTS),
        ("1.5E-17", ".", "0.000000000000000015", EXPONENTS),
        ("1,234,567", ".", "1234567", THOUSANDS),
        ("1,234.5", ".", "1234.5", THOUSANDS),
        ("1,234.", ".", "1234.", THOUSANDS),
        ("1.234.567,8", ",", "1234567.8", THOUSANDS),
        ("1.234,5", ",", "1234.5", THOUSANDS),
        ("1 234,5", ",", "1234.5", THOUSANDS),
        ("1'234.5", ".", "1234.5", THOUSANDS),
        ("1 234", ".", "1234", THOUSANDS),
        ("1 234 567", ",", "1234567", THOUSANDS),
        ("1\u00a0234,5", ",", "1234.5", THOUSANDS),
    ],
)
def test_a_number_that_is_understood(text: str, decimal: str, plain: str, what: str) -> None:
    """It becomes a plain decimal, and what was understood has a name."""
    assert plain_number(text, decimal) == (plain, what)


@pytest.mark.parametrize(
    ("text", "decimal"),
    [
        ("1.5", ","),
        ("0,5", "."),
        ("1,234", "."),
        ("1.234", ","),
        ("1 234,5", "."),
        ("1 234.5", ","),
        ("1,2,3", ","),
        ("1,2.3", ","),
        ("5E-19", "."),
        ("1.5E-18", "."),
        ("5E-0", "."),
        ("5E-00", "."),
        ("5E5", "."),
        ("NaN", "."),
        ("", "."),
        ("12 34", "."),
        ("1,23,456.7", "."),
        ("x", ","),
        ("x,5", ","),
        ("-1,5", ","),
    ],
)
def test_a_number_that_is_not_understood_stays_as_it_is(text: str, decimal: str) -> None:
    """Whoever reads it then says so."""
    number = plain_number(text, decimal)
    assert number == (text, "")


def test_a_single_group_of_thousands_is_read_where_somebody_said_which_mark_it_is() -> None:
    """And where the mark was only guessed it is not."""
    assert plain_number("1,234", ".", is_sure=True) == ("1234", THOUSANDS)
    assert plain_number("1.234", ",", is_sure=True) == ("1234", THOUSANDS)
    assert plain_number("1.5", ",", is_sure=True) == ("1.5", "")


def test_a_number_with_the_other_mark_is_doubtful() -> None:
    """Digits and marks alone, with the mark that is not the decimal one."""
    for text, decimal in (("1,234", "."), ("1.234", ","), ("1.5", ","), ("1,2,3", "."), (",", ".")):
        assert is_doubtful(text, decimal), text
    for text, decimal in (("1.234", "."), ("1,234", ","), ("1234", "."), ("1,x", "."), ("1, 2", "."), ("", ".")):
        assert not is_doubtful(text, decimal), text


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("4.91E+10", True), ("4,91e+10", True), ("1E5", True), ("1e100", True), ("1E-5", False), ("E5", False),
     ("1E", False), ("491", False), ("1E1000", False)],
)  # fmt: skip
def test_a_spreadsheet_has_thrown_digits_away(text: str, is_one: bool) -> None:
    """An exponent that is not negative."""
    assert is_spreadsheet_exponent(text) is is_one


# -- prefixes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "said", "prefixes", "what"),
    [
        ("49", {}, "49", ""),
        ("+49", {}, "49", "plus signs"),
        ("49.0", {}, "49", "decimals of a spreadsheet"),
        ("+49.0", {}, "49", "plus signs, decimals of a spreadsheet"),
        ("49 151", {}, "49151", "spaces"),
        ("(49)\u00a0151", {}, "49151", "spaces"),
        ("4915-4917", {}, "4915 4916 4917", "ranges"),
        ("4915 – 4917", {}, "4915 4916 4917", "ranges"),
        ("4915-17", {}, "4915 4916 4917", "ranges"),
        ("4915-7", {}, "4915 4916 4917", "ranges"),
        ("4915-4915", {}, "4915", "ranges"),
        ("+4915-16", {}, "4915 4916", "plus signs, ranges"),
        ("098-101", {}, "098 099 100 101", "ranges"),
        ("49151;49152", {}, "49151 49152", "lists"),
        ("49151;", {}, "49151", ""),
        ("1,2|3/4&5\n6", {}, "1 2 3 4 5 6", "lists"),
        ("+1; +2 3; 45-46", {}, "1 23 45 46", "lists, plus signs, spaces, ranges"),
        ("'0049", {}, "0049", ""),
        ("'0049", {"international": "00"}, "0049", ""),
        ("*", {}, "", ""),
        ("*", {"code": "49"}, "49", ""),
        ("0049", {}, "0049", ""),
        ("0049", {"international": "00"}, "49", "00 before the country code"),
        ("004915-16", {"international": "00"}, "4915 4916", "ranges, 00 before the country code"),
        ("004915-004916", {"international": "00"}, "4915 4916", "ranges, 00 before the country code"),
        ("00", {"international": "00"}, "00", ""),
        ("49", {"international": "00"}, "49", ""),
        ("1149", {"international": "011"}, "1149", ""),
        ("151,152", {"code": "49"}, "49151 49152", "lists"),
        ("151-152", {"code": "49"}, "49151 49152", "ranges"),
    ],
)
def test_a_prefix_cell_that_is_understood(cell: str, said: dict[str, str], prefixes: str, what: str) -> None:
    """The prefixes it stands for, and the names of what was understood, each once, in the order in which it came."""
    assert read_prefix(cell, **said) == Understood(tuple(prefixes.split(" ")), what)


@pytest.mark.parametrize(
    ("cell", "said", "told"),
    [
        ("", {}, "expected digits, found nothing"),
        (" ; ,", {}, "expected digits, found ' ; ,'"),
        ("49a", {}, "has only digits, found '49a'"),
        ("+4 9a", {}, "has only digits, found '+4 9a'"),
        ("1;2x", {}, "has only digits, found '2x'"),
        ("'4x", {}, "has only digits, found '4x'"),
        ("'", {}, "has only digits, found nothing"),
        ("00x", {"international": "00"}, "has only digits, found '00x'"),
        ("\u0664\u0669", {}, "has only digits, found '\u0664\u0669'"),
        ("1" * 33, {}, "has at most 32 digits"),
        ("x" * 33, {}, f"has only digits, found '{'x' * 33}'"),
        ("\u0661" * 33, {}, f"has only digits, found '{chr(0x661) * 33}'"),
        ("'" + "1" * 33, {}, "has at most 32 digits"),
        ("4-", {}, "has only digits, found '4-'"),
        ("49-30", {}, "expected a range such as 4915-4917, found '49-30'"),
        ("49-151", {}, "expected a range such as 4915-4917, found '49-151'"),
        ("004915-114916", {"international": "00"}, "expected a range such as 4915-4917, found '004915-114916'"),
        ("004915-0016", {"international": "00"}, "expected a range such as 4915-4917, found '004915-0016'"),
        ("4915-0016", {"international": "00"}, "expected a range such as 4915-4917, found '4915-0016'"),
        ("00000-10000", {}, "a range has at most 10000 prefixes, '00000-10000' has more"),
        ("0000-9999;1", {}, "a cell stands for at most 10000 prefixes, '0000-9999;1' for more"),
        (
            "4.91E+10",
            {},
            "a spreadsheet has cut this number to '4.91E+10': make the column text, with all digits",
        ),
    ],
)
def test_a_prefix_cell_that_is_refused(cell: str, said: dict[str, str], told: str) -> None:
    """With what was expected and what stands there."""
    with pytest.raises(TariffError) as caught:
        read_prefix(cell, **said)
    assert str(caught.value) == told


def test_a_cell_stands_for_ten_thousand_prefixes_and_no_more() -> None:
    """All numbers of four digits are as many."""
    whole = read_prefix("0000-9999").prefixes
    assert (len(whole), whole[0], whole[-1]) == (MOST_OF_ONE_CELL, "0000", "9999")
    assert len(read_prefix("0000-9998;1").prefixes) == MOST_OF_ONE_CELL
    assert read_prefix("1" * 32).prefixes == ("1" * 32,)


def test_a_prefix_is_written_so_that_no_spreadsheet_changes_it() -> None:
    """Leading zeros stand behind an apostrophe, the prefix of everything is a star."""
    assert [write_prefix(prefix) for prefix in ("49", "0049", "", "0")] == ["49", "'0049", "*", "'0"]


# -- cells that a spreadsheet would run --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("Germany", "Germany"), ("", ""), ("a=1", "a=1"), ("'s-Hertogenbosch", "'s-Hertogenbosch"),
        ("=1+1", "'=1+1"), ("+49", "'+49"), ("-1", "'-1"), ("@x", "'@x"), ("\uff1dx", "'\uff1dx"),
        ("'=1", "''=1"), ("''=1", "'''=1"), (" x", "' x"), ("x ", "'x "), ("\tx", "'\tx"), (" ", "' "),
        ("'", "''"), ("''", "'''"), ("' x", "'' x"),
    ],
)  # fmt: skip
def test_a_cell_is_guarded_where_it_must_be(text: str, cell: str) -> None:
    """What begins like a formula, and what would be stripped; it reads as it was."""
    assert (guard(text), unguarded(cell), guarded(cell)) == (cell, text, cell != text)
    assert not guarded("=1")
