"""Rows of a deck: why each bad one is bad, word for word, and what was understood of the others."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

import rating.decks.own
import rating.decks.reading
import rating.decks.sheet
from rating.decks.changes import worth
from rating.decks.deck import BadRow, Deck, Note, deck_columns
from rating.decks.mapping import Mapping, mapped
from rating.decks.reading import guess, read_csv, read_deck
from rating.decks.sheet import open_sheet
from rating.parts import Rounding, RoundingMode, Step

ROUNDING = Rounding(RoundingMode.UP, 4)


def read(text: str, *, header: bool | None = None, said: dict[str, Any] | None = None, **options: Any) -> Deck:
    """Read a file; `said` changes what was guessed of its columns."""
    sheet = open_sheet(text.encode(), header=header)
    return read_deck(sheet, replace(guess(sheet), **(said or {})), rounding=ROUNDING, **options)


def bad(text: str, **options: Any) -> list[tuple[int, str, str]]:
    """Return the bad rows of a file."""
    return [(row.line, row.column, row.reason) for row in read(text, **options).bad]


# -- the file as a whole -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        (
            "foo,bar\n49,1\n",
            {"header": True},
            [(1, "", "expected a header such as prefix,destination,price, found 'foo,bar'")],
        ),
        (
            "\nfoo;bar\n4;1\n",
            {"header": True},
            [(2, "", "expected a header such as prefix,destination,price, found 'foo;bar'")],
        ),
        ("49,1\n", {}, [(1, "", "expected a header such as prefix,destination,price, found 'A,B'")]),
        ("prefix,price,Price\n49,1,2\n", {}, [(1, "price", "the column is there twice")]),
        ("prefix,price,prefix,x,x\n49,1,2,,\n", {}, [(1, "prefix", "the column is there twice")]),
        ("destination,price\nx,1\n", {}, [(1, "prefix", "the column is missing")]),
        ("t\nprefix,destination\n49,x\n", {}, [(2, "price", "the column is missing")]),
        (
            "destination,currency\nx,EUR\n",
            {},
            [(1, "prefix", "the column is missing"), (1, "price", "the column is missing")],
        ),
        ("prefix,initial_rate\n49,1\n", {}, [(1, "next_rate", "the column is missing")]),
        (
            "comment,init_inc\n49,1\n",
            {},
            [(1, "pattern", "the column is missing"), (1, "cost", "the column is missing")],
        ),
        ("prefix,price\n", {}, [(2, "", "expected rates below the header, found none")]),
        ("t\n\nprefix,price\n\n", {}, [(4, "", "expected rates below the header, found none")]),
        ("", {}, [(1, "", "expected a header such as prefix,destination,price, found nothing")]),
    ],
)
def test_what_a_file_lacks(text: str, options: dict[str, Any], told: list[tuple[int, str, str]]) -> None:
    """Each thing once, at the header; no rate is read then."""
    deck = read(text, **options)
    assert [(row.line, row.column, row.reason) for row in deck.bad] == told
    assert (deck.rates, deck.terms, deck.notes, deck.skipped) == ((), (), (), ())
    assert dict(zip(deck.rows.columns, deck.rows.dtypes, strict=True)) == deck_columns()


def test_a_price_may_be_told_in_other_columns() -> None:
    """In steps or bands; for a removal none is needed; two columns that mean nothing may have one name."""
    assert len(read("prefix,steps,x,x\n49,1,,\n")) == 1
    assert len(read("prefix,bands\n49,[] 1\n")) == 1
    removed = read("prefix,x,x\n49,,\n", header=True, prices=False)
    assert (removed.bad, removed.terms, removed.rows["terms"].to_list()) == ((), (), [0])
    assert dict(zip(removed.rows.columns, removed.rows.dtypes, strict=True)) == deck_columns()


def test_a_file_without_a_header_is_named_by_its_letters() -> None:
    """The first line is a row; what is bad is in column A or B."""
    sheet = open_sheet(b"49,1\n44,x\n", header=False)
    mapping = mapped(Mapping("callctl", ("", "")), sheet.columns, ["A=prefix", "B=price"])
    deck = read_deck(sheet, mapping, rounding=ROUNDING)
    assert deck.bad == (BadRow(2, "B", "expected a price such as 0.0125, found 'x'"),)
    assert [rate.prefix for rate in deck.rates] == ["49"]
    nothing = read_deck(open_sheet(b",\n", header=False), mapping, rounding=ROUNDING)
    assert nothing.bad == (BadRow(1, "", "expected rates below the header, found none"),)


def test_a_bad_first_row_of_a_file_without_a_header_hides_no_other() -> None:
    """It is bad by itself, and the rows after it are read."""
    sheet = open_sheet(b'"49"x,1\n44,1\n33,x\n', header=False)
    mapping = mapped(Mapping("callctl", ("",) * len(sheet.columns)), sheet.columns, ["A=prefix", "B=price"])
    deck = read_deck(sheet, mapping, rounding=ROUNDING)
    assert [(row.line, row.column) for row in deck.bad] == [(1, ""), (3, "B")]
    assert [rate.prefix for rate in deck.rates] == ["44"]


def test_a_long_name_of_a_column_is_cut_where_it_is_told() -> None:
    """Forty characters of it."""
    sheet = open_sheet(f"prefix,{'p' * 41},{'P' * 41}\n49,1,2\n".encode(), header=True)
    deck = read_deck(sheet, mapped(guess(sheet), sheet.columns, ["3=price"]), rounding=ROUNDING)
    assert deck.bad == (BadRow(1, "p" * 40, "the column is there twice"),)


def test_a_column_without_a_name_is_called_by_its_field() -> None:
    """A person may say what it means."""
    sheet = open_sheet(b"prefix,destination,\n49,x,y\n")
    deck = read_deck(sheet, mapped(guess(sheet), sheet.columns, ["3=price"]), rounding=ROUNDING)
    assert deck.bad == (BadRow(2, "price", "expected a price such as 0.0125, found 'y'"),)


def test_bad_rows_of_all_kinds_have_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told in the order of lines, and then that there are more."""
    monkeypatch.setattr(rating.decks.reading, "MOST_BAD", 3)
    text = "prefix,destination,price,currency\n" + "".join(
        f"{prefix},{name},{price},{currency}\n"
        for prefix, name, price, currency in (
            ("1", "x", "1", "USD"),
            ("2", "x", "z", ""),
            ("x", "x", "1", ""),
            ("4", "\x01", "1", ""),
            ("5", "x", "1", "USD"),
            ("6", "x", "z", ""),
            ("y", "x", "1", ""),
            ("8", "\x01", "1", ""),
        )
    )
    told = bad(text, currency="EUR")
    assert told[-1] == (told[-1][0], "", "no more bad rows are told, after 3")
    assert [line for line, _, _ in told] == [2, 3, 6, 7]
    for column, cell in (("destination", "\x01"), ("currency", "USD"), ("price", "z"), ("effective_at", "soon")):
        head = ["prefix", "price", *([] if column == "price" else [column])]
        rows = [f"{number},{cell if column == 'price' else f'1,{cell}'}" for number in range(9)]
        told = bad("\n".join([",".join(head), *rows]), currency="EUR")
        assert [line for line, _, _ in told] == [2, 3, 4, 5], column
        assert told[-1][2] == "no more bad rows are told, after 3"
    assert [line for line, _, _ in bad("prefix,price\n" + "49,1\n" * 9)] == [3, 4, 5, 6]
    assert [line for line, _, _ in bad("prefix,price\n" + "x,1\n" * 3)] == [2, 3, 4]


# -- numbers -----------------------------------------------------------------------------------------------------------

DOUBT = "is it one and a part or more than a thousand?"


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["1,234"], [(2, "Rate", f"'1,234': {DOUBT} Say which mark is the decimal one")]),
        (["0.5", "1,234"], [(3, "Rate", f"'1,234': {DOUBT} The decimal mark here seems to be '.'")]),
        (["0,5", "0.7", "0,6"], [(3, "Rate", f"'0.7': {DOUBT} The decimal mark here seems to be ','")]),
        (
            ["0.5", "0,5", "x"],
            [
                (3, "Rate", f"'0,5': {DOUBT} The decimal mark here seems to be '.'"),
                (4, "Rate", "expected a price such as 0.0125, found 'x'"),
            ],
        ),
        (["1.2.3", "1"], [(2, "Rate", f"'1.2.3': {DOUBT} The decimal mark here seems to be ','")]),
        (["1E5"], [(2, "Rate", "expected a price such as 0.0125, found '1E5'")]),
    ],
)
def test_numbers_in_doubt(cells: list[str], told: list[tuple[int, str, str]]) -> None:
    """The cell, and what would help; rows that are beyond doubt are read."""
    text = "prefix;Rate\n" + "".join(f"{number};{cell}\n" for number, cell in enumerate(cells, 1))
    assert bad(text) == told
    assert len(read(text)) == len(cells) - len(told)


def test_what_was_understood_of_numbers_is_told() -> None:
    """Each way of writing once, with how many rows have it, the first of them, and what it means."""
    deck = read("prefix;Rate;Setup fee\n1;0,5;\n2;0,5;\n3;7;1 234,5\n4;1.234,5;0\n5;0,7;\n6;5E-3;\n")
    assert deck.bad == ()
    assert deck.notes == (
        Note("thousands in Setup fee", 1, 4, "1 234,5", "1234.5"),
        Note("decimal commas in Rate", 3, 2, "0,5", "0.5"),
        Note("thousands in Rate", 1, 5, "1.234,5", "1234.5"),
        Note("numbers with an exponent in Rate", 1, 7, "5E-3", "0.005"),
    )
    assert [str(rate.steps[0].price) for rate in deck.rates] == ["0.5", "0.5", "7", "1234.5", "0.7", "0.005"]
    assert [str(rate.connect_fee) for rate in deck.rates] == ["0", "0", "1234.5", "0", "0", "0"]


def test_somebody_said_which_mark_it_is() -> None:
    """Then one group of thousands is read, and the other mark is in doubt."""
    text = "prefix;price\n1;1,234\n2;0.5\n"
    dots = read(text, said={"decimal": "."})
    assert (dots.bad, [str(rate.steps[0].price) for rate in dots.rates]) == ((), ["1234", "0.5"])
    assert bad(text, said={"decimal": ","}) == [(3, "price", f"'0.5': {DOUBT} The decimal mark here seems to be ','")]


# -- what a row costs --------------------------------------------------------------------------------------------------


def test_rows_that_say_the_same_share_their_terms() -> None:
    """However they say it; a bad row has none, and the reason names the column as the file calls it."""
    deck = read(
        "prefix,Rate,Interval 1,Interval N\n1,0.5,60,60\n2,0.50,60,60\n3,0.5,,60\n4,x,1,1\n5,1,1,0\n6,1,1,1\n7,x,1,1\n"
    )
    assert deck.rows["terms"].to_list() == [0, 0, 0, 1]
    assert [rate.steps for rate in deck.terms] == [
        (Step(0, Decimal("0.5"), 60, 60),),
        (Step(0, Decimal(1), 60, 1),),
    ]
    assert [(row.line, row.column, row.reason) for row in deck.bad] == [
        (5, "Rate", "expected a price such as 0.0125, found 'x'"),
        (6, "Interval N", "increment_s must be from 1 to 31622400, or down to 0.001 in whole milliseconds"),
        (8, "Rate", "expected a price such as 0.0125, found 'x'"),
    ]
    assert worth(deck.terms[0]).minute_micros == 500_000


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        (
            (
                "prefix,country_code,destination,price,currency,effective_at,expires_at\n"
                "1,,a,1,EUR,,\n2,49,b,1,,2026-12-01T00:00Z,\n3,,c,1,eur,,2027-12-01T00:00Z\n"
            ),
            rating.decks.own,
            "read_terms",
        ),
        (
            (
                "prefix,destination,next_rate,valid_from,valid_till\n"
                "1,a,1,,\n2,b,1,2026-12-01 00:00:00 UTC,\n3,c,1,,2027-12-01 00:00:00 UTC\n"
            ),
            rating.decks.reading,
            "rate_of",
        ),
        ("code,destination,cost_min\n1,a,1\n2,b,1\n", rating.decks.reading, "rate_of"),
    ],
)
def test_what_rows_cost_is_worked_out_once(text: str, place: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all rows that say the same of it, whatever else they say: a million would take hours otherwise."""
    calls = 0
    work_out = getattr(place, name)

    def counted(*said: Any) -> Any:
        nonlocal calls
        calls += 1
        return work_out(*said)

    monkeypatch.setattr(place, name, counted)
    deck = read(text, currency="EUR")
    assert (deck.bad, len(deck.terms), calls) == ((), 1, 1)


def test_bands_are_in_the_zone_of_the_file() -> None:
    """Where the row names none; a rate without bands has none."""
    text = "prefix,bands,price,timezone\n1,[] 1,,\n2,[] 1,,Asia/Kathmandu\n3,,1,\n"
    zones = [rate.conditions.timezone for rate in read(text, said={"zone": "Europe/Berlin"}).rates]
    assert zones == ["Europe/Berlin", "Asia/Kathmandu", "UTC"]
    assert [rate.conditions.timezone for rate in read(text).rates] == ["UTC", "Asia/Kathmandu", "UTC"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prefix,next_rate,initial_rate,attempt_fee\n1,1,1,0.1\n2,1,1,0\n3,1,1,0.0\n4,1,1,\n",
         [(2, "attempt_fee", "cannot be told in a rate, found '0.1'")]),
        ("prefix,Next rate,Initial rate,Next interval\n1,1,1,1.5\n",
         [(2, "Next interval", "expected whole seconds up to 31622400, found '1.5'")]),
        ("prefix,next_rate\n1,1: 2\n", [(2, "next_rate", "expected a number such as 0.0125, found '1: 2'")]),
        # What the columns say together is a fault of the row.
        ("prefix,next_rate,initial_rate\n1,9999999999,1\n", [(2, "", "steps.1.price: is at most 1000000000")]),
        ("prefix,next_rate\n1,\n", [(2, "next_rate", "expected a number such as 0.0125, found nothing")]),
    ],
)  # fmt: skip
def test_rows_of_other_systems(text: str, told: list[tuple[int, str, str]]) -> None:
    """The column as the file calls it, and the reason without it."""
    assert bad(text) == told


def test_what_is_switched_off_is_left_out_and_told() -> None:
    """Of Yeti what is not enabled, of ASTPP what is not active; a row of which nothing is said is on."""
    yeti = read("prefix,next_rate,Enabled\n1,1,true\n2,1,false\n3,1,F\n4,1,0\n5,1,\n")
    assert [rate.prefix for rate in yeti.rates] == ["1", "5"]
    assert yeti.skipped == ("3 rows are switched off (Enabled): left out",)
    astpp = read("code,cost_min,Status\n1,1,Active\n2,1,Inactive\n")
    assert [rate.prefix for rate in astpp.rates] == ["1"]
    assert astpp.skipped == ("1 row is switched off (Status): left out",)
    assert read("prefix,next_rate,enabled\n1,1,true\n").skipped == ()
    # A row that is left out cannot be bad.
    assert bad("prefix,next_rate,enabled\n1,x,false\n2,1,true\n") == []


def test_rows_in_another_currency_are_bad() -> None:
    """In small letters it is the same; a row that names none is in that of the tariff."""
    text = "prefix,price,Currency\n1,1,EUR\n2,1,usd\n3,1,\n4,1,eur\n5,1,GBP\n6,1,usd\n"
    told = [(3, "is 'usd', and the tariff in EUR"), (6, "is 'GBP', and the tariff in EUR"),
            (7, "is 'usd', and the tariff in EUR")]  # fmt: skip
    assert bad(text, currency="EUR") == [(line, "Currency", reason) for line, reason in told]
    assert bad(text) == []


# -- names, dates, prefixes --------------------------------------------------------------------------------------------


def test_names_are_stripped_and_may_be_guarded() -> None:
    """One behind an apostrophe is meant as it stands; others lose the spaces around them."""
    deck = read("prefix,Name,price\n1, x ,1\n2,'=x,1\n3,' y,1\n4,'s-Hertogenbosch,1\n5,,1\n6,'z ,1\n")
    assert [rate.destination for rate in deck.rates] == ["x", "=x", " y", "'s-Hertogenbosch", "", "z "]
    assert [rate.destination for rate in read("prefix,price\n1,1\n").rates] == [""]
    long, hidden = "has at most 100 characters", "has no line breaks and no control characters"
    text = f"prefix,Name,price\n1,{'x' * 100},1\n2,{'x' * 101},1\n3,a\x1bb,1\n4,{'x' * 101}\x1b,1\n5,a\u2028b,1\n"
    assert bad(text) == [(3, "Name", long), (4, "Name", hidden), (5, "Name", long), (6, "Name", hidden)]


@pytest.mark.parametrize(
    ("cell", "at"),
    [
        ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00"),
        ("2026-12-01 08:30+01:00", "2026-12-01T07:30:00"),
        ("2026-12-01 08:30:15 +01:00", "2026-12-01T07:30:15"),
        ("2026-12-01 08:30:15 UTC", "2026-12-01T08:30:15"),
        ("2026-12-01", "2026-11-30T23:00:00"),
        ("1.12.2026", "2026-11-30T23:00:00"),
        ("01.07.2026", "2026-06-30T22:00:00"),
        ("01.12.2026 08:30", "2026-12-01T07:30:00"),
        ("01.12.2026  08:30 UTC", "2026-12-01T08:30:00"),
    ],
)
def test_times_are_read(cell: str, at: str) -> None:
    """With a zone of their own, or in that of the file: Berlin's, an hour or two before UTC."""
    text = f"prefix,price,effective_at\n1,1,{cell}\n"
    deck = read(text, said={"zone": "Europe/Berlin"})
    assert (deck.bad, deck.rates[0].expires_at) == ((), None)
    assert deck.rates[0].effective_at == datetime.fromisoformat(at).replace(tzinfo=UTC)
    until = read(text.replace("effective", "expires"), said={"zone": "Europe/Berlin"}).rates[0]
    assert (until.effective_at, until.expires_at) == (None, deck.rates[0].effective_at)


@pytest.mark.parametrize("cell", ["", "0000-00-00", "0000-00-00 00:00:00"])
def test_a_time_of_nothing(cell: str) -> None:
    """Databases write zeros for it."""
    rate = read(f"prefix,price,effective_at,expires_at\n1,1,{cell},{cell}\n").rates[0]
    assert (rate.effective_at, rate.expires_at) == (None, None)


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("12/01/2026", "is the day or the month first in '12/01/2026'? Write 2027-01-31"),
        ("1/2/26 08:30", "is the day or the month first in '1/2/26 08:30'? Write 2027-01-31"),
        ("soon", "expected a time such as 2027-01-31T00:00:00+01:00, found 'soon'"),
        ("2026-12", "expected a time such as 2027-01-31T00:00:00+01:00, found '2026-12'"),
        ("2026-12-01", "which time zone is '2026-12-01' in? Name one for the file, or write +01:00"),
        ("01.12.2026", "which time zone is '2026-12-01' in? Name one for the file, or write +01:00"),
        ("2026-13-01", "month must be in 1..12"),
    ],
)
def test_times_that_cannot_be_read(cell: str, told: str) -> None:
    """The cell, and how to write it."""
    text = f"prefix,price,Valid from\n1,1,2026-12-01T00:00Z\n2,1,{cell}\n"
    assert [(line, column) for line, column, _ in bad(text)] == [(3, "Valid from")]
    assert bad(text)[0][2].startswith(told)
    assert len(read(text)) == 1


def test_a_rate_ends_after_it_begins() -> None:
    """Neither before nor at the same time; and a zone that does not exist is told at the cell."""
    head = "prefix,price,Valid from,Valid until\n"
    same = "2026-12-01T00:00Z,2026-12-01T00:00Z"
    told = (2, "Valid until", "is later than the time it begins")
    assert bad(f"{head}1,1,{same}\n2,1,2026-12-01T00:00Z,2026-12-01T00:00:01Z\n") == [told]
    yeti = "prefix,next_rate,valid_from,Valid till\n1,1,2026-12-02 00:00:00 UTC,2026-12-01 00:00:00 UTC\n"
    assert bad(yeti) == [(2, "Valid till", "is later than the time it begins")]
    zone = bad("prefix,price,Valid from\n1,1,2026-12-01\n", said={"zone": "Mars/Olympus"})
    assert zone == [(2, "Valid from", "timezone: there is no time zone 'Mars/Olympus'")]


def test_times_of_other_systems_have_their_own_columns() -> None:
    """Yeti's valid_from and valid_till, A2Billing's startdate and stopdate, ASTPP's effective_date."""
    times = "2026-12-01 00:00:00 UTC,2027-01-01 00:00:00 UTC"
    since, until = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    for head in ("prefix,next_rate,valid_from,valid_till", "dialprefix,rateinitial,startdate,stopdate"):
        rate = read(f"{head}\n49,1,{times}\n").rates[0]
        assert (rate.effective_at, rate.expires_at) == (since, until)
    astpp = read("pattern,cost,init_inc,effective_date\n49,1,6,2026-12-01T00:00Z\n").rates[0]
    assert (astpp.effective_at, astpp.expires_at) == (since, None)


def test_what_was_understood_of_prefixes_is_told() -> None:
    """Each way of writing once, with its rows, the first cell, and the first three prefixes that it means."""
    deck = read("Code,Rate\n+49,1\n44,1\n1-4,1\n+33,1\n5-7,1\n")
    assert deck.notes == (
        Note("plus signs in Code", 2, 2, "+49", "49"),
        Note("ranges in Code", 2, 4, "1-4", "1, 2, 3 …"),
    )
    assert [(rate.prefix) for rate in deck.rates] == ["49", "44", "1", "2", "3", "4", "33", "5", "6", "7"]
    assert deck.rows["line"].to_list() == [2, 3, 4, 4, 4, 4, 5, 6, 6, 6]
    assert read("Code,Rate\n1-3,1\n").notes == (Note("ranges in Code", 1, 2, "1-3", "1, 2, 3"),)


def test_prefixes_that_are_bad() -> None:
    """Each by its line, with what stands there; those beside them are read."""
    deck = read("Code,Rate\n49,1\n4x,1\n,1\n4x,1\n'5x,1\n+44,1\n")
    assert [(row.line, row.column, row.reason) for row in deck.bad] == [
        (3, "Code", "has only digits, found '4x'"), (4, "Code", "expected digits, found nothing"),
        (5, "Code", "has only digits, found '4x'"), (6, "Code", "has only digits, found '5x'"),
    ]  # fmt: skip
    assert [rate.prefix for rate in deck.rates] == ["49", "44"]


def test_country_codes_stand_before_area_codes() -> None:
    """They are read as prefixes are; alone they are the country; together they have 32 digits at most."""
    head = "Country Code,Code,Rate\n"
    deck = read(f'{head}+49,151,1\n,+44,1\n1,,1\n43,"1;2",1\n')
    assert deck.bad == ()
    assert [rate.prefix for rate in deck.rates] == ["49151", "44", "1", "431", "432"]
    long = "1" * 31
    assert bad(f"{head}4,{long},1\n49,{long},1\n") == [(3, "Code", "has at most 32 digits")]
    assert bad(f"{head}49;1,2,1\n") == [(2, "Code", "expected one country code, found '49;1'")]
    assert bad(f"{head}4x,1,1\n") == [(2, "Code", "has only digits, found '4x'")]
    assert [rate.prefix for rate in read(f"{head}*,7,1\n").rates] == ["7"]


def test_00_before_country_codes() -> None:
    """It is taken away from those that have it, told, and put before nothing."""
    deck = read("prefix,price\n0049,1\n1,1\n00,1\n'0044,1\n", said={"international": "00"})
    assert [rate.prefix for rate in deck.rates] == ["49", "1", "00", "0044"]
    assert deck.notes == (Note("00 before the country code in prefix", 1, 2, "0049", "49"),)


def test_a_prefix_comes_once_from_one_time_on() -> None:
    """The second says where the first is, or that it is twice in one cell."""
    text = "Code,Rate\n49,1\n44;44,1\n49,2\n+49,3\n33,1\n"
    deck = read(text)
    assert [(row.line, row.column, row.reason) for row in deck.bad] == [
        (3, "Code", "44 is named twice here"), (4, "Code", "49 is on line 2 already"),
        (5, "Code", "49 is on line 2 already"),
    ]  # fmt: skip
    assert [rate.prefix for rate in deck.rates] == ["49", "44", "33"]
    dated = "prefix,price,effective_at\n49,1,2026-12-01T00:00Z\n49,1,2026-12-01T01:00+01:00\n49,1,\n"
    assert bad(dated) == [(3, "prefix", "49 is on line 2 already, from the same time on")]


def test_progress_is_told_in_rows() -> None:
    """A quarter, three quarters, and all of ten rows: whole numbers."""
    told: list[int] = []
    read("prefix,price\n" + "".join(f"{number},1\n" for number in range(10)), progress=told.append)
    assert [(type(rows), rows) for rows in told] == [(int, 2), (int, 7), (int, 10)]


def test_a_deck_of_a_program_is_read_as_it_is_guessed() -> None:
    """Without questions."""
    deck = read_csv("prefix;price\n0049;0,5\n", rounding=ROUNDING)
    assert [(rate.prefix, str(rate.steps[0].price), rate.rounding) for rate in deck.rates] == [("49", "0.5", ROUNDING)]
