"""A simulated Asterisk: a manager interface on a real socket, channels, and people who call each other by plan.

    async with SimulatedAsterisk(clock=clock, rng=Random(1)) as switch:
        call = switch.place(CallPlan(account_code="acme", caller="100", callee="4912345"))
        facts = await call.over()

Repeatable: time is the clock's and the loop's, everything random comes from `rng`. `docs/switches/asterisk-wire.md`
says what the dialplan promises; `dialplan.py` keeps to it.
"""

from __future__ import annotations

import asyncio
import re
from random import Random
from types import TracebackType
from typing import Self

from billing.ports import Clock
from callctl.simulator.actions import answers
from callctl.simulator.ami import AmiServer, AmiUser, Request
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.channels import Channel
from callctl.simulator.dialplan import DOOR, Attempt, begin, noted
from callctl.simulator.faults import Faults, Outage
from callctl.simulator.plans import CallPlan

EVENTS_NEEDED = ("AsyncAGIStart", "DialEnd", "Hangup")
CONTROLLER = AmiUser(  # as manager-callctl.conf has it
    name="callctl",
    read=frozenset({"agi", "call", "system"}),
    write=frozenset({"call", "system"}),
    secret="simulated",  # noqa: S106 - a switch that exists only in this process
    filters=tuple(f"action(include),name({event})" for event in EVENTS_NEEDED),
)
CONTEXTS = (
    "callctl-out", "callctl-in", "callctl-transfer", "callctl-offer", "callctl-dial", "callctl-ring-outbound",
    "callctl-ring-inbound", "callctl-over", "callctl-leg", "callctl-answered", "callctl-answered-in", "callctl-ended",
    "callctl-route-out", "callctl-route-in",
)  # fmt: skip
_EXISTS = re.compile(r"DIALPLAN_EXISTS\(([^,)]*)(?:,[^)]*)?\)")
_TIME = "STRFTIME(,UTC,%Y%m%dT%H%M%S.%6q)"
_NOT_NUMBER = re.compile(r"[^0-9A-Za-z+_]")


class SimulatedAsterisk:
    """One switch. Port 0 takes a free one; `port` says which."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Random,
        users: tuple[AmiUser, ...] = (CONTROLLER,),
        host: str = "127.0.0.1",
        port: int = 0,
        contexts: tuple[str, ...] = CONTEXTS,
        gosub_s: float = 0.0,
    ) -> None:
        """`gosub_s`: how long the dialplan's subroutine at the answer takes, after DialEnd has been told."""
        self.clock = clock
        self.rng = rng
        self.host = host
        self.faults = Faults()
        self.channels: dict[str, Channel] = {}
        self.calls: dict[SimulatedCall, None] = {}
        self.astdb: dict[str, str] = {}
        self.globals: dict[str, str] = {}
        self.contexts = contexts
        self.gosub_s = gosub_s
        self.calls_placed = 0
        self.originated: list[Request] = []
        self.loop: asyncio.AbstractEventLoop
        self.ami = AmiServer(clock=clock, rng=rng, users=users, answers=answers(self), faults=self.faults)
        self._port_wanted = port
        self._names: dict[str, Channel] = {}
        self._name_no = 0
        self._unique_no = 0
        self._outage = Outage(self.ami)

    async def __aenter__(self) -> Self:
        """Listen."""
        self.loop = asyncio.get_running_loop()
        await self.ami.open(self.host, self._port_wanted)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; every call is lost."""
        self._outage.forget()
        self._lose_calls()
        self.ami.shut()

    @property
    def port(self) -> int:
        """Where the manager listens."""
        return self.ami.port

    # --- people

    def place(self, plan: CallPlan) -> SimulatedCall:
        """Let somebody call. The door lets digits in, with a leading + perhaps: else 404, and no channel."""
        self.calls_placed += 1
        call = SimulatedCall(self, plan)
        if DOOR.fullmatch(plan.callee) is None:
            call.refuse_at_the_door(1, 404)
            return call
        channel = self.new_channel("trunk" if plan.inbound else "caller")
        channel.state = 4
        channel.caller_num = _NOT_NUMBER.sub("", plan.caller)
        channel.account_code = "" if plan.inbound else plan.account_code
        self.calls[call] = None
        begin(call, self, channel, plan)
        return call

    def join(self, first: SimulatedCall, second: SimulatedCall) -> None:
        """Let the telephone that talks in both calls join their far ends, and leave (an attended transfer)."""
        one, other = first.attempts[-1], second.attempts[-1]
        if not (isinstance(one, Attempt) and isinstance(other, Attempt)):
            raise TypeError("calls of another switch")
        one.join(other)

    # --- what the dialplan needs

    def publish(self, event: str, privilege: str, body: str) -> None:
        """Tell the manager's clients."""
        self.ami.publish(event, privilege, body)

    def new_channel(self, peer: str, linked_id: str = "") -> Channel:
        """Make a channel of a peer. Names begin again after a restart, unique ids do not."""
        name = f"PJSIP/{peer}-{self._name_no:08x}"
        self._name_no += 1
        return self._add(name, linked_id)

    def new_local(self, exten: str, linked_id: str) -> tuple[Channel, Channel]:
        """Make both halves of a Local channel."""
        name = f"Local/{exten}@lcr-{self._name_no:08x}"
        self._name_no += 1
        return self._add(f"{name};1", linked_id), self._add(f"{name};2", linked_id)

    def _add(self, name: str, linked_id: str) -> Channel:
        now = self.clock.now()
        unique_id = f"{int(now.timestamp())}.{self._unique_no}"
        self._unique_no += 1
        channel = Channel(name=name, unique_id=unique_id, linked_id=linked_id or unique_id, created_at=now)
        self.channels[unique_id] = channel
        self._names[name] = channel
        return channel

    def remove(self, channel: Channel) -> None:
        """Forget a channel that has hung up."""
        self.channels.pop(channel.unique_id, None)
        self._names.pop(channel.name, None)

    def forget(self, call: SimulatedCall) -> None:
        """A call is over; whoever placed it still has it."""
        self.calls.pop(call, None)

    # --- what the manager needs

    @property
    def started_at_text(self) -> tuple[str, str]:
        """Day and time of the start, as CoreStatus writes them."""
        started = self.ami.booted_at
        return f"{started:%Y-%m-%d}", f"{started:%H:%M:%S}"

    def find(self, name: str) -> Channel | None:
        """Return the channel of this unique id or name."""
        return self.channels.get(name) or self._names.get(name)

    def evaluate(self, expression: str) -> str:
        """Return a global variable, DIALPLAN_EXISTS of a context, or STRFTIME in the form of the notes."""
        if (exists := _EXISTS.fullmatch(expression)) is not None:
            return str(int(exists[1] in self.contexts))
        if expression == _TIME:
            return noted(self.clock.now())
        return self.globals.get(expression, "")

    def originate(self, request: Request) -> None:
        """Note a call of the switch's own: nobody is there to answer it."""
        self.originated.append(request)
        for channel in self.channels.values():
            if channel.unique_id in request.get("Data") and channel.driver is not None:
                channel.driver.play()

    def command(self, line: str) -> list[str] | None:
        """Know `core show version`, `core show channels count` and `dialplan show [context]`."""
        match line.split():
            case ["core", "show", "version"]:
                return ["Asterisk 22.10.1 (simulated)"]
            case ["core", "show", "channels", "count"]:
                count = len(self.channels)
                return [
                    f"{count} active channels",
                    f"{len(self.calls)} active calls",
                    f"{self.calls_placed} calls processed",
                ]
            case ["dialplan", "show", context] if context in self.contexts:
                return [f"[ Context '{context}' created by 'pbx_config' ]", "", "-= 1 extension in 1 context. =-"]
            case ["dialplan", "show", context]:
                return [f"There is no existence of '{context}' context", "Command 'dialplan show' failed."]
            case _:
                return None

    # --- what goes wrong

    def cut_link(self, seconds: float, *, silent: bool = False) -> None:
        """Break the manager's link for a while: reset and refused or, `silent`, stuck until then."""
        self._outage.begin(seconds, silent=silent)

    def restart(self, down_s: float = 0.05) -> None:
        """Kill the switch and start it again: no event tells of the calls; AstDB stays."""
        self._lose_calls()
        self._name_no = 0
        self.ami.booted_at = self.clock.now()
        self.cut_link(down_s)

    def send_raw(self, data: bytes) -> None:
        """Write these very bytes to every client."""
        self.ami.send_raw(data)

    def _lose_calls(self) -> None:
        for channel in self.channels.values():
            channel.set_timeout(self.loop, 0)
            channel.forget()
        self.channels.clear()
        self._names.clear()
        for call in tuple(self.calls):
            call.lose()
        self.calls.clear()
