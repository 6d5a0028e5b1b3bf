"""The list of premium-rate and revenue-share ranges: read from a file, looked through, one set or taken away."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime

from sqlmodel import Session, col, select

from billing import audit
from billing.catalogue import bump_catalogue
from billing.errors import NotFound, Refused
from billing.fraud.rules import MOST_RANGES, checked_range, count_ranges
from billing.models.fraud import RiskyRange


def read_ranges(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (prefix, what it is) of each line of a CSV file, without comments and a header. Raises `Refused`."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise Refused("the file is no UTF-8 text") from None
    try:
        first = True
        for line in csv.reader(lines):
            if not line or line[0].lstrip().startswith("#"):
                continue
            header = first and not any(char.isdigit() for char in line[0])
            first = False
            if not header:
                yield line[0], line[1] if len(line) > 1 else ""
    except csv.Error as error:
        raise Refused(f"the file is no CSV: {error}") from None


def list_ranges(session: Session, *, begins: str = "", after: str = "", most: int = 100) -> list[RiskyRange]:
    """Return ranges in the order of their prefixes, those that begin so, behind the prefix `after`."""
    asked = select(RiskyRange).where(col(RiskyRange.prefix) > after).order_by(col(RiskyRange.prefix)).limit(most)
    if begins:
        asked = asked.where(col(RiskyRange.prefix) >= begins, col(RiskyRange.prefix) < f"{begins}:")
    return list(session.exec(asked).all())


def set_range(session: Session, prefix: str, label: str, *, actor: str, now: datetime) -> RiskyRange:
    """Put a range into the list, or say anew what it is. Raises `Refused`."""
    digits, told = checked_range(prefix, label)
    row = session.exec(select(RiskyRange).where(RiskyRange.prefix == digits).with_for_update()).one_or_none()
    if row is not None and row.label == told:
        return row
    if row is None and count_ranges(session) >= MOST_RANGES:
        raise Refused(f"the list has {MOST_RANGES} ranges already")
    before = None if row is None else {"label": row.label}
    row = row or RiskyRange(prefix=digits)
    row.label = told
    session.add(row)
    session.flush()
    subject = f"range:{digits}"
    audit.record(
        session, actor=actor, action="fraud.range.set", subject=subject, before=before, after={"label": told}, now=now
    )
    bump_catalogue(session)
    return row


def remove_range(session: Session, prefix: str, *, actor: str, now: datetime) -> None:
    """Take a range out of the list. Raises `NotFound`."""
    row = session.exec(select(RiskyRange).where(RiskyRange.prefix == prefix).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"there is no range {prefix[:32]!r}")
    before = {"label": row.label}
    session.delete(row)
    session.flush()
    audit.record(session, actor=actor, action="fraud.range.remove", subject=f"range:{prefix}", before=before, now=now)
    bump_catalogue(session)
