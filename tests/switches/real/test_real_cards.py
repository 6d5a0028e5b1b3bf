"""Calling cards on a real switch: a PIN and a number typed on a telephone, through the dialplan as it is shipped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import select as rows
from sqlmodel import SQLModel

from billing.pins import digest_of, make_pin
from billing.ports import SystemIds
from billing.store import reading, work
from tests.switches.real.cable import cable_to
from tests.switches.real.lab import CARD, PIN_SECRET, free_port
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.ua import Ear, Leg, Telephone
from tests.switches.real.world import PER_SECOND, Customer, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODYS = "7160254839"


@dataclass
class Caller:
    """Somebody with a telephone whose keys make events."""

    telephone: Telephone
    ear: Ear
    rtp: int
    media_host: str
    talking: asyncio.Task[None] | None = None

    async def dials(self, called: str) -> Leg:
        """Call, and be answered."""
        leg = await self.telephone.call(called, rtp=self.rtp, events=True)
        self.talking = asyncio.create_task(self.ear.keep_silent_into((self.media_host, leg.media_port)))
        return leg

    async def types(self, pin: str, called: str) -> None:
        """Type a PIN and a number, each after the tone that asks for it."""
        for typed in (pin, called):
            await asyncio.sleep(1.6)
            self.ear.press(f"{typed}#")
            await asyncio.sleep(0.36 * len(typed) + 0.36)


@asynccontextmanager
async def caller(world: World, host: str, switch: tuple[str, int]) -> AsyncIterator[Caller]:
    """Give somebody a telephone at an address."""
    rtp = free_port(socket.SOCK_DGRAM, host)
    media, ear = await asyncio.get_running_loop().create_datagram_endpoint(Ear, local_addr=(host, rtp))
    telephone = await Telephone((host, free_port(socket.SOCK_DGRAM, host)), switch).open()
    one = Caller(telephone, ear, rtp, world.lab.media_host)
    try:
        yield one
    finally:
        if one.talking is not None:
            one.talking.cancel()
        telephone.close()
        media.close()


async def card(world: World, money: str) -> tuple[Customer, str]:
    """Return a customer with this money, and its PIN, which the controller knows."""
    one = await world.customer(money)

    def make() -> str:
        with work(world.engine) as session:
            now = world.clock.now()
            made = make_pin(
                session, one.account_id, secret=PIN_SECRET, ids=SystemIds(), digits=8, actor="test", now=now
            )
            return made.pin

    pin = await asyncio.to_thread(make)
    if world.controller is not None:
        await asyncio.sleep(1.5)  # a controller looks for a newer catalogue every second
    return one, pin


def everything(world: World) -> str:
    """Return all that stands in any table, as text."""
    with reading(world.engine) as session:
        return str([list(session.execute(rows(table))) for table in SQLModel.metadata.sorted_tables])


async def test_the_account_of_the_pin_pays_for_the_number_typed(own_world: World) -> None:
    """A call from the world is answered, asked for PIN and number, and charged; no PIN comes to callctl in any way."""
    world = own_world
    async with cable_to(world.lab.control_port) as cable:
        world.control_port = cable.port
        await world.start_controller()
        one, pin = await card(world, "1")
        called = number("49", Carrier.ANSWERS, target="7701")
        async with caller(world, world.lab.carrier_host, world.lab.trunk) as somebody:
            leg = await somebody.dials(CARD)
            await somebody.types(pin, called)
            await world.talking(one)
            await asyncio.sleep(1.2)
            await somebody.telephone.hang_up(leg)
        cdr = await world.cdr(one)
        carried = bytes(cable.carried).decode("latin-1")
    assert (cdr.disposition, cdr.callee, cdr.direction) == ("answered", called, "outbound")
    assert cdr.cost_micros in {2 * PER_SECOND, 3 * PER_SECOND}
    assert world.balance(one) == 1_000_000 - cdr.cost_micros
    assert somebody.ear.sounds
    assert digest_of(PIN_SECRET, pin) in carried
    for said in (carried, world.log(), world.lab.log(), everything(world)):
        assert pin not in said
        assert PIN_SECRET not in said


async def test_a_wrong_pin_calls_nobody_and_a_guesser_is_stopped(world: World) -> None:
    """A telephone of the house that tries 3 PINs that nobody has is not listened to, whatever number it shows."""
    one, pin = await card(world, "1")
    called = number("49", Carrier.ANSWERS, target="7702")
    host = world.lab.by_card.host
    for typed in (NOBODYS, NOBODYS, NOBODYS, pin):
        async with caller(world, host, world.lab.sip) as somebody:
            leg = await somebody.dials(CARD)
            await somebody.types(typed, called)
            await asyncio.wait_for(leg.ended.wait(), 10)
    refused = await world.cdrs(None, 4)
    assert {(cdr.disposition, cdr.reason, cdr.sip_status, cdr.callee) for cdr in refused} == {
        ("refused", "unknown_account", 403, called)
    }
    assert not world.carrier.dialogs(called)
    assert world.balance(one) == 1_000_000
    assert world.log().count("pin_source_stopped") == 1
    assert f"@{world.lab.by_card.account_code}" in world.log()


async def test_who_types_nothing_is_hung_up_on(world: World) -> None:
    """No offer, no record: nothing to charge and nothing to count."""
    before = world.observer.offers()
    async with caller(world, world.lab.carrier_host, world.lab.trunk) as somebody:
        leg = await somebody.dials(CARD)
        await asyncio.wait_for(leg.ended.wait(), 40)
    assert world.observer.offers() == before
