"""What stands around a price in a seed: bundles, volume plans, limits, exchange rates, bands, carriers and margins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random

from rating.tariff import Band, Conditions, Outside, Rate, Step, When

BEGIN_S = 32_400
"""The second of the day at which a seed begins."""


@dataclass(frozen=True, slots=True)
class Around:
    """What an account has besides its tariff. Seconds, and micro-units."""

    bundles_s: tuple[int, ...] = ()
    flat_s: int = 0
    tiers: tuple[tuple[int, int], ...] = ()
    """From so many seconds on so many percent less."""
    most_call_micros: int | None = None
    most_day_micros: int | None = None


NOTHING = Around()


@dataclass(frozen=True, slots=True)
class Trade:
    """What is bought and sold abroad."""

    worths: tuple[tuple[float, str], ...] = ()
    """Customers' tariff is in dollars: from this second on one is worth so much."""
    carrier_price: str = ""
    """What a minute costs us; "" where nobody asks."""
    least_percent: int | None = None
    """What customers' calls must earn."""


def draw_around(rng: Random, per_slice: int, slice_s: int) -> Around:
    """Draw what one account has: mostly nothing, else one or two things."""
    kind = rng.choice(["", "", "", "", "", "bundles", "bundles", "flat", "tiers", "limits"])
    if not kind:
        return NOTHING
    return Around(
        bundles_s=tuple(slice_s * rng.choice([1, 3, 10]) for _ in range(rng.choice([1, 2])))
        if kind == "bundles"
        else (),
        flat_s=slice_s * rng.choice([2, 8]) if kind == "flat" else 0,
        tiers=((0, 0), (slice_s * rng.choice([1, 4]), rng.choice([10, 50]))) if kind == "tiers" else (),
        most_call_micros=per_slice * rng.choice([1, 2]) if kind == "limits" and rng.random() < 0.7 else None,
        most_day_micros=per_slice * rng.choice([3, 8]) if kind == "limits" and rng.random() < 0.7 else None,
    )


def draw_trade(rng: Random, over_s: float) -> Trade:
    """Draw currencies and carriers: mostly one currency, and nobody to pay."""
    if rng.random() < 0.2:
        values = rng.sample(["0.9", "1.13", "0.333333", "7"], 2)
        return Trade(worths=((-86_400.0, values[0]), (round(over_s / 2), values[1])))
    if rng.random() < 0.25:
        return Trade(carrier_price=rng.choice(["0.01", "0.40"]), least_percent=rng.choice([None, 0, 20]))
    return Trade()


def with_bands(rng: Random, rate: Rate, over_s: float) -> Rate:
    """Return the rate with another price for a while that begins or ends in the middle of the seed."""
    middle_s = BEGIN_S + int(over_s * rng.uniform(0.2, 0.7))
    from_s, to_s = (BEGIN_S - 3600, middle_s) if rng.random() < 0.5 else (middle_s, middle_s + 3600)
    step = Step(0, Decimal(rng.choice(["0.10", "3", "0"])), 60, rng.choice([1, 6, 30]))
    conditions = Conditions(outside=Outside.BASE)
    return replace(rate, bands=(Band(When(from_s=from_s, to_s=to_s), (step,), name="sale"),), conditions=conditions)
