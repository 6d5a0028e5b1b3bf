"""Asterisk's channel events, as `cel_custom` writes them by the template of docs/reconcile.md, to the microsecond.

    callctl-cel,type,time,uniqueid,linkedid,account code,context,exten,caller number,channel,peer,extra

A call is a `Dial`; its billed leg is the channel that is made next for the same linkedid (or, inbound, the dialling
channel itself), from that channel's own answer to its own end, whatever transfers there were.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from billing.reconcile.asterisk import split
from billing.reconcile.records import Leg, Unreadable, check, clean, from_us, key_of

MARK = "callctl-cel"
FIELDS = 12
RINGS = {"callctl-ring-outbound": "outbound", "callctl-ring-inbound": "inbound"}
MOST_CAUSE = 999
MOST_CHANNELS = 200_000
"""Channels at once; beyond it the oldest, whose ends must have been lost, are forgotten."""


@dataclass(slots=True)
class _Dial:
    key: str
    controlled: bool
    direction: str
    account_code: str
    caller: str
    callee: str
    at: datetime


@dataclass(slots=True)
class _Channel:
    started_at: datetime
    answered_at: datetime | None = None
    dials: int = 0
    calls: list[_Dial] = field(default_factory=list)
    """What this channel is the billed leg of."""


class CelReader:
    """Follows channels from line to line; yields a record at the end of each billed leg."""

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._channels: dict[str, _Channel] = {}
        self._dialling: dict[str, _Dial] = {}

    def read_line(self, line: str, source: str) -> Iterator[Leg]:
        """Take the next line. Raises `Unreadable`."""
        fields = split(line)
        if len(fields) != FIELDS or fields[0] != MARK:
            raise Unreadable(f"not the {FIELDS} fields of the template")
        _, kind, stamp, uniqueid, linkedid, account, context, exten, number, _, _, extra = fields
        uniqueid, at = key_of(uniqueid), self._moment(stamp)
        match kind:
            case "CHAN_START":
                self._started(uniqueid, linkedid, at)
            case "APP_START":
                self._dials(uniqueid, linkedid, at, (context, account, number, exten))
            case "ANSWER":
                channel = self._channels.get(uniqueid)
                if channel is not None and channel.answered_at is None:
                    channel.answered_at = at
            case "HANGUP":
                yield from self._ended(uniqueid, at, _cause(extra), source)
            case "LINKEDID_END":
                self._dialling.pop(linkedid, None)
            case _:
                pass

    def _started(self, uniqueid: str, linkedid: str, at: datetime) -> None:
        if len(self._channels) >= MOST_CHANNELS:
            self._channels.pop(next(iter(self._channels)))
        channel = self._channels[uniqueid] = _Channel(at)
        dial = self._dialling.get(linkedid)
        if dial is not None:
            channel.calls.append(dial)

    def _dials(self, uniqueid: str, linkedid: str, at: datetime, told: tuple[str, str, str, str]) -> None:
        channel = self._channels.setdefault(uniqueid, _Channel(at))
        channel.dials += 1
        context, account, number, exten = told
        direction = RINGS.get(context, "outbound")
        key = uniqueid if channel.dials == 1 else f"{uniqueid}~{channel.dials}"
        dial = _Dial(key, context in RINGS, direction, clean(account, 100), clean(number), clean(exten), at)
        if direction == "inbound":
            channel.calls.append(dial)
            self._dialling.pop(linkedid, None)
        else:
            if len(self._dialling) >= MOST_CHANNELS:
                self._dialling.pop(next(iter(self._dialling)))
            self._dialling[linkedid] = dial

    def _ended(self, uniqueid: str, at: datetime, cause: int, source: str) -> Iterator[Leg]:
        channel = self._channels.pop(uniqueid, None)
        if channel is None:
            return
        for dial in channel.calls:
            answered_at = channel.answered_at
            talk_ms = (at - answered_at) // timedelta(milliseconds=1) if answered_at else 0
            yield check(
                Leg(
                    id=f"cel {dial.key} {uniqueid}",
                    base=dial.key.partition("~")[0],
                    key=dial.key,
                    leg=uniqueid,
                    is_call=True,
                    controlled=dial.controlled,
                    rank=2,
                    part_of=(),
                    direction=dial.direction,
                    account_code=dial.account_code,
                    caller=dial.caller,
                    callee=dial.callee,
                    started_at=min(dial.at, channel.started_at),
                    answered_at=answered_at,
                    ended_at=at,
                    talk_ms=talk_ms,
                    cause=cause,
                    source=source,
                )
            )

    def _moment(self, text: str) -> datetime:
        """Read <epoch>.<microseconds> (no `dateformat` in cel.conf) or ISO 8601."""
        seconds, dot, rest = text.partition(".")
        try:
            if dot and seconds.isdigit() and len(rest) == len("000000"):
                moment = from_us(seconds + rest, "the time")
                if moment is not None:
                    return moment
            at = datetime.fromisoformat(text)
            return (at if at.tzinfo else at.replace(tzinfo=self._zone)).astimezone(UTC)
        except (Unreadable, ValueError, OverflowError):
            raise Unreadable("the time is neither <epoch>.<microseconds> nor ISO 8601") from None


def _cause(extra: str) -> int:
    try:
        cause = json.loads(extra).get("hangupcause", 0)
    except (ValueError, AttributeError, RecursionError):
        return 0
    return cause if isinstance(cause, int) and 0 <= cause <= MOST_CAUSE else 0
