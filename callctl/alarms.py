"""When calls want to be looked at again: one timer of the event loop for all of them.

A timer of the loop's own for each call would take more memory than all else that is known of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from billing.ports import Clock

EARLY_S = 0.002
"""The loop counts milliseconds: what is due so soon is due now."""
STALE = 1_000
"""So many moments that hold no longer are kept, beside as many as there are alarms."""


class Alarms:
    """At most one alarm for each key, at a moment of the monotonic clock; `ring` is told the key, once."""

    def __init__(self, clock: Clock, ring: Callable[[str], None]) -> None:
        self._clock, self._ring = clock, ring
        self._at: dict[str, float] = {}
        self._moments: list[tuple[float, str]] = []
        """A heap. What was set anew or taken back stays in it until its time, and is passed over then."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        """Return how many alarms are set."""
        return len(self._at)

    def set(self, key: str, at_mono: float | None) -> None:
        """Set the alarm of a key, instead of what it was; None: it has none."""
        if self._at.get(key) == at_mono:
            return
        if at_mono is None:
            del self._at[key]
            return
        self._at[key] = at_mono
        heappush(self._moments, (at_mono, key))
        if len(self._moments) > 2 * len(self._at) + STALE:
            self._moments = [(at, known) for known, at in self._at.items()]
            heapify(self._moments)
        if self._timer is None or at_mono < self._timer_at:
            self._wait()

    def stop(self) -> None:
        """Forget all of them."""
        self._at.clear()
        self._moments.clear()
        self._wait()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._moments:
            self._timer_at = self._moments[0][0]
            wait_s = max(self._timer_at - self._clock.monotonic(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.monotonic() + EARLY_S
        while self._moments and self._moments[0][0] <= now:
            at, key = heappop(self._moments)
            if self._at.get(key) == at:
                del self._at[key]
                self._ring(key)
        self._wait()
