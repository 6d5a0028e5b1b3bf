"""Mark-ups and discounts: prices worked by hand, to the last digit."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest

from rating.errors import TariffError
from rating.money import parse_amount
from rating.plans import MarkUp, less, marked_up, scaled
from rating.pricing import cost, exact_cost
from rating.tariff import Band, Conditions, Rate, Rounding, RoundingMode, Step, Surcharge, When

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


@pytest.mark.parametrize("percent", ["-1", "100.01", "NaN", "1.00001"])
def test_a_discount_that_is_none_is_refused(percent: str) -> None:
    """Below 0, above 100, no number, or more decimals than stay exact."""
    with pytest.raises(TariffError):
        less(Decimal(percent))


@pytest.mark.parametrize(
    "change", [{"percent": Decimal(-1)}, {"least_per_min": Decimal(-1)}, {"decimals": 13}, {"percent": Decimal("NaN")}]
)
def test_a_mark_up_that_is_none_is_refused(change: dict[str, Decimal]) -> None:
    """A mark-up never sells below the carrier."""
    with pytest.raises(TariffError):
        replace(MarkUp(Decimal(20)), **change)  # type: ignore[arg-type]
