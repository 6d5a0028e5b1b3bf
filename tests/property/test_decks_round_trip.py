"""Any rate that `rating` accepts is written as a deck and read back as it was, in CSV and in XLSX."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rating.decks.deck import deck_of
from rating.decks.guards import guard, guarded, unguarded
from rating.decks.reading import guess, read_deck
from rating.decks.sheet import open_sheet
from rating.decks.workbook_writing import write_workbook
from rating.decks.writing import write_csv, write_rows
from rating.parts import Band, Conditions, Outside, Rounding, Step, When
from rating.tariff import Rate, find_fault
from tests.property.test_rating_bands import rates as priced

# What destinations and band names may hold: anything printable, what spreadsheets run and what our own format uses.
NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20),
    st.text("=+-@' \"[];|,:x/0Aé\u3000\uff1d", max_size=8),
    st.sampled_from(["=1+1", "'s-Hertogenbosch", "''", "' ", "\u00a0x", "@SUM(A1)", "-", "prefix", "a,b;c\td|e", '"']),
)
PREFIXES = st.one_of(st.text("0123456789", max_size=32), st.sampled_from(["", "0", "0049", "00", "49", "011"]))
TIMES = st.none() | st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """Any rate: with or without bands, dates, names of every kind."""
    made = draw(priced(banded=draw(st.booleans())))
    names = iter([draw(NAMES) for _ in made.bands])
    effective_at = draw(TIMES)
    lasts = draw(st.none() | st.timedeltas(timedelta(microseconds=1), timedelta(days=5000)))
    begin = effective_at or datetime(2026, 1, 1, tzinfo=UTC)
    made = replace(
        made,
        prefix=draw(PREFIXES),
        destination=draw(NAMES),
        barred=draw(st.booleans()),
        bands=tuple(replace(band, name=next(names)) for band in made.bands),
        effective_at=effective_at,
        expires_at=begin + lasts if lasts is not None else None,
    )
    assume(find_fault(made) is None)
    return made


@st.composite
def decks(draw: st.DrawFn) -> list[Rate]:
    """Rates, none of which has prefix and beginning of another."""
    return draw(st.lists(rates(), min_size=1, max_size=4, unique_by=lambda rate: (rate.prefix, rate.effective_at)))


def as_csv(written: Sequence[Rate]) -> bytes:
    """Write a deck as CSV."""
    deck = deck_of(written)
    return "".join(write_csv(deck.rows, deck.terms)).encode()


def as_xlsx(written: Sequence[Rate]) -> bytes:
    """Write a deck as a workbook."""
    deck = deck_of(written)
    file = io.BytesIO()
    write_workbook(file, write_rows(deck.rows, deck.terms))
    return file.getvalue()


def read(data: bytes) -> list[Rate]:
    """Read a deck that must be read without a doubt."""
    sheet = open_sheet(data)
    mapping = guess(sheet)
    deck = read_deck(sheet, mapping, rounding=Rounding(decimals=0))
    assert (deck.bad, deck.notes, deck.skipped, sheet.notes) == ((), (), (), [])
    assert mapping.is_exact
    return list(deck.rates)


@given(decks())
@settings(deadline=None)
def test_a_written_deck_reads_as_the_same_rates(written: list[Rate]) -> None:
    """Export and import: the same rates, and nothing had to be guessed or confirmed; written again, the same bytes."""
    data = as_csv(written)
    again = read(data)
    assert again == written
    assert as_csv(again) == data


@given(decks())
@settings(deadline=None, max_examples=50)
def test_a_workbook_reads_as_the_same_rates(written: list[Rate]) -> None:
    """The same as a workbook, but for two characters that XML cannot hold."""
    assume(not any("\ufffe" in rate.destination or "\uffff" in rate.destination for rate in written))
    assume(not any("\ufffe" in band.name or "\uffff" in band.name for rate in written for band in rate.bands))
    assert read(as_xlsx(written)) == written


@given(st.text(max_size=12) | NAMES)
def test_no_cell_is_a_formula(text: str) -> None:
    """A guarded cell begins with nothing that a spreadsheet runs, and means what it meant."""
    cell = guard(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguarded(cell) == text
    assert guarded(cell) == (cell != text)


def test_a_price_of_a_thousand_reads_as_it_was() -> None:
    """A dot is the decimal mark where nothing says otherwise, even before three digits."""
    rate = priced_at("1.234")
    assert read(as_csv([rate])) == [rate]


def priced_at(amount: str) -> Rate:
    """Return a rate with a band that has every part."""
    steps = replace_price(Decimal(amount))
    band = Band(When((5, 6), 79_200, 21_600, ("12-25", "2027-03-28"), -3), steps, Decimal("0.000001"), 'a "b" ]; [')
    return Rate(
        "49", "", Decimal("1.234"), steps, Rounding(), bands=(band,), conditions=Conditions(outside=Outside.BASE)
    )


def replace_price(amount: Decimal) -> tuple[Step, ...]:
    """Return two steps."""
    return Step(0, amount, 60, Decimal("0.001")), Step(30, amount, 1, 1, Decimal("0.5"))
