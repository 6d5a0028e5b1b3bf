"""What is injected in place of clocks, ids and randomness of the machine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.simulation.loop import SimulatedLoop

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


class VirtualClock:
    """A machine's clock: the loop's time. `ahead_s`: how wrong its time of day is; `since_s`: since when it counts."""

    def __init__(self, loop: SimulatedLoop, *, ahead_s: float = 0.0, since_s: float = 0.0) -> None:
        self._loop = loop
        self.ahead_s, self._since_s = ahead_s, since_s

    def now(self) -> datetime:
        return START + timedelta(microseconds=round((self._loop.time() + self.ahead_s) * 1_000_000))

    def monotonic(self) -> float:
        return self._loop.time() + self._since_s


class SeededIds:
    """Ids in a row."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, kind: str) -> str:
        self._last += 1
        return f"{kind}-{self._last}"

    def secret(self) -> str:
        return self.new("secret")
