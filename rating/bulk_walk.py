"""Calls that talk through bands, in columns: which ladder is in force when, and the increments from one change to the
next, all calls a part at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rating.bands import DAY_MS
from rating.bulk_tables import MOST_PARTS, REACH_MS, RateTables, gathered
from rating.late import pl

_MOMENTS = 2**48
"""More milliseconds since 1970 than a time can have; what stands above is the calendar's number."""


def found(keys: pl.Series, group: pl.Series, at: pl.Series, *, side: Literal["left", "right"]) -> pl.Series:
    """Return the place of the last entry of a group that begins before `at` ("left"), or at it at the latest."""
    return keys.search_sorted(group * REACH_MS + at, side=side).cast(pl.Int64) - 1


class Timeline:
    """The bands of some calendars, on the days on which calls were answered and on the day after each."""

    def __init__(self, tables: RateTables, calendars: pl.Series, answered_ms: pl.Series) -> None:
        needed: set[tuple[int, int]] = set()
        days = pl.DataFrame({"calendar": calendars, "day": answered_ms // DAY_MS}).unique()
        for number, day in days.iter_rows():
            needed |= {(number, day), (number, day + 1)}
        keys: list[int] = []
        bands: list[int] = []
        until: list[int] = []
        for number, day in sorted(needed):
            begins, in_force = tables.calendars[number].day(day)
            keys += [number * _MOMENTS + begin for begin in begins]
            bands += in_force
            until += [*begins[1:], (day + 1) * DAY_MS]
        self._ladders = tables.ladders
        self._keys = pl.Series(keys, dtype=pl.Int64)
        self._bands = pl.Series(bands, dtype=pl.Int64)
        self._until = pl.Series(until, dtype=pl.Int64)

    def at(self, calendar: pl.Series, moment_ms: pl.Series, of_bands: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Return the ladder in force, and a moment up to which it certainly is; anything where there are no bands."""
        place = self._keys.search_sorted(calendar * _MOMENTS + moment_ms, side="right").cast(pl.Int64) - 1
        place = place.clip(lower_bound=0)
        # The ladder outside all bands, which have the number -1, stands before those of the bands.
        row = (of_bands + self._bands.gather(place) + 1).clip(0, self._ladders.len() - 1)
        return self._ladders.gather(row), self._until.gather(place)


@dataclass(frozen=True, slots=True)
class Walked:
    """What increments and fees add up to, until when they pay, and which calls have more parts than were walked."""

    total: pl.Series
    billed: pl.Series
    unfinished: pl.Series


def walk(tables: RateTables, timeline: Timeline, calls: pl.DataFrame) -> Walked:
    """Lay the increments of each call end to end, from one change of step or band to the next.

    `calls`: `ladder` is the one of the answer, which gives the connect fee; `talk`, in ms; `begin`, the moment of the
    answer; `calendar`, `of_bands`, `free_ms` of its terms.
    """
    calls = calls.with_columns(
        call=pl.int_range(calls.height, eager=True),
        at=calls["free_ms"],
        reached=pl.lit(-1, pl.Int64),
        total=tables.connect_fees.gather(calls["ladder"]),
    )
    ended: list[pl.DataFrame] = []
    for _ in range(MOST_PARTS):
        going = calls["at"] < calls["talk"]
        ended.append(calls.filter(~going))
        calls = calls.filter(going)
        if not calls.height:
            break
        calls = _next_part(tables, timeline, calls)
    ended.append(calls)
    together = pl.concat(ended).sort("call")
    return Walked(together["total"], together["at"], together["at"] < together["talk"])


def _next_part(tables: RateTables, timeline: Timeline, calls: pl.DataFrame) -> pl.DataFrame:
    """Take each call over the increments of one step in one band."""
    at, reached = calls["at"], calls["reached"]
    ladder, band_ends = timeline.at(calls["calendar"], calls["begin"] + at, calls["of_bands"])
    rung = found(tables.rungs["key"], ladder, at, side="right")
    increment, each, next_from, fees = gathered(tables.rungs, rung, ("increment", "each", "until", "fees"))
    until = pl.select(pl.min_horizontal(calls["talk"], band_ends - calls["begin"], next_from)).to_series()
    # Fees of steps that the increments before have reached are paid; none are before the first.
    paid_rung = found(tables.rungs["key"], ladder, reached, side="right").clip(lower_bound=0)
    paid, paid_ladder = gathered(tables.rungs, paid_rung, ("fees", "ladder"))
    was_paid = ((reached >= 0) & (paid_ladder == ladder)).cast(pl.Int64)
    count = (until - at + increment - 1) // increment
    at_end = at + count * increment
    return calls.with_columns(
        total=calls["total"] + fees - paid * was_paid + count * each, at=at_end, reached=at_end - increment
    )
