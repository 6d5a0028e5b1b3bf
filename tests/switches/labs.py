"""A simulated switch with its real adapter before it: what the contract suite runs against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import TypeVar

from pydantic import SecretStr

from billing.ports import SystemClock, SystemIds
from billing.settings import AsteriskSettings, FreeswitchSettings
from callctl.simulator.asterisk import CONTROLLER, SimulatedAsterisk
from callctl.simulator.calls import SimulatedCall, SimulatedSwitch
from callctl.simulator.freeswitch import PASSWORD, SimulatedFreeswitch
from callctl.simulator.plans import BlindTransfer, CallFacts, CallPlan, Side, Then
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, LinkUp, Switch, SwitchEvent
from callctl.switches.freeswitch import FreeSwitch

Event = TypeVar("Event", bound=SwitchEvent)
PATIENCE_S = 8.0
EXACT = timedelta(milliseconds=50)  # the adapter's times are the switch's own, not the reader's


@dataclass
class Told:
    """What the adapter has told so far, in order."""

    events: list[SwitchEvent] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, event: SwitchEvent) -> None:
        self.events.append(event)
        self._more.set()

    def of(self, kind: type[Event], call_id: str = "") -> list[Event]:
        """Return every event of a kind (of a call)."""
        return [
            event for event in self.events if isinstance(event, kind) and call_id in {"", getattr(event, "call_id", "")}
        ]

    async def wait(self, kind: type[Event], call_id: str = "", *, count: int = 1) -> Event:
        """Wait until `count` events of a kind (of a call) were told; return the last of them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(kind, call_id)) < count:
                self._more.clear()
                await self._more.wait()
        return self.of(kind, call_id)[count - 1]


@dataclass(frozen=True)
class Words:
    """How one kind of switch calls the messages that a fault can hit."""

    offered: str
    answered: str
    ended: str
    list_calls: str
    limit: str


@dataclass
class Lab:
    """One switch of one kind, adapter started and linked."""

    switch: Switch
    sim: SimulatedSwitch
    told: Told
    words: Words
    hurry: Callable[[float], None]
    """Have a list that stops in the middle given up after so many seconds."""
    knows: Callable[[str], object]
    """The adapter's memory of a call, by its key."""
    late_s: float = 0.1
    """How much later than asked for the switch itself, without its controller, may end a call."""

    def id_of(self, call: SimulatedCall, attempt: int = 0) -> str:
        """Return the call id the adapter must use."""
        return f"{self.switch.name}:{call.attempts[attempt].call_id}"

    async def offered(self, plan: CallPlan) -> tuple[SimulatedCall, str]:
        """Place a call and wait for its offer."""
        call = self.sim.place(plan)
        call_id = self.id_of(call)
        await self.told.wait(CallOffered, call_id)
        return call, call_id

    async def answered(
        self, plan: CallPlan, *, grant_s: float | None = 60.0, ring_s: int = 30
    ) -> tuple[SimulatedCall, str]:
        """Place a call, admit it and wait for its answer."""
        call, call_id = await self.offered(plan)
        await self.switch.admit(call_id, grant_s=grant_s, ring_s=ring_s)
        await self.told.wait(CallAnswered, call_id)
        return call, call_id

    async def transferred(self, call: SimulatedCall) -> str:
        """Wait for the offer of a transfer; return its call id."""
        async with asyncio.timeout(PATIENCE_S):
            while len(call.attempts) < 2:  # noqa: ASYNC110 - the simulated people have no event for it
                await asyncio.sleep(0.02)
        call_id = self.id_of(call, 1)
        await self.told.wait(CallOffered, call_id)
        return call_id

    async def ended(self, call_id: str) -> CallEnded:
        """Wait for a call's end."""
        return await self.told.wait(CallEnded, call_id)


ASTERISK_WORDS = Words(offered="AsyncAGIStart", answered="DialEnd", ended="Hangup", list_calls="Status", limit="Setvar")


@asynccontextmanager
async def asterisk_lab() -> AsyncIterator[Lab]:
    """Give a linked Asterisk."""
    async with SimulatedAsterisk(clock=SystemClock(), rng=Random(1)) as sim:
        settings = AsteriskSettings(
            name="pbx", host="127.0.0.1", port=sim.port, username=CONTROLLER.name, secret=SecretStr(CONTROLLER.secret)
        )
        switch = AsteriskSwitch(settings, clock=SystemClock(), ids=SystemIds())
        told = Told()
        await switch.start(told)
        try:
            await told.wait(LinkUp)
            yield Lab(switch, sim, told, ASTERISK_WORDS, partial(setattr, switch.link, "_timeout_s"), switch._calls.get)
        finally:
            await switch.stop()


FREESWITCH_WORDS = Words(
    offered="CHANNEL_PARK", answered="CHANNEL_ANSWER", ended="CHANNEL_HANGUP_COMPLETE", list_calls="show",
    limit="sched_api",
)  # fmt: skip


@asynccontextmanager
async def freeswitch_lab(*, latency_s: float = 0.02, asks_here: bool = True) -> AsyncIterator[Lab]:
    """Give a linked FreeSWITCH that looks for events as often as a real one; its calls ask for themselves, or park."""
    async with SimulatedFreeswitch(clock=SystemClock(), rng=Random(1), latency_s=latency_s) as sim:
        settings = FreeswitchSettings(name="fs", port=sim.port, password=SecretStr(PASSWORD), asks_here=asks_here)
        switch = FreeSwitch(settings, clock=SystemClock(), ids=SystemIds())
        told = Told()
        await switch.start(told)
        try:
            await told.wait(LinkUp)
            hurry = partial(setattr, switch.link, "_list_s")
            yield Lab(switch, sim, told, FREESWITCH_WORDS, hurry, switch._calls.get, late_s=2.0)
        finally:
            await switch.stop()


LABS: dict[str, Callable[[], AbstractAsyncContextManager[Lab]]] = {
    "asterisk": asterisk_lab,
    "freeswitch": freeswitch_lab,
    "freeswitch-parks": partial(freeswitch_lab, asks_here=False),
}


def plan(
    *,
    account_code: str = "acme",
    detour: bool = False,
    callee: str = "4912345",
    then: Then = Then.ANSWER,
    ring_s: float = 0.03,
    talk_s: float = 30.0,
    hung_up_by: Side = Side.CALLER,
    transfer: BlindTransfer | None = None,
    inbound: bool = False,
    patience_s: float | None = None,
) -> CallPlan:
    """Return a call of 100 that talks for long, but for what is said."""
    return CallPlan(
        account_code=account_code,
        caller="100",
        detour=detour,
        callee=callee,
        then=then,
        ring_s=ring_s,
        talk_s=talk_s,
        hung_up_by=hung_up_by,
        transfer=transfer,
        inbound=inbound,
        patience_s=patience_s,
    )


def near(told: datetime | None, true: datetime | None, within: timedelta = EXACT) -> bool:
    """Whether a time that was told is the true one."""
    return told is not None and true is not None and abs(told - true) <= within


def talked_s(facts: CallFacts) -> float:
    """Return how long the people of a leg talked."""
    assert facts.answered_at is not None
    assert facts.ended_at is not None
    return (facts.ended_at - facts.answered_at).total_seconds()
