"""Which band of a tariff is in force at an instant, and until when: clock times in a zone become a line of instants.

A band is told in local clock time, an instant is not. On the day the clock jumps forward an hour of local time does not
exist; on the day it jumps back one comes twice, and whatever band holds then holds for both. So the line is laid in
instants, a day of UTC at a time, from one change of band or of the zone's offset to the next, and kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from rating.errors import TariffError
from rating.parts import When

NO_BAND = -1
DAY_S = 86_400
DAY_MS = DAY_S * 1000
_WEEK_S = 7 * DAY_S
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_KNOWN_DAYS = range(date(2, 1, 1).toordinal() - _EPOCH_ORDINAL, date(9999, 1, 1).toordinal() - _EPOCH_ORDINAL)
"""Since 1970. There are dates from the year 1 to 9999, and the clock of a zone needs some more at either end."""
_MOST_DAYS_KEPT = 1000
_CYCLE = range(2000, 2028)
"""Years in which every date falls on every day of the week."""
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def instant_ms(at: datetime) -> int:
    """Return an aware datetime as milliseconds since 1970. Raises `TariffError` for one without a zone."""
    if at.tzinfo is None:
        raise TariffError("a time has a zone")
    return (at - _EPOCH) // timedelta(milliseconds=1)


def zone_of(name: str) -> ZoneInfo:
    """Return an IANA time zone. Raises `TariffError` where there is none of this name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise TariffError(f"timezone: there is no time zone {name[:40]!r}") from error


@lru_cache(maxsize=1024)
def calendar_of(whens: tuple[When, ...], timezone: str) -> Calendar:
    """Return the calendar of these bands: one for all rates whose bands have the same times."""
    return Calendar(whens, timezone)


class Piece(NamedTuple):
    """Part of a local day: up to second `until_s` the band with this number holds, or `NO_BAND`."""

    until_s: int
    band: int


class Calendar:
    """Which of these bands is in force, and until when. Raises `TariffError` before the year 2 and after 9998."""

    __slots__ = ("_dates", "_days", "_whens", "_zone")

    def __init__(self, whens: tuple[When, ...], timezone: str) -> None:
        self._whens = whens
        self._zone = zone_of(timezone)
        self._days: dict[int, tuple[list[int], list[int]]] = {}
        self._dates: dict[int, tuple[Piece, ...]] = {}

    def at(self, moment_ms: int) -> tuple[int, int]:
        """Return the number of the band in force (or `NO_BAND`), and a moment up to which it certainly is."""
        day = moment_ms // DAY_MS
        laid = self._days.get(day)
        if laid is None:
            laid = self._days_laid(day)
        begins, bands = laid
        place = bisect_right(begins, moment_ms)
        return bands[place - 1], begins[place] if place < len(begins) else (day + 1) * DAY_MS

    def before(self, moment_ms: int) -> int:
        """Return the last band that was in force before a moment, or `NO_BAND` if there was none for a year."""
        for day in range(moment_ms // DAY_MS, moment_ms // DAY_MS - 366, -1):
            begins, bands = self._days_laid(day)
            for begin, band in zip(reversed(begins), reversed(bands), strict=True):
                if begin <= moment_ms and band != NO_BAND:
                    return band
        return NO_BAND

    def day(self, day: int) -> tuple[list[int], list[int]]:
        """Return the moments of a day of UTC (its number since 1970) at which bands begin, and the bands."""
        return self._days_laid(day)

    def local(self, moment_ms: int) -> datetime:
        """Return a moment on the tariff's own clock."""
        return (_EPOCH + timedelta(milliseconds=moment_ms)).astimezone(self._zone)

    def _days_laid(self, day: int) -> tuple[list[int], list[int]]:
        laid = self._days.get(day)
        if laid is None:
            if day not in _KNOWN_DAYS:
                raise TariffError("bands are known from the year 2 to the year 9998")
            if len(self._days) >= _MOST_DAYS_KEPT:
                self._days.clear()
                self._dates.clear()
            laid = self._days[day] = self._lay(day)
        return laid

    def _lay(self, day: int) -> tuple[list[int], list[int]]:
        """Lay out a day of UTC: the moments at which something changes, and the band from each of them on."""
        begins: list[int] = []
        bands: list[int] = []
        at_s, end_s = day * DAY_S, (day + 1) * DAY_S
        while at_s < end_s:
            offset_s = self._offset_s(at_s)
            local_day, second = divmod(at_s + offset_s, DAY_S)
            until_s, band = next(piece for piece in self._pieces(local_day) if piece.until_s > second)
            until_s = min(at_s + until_s - second, end_s)
            if self._offset_s(until_s - 1) != offset_s:
                until_s = self._clock_change(at_s, until_s - 1)
            if not bands or bands[-1] != band:
                begins.append(at_s * 1000)
                bands.append(band)
            at_s = until_s
        return begins, bands

    def _offset_s(self, at_s: int) -> int:
        offset = (_EPOCH + timedelta(seconds=at_s)).astimezone(self._zone).utcoffset()
        return offset // timedelta(seconds=1) if offset is not None else 0

    def _clock_change(self, before_s: int, after_s: int) -> int:
        """Return the first second with another offset than `before_s`. No zone changes twice within a day."""
        offset_s = self._offset_s(before_s)
        while after_s - before_s > 1:
            middle_s = (before_s + after_s) // 2
            if self._offset_s(middle_s) == offset_s:
                before_s = middle_s
            else:
                after_s = middle_s
        return after_s

    def _pieces(self, local_day: int) -> tuple[Piece, ...]:
        pieces = self._dates.get(local_day)
        if pieces is None:
            today = date.fromordinal(_EPOCH_ORDINAL + local_day)
            pieces = self._dates[local_day] = tuple(_pieces(self._whens, today))
        return pieces


def _pieces(whens: tuple[When, ...], today: date) -> Iterator[Piece]:
    """Cut a local day where a band begins or ends; of those that hold the one with the highest priority wins."""
    spans = [
        (begin_s, end_s, number)
        for number, when in enumerate(whens)
        for begin_s, end_s, days_ago in _parts(when)
        if _is_on(when, today - timedelta(days=days_ago))
    ]
    cuts = sorted({DAY_S, *(begin for begin, _, _ in spans if begin), *(end for _, end, _ in spans)})
    begin_s = 0
    for until_s in cuts:
        holding = [number for begin, end, number in spans if begin <= begin_s < end]
        yield Piece(until_s, max(holding, key=lambda number: whens[number].priority, default=NO_BAND))
        begin_s = until_s


def _parts(when: When) -> list[tuple[int, int, int]]:
    """Return (from, to, days since the band began) of a band: two parts where it goes over midnight."""
    if when.from_s < when.to_s:
        return [(when.from_s, when.to_s, 0)]
    return [(when.from_s, DAY_S, 0), *([(0, when.to_s, 1)] if when.to_s else [])]


def _is_on(when: When, day: date) -> bool:
    text = day.isoformat()
    return day.isoweekday() in when.days and (not when.dates or text[5:] in when.dates or text in when.dates)


# -- what makes bands clear --------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def find_gap(whens: tuple[When, ...]) -> str:
    """Say the first time of the week that no band covers, whatever the date; "" where there is none."""
    spans = sorted(span for when in whens if not when.dates for span in _weekly(when))
    covered_s = 0
    for begin_s, end_s in (*spans, (_WEEK_S, _WEEK_S)):
        if begin_s > covered_s:
            midnight_s = covered_s // DAY_S * DAY_S
            until_s = min(begin_s, midnight_s + DAY_S)
            return f"{_DAYS[covered_s // DAY_S]} from {clock(covered_s - midnight_s)} to {clock(until_s - midnight_s)}"
        covered_s = max(covered_s, end_s)
    return ""


@lru_cache(maxsize=1024)
def find_overlap(whens: tuple[When, ...]) -> tuple[int, int, str] | None:
    """Return the first two bands of one priority that can be in force together, and a time of the week at which."""
    for second, when in enumerate(whens):
        for first in range(second):
            if whens[first].priority == when.priority:
                told = _meeting(whens[first], when)
                if told:
                    return first, second, told
    return None


def clock(second: int) -> str:
    """Write a second of the day as HH:MM, with :SS where it has seconds."""
    text = f"{second // 3600:02d}:{second // 60 % 60:02d}"
    return f"{text}:{second % 60:02d}" if second % 60 else text


def when_text(when: When) -> str:
    """Say in words when a band holds."""
    days = "every day" if len(when.days) == len(_DAYS) else _days_text(sorted(when.days))
    on = f" on {', '.join(when.dates[:3])}{' …' if len(when.dates) > 3 else ''}" if when.dates else ""  # noqa: PLR2004
    return f"{days} {clock(when.from_s)}–{clock(when.to_s)}{on}"


def _days_text(days: list[int]) -> str:
    first, last = days[0], days[-1]
    if len(days) > 2 and last - first + 1 == len(days):  # noqa: PLR2004 - two days are named, three are from … to
        return f"{_DAYS[first - 1]}–{_DAYS[last - 1]}"
    return ", ".join(_DAYS[day - 1] for day in days)


def _weekly(when: When) -> Iterator[tuple[int, int]]:
    for day in when.days:
        for begin_s, end_s, days_ago in _parts(when):
            start_s = (day - 1 + days_ago) % 7 * DAY_S
            yield start_s + begin_s, start_s + end_s


def _meeting(one: When, other: When) -> str:
    """Say when two bands are in force together, or ""."""
    for own_begin, own_end, own_ago in _parts(one):
        for begin, end, ago in _parts(other):
            begin_s = max(own_begin, begin)
            if begin_s < min(own_end, end):
                day = _common_day(one, own_ago, other, ago)
                if day:
                    return f"{day} {clock(begin_s)}"
    return ""


def _common_day(one: When, own_ago: int, other: When, ago: int) -> str:
    """Say a day on which both hold, one of them perhaps since the day before, or ""."""
    if one.dates or other.dates:
        dated, since, rest, rest_since = (one, own_ago, other, ago) if one.dates else (other, ago, one, own_ago)
        for begun in _all_dates(dated, rest):
            day = begun + timedelta(days=since)
            if _is_on(dated, begun) and _is_on(rest, day - timedelta(days=rest_since)):
                return day.isoformat()
        return ""
    for day_of_week in one.days:
        on = (day_of_week - 1 + own_ago) % 7
        if (on - ago) % 7 + 1 in other.days:
            return _DAYS[on]
    return ""


def _all_dates(dated: When, rest: When) -> Iterator[date]:
    """Yield the days a dated band may mean, in years enough for every weekday and every other band's dates."""
    years = sorted({*_CYCLE, *(int(text[:4]) for text in rest.dates if len(text) > 5)})  # noqa: PLR2004 - MM-DD has five
    for text in dated.dates:
        if len(text) > 5:  # noqa: PLR2004 - MM-DD has five
            yield date.fromisoformat(text)
            continue
        for year in years:
            if text != "02-29" or (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)):
                yield date.fromisoformat(f"{year:04d}-{text}")
