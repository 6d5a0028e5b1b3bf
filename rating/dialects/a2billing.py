"""A2Billing: `cc_ratecard`, charged as `Class.RateEngine.php` does.

A call lasts at least `initblock`. At a flat rate what is longer is rounded up, as a whole, to a multiple of
`billingblock`; at a progressive one (`chargea` and `timechargea` given) the time is cut into cycles A, B and C and a
rest at `rateinitial`, each rounded up by itself. Prices are for a minute. The total has six decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rating.dialects.blocks import blocks, opened
from rating.dialects.columns import money, required, seconds, text
from rating.errors import TariffError
from rating.tariff import Conditions, Rate, Rounding, RoundingMode, Step, Surcharge

_MINUTES_OF_WEEK = 10_080


def read(row: Mapping[str, Any]) -> Rate:
    """Turn a row into a rate. Raises `TariffError`."""
    _refuse(row)
    grace_s = seconds(row, "additional_grace")
    fee, surcharges = money(row, "connectcharge"), []
    after_s = seconds(row, "disconnectcharge_after")
    if after_s > 1:
        surcharges.append(Surcharge(after_s, money(row, "disconnectcharge")))
    else:
        fee += money(row, "disconnectcharge")
    every_s = seconds(row, "additional_block_charge_time")
    if every_s:
        amount = money(row, "additional_block_charge")
        at_once = (grace_s + 1) // every_s
        fee += at_once * amount
        surcharges.append(Surcharge((at_once + 1) * every_s - grace_s, amount, every_s))
    return Rate(
        prefix=text(row, "dialprefix", "prefix"),
        destination=text(row, "destination"),
        connect_fee=fee,
        steps=_steps(row, grace_s),
        rounding=Rounding(RoundingMode.HALF_UP, 6),
        conditions=Conditions(
            min_charge=money(row, "minimal_cost"),
            surcharges=tuple(surcharge for surcharge in surcharges if surcharge.amount),
        ),
    )


def flat_steps(per_min: Decimal, first_s: int, block_s: int, grace_s: int) -> tuple[Step, ...]:
    """Return steps for a whole duration of at least `first_s` that is rounded up to a multiple of `block_s`."""
    block_s = block_s or 1
    if first_s % block_s == 0:
        return opened(blocks(0, 0, per_min, block_s, Decimal(0)), first_s, grace_s)
    # The first multiple after the first block is nearer than a block.
    next_s = (first_s // block_s + 1) * block_s - first_s
    steps = [
        Step(0, per_min, 60, first_s),
        Step(first_s, per_min, 60, next_s),
        Step(first_s + next_s, per_min, 60, block_s),
    ]
    return opened(steps, first_s, grace_s)


def _steps(row: Mapping[str, Any], grace_s: int) -> tuple[Step, ...]:
    per_min, first_s = required(row, "rateinitial"), seconds(row, "initblock")
    block_s = seconds(row, "billingblock")
    if not (money(row, "chargea") and seconds(row, "timechargea")):
        return flat_steps(per_min, first_s, block_s, grace_s)
    steps: list[Step] = []
    begin_s = 0
    for cycle in "abc":
        charge, length_s = money(row, f"charge{cycle}"), seconds(row, f"timecharge{cycle}")
        if not (charge and length_s):
            break
        cycle_block_s = seconds(row, f"billingblock{cycle}") or 1
        steps += blocks(begin_s, length_s, charge, cycle_block_s, money(row, f"stepcharge{cycle}"))
        begin_s += length_s
    steps += blocks(begin_s, 0, per_min, block_s or 1, Decimal(0))
    return opened(steps, first_s, grace_s) if first_s > 1 or grace_s else tuple(steps)


def _refuse(row: Mapping[str, Any]) -> None:
    if seconds(row, "rounding_calltime") and seconds(row, "rounding_threshold"):
        raise TariffError("rounding_calltime: a rounding of the call time above a threshold cannot be told in steps")
    if seconds(row, "starttime") or seconds(row, "endtime", _MINUTES_OF_WEEK) + 1 < _MINUTES_OF_WEEK:
        raise TariffError("starttime: a rate for some hours of the week needs the bands of all of its rows")
