"""A channel as Asterisk shows it: names and ids, caller, place in the dialplan, variables, absolute time-out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Protocol

from billing.ports import Clock
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.plans import CallFacts

STATES = {0: "Down", 4: "Ring", 5: "Ringing", 6: "Up"}
CAUSES = {
    0: "Unknown",
    1: "Unallocated (unassigned) number",
    3: "No route to destination",
    16: "Normal Clearing",
    17: "User busy",
    18: "No user responding",
    19: "User alerting, no answer",
    20: "Subscriber absent",
    21: "Call Rejected",
    27: "Destination out of order",
    31: "Normal, unspecified",
    34: "Circuit/channel congestion",
    38: "Network out of order",
    41: "Temporary failure",
    42: "Switching equipment congestion",
    50: "Facility not subscribed",
    52: "Outgoing call barred",
    58: "Bearer capability not available",
    102: "Recovery on timer expire",
    127: "Interworking, unspecified",
}
SIP_OF_CAUSE = {0: 402, 16: 603, 17: 486, 18: 408, 19: 480, 21: 403, 27: 502, 31: 480, 34: 503, 38: 500, 42: 503,
                58: 488, 127: 500}  # fmt: skip
# what Asterisk makes of a SIP status; every other one is 127, interworking
CAUSE_OF_SIP = {403: 21, 404: 1, 408: 18, 480: 19, 486: 17, 488: 58, 502: 27, 503: 34}


class Driver(Protocol):
    """Whoever leads a channel through the dialplan."""

    def timed_out(self, channel: Channel) -> None:
        """TIMEOUT(absolute) has passed."""

    def redirected(self, channel: Channel, context: str, exten: str) -> None:
        """The manager sends the channel elsewhere."""

    def told_to_hang_up(self, channel: Channel, cause: int, sip: int = 0) -> None:
        """The manager ends the channel; an unanswered caller hears `sip`, else what Asterisk makes of the cause."""

    def play(self) -> None:
        """Somebody on the channel hears a warning."""


class Payer(Protocol):
    """The offer that pays for a channel."""

    facts: CallFacts

    def gone(self, channel: Channel) -> None:
        """The channel is over."""


class Channel:
    """One leg on the switch."""

    def __init__(self, *, name: str, unique_id: str, linked_id: str, created_at: datetime) -> None:
        self.name = name
        self.unique_id = unique_id
        self.linked_id = linked_id
        self.created_at = created_at
        self.answered_at: datetime | None = None
        self.account_code = ""
        self.caller_num = self.caller_name = ""
        self.callee_num = self.callee_name = ""
        self.dnid = ""
        self.context, self.exten, self.priority = "", "", 1
        self.application = self.data = ""
        self.bridge = ""
        self.state = 0
        self.cause = 0
        self.variables: dict[str, str] = {}
        self.deadline: float | None = None  # by the loop's clock
        self.hangup_source = ""  # the name of the channel whose people hung up
        self.driver: Driver | None = None
        self.payer: Payer | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set_timeout(self, loop: asyncio.AbstractEventLoop, left_s: float) -> None:
        """Do as TIMEOUT(absolute)=left_s: from now, fractions count, 0 clears."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if left_s <= 0:
            self.deadline = None
            return
        self.deadline = loop.time() + left_s
        self._timer = loop.call_at(self.deadline, self._time_out)

    def left_s(self, loop: asyncio.AbstractEventLoop) -> float | None:
        """Return what is left of the time-out, None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - loop.time())

    def _time_out(self) -> None:
        self._timer = None
        if self.driver is not None:
            self.driver.timed_out(self)

    def forget(self) -> None:
        """The channel is gone: nothing of it happens any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.driver = self.payer = None

    def snapshot(self, prefix: str = "") -> str:
        """Return the header lines that every event about a channel carries."""
        p = prefix
        return (
            f"{p}Channel: {self.name}\r\n{p}ChannelState: {self.state}\r\n"
            f"{p}ChannelStateDesc: {STATES[self.state]}\r\n"
            f"{p}CallerIDNum: {self.caller_num or '<unknown>'}\r\n"
            f"{p}CallerIDName: {self.caller_name or '<unknown>'}\r\n"
            f"{p}ConnectedLineNum: {self.callee_num or '<unknown>'}\r\n"
            f"{p}ConnectedLineName: {self.callee_name or '<unknown>'}\r\n"
            f"{p}Language: en\r\n{p}AccountCode: {self.account_code}\r\n{p}Context: {self.context}\r\n"
            f"{p}Exten: {self.exten}\r\n{p}Priority: {self.priority}\r\n"
            f"{p}Uniqueid: {self.unique_id}\r\n{p}Linkedid: {self.linked_id}\r\n"
        )

    def read(self, expression: str, loop: asyncio.AbstractEventLoop, now: datetime) -> str | None:
        """Return the value of a variable or dialplan function, None where unset."""
        match expression:
            case "TIMEOUT(absolute)":
                left_s = self.left_s(loop)
                return "0" if left_s is None else f"{left_s:.3f}"
            case "CDR(billsec,f)":
                talked_s = 0.0 if self.answered_at is None else (now - self.answered_at).total_seconds()
                return f"{talked_s:.6f}"
            case _:
                reader = _READERS.get(expression)
                return self.variables.get(expression) if reader is None else reader(self)

    def write(self, expression: str, value: str, loop: asyncio.AbstractEventLoop) -> None:
        """Set a variable or dialplan function as Setvar does; values Asterisk cannot read count as 0."""
        match expression:
            case "CHANNEL(accountcode)":
                self.account_code = value
            case "TIMEOUT(absolute)":
                self.set_timeout(loop, seconds(value))
            case _:
                self.variables[expression.lstrip("_")] = value


class Board(Protocol):
    """What an attempt needs of its switch."""

    clock: Clock
    loop: asyncio.AbstractEventLoop
    astdb: dict[str, str]
    gosub_s: float

    def publish(self, event: str, privilege: str, body: str) -> None:
        """Tell the manager's clients."""

    def new_channel(self, peer: str, linked_id: str = "") -> Channel:
        """Make a channel of a peer."""

    def new_local(self, exten: str, linked_id: str) -> tuple[Channel, Channel]:
        """Make both halves of a Local channel."""

    def remove(self, channel: Channel) -> None:
        """Forget a channel that has hung up."""

    def forget(self, call: SimulatedCall) -> None:
        """Forget a call that is over."""


_READERS: dict[str, Callable[[Channel], str]] = {
    "CHANNEL": lambda channel: channel.name,
    "CHANNEL(name)": lambda channel: channel.name,
    "CHANNEL(accountcode)": lambda channel: channel.account_code,
    "CHANNEL(linkedid)": lambda channel: channel.linked_id,
    "CHANNEL(uniqueid)": lambda channel: channel.unique_id,
    "UNIQUEID": lambda channel: channel.unique_id,
    "CALLERID(num)": lambda channel: channel.caller_num,
    "CALLERID(name)": lambda channel: channel.caller_name,
    "EXTEN": lambda channel: channel.exten,
    "CONTEXT": lambda channel: channel.context,
    "CDR(start,u)": lambda channel: epoch(channel.created_at),
    "CDR(answer,u)": lambda channel: "0.000000" if channel.answered_at is None else epoch(channel.answered_at),
}


def epoch(moment: datetime) -> str:
    """Return seconds since the epoch with six decimals, cut, not rounded."""
    return f"{int(moment.timestamp())}.{moment.microsecond:06d}"


def seconds(text: str) -> float:
    """Return a number of seconds as a dialplan reads it: 0 for what is no number."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return 0.0
    return float(value) if value.is_finite() else 0.0


def split_variables(text: str) -> list[str]:
    """Cut "a,CDR(answer,u)" at the commas outside parentheses."""
    parts, depth, begin = [], 0, 0
    for at, sign in enumerate(text):
        if sign == "(":
            depth += 1
        elif sign == ")":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append(text[begin:at])
            begin = at + 1
    parts.append(text[begin:])
    return [part.strip() for part in parts if part.strip()]
