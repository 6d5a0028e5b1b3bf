"""ASTPP: origination rates, charged as `calc_cost` in `astpp.cdr.php` does.

The included seconds come off first, then one `init_inc` is charged, then increments of `inc`. The connect cost is
charged even where all the talk is included. `cost` is for a minute. The total has four decimals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rating.dialects.columns import money, required, seconds, text
from rating.tariff import Conditions, Rate, Rounding, RoundingMode, Step

_PATTERN = re.compile(r"\^?([0-9]*)(?:\.\*)?")


def read(row: Mapping[str, Any]) -> Rate:
    """Turn a row into a rate. Raises `TariffError`."""
    per_min, first_s, block_s = required(row, "cost"), seconds(row, "init_inc"), seconds(row, "inc") or 1
    step = Step(first_s, per_min, 60, block_s)
    is_one = first_s in (0, block_s)
    pattern = text(row, "pattern", "prefix")
    match = _PATTERN.fullmatch(pattern)
    return Rate(
        prefix=match[1] if match else pattern,
        destination=text(row, "comment", "destination"),
        connect_fee=money(row, "connectcost"),
        steps=(Step(0, per_min, 60, block_s),) if is_one else (Step(0, per_min, 60, first_s), step),
        rounding=Rounding(RoundingMode.HALF_UP, 4),
        conditions=Conditions(free_s=seconds(row, "includedseconds")),
    )
