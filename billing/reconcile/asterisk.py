"""Asterisk's `cdr-csv/Master.csv`: a line for each time two channels spent together, in whole seconds.

Needs `loguniqueid=yes` under `[csv]` of cdr.conf. `usegmtime=yes` writes UTC; without it the zone must be told. Which
call a line belongs to is told by its uniqueid, and by the order of its lines where a channel was transferred.
"""

from __future__ import annotations

import csv
import re
from datetime import UTC, datetime, tzinfo

from billing.reconcile.records import Leg, Unreadable, check, clean, key_of, whole

COLUMNS = 16
"""Without the optional ones: uniqueid, userfield, then peeraccount, linkedid and sequence (`newcdrcolumns`)."""
DOORS = {"callctl-out": "outbound", "callctl-in": "inbound", "callctl-transfer": "outbound"}
"""The contexts of callctl.conf that a channel enters by, as the record keeps them."""
_UNIQUEID = re.compile(r"(?:.*-)?([0-9]{9,11})\.[0-9]+\Z")
_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\Z")


def read_line(line: str, source: str, zone: tzinfo) -> Leg:
    """Read one line. Raises `Unreadable`."""
    fields = split(line)
    if len(fields) < COLUMNS + 1 or not _UNIQUEID.match(fields[COLUMNS]):
        raise Unreadable("no uniqueid in column 17: set loguniqueid=yes in cdr.conf")
    (account, src, dst, context, _, channel, other, app, _, start, answer, end, _, billsec, disposition, _) = fields[
        :COLUMNS
    ]
    uniqueid = key_of(fields[COLUMNS])
    started_at, ended_at = _moment(start, zone), _moment(end, zone)
    if started_at is None or ended_at is None:
        raise Unreadable("without a start or an end")
    answered_at = _moment(answer, zone) if disposition == "ANSWERED" else None
    direction = DOORS.get(context, "")
    met = tuple(name for name in (channel, other) if name)
    leg = Leg(
        id=f"{uniqueid} {other} {start} {end} {fields[-1] if len(fields) > COLUMNS + 2 else ''}"[:300],
        base=uniqueid,
        key="",
        leg=channel if direction == "inbound" else other,
        is_call=app == "Dial" and bool(other),
        controlled=bool(direction),
        rank=1,
        part_of=met,
        direction=direction or "outbound",
        account_code=clean(account, 100),
        caller=clean(src),
        callee=clean(dst),
        started_at=started_at,
        answered_at=answered_at,
        ended_at=ended_at,
        talk_ms=whole(billsec, "billsec") * 1000 if answered_at else 0,
        cause=0,
        source=source,
    )
    return check(leg)


def split(line: str) -> list[str]:
    """Split one line of CSV. Raises `Unreadable`."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error as error:
        raise Unreadable(f"not CSV: {error}") from None


def skew_s(leg: Leg) -> int:
    """Return how far a record's start is from the second in its uniqueid: hours, where the zone is wrong."""
    match = _UNIQUEID.match(leg.base)
    return int(leg.started_at.timestamp()) - int(match[1]) if match else 0


def _moment(text: str, zone: tzinfo) -> datetime | None:
    if not text:
        return None
    if not _STAMP.match(text):
        raise Unreadable("a time is not written as 2026-11-23 07:57:09")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unreadable("a time that no calendar has") from None
