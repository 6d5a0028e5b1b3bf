"""The words of docs/switches/asterisk-wire.md: what Asterisk's answers mean, and how a call is named in them. Pure."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from callctl.switches.ami_request import Lines, Reply, identity
from callctl.switches.base import Direction, LiveCall, SwitchRecord

ASKED = (
    "CALLCTL_OFFER",
    "CALLCTL_LEG",
    "CALLCTL_ANSWERED",
    "DIALEDPEERNAME",
    "CHANNEL(accountcode)",
    "TIMEOUT(absolute)",
    "UNIQUEID",
)
"""Asked of a channel, always in this order: believed are only these, as its last lines."""

FAMILY = "callctl"
EARLY_S = 0.05
"""Asterisk acts on a limit some ms late: it is told a little less, so that no call outlasts what is paid for."""
SHORTEST_S = 0.01
"""A limit of 0 means none to Asterisk, so what is over is over in this time."""

STATUS_BY_CAUSE = {404: 1, 486: 17, 408: 18, 480: 19, 403: 21, 410: 22, 502: 27, 484: 28, 501: 29, 503: 34, 488: 58}
"""The cause that makes Asterisk send a SIP status, measured; every other status needs PJSIPHangup."""

NEVER_ANSWERED = {"BUSY": "busy", "NOANSWER": "no_answer", "CANCEL": "cancelled"}
UNHEARD_CAUSES = frozenset({0, 16, 18, 19, 127})
"""What a call that rang in vain may end with: other causes tell that it failed."""

NORMAL_CLEARING = 16
GONE = ("No such channel", "does not exist", "not up", "Channel not found")
UNSET = ("", "(null)")
UNIQUEID = re.compile(r"[A-Za-z0-9_.-]{1,80}\Z")
CALL_KEY = re.compile(r"([A-Za-z0-9_.-]{1,80})(~[1-9][0-9]{0,5})?\Z")
TIME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}\Z")
HARMLESS = re.compile(r"[0-9A-Za-z+_]{0,80}\Z")


class HostileText(ValueError):
    """Text that the shipped dialplan cannot have written."""


class OfferState(StrEnum):
    """Where an offer stands."""

    OFFERED = "offered"
    ADMITTED = "admitted"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Offer:
    """The current offer of a channel."""

    number: int
    state: OfferState
    direction: Direction
    caller: str
    callee: str


@dataclass(frozen=True, slots=True)
class Leg:
    """What a billed channel says of its call."""

    key: str
    direction: Direction
    caller: str
    callee: str


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel as the switch itself describes it."""

    uniqueid: str
    offer: Offer | None
    leg: Leg | None
    answered_at: datetime | None
    dialled_out: bool
    """What it dials has answered: its offer no longer rings."""
    account_code: str
    limit_s: float | None

    @property
    def offer_key(self) -> str:
        """The key of the call that its current offer is for, or ""."""
        return key_of(self.uniqueid, self.offer.number) if self.offer else ""


@dataclass(frozen=True, slots=True)
class Note:
    """The switch's own note of an answered call; `ended_at` None: the leg was never seen to end."""

    leg: str
    answered_at: datetime
    ended_at: datetime | None = None
    cause: int = 0
    by: str = ""

    def record(self, call_id: str) -> SwitchRecord:
        """Return the note for the controller. A note without an end is one that Asterisk did not live to complete."""
        channel, _ = split_key(call_id.partition(":")[2])
        direction = Direction.INBOUND if self.leg == channel else Direction.OUTBOUND
        by = hung_up_by(self, direction) if self.ended_at else ""
        return SwitchRecord(call_id, self.answered_at, self.ended_at, self.cause, by)


def key_of(uniqueid: str, number: int) -> str:
    """Name the call of a channel's `number`-th offer."""
    return uniqueid if number == 1 else f"{uniqueid}~{number}"


def split_key(key: str) -> tuple[str, int]:
    """Return the offering channel and the number of its offer. Raises `HostileText`."""
    match = CALL_KEY.match(key)
    if match is None:
        raise HostileText("not a call")
    return match[1], int(match[2][1:]) if match[2] else 1


def parse_time(text: str) -> datetime:
    """Read 20261123T071102.123456, UTC. Raises `HostileText`."""
    try:
        if TIME.match(text):  # as Asterisk writes it: strptime takes four times as long
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        return datetime.strptime(text, "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError as bad:
        raise HostileText("not a time") from bad


def parse_epoch(text: str) -> datetime | None:
    """Read an event's Timestamp, or return None where it has none that makes sense."""
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def parse_channel(lines: Lines) -> ChannelState:
    """Read the last lines of a Status item. Raises `HostileText`."""
    values = [value.partition("=")[2] for _, value in lines[-len(ASKED) - 1 : -1]]
    offer, leg, answered, dialled, account, limit, uniqueid = ("" if value in UNSET else value for value in values)
    if not UNIQUEID.match(uniqueid):
        raise HostileText("not a channel")
    try:
        limit_s = float(limit or "0")
        account_code = identity(account)
    except ValueError as bad:
        raise HostileText("a limit or an account code that is none") from bad
    return ChannelState(
        uniqueid=uniqueid,
        offer=_offer(offer) if offer else None,
        leg=_leg(leg) if leg else None,
        answered_at=parse_time(answered) if answered else None,
        dialled_out=bool(dialled),
        account_code=account_code,
        limit_s=limit_s if limit_s > 0 else None,
    )


def _offer(text: str) -> Offer:
    try:
        number, state, direction, caller, callee = text.split("|")
        offer = Offer(int(number), OfferState(state), Direction(direction), caller, callee)
    except ValueError as bad:
        raise HostileText("not an offer") from bad
    if offer.number < 1 or not HARMLESS.match(caller) or not HARMLESS.match(callee):
        raise HostileText("an offer that was not cleaned")
    return offer


def _leg(text: str) -> Leg:
    try:
        key, direction, caller, callee = text.split("|")
        leg = Leg(key, Direction(direction), caller, callee)
    except ValueError as bad:
        raise HostileText("not a leg") from bad
    split_key(key)
    if not HARMLESS.match(caller) or not HARMLESS.match(callee):
        raise HostileText("a leg that was not cleaned")
    return leg


def parse_note(text: str) -> Note:
    """Read AstDB's callctl/<key>. Raises `HostileText`."""
    try:
        match text.split("|"):
            case [leg, answered]:
                return Note(leg, parse_time(answered))
            case [leg, answered, ended, cause, by]:
                return Note(leg, parse_time(answered), parse_time(ended), int(cause or "0"), by)
            case _:
                raise HostileText("not a note")
    except ValueError as bad:
        raise HostileText("not a note") from bad


def hung_up_by(note: Note, direction: Direction) -> str:
    """Say in the port's words who ended an answered call: `self` is the far end of the billed leg."""
    far, near = ("callee", "caller") if direction is Direction.OUTBOUND else ("caller", "callee")
    return {"self": far, "other": near}.get(note.by, "switch")


def unanswered(dial_status: str, cause: int) -> tuple[str, int]:
    """Return (dial_status, cause) in the port's words for a call that nobody answered."""
    word = NEVER_ANSWERED.get(dial_status, "failed")
    if word == "no_answer" and cause not in UNHEARD_CAUSES:
        word = "failed"
    if word == "cancelled":
        cause = NORMAL_CLEARING
    return word, cause


class Living:
    """The calls that channels are: waiting offers, calls that ring, billed legs; each once."""

    def __init__(self, switch: str) -> None:
        self._switch = switch
        self._calls: dict[str, LiveCall] = {}
        self._ringing: dict[str, LiveCall] = {}

    def add(self, channel: ChannelState) -> None:
        """Look at one more channel."""
        offer, leg = channel.offer, channel.leg
        if leg is not None and (leg.key not in self._calls or channel.answered_at):
            self._calls[leg.key] = LiveCall(
                f"{self._switch}:{leg.key}",
                waiting=False,
                direction=leg.direction,
                account_code=channel.account_code,
                caller=leg.caller,
                callee=leg.callee,
                answered_at=channel.answered_at,
                limit_s=channel.limit_s,
            )
        if offer is not None and (
            offer.state is OfferState.OFFERED or (offer.state is OfferState.ADMITTED and not channel.dialled_out)
        ):
            self._ringing[channel.offer_key] = LiveCall(
                f"{self._switch}:{channel.offer_key}",
                waiting=offer.state is OfferState.OFFERED,
                direction=offer.direction,
                account_code=channel.account_code,
                caller=offer.caller,
                callee=offer.callee,
                answered_at=None,
                limit_s=None,
            )

    def by_key(self) -> dict[str, LiveCall]:
        """Return the calls seen so far, by their keys."""
        return {**self._calls, **{key: call for key, call in self._ringing.items() if key not in self._calls}}


def live_calls(switch: str, channels: Iterable[ChannelState]) -> list[LiveCall]:
    """Return the calls that these channels are."""
    living = Living(switch)
    for channel in channels:
        living.add(channel)
    return list(living.by_key().values())


def status_of(uniqueid: str) -> list[tuple[str, str]]:
    """Return the fields of a `Status` of one channel."""
    return [("Channel", uniqueid), ("Variables", ",".join(ASKED))]


def says_gone(reply: Reply) -> bool:
    """Whether an action found no channel; each has its own words for it, `PlayDTMF` the last ones."""
    message = reply.get("message")
    return not reply.ok and any(words in message for words in GONE)


def note_in(reply: Reply) -> Note | None:
    """Return the note of a DBGet; one that cannot be read counts as none."""
    values = [value for item in reply.items for name, value in item if name == "Val"]
    if len(values) != 1:
        return None
    with contextlib.suppress(HostileText):
        return parse_note(values[0])
    return None


def seconds(limit_s: float) -> str:
    """Return a limit as Asterisk is told it."""
    return f"{max(limit_s - EARLY_S, SHORTEST_S):.3f}"
