"""What a refused caller hears of a real switch: exactly the SIP status that the refusal asks for."""

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
from tests.switches.real.scenarios import Carrier, caller, number
from tests.switches.real.sipp import Sipp
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
