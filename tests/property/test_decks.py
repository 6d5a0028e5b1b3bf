"""Decks: what is written is read, and no text breaks the reader."""

from __future__ import annotations

import csv
import io
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from rating.decks.reading import read_csv
from rating.tariff import Rate, Rounding, Step, check

ROUNDING = Rounding(decimals=4)
NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=30).map(str.strip)


@st.composite
def rates(draw: st.DrawFn) -> list[Rate]:
    """Any rates a deck can hold: a first increment and a further one."""
    made = []
    # Prefixes that begin with 00 may be read as what follows it, as a person is told.
    for prefix in draw(st.lists(st.from_regex(r"\A[1-9][0-9]{0,31}\Z"), unique=True, min_size=1, max_size=8)):
        amount = draw(st.decimals(0, 1000, places=5))
        per_s, first_s, then_s = draw(st.tuples(st.integers(1, 3600), st.integers(1, 90), st.integers(1, 90)))
        steps: tuple[Step, ...] = (Step(0, amount, per_s, first_s),)
        if first_s != then_s:
            steps += (Step(first_s, amount, per_s, then_s),)
        fee = draw(st.decimals(0, 10, places=2))
        made.append(Rate(prefix, draw(NAMES), fee, steps, ROUNDING, barred=draw(st.booleans())))
    return made


@given(rates(), st.sampled_from(",;\t"), st.booleans(), st.booleans())
@settings(deadline=None)
def test_a_written_deck_is_read(written: list[Rate], delimiter: str, comma: bool, bom: bool) -> None:
    """Rates written as CSV are read back exactly, whatever the delimiter, with a decimal comma where it can be one."""

    def text(amount: Decimal) -> str:
        return f"{amount:f}".replace(".", "," if comma and delimiter != "," else ".")

    file = io.StringIO("\ufeff" if bom else "", newline="")
    file.seek(0, io.SEEK_END)
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(
        ["prefix", "destination", "connect_fee", "price", "per_s", "first_increment_s", "increment_s", "barred"]
    )
    for rate in written:
        first, last = rate.steps[0], rate.steps[-1]
        cells = [rate.prefix, rate.destination, text(rate.connect_fee), text(first.price)]
        writer.writerow([*cells, first.per_s, first.increment_s, last.increment_s, int(rate.barred)])
    deck = read_csv(file.getvalue(), rounding=ROUNDING)
    assert deck.bad == ()
    assert list(deck.rates) == written


CELLS = st.one_of(st.text(max_size=6), st.sampled_from(["49", "1,5", "1E5", "NaN", "-1", '"', "0.1", "1", "\r", "\0"]))


@given(
    st.sampled_from(["prefix,price\n", "prefix;price;per_s;increment_s\n", "\ufeffprefix\tprice\tbarred\r\n", ""]),
    st.lists(st.lists(CELLS, max_size=5), max_size=5),
    st.sampled_from(",;\t"),
)
@settings(deadline=None)
def test_no_text_breaks_the_reader(header: str, rows: list[list[str]], delimiter: str) -> None:
    """Any text gives rates that are rates, or bad rows with lines that exist; never an error."""
    text = header + "\n".join(delimiter.join(row) for row in rows)
    deck = read_csv(text, rounding=ROUNDING)
    assert deck.rates or deck.bad
    for rate in deck.rates:
        check(rate)
    assert all(1 <= bad.line <= len(text) + 1 and bad.reason for bad in deck.bad)
