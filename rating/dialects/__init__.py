"""Rows of other systems' rate decks, each turned into a rate that costs what that system charges.

The systems round in different ways: with 30/12 and 31 s, A2Billing and MagnusBilling round the whole duration up to a
multiple of 12 (36 s), ASTPP and Yeti only what follows the first 30 s (42 s). Each importer writes its own way as
steps. What a column says that steps cannot say is refused, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rating.dialects import a2billing, astpp, cgrates, magnusbilling7, yeti
from rating.errors import TariffError
from rating.tariff import Rate, check

DIALECTS: Mapping[str, Callable[[Mapping[str, Any]], Rate]] = {
    "a2billing": a2billing.read,
    "magnusbilling7": magnusbilling7.read,
    "astpp": astpp.read,
    "yeti": yeti.read,
    "cgrates": cgrates.read,
}


def rate_of(dialect: str, row: Mapping[str, Any]) -> Rate:
    """Turn a row into a rate. Raises `TariffError`, with the column, for what cannot be read or told."""
    read = DIALECTS.get(dialect)
    if read is None:
        raise TariffError(f"dialect: expected one of {', '.join(DIALECTS)}")
    rate = read(row)
    check(rate)
    return rate
