"""Bytes nobody sends, on the links of a controller with money in its hands: no balance, no hold and no call is touched.

`CALLCTL_FUZZ_ROUNDS` makes it longer: each round is one burst of bytes among a switch's true words.
"""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from contextlib import AsyncExitStack
from random import Random

import pytest
from pydantic import SecretStr

from billing.cdrs import list_cdrs
from billing.ports import SystemIds
from billing.settings import AsteriskSettings, ControlSettings, FreeswitchSettings
from billing.store import reading
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.simulator.asterisk import CONTROLLER, SimulatedAsterisk
from callctl.simulator.calls import SimulatedCall
from callctl.simulator.freeswitch import PASSWORD, SimulatedFreeswitch
from callctl.simulator.plans import CallPlan
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.base import Switch
from callctl.switches.freeswitch import FreeSwitch
from tests.integration.test_controller import CLOCK, House, house, server

__all__ = ["house", "server"]

ROUNDS = int(os.environ.get("CALLCTL_FUZZ_ROUNDS", "150"))
MOST_GROWN = 32_000_000
"""Bytes: the longest frames of both links are shorter than that, and nothing else may be kept."""
WORDS = [
    b"Event: Hangup", b"Event: DialEnd", b"Event: AsyncAGIStart", b"DialStatus: ANSWER", b"Response: Success",
    b"AccountCode: victim", b"accountcode: other", b"Exten: 4930123", b"Cause: 16", b"EventList: Complete",
    b"Content-Type: text/event-json", b"Content-Type: text/disconnect-notice", b"Content-Length: 120",
    b"Content-Length: 99999999", b"Content-Length: -1", b"Content-Type: api/response", b"Reply-Text: +OK",
    b'{"Event-Name":"CHANNEL_HANGUP_COMPLETE","Unique-ID":"{leg}","variable_callctl_key":"{call}"}',
    b'{"Event-Name":"CHANNEL_PARK","variable_callctl_offer":"outbound|other|1|4930123","Unique-ID":"{call}"}',
    b"Uniqueid: {call}", b"Uniqueid: {leg}", b"DestUniqueid: {leg}", b"Unique-ID: {call}", b"ActionID: {call}",
    b"Variable: CALLCTL_OFFER=1|offered|outbound|1|4930123", b"Variable: CALLCTL_LEG={call}|outbound|1|4930123",
    b"\r\n", b"\r\n\r\n", b"\n", b"\n\n", b"\x00", b"\xff\xfe", "\u2028".encode(), b"%0d%0a", b"${SHELL(id)}",
    b"a" * 5000,
]  # fmt: skip


def _burst(rng: Random, names: dict[str, str]) -> bytes:
    parts: list[bytes] = []
    for _ in range(rng.randint(1, 40)):
        parts.append(rng.choice(WORDS) if rng.random() < 0.9 else rng.randbytes(rng.randint(1, 60)))
        parts.append(rng.choice([b"\r\n", b"\r\n", b"\n", b"\n\n", b"\r\n\r\n", b""]))
    raw = b"".join(parts)
    for name, text in names.items():
        raw = raw.replace(b"{%s}" % name.encode(), text.encode())
    return raw


def _ids(call: SimulatedCall) -> dict[str, str]:
    leg = call.attempts[0].leg
    assert leg is not None
    return {"call": call.call_id, "leg": getattr(leg, "unique_id", "")}


@pytest.mark.parametrize("kind", ["asterisk", "freeswitch"])
async def test_hostile_bytes_move_no_money(house: House, kind: str) -> None:
    """A call talks while its link is flooded: nobody's balance or hold changes, memory stays, and it is billed once."""
    victim, other = house.account("victim", "5"), house.account("other", "5")
    rng = Random(7)
    async with AsyncExitStack() as stack:
        sim: SimulatedAsterisk | SimulatedFreeswitch
        switch: Switch
        if kind == "asterisk":
            sim = await stack.enter_async_context(SimulatedAsterisk(clock=CLOCK, rng=rng))
            ast = AsteriskSettings(
                name="sw", port=sim.port, username=CONTROLLER.name, secret=SecretStr(CONTROLLER.secret)
            )
            switch = AsteriskSwitch(ast, clock=CLOCK, ids=SystemIds())
        else:
            sim = await stack.enter_async_context(SimulatedFreeswitch(clock=CLOCK, rng=rng))
            fs = FreeswitchSettings(name="sw", port=sim.port, password=SecretStr(PASSWORD))
            switch = FreeSwitch(fs, clock=CLOCK, ids=SystemIds())
        settings = ControlSettings(slice_s=300, resync_s=1.0)
        controller = Controller(
            [switch], house.engine, house.credit, house.live, Journal(house.journal_path), settings, clock=CLOCK,
            ids=SystemIds(),
        )  # fmt: skip
        await controller.start()
        stack.push_async_callback(controller.stop)
        await _until(lambda: controller.ready and "sw" in controller.watch.compared)
        call = sim.place(CallPlan("victim", "1001", "4930123", ring_s=0.05, talk_s=36_000))
        await _until(lambda: any(one.answered_at for one in controller.calls.values()))
        before = [(hold.call_id, hold.shares) for hold in await house.credit.holds()]
        assert len(before) == 1
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for number in range(ROUNDS):
            sim.send_raw(_burst(rng, _ids(call)))
            await asyncio.sleep(0.005 if number % 20 else 0.05)
        assert tracemalloc.get_traced_memory()[1] < MOST_GROWN
        await _until(lambda: controller.watch.linked("sw"))
        await asyncio.sleep(1.5)  # and compared once more
        assert not call.ended
        assert [(hold.call_id, hold.shares) for hold in await house.credit.holds()] == before
        assert [await house.balance(one) for one in (victim, other)] == [5_000_000, 5_000_000]
        with reading(house.engine) as session:
            assert [cdr for cdr in list_cdrs(session) if cdr.cost_micros] == []
        call.hang_up()
        await _until(lambda: not controller.calls and not controller.settler.backlog)
        facts = call.attempts[0].facts
        assert facts.answered_at is not None
        assert facts.ended_at is not None
        with reading(house.engine) as session:
            (cdr,) = [cdr for cdr in list_cdrs(session) if cdr.cost_micros]
        assert abs(cdr.talk_ms - (facts.ended_at - facts.answered_at).total_seconds() * 1000) < 250
        assert [await house.balance(one) for one in (victim, other)] == [5_000_000 - cdr.cost_micros, 5_000_000]
        await house.audit()


async def _until(true: object, *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # type: ignore[operator]  # noqa: ASYNC110 - nobody tells it
            await asyncio.sleep(0.02)
