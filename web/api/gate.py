"""How often a key may ask: a bucket of requests for each, filled at a steady rate, in memory and bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Lock

from billing.ports import Clock

MOST_KEYS = 10_000


@dataclass
class Gate:
    """A token bucket a key. Beyond `most_keys` the one unused longest is forgotten, which only fills its bucket."""

    clock: Clock
    per_s: float
    burst: int
    most_keys: int = MOST_KEYS
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def admit(self, key: str) -> float:
        """Count a request and return 0, or return how many seconds to wait; nothing is counted then."""
        now = self.clock.monotonic()
        with self._lock:
            left, at = self._buckets.pop(key, (float(self.burst), now))
            left = min(left + (now - at) * self.per_s, float(self.burst))
            admitted = left >= 1
            self._buckets[key] = (left - 1 if admitted else left, now)
            while len(self._buckets) > self.most_keys:
                self._buckets.popitem(last=False)
        return 0.0 if admitted else (1 - left) / self.per_s
