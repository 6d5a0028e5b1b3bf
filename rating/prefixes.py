"""Longest-prefix search over the digits of a number."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Generic, TypeVar

from rating.errors import TariffError
from rating.tariff import Rate

T = TypeVar("T")

_MOST_HEAD = 6
_LEAST = 1000
"""A smaller map is searched as it is."""
_ALWAYS = datetime.min.replace(tzinfo=UTC)


class Reach:
    """How long a prefix of a number can be, for a set of prefixes.

    Most numbers have no prefix as long as the longest there is, and looking for those is most of a search: for each
    beginning of a few digits it is known how long the longest prefix is that begins so.
    """

    __slots__ = ("_head", "_lengths", "_reach", "_shorter")

    def __init__(self, prefixes: Collection[str]) -> None:
        self._lengths = tuple(sorted(set(map(len, prefixes)), reverse=True))
        self._shorter = [
            tuple(n for n in self._lengths if n <= most) for most in range(max(self._lengths, default=0) + 1)
        ]
        self._head = min(_MOST_HEAD, len(str(len(prefixes)))) if len(prefixes) >= _LEAST else 0
        self._reach = bytearray([max(self._head - 1, 0)]) * 10**self._head if self._head else bytearray()
        if self._head:
            reach, head = self._reach, self._head
            for prefix in prefixes:
                length = len(prefix)
                if length >= head:
                    place = int(prefix[:head])
                    if reach[place] < length:  # noqa: PLR1730 - a call of max for each of a million would be half of it
                        reach[place] = length

    def lengths(self, number: str) -> tuple[int, ...]:
        """Return the lengths that a prefix of `number` may have, the longest first."""
        head = number[: self._head]
        if head.isdigit() and head.isascii() and len(head) == self._head:
            return self._shorter[self._reach[int(head)]]
        return self._lengths


class PrefixMap(Generic[T]):
    """An immutable map from digit prefixes to values; `longest("4930123")` finds the value of "4930" before "49".

    Raises `TariffError` for a prefix that is not all digits or comes twice.
    """

    __slots__ = ("_reach", "_values")

    def __init__(self, items: Mapping[str, T] | Iterable[tuple[str, T]]) -> None:
        values: dict[str, T] = {}
        for prefix, value in items.items() if isinstance(items, Mapping) else items:
            if prefix in values:
                raise TariffError(f"the prefix {prefix[:40]!r} comes twice")
            values[prefix] = value
        _check_digits(values)
        self._values = values
        self._reach = Reach(values)

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
        values = self._values
        for length in self._reach.lengths(number):
            digits = number[:length]
            if digits in values:
                return values[digits]
        return None


class RateMap:
    """The rates of a tariff, past and scheduled ones included: the one for a number is the longest prefix in force.

    Of two rates of one prefix that are both in force the one that came into force later holds. Raises `TariffError` for
    a prefix that is not all digits, or with two rates from the same time on.
    """

    __slots__ = ("_make", "_rates", "_reach")

    def __init__(self, rates: Iterable[Rate]) -> None:
        always: dict[str, Any] = {}
        dated: dict[str, list[Rate]] = {}
        for rate in rates:
            if rate.effective_at is None and rate.expires_at is None and rate.prefix not in always:
                always[rate.prefix] = rate
            else:
                dated.setdefault(rate.prefix, []).append(rate)
        for prefix, versions in dated.items():
            if prefix in always:
                versions.append(always.pop(prefix))
        self._keep(always, dated)

    @classmethod
    def of_rows(cls, prefixes: Iterable[str], make: Callable[[int], Rate], dated: Mapping[str, list[Rate]]) -> RateMap:
        """Make a map of rates that are made by their number when they are first found: few of a million ever are.

        `prefixes` are those with one rate without dates, `dated` has all rates of the others. Raises as the class does.
        """
        made = cls.__new__(cls)
        numbers: dict[str, Any] = {prefix: number for number, prefix in enumerate(prefixes)}
        made._keep(numbers, dated, make)  # noqa: SLF001 - its own
        return made

    def _keep(
        self, rates: dict[str, Any], dated: Mapping[str, list[Rate]], make: Callable[[int], Rate] | None = None
    ) -> None:
        for prefix, versions in dated.items():
            if prefix in rates:
                raise TariffError(f"the prefix {prefix[:40]!r} has rates with and without dates: tell them together")
            rates[prefix] = _ordered(prefix, versions)
        _check_digits(rates)
        self._rates: dict[str, Rate | tuple[Rate, ...] | int] = rates
        self._reach = Reach(rates)
        self._make = make

    def __len__(self) -> int:
        """Return the number of prefixes."""
        return len(self._rates)

    def __iter__(self) -> Iterator[Rate]:
        """Return every rate, past and scheduled ones too."""
        for found in self._rates.values():
            if isinstance(found, Rate):
                yield found
            elif isinstance(found, tuple):
                yield from found
            elif self._make is not None:
                yield self._make(found)

    def longest(self, number: str, at: datetime) -> Rate | None:
        """Return the rate of the longest prefix of `number` that is in force; as `PrefixMap.longest` reads a number."""
        rates = self._rates
        for length in self._reach.lengths(number):
            digits = number[:length]
            found = rates.get(digits)
            if found is None:
                continue
            if isinstance(found, Rate):
                return found
            if isinstance(found, tuple):
                for rate in found:
                    if rate.holds_at(at):
                        return rate
            elif self._make is not None:
                made = rates[digits] = self._make(found)
                return made
        return None


def _check_digits(prefixes: Collection[str]) -> None:
    # One look at all digits together: there may be a million prefixes.
    digits = "".join(prefixes)
    if digits and not (digits.isascii() and digits.isdigit()):
        bad = next(prefix for prefix in prefixes if prefix and not (prefix.isascii() and prefix.isdigit()))
        raise TariffError(f"a prefix has only digits, found {bad[:40]!r}")


def _ordered(prefix: str, rates: Iterable[Rate]) -> tuple[Rate, ...]:
    """Return the rates of a prefix, the one that came into force last first."""
    ordered = tuple(sorted(rates, key=_effective, reverse=True))
    for later, earlier in pairwise(ordered):
        if later.effective_at == earlier.effective_at:
            since = f"from {later.effective_at.isoformat()} on" if later.effective_at else "without a date"
            raise TariffError(f"the prefix {prefix[:40]!r} has two rates {since}")
    return ordered


def _effective(rate: Rate) -> datetime:
    return rate.effective_at if rate.effective_at is not None else _ALWAYS
