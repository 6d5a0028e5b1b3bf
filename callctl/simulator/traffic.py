"""Traffic as a small operator sees it: who calls whom, how often, how long. The same seed gives the same calls.

Knows plans and a place to put them; nothing of sockets, money or the controller. Whether a call is refused or cut at
zero is decided by the balances of the accounts that a `Customer` stands for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from callctl.simulator.plans import CallPlan, Side, Then


@dataclass(frozen=True, slots=True)
class Destination:
    """Where calls go: a prefix, filled up with random digits to `digits`, and its share of the calls."""

    prefix: str
    share: int = 1
    digits: int = 11


@dataclass(frozen=True, slots=True)
class Customer:
    """Who calls: the account code of its phones, its numbers, its share of the calls, and how long it talks."""

    account_code: str
    numbers: tuple[str, ...]
    share: int = 1
    talk_s: tuple[float, float] = (2.0, 12.0)
    destinations: tuple[Destination, ...] = ()


@dataclass(frozen=True, slots=True)
class Mix:
    """The whole traffic. `outcomes`: what becomes of the ringing, by share; `at_most`: calls up at once."""

    customers: tuple[Customer, ...]
    destinations: tuple[Destination, ...]
    calls_per_s: float = 1.0
    ring_s: tuple[float, float] = (0.3, 2.0)
    outcomes: tuple[tuple[Then, int], ...] = field(
        default=(
            (Then.ANSWER, 80),
            (Then.BUSY, 7),
            (Then.NO_ANSWER, 5),
            (Then.CANCEL, 5),
            (Then.CONGESTION, 3),
        )
    )
    at_most: int = 10_000


def plans(mix: Mix, rng: Random) -> Iterator[tuple[float, CallPlan]]:
    """Yield (seconds to wait before it, plan) for ever: calls arrive as a Poisson process."""
    customers = mix.customers
    shares = [customer.share for customer in customers]
    outcomes, outcome_shares = zip(*mix.outcomes, strict=True)
    while True:
        gap_s = rng.expovariate(mix.calls_per_s)
        customer = rng.choices(customers, shares)[0]
        where = customer.destinations or mix.destinations
        to = rng.choices(where, [each.share for each in where])[0]
        rest = "".join(rng.choices("0123456789", k=max(0, to.digits - len(to.prefix.lstrip("+")))))
        low_s, high_s = customer.talk_s
        # most calls are short and a few are long: a mode in the lower fifth
        talk_s = rng.triangular(low_s, high_s, low_s + (high_s - low_s) / 5)
        yield (
            gap_s,
            CallPlan(
                account_code=customer.account_code,
                caller=rng.choice(customer.numbers),
                callee=to.prefix + rest,
                ring_s=round(rng.uniform(*mix.ring_s), 3),
                then=rng.choices(outcomes, outcome_shares)[0],
                talk_s=round(talk_s, 3),
                hung_up_by=rng.choice((Side.CALLER, Side.CALLEE)),
            ),
        )


class Traffic:
    """Places the calls of a mix, one timer ahead. `place` is a switch's; `busy` says how many calls are up."""

    def __init__(
        self, mix: Mix, rng: Random, *, place: Callable[[CallPlan], object], busy: Callable[[], int] = lambda: 0
    ) -> None:
        self.placed = 0
        self.skipped = 0
        self._mix = mix
        self._plans = plans(mix, rng)
        self._place = place
        self._busy = busy
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._next: CallPlan | None = None

    def start(self) -> None:
        """Begin; the first call comes after the first gap."""
        loop = asyncio.get_running_loop()
        self._due = loop.time()
        self._advance(loop)

    def stop(self) -> None:
        """Place no more calls; those that are up go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _advance(self, loop: asyncio.AbstractEventLoop) -> None:
        gap_s, self._next = next(self._plans)
        self._due += gap_s
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        # a late loop catches up: several calls are due at once
        while self._next is not None and self._due <= loop.time():
            if self._busy() < self._mix.at_most:
                self.placed += 1
                self._place(self._next)
            else:
                self.skipped += 1
            gap_s, self._next = next(self._plans)
            self._due += gap_s
        self._timer = loop.call_at(self._due, self._tick, loop)
