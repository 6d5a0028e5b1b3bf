"""The words of docs/switches/freeswitch-wire.md: what FreeSWITCH's answers mean, and how calls are named. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson

from callctl.switches.base import Direction, LiveCall, SwitchRecord, SwitchUnavailable
from callctl.switches.esl import EslEvent

FILTER = "filter variable_callctl_tell yes"
EVENTS = "event json CHANNEL_PARK CHANNEL_ANSWER CHANNEL_HANGUP_COMPLETE"
ALIVE = "api hash insert/callctl/alive/yes"
SETUP = (FILTER, EVENTS, ALIVE)
TIME = "api strmicroepoch"
DUMP = "api hash_dump db callctl"
CHANNELS = "api show channels as json"

SOME = 256 * 1024
NEXT_ROW = '},{"uuid":"'

NOTHING = "-ERR no reply"
"""What FreeSWITCH makes of an empty answer."""
LIMIT_CAUSE = "ALLOTTED_TIMEOUT"
OUR_CAUSE = "MANAGER_REQUEST"
"""FreeSWITCH has no other use for it: who hung up can be told from the record alone. On the wire it is 16."""
BY_SWITCH = frozenset({LIMIT_CAUSE, OUR_CAUSE, "MEDIA_TIMEOUT", "SYSTEM_SHUTDOWN", "RECOVERY_ON_TIMER_EXPIRE"})
CAUSES = {
    1: "UNALLOCATED_NUMBER",
    3: "NO_ROUTE_DESTINATION",
    16: OUR_CAUSE,
    17: "USER_BUSY",
    18: "NO_USER_RESPONSE",
    19: "NO_ANSWER",
    21: "CALL_REJECTED",
    27: "DESTINATION_OUT_OF_ORDER",
    34: "NORMAL_CIRCUIT_CONGESTION",
    38: "NETWORK_OUT_OF_ORDER",
    41: "NORMAL_TEMPORARY_FAILURE",
}
REASONS = {
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    480: "Temporarily Unavailable",
    486: "Busy Here",
    488: "Not Acceptable Here",
    503: "Service Unavailable",
    603: "Decline",
}
NEVER_ANSWERED = {
    "USER_BUSY": "busy",
    "NO_ANSWER": "no_answer",
    "NO_USER_RESPONSE": "no_answer",
    "ALLOTTED_TIMEOUT": "no_answer",
    "PROGRESS_TIMEOUT": "no_answer",
    "ORIGINATOR_CANCEL": "cancelled",
}
NORMAL_CLEARING = 16
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UUID = re.compile(r"[A-Za-z0-9_.-]{1,80}\Z")
CALL_KEY = re.compile(r"([A-Za-z0-9_.-]{1,80})(?:~([1-9][0-9]{0,8}))?\Z")
HARMLESS = re.compile(r"[0-9A-Za-z+_]{0,80}\Z")
ACCOUNT = re.compile(r"[0-9A-Za-z_.@:-]{0,100}\Z")


class HostileText(ValueError):
    """Text that the shipped dialplan cannot have written."""


class OfferState(StrEnum):
    """Where an offer stands."""

    OFFERED = "offered"
    ADMITTED = "admitted"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a call from its offer on."""

    direction: Direction
    account_code: str
    caller: str
    callee: str


@dataclass(frozen=True, slots=True)
class Note:
    """The switch's own note of an answered leg; `ended_at` None: it has not ended. `grant_s` None: unlimited."""

    leg: str
    facts: Facts
    answered_at: datetime
    grant_s: float | None
    ended_at: datetime | None = None
    cause: int = 0
    by: str = ""

    def record(self, call_id: str) -> SwitchRecord | None:
        """Return the note for the controller, or None while it lacks its end."""
        if self.ended_at is None:
            return None
        return SwitchRecord(call_id, self.answered_at, self.ended_at, self.cause, self.by)


@dataclass(slots=True)
class Notes:
    """Everything the switch has noted. `until` has what was moved; None in it: unlimited."""

    offers: dict[str, tuple[OfferState, Facts]] = field(default_factory=dict)
    legs: dict[str, Note] = field(default_factory=dict)
    until: dict[str, datetime | None] = field(default_factory=dict)
    hostile: int = 0

    def ends_at(self, key: str, note: Note) -> datetime | None:
        """Return when an answered call ends; None: never by itself."""
        if key in self.until:
            return self.until[key]
        return None if note.grant_s is None else note.answered_at + timedelta(seconds=note.grant_s)

    def channels(self) -> set[str]:
        """Return the channels that must live for these calls to live."""
        live = {note.leg for note in self.legs.values() if note.ended_at is None}
        return live | {split_key(key)[0] for key in self.offers}


def split_key(key: str) -> tuple[str, int]:
    """Return the offering channel and the number of its offer. Raises `HostileText`."""
    match = CALL_KEY.match(key)
    if match is None:
        raise HostileText("not a call")
    return match[1], int(match[2]) if match[2] else 1


def micros_of(moment: datetime) -> int:
    """Return microseconds since the epoch."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def parse_micros(text: str) -> datetime | None:
    """Read microseconds since the epoch; None: 0 or nothing, it never was. Raises `HostileText`."""
    if text in ("", "0"):
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 17):  # noqa: PLR2004 - the year 5138
        raise HostileText("not a time")
    return EPOCH + timedelta(microseconds=int(text))


def parse_facts(direction: str, account: str, caller: str, callee: str) -> Facts:
    """Read what the dialplan has cleaned. Raises `HostileText`."""
    if not (ACCOUNT.match(account) and HARMLESS.match(caller) and HARMLESS.match(callee)):
        raise HostileText("an offer that was not cleaned")
    try:
        return Facts(Direction(direction), account, caller, callee)
    except ValueError as bad:
        raise HostileText("not an offer") from bad


def facts_in(text: str) -> Facts:
    """Read `direction|account|caller|callee`. Raises `HostileText`."""
    parts = text.split("|")
    if len(parts) != 4:  # noqa: PLR2004 - the four above
        raise HostileText("not an offer")
    return parse_facts(*parts)


def parse_grant(text: str) -> float | None:
    """Read seconds, or none. Raises `HostileText`."""
    if text == "none":
        return None
    try:
        grant_s = float(text)
    except ValueError as bad:
        raise HostileText("not a grant") from bad
    if not (math.isfinite(grant_s) and grant_s > 0):
        raise HostileText("not a grant")
    return grant_s


def parse_note(text: str) -> Note:
    """Read callctl_leg/<key>. Raises `HostileText`."""
    match text.split("|"):
        case [leg, direction, account, caller, callee, answered, grant]:
            end = ("", "", "", "")
        case [leg, direction, account, caller, callee, answered, grant, ended, cause, name, disposition]:
            end = (ended, cause, name, disposition)
        case _:
            raise HostileText("not a note")
    facts, answered_at = parse_facts(direction, account, caller, callee), parse_micros(answered)
    if answered_at is None or not UUID.match(leg):
        raise HostileText("a note of no answer")
    by = hung_up_by(facts.direction, name=end[2], disposition=end[3]) if end[0] else ""
    return Note(leg, facts, answered_at, parse_grant(grant), parse_micros(end[0]), parse_cause(end[1]), by)


def parse_cause(text: str) -> int:
    """Read a Q.850 cause; 0: unknown."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 3 else 0  # noqa: PLR2004 - at most 127


def parse_offer(text: str) -> tuple[OfferState, Facts]:
    """Read callctl_offer/<key>. Raises `HostileText`."""
    state, _, facts = text.partition("|")
    try:
        return OfferState(state), facts_in(facts)
    except ValueError as bad:
        raise HostileText("not an offer") from bad


def parse_dump(text: str) -> Notes:
    """Read the list of notes; what is said twice is said by nobody. Raises `SwitchUnavailable` for no whole list."""
    said: dict[tuple[str, str], list[str]] = {}
    for line in text.split("\n"):
        name, _, value = line.removeprefix("D/callctl_").partition("/")
        realm, _, key = name.partition("_")
        if line.startswith("D/callctl_") and realm in ("alive", "offer", "leg", "until"):
            said.setdefault((realm, key), []).append(value)
    if ("alive", "") not in said:
        raise SwitchUnavailable(f"hash_dump: {text.strip()[:100]}")
    notes = Notes()
    for (realm, key), values in said.items():
        try:
            if realm != "alive":
                _take_note(notes, realm, key, values)
        except HostileText:
            notes.hostile += 1
    return notes


def _take_note(notes: Notes, realm: str, key: str, values: list[str]) -> None:
    if len(values) != 1:
        raise HostileText("a note twice")
    split_key(key)
    if realm == "offer":
        notes.offers[key] = parse_offer(values[0])
    elif realm == "leg":
        notes.legs[key] = parse_note(values[0])
    else:
        notes.until[key] = None if values[0] == "none" else parse_micros(values[0])


def parse_channels(text: str) -> set[str]:
    """Read the list of channels. Raises `SwitchUnavailable` for anything but a whole list, an empty answer too."""
    uuids, rows, count = set[str](), 0, None
    for piece in _some_rows(text):
        try:
            listed: Any = orjson.loads(piece)
        except ValueError as bad:
            raise SwitchUnavailable(f"show channels: {text.strip()[:100] or 'an empty answer'}") from bad
        some = listed.get("rows", []) if isinstance(listed, dict) else None
        if not isinstance(some, list):
            raise SwitchUnavailable("show channels: a list that is not whole")
        rows, count = rows + len(some), listed.get("row_count", count)
        uuids |= {row["uuid"] for row in some if isinstance(row, dict) and isinstance(row.get("uuid"), str)}
    if count != rows:
        raise SwitchUnavailable("show channels: a list that is not whole")
    return uuids


def _some_rows(text: str) -> Iterator[str]:
    """Cut a long list into lists of some rows: read in one go, one of megabytes would let no other thread run.

    What is cut at cannot stand inside a value, where a quote is written with a backslash.
    """
    begin, head = 0, ""
    while (end := text.find(NEXT_ROW, begin + SOME)) >= 0:
        yield f"{head}{text[begin : end + 1]}]}}"
        begin, head = end + 2, '{"rows":['
    yield head + text[begin:]


def hung_up_by(direction: Direction, *, name: str, disposition: str) -> str:
    """Say in the port's words who ended an answered leg: `name` is FreeSWITCH's cause, `disposition` who said BYE."""
    far, near = ("callee", "caller") if direction is Direction.OUTBOUND else ("caller", "callee")
    if name in BY_SWITCH:
        return "switch"
    if disposition.startswith("recv_"):
        return far
    return near if disposition.startswith("send_") else ""


def unanswered(name: str, cause: int) -> tuple[str, int]:
    """Return (dial_status, cause) in the port's words for a call that nobody answered."""
    word = NEVER_ANSWERED.get(name, "failed")
    return word, NORMAL_CLEARING if word == "cancelled" else cause


def note_of(event: EslEvent) -> tuple[str, Note | None]:
    """Return the key of the call whose leg an event is of ("" : of none), and the note it amounts to once answered.

    Raises `HostileText`.
    """
    key = event.get("variable_callctl_leg")
    if not key or event.get("variable_loopback_leg") == "B":
        # The far half of a loopback channel has all variables of the near half, which is the leg.
        return "", None
    split_key(key)
    facts, leg = facts_in(event.get("variable_callctl_of")), event.get("Unique-ID")
    answered_at = parse_micros(event.get("Caller-Channel-Answered-Time"))
    if answered_at is None:
        return key, None
    if not UUID.match(leg):
        raise HostileText("a leg that is no channel")
    grant_s = parse_grant(event.get("variable_callctl_grant"))
    ended_at = parse_micros(event.get("Caller-Channel-Hangup-Time"))
    if event.name != "CHANNEL_HANGUP_COMPLETE":
        return key, Note(leg, facts, answered_at, grant_s)
    disposition = event.get("variable_sip_hangup_disposition")
    by = hung_up_by(facts.direction, name=event.get("Hangup-Cause"), disposition=disposition)
    cause = parse_cause(event.get("variable_hangup_cause_q850"))
    return key, Note(leg, facts, answered_at, grant_s, ended_at, cause, by)


def offer_of(event: EslEvent) -> tuple[str, Facts | None]:
    """Return the key and the facts of the offer an event is of; ("", None): of none. Raises `HostileText`."""
    key = event.get("variable_callctl_key")
    if not key:
        return "", None
    if split_key(key)[0] != event.get("Unique-ID"):
        raise HostileText("an offer of another channel")
    return key, facts_in(event.get("variable_callctl_offer"))


def deadline(limit_s: float) -> int:
    """Return whole seconds for `sched_hangup`, which fires up to one second early."""
    return math.ceil(limit_s) + 1


def live_calls(switch: str, notes: Notes, channels: Iterable[str], now: datetime) -> Iterator[tuple[str, LiveCall]]:
    """Yield key and call of what these notes are, of which the channel lives; `now` by the switch's clock."""
    living = set(channels)
    for key, note in notes.legs.items():
        if note.ended_at is None and note.leg in living:
            ends_at = notes.ends_at(key, note)
            left_s = None if ends_at is None else max((ends_at - now).total_seconds(), 0.001)
            yield (
                key,
                _live(switch, key, note.facts, waiting=False, answered_at=note.answered_at, limit_s=left_s),
            )
    newest: dict[str, int] = {}
    for key in notes.offers:
        channel, number = split_key(key)
        newest[channel] = max(number, newest.get(channel, 0))
    for key, (state, facts) in notes.offers.items():
        channel, number = split_key(key)
        if key not in notes.legs and channel in living and number == newest[channel]:
            waiting = state is OfferState.OFFERED
            yield key, _live(switch, key, facts, waiting=waiting, answered_at=None, limit_s=None)


def _live(
    switch: str, key: str, facts: Facts, *, waiting: bool, answered_at: datetime | None, limit_s: float | None
) -> LiveCall:
    return LiveCall(
        f"{switch}:{key}",
        waiting=waiting,
        direction=facts.direction,
        account_code=facts.account_code,
        caller=facts.caller,
        callee=facts.callee,
        answered_at=answered_at,
        limit_s=limit_s,
    )
