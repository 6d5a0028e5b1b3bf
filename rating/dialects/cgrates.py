"""CGRateS: lines of `Rates.csv`, with what `DestinationRates.csv` says of them, if given.

A row is one line, or `rates`, a list of the lines that share an id, by their `GroupIntervalStart`. `Rate` is for
`RateUnit`, charged in whole `RateIncrement`s; times are written as Go writes them (60s, 1m30s, 100ms) or as seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rating.dialects.columns import is_empty, money, required, text
from rating.errors import TariffError
from rating.tariff import Conditions, Rate, Rounding, RoundingMode, Step, ThenWhat

_GO_TIME = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m(?!s))?(?:([0-9]+(?:\.[0-9]+)?)s)?(?:([0-9]+)ms)?", re.ASCII)
_MODES = {"": RoundingMode.HALF_UP, "*up": RoundingMode.UP, "*middle": RoundingMode.HALF_UP, "*down": RoundingMode.DOWN}
_DECIMALS = 6


def read(row: Mapping[str, Any]) -> Rate:
    """Turn a row into a rate. Raises `TariffError`."""
    lines = row.get("rates") or [row]
    if not isinstance(lines, list) or not all(isinstance(line, Mapping) for line in lines):
        raise TariffError("rates: expected a list of rows")
    lines = sorted(lines, key=lambda line: _time(line, "GroupIntervalStart"))
    mode = _MODES.get(text(row, "RoundingMethod"))
    if mode is None:
        raise TariffError(f"RoundingMethod: expected one of {', '.join(name for name in _MODES if name)}")
    strategy = text(row, "MaxCostStrategy")
    if strategy not in {"", "*free", "*disconnect"}:
        raise TariffError("MaxCostStrategy: expected *free or *disconnect")
    # CGRateS takes a highest cost of 0 for none.
    most = money(row, "MaxCost") or None
    return Rate(
        prefix=text(row, "Prefix"),
        destination=text(row, "Destination", "DestinationId", "Id"),
        connect_fee=money(lines[0], "ConnectFee"),
        steps=tuple(_step(line) for line in lines),
        rounding=Rounding(mode, _DECIMALS if is_empty(row, "RoundingDecimals") else _decimals(row)),
        conditions=Conditions(
            max_charge=most if strategy else None,
            max_charge_then=ThenWhat.DISCONNECT if strategy == "*disconnect" else ThenWhat.FREE,
        ),
    )


def _step(line: Mapping[str, Any]) -> Step:
    from_s, unit_s = _time(line, "GroupIntervalStart"), _time(line, "RateUnit", Decimal(60))
    if from_s != int(from_s):
        raise TariffError("GroupIntervalStart: expected whole seconds")
    price, increment_s = required(line, "Rate"), _time(line, "RateIncrement", Decimal(1))
    # A unit below a second is told for a thousand of them.
    times = 1 if unit_s == int(unit_s) else 1000
    whole = int(increment_s) if increment_s == int(increment_s) else increment_s
    return Step(int(from_s), price * times, int(unit_s * times), whole)


def _time(line: Mapping[str, Any], column: str, absent: Decimal = Decimal(0)) -> Decimal:
    told = text(line, column)
    if not told:
        return absent
    if told.replace(".", "", 1).isdecimal():
        return money(line, column)
    match = _GO_TIME.fullmatch(told)
    if match is None:
        raise TariffError(f"{column}: expected a time such as 60s, found {told[:40]!r}")
    hours, minutes, seconds, milliseconds = (Decimal(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _decimals(row: Mapping[str, Any]) -> int:
    decimals = money(row, "RoundingDecimals")
    if decimals != int(decimals):
        raise TariffError("RoundingDecimals: expected a whole number")
    return min(int(decimals), _DECIMALS)
