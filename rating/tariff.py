"""What a rate is made of. A rate is found by prefix and priced by `rating.pricing`."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any


class RoundingMode(StrEnum):
    """How a total is brought to the decimals of its tariff."""

    UP = "up"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Rounding:
    """Applied once, to the total. `decimals` is 0 to 6."""

    mode: RoundingMode = RoundingMode.HALF_UP
    decimals: int = 6


@dataclass(frozen=True, slots=True)
class Step:
    """From `from_s` seconds of talk on: `price` per `per_s` seconds, in whole increments of `increment_s`."""

    from_s: int
    price: Decimal
    per_s: int
    increment_s: int


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one prefix. `steps` begin at 0 s and rise; `barred` means: never call there."""

    prefix: str
    destination: str
    connect_fee: Decimal
    steps: tuple[Step, ...]
    rounding: Rounding
    barred: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what must be stored to price a call again, as JSON (prices as strings)."""
        raise NotImplementedError

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Rate:
        """Read what `facts` wrote. Raises `TariffError` where it does not describe a rate."""
        raise NotImplementedError
