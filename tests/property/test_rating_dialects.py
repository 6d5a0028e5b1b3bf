"""Rows of other systems: the steps made of them cost, at every second, what each system's own formula gives.

The formulas are written here as those systems publish them, over exact fractions.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.dialects import rate_of
from rating.errors import TariffError
from rating.money import round_total
from rating.pricing import cost
from rating.tariff import Rounding, RoundingMode

PRICES = st.decimals(0, 2, places=4)
BLOCKS = st.sampled_from([0, 1, 6, 7, 12, 18, 30, 60])
LENGTHS = st.integers(1, 400)
SIX = Rounding(RoundingMode.HALF_UP, 6)


def up(seconds: int, block: int) -> int:
    """Round seconds up to a multiple; a block of 0 rounds nothing."""
    return -(-seconds // block) * block if block else seconds


def a2billing(row: dict[str, Any], seconds: int) -> int:
    total = Fraction(row["connectcharge"])
    if row["disconnectcharge_after"] <= seconds:
        total += Fraction(row["disconnectcharge"])
    seconds += row["additional_grace"]
    if row["additional_block_charge_time"]:
        total += seconds // row["additional_block_charge_time"] * Fraction(row["additional_block_charge"])
    seconds = max(seconds, row["initblock"])
    if not (row["chargea"] and row["timechargea"]):
        billed = up(seconds, row["billingblock"]) if seconds > row["initblock"] else seconds
        total += Fraction(row["rateinitial"]) * billed / 60
    else:
        left = seconds
        for cycle in "abc":
            charge, length = row[f"charge{cycle}"], row[f"timecharge{cycle}"]
            if not left or not (charge and length):
                break
            total += Fraction(row[f"stepcharge{cycle}"])
            total += up(min(left, length), row[f"billingblock{cycle}"]) * Fraction(charge) / 60
            left = max(0, left - length)
        total += up(left, row["billingblock"]) * Fraction(row["rateinitial"]) / 60
    return max(round_total(total, SIX), int(row["minimal_cost"] * 1_000_000))


def magnusbilling7(row: dict[str, Any], seconds: int) -> int:
    if seconds <= row["minimal_time_charge"]:
        return 0
    billed = max(seconds, row["initblock"])
    if billed > row["initblock"]:
        billed = up(billed, row["billingblock"])
    return round_total(Fraction(row["connectcharge"]) + Fraction(row["rateinitial"]) * billed / 60, SIX)


def astpp(row: dict[str, Any], seconds: int) -> int:
    total = Fraction(row["connectcost"])
    left = seconds - row["includedseconds"]
    if left > 0:
        total += Fraction(row["cost"]) * row["init_inc"] / 60
        left -= row["init_inc"]
        if left > 0:
            total += Fraction(row["cost"]) * up(left, row["inc"] or 1) / 60
    return round_total(total, Rounding(RoundingMode.HALF_UP, 4))


def yeti(row: dict[str, Any], seconds: int) -> int:
    total = Fraction(row["connect_fee"]) + Fraction(row["initial_rate"]) * row["initial_interval"] / 60
    left = max(0, seconds - row["initial_interval"])
    return round_total(total + Fraction(row["next_rate"]) * up(left, row["next_interval"]) / 60, SIX)


CYCLES = {
    f"{name}{cycle}": values
    for cycle in "abc"
    for name, values in (
        ("stepcharge", PRICES),
        ("charge", PRICES),
        ("timecharge", st.sampled_from([0, 30, 60, 100])),
        ("billingblock", BLOCKS),
    )
}


@given(
    st.fixed_dictionaries({
        "rateinitial": PRICES,
        "initblock": BLOCKS,
        "billingblock": BLOCKS,
        "connectcharge": PRICES,
        "disconnectcharge": PRICES,
        "disconnectcharge_after": st.sampled_from([0, 1, 60]),
        "additional_block_charge": PRICES,
        "additional_block_charge_time": st.sampled_from([0, 0, 45]),
        "additional_grace": st.sampled_from([0, 0, 0, 1, 5, 50]),
        "minimal_cost": st.one_of(st.just(Decimal(0)), PRICES),
        **CYCLES,
    }),
    LENGTHS,
)  # fmt: skip
@settings(max_examples=600)
def test_a2billing(row: dict[str, Any], seconds: int) -> None:
    """Flat and progressive rates, with every charge the table has."""
    assert cost(rate_of("a2billing", row), seconds)[0] == a2billing(row, seconds)


@given(
    st.fixed_dictionaries({
        "rateinitial": PRICES,
        "initblock": BLOCKS,
        "billingblock": BLOCKS,
        "connectcharge": PRICES,
        "minimal_time_charge": st.sampled_from([0, 0, 5]),
    }),
    LENGTHS,
)  # fmt: skip
def test_magnusbilling7(row: dict[str, Any], seconds: int) -> None:
    """The whole duration is rounded; short calls are free."""
    assert cost(rate_of("magnusbilling7", row), seconds)[0] == magnusbilling7(row, seconds)


@given(
    st.fixed_dictionaries({
        "cost": PRICES,
        "connectcost": PRICES,
        "includedseconds": st.sampled_from([0, 25, 30]),
        "init_inc": BLOCKS,
        "inc": BLOCKS,
    }),
    LENGTHS,
)  # fmt: skip
def test_astpp(row: dict[str, Any], seconds: int) -> None:
    """Included seconds come off first, then the initial increment."""
    assert cost(rate_of("astpp", row), seconds)[0] == astpp(row, seconds)


@given(
    st.fixed_dictionaries({
        "connect_fee": PRICES,
        "initial_rate": PRICES,
        "initial_interval": st.sampled_from([1, 30, 60]),
        "next_rate": PRICES,
        "next_interval": st.sampled_from([1, 6, 60]),
    }),
    LENGTHS,
)  # fmt: skip
def test_yeti(row: dict[str, Any], seconds: int) -> None:
    """One interval, then the next ones, end to end."""
    assert cost(rate_of("yeti", row), seconds)[0] == yeti(row, seconds)


def test_cgrates() -> None:
    """Lines of one id are steps; units and increments are Go's times; the highest cost is that of the destination."""
    first = {"Id": "RT_1", "ConnectFee": "0.4", "Rate": "0.2", "RateUnit": "60s", "RateIncrement": "60s"}
    rows = {
        "rates": [
            {"Rate": "0.1", "RateUnit": "1m", "RateIncrement": "100ms", "GroupIntervalStart": "1m0s"},
            first | {"GroupIntervalStart": "0s"},
        ],
        "RoundingMethod": "*up",
        "RoundingDecimals": 4,
        "MaxCost": "0.65",
        "MaxCostStrategy": "*free",
    }
    of = rate_of("cgrates", rows)
    assert [cost(of, seconds)[0] for seconds in (1, 60, 61, 85, 3600)] == [600_000, 600_000, 601_700, 641_700, 650_000]
    assert cost(rate_of("cgrates", first), 61)[0] == 800_000
    # A price for a unit below a second.
    assert cost(rate_of("cgrates", {"Rate": "0.001", "RateUnit": "500ms", "RateIncrement": "1s"}), 3)[0] == 6_000


@pytest.mark.parametrize(
    ("dialect", "row", "place"),
    [
        ("a2billing", {}, "rateinitial"),
        ("a2billing", {"rateinitial": "1,5"}, "rateinitial"),
        ("a2billing", {"rateinitial": "-1"}, "rateinitial"),
        ("a2billing", {"rateinitial": "1E5"}, "rateinitial"),
        ("a2billing", {"rateinitial": 0.1}, "rateinitial"),
        ("a2billing", {"rateinitial": "1", "initblock": "1.5"}, "initblock"),
        ("a2billing", {"rateinitial": "1", "initblock": -1}, "initblock"),
        ("a2billing", {"rateinitial": "1", "rounding_calltime": 60, "rounding_threshold": 5}, "rounding_calltime"),
        ("a2billing", {"rateinitial": "1", "starttime": 480, "endtime": 1080}, "starttime"),
        ("a2billing", {"rateinitial": "1", "dialprefix": "49x"}, "prefix"),
        ("magnusbilling7", {"rateinitial": "1", "additional_grace": "10%"}, "additional_grace"),
        ("astpp", {"cost": "much"}, "cost"),
        ("astpp", {"cost": "1", "pattern": "^49[123].*"}, "prefix"),
        ("cgrates", {"Rate": "1", "RateUnit": "fast"}, "RateUnit"),
        ("cgrates", {"Rate": "1", "RoundingMethod": "*odd"}, "RoundingMethod"),
        ("cgrates", {"Rate": "1", "MaxCostStrategy": "*odd"}, "MaxCostStrategy"),
        ("cgrates", {"Rate": "1", "GroupIntervalStart": "100ms"}, "GroupIntervalStart"),
        ("cgrates", {"rates": [1]}, "rates"),
    ],
)
def test_a_row_that_cannot_be_told_is_refused_with_its_column(dialect: str, row: dict[str, Any], place: str) -> None:
    """What would change the price and cannot be said in steps is never left out in silence."""
    with pytest.raises(TariffError, match=f"^{place}"):
        rate_of(dialect, row)
