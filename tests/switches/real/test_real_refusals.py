"""Calls that are not admitted: the caller hears why, there is one record, no telephone rings, no money moves."""

from __future__ import annotations

import asyncio

import pytest

from tests.switches.real.lab import Endpoint
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.sipp import SippRun
from tests.switches.real.world import Customer, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def _refused(world: World, who: Customer | Endpoint, called: str, *, status: int) -> SippRun:
    """Call, and check what holds for every refusal; return the run."""
    one = who if isinstance(who, Customer) else None
    before = world.balance(one) if one else 0
    run = await world.call(who, called, hold_ms=500)
    assert run.only.final == status
    assert run.only.cause == world.lab.causes[status]
    assert run.only.first(180) is None
    assert world.carrier.dialogs(called) == ()
    if one:
        assert world.balance(one) == before
        view = await world.credit.wallet(one.wallet_id)
        assert view is not None
        assert (view.held_micros, view.balance_micros) == (0, before)
        assert await world.credit.calls_of(one.account_id) == 0
    return run


async def test_no_money(world: World) -> None:
    """An account with less than the first second costs is refused with 402."""
    one = await world.customer("0.009")
    await _refused(world, one, number("49", Carrier.ANSWERS, target="2101"), status=402)
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.reason, cdr.sip_status, cdr.cost_micros) == ("refused", "no_money", 402, 0)


async def test_unknown_account(world: World) -> None:
    """A telephone whose account code nobody has is refused; the record names no account."""
    stranger = world.lab.fresh_endpoint()
    await _refused(world, stranger, number("49", Carrier.ANSWERS, target="2102"), status=403)
    cdr = await world.cdr(None)
    assert (cdr.disposition, cdr.reason, cdr.sip_status, cdr.cause) == ("refused", "unknown_account", 403, 21)


async def test_barred_by_the_account(world: World) -> None:
    """A prefix barred for the account is refused although there is a rate and money."""
    one = await world.customer("1", barred=["4910"])
    await _refused(world, one, number("49", Carrier.ANSWERS, target="2103"), status=403)
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.reason, cdr.sip_status, cdr.cause) == ("refused", "barred_destination", 403, 21)


async def test_barred_by_the_tariff(world: World) -> None:
    """A destination the tariff never calls is refused."""
    one = await world.customer("1")
    await _refused(world, one, "88210000001", status=403)
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.reason, cdr.destination) == ("refused", "barred_destination", "Satellite")


async def test_no_rate(world: World) -> None:
    """A number no prefix of the tariff covers is refused as not found."""
    one = await world.customer("1")
    await _refused(world, one, number("99", Carrier.ANSWERS, target="2105"), status=404)
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.reason, cdr.sip_status, cdr.cause) == ("refused", "no_rate", 404, 1)


async def test_too_many_calls(world: World) -> None:
    """With one call allowed, a second is refused while the first lives, and admitted after it."""
    one = await world.customer("1", max_calls=1)
    first = asyncio.create_task(world.call(one, number("49", Carrier.ANSWERS, target="2106"), hold_ms=1500))
    await world.talking(one)
    second = await world.call(one, number("49", Carrier.ANSWERS, target="2107"), hold_ms=300)
    assert (second.only.final, second.only.cause) == (503, world.lab.causes[503])
    assert world.carrier.dialogs(number("49", Carrier.ANSWERS, target="2107")) == ()
    assert (await first).only.bye_sent
    await world.settled()
    third = await world.call(one, number("49", Carrier.ANSWERS, target="2108"), hold_ms=300)
    assert third.only.final == 200
    cdrs = await world.cdrs(one, 3)
    assert [cdr.reason for cdr in cdrs] == ["", "too_many_calls", ""]
    assert [cdr.disposition for cdr in cdrs] == ["answered", "refused", "answered"]


async def test_inbound_number_nobody_has(world: World) -> None:
    """A call from the carrier to a number that no account has is refused."""
    run = await world.call_from_carrier("31109999", hold_ms=300)
    assert (run.only.final, run.only.cause) == (403, world.lab.causes[403])
