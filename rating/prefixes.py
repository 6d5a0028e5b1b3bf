"""Longest-prefix search over the digits of a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class PrefixMap(Generic[T]):
    """An immutable map from digit prefixes to values; `longest("4930123")` finds the value of "4930" before "49"."""

    def __init__(self, items: Mapping[str, T] | Iterable[tuple[str, T]]) -> None:
        raise NotImplementedError

    def longest(self, number: str) -> T | None:
        """Return the value of the longest prefix of `number`; the empty prefix matches everything."""
        raise NotImplementedError
