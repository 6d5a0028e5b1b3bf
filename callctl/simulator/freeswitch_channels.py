"""A channel as FreeSWITCH shows it: headers, variables, causes, and times that are multiples of 20 ms."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from billing.ports import Clock
from callctl.simulator.plans import CallFacts

GRAIN_US = 20_000
"""FreeSWITCH's clock of its calls moves in steps of 20 ms."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CAUSES = {
    "NONE": 0, "UNALLOCATED_NUMBER": 1, "NO_ROUTE_TRANSIT_NET": 2, "NO_ROUTE_DESTINATION": 3, "NORMAL_CLEARING": 16,
    "USER_BUSY": 17, "NO_USER_RESPONSE": 18, "NO_ANSWER": 19, "SUBSCRIBER_ABSENT": 20, "CALL_REJECTED": 21,
    "DESTINATION_OUT_OF_ORDER": 27, "INVALID_NUMBER_FORMAT": 28, "NORMAL_UNSPECIFIED": 31,
    "NORMAL_CIRCUIT_CONGESTION": 34, "NETWORK_OUT_OF_ORDER": 38, "NORMAL_TEMPORARY_FAILURE": 41,
    "SWITCH_CONGESTION": 42, "OUTGOING_CALL_BARRED": 52, "INCOMPATIBLE_DESTINATION": 88,
    "RECOVERY_ON_TIMER_EXPIRE": 102, "INTERWORKING": 127, "ORIGINATOR_CANCEL": 487, "SYSTEM_SHUTDOWN": 501,
    "MANAGER_REQUEST": 503, "BLIND_TRANSFER": 600, "ATTENDED_TRANSFER": 601, "ALLOTTED_TIMEOUT": 602,
    "MEDIA_TIMEOUT": 604, "PROGRESS_TIMEOUT": 607, "DECLINE": 616,
}  # fmt: skip
LIMIT, CANCELLED = "ALLOTTED_TIMEOUT", "ORIGINATOR_CANCEL"
# what a caller who was not answered hears
SIP_OF_CAUSE = {
    "UNALLOCATED_NUMBER": 404, "NO_ROUTE_TRANSIT_NET": 404, "NO_ROUTE_DESTINATION": 404, "USER_BUSY": 486,
    "NO_USER_RESPONSE": 408, "NO_ANSWER": 480, "SUBSCRIBER_ABSENT": 480, "CALL_REJECTED": 603,
    "DESTINATION_OUT_OF_ORDER": 502, "INVALID_NUMBER_FORMAT": 484, "NORMAL_CIRCUIT_CONGESTION": 503,
    "NETWORK_OUT_OF_ORDER": 503, "NORMAL_TEMPORARY_FAILURE": 503, "SWITCH_CONGESTION": 503,
    "OUTGOING_CALL_BARRED": 403, "INCOMPATIBLE_DESTINATION": 488, "RECOVERY_ON_TIMER_EXPIRE": 504,
    "MANAGER_REQUEST": 480, "ALLOTTED_TIMEOUT": 480, "ORIGINATOR_CANCEL": 487, "DECLINE": 603,
}  # fmt: skip
CAUSE_OF_SIP = {
    402: "CALL_REJECTED", 403: "CALL_REJECTED", 404: "UNALLOCATED_NUMBER", 408: "RECOVERY_ON_TIMER_EXPIRE",
    480: "NO_USER_RESPONSE", 486: "USER_BUSY", 488: "INCOMPATIBLE_DESTINATION", 503: "NORMAL_TEMPORARY_FAILURE",
    603: "CALL_REJECTED",
}  # fmt: skip
_INTERWORKING = 127
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_STATES = {"RINGING": ("CS_EXECUTE", "2"), "ACTIVE": ("CS_EXECUTE", "4"), "HANGUP": ("CS_REPORTING", "11")}


class Driver(Protocol):
    """Whoever leads a channel through the dialplan."""

    def transferred(self, channel: Channel, destination: str, context: str) -> None:
        """The manager, or a phone, sends the channel elsewhere."""

    def responded(self, channel: Channel, sip: int) -> None:
        """An unanswered caller is sent away with this status."""

    def killed(self, channel: Channel, cause: str) -> None:
        """The channel is ended: by the manager, or by a deadline."""

    def play(self) -> None:
        """Somebody on the channel hears a warning."""


class Payer(Protocol):
    """The offer that pays for a channel."""

    facts: CallFacts

    def gone(self, channel: Channel) -> None:
        """The channel is over."""


class Board(Protocol):
    """What an attempt needs of its switch."""

    clock: Clock
    loop: asyncio.AbstractEventLoop
    gosub_s: float
    channels: dict[str, Channel]

    def publish(self, event: str, channel: Channel) -> None:
        """Tell the clients."""

    def new_channel(self, *, name: str, direction: str) -> Channel:
        """Make a channel."""

    def remove(self, channel: Channel) -> None:
        """Forget a channel that has hung up."""

    def api(self, name: str, argument: str) -> str | None:
        """Carry out an api command."""

    def variable(self, name: str) -> str:
        """Return a global variable, or ""."""


def micros(clock: Clock) -> int:
    """Return the switch's time: microseconds since the epoch, by its 20 ms clock."""
    exact = (clock.now() - EPOCH) // timedelta(microseconds=1)
    return exact - exact % GRAIN_US


def moment(stamp: int) -> datetime:
    """Return a time of the switch as everybody else writes it."""
    return EPOCH + timedelta(microseconds=stamp)


def q850(cause: str) -> int:
    """Return the number of a cause that goes over the wire."""
    number = CAUSES.get(cause, 16)
    return number if number <= _INTERWORKING else 16


class Channel:
    """One leg on the switch."""

    def __init__(self, *, unique_id: str, name: str, direction: str, created: int) -> None:
        self.unique_id = unique_id
        self.name = name
        self.direction = direction
        self.created = created
        self.answered = self.hung_up = self.transferred = 0
        self.profile_index = 1
        self.caller_number = self.caller_name = self.destination = ""
        self.context = "callctl-out"
        self.application = self.data = ""
        self.call_uuid = unique_id
        self.other = ""  # the channel it is bridged to
        self.call_state = "RINGING"
        self.cause = ""
        self.variables: dict[str, str] = {"uuid": unique_id, "direction": direction, "channel_name": name}
        self.driver: Driver | None = None
        self.payer: Payer | None = None

    def enter(self, context: str, destination: str, stamp: int) -> None:
        """Begin in a context anew."""
        self.profile_index += 1
        self.context, self.destination, self.transferred = context, destination, stamp

    def headers(self) -> dict[str, str]:
        """Return what every event about the channel carries."""
        state, number = _STATES.get(self.call_state, ("CS_EXECUTE", "4"))
        ended = {"Hangup-Cause": self.cause} if self.cause else {}
        other = {"Other-Type": "originatee", "Other-Leg-Unique-ID": self.other} if self.other else {}
        return {
            "Channel-State": state,
            "Channel-Call-State": self.call_state,
            "Channel-State-Number": number,
            "Channel-Name": self.name,
            "Unique-ID": self.unique_id,
            "Call-Direction": self.direction,
            "Presence-Call-Direction": self.direction,
            "Channel-HIT-Dialplan": "true" if self.direction == "inbound" else "false",
            "Channel-Call-UUID": self.call_uuid,
            "Answer-State": "hangup" if self.hung_up else "answered" if self.answered else "ringing",
            **ended,
            "Caller-Direction": self.direction,
            "Caller-Dialplan": "XML",
            "Caller-Caller-ID-Name": self.caller_name,
            "Caller-Caller-ID-Number": self.caller_number,
            "Caller-Orig-Caller-ID-Name": self.caller_name,
            "Caller-Orig-Caller-ID-Number": self.caller_number,
            "Caller-Network-Addr": "192.0.2.10",
            "Caller-ANI": self.caller_number,
            "Caller-Destination-Number": self.destination,
            "Caller-Unique-ID": self.unique_id,
            "Caller-Source": "mod_sofia",
            "Caller-Context": self.context,
            "Caller-Channel-Name": self.name,
            "Caller-Profile-Index": str(self.profile_index),
            "Caller-Profile-Created-Time": str(self.transferred or self.created),
            "Caller-Channel-Created-Time": str(self.created),
            "Caller-Channel-Answered-Time": str(self.answered),
            "Caller-Channel-Progress-Time": "0",
            "Caller-Channel-Hangup-Time": str(self.hung_up),
            "Caller-Channel-Transferred-Time": str(self.transferred),
            **other,
            **{f"variable_{name}": value for name, value in self.variables.items()},
        }

    def read(self, name: str) -> str | None:
        """Return a variable, or what FreeSWITCH reads from the channel itself; None: there is none."""
        reader = _READERS.get(name)
        return self.variables.get(name) if reader is None else reader(self)

    def expand(self, text: str) -> str:
        """Put values into the place of each ${name}: variables, then headers of its events."""
        headers = self.headers()

        def value(match: re.Match[str]) -> str:
            found = self.read(match[1])
            return headers.get(match[1], "") if found is None else found

        return _VARIABLE.sub(value, text)

    def row(self) -> dict[str, str]:
        """Return its line of `show channels`."""
        created = self.created // 1_000_000
        return {
            "uuid": self.unique_id,
            "direction": self.direction,
            "created": moment(self.created).strftime("%Y-%m-%d %H:%M:%S"),
            "created_epoch": str(created),
            "name": self.name,
            "state": "CS_EXECUTE" if self.direction == "inbound" else "CS_EXCHANGE_MEDIA",
            "cid_name": self.caller_name,
            "cid_num": self.caller_number,
            "ip_addr": "192.0.2.10",
            "dest": self.destination,
            "application": self.application,
            "application_data": self.data,
            "dialplan": "XML",
            "context": self.context,
            "read_codec": "PCMA" if self.answered else "",
            "read_rate": "8000" if self.answered else "",
            "hostname": "simulated",
            "callstate": self.call_state,
            "call_uuid": self.call_uuid if self.other else "",
            "accountcode": self.variables.get("accountcode", ""),
        }


_READERS: dict[str, Callable[[Channel], str | None]] = {
    "destination_number": lambda channel: channel.destination,
    "caller_id_number": lambda channel: channel.caller_number,
    "caller_id_name": lambda channel: channel.caller_name,
    "context": lambda channel: channel.context,
    "profile_index": lambda channel: str(channel.profile_index),
    "answered_time": lambda channel: str(channel.answered),
    "hangup_cause": lambda channel: channel.cause or None,
}
