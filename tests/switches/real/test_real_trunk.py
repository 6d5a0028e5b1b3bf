"""A SIP trunk between a real Asterisk and a real FreeSWITCH, one controller before both: who pays, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from billing.models import Cdr
from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.freeswitch.lab import FreeswitchLab, find_freeswitch
from tests.switches.real.lab import OVER_THE_TRUNK, Endpoint, Lab, NoSwitch, Peer
from tests.switches.real.scenarios import Carrier, answerer, number
from tests.switches.real.sipp import CarrierRun
from tests.switches.real.world import PER_SECOND, Customer, World

pytestmark = [pytest.mark.freeswitch, pytest.mark.asyncio(loop_scope="function")]

PHONE, TRUNK = 110, 118
"""The numbers of the endpoint that calls, and of the account that pays for the trunk: none of the pool's."""


@dataclass(frozen=True, slots=True)
class Pair:
    """`near` has the telephone, `far` the carrier that its calls end at."""

    near: Lab
    far: Lab
    world: World
    carrier: CarrierRun

    async def customer(self, endpoint: Endpoint, money: str) -> Customer:
        """Return the account of an endpoint: on both switches, because both know its code."""
        one = await asyncio.to_thread(self.world._add, endpoint)
        await self.world.top_up(one, money)
        await asyncio.sleep(1.5)  # a controller looks for a newer catalogue every second
        return one

    def of(self, cdrs: list[Cdr], lab: Lab) -> Cdr:
        """Return the one record that a switch made."""
        [cdr] = [cdr for cdr in cdrs if cdr.call_id.startswith(f"{lab.name}:")]
        return cdr


@pytest_asyncio.fixture(params=["asterisk-to-freeswitch", "freeswitch-to-asterisk"])
async def direction(request: pytest.FixtureRequest) -> str:
    """Which switch has the telephone."""
    return str(request.param)


@pytest_asyncio.fixture
async def pair(direction: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pair]:
    """Both switches with a trunk; its far end charges the account that the test names with `trunk`."""
    code = getattr(request, "param", f"cust-{TRUNK:03d}")
    folders = [tmp_path / "asterisk", tmp_path / "freeswitch"]
    for folder in folders:
        folder.mkdir()
    try:
        asterisk, freeswitch = AsteriskLab(folders[0]), FreeswitchLab(folders[1], root=find_freeswitch())
        asterisk.peer, freeswitch.peer = Peer(freeswitch.sip, code), Peer(asterisk.sip, code)
        async with AsyncExitStack() as stack:
            for lab in (asterisk, freeswitch):
                await asyncio.to_thread(lab.start)
                stack.callback(lab.stop)
            near, far = (asterisk, freeswitch) if direction.startswith("asterisk") else (freeswitch, asterisk)
            world = World(near, tmp_path / "world", also=(far,))
            stack.push_async_callback(world.close)
            await world.open()
            listening = world.sipp.carrier(answerer(far.trunk), local=(far.carrier_host, 5060))
            carrier = await stack.enter_async_context(listening)
            await world.start_controller()
            yield Pair(near, far, world, carrier)
            await world.check_books()
    except NoSwitch as nothing:
        pytest.skip(str(nothing))


async def test_each_switch_charges_who_calls_it(pair: Pair) -> None:
    """Controlled on both: the caller pays where he calls, the trunk's account where it goes on; one record each."""
    caller = await pair.customer(pair.near.endpoint(PHONE), "1")
    trunk = await pair.customer(pair.far.endpoint(TRUNK), "1")
    called = number("49", Carrier.ANSWERS, target="7301")
    run = await pair.world.call(caller, OVER_THE_TRUNK + called, hold_ms=2300)
    assert run.only.final == 200
    [leg] = pair.carrier.dialogs(called)
    assert not leg.bye_sent
    paid, passed_on = pair.of(await pair.world.cdrs(caller), pair.near), pair.of(await pair.world.cdrs(trunk), pair.far)
    assert (paid.callee, passed_on.callee) == (OVER_THE_TRUNK + called, called)
    assert (paid.cost_micros, passed_on.cost_micros) == (3 * PER_SECOND, 3 * PER_SECOND)
    assert abs(paid.talk_ms - passed_on.talk_ms) < 100
    assert [pair.world.balance(one) for one in (caller, trunk)] == [970_000, 970_000]


@pytest.mark.parametrize("pair", [f"cust-{PHONE:03d}"], indirect=True)
async def test_one_wallet_pays_for_both_legs(pair: Pair) -> None:
    """The trunk charges the caller's own account: two records, one wallet, never overspent."""
    caller = await pair.customer(pair.near.endpoint(PHONE), "0.10")
    called = number("49", Carrier.ANSWERS, target="7302")
    run = await pair.world.call(caller, OVER_THE_TRUNK + called)
    assert not run.only.bye_sent
    assert 3.5 < run.only.talk_s < 6.5
    cdrs = await pair.world.cdrs(caller, 2)
    pair.of(cdrs, pair.near)
    pair.of(cdrs, pair.far)
    spent = sum(cdr.cost_micros for cdr in cdrs)
    assert 80_000 <= spent <= 100_000
    assert pair.world.balance(caller) == 100_000 - spent


@pytest.mark.parametrize("pair", [""], indirect=True)
async def test_a_trusted_trunk_is_charged_once(pair: Pair) -> None:
    """A trunk in a context without control passes what the other switch has admitted: one record, charged once."""
    caller = await pair.customer(pair.near.endpoint(PHONE), "0.04")
    called = number("49", Carrier.ANSWERS, target="7303")
    run = await pair.world.call(caller, OVER_THE_TRUNK + called)
    assert not run.only.bye_sent
    cdr = pair.of(await pair.world.cdrs(caller), pair.near)
    assert cdr.cost_micros == 4 * PER_SECOND
    assert abs(run.only.talk_s - 4) < 0.5
    assert pair.world.balance(caller) == 0


async def test_a_trunk_without_money_is_refused_before_it_rings(pair: Pair) -> None:
    """The far switch asks for its own money: the caller hears a failure, and neither account is charged."""
    caller = await pair.customer(pair.near.endpoint(PHONE), "1")
    trunk = await pair.customer(pair.far.endpoint(TRUNK), "0.001")
    called = number("49", Carrier.ANSWERS, target="7304")
    run = await pair.world.call(caller, OVER_THE_TRUNK + called, hold_ms=1000)
    assert run.only.final is not None
    assert run.only.final >= 400
    assert pair.carrier.dialogs(called) == ()
    near, far = pair.of(await pair.world.cdrs(caller), pair.near), pair.of(await pair.world.cdrs(trunk), pair.far)
    assert (near.cost_micros, far.cost_micros, far.reason) == (0, 0, "no_money")
    assert [pair.world.balance(one) for one in (caller, trunk)] == [1_000_000, 1_000]
