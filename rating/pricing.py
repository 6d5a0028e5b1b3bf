"""Price a call, and its inverse: how long can this much money talk."""

from __future__ import annotations

from dataclasses import dataclass

from rating.tariff import Rate


@dataclass(frozen=True, slots=True)
class Line:
    """One part of a price, in words' order: `seconds` of talk billed at a step, or the connect fee (`seconds` 0)."""

    what: str
    seconds: int
    amount: str


@dataclass(frozen=True, slots=True)
class Price:
    """What a call costs: micro-units, the seconds billed (whole increments), and the lines that explain it."""

    cost_micros: int
    billed_s: int
    lines: tuple[Line, ...]


def billable_seconds(talk_ms: int) -> int:
    """Round milliseconds of talk up to whole seconds."""
    raise NotImplementedError


def price(rate: Rate, seconds: int) -> Price:
    """Price `seconds` of talk. 0 seconds cost nothing, not even the connect fee."""
    raise NotImplementedError


def cost(rate: Rate, seconds: int) -> tuple[int, int]:
    """Return (cost_micros, billed_s) of `price`, without the lines: the hot path."""
    raise NotImplementedError


def afford(rate: Rate, funds_micros: int, most_s: int) -> int:
    """Return how many seconds, up to `most_s`, the funds pay for in whole increments; 0 where not even the first.

    Exactly consistent with `cost`: cost(afford) <= funds. Where `most_s` lies inside an increment that the funds pay for,
    the answer is `most_s`. A rate that costs nothing affords `most_s` with any funds, even negative ones.
    """
    raise NotImplementedError
