"""Cells of a row: texts, as a CSV file has them, or numbers, as a database has them. An empty cell says nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from rating.errors import TariffError
from rating.faults import MOST_SECONDS

_NUMBER = re.compile(r"[0-9]{0,10}(?:\.[0-9]{0,18})?", re.ASCII)
_SHOWN = 40


def is_empty(row: Mapping[str, Any], column: str) -> bool:
    """Return whether a column is missing or says nothing."""
    value = row.get(column)
    return value is None or (isinstance(value, str) and not value.strip())


def money(row: Mapping[str, Any], column: str) -> Decimal:
    """Return an amount, 0 where the cell is empty. Raises `TariffError`."""
    if is_empty(row, column):
        return Decimal(0)
    value = row[column]
    text = f"{value:f}" if isinstance(value, Decimal) else str(value).strip()
    if isinstance(value, bool | float) or _NUMBER.fullmatch(text) is None or not text.strip("."):
        raise TariffError(f"{column}: expected a number such as 0.0125, found {_shown(value)}")
    return Decimal(text)


def required(row: Mapping[str, Any], column: str) -> Decimal:
    """Return an amount that must be there. Raises `TariffError`."""
    if is_empty(row, column):
        raise TariffError(f"{column}: expected a number such as 0.0125, found nothing")
    return money(row, column)


def seconds(row: Mapping[str, Any], column: str, absent: int = 0) -> int:
    """Return whole seconds. Raises `TariffError`."""
    if is_empty(row, column):
        return absent
    value = money(row, column)
    if value != value.to_integral_value() or value > MOST_SECONDS:
        raise TariffError(f"{column}: expected whole seconds up to {MOST_SECONDS}, found {_shown(row[column])}")
    return int(value)


def text(row: Mapping[str, Any], *columns: str) -> str:
    """Return the text of the first of these columns that has one."""
    return next((str(row[column]).strip() for column in columns if not is_empty(row, column)), "")


def _shown(value: Any) -> str:
    told = str(value)
    return repr(told if len(told) <= _SHOWN else told[:_SHOWN] + "…")
