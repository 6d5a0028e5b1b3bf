"""What a switch's own record says, whatever its format: one shape, cleaned, with its place in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MOST_LINE = 64 * 1024
"""The longest line or file of one record that is read, in bytes."""
MOST_TEXT = 200
FORM = " (form)"
"""Ends the source of a record that came percent-encoded: FreeSWITCH leaves a %22 that a caller wrote as it is, so that
it comes out as a quote mark, and the caller may have written part of the record himself.
"""
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,80}(~[1-9][0-9]{0,5})?\Z")
_DIGITS = re.compile(r"[0-9]{1,18}\Z")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_US = 253_402_300_799_000_000


class Unreadable(ValueError):
    """A record that cannot be used; the text says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A line that was left out: where it stands and why. `line` is 0 for a whole file."""

    file: str
    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Leg:
    """One record of a switch: a channel's life (FreeSWITCH), or the time two channels spent together (Asterisk).

    `id` is the same for the same record read twice. `key` is the call key; "" where only the order of the channel's
    records tells it (Asterisk), `base` then is the offering channel. `leg` is the channel that is billed. `rank`: of
    two records of one call the higher one is believed. `part_of`: names of the channels it is about, by which what
    follows a transfer is found. `controlled`: the record itself says that callctl was asked. Times are UTC; talk in ms.
    """

    id: str
    base: str
    key: str
    leg: str
    is_call: bool
    controlled: bool
    rank: int
    part_of: tuple[str, ...]
    direction: str
    account_code: str
    caller: str
    callee: str
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime
    talk_ms: int
    cause: int
    source: str


@dataclass(frozen=True, slots=True)
class SwitchCall:
    """One call as its switch knows it. `twice`: the switch has a second answered record of it, with another length."""

    key: str
    controlled: bool
    direction: str
    account_code: str
    caller: str
    callee: str
    offered_at: datetime
    answered_at: datetime | None
    ended_at: datetime
    talk_ms: int
    cause: int
    source: str
    twice: bool = False


def clean(text: str, most: int = MOST_TEXT) -> str:
    """Return text from a call without what a terminal or a database would trip over, cut."""
    return _UNPRINTABLE.sub("\ufffd", text)[:most]


def key_of(text: str) -> str:
    """Return a call key or a channel's id. Raises `Unreadable`."""
    if not _KEY.match(text):
        raise Unreadable("no id of a call")
    return text


def base_of(key: str) -> str:
    """Return the offering channel of a call."""
    return key.partition("~")[0]


def whole(text: str, what: str) -> int:
    """Read a whole number of 0 or more. Raises `Unreadable`."""
    if not _DIGITS.match(text):
        raise Unreadable(f"{what} is no number")
    return int(text)


def from_us(text: str, what: str) -> datetime | None:
    """Read microseconds since the epoch; 0 and nothing are None. Raises `Unreadable`."""
    us = whole(text, what) if text else 0
    if us > _MOST_US:
        raise Unreadable(f"{what} is no time")
    return _EPOCH + timedelta(microseconds=us) if us else None


def check(leg: Leg) -> Leg:
    """Refuse times in an order that cannot be. Raises `Unreadable`."""
    if leg.ended_at < leg.started_at or (leg.answered_at is not None and leg.ended_at < leg.answered_at):
        raise Unreadable("it ends before it begins")
    return leg
