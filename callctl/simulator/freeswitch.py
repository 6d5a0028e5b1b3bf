"""A simulated FreeSWITCH: an event socket on a real port, channels, and people who call each other by plan.

    async with SimulatedFreeswitch(clock=clock, rng=Random(1)) as switch:
        call = switch.place(CallPlan(account_code="acme", caller="100", callee="4912345"))
        facts = await call.over()

Repeatable: time is the clock's and the loop's, everything random comes from `rng`. `docs/switches/freeswitch-wire.md`
says what the dialplan promises; `freeswitch_dialplan.py` keeps to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from random import Random
from types import TracebackType
from typing import Self

from billing.ports import Clock
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.esl import EslServer
from callctl.simulator.esl_events import Event, make_uuid
from callctl.simulator.faults import Faults, Outage
from callctl.simulator.freeswitch_api import COMMANDS, VERSION
from callctl.simulator.freeswitch_channels import CAUSES, EPOCH, Channel, micros, moment
from callctl.simulator.freeswitch_dialplan import NUMBER, Attempt, begin, captured
from callctl.simulator.plans import CallPlan

PASSWORD = "simulated"  # noqa: S105 - a switch that exists only in this process
NOTICE = 5
CONTEXTS = (
    "callctl-out", "callctl-in", "callctl-transfer", "callctl-offer", "callctl-wait", "callctl-dial",
    "callctl-answered", "callctl-route-out", "callctl-route-in",
)  # fmt: skip


class SimulatedFreeswitch:
    """One switch. Port 0 takes a free one; `port` says which."""

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Random,
        password: str = PASSWORD,
        host: str = "127.0.0.1",
        port: int = 0,
        contexts: tuple[str, ...] = CONTEXTS,
        latency_s: float = 0.0,
        gosub_s: float = 0.0,
    ) -> None:
        """`latency_s`: how often the socket looks for events (a real one: 0.02), unless a client's bytes wake it.

        `gosub_s`: how long the dialplan at the answer takes, after CHANNEL_ANSWER has been told.
        """
        self.clock = clock
        self.rng = rng
        self.host = host
        self.faults = Faults()
        self.channels: dict[str, Channel] = {}
        self.calls: dict[SimulatedCall, None] = {}
        self.db: dict[str, str] = {}
        self.globals: dict[str, str] = {"hostname": "simulated", "local_ip_v4": "192.0.2.1"}
        self.contexts = contexts
        self.gosub_s = gosub_s
        self.calls_placed = 0
        self.started = micros(clock)
        self.loop: asyncio.AbstractEventLoop
        self.esl = EslServer(self, password=password, faults=self.faults, latency_s=latency_s)
        self._port_wanted = port
        self._core = make_uuid(rng)
        self._sequence = 0
        self._tasks: dict[int, tuple[str, asyncio.TimerHandle]] = {}
        self._task_no = 0
        self._outage = Outage(self.esl)

    async def __aenter__(self) -> Self:
        """Listen."""
        self.loop = asyncio.get_running_loop()
        await self.esl.open(self.host, self._port_wanted)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; every call is lost."""
        self._outage.forget()
        self._lose_calls()
        self.esl.shut()

    @property
    def port(self) -> int:
        """Where the event socket listens."""
        return self.esl.port

    # --- people

    def place(self, plan: CallPlan) -> SimulatedCall:
        """Let somebody call. The door lets digits in, with a leading + perhaps: else 404."""
        self.calls_placed += 1
        call = SimulatedCall(self, plan)
        channel = self.new_channel(name=f"sofia/internal/{plan.caller}@192.0.2.10", direction="inbound")
        said = dict(plan.said)
        channel.caller_number = said.get("caller_id_number", plan.caller)
        channel.caller_name = said.get("caller_id_name", plan.caller)
        channel.destination, channel.context = plan.callee, "callctl-in" if plan.inbound else "callctl-out"
        told = {"sip_from_user": plan.caller, "sip_req_user": plan.callee, "sip_to_user": plan.callee, **said}
        channel.variables.update(told)
        if plan.account_code and not plan.inbound:
            channel.variables["accountcode"] = plan.account_code
        self.publish("CHANNEL_CREATE", channel)
        self.esl.log(NOTICE, f"New Channel {channel.name} [{channel.unique_id}]\n")
        if not captured(NUMBER, plan.callee):
            channel.hung_up, channel.cause = micros(self.clock), "UNALLOCATED_NUMBER"
            self.publish("CHANNEL_HANGUP_COMPLETE", channel)
            self.remove(channel)
            call.refuse_at_the_door(1, 404)
            return call
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

    def publish(self, event: str, channel: Channel) -> None:
        """Tell the clients."""
        self.esl.publish(event, lambda: self.event(event, channel.headers()))

    def new_channel(self, *, name: str, direction: str) -> Channel:
        """Make a channel."""
        uuid = make_uuid(self.rng)
        channel = Channel(unique_id=uuid, name=name, direction=direction, created=micros(self.clock))
        self.channels[uuid] = channel
        return channel

    def remove(self, channel: Channel) -> None:
        """Forget a channel that has hung up."""
        if self.channels.pop(channel.unique_id, None) is not None:
            self.loop.call_soon(self.esl.gone, channel.unique_id)

    def forget(self, call: SimulatedCall) -> None:
        """A call is over; whoever placed it still has it."""
        self.calls.pop(call, None)

    # --- what the event socket needs

    def api(self, name: str, argument: str) -> str | None:
        """Carry out a command and return what it prints; None: there is no such command."""
        command = COMMANDS.get(name.lower())
        return None if command is None else command(self, argument)

    def variable(self, name: str) -> str:
        """Return a global variable, or ""."""
        return self.globals.get(name, "")

    def exists(self, uuid: str) -> bool:
        """Whether this channel lives."""
        return uuid in self.channels

    def message(self, uuid: str, headers: Mapping[str, str]) -> None:
        """Do what `sendmsg` asks of a channel: hang up, or execute hangup or set."""
        channel = self.channels.get(uuid)
        if channel is None or channel.driver is None:
            return
        match headers.get("call-command", ""), headers.get("execute-app-name", ""):
            case ("hangup", _):
                self._kill(channel, headers.get("hangup-cause", ""))
            case ("execute", "hangup"):
                self._kill(channel, headers.get("execute-app-arg", ""))
            case ("execute", "set"):
                name, _, value = headers.get("execute-app-arg", "").partition("=")
                channel.variables[name] = value
            case _:
                pass

    def _kill(self, channel: Channel, cause: str) -> None:
        if channel.driver is not None:
            channel.driver.killed(channel, cause if cause in CAUSES else "NORMAL_CLEARING")

    def event(self, name: str, headers: Mapping[str, str], body: str = "") -> Event:
        """Return an event with the headers that all have, then these."""
        self._sequence += 1
        stamp = micros(self.clock)
        when = moment(stamp)
        common = {
            "Event-Name": name,
            "Core-UUID": self._core,
            "FreeSWITCH-Hostname": "simulated",
            "FreeSWITCH-Switchname": "simulated",
            "FreeSWITCH-IPv4": "192.0.2.1",
            "FreeSWITCH-IPv6": "::1",
            "Event-Date-Local": when.strftime("%Y-%m-%d %H:%M:%S"),
            "Event-Date-GMT": when.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "Event-Date-Timestamp": str(stamp),
            "Event-Calling-File": "simulated.c",
            "Event-Calling-Function": "simulated",
            "Event-Calling-Line-Number": "1",
            "Event-Sequence": str(self._sequence),
        }
        return Event(name, {**common, **headers}, body)

    def dump(self, channel: Channel) -> Event:
        """Return everything there is to say about a channel."""
        return self.event("CHANNEL_DATA", {**channel.headers(), "FreeSWITCH-Version": VERSION})

    def schedule(self, group: str, after_s: int, command: str) -> int:
        """Run a command when so many seconds of the clock have begun: up to one second early."""
        now = self.clock.now()
        begun = (now - EPOCH).total_seconds() - int((now - EPOCH).total_seconds())
        self._task_no += 1
        number = self._task_no
        timer = self.loop.call_later(max(after_s - begun, 0.0), self._run, number, command)
        self._tasks[number] = (group, timer)
        return number

    def _run(self, number: int, command: str) -> None:
        self._tasks.pop(number, None)
        name, _, argument = command.partition(" ")
        self.api(name, argument)

    def unschedule(self, group: str) -> int:
        """Delete the tasks of a group, or the one of a number; return how many there were."""
        found = [no for no, (of, _) in self._tasks.items() if group == (str(no) if group.isdecimal() else of)]
        for no in found:
            self._tasks.pop(no)[1].cancel()
        return len(found)

    def tasks(self, group: str = "") -> list[str]:
        """Return the groups of the tasks that are scheduled: of this one, or all."""
        return [of for of, _ in self._tasks.values() if group in {"", of}]

    # --- what goes wrong

    def cut_link(self, seconds: float, *, silent: bool = False) -> None:
        """Break the link for a while: reset and refused or, `silent`, stuck until then."""
        self._outage.begin(seconds, silent=silent)

    def restart(self, down_s: float = 0.05) -> None:
        """Kill the switch and start it again: no event tells of the calls, and every note is lost."""
        self._lose_calls()
        self.db.clear()
        self._core = make_uuid(self.rng)
        self._sequence = 0
        self.started = micros(self.clock)
        self.cut_link(down_s)

    def send_raw(self, data: bytes) -> None:
        """Write these very bytes to every client."""
        self.esl.send_raw(data)

    def _lose_calls(self) -> None:
        for _, timer in self._tasks.values():
            timer.cancel()
        self._tasks.clear()
        for channel in self.channels.values():
            channel.driver = channel.payer = None
        self.channels.clear()
        for call in tuple(self.calls):
            call.lose()
        self.calls.clear()
