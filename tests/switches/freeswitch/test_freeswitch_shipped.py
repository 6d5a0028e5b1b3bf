"""The shipped FreeSWITCH files where no Asterisk has the like: their own routes, and calls that need no control."""

from __future__ import annotations

import pytest

from tests.switches.freeswitch.lab import SHIPPED_DID
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.world import World

pytestmark = [
    pytest.mark.parametrize("real", ["freeswitch"], indirect=True, scope="session"),
    pytest.mark.freeswitch,
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_an_emergency_call_needs_no_controller(own_world: World) -> None:
    """112 goes out with no controller at all, from an account without money, and nobody is charged."""
    one = await own_world.customer()
    run = await own_world.call(one, "112", hold_ms=300)
    assert run.only.final == 200
    assert len(own_world.carrier.dialogs("112")) == 1
    await own_world.cdrs(one, 0)


async def test_a_call_between_telephones_needs_no_controller(own_world: World) -> None:
    """A short number is dialled inside, whoever answers: it is never offered, and nobody is charged."""
    one = await own_world.customer()
    offers = own_world.observer.offers()
    run = await own_world.call(one, "1000", hold_ms=300)
    assert run.only.final is not None
    assert run.only.final >= 400  # no telephone of that number is registered here
    assert own_world.observer.offers() == offers
    await own_world.cdrs(one, 0)


async def test_without_a_controller_the_caller_is_refused(own_world: World) -> None:
    """An offer that nobody takes ends after ten seconds with 503; no telephone rings and nothing is recorded."""
    one = await own_world.customer("1")
    called = number("49", Carrier.ANSWERS, target="7101")
    run = await own_world.call(one, called, hold_ms=300)
    assert run.only.final == 503
    assert (run.only.messages[-1].at - run.only.messages[0].at).total_seconds() == pytest.approx(10, abs=1.5)
    assert own_world.carrier.dialogs(called) == ()
    assert own_world.balance(one) == 1_000_000
    await own_world.cdrs(one, 0)


async def test_a_number_nobody_has_of_the_shipped_routes(world: World) -> None:
    """The shipped example's own number is no account's until an operator adds one: its callers are refused."""
    run = await world.call_from_carrier(SHIPPED_DID, hold_ms=300)
    assert run.only.final == 403
    assert (await world.cdr(None)).reason == "unknown_account"
