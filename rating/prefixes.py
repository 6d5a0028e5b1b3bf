"""Longest-prefix search over the digits of a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from rating.errors import TariffError

T = TypeVar("T")


class PrefixMap(Generic[T]):
    """An immutable map from digit prefixes to values; `longest("4930123")` finds the value of "4930" before "49".

    Raises `TariffError` for a prefix that is not all digits or comes twice.
    """

    __slots__ = ("_lengths", "_values")

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

    def __len__(self) -> int:
        """Return the number of prefixes."""
        return len(self._values)

    def longest(self, number: str) -> T | None:
        """Return the value of the longest prefix of `number`; the empty prefix matches everything.

        A character that is no digit ends the search: no prefix reaches beyond it. A leading "+" or "00" is the caller's
        to take away.
        """
        values = self._values
        for length in self._lengths:
            digits = number[:length]
            if digits in values:
                return values[digits]
        return None
