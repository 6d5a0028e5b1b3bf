"""Calls that a route sends through a channel of the switch to itself: still one call, charged to its end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.switches.real.lab import DETOUR, SHORT_CUT, free_port
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.ua import Ear, Leg, Telephone
from tests.switches.real.world import PER_SECOND, Customer, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def talking(world: World, one: Customer, called: str) -> AsyncIterator[tuple[Telephone, Leg]]:
    """Have a telephone call a number and send media: what steps out of a call waits for that."""
    host = one.endpoint.host
    rtp = free_port(socket.SOCK_DGRAM, host)
    transport, ear = await asyncio.get_running_loop().create_datagram_endpoint(Ear, local_addr=(host, rtp))
    telephone = await Telephone((host, 5060), world.lab.sip).open()
    media: asyncio.Task[None] | None = None
    try:
        leg = await telephone.call(called, rtp=rtp)
        media = asyncio.create_task(ear.keep_silent_into((world.lab.media_host, leg.media_port)))
        yield telephone, leg
    finally:
        if media is not None:
            media.cancel()
        telephone.close()
        transport.close()


async def test_a_detour_is_charged_to_its_end(world: World) -> None:
    """The leg that is billed stays in the call although two others could do without it: nobody talks for free."""
    one = await world.customer("0.06")
    called = DETOUR + number("49", Carrier.ANSWERS, target="7501")
    async with talking(world, one, called) as (_, leg):
        begun = asyncio.get_running_loop().time()
        async with asyncio.timeout(12):
            await leg.ended.wait()
        talked_s = asyncio.get_running_loop().time() - begun
    assert talked_s == pytest.approx(6, abs=1.0)
    cdr = await world.cdr(one)
    assert (cdr.callee, cdr.disposition, cdr.reason) == (called, "answered", "credit_exhausted")
    assert cdr.cost_micros == 6 * PER_SECOND
    assert world.balance(one) == 0
    [dialog] = world.carrier.dialogs(called.removeprefix(DETOUR))
    assert not dialog.bye_sent


async def test_a_detour_that_its_caller_ends(world: World) -> None:
    """One offer, one record, charged for what was talked; every channel of it is gone."""
    one = await world.customer("1")
    before = world.observer.offers()
    called = DETOUR + number("49", Carrier.ANSWERS, target="7502")
    async with talking(world, one, called) as (telephone, leg):
        await asyncio.sleep(3.3)
        await telephone.hang_up(leg)
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.cost_micros) == ("answered", 4 * PER_SECOND)
    assert 3200 <= cdr.talk_ms <= 3900
    assert world.observer.offers() == before + 1
    assert world.balance(one) == 1_000_000 - 4 * PER_SECOND


@pytest.mark.parametrize("real", ["asterisk"], indirect=True, scope="session")
@pytest.mark.asterisk
async def test_a_channel_that_would_step_out_is_not_dialled(world: World) -> None:
    """A Local channel without /n would leave limit and bill behind: the caller is refused, no telephone rings."""
    one = await world.customer("1")
    called = SHORT_CUT + number("49", Carrier.ANSWERS, target="7503")
    run = await world.call(one, called, hold_ms=500)
    assert run.only.final is not None
    assert run.only.final >= 400
    assert world.carrier.dialogs(called.removeprefix(SHORT_CUT)) == ()
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.cost_micros) == ("failed", 0)
    assert world.balance(one) == 1_000_000
