"""Time, ids and randomness: parameters everywhere, provided for real only here."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What time it is."""

    def now(self) -> datetime:
        """Return the time of day, aware, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back; good for differences only."""


class Ids(Protocol):
    """Names nobody else has."""

    def new(self, kind: str) -> str:
        """Return a fresh id that begins with `kind`, such as "topup-9f3c…"."""

    def secret(self) -> str:
        """Return 256 bits nobody can guess, URL-safe."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time, UTC."""
        return datetime.now(UTC)  # noqa: TID251 - the one place that provides the time

    def monotonic(self) -> float:
        """Return the machine's monotonic seconds."""
        return time.monotonic()


class SystemIds:
    """Ids from the operating system's randomness."""

    def new(self, kind: str) -> str:
        """Return `kind` and 96 random bits."""
        return f"{kind}-{secrets.token_hex(12)}"

    def secret(self) -> str:
        """Return 256 random bits, URL-safe."""
        return secrets.token_urlsafe(32)


def to_ms(moment: datetime) -> int:
    """Return the milliseconds since the epoch of an aware moment."""
    return int(moment.timestamp() * 1000)
