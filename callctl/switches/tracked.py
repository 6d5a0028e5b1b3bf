"""What both adapters' memories of calls have in common: calls by key, what ends during a look, what is not shown."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from callctl.pieces import in_pieces

MISSES = 3


class Tracked(Protocol):
    """A call of which the switch was asked."""

    key: str
    missed: int
    """Comparisons with the switch in a row that did not show it."""


One = TypeVar("One", bound=Tracked)


class Table(Generic[One]):
    """Calls by key. The truth is on the switch."""

    def __init__(self) -> None:
        self._by_key: dict[str, One] = {}
        self._over: set[str] | None = None

    def __len__(self) -> int:
        """Return how many calls are known."""
        return len(self._by_key)

    def get(self, key: str) -> One | None:
        """Return a call by its key."""
        return self._by_key.get(key)

    def forget(self, call: One) -> None:
        """The call is over."""
        self._by_key.pop(call.key, None)
        if self._over is not None:
            self._over.add(call.key)

    @contextmanager
    def looking(self) -> Iterator[set[str]]:
        """Give the keys of the calls that end while this lasts: a list that is on its way may still show them."""
        self._over = set()
        try:
            yield self._over
        finally:
            self._over = None

    async def drop_missing(self, seen: Container[str]) -> None:
        """Forget what the switch has not shown for a while, so that a lost end is not remembered for ever."""
        async for calls in in_pieces(list(self._by_key.values())):
            for call in calls:
                call.missed = 0 if call.key in seen else call.missed + 1
                if call.missed >= MISSES and self._by_key.get(call.key) is call:
                    self.forget(call)
