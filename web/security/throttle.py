"""Guessing passwords is slow: failures are counted per login and address, and per address."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from threading import Lock

from billing.ports import Clock

PER_LOGIN = 5
PER_ADDRESS = 30
WINDOW_S = 15 * 60.0
MOST_KEYS = 10_000


def network_of(address: str) -> str:
    """Return what counts as one guesser: an IPv4 address, or the /64 of an IPv6 one, which a single host commands."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(IPv6Address(int(ip) >> 64 << 64)) + "/64"
    return str(ip)


@dataclass
class LoginThrottle:
    """A sliding window of failures in memory, bounded: beyond `most_keys` the one unused longest is forgotten.

    An attempt is counted before its password is looked at, so that a hundred at once are still five.
    """

    clock: Clock
    per_login: int = PER_LOGIN
    per_address: int = PER_ADDRESS
    window_s: float = WINDOW_S
    most_keys: int = MOST_KEYS
    _failures: OrderedDict[tuple[str, str], deque[float]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def admit(self, login: str, address: str) -> float:
        """Count an attempt and return 0, or return how many seconds to wait; nothing is counted then."""
        now = self.clock.monotonic()
        keys = self._keys(login, address)
        with self._lock:
            waits = [self._wait(key, limit, now) for key, limit in keys]
            if max(waits) > 0:
                return max(waits)
            for key, limit in keys:
                times = self._failures.setdefault(key, deque(maxlen=limit))
                times.append(now)
                self._failures.move_to_end(key)
            while len(self._failures) > self.most_keys:
                self._failures.popitem(last=False)
        return 0.0

    def succeed(self, login: str, address: str) -> None:
        """Forget the failures of someone who knew the password; the address keeps its other failures."""
        own, whole = self._keys(login, address)
        with self._lock:
            self._failures.pop(own[0], None)
            times = self._failures.get(whole[0])
            if times:
                times.pop()

    def _keys(self, login: str, address: str) -> tuple[tuple[tuple[str, str], int], tuple[tuple[str, str], int]]:
        network = network_of(address)
        return ((f"login {login.casefold()[:100]}", network), self.per_login), (("address", network), self.per_address)

    def _wait(self, key: tuple[str, str], limit: int, now: float) -> float:
        times = self._failures.get(key)
        if times is None:
            return 0.0
        while times and times[0] <= now - self.window_s:
            times.popleft()
        if len(times) < limit:
            return 0.0
        return times[0] + self.window_s - now
