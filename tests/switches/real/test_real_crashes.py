"""Controller, switch or the link between them fails with calls up: nobody talks for nothing, everybody pays once."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.switches.real.cable import cable_to
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.world import PER_SECOND, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_controller_killed_with_calls_up(own_world: World) -> None:
    """Calls that live are adopted and go on; those that ended are billed by the switch's own note."""
    world = own_world
    lives, ends, short = await world.customer("1"), await world.customer("1"), await world.customer("0.05")
    # The slice gives the next controller its time to start, on a slow machine too; the call that lives outlasts it.
    await world.start_controller(slice_s=14, renew_before_s=2.0)
    calls = [
        asyncio.create_task(world.call(lives, number("49", Carrier.ANSWERS, target="5101"), hold_ms=16300)),
        asyncio.create_task(world.call(ends, number("49", Carrier.ANSWERS, target="5102"), hold_ms=5200)),
        asyncio.create_task(world.call(short, number("49", Carrier.ANSWERS, target="5103"))),
    ]
    for one in (lives, ends, short):
        await world.talking(one)
    await world.stop_controller(signal.SIGKILL)
    over, cut = [run.only for run in await asyncio.gather(*calls[1:])]
    assert len(await world.credit.holds()) == 3
    await world.start_controller(slice_s=14, renew_before_s=2.0)
    long = (await calls[0]).only
    assert long.bye_sent
    assert -0.1 < cut.talk_s - 5 < world.lab.late_s
    first, second, third = await world.cdr(lives), await world.cdr(ends), await world.cdr(short)
    assert (first.cost_micros, second.cost_micros, third.cost_micros) == tuple(
        seconds * PER_SECOND for seconds in (17, 6, 5)
    )
    assert not any(cdr.estimated for cdr in (first, second, third))
    assert abs(second.talk_ms - over.talk_s * 1000) < 100
    assert [world.balance(one) for one in (lives, ends, short)] == [830_000, 940_000, 0]


async def test_deadline_holds_without_a_controller(own_world: World) -> None:
    """A dead controller gives no call away: the switch itself ends it when the time paid for is over."""
    world = own_world
    one = await world.customer("1")
    await world.start_controller(slice_s=6, renew_before_s=0.5)
    called = number("49", Carrier.ANSWERS, target="5201")
    running = asyncio.create_task(world.call(one, called))
    await world.talking(one)
    await world.stop_controller(signal.SIGKILL)
    run = await running
    assert 5.9 < run.only.talk_s < 6 + world.lab.late_s
    assert not world.carrier.dialogs(called)[0].bye_sent
    await world.start_controller()
    cdr = await world.cdr(one)
    assert (cdr.cost_micros, cdr.estimated, cdr.hung_up_by) == (6 * PER_SECOND, False, "switch")


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_switch_restarted_with_calls_up(own_world: World, how: str) -> None:
    """The calls of a switch that is gone are settled once, for no more than was paid for; new calls work."""
    world = own_world
    one, other = await world.customer("1"), await world.customer("1")
    await world.start_controller(slice_s=6, renew_before_s=2.0)
    gone = asyncio.create_task(world.call(one, number("49", Carrier.ANSWERS, target="5301"), hold_ms=2500, limit_s=4))
    await world.talking(one)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(getattr(world.lab, how))
    await asyncio.to_thread(world.lab.start)
    await world.observe()
    cdr = await world.cdr(one)
    assert cdr.disposition == "answered"
    assert 0 < cdr.cost_micros <= 6 * PER_SECOND
    assert world.balance(one) == 1_000_000 - cdr.cost_micros
    run = await world.call(other, number("49", Carrier.ANSWERS, target="5302"), hold_ms=500)
    assert run.only.final == 200
    assert (await world.cdr(other)).cost_micros == PER_SECOND
    await gone


async def test_link_cut_for_twenty_seconds_while_calls_end(own_world: World) -> None:
    """What ends while nobody listens is billed to its true end; what lives on goes on; a new call is refused."""
    world = own_world
    ends, lives, short, late = [await world.customer(money) for money in ("1", "1", "0.05", "1")]
    async with cable_to(world.lab.control_port) as cable:
        world.control_port = cable.port
        await world.start_controller(slice_s=30, renew_before_s=5.0)
        calls = [
            asyncio.create_task(world.call(ends, number("49", Carrier.ANSWERS, target="5401"), hold_ms=4300)),
            asyncio.create_task(world.call(lives, number("49", Carrier.ANSWERS, target="5402"), hold_ms=24300)),
            asyncio.create_task(world.call(short, number("49", Carrier.ANSWERS, target="5403"))),
        ]
        for one in (ends, lives, short):
            await world.talking(one)
        await cable.cut()
        cut_at = asyncio.get_running_loop().time()
        refused = await world.call(late, number("49", Carrier.ANSWERS, target="5404"), hold_ms=500)
        assert (refused.only.final, refused.only.cause) == (503, world.lab.causes[503])
        await asyncio.sleep(20 - (asyncio.get_running_loop().time() - cut_at))
        assert len(await world.credit.holds()) == 3
        await cable.mend()
        over, long, broke = [run.only for run in await asyncio.gather(*calls)]
        assert long.bye_sent
        assert -0.1 < broke.talk_s - 5 < world.lab.late_s
        first, second, third = await world.cdr(ends), await world.cdr(lives), await world.cdr(short)
        assert (first.cost_micros, second.cost_micros, third.cost_micros) == tuple(
            seconds * PER_SECOND for seconds in (5, 25, 5)
        )
        assert not any(cdr.estimated for cdr in (first, second, third))
        assert [cdr.hung_up_by for cdr in (first, second, third)] == ["caller", "caller", "switch"]
        assert abs(first.talk_ms - over.talk_s * 1000) < 100
        assert world.balance(late) == 1_000_000
        await world.settled()
        await world.stop_controller()


async def test_controller_that_stands_still(own_world: World) -> None:
    """One that neither answers nor dies lets nobody in: the switch itself refuses in time. Awake, it goes on."""
    world = own_world
    one, other = await world.customer("1"), await world.customer("1")
    await world.start_controller()
    process = world.controller
    assert process is not None
    called = number("49", Carrier.ANSWERS, target="5701")
    began = asyncio.get_running_loop().time()
    process.send_signal(signal.SIGSTOP)
    try:
        refused = await world.call(one, called, hold_ms=500, limit_s=40)
    finally:
        process.send_signal(signal.SIGCONT)
    assert (refused.only.final, refused.only.cause) == (503, world.lab.causes[503])
    assert asyncio.get_running_loop().time() - began < 15
    assert not world.carrier.dialogs(called)
    await asyncio.sleep(2)
    run = await world.call(other, number("49", Carrier.ANSWERS, target="5702"), hold_ms=500)
    assert run.only.final == 200
    assert (await world.cdr(other)).cost_micros == PER_SECOND
    assert world.balance(one) == 1_000_000
