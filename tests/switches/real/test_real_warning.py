"""The warning before the money ends: what really arrives at the caller's telephone."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.switches.real.lab import free_port
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.ua import Ear, Telephone
from tests.switches.real.world import PER_SECOND, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("events", [False, True], ids=["sound-only", "takes-events"])
async def test_the_caller_is_warned(world: World, events: bool) -> None:
    """Shortly before the end he hears it; a telephone that asked for digits as events may be told so instead."""
    one = await world.customer("0.12")
    host = one.endpoint.host
    port = free_port(socket.SOCK_DGRAM, host)
    loop = asyncio.get_running_loop()
    media, ear = await loop.create_datagram_endpoint(Ear, local_addr=(host, port))
    telephone = await Telephone((host, 5060), world.lab.sip).open()
    try:
        leg = await telephone.call(number("49", Carrier.ANSWERS, target="7501"), rtp=port, events=events)
        answered = loop.time()
        talking = asyncio.create_task(ear.keep_silent_into((world.lab.media_host, leg.media_port)))
        await asyncio.wait_for(leg.ended.wait(), 20)
        ended = loop.time()
        talking.cancel()
    finally:
        telephone.close()
        media.close()
    assert ended - answered == pytest.approx(12, abs=1.5)
    heard = ear.sounds or (ear.events if events else [])
    assert heard, "nothing arrived"
    assert all(0 < ended - at < 3 for at in heard)
    assert (await world.cdr(one)).cost_micros == 12 * PER_SECOND
