"""callctl's own format: each cell of a row, what it means, how it is written, and the words for what means nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rating.decks.cells import (
    read_bands,
    read_steps,
    read_surcharges,
    seconds_text,
    shown,
    write_bands,
    write_steps,
    write_surcharges,
)
from rating.decks.own import COLUMNS, BadCell, read_terms, write_terms
from rating.errors import TariffError
from rating.parts import (
    PLAIN,
    Band,
    BandsAt,
    Conditions,
    Durations,
    Outside,
    Rounding,
    RoundingMode,
    Step,
    Surcharge,
    ThenWhat,
    When,
)
from rating.tariff import Rate

ROUNDING = Rounding(RoundingMode.UP, 4)
CENT = Decimal("0.01")
ONE = (Step(0, Decimal("0.1"), 60, 1),)


# -- steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "steps", "written"),
    [
        ("0.10", ONE, "0.1/60x1"),
        ("0.1/1", (Step(0, Decimal("0.1"), 1, 1),), "0.1/1x1"),
        ("0.1x6", (Step(0, Decimal("0.1"), 60, 6),), "0.1/60x6"),
        ("0.1×6.0", (Step(0, Decimal("0.1"), 60, 6),), "0.1/60x6"),
        ("0.1x0.5", (Step(0, Decimal("0.1"), 60, Decimal("0.5")),), "0.1/60x0.5"),
        ("0.1 + 0.05", (Step(0, Decimal("0.1"), 60, 1, Decimal("0.05")),), "0.1/60x1 +0.05"),
        (
            "0.12/60x60 | 60 : 0.10 / 30 x 2 +0.50|90:0",
            (
                Step(0, Decimal("0.12"), 60, 60),
                Step(60, Decimal("0.1"), 30, 2, Decimal("0.5")),
                Step(90, Decimal(0), 60, 1),
            ),
            "0.12/60x60 | 60: 0.1/30x2 +0.5 | 90: 0/60x1",
        ),
    ],
)
def test_steps_of_one_cell(cell: str, steps: tuple[Step, ...], written: str) -> None:
    """What is left out is per 60 s, in increments of 1; whole increments are integers."""
    read = read_steps(cell)
    assert (read, write_steps(steps)) == (steps, written)
    assert [type(step.increment_s) for step in read] == [type(step.increment_s) for step in steps]
    assert read_steps(written) == steps


@pytest.mark.parametrize(
    ("cell", "found"),
    [("x", "'x'"), ("0.1 | ", "nothing"), ("-0.1", "'-0.1'"), ("0,1", "'0,1'"), ("0.1 + x", "'0.1 + x'"),
     ("1" * 40, repr("1" * 40)), ("1" * 41, repr("1" * 40 + "…"))],
)  # fmt: skip
def test_a_step_that_cannot_be_read(cell: str, found: str) -> None:
    """The one that is wrong is repeated, forty characters of it at most."""
    with pytest.raises(TariffError) as caught:
        read_steps(cell)
    assert str(caught.value) == f"expected a step such as 60: 0.10/60x1, found {found}"


def test_what_an_error_repeats() -> None:
    """Nothing has a word of its own; a length of time is written as a number."""
    assert (shown(""), shown("a'b"), shown("x" * 41)) == ("nothing", '"a\'b"', repr("x" * 40 + "…"))
    assert (seconds_text(60), seconds_text(Decimal("0.50"))) == ("60", "0.5")


# -- bands -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("band", "cell"),
    [
        (Band(When(), ONE), "[] 0.1/60x1"),
        (Band(When((1, 2, 3, 4, 5), 28_800, 64_800), ONE), "[Mon-Fri 08:00-18:00] 0.1/60x1"),
        (Band(When((1, 2)), ONE), "[Mon,Tue] 0.1/60x1"),
        (Band(When((5, 6, 7)), ONE), "[Fri-Sun] 0.1/60x1"),
        (Band(When((1, 2, 4)), ONE), "[Mon,Tue,Thu] 0.1/60x1"),
        (Band(When((7,)), ONE), "[Sun] 0.1/60x1"),
        (Band(When((7, 1, 2)), ONE), "[Sun,Mon,Tue] 0.1/60x1"),
        (Band(When(from_s=0, to_s=3600), ONE), "[00:00-01:00] 0.1/60x1"),
        (Band(When(from_s=3600), ONE), "[01:00-24:00] 0.1/60x1"),
        (Band(When(from_s=28_799, to_s=61), ONE), "[07:59:59-00:01:01] 0.1/60x1"),
        (Band(When(dates=("12-25", "2027-03-28")), ONE), "[on 12-25,2027-03-28] 0.1/60x1"),
        (Band(When(priority=-3), ONE), "[priority -3] 0.1/60x1"),
        (Band(When(), ONE, CENT), "[fee 0.01] 0.1/60x1"),
        (Band(When(), ONE, Decimal(0)), "[fee 0] 0.1/60x1"),
        (Band(When(), ONE, None, 'a "b" ]; [\\é'), '["a \\"b\\" ]; [\\\\é"] 0.1/60x1'),
        (
            Band(When((1,), 0, 60, ("01-01",), 5), (*ONE, Step(30, CENT, 1, 2)), CENT, "x y"),
            '["x y" Mon 00:00-00:01 on 01-01 priority 5 fee 0.01] 0.1/60x1 | 30: 0.01/1x2',
        ),
    ],
)
def test_a_band_of_one_cell(band: Band, cell: str) -> None:
    """Each part only where it says something, and read as it was."""
    assert write_bands([band]) == cell
    assert read_bands(cell) == (band,)


def test_bands_stand_behind_one_another() -> None:
    """Words in any order, days in small letters, spaces anywhere."""
    first, second = Band(When((1, 3, 4, 5), 0, 3600), ONE), Band(When(priority=2), (Step(0, CENT, 60, 1),))
    assert write_bands([first, second]) == "[Mon,Wed,Thu,Fri 00:00-01:00] 0.1/60x1 ; [priority 2] 0.01/60x1"
    assert read_bands(" [ 00:00-01:00  mon,WED-fri ]  0.1;[priority 2]0.01 ") == (first, second)
    assert read_bands("[Tue-Tue] 0.1") == (Band(When((2,)), ONE),)
    assert read_bands("[08:59-09:59:59] 0.1")[0].when == When(from_s=32_340, to_s=35_999)


DAYS = "expected days such as Mon-Fri or Sat,Sun, found "


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("0.1", "expected a band such as [Mon-Fri 08:00-18:00] 0.12/60x60, found '0.1'"),
        ("[Mon] 0.1 ; x", "expected a band such as [Mon-Fri 08:00-18:00] 0.12/60x60, found ' x'"),
        ("[Mon 0.1", "expected a band such as [Mon-Fri 08:00-18:00] 0.12/60x60, found '[Mon 0.1'"),
        ("[Mon] 0.1 ; ", "expected another band after the semicolon"),
        ("[Mon] 0.1 ;", "expected another band after the semicolon"),
        ("[Mon]", "expected a step such as 60: 0.10/60x1, found nothing"),
        ("[Fri-Mon] 0.1", DAYS + "'Fri-Mon'"),
        ("[Mon-Fry] 0.1", DAYS + "'Mon-Fry'"),
        ("[-Fri] 0.1", DAYS + "'-Fri'"),
        ("[Mon-] 0.1", DAYS + "'Mon-'"),
        ("[Tue,] 0.1", DAYS + "'Tue,'"),
        ("[08:60-09:00] 0.1", "expected a time of day such as 08:00, found 08:60:00"),
        ("[08:00-09:00:60] 0.1", "expected a time of day such as 08:00, found 09:00:60"),
        ("[priority] 0.1", "priority: expected a whole number, found nothing"),
        ("[priority 1.5] 0.1", "priority: expected a whole number, found '1.5'"),
        ("[fee] 0.1", "fee: expected a price such as 0.0125, found nothing"),
        ("[fee .] 0.1", "fee: expected a price such as 0.0125, found '.'"),
        ("[fee 1E5] 0.1", "fee: expected a price such as 0.0125, found '1E5'"),
        ('["\\q"] 0.1', "expected a name in quotes, found '\"\\\\q\"'"),
    ],
)
def test_a_band_that_cannot_be_read(cell: str, told: str) -> None:
    """The word that is wrong is named."""
    with pytest.raises(TariffError) as caught:
        read_bands(cell)
    assert str(caught.value) == told


def test_surcharges_of_one_cell() -> None:
    """Once, or again and again."""
    due = (Surcharge(300, Decimal("0.10")), Surcharge(600, Decimal("0.05"), 60))
    assert write_surcharges(due) == "300: 0.1 | 600: 0.05 every 60"
    assert read_surcharges(" 300 : 0.10|600:0.05  every  60 ") == due
    for cell, found in (("1 0.1", "'1 0.1'"), ("1: 0.1 | ", "nothing"), ("1: 0.1 every", "'1: 0.1 every'")):
        with pytest.raises(TariffError) as caught:
            read_surcharges(cell)
        assert str(caught.value) == f"expected a surcharge such as 300: 0.10 every 60, found {found}"


# -- rows --------------------------------------------------------------------------------------------------------------


def steps_of(**cells: str) -> tuple[Step, ...]:
    return read_terms(cells, ROUNDING).steps


def test_the_usual_price_of_a_row() -> None:
    """A price, per how much, the first increment, the next."""
    price = Decimal("0.6")
    assert steps_of(price="0.6") == (Step(0, price, 60, 1),)
    assert steps_of(price="0.6", per_s="1.0", increment_s="6") == (Step(0, price, 1, 6),)
    assert steps_of(price="0.6", increment_s="0.1") == (Step(0, price, 60, Decimal("0.1")),)
    assert steps_of(price="0.6", first_increment_s="30") == (Step(0, price, 60, 30), Step(30, price, 60, 1))
    two = (Step(0, price, 1, 30), Step(30, price, 1, 6))
    assert steps_of(price="0.6", per_s="1", first_increment_s="30", increment_s="6") == two
    for both in ("30/6", "30 / 6", "30-6", "30+6", "30:6"):
        assert steps_of(price="0.6", per_s="1", increment_s=both) == two
    assert steps_of(price="0.6", increment_s="6/6") == (Step(0, price, 60, 6),)
    assert steps_of(barred="1") == (Step(0, Decimal(0), 60, 1),)
    assert steps_of(barred="1", increment_s="60/1") == (Step(0, Decimal(0), 60, 60), Step(60, Decimal(0), 60, 1))
    assert steps_of(barred="1", first_increment_s="6") == (Step(0, Decimal(0), 60, 6), Step(6, Decimal(0), 60, 1))
    assert type(steps_of(price="0.6", increment_s="6.0")[0].increment_s) is int
    assert type(steps_of(price="0.6", increment_s="60/1")[0].increment_s) is int
    assert steps_of(steps="0.1") == ONE
    assert steps_of(bands="[] 0.1") == ()
    assert steps_of(bands="[Mon] 0.1", price="0.1", outside="base") == ONE


@pytest.mark.parametrize(
    ("told", "barred"),
    [("", False), ("0", False), ("no", False), ("FALSE", False), ("1", True), ("Yes", True), ("true", True)],
)
def test_a_row_may_be_barred(told: str, barred: bool) -> None:
    """In small letters or large."""
    assert read_terms({"price": "1", "barred": told}, ROUNDING).barred is barred


EVERYTHING = Rate(
    prefix="",
    destination="",
    connect_fee=Decimal("0.02"),
    steps=(Step(0, Decimal("0.12"), 60, 60), Step(60, Decimal("0.1"), 60, 1, Decimal("0.05"))),
    rounding=Rounding(RoundingMode.HALF_EVEN, 3),
    barred=True,
    bands=(Band(When((1, 2, 3)), ONE, name="x"),),
    conditions=Conditions(
        timezone="Europe/Berlin",
        bands_at=BandsAt.START,
        outside=Outside.BASE,
        durations=Durations.EXACT,
        free_s=20,
        free_below_s=5,
        min_charge=Decimal("0.02"),
        max_charge=Decimal(5),
        max_charge_then=ThenWhat.DISCONNECT,
        surcharges=(Surcharge(300, Decimal("0.1"), 60),),
    ),
)
CELLS = {
    "connect_fee": "0.02",
    "steps": "0.12/60x60 | 60: 0.1/60x1 +0.05",
    "barred": "1",
    "bands": '["x" Mon-Wed] 0.1/60x1',
    "surcharges": "300: 0.1 every 60",
    "free_s": "20",
    "free_below_s": "5",
    "min_charge": "0.02",
    "max_charge": "5",
    "rounding": "half_even 3",
    "max_charge_then": "disconnect",
    "durations": "exact",
    "outside": "base",
    "bands_at": "start",
    "timezone": "Europe/Berlin",
}


def test_a_rate_that_says_everything() -> None:
    """Each part has its column, by its own name."""
    assert write_terms(EVERYTHING) == CELLS
    assert read_terms(CELLS, ROUNDING) == EVERYTHING
    upper = {**CELLS, "outside": "BASE", "durations": "Exact", "rounding": "HALF_EVEN: 3"}
    assert read_terms(upper, ROUNDING) == EVERYTHING
    assert set(CELLS) < set(COLUMNS)


@pytest.mark.parametrize(
    ("steps", "cells"),
    [
        (ONE, {"price": "0.1", "increment_s": "1"}),
        ((Step(0, CENT, 1, 6),), {"price": "0.01", "increment_s": "6", "per_s": "1"}),
        (
            (Step(0, CENT, 60, 30), Step(30, CENT, 60, Decimal("0.5"))),
            {"price": "0.01", "increment_s": "0.5", "first_increment_s": "30"},
        ),
        ((Step(0, CENT, 60, Decimal("0.5")),), {"steps": "0.01/60x0.5"}),
        ((Step(0, CENT, 60, 30), Step(31, CENT, 60, 6)), {"steps": "0.01/60x30 | 31: 0.01/60x6"}),
        ((Step(0, CENT, 60, 1, CENT),), {"steps": "0.01/60x1 +0.01"}),
    ],
)
def test_the_columns_in_which_steps_are_written(steps: tuple[Step, ...], cells: dict[str, str]) -> None:
    """The usual ones where they can tell it, `steps` otherwise; what is the default is left out."""
    rate = Rate("", "", Decimal(0), steps, ROUNDING)
    assert write_terms(rate) == {**cells, "rounding": "up 4"}
    assert read_terms(cells, ROUNDING) == rate


def test_a_row_that_says_no_more_than_a_price() -> None:
    """The rounding is that of the tariff, the conditions are the plain ones, and a highest charge of nothing is one."""
    rate = read_terms({"price": "0.1", "connect_fee": ""}, ROUNDING)
    assert rate == Rate("", "", Decimal(0), ONE, ROUNDING)
    assert rate.conditions is PLAIN
    assert read_terms({"price": "0.1", "max_charge": "0"}, ROUNDING).conditions.max_charge == 0
    assert write_terms(read_terms({"price": "0.1", "max_charge": "0"}, ROUNDING))["max_charge"] == "0"


@pytest.mark.parametrize(
    ("cells", "column", "reason"),
    [
        ({"price": "1", "barred": "Maybe"}, "barred", "expected 1 or 0, found 'Maybe'"),
        ({}, "price", "expected a price such as 0.0125, found nothing"),
        ({"first_increment_s": "6"}, "price", "expected a price such as 0.0125, found nothing"),
        ({"increment_s": "60/1"}, "price", "expected a price such as 0.0125, found nothing"),
        ({"price": "."}, "price", "expected a price such as 0.0125, found '.'"),
        ({"price": "1E5"}, "price", "expected a price such as 0.0125, found '1E5'"),
        ({"price": "1", "connect_fee": "-1"}, "connect_fee", "expected a price such as 0.0125, found '-1'"),
        ({"price": "1", "min_charge": "x"}, "min_charge", "expected a price such as 0.0125, found 'x'"),
        ({"price": "1", "max_charge": "x"}, "max_charge", "expected a price such as 0.0125, found 'x'"),
        ({"price": "1", "steps": "1"}, "steps", "stands instead of price, not beside it"),
        ({"steps": "x"}, "steps", "expected a step such as 60: 0.10/60x1, found 'x'"),
        ({"bands": "x"}, "bands", "expected a band such as [Mon-Fri 08:00-18:00] 0.12/60x60, found 'x'"),
        (
            {"price": "1", "surcharges": "x"},
            "surcharges",
            "expected a surcharge such as 300: 0.10 every 60, found 'x'",
        ),
        ({"price": "1", "per_s": "1.5"}, "per_s", "expected a whole number of seconds, found '1.5'"),
        ({"price": "1", "free_s": "x"}, "free_s", "expected a whole number of seconds, found 'x'"),
        ({"price": "1", "free_below_s": "-1"}, "free_below_s", "expected a whole number of seconds, found '-1'"),
        (
            {"price": "1", "first_increment_s": "0.5"},
            "first_increment_s",
            "expected a whole number of seconds, found '0.5'",
        ),
        ({"price": "1", "increment_s": "one"}, "increment_s", "expected seconds such as 60 or 0.1, found 'one'"),
        (
            {"price": "1", "increment_s": "60/1", "first_increment_s": "60"},
            "increment_s",
            "expected seconds such as 60 or 0.1, found '60/1'",
        ),
        ({"price": "1", "rounding": "up"}, "rounding", "expected a rounding such as half_up 4, found 'up'"),
        ({"price": "1", "rounding": "up 7"}, "rounding", "expected a rounding such as half_up 4, found 'up 7'"),
        ({"price": "1", "outside": "never"}, "outside", "expected one of forbidden, base, closed, found 'never'"),
        ({"price": "1", "bands_at": "x"}, "bands_at", "expected one of start, each_increment, found 'x'"),
        ({"price": "1", "durations": "x"}, "durations", "expected one of up, nearest, down, exact, found 'x'"),
        ({"price": "1", "max_charge_then": "x"}, "max_charge_then", "expected one of free, disconnect, found 'x'"),
        ({"price": "9999999999"}, "price", "price must be at most 1000000000"),
        ({"price": "1", "per_s": "0"}, "per_s", "per_s must be from 1 to 31622400"),
        (
            {"price": "1", "increment_s": "0"},
            "increment_s",
            "increment_s must be from 1 to 31622400, or down to 0.001 in whole milliseconds",
        ),
        (
            {"price": "1", "first_increment_s": "0", "increment_s": "6"},
            "first_increment_s",
            "first_increment_s must be from 1 to 31622400, or down to 0.001 in whole milliseconds",
        ),
        (
            {"price": "1", "first_increment_s": "6", "increment_s": "0.0001"},
            "increment_s",
            "increment_s must be from 1 to 31622400, or down to 0.001 in whole milliseconds",
        ),
        ({"price": "1", "free_s": "31622401"}, "free_s", "free_s must be from 0 to 31622400"),
        (
            {"price": "1", "timezone": "Mars/Olympus"},
            "timezone",
            "timezone must be the name of an IANA time zone such as Europe/Berlin",
        ),
        (
            {"price": "1", "min_charge": "2", "max_charge": "1"},
            "max_charge",
            "max_charge must not be less than the minimum charge",
        ),
        ({"steps": "5: 0.1"}, "steps", "the steps must begin at 0 s"),
        (
            {"steps": "0.1 | 30: 0.2 | 20: 0.3"},
            "steps",
            "step 3: its beginning must be more than that of the step before, and at most 31622400",
        ),
        ({"steps": "0.1/0"}, "steps", "step 1: what its price is per must be from 1 to 31622400"),
        ({"steps": "0.1 | 9: 9999999999"}, "steps", "step 2 must be at most 1000000000"),
        (
            {"bands": "[Mon-Fri] 0.1"},
            "bands",
            (
                "the bands must cover the whole week, or the tariff says what holds outside; "
                "nothing covers Saturday from 00:00 to 24:00"
            ),
        ),
        (
            {"bands": "[] 0.1 ; [Sun] 0.2"},
            "bands",
            "band 2 overlaps band 1 at the same priority, on Sunday 00:00",
        ),
        (
            {"bands": "[] 0.1 | 60: 0.1/60x0"},
            "bands",
            "band 1, step 2: its increment must be from 1 to 31622400, or down to 0.001 in whole milliseconds",
        ),
        ({"bands": "[25:00-26:00] 0.1"}, "bands", "band 1: its beginning must be from 00:00 to 23:59:59"),
        ({"bands": "[08:00-25:00] 0.1"}, "bands", "band 1: its end must be from 00:00 to 24:00"),
        (
            {"bands": "[] 0.1 ; [on 12-25,13-45] 0.1"},
            "bands",
            "band 2, date 2 must be a date such as 12-25 or 2027-03-28",
        ),
        ({"bands": "[on] 0.1"}, "bands", "band 1, date 1 must be a date such as 12-25 or 2027-03-28"),
        ({"bands": "[Mon,Mon] 0.1"}, "bands", "band 1 must be some of 1 (Monday) to 7 (Sunday), each once"),
        (
            {"bands": "[Mon] 0.1", "outside": "base"},
            "price",
            "is missing: `outside` says that it holds where no band does",
        ),
        ({"bands": "[] 0.1", "price": "1"}, "price", "holds beside bands only where `outside` says `base`"),
        (
            {"bands": "[] 0.1", "steps": "1"},
            "steps",
            "the steps of the rate itself hold only where the conditions say `outside`: `base`",
        ),
        ({"price": "1", "surcharges": "1: 0 | 0: 0.1"}, "surcharges", "surcharge 2 must be from 1 to 31622400"),
    ],
)
def test_a_cell_that_makes_no_rate(cells: dict[str, str], column: str, reason: str) -> None:
    """The column of the file, and the place in it: bands, steps and dates are counted from 1."""
    with pytest.raises(BadCell) as caught:
        read_terms(cells, ROUNDING)
    assert (caught.value.column, caught.value.reason, str(caught.value)) == (column, reason, reason)
