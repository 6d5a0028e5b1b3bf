"""The parts of a rate: how a total is rounded, steps, bands of the week, and the conditions of a tariff."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

Seconds = int | Decimal
"""A length of time: whole seconds, or a `Decimal` down to the millisecond."""


class RoundingMode(StrEnum):
    """How a total is brought to the decimals of its tariff."""

    UP = "up"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    DOWN = "down"


class BandsAt(StrEnum):
    """Which band prices an increment: the one in force at the answer, or the one in force when the increment begins."""

    START = "start"
    EACH_INCREMENT = "each_increment"


class Outside(StrEnum):
    """What holds at times that no band covers.

    FORBIDDEN: the bands must cover the week; BASE: the rate's own steps; CLOSED: no call begins or goes on then.
    """

    FORBIDDEN = "forbidden"
    BASE = "base"
    CLOSED = "closed"


class ThenWhat(StrEnum):
    """What happens when a call has reached its highest charge: it talks on for nothing, or it is cut."""

    FREE = "free"
    DISCONNECT = "disconnect"


class Durations(StrEnum):
    """How milliseconds of talk become the time that is priced: whole seconds, or the milliseconds themselves."""

    UP = "up"
    NEAREST = "nearest"
    DOWN = "down"
    EXACT = "exact"


@dataclass(frozen=True, slots=True)
class Rounding:
    """Applied once, to the total. `decimals` is 0 to 6."""

    mode: RoundingMode = RoundingMode.HALF_UP
    decimals: int = 6


@dataclass(frozen=True, slots=True)
class Step:
    """From `from_s` seconds of talk on: `price` per `per_s` seconds, in whole increments of `increment_s`.

    `fee` is charged once, with the first increment that begins at `from_s` or later.
    """

    from_s: int
    price: Decimal
    per_s: int
    increment_s: Seconds
    fee: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class When:
    """The times of a band, on the clock of the tariff's time zone.

    `days`: 1 = Monday … 7 = Sunday. `from_s` to `to_s` are seconds of that clock, 86,400 the midnight at the end; where
    `to_s` is the smaller one the band goes over midnight and belongs to the day on which it begins. `dates` (`MM-DD`,
    or `YYYY-MM-DD` for holidays that move) limits it to those days. The highest `priority` wins.
    """

    days: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    from_s: int = 0
    to_s: int = 86_400
    dates: tuple[str, ...] = ()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Band:
    """Steps of their own for some times of the week. `connect_fee` None: that of the rate."""

    when: When
    steps: tuple[Step, ...]
    connect_fee: Decimal | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Surcharge:
    """An amount that falls due when the talk has lasted `after_s`, and again every `every_s` from then on (0: once).

    Unlike the fee of a step it looks at the talk, not at the increments billed, and `after_s` itself is enough.
    """

    after_s: int
    amount: Decimal
    every_s: int = 0


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a tariff says beyond steps. Usually shared by all of its rates.

    `free_s`: the first seconds of every call cost nothing beyond the connect fee; steps begin after them.
    `free_below_s`: a call shorter than this costs nothing at all. `min_charge` and `max_charge` bound the total.
    """

    timezone: str = "UTC"
    bands_at: BandsAt = BandsAt.EACH_INCREMENT
    outside: Outside = Outside.FORBIDDEN
    durations: Durations = Durations.UP
    free_s: int = 0
    free_below_s: int = 0
    min_charge: Decimal = Decimal(0)
    max_charge: Decimal | None = None
    max_charge_then: ThenWhat = ThenWhat.FREE
    surcharges: tuple[Surcharge, ...] = ()


PLAIN = Conditions()
"""The conditions of a tariff that says nothing."""
