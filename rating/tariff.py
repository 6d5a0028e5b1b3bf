"""A rate: what one prefix costs. Found by prefix, priced by `rating.pricing`, kept as facts that price it again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rating import facts as written
from rating.errors import TariffError
from rating.facts import FACTS_VERSION, price_text
from rating.faults import (
    MOST_DECIMALS,
    MOST_DESTINATION,
    MOST_PREFIX,
    MOST_PRICE,
    MOST_SECONDS,
    MOST_STEPS,
    Fault,
    bands_fault,
    conditions_fault,
    decimals_fault,
    prefix_fault,
    price_fault,
    steps_fault,
    text_fault,
)
from rating.parts import (
    PLAIN,
    Band,
    BandsAt,
    Conditions,
    Durations,
    Outside,
    Rounding,
    RoundingMode,
    Step,
    Surcharge,
    ThenWhat,
    When,
)

if TYPE_CHECKING:
    from rating.terms import Terms

__all__ = [
    "FACTS_VERSION",
    "MOST_DECIMALS",
    "MOST_DESTINATION",
    "MOST_PREFIX",
    "MOST_PRICE",
    "MOST_SECONDS",
    "MOST_STEPS",
    "PLAIN",
    "Band",
    "BandsAt",
    "Conditions",
    "Durations",
    "Fault",
    "Outside",
    "Rate",
    "Rounding",
    "RoundingMode",
    "Step",
    "Surcharge",
    "ThenWhat",
    "When",
    "check",
    "find_fault",
    "price_text",
]


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one prefix. `steps` begin at 0 s and rise; `barred` means: never call there.

    With `bands` the steps are those of the band in force, and the rate's own hold only outside all bands, where the
    conditions say so; `steps` is empty otherwise. A rate is in force from `effective_at` until before `expires_at`.
    """

    prefix: str
    destination: str
    connect_fee: Decimal
    steps: tuple[Step, ...]
    rounding: Rounding
    barred: bool = False
    bands: tuple[Band, ...] = ()
    conditions: Conditions = PLAIN
    effective_at: datetime | None = None
    expires_at: datetime | None = None
    terms: Terms | None = field(default=None, init=False, repr=False, compare=False)
    """The same rate in integers, left here by `rating.terms` at the first use: making it costs more than a price."""

    def facts(self) -> dict[str, Any]:
        """Return what must be stored to price a call again, as JSON (prices as strings)."""
        return written.of_rate(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Rate:
        """Read what `facts` wrote, in this version or an older one. Raises `TariffError` where it is no rate."""
        rate = cls(**written.read_rate(facts))
        check(rate)
        return rate

    def under(self, prefix: str, destination: str) -> Rate:
        """Return the same price for another prefix, with what was worked out for this one."""
        rate = Rate(
            prefix,
            destination,
            self.connect_fee,
            self.steps,
            self.rounding,
            self.barred,
            self.bands,
            self.conditions,
            self.effective_at,
            self.expires_at,
        )
        object.__setattr__(rate, "terms", self.terms)
        return rate

    def holds_at(self, at: datetime) -> bool:
        """Return whether the rate is in force at this time."""
        if self.effective_at is not None and at < self.effective_at:
            return False
        return self.expires_at is None or at < self.expires_at


def check(rate: Rate) -> None:
    """Raise `TariffError` where `find_fault` finds one."""
    fault = find_fault(rate)
    if fault is not None:
        raise TariffError(f"{fault.where}: {fault.reason}")


def find_fault(rate: Rate) -> Fault | None:
    """Return the first thing that keeps this from being a rate, or None."""
    return (
        prefix_fault(rate.prefix)
        or text_fault("destination", rate.destination, MOST_DESTINATION)
        or price_fault("connect_fee", rate.connect_fee)
        or (steps_fault("steps", rate.steps) if rate.steps or _needs_steps(rate) else None)
        or decimals_fault(rate.rounding.decimals)
        or conditions_fault(rate.conditions)
        or bands_fault(rate.bands, rate.steps, rate.conditions)
        or _force_fault(rate)
    )


def _needs_steps(rate: Rate) -> bool:
    return not rate.bands or rate.conditions.outside is Outside.BASE


def _force_fault(rate: Rate) -> Fault | None:
    for where, at in (("effective_at", rate.effective_at), ("expires_at", rate.expires_at)):
        if at is not None and at.tzinfo is None:
            return Fault(where, "has a time zone")
    if rate.effective_at is not None and rate.expires_at is not None and rate.expires_at <= rate.effective_at:
        return Fault("expires_at", "is later than effective_at")
    return None
