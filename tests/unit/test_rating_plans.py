"""Mark-ups and discounts: prices worked by hand, to the last digit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from rating.errors import TariffError
from rating.money import parse_amount
from rating.plans import MarkUp, less, marked_up, rounded, scaled, times
from rating.pricing import cost, exact_cost
from rating.tariff import Band, Conditions, Outside, Rate, Rounding, RoundingMode, Step, Surcharge, When

HALF_UP_4 = Rounding(RoundingMode.HALF_UP, 4)
CARRIER = Rate("49", "Germany", Decimal("0.05"), (Step(0, Decimal("0.0123"), 60, 1),), HALF_UP_4)


def price_of(rate: Rate) -> str:
    return f"{rate.steps[0].price:f}"


@pytest.mark.parametrize(
    ("carrier", "markup", "sold"),
    [
        # 0.0123 × 1.2 = 0.01476, which is 0.00246 more: the percentage decides; 4 decimals upwards: 0.0148.
        ("0.0123", MarkUp(Decimal(20), Decimal("0.002"), 4), "0.0148"),
        # 0.0051 × 1.2 = 0.00612, only 0.00102 more: the least decides, 0.0071.
        ("0.0051", MarkUp(Decimal(20), Decimal("0.002"), 4), "0.0071"),
        # 0.01 × 1.2 = 0.012: both say the same.
        ("0.01", MarkUp(Decimal(20), Decimal("0.002"), 4), "0.0120"),
        # A call that costs the carrier nothing costs the least all the same.
        ("0", MarkUp(Decimal(20), Decimal("0.002"), 3), "0.002"),
        # 0.0123 × 1.3333 = 0.01639959; half up to 4 decimals is 0.0164, down is 0.0163.
        ("0.0123", MarkUp(Decimal("33.33"), decimals=4, mode=RoundingMode.HALF_UP), "0.0164"),
        ("0.0123", MarkUp(Decimal("33.33"), decimals=4, mode=RoundingMode.DOWN), "0.0163"),
        # 0.0125 × 1.10 = 0.01375: a tie at 4 decimals, to the even 0.0138; 0.0115 × 1.1 = 0.01265 to the even 0.0126.
        ("0.0125", MarkUp(Decimal(10), decimals=4, mode=RoundingMode.HALF_EVEN), "0.0138"),
        ("0.0115", MarkUp(Decimal(10), decimals=4, mode=RoundingMode.HALF_EVEN), "0.0126"),
    ],
)
def test_a_price_is_marked_up_by_percent_or_by_the_least(carrier: str, markup: MarkUp, sold: str) -> None:
    """Whichever is more, then brought to the decimals of prices."""
    bought = replace(CARRIER, steps=(Step(0, Decimal(carrier), 60, 1),))
    assert price_of(marked_up(bought, markup, HALF_UP_4)) == sold


def test_the_least_margin_is_by_the_minute_whatever_the_price_is_for() -> None:
    """0.002 a minute is 0.0001 for three seconds, and 0.12 for an hour."""
    bought = replace(CARRIER, steps=(Step(0, Decimal("0.0001"), 3, 3), Step(60, Decimal("0.1"), 3600, 60)))
    sold = marked_up(bought, MarkUp(Decimal(0), Decimal("0.002"), 6), HALF_UP_4)
    assert [step.price for step in sold.steps] == [Decimal("0.0002"), Decimal("0.22")]


def test_fees_are_marked_up_by_the_percentage_alone() -> None:
    """0.05 + 20 % = 0.06; 0.01 for step and surcharge becomes 0.012; bars and increments stay."""
    bought = replace(
        CARRIER,
        steps=(Step(0, Decimal("0.01"), 60, 30, Decimal("0.01")),),
        conditions=Conditions(min_charge=Decimal("0.02"), surcharges=(Surcharge(60, Decimal("0.01")),)),
        barred=True,
    )
    sold = marked_up(bought, MarkUp(Decimal(20), Decimal("0.5"), 6), Rounding(RoundingMode.UP, 2))
    assert (sold.connect_fee, sold.steps[0].fee) == (Decimal("0.06"), Decimal("0.012"))
    assert (sold.conditions.min_charge, sold.conditions.surcharges[0].amount) == (Decimal("0.024"), Decimal("0.012"))
    assert (sold.barred, sold.steps[0].increment_s, sold.rounding) == (True, 30, Rounding(RoundingMode.UP, 2))


def test_a_discount_is_exact_and_rounded_once_with_the_total() -> None:
    """60 s at 0.0123 with 0.05 to connect are 0.0623; less 12.5 % 0.0545125, half up 0.0545."""
    cheaper = scaled(CARRIER, less(Decimal("12.5")))
    assert cost(cheaper, 60)[0] == parse_amount("0.0545")
    assert exact_cost(cheaper, 60_000) == Fraction(545125, 10**7)


def test_a_discount_is_on_bands_too() -> None:
    """A band's own prices and connect fee are less as well."""
    band = Band(When(), (Step(0, Decimal("0.6"), 60, 1),), Decimal("0.2"))
    cheaper = scaled(replace(CARRIER, steps=(), bands=(band,)), less(Decimal(25)))
    assert (cheaper.bands[0].steps[0].price, cheaper.bands[0].connect_fee) == (Decimal("0.45"), Decimal("0.15"))


def test_a_whole_discount_makes_calls_free() -> None:
    """100 % off costs nothing, however long."""
    assert cost(scaled(CARRIER, less(Decimal(100))), 100_000) == (0, 100_000)


# -- what is no mark-up, no discount, no factor ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"percent": Decimal(-1)}, "a percentage is from 0 to 100000"),
        ({"percent": Decimal("100000.0001")}, "a percentage is from 0 to 100000"),
        ({"percent": Decimal("NaN")}, "a percentage is from 0 to 100000"),
        ({"percent": Decimal("Infinity")}, "a percentage is from 0 to 100000"),
        ({"percent": Decimal("0.00001")}, "a percentage has at most 4 decimals"),
        ({"least_per_min": Decimal("-0.01")}, "the least margin a minute is 0 or more"),
        ({"least_per_min": Decimal("-0")}, "the least margin a minute is 0 or more"),
        ({"least_per_min": Decimal("NaN")}, "the least margin a minute is 0 or more"),
        ({"least_per_min": Decimal("Infinity")}, "the least margin a minute is 0 or more"),
        ({"decimals": -1}, "prices are brought to 0 to 12 decimals"),
        ({"decimals": 13}, "prices are brought to 0 to 12 decimals"),
    ],
)
def test_what_is_no_mark_up_is_told_why(change: dict[str, Any], why: str) -> None:
    """In a sentence that says what it may be."""
    with pytest.raises(TariffError) as told:
        replace(MarkUp(Decimal(20)), **change)
    assert str(told.value) == why


def test_the_largest_and_the_smallest_mark_ups_are_some() -> None:
    """From nothing to a thousandfold, with four decimals; prices from whole ones to twelve decimals."""
    assert price_of(marked_up(CARRIER, MarkUp(Decimal(0)), HALF_UP_4)) == "0.012300"
    # 0.0123 × 1001 = 12.3123, upwards to whole ones 13.
    assert price_of(marked_up(CARRIER, MarkUp(Decimal(100_000), decimals=0), HALF_UP_4)) == "13"
    # 0.0123 × 1.000001 = 0.0123000123.
    assert price_of(marked_up(CARRIER, MarkUp(Decimal("0.0001"), decimals=12), HALF_UP_4)) == "0.012300012300"
    # 0.0123 + 0.2 / 3 is 0.0789666…, to six decimals upwards.
    thirds = replace(CARRIER, steps=(Step(0, Decimal("0.0123"), 20, 1),))
    assert price_of(marked_up(thirds, MarkUp(Decimal(0), Decimal("0.2")), HALF_UP_4)) == "0.078967"


@pytest.mark.parametrize(
    ("percent", "factor"),
    [("0", "1"), ("12.5", "0.875"), ("33.3333", "0.666667"), ("0.0001", "0.999999"), ("100", "0")],
)
def test_a_discount_is_what_is_left_of_a_hundred(percent: str, factor: str) -> None:
    """To the last decimal."""
    assert less(Decimal(percent)) == Decimal(factor)


@pytest.mark.parametrize(
    ("percent", "why"),
    [
        ("-0.0001", "a percentage is from 0 to 100"),
        ("100.0001", "a percentage is from 0 to 100"),
        ("Infinity", "a percentage is from 0 to 100"),
        ("1.00001", "a percentage has at most 4 decimals"),
    ],
)
def test_what_is_no_discount_is_told_why(percent: str, why: str) -> None:
    """Nobody gets money for calling."""
    with pytest.raises(TariffError) as told:
        less(Decimal(percent))
    assert str(told.value) == why


@pytest.mark.parametrize("factor", ["-0.1", "NaN", "Infinity"])
def test_a_factor_is_nothing_or_more(factor: str) -> None:
    """With nothing every call is free."""
    with pytest.raises(TariffError) as told:
        scaled(CARRIER, Decimal(factor))
    assert str(told.value) == "prices are multiplied by 0 or more"
    assert cost(scaled(CARRIER, Decimal(0)), 60) == (0, 60)


def test_factors_multiply_without_losing_a_digit() -> None:
    """A discount of 33.3333 % and an exchange rate of 18 decimals: 0.666667 × 1.000000000000000003, and once more."""
    once = times(Decimal("0.666667"), Decimal("1.000000000000000003"))
    assert once == Decimal("0.666667000000000002000001")
    assert times(once, Decimal("0.0000001")) == Decimal("0.0000000666667000000000002000001")


# -- the rounding of prices --------------------------------------------------------------------------------------------

UP, HALF_UP, HALF_EVEN, DOWN = RoundingMode.UP, RoundingMode.HALF_UP, RoundingMode.HALF_EVEN, RoundingMode.DOWN


@pytest.mark.parametrize(
    ("exact", "decimals", "up", "half_up", "half_even", "down"),
    [
        ("0", 2, "0.00", "0.00", "0.00", "0.00"),
        ("0.86", 2, "0.86", "0.86", "0.86", "0.86"),
        ("0.8649", 2, "0.87", "0.86", "0.86", "0.86"),
        ("0.865", 2, "0.87", "0.87", "0.86", "0.86"),
        ("0.8651", 2, "0.87", "0.87", "0.87", "0.86"),
        ("0.875", 2, "0.88", "0.88", "0.88", "0.87"),
        ("1/3", 4, "0.3334", "0.3333", "0.3333", "0.3333"),
        ("2/3", 4, "0.6667", "0.6667", "0.6667", "0.6666"),
        ("1", 0, "1", "1", "1", "1"),
        ("0.5", 0, "1", "1", "0", "0"),
        ("1.5", 0, "2", "2", "2", "1"),
        ("2.5", 0, "3", "3", "2", "2"),
        ("3.5", 0, "4", "4", "4", "3"),
        ("5.5", 0, "6", "6", "6", "5"),
        ("0.000000000001", 12, *["0.000000000001"] * 4),
        ("0.0000000000001", 12, "0.000000000001", *["0.000000000000"] * 3),
        ("123456789012345678901234567890.125", 2, *(f"123456789012345678901234567890.{n}" for n in (13, 13, 12, 12))),
    ],
)
def test_a_price_is_brought_to_its_decimals(  # noqa: PLR0917 - a table with a column for each mode
    exact: str, decimals: int, up: str, half_up: str, half_even: str, down: str
) -> None:
    """Each mode as its name says, ties too, and no digit lost however long the price."""
    rounded_to = {UP: up, HALF_UP: half_up, HALF_EVEN: half_even, DOWN: down}
    assert {mode: f"{rounded(Fraction(exact), decimals, mode):f}" for mode in RoundingMode} == rounded_to


# -- every amount of a rate --------------------------------------------------------------------------------------------


def full(fees: str, price: str, least: str, most: str | None, rounding: Rounding) -> Rate:
    """Return a rate that has every amount there is: `fees` for what is for the call, prices a minute and a second."""
    fee = Decimal(fees)
    return Rate(
        "49",
        "Germany",
        fee,
        (Step(0, Decimal(price), 60, 1), Step(30, Decimal(price), 60, Decimal("0.5"), fee)),
        rounding,
        bands=(
            Band(When(from_s=0, to_s=3600), (Step(0, Decimal(price), 60, 1, fee),), fee, "early"),
            Band(When(from_s=3600, to_s=7200), (Step(0, Decimal(price), 60, 6),)),
        ),
        conditions=Conditions(
            outside=Outside.BASE,
            min_charge=Decimal(least),
            max_charge=None if most is None else Decimal(most),
            surcharges=(Surcharge(60, fee, 30), Surcharge(90, fee)),
        ),
    )


@pytest.mark.parametrize(("most", "scaled_most"), [("2", "1"), (None, None)])
def test_every_amount_is_multiplied(most: str | None, scaled_most: str | None) -> None:
    """Fees, steps, bands, surcharges and bounds, each by a half; what is no amount stays, and what is not said too."""
    of = full("0.04", "0.6", "0.1", most, HALF_UP_4)
    assert scaled(of, Decimal("0.5")) == full("0.02", "0.3", "0.05", scaled_most, HALF_UP_4)
    assert scaled(of, Decimal("0.5")).bands[1].connect_fee is None


@pytest.mark.parametrize(("most", "sold_most"), [("2", "2.4"), (None, None)])
def test_the_least_margin_is_for_time_alone(most: str | None, sold_most: str | None) -> None:
    """A unit a second is more than 20 % of any price; of what is for the call it is nothing, so 20 % decide there."""
    of = full("0.04", "0.6", "0.1", most, HALF_UP_4)
    sold = marked_up(of, MarkUp(Decimal(20), Decimal(60)), Rounding(RoundingMode.UP, 2))
    assert sold == full("0.048", "60.6", "0.12", sold_most, Rounding(RoundingMode.UP, 2))


def test_bounds_and_surcharges_bound_and_raise_the_scaled_price() -> None:
    """0.10 at least, 2 at most, by half: a second costs 0.05, and an hour 1."""
    bounds = Conditions(min_charge=Decimal("0.1"), max_charge=Decimal(2))
    half = scaled(replace(CARRIER, connect_fee=Decimal(0), conditions=bounds), Decimal("0.5"))
    assert [cost(half, seconds)[0] for seconds in (1, 36_000)] == [50_000, 1_000_000]


def test_a_price_beyond_all_prices_is_refused() -> None:
    """Too large, or with more decimals than are kept: what comes out is checked as any rate is."""
    dear = replace(CARRIER, steps=(Step(0, Decimal(1_000_000_000), 60, 1),))
    with pytest.raises(TariffError) as told:
        marked_up(dear, MarkUp(Decimal(1)), HALF_UP_4)
    assert str(told.value) == "steps.0.price: is at most 1000000000"
    with pytest.raises(TariffError) as told:
        scaled(dear, Decimal("1.01"))
    assert str(told.value) == "steps.0.price: is at most 1000000000"
    fine = replace(CARRIER, steps=(Step(0, Decimal("1E-40"), 60, 1),))
    with pytest.raises(TariffError) as told:
        scaled(fine, Decimal("0.1"))
    assert str(told.value) == "steps.0.price: has at most 40 decimals"
