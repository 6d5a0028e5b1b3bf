"""MagnusBilling 7: `pkg_rate`, charged as `CalcAgi.php` does.

The whole duration is rounded as in A2Billing's flat rate. A call of at most `minimal_time_charge` seconds is free.
`disconnectcharge` is in the table and is never charged. Prices are for a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rating.dialects.a2billing import flat_steps
from rating.dialects.columns import money, required, seconds, text
from rating.errors import TariffError
from rating.tariff import Conditions, Rate, Rounding, RoundingMode


def read(row: Mapping[str, Any]) -> Rate:
    """Turn a row into a rate. Raises `TariffError`."""
    if text(row, "additional_grace").endswith("%"):
        raise TariffError("additional_grace: a share of the call's time cannot be told in steps")
    grace_s = seconds(row, "additional_grace")
    free_s = seconds(row, "minimal_time_charge")
    return Rate(
        prefix=text(row, "prefix", "dialprefix"),
        destination=text(row, "destination"),
        connect_fee=money(row, "connectcharge"),
        steps=flat_steps(
            required(row, "rateinitial"), seconds(row, "initblock"), seconds(row, "billingblock"), grace_s
        ),
        rounding=Rounding(RoundingMode.HALF_UP, 6),
        conditions=Conditions(free_below_s=free_s + 1 if free_s else 0),
    )
