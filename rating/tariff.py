"""What a rate is made of, and what makes it one. A rate is found by prefix and priced by `rating.pricing`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from rating.errors import TariffError

if TYPE_CHECKING:
    from rating.pricing import Terms

FACTS_VERSION = 1
MOST_PREFIX = 32
MOST_DESTINATION = 100
MOST_PRICE = Decimal(1_000_000_000)
MOST_PRICE_DECIMALS = 18
MOST_SECONDS = 366 * 86_400
MOST_STEPS = 100
MOST_DECIMALS = 6

_PRICE = re.compile(r"[0-9]{1,10}(\.[0-9]{1,18})?", re.ASCII)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_RATE_KEYS = {"v", "prefix", "destination", "connect_fee", "steps", "rounding", "barred"}
_STEP_KEYS = {"from_s", "price", "per_s", "increment_s"}
_ROUNDING_KEYS = {"mode", "decimals"}


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
    terms: Terms | None = field(default=None, init=False, repr=False, compare=False)
    """The same rate in integers, left here by `rating.pricing` at the first use: making it costs more than a price."""

    def facts(self) -> dict[str, Any]:
        """Return what must be stored to price a call again, as JSON (prices as strings)."""
        return {
            "v": FACTS_VERSION,
            "prefix": self.prefix,
            "destination": self.destination,
            "connect_fee": price_text(self.connect_fee),
            "steps": [
                {
                    "from_s": step.from_s,
                    "price": price_text(step.price),
                    "per_s": step.per_s,
                    "increment_s": step.increment_s,
                }
                for step in self.steps
            ],
            "rounding": {"mode": self.rounding.mode.value, "decimals": self.rounding.decimals},
            "barred": self.barred,
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Rate:
        """Read what `facts` wrote. Raises `TariffError` where it does not describe a rate."""
        if not isinstance(facts, dict) or facts.get("v") != FACTS_VERSION:
            raise TariffError(f"expected the facts of a rate, version {FACTS_VERSION}")
        _check_keys(facts, _RATE_KEYS, "rate")
        if not isinstance(facts["steps"], list):
            raise TariffError("steps: expected a list")
        rate = cls(
            prefix=_typed(facts, "prefix", str),
            destination=_typed(facts, "destination", str),
            connect_fee=_price(facts, "connect_fee"),
            steps=tuple(_step(step) for step in facts["steps"]),
            rounding=_rounding(facts["rounding"]),
            barred=_typed(facts, "barred", bool),
        )
        check(rate)
        return rate


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something is no rate: the field (`prefix`, `steps.1.price`, …) and the reason in a sentence."""

    where: str
    reason: str


def check(rate: Rate) -> None:
    """Raise `TariffError` where `find_fault` finds one."""
    fault = find_fault(rate)
    if fault is not None:
        raise TariffError(f"{fault.where}: {fault.reason}")


def find_fault(rate: Rate) -> Fault | None:
    """Return the first thing that keeps this from being a rate, or None: the one place that knows the rules."""
    return (
        _prefix_fault(rate.prefix)
        or _destination_fault(rate.destination)
        or _price_fault("connect_fee", rate.connect_fee)
        or _steps_fault(rate.steps)
        or _decimals_fault(rate.rounding.decimals)
    )


def price_text(price: Decimal) -> str:
    """Write a price without exponent and without trailing zeros: one text for one price."""
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _prefix_fault(prefix: str) -> Fault | None:
    if prefix and not (prefix.isascii() and prefix.isdigit()):
        return Fault("prefix", "has only digits")
    if len(prefix) > MOST_PREFIX:
        return Fault("prefix", f"has at most {MOST_PREFIX} digits")
    return None


def _destination_fault(destination: str) -> Fault | None:
    if len(destination) > MOST_DESTINATION:
        return Fault("destination", f"has at most {MOST_DESTINATION} characters")
    if _UNPRINTABLE.search(destination):
        return Fault("destination", "has no line breaks and no control characters")
    return None


def _price_fault(where: str, price: Decimal) -> Fault | None:
    if not price.is_finite():
        return Fault(where, "is a number")
    if price.is_signed():
        return Fault(where, "is not negative")
    if price > MOST_PRICE:
        return Fault(where, f"is at most {MOST_PRICE}")
    exponent = price.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > MOST_PRICE_DECIMALS:
        return Fault(where, f"has at most {MOST_PRICE_DECIMALS} decimals")
    return None


def _steps_fault(steps: tuple[Step, ...]) -> Fault | None:
    if not steps or steps[0].from_s != 0:
        return Fault("steps", "begin at 0 s")
    if len(steps) > MOST_STEPS:
        return Fault("steps", f"are at most {MOST_STEPS}")
    before_s = -1
    for number, step in enumerate(steps):
        if not before_s < step.from_s <= MOST_SECONDS:
            return Fault(f"steps.{number}.from_s", f"is more than that of the step before, and at most {MOST_SECONDS}")
        fault = _step_fault(f"steps.{number}", step)
        if fault is not None:
            return fault
        before_s = step.from_s
    return None


def _step_fault(where: str, step: Step) -> Fault | None:
    if not 1 <= step.per_s <= MOST_SECONDS:
        return Fault(f"{where}.per_s", f"is from 1 to {MOST_SECONDS}")
    if not 1 <= step.increment_s <= MOST_SECONDS:
        return Fault(f"{where}.increment_s", f"is from 1 to {MOST_SECONDS}")
    return _price_fault(f"{where}.price", step.price)


def _decimals_fault(decimals: int) -> Fault | None:
    if not 0 <= decimals <= MOST_DECIMALS:
        return Fault("rounding.decimals", f"is from 0 to {MOST_DECIMALS}")
    return None


def _check_keys(facts: Any, expected: set[str], what: str) -> None:
    # A key this version does not know may change the price: better no price than a wrong one.
    if not isinstance(facts, dict) or set(facts) != expected:
        raise TariffError(f"{what}: expected the keys {', '.join(sorted(expected))}")


def _typed(facts: dict[str, Any], key: str, kind: type) -> Any:
    if type(facts[key]) is not kind:
        raise TariffError(f"{key}: expected {kind.__name__}")
    return facts[key]


def _price(facts: dict[str, Any], key: str) -> Decimal:
    text = facts[key]
    if not isinstance(text, str) or _PRICE.fullmatch(text) is None:
        raise TariffError(f"{key}: expected a plain decimal in a string")
    return Decimal(text)


def _step(facts: Any) -> Step:
    _check_keys(facts, _STEP_KEYS, "step")
    return Step(
        from_s=_typed(facts, "from_s", int),
        price=_price(facts, "price"),
        per_s=_typed(facts, "per_s", int),
        increment_s=_typed(facts, "increment_s", int),
    )


def _rounding(facts: Any) -> Rounding:
    _check_keys(facts, _ROUNDING_KEYS, "rounding")
    mode = facts["mode"]
    if mode not in list(RoundingMode):
        raise TariffError(f"mode: expected one of {', '.join(RoundingMode)}")
    return Rounding(mode=RoundingMode(mode), decimals=_typed(facts, "decimals", int))
