"""Rows of other systems become steps: each column's meaning, worked by hand, and the words of each refusal."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from rating.dialects import rate_of
from rating.dialects.a2billing import flat_steps
from rating.dialects.blocks import blocks, opened
from rating.dialects.columns import is_empty, money, required, seconds, text
from rating.errors import TariffError
from rating.parts import Conditions, Rounding, RoundingMode, Step, Surcharge, ThenWhat
from rating.tariff import Rate

SIX = Rounding(RoundingMode.HALF_UP, 6)


def dec(told: str | int) -> Decimal:
    return Decimal(told)


def refusal(dialect: str, row: dict[str, Any]) -> str:
    """Return why a row is refused."""
    with pytest.raises(TariffError) as caught:
        rate_of(dialect, row)
    return str(caught.value)


# -- cells -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("0.05", "0.05"), (" 1.5 ", "1.5"), (".5", "0.5"), ("5.", "5"), (7, "7"), ("", "0"), ("  ", "0"), (None, "0"),
        (Decimal("1E-7"), "0.0000001"), ("9999999999.999999999999999999", "9999999999.999999999999999999"),
    ],
)  # fmt: skip
def test_an_amount_is_a_plain_number(value: Any, read: str) -> None:
    """Texts with a point, whole numbers, decimals of a database; an empty cell is nothing."""
    found = money({"cost": value}, "cost")
    assert (type(found), found) == (Decimal, dec(read))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (".", "'.'"), ("1,5", "'1,5'"), ("1E5", "'1E5'"), ("-1", "'-1'"), (True, "'True'"), (0.5, "'0.5'"),
        ("12345678901", "'12345678901'"), ("0.1234567890123456789", "'0.1234567890123456789'"), ("\u0661", "'\u0661'"),
        ("x" * 40, repr("x" * 40)), ("x" * 41, repr("x" * 40 + "…")),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_repeated_with_its_column(value: Any, shown: str) -> None:
    """Forty characters of it at most; floats are refused, as they have lost what was meant."""
    for read in (money, required):
        with pytest.raises(TariffError) as caught:
            read({"cost": value}, "cost")
        assert str(caught.value) == f"cost: expected a number such as 0.0125, found {shown}"


def test_an_amount_that_must_be_there() -> None:
    """An empty cell and a missing one are said to be nothing."""
    for row in ({}, {"cost": " "}, {"cost": None}):
        with pytest.raises(TariffError) as caught:
            required(row, "cost")
        assert str(caught.value) == "cost: expected a number such as 0.0125, found nothing"
        assert is_empty(row, "cost")
    assert required({"cost": "0"}, "cost") == 0
    assert not is_empty({"cost": 0}, "cost")


def test_seconds_are_whole_and_no_more_than_a_year() -> None:
    """60.0 is 60; a cell that says nothing has its default."""
    assert seconds({"inc": "60.0"}, "inc") == 60
    assert (seconds({}, "inc"), seconds({"inc": ""}, "inc", 7), seconds({"inc": "0"}, "inc", 7)) == (0, 7, 0)
    assert seconds({"inc": 31_622_400}, "inc") == 31_622_400
    for value in ("1.5", "31622401"):
        with pytest.raises(TariffError) as caught:
            seconds({"inc": value}, "inc")
        assert str(caught.value) == f"inc: expected whole seconds up to 31622400, found '{value}'"


def test_a_text_is_that_of_the_first_column_that_has_one() -> None:
    """Numbers of a database are texts, too; without any the text is empty."""
    row = {"a": " ", "b": 49, "c": " x "}
    assert (text(row, "a", "b", "c"), text(row, "c", "b"), text(row, "a"), text(row)) == ("49", "x", "", "")


# -- steps -------------------------------------------------------------------------------------------------------------


def test_blocks_of_a_length_that_they_do_not_fill() -> None:
    """30 s in blocks of 12: two whole ones, and 6 s at the price of 12. 5 s in blocks of 12: 5 s at that price."""
    assert blocks(10, 30, dec("0.6"), 12, dec("0.1")) == [
        Step(10, dec("0.6"), 60, 12, dec("0.1")),
        Step(34, dec("7.2"), 360, 6),
    ]
    assert blocks(10, 5, dec("0.6"), 12, dec("0.1")) == [Step(10, dec("7.2"), 300, 5, dec("0.1"))]
    assert blocks(10, 24, dec("0.6"), 12, dec("0.1")) == [Step(10, dec("0.6"), 60, 12, dec("0.1"))]
    assert blocks(0, 0, dec("0.6"), 12, dec(0)) == [Step(0, dec("0.6"), 60, 12)]


def test_what_is_charged_until_the_least_is_one_increment() -> None:
    """At least 20 s of blocks of 12 s at 0.60 a minute: 24 s for 0.24. With 4 s of grace: the same for 20 s of talk."""
    steps = blocks(0, 0, dec("0.6"), 12, dec(0))
    assert opened(steps, 20) == (Step(0, dec("14.4"), 1440, 24), Step(24, dec("0.6"), 60, 12))
    assert opened(steps, 20, 4) == (Step(0, dec("14.4"), 1200, 20), Step(20, dec("0.6"), 60, 12))
    # 12 s of grace and the first second of talk are 13 s, so 24 s are charged, and 12 of them are talk.
    assert opened(steps, 1, 12) == (Step(0, dec("14.4"), 720, 12), Step(12, dec("0.6"), 60, 12))
    assert opened(steps, 1, 11) == (Step(0, dec("7.2"), 60, 1), Step(1, dec("0.6"), 60, 12))


@pytest.mark.parametrize(
    ("first_s", "block_s", "grace_s", "steps"),
    [
        (0, 0, 0, (Step(0, dec(6), 60, 1), Step(1, dec(6), 60, 1))),
        (30, 6, 0, (Step(0, dec(180), 1800, 30), Step(30, dec(6), 60, 6))),
        # 30 is no multiple of 12: 36 is the first, so 6 s, then 12 s each.
        (30, 12, 0, (Step(0, dec(180), 1800, 30), Step(30, dec(6), 60, 6), Step(36, dec(6), 60, 12))),
        (5, 12, 0, (Step(0, dec(30), 300, 5), Step(5, dec(6), 60, 7), Step(12, dec(6), 60, 12))),
        # The first 60 s are charged, 5 of which are grace.
        (0, 60, 5, (Step(0, dec(360), 3300, 55), Step(55, dec(6), 60, 60))),
    ],
)
def test_a_flat_rate_rounds_the_whole_duration(
    first_s: int, block_s: int, grace_s: int, steps: tuple[Step, ...]
) -> None:
    """At 6 a minute, 0.1 a second."""
    assert flat_steps(dec(6), first_s, block_s, grace_s) == steps


# -- A2Billing ---------------------------------------------------------------------------------------------------------


def test_a_row_of_a2billing() -> None:
    """Each column has its place; the total is rounded to six decimals."""
    row = {
        "dialprefix": "49", "prefix": "44", "destination": "Germany", "rateinitial": "6", "initblock": "30",
        "billingblock": "6", "connectcharge": "0.02", "minimal_cost": "0.05",
    }  # fmt: skip
    steps = (Step(0, dec(180), 1800, 30), Step(30, dec(6), 60, 6))
    conditions = Conditions(min_charge=dec("0.05"))
    assert rate_of("a2billing", row) == Rate("49", "Germany", dec("0.02"), steps, SIX, conditions=conditions)
    assert rate_of("a2billing", {"prefix": "44", "rateinitial": "6"}).prefix == "44"


@pytest.mark.parametrize(
    ("said", "fee", "surcharges"),
    [
        ({}, "0.02", ()),
        ({"disconnectcharge": "0.03"}, "0.05", ()),
        ({"disconnectcharge": "0.03", "disconnectcharge_after": 1}, "0.05", ()),
        ({"disconnectcharge": "0.03", "disconnectcharge_after": 2}, "0.02", (Surcharge(2, dec("0.03")),)),
        ({"disconnectcharge": "0", "disconnectcharge_after": 60}, "0.02", ()),
        ({"additional_block_charge": "0.01"}, "0.02", ()),
        (
            {"additional_block_charge": "0.01", "additional_block_charge_time": 60},
            "0.02",
            (Surcharge(60, dec("0.01"), 60),),
        ),
        # Every second: one is due at once, the next after the second second.
        (
            {"additional_block_charge": "0.01", "additional_block_charge_time": 1},
            "0.03",
            (Surcharge(2, dec("0.01"), 1),),
        ),
        # 50 s of grace and the first second are 51: one block of 45 s is over, and the second ends 40 s later.
        (
            {"additional_block_charge": "0.01", "additional_block_charge_time": 45, "additional_grace": 50},
            "0.03",
            (Surcharge(40, dec("0.01"), 45),),
        ),
        (
            {
                "disconnectcharge": "0.03", "disconnectcharge_after": 9,
                "additional_block_charge": "0.01", "additional_block_charge_time": 60,
            },
            "0.02",
            (Surcharge(9, dec("0.03")), Surcharge(60, dec("0.01"), 60)),
        ),
    ],
)  # fmt: skip
def test_charges_of_a2billing(said: dict[str, Any], fee: str, surcharges: tuple[Surcharge, ...]) -> None:
    """What is due with the first second is part of the connect fee; what is due later is a surcharge."""
    rate = rate_of("a2billing", {"rateinitial": "1", "connectcharge": "0.02", **said})
    assert (rate.connect_fee, rate.conditions.surcharges) == (dec(fee), surcharges)


CYCLES = {
    "rateinitial": "0.06", "billingblock": "6",
    "stepchargea": "0.1", "chargea": "0.6", "timechargea": "30", "billingblocka": "12",
    "stepchargeb": "0.05", "chargeb": "0.3", "timechargeb": "60", "billingblockb": "60",
}  # fmt: skip
LATER = (Step(24, dec("7.2"), 360, 6), Step(30, dec("0.3"), 60, 60, dec("0.05")), Step(90, dec("0.06"), 60, 6))


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({}, (Step(0, dec("0.6"), 60, 12, dec("0.1")), *LATER)),
        ({"initblock": 1}, (Step(0, dec("0.6"), 60, 12, dec("0.1")), *LATER)),
        # 12 s at 0.60 a minute and the fee of 0.10, in one increment: 0.22.
        ({"initblock": 2}, (Step(0, dec("13.2"), 720, 12), Step(12, dec("0.6"), 60, 12), *LATER)),
        (
            {"additional_grace": 1},
            (
                Step(0, dec("13.2"), 660, 11),
                Step(11, dec("0.6"), 60, 12),
                Step(23, dec("7.2"), 360, 6),
                Step(29, dec("0.3"), 60, 60, dec("0.05")),
                Step(89, dec("0.06"), 60, 6),
            ),
        ),
        # All of A, 0.10 + 3 x 0.12, and the first of B, 0.05 + 0.30: 0.81 for 90 s.
        ({"initblock": 60}, (Step(0, dec("48.6"), 5400, 90), Step(90, dec("0.06"), 60, 6))),
        # A cycle without a price or without a length is none, nor is any after it.
        (
            {"chargeb": "0", "chargec": "1", "timechargec": "30"},
            (Step(0, dec("0.6"), 60, 12, dec("0.1")), Step(24, dec("7.2"), 360, 6), Step(30, dec("0.06"), 60, 6)),
        ),
        (
            {"timechargeb": "0"},
            (Step(0, dec("0.6"), 60, 12, dec("0.1")), Step(24, dec("7.2"), 360, 6), Step(30, dec("0.06"), 60, 6)),
        ),
        # No block is one second.
        (
            {"billingblocka": "0", "billingblockb": "", "billingblock": "0"},
            (
                Step(0, dec("0.6"), 60, 1, dec("0.1")),
                Step(30, dec("0.3"), 60, 1, dec("0.05")),
                Step(90, dec("0.06"), 60, 1),
            ),
        ),
        (
            {"timechargec": "10", "chargec": "0.12", "billingblockc": "10", "stepchargec": "0.01"},
            (
                Step(0, dec("0.6"), 60, 12, dec("0.1")),
                *LATER[:2],
                Step(90, dec("0.12"), 60, 10, dec("0.01")),
                Step(100, dec("0.06"), 60, 6),
            ),
        ),
        # Without the first cycle the rate is flat.
        ({"chargea": "0"}, (Step(0, dec("0.36"), 360, 6), Step(6, dec("0.06"), 60, 6))),
        ({"timechargea": "0"}, (Step(0, dec("0.36"), 360, 6), Step(6, dec("0.06"), 60, 6))),
    ],
)
def test_cycles_of_a2billing(said: dict[str, Any], steps: tuple[Step, ...]) -> None:
    """A at 0.60 for 30 s in blocks of 12 s, B at 0.30 for 60 s, and the rest at 0.06 in blocks of 6 s."""
    assert rate_of("a2billing", {**CYCLES, **said}).steps == steps


def test_what_a2billing_says_that_steps_cannot() -> None:
    """Refused with the column; a column that changes nothing is passed."""
    base = {"rateinitial": "1"}
    both = {**base, "rounding_calltime": 60, "rounding_threshold": 5}
    told = "rounding_calltime: a rounding of the call time above a threshold cannot be told in steps"
    assert refusal("a2billing", both) == told
    told = "starttime: a rate for some hours of the week needs the bands of all of its rows"
    for said in ({"starttime": 1}, {"endtime": 10_078}, {"endtime": "0"}):
        assert refusal("a2billing", {**base, **said}) == told
    for fine in ({"rounding_calltime": 60}, {"rounding_threshold": 5}, {"starttime": 0, "endtime": 10_079}):
        assert rate_of("a2billing", {**base, **fine}) == rate_of("a2billing", base)


# -- MagnusBilling -----------------------------------------------------------------------------------------------------


def test_a_row_of_magnusbilling() -> None:
    """A call of at most 5 s is free: one of less than 6 s."""
    row = {
        "prefix": "49", "dialprefix": "44", "destination": "Germany", "rateinitial": "6", "initblock": "30",
        "billingblock": "12", "connectcharge": "0.02", "minimal_time_charge": "5", "additional_grace": "3",
        "disconnectcharge": "9",
    }  # fmt: skip
    steps = (Step(0, dec(180), 1620, 27), Step(27, dec(6), 60, 6), Step(33, dec(6), 60, 12))
    conditions = Conditions(free_below_s=6)
    assert rate_of("magnusbilling7", row) == Rate("49", "Germany", dec("0.02"), steps, SIX, conditions=conditions)
    plain = rate_of("magnusbilling7", {"dialprefix": "44", "rateinitial": "6"})
    assert (plain.prefix, plain.conditions) == ("44", Conditions())


def test_a_share_of_the_call_is_no_step() -> None:
    """MagnusBilling may add a part of the duration; that is refused."""
    told = "additional_grace: a share of the call's time cannot be told in steps"
    assert refusal("magnusbilling7", {"rateinitial": "1", "additional_grace": "10%"}) == told


# -- ASTPP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "steps"),
    [
        ({}, (Step(0, dec(6), 60, 1),)),
        ({"inc": 0, "init_inc": 0}, (Step(0, dec(6), 60, 1),)),
        ({"inc": 6}, (Step(0, dec(6), 60, 6),)),
        ({"inc": 6, "init_inc": 6}, (Step(0, dec(6), 60, 6),)),
        ({"init_inc": 1}, (Step(0, dec(6), 60, 1),)),
        ({"inc": 6, "init_inc": 30}, (Step(0, dec(6), 60, 30), Step(30, dec(6), 60, 6))),
    ],
)
def test_increments_of_astpp(said: dict[str, Any], steps: tuple[Step, ...]) -> None:
    """The first is `init_inc`, the others `inc`; nothing, and 0, are one second and no first one."""
    assert rate_of("astpp", {"cost": "6", **said}).steps == steps


def test_a_row_of_astpp() -> None:
    """Patterns are regular expressions of one prefix; the total has four decimals; the included seconds are free."""
    row = {
        "pattern": "^49.*", "prefix": "44", "comment": "Germany", "destination": "x", "cost": "6", "inc": "6",
        "connectcost": "0.02", "includedseconds": "20",
    }  # fmt: skip
    four = Rounding(RoundingMode.HALF_UP, 4)
    expected = Rate("49", "Germany", dec("0.02"), (Step(0, dec(6), 60, 6),), four, conditions=Conditions(free_s=20))
    assert rate_of("astpp", row) == expected
    for pattern in ("^49", "49", "49.*"):
        assert rate_of("astpp", {**row, "pattern": pattern}) == expected
    other = rate_of("astpp", {"prefix": "44", "destination": "UK", "cost": "6"})
    assert (other.prefix, other.destination) == ("44", "UK")
    assert refusal("astpp", {**row, "pattern": "^49[123].*"}) == "prefix: has only digits"


# -- Yeti --------------------------------------------------------------------------------------------------------------


def test_a_row_of_yeti() -> None:
    """One interval at the first rate, the others at the next one; a name, or else the network's."""
    row = {
        "prefix": "49", "destination": "Germany", "network": "DT", "connect_fee": "0.02", "initial_rate": "3",
        "initial_interval": "30", "next_rate": "6", "next_interval": "12",
    }  # fmt: skip
    steps = (Step(0, dec(3), 60, 30), Step(30, dec(6), 60, 12))
    assert rate_of("yeti", row) == Rate("49", "Germany", dec("0.02"), steps, SIX)
    assert rate_of("yeti", {**row, "destination": ""}).destination == "DT"
    assert rate_of("yeti", {**row, "initial_rate": "0"}).steps[0].price == 0
    assert rate_of("yeti", {**row, "initial_rate": ""}).steps[0].price == 6


@pytest.mark.parametrize("interval", [None, "", "0", "1"])
def test_an_interval_of_nothing_is_a_second(interval: str | None) -> None:
    """As Yeti has it by default."""
    rate = rate_of("yeti", {"next_rate": "6", "initial_interval": interval, "next_interval": interval})
    assert rate.steps == (Step(0, dec(6), 60, 1), Step(1, dec(6), 60, 1))


@pytest.mark.parametrize(
    ("told", "barred"),
    [("1", True), ("t", True), ("TRUE", True), ("yes", True), ("", False), ("f", False), ("0", False)],
)
def test_yeti_may_reject_calls(told: str, barred: bool) -> None:
    """A destination that rejects calls is barred."""
    assert rate_of("yeti", {"next_rate": "6", "reject_calls": told}).barred is barred


# -- CGRateS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "increment"),
    [
        ("", 1),
        ("60", 60),
        ("0.5", dec("0.5")),
        ("60s", 60),
        ("1m", 60),
        ("1m30s", 90),
        ("1h", 3600),
        ("1h1m1s", 3661),
        ("100ms", dec("0.1")),
        ("1s500ms", dec("1.5")),
        ("1.5s", dec("1.5")),
        ("1m100ms", dec("60.1")),
        (6, 6),
    ],
)
def test_times_of_go(told: Any, increment: Any) -> None:
    """Hours, minutes, seconds and milliseconds, or seconds alone; nothing is one second."""
    step = rate_of("cgrates", {"Rate": "1", "RateIncrement": told}).steps[0]
    assert (step.increment_s, type(step.increment_s)) == (increment, type(increment))


@pytest.mark.parametrize(
    ("told", "price", "per_s"),
    [
        ("", "2", 60),
        ("1s", "2", 1),
        ("60", "2", 60),
        ("500ms", "2000", 500),
        ("1500ms", "2000", 1500),
        ("2m", "2", 120),
    ],
)
def test_units_of_cgrates(told: str, price: str, per_s: int) -> None:
    """A price is for its unit; one that is no whole number of seconds is told for a thousand of them."""
    step = rate_of("cgrates", {"Rate": "2", "RateUnit": told}).steps[0]
    assert (step.price, step.per_s, type(step.per_s)) == (dec(price), per_s, int)


def test_lines_of_cgrates() -> None:
    """They come in order of their beginning; the connect fee is that of the first; names in the order of columns."""
    first = {"ConnectFee": "0.4", "Rate": "0.2", "RateIncrement": "60s", "GroupIntervalStart": "0s"}
    later = {"ConnectFee": "9", "Rate": "0.1", "GroupIntervalStart": "1m0s"}
    row = {"rates": [later, first], "Prefix": "49", "Destination": "DE", "DestinationId": "DST", "Id": "RT"}
    steps = (Step(0, dec("0.2"), 60, 60), Step(60, dec("0.1"), 60, 1))
    assert rate_of("cgrates", row) == Rate("49", "DE", dec("0.4"), steps, SIX)
    assert [rate_of("cgrates", {"Rate": "1", **said}).destination for said in (
        {"DestinationId": "DST", "Id": "RT"}, {"Id": "RT"}, {},
    )] == ["DST", "RT", ""]  # fmt: skip
    assert rate_of("cgrates", {"rates": [], "Rate": "3"}).steps == (Step(0, dec(3), 60, 1),)


@pytest.mark.parametrize(
    ("said", "rounding"),
    [
        ({}, SIX),
        ({"RoundingMethod": "*up", "RoundingDecimals": "4"}, Rounding(RoundingMode.UP, 4)),
        ({"RoundingMethod": "*middle", "RoundingDecimals": "0"}, Rounding(RoundingMode.HALF_UP, 0)),
        ({"RoundingMethod": "*down", "RoundingDecimals": 6}, Rounding(RoundingMode.DOWN, 6)),
        ({"RoundingDecimals": "9"}, SIX),
    ],
)
def test_roundings_of_cgrates(said: dict[str, Any], rounding: Rounding) -> None:
    """Six decimals where nothing is said, and never more: no amount has."""
    assert rate_of("cgrates", {"Rate": "1", **said}).rounding == rounding


@pytest.mark.parametrize(
    ("said", "most", "then"),
    [
        ({"MaxCost": "0.65"}, None, ThenWhat.FREE),
        ({"MaxCostStrategy": "*free"}, None, ThenWhat.FREE),
        ({"MaxCost": "0", "MaxCostStrategy": "*disconnect"}, None, ThenWhat.DISCONNECT),
        ({"MaxCost": "0.65", "MaxCostStrategy": "*free"}, dec("0.65"), ThenWhat.FREE),
        ({"MaxCost": "0.65", "MaxCostStrategy": "*disconnect"}, dec("0.65"), ThenWhat.DISCONNECT),
    ],
)
def test_highest_costs_of_cgrates(said: dict[str, Any], most: Decimal | None, then: ThenWhat) -> None:
    """Only with a strategy; a highest cost of 0 is none."""
    conditions = rate_of("cgrates", {"Rate": "1", **said}).conditions
    assert (conditions.max_charge, conditions.max_charge_then) == (most, then)


@pytest.mark.parametrize(
    ("dialect", "row", "told"),
    [
        ("cgrates", {"rates": 1}, "rates: expected a list of rows"),
        ("cgrates", {"rates": [{"Rate": "1"}, "x"]}, "rates: expected a list of rows"),
        ("cgrates", {"Rate": "1", "RoundingMethod": "*odd"}, "RoundingMethod: expected one of *up, *middle, *down"),
        ("cgrates", {"Rate": "1", "MaxCostStrategy": "*x"}, "MaxCostStrategy: expected *free or *disconnect"),
        ("cgrates", {"Rate": "1", "GroupIntervalStart": "1500ms"}, "GroupIntervalStart: expected whole seconds"),
        ("cgrates", {"Rate": "1", "RoundingDecimals": "1.5"}, "RoundingDecimals: expected a whole number"),
        ("cgrates", {"Rate": "1", "RateUnit": "fast"}, "RateUnit: expected a time such as 60s, found 'fast'"),
        ("cgrates", {"Rate": "1", "RateUnit": "1.2.3"}, "RateUnit: expected a time such as 60s, found '1.2.3'"),
        (
            "cgrates",
            {"Rate": "1", "RateIncrement": "s" * 41},
            f"RateIncrement: expected a time such as 60s, found '{'s' * 40}'",
        ),
        ("cgrates", {}, "Rate: expected a number such as 0.0125, found nothing"),
        ("yeti", {}, "next_rate: expected a number such as 0.0125, found nothing"),
        ("astpp", {}, "cost: expected a number such as 0.0125, found nothing"),
        ("a2billing", {}, "rateinitial: expected a number such as 0.0125, found nothing"),
        ("magnusbilling7", {}, "rateinitial: expected a number such as 0.0125, found nothing"),
        # However many blocks there are, they are counted at once.
        (
            "a2billing",
            {"rateinitial": "1", "initblock": 31_622_400, "billingblock": 1},
            "steps.0.per_s: is from 1 to 31622400",
        ),
        ("vcard", {}, "dialect: expected one of a2billing, magnusbilling7, astpp, yeti, cgrates"),
    ],
)
def test_a_refusal_in_words(dialect: str, row: dict[str, Any], told: str) -> None:
    """The column, what was expected, and what was found."""
    assert refusal(dialect, row) == told
