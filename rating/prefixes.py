"""Longest-prefix search over the digits of a number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Generic, TypeVar

from rating.errors import TariffError
from rating.tariff import Rate

T = TypeVar("T")

_MOST_HEAD = 6
_LEAST = 1000
"""A smaller map is searched as it is."""
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class PrefixMap(Generic[T]):
    """An immutable map from digit prefixes to values; `longest("4930123")` finds the value of "4930" before "49".

    Raises `TariffError` for a prefix that is not all digits or comes twice.
    """

    __slots__ = ("_head", "_lengths", "_reach", "_shorter", "_values")

    def __init__(self, items: Mapping[str, T] | Iterable[tuple[str, T]]) -> None:
        values: dict[str, T] = {}
        for prefix, value in items.items() if isinstance(items, Mapping) else items:
            if prefix and not (prefix.isascii() and prefix.isdigit()):
                raise TariffError(f"a prefix has only digits, found {prefix[:40]!r}")
            if prefix in values:
                raise TariffError(f"the prefix {prefix[:40]!r} comes twice")
            values[prefix] = value
        self._values = values
        self._lengths = tuple(sorted({len(prefix) for prefix in values}, reverse=True))
        self._shorter = [
            tuple(n for n in self._lengths if n <= most) for most in range(max(self._lengths, default=0) + 1)
        ]
        # Most numbers have no prefix as long as the longest there is, and looking for those is most of a search: for
        # each beginning of `_head` digits `_reach` knows the longest prefix that begins so.
        self._head = min(_MOST_HEAD, len(str(len(values)))) if len(values) >= _LEAST else 0
        self._reach = bytearray([max(self._head - 1, 0)]) * 10**self._head if self._head else bytearray()
        if self._head:
            reach, head = self._reach, self._head
            for prefix in values:
                if len(prefix) >= head:
                    place = int(prefix[:head])
                    reach[place] = max(reach[place], len(prefix))

    def __len__(self) -> int:
        """Return the number of prefixes."""
        return len(self._values)

    def values(self) -> Iterable[T]:
        """Return every value."""
        return self._values.values()

    def longest(self, number: str) -> T | None:
        """Return the value of the longest prefix of `number`; the empty prefix matches everything.

        A character that is no digit ends the search: no prefix reaches beyond it. A leading "+" or "00" is the caller's
        to take away.
        """
        values, lengths = self._values, self._lengths
        head = number[: self._head]
        if head.isdigit() and head.isascii() and len(head) == self._head:
            lengths = self._shorter[self._reach[int(head)]]
        for length in lengths:
            digits = number[:length]
            if digits in values:
                return values[digits]
        return None


class RateMap:
    """The rates of a tariff, past and scheduled ones included: the one for a number is the longest prefix in force.

    Of two rates of one prefix that are both in force the one that came into force later holds. Raises `TariffError` for
    a prefix with two rates from the same time on.
    """

    __slots__ = ("_always", "_lengths", "_scheduled")

    def __init__(self, rates: Iterable[Rate]) -> None:
        always: dict[str, Rate] = {}
        more: list[Rate] = []
        for rate in rates:
            if rate.effective_at is None and rate.expires_at is None and rate.prefix not in always:
                always[rate.prefix] = rate
            else:
                more.append(rate)
        self._always = PrefixMap(always)
        # Most tariffs schedule nothing: these are searched as fast as any map of prefixes.
        self._scheduled = _scheduled(always, more) if more else {}
        self._lengths = tuple(sorted({len(prefix) for prefix in self._scheduled}, reverse=True))

    def __len__(self) -> int:
        """Return the number of prefixes."""
        return len(self._scheduled) or len(self._always)

    def __iter__(self) -> Iterator[Rate]:
        """Return every rate, past and scheduled ones too."""
        if self._scheduled:
            return (rate for versions in self._scheduled.values() for rate in versions)
        return iter(self._always.values())

    def longest(self, number: str, at: datetime) -> Rate | None:
        """Return the rate of the longest prefix of `number` that is in force; as `PrefixMap.longest` reads a number."""
        if not self._scheduled:
            return self._always.longest(number)
        for length in self._lengths:
            for rate in self._scheduled.get(number[:length], ()):
                if rate.holds_at(at):
                    return rate
        return None


def _scheduled(always: Mapping[str, Rate], more: Iterable[Rate]) -> dict[str, tuple[Rate, ...]]:
    """Return the rates of every prefix, the one that came into force last first."""
    versions: dict[str, tuple[Rate, ...]] = {prefix: (rate,) for prefix, rate in always.items()}
    for rate in more:
        versions[rate.prefix] = (*versions.get(rate.prefix, ()), rate)
    for prefix in {rate.prefix for rate in more}:
        ordered = versions[prefix] = tuple(sorted(versions[prefix], key=_effective, reverse=True))
        for later, earlier in pairwise(ordered):
            if later.effective_at == earlier.effective_at:
                since = f"from {later.effective_at.isoformat()} on" if later.effective_at else "without a date"
                raise TariffError(f"the prefix {prefix[:40]!r} has two rates {since}")
    return versions


def _effective(rate: Rate) -> datetime:
    return rate.effective_at if rate.effective_at is not None else _ALWAYS
