"""Volume tiers: the more an account has talked in a month, the less a call costs. Pure.

What was used before is fixed when a call is offered, so a call has one tier from its beginning to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from rating.bands import zone_of
from rating.errors import TariffError
from rating.plans import less

MOST_TIERS = 20
MOST_FROM_S = 10**9


@dataclass(frozen=True, slots=True)
class Tier:
    """Whoever has used `from_s` seconds or more in the month pays `percent` less."""

    from_s: int
    percent: Decimal


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raise `TariffError` unless the tiers begin at 0 s and rise."""
    if not 1 <= len(tiers) <= MOST_TIERS or tiers[0].from_s != 0:
        raise TariffError(f"tiers are 1 to {MOST_TIERS}, and the first begins at 0 s")
    for tier in tiers:
        less(tier.percent)
        if tier.from_s > MOST_FROM_S:
            raise TariffError(f"a tier begins at {MOST_FROM_S} s at most")
    if any(later.from_s <= earlier.from_s for earlier, later in pairwise(tiers)):
        raise TariffError("each tier begins later than the one before")


def tier_of(tiers: Sequence[Tier], used_ms: int) -> Tier:
    """Return the tier of an account that has used so much before."""
    return next(tier for tier in reversed(tiers) if used_ms >= tier.from_s * 1000)


def month_of(timezone: str, at: datetime) -> str:
    """Return the calendar month of a time on the clock of a zone, such as "2026-03"."""
    return f"{at.astimezone(zone_of(timezone)):%Y-%m}"
