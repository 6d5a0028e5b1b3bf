"""Yeti: destinations and dial peers. One initial interval at its rate, then next intervals at theirs, end to end.

Rates are for a minute. Yeti keeps what its division gives; six decimals are kept here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rating.dialects.columns import is_empty, money, required, seconds, text
from rating.tariff import Rate, Rounding, RoundingMode, Step


def read(row: Mapping[str, Any]) -> Rate:
    """Turn a row into a rate. Raises `TariffError`."""
    first_s, next_s = seconds(row, "initial_interval") or 1, seconds(row, "next_interval") or 1
    following = required(row, "next_rate")
    first = following if is_empty(row, "initial_rate") else money(row, "initial_rate")
    return Rate(
        prefix=text(row, "prefix"),
        destination=text(row, "destination", "network"),
        connect_fee=money(row, "connect_fee"),
        steps=(Step(0, first, 60, first_s), Step(first_s, following, 60, next_s)),
        rounding=Rounding(RoundingMode.HALF_UP, 6),
        barred=text(row, "reject_calls").lower() in ("1", "t", "true", "yes"),
    )
