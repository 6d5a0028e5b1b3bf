"""The longest prefix in force, for a whole column of numbers.

A prefix holds for the texts from itself up to its successor ("4939" to "493:", since ":" comes after "9"), whatever
characters follow it. So all prefixes together are one line of texts, cut where the longest prefix changes. Numbers with
as many digits as the longest prefix, nearly all there are, are looked for on the same line as integers: twice as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rating.late import pl
from rating.prefixes import RateMap
from rating.tariff import Rate

_NOBODY = -1
_MOST_DIGITS = 18
"""An integer of 64 bits holds so many."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RateFinder:
    """Finds the place of the rate of each call, as `RateMap.longest` does for one. Raises as `RateMap` does."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        RateMap(rates)
        versions: dict[str, list[int]] = {}
        for place, rate in enumerate(rates):
            versions.setdefault(rate.prefix, []).append(place)
        prefixes = sorted(versions)
        line, parents = _line(prefixes)
        self._cuts = pl.Series([cut for cut, _ in line], dtype=pl.String)
        self._longest = pl.Series([prefix for _, prefix in line], dtype=pl.Int64)
        self._parents = pl.Series(parents, dtype=pl.Int64)
        self._digits = max(map(len, prefixes), default=0)
        self._whole_cuts = pl.Series(
            [_whole(cut, self._digits) for cut, _ in line] if self._digits <= _MOST_DIGITS else [], dtype=pl.Int64
        )
        self._set_times(
            [[rates[place] for place in versions[prefix]] for prefix in prefixes],
            [versions[prefix] for prefix in prefixes],
        )

    def _set_times(self, rates: list[list[Rate]], places: list[list[int]]) -> None:
        moments = {at for of_one in rates for rate in of_one for at in (rate.effective_at, rate.expires_at) if at}
        ordered = sorted(moments)
        self._moments = pl.Series([_micros(at) for at in ordered], dtype=pl.Int64)
        self._eras = len(ordered) + 1
        era_of = {at: era for era, at in enumerate(ordered, 1)}
        keys: list[int] = []
        in_force: list[int] = []
        for prefix, (of_one, at_places) in enumerate(zip(rates, places, strict=True)):
            for era, place in _eras(of_one, at_places, era_of):
                keys.append(prefix * self._eras + era)
                in_force.append(place)
        self._keys = pl.Series(keys, dtype=pl.Int64)
        self._in_force = pl.Series(in_force, dtype=pl.Int64)

    def find(self, numbers: pl.Series, at: pl.Series) -> pl.Series:
        """Return the place of each call's rate, -1 where there is none."""
        prefix = self._longest.gather(self._cut(numbers.fill_null("")))
        if not self._parents.len():
            return prefix
        if self._eras == 1:
            return _gathered(self._in_force, prefix)
        era = self._moments.search_sorted(at.dt.epoch("us"), side="right").cast(pl.Int64)
        place = self._in_era(prefix, era)
        # Where no rate of the prefix is in force, the next shorter prefix is asked.
        while (lacking := (place < 0) & (prefix >= 0)).any():
            rows = lacking.arg_true().cast(pl.Int64)
            shorter = self._parents.gather(prefix.gather(rows))
            prefix = prefix.scatter(rows, shorter)
            place = place.scatter(rows, self._in_era(shorter, era.gather(rows)))
        return place

    def _cut(self, numbers: pl.Series) -> pl.Series:
        """Return where each number stands on the line."""
        if not 0 < self._digits <= _MOST_DIGITS:
            return self._cuts.search_sorted(numbers, side="right").cast(pl.Int64) - 1
        whole = numbers.str.slice(0, self._digits).cast(pl.Int64, strict=False).fill_null(_NOBODY)
        cut = self._whole_cuts.search_sorted(whole, side="right").cast(pl.Int64) - 1
        # Shorter ones, signs, leading zeros and whatever is no digit: as texts.
        odd = (whole < 10 ** (self._digits - 1)).arg_true().cast(pl.Int64)
        if not odd.len():
            return cut
        return cut.scatter(odd, self._cuts.search_sorted(numbers.gather(odd), side="right").cast(pl.Int64) - 1)

    def _in_era(self, prefix: pl.Series, era: pl.Series) -> pl.Series:
        row = self._keys.search_sorted(prefix * self._eras + era, side="right").cast(pl.Int64) - 1
        return _gathered(self._in_force, pl.select(pl.when(prefix >= 0).then(row).otherwise(_NOBODY)).to_series())


def _line(prefixes: list[str]) -> tuple[list[tuple[str, int]], list[int]]:
    """Return where the longest prefix changes and to which (its place, or -1), and each one's next shorter prefix."""
    line: list[tuple[str, int]] = [("", _NOBODY)]
    parents: list[int] = []
    inside: list[int] = []

    def leave() -> None:
        left = prefixes[inside.pop()]
        if left:
            cut(left[:-1] + chr(ord(left[-1]) + 1), inside[-1] if inside else _NOBODY)

    def cut(at: str, prefix: int) -> None:
        if line[-1][0] == at:
            line.pop()
        line.append((at, prefix))

    for place, prefix in enumerate(prefixes):
        while inside and not prefix.startswith(prefixes[inside[-1]]):
            leave()
        parents.append(inside[-1] if inside else _NOBODY)
        cut(prefix, place)
        inside.append(place)
    while inside:
        leave()
    return line, parents


def _whole(cut: str, digits: int) -> int:
    """Return a cut as an integer of so many digits; ":" is the digit ten, so "49:" is 500."""
    value = 0
    for place in range(digits):
        value = value * 10 + (ord(cut[place]) - ord("0") if place < len(cut) else 0)
    return value


def _eras(rates: list[Rate], places: list[int], era_of: dict[datetime, int]) -> list[tuple[int, int]]:
    """Return from which era on which of a prefix's rates is in force (-1: none of them)."""
    latest_first = sorted(
        zip(rates, places, strict=True), key=lambda pair: _era(pair[0].effective_at, era_of), reverse=True
    )
    begins = {0, *(era_of[at] for rate in rates for at in (rate.effective_at, rate.expires_at) if at)}
    told = []
    for era in sorted(begins):
        holding = (
            place
            for rate, place in latest_first
            if (not rate.effective_at or era_of[rate.effective_at] <= era)
            and (not rate.expires_at or era < era_of[rate.expires_at])
        )
        told.append((era, next(holding, _NOBODY)))
    return told


def _era(at: datetime | None, era_of: dict[datetime, int]) -> int:
    return 0 if at is None else era_of[at]


def _gathered(values: pl.Series, places: pl.Series) -> pl.Series:
    """Return the value at each place, -1 for the place -1."""
    found = values.gather(places.clip(lower_bound=0))
    return pl.select(pl.when(places >= 0).then(found).otherwise(_NOBODY)).to_series()


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
