"""The adapters alone before a real switch: what they ask for is what people get."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from billing.ports import SystemClock, SystemIds
from callctl.switches.base import CallEnded, CallOffered, LinkUp, Outcome, Refusal, Switch
from tests.switches.labs import Told
from tests.switches.real.lab import Lab, free_port
from tests.switches.real.scenarios import Carrier, answerer, caller, number
from tests.switches.real.sipp import Sipp
from tests.switches.real.ua import Telephone
from tests.switches.test_transcripts import adapter

KINDS = {"ast": "asterisk", "fs": "freeswitch"}


@pytest.fixture
async def linked(real: Lab) -> AsyncIterator[tuple[Switch, Told]]:
    """The adapter alone before the real switch."""
    switch = adapter(KINDS[real.name], real.control_port, real.login, clock=SystemClock(), ids=SystemIds())
    told = Told()
    await switch.start(told)
    await told.wait(LinkUp)
    yield switch, told
    await switch.stop()


@pytest.mark.parametrize(
    ("status", "cause"), [(402, 0), (403, 21), (404, 1), (408, 18), (480, 19), (486, 17), (488, 58), (503, 41)]
)
async def test_a_caller_hears_the_status_asked_for(
    real: Lab, linked: tuple[Switch, Told], tmp_path: Path, status: int, cause: int
) -> None:
    """Nothing rings, the offer is told as over, and it is this very status."""
    switch, told = linked
    host = real.endpoint(0).host
    calling = asyncio.create_task(
        Sipp(tmp_path).call(
            caller(number("49", Carrier.ANSWERS), hold_ms=300),
            local=(host, free_port(socket.SOCK_DGRAM, host)),
            remote=real.sip,
        )
    )
    offer = await told.wait(CallOffered)
    assert await switch.refuse(offer.call_id, Refusal("refused", status, cause)) is Outcome.DONE
    dialog = (await calling).only
    assert (dialog.final, dialog.first(180)) == (status, None)
    assert (await told.wait(CallEnded, offer.call_id)).answered_at is None


async def test_a_warning_reaches_who_is_left_after_a_transfer(real: Lab, linked: tuple[Switch, Told]) -> None:
    """The caller's channel is gone once it has joined its two calls: the leg that lives on is warned, and can be."""
    switch, told = linked
    sipp = Sipp(real.folder / "sipp-adapters")
    async with sipp.carrier(answerer(real.trunk), local=(real.carrier_host, 5060)):
        telephone = await Telephone((real.endpoint(0).host, 5060), real.sip).open()
        try:
            legs = []
            for order in (1, 2):
                calling = asyncio.create_task(telephone.call(number("49", Carrier.ANSWERS, target=f"770{order}")))
                offer = await told.wait(CallOffered, count=order)
                assert await switch.admit(offer.call_id, grant_s=60, ring_s=20) is Outcome.DONE
                legs.append(await calling)
            await asyncio.sleep(0.5)
            await telephone.attended_transfer(*legs)
            for offer in told.of(CallOffered):
                assert await switch.warn(offer.call_id) is Outcome.DONE
            for offer in told.of(CallOffered):
                assert await switch.hangup(offer.call_id) in {Outcome.DONE, Outcome.GONE}
                await told.wait(CallEnded, offer.call_id)
        finally:
            telephone.close()
