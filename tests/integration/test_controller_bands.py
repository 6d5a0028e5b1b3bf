"""Calls over a change of bands, with the real credit store, SQL and a switch that enforces limits: no overspending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from billing import tariffs
from billing.cdrs import find_cdr, reprice
from billing.credit.embedded import EmbeddedServer
from billing.store import reading, work
from rating.tariff import Band, Rate, Rounding, Step, When
from tests.fakes import FakeCall
from tests.integration.test_controller import CLOCK, House, build, decided, server

__all__ = ["server"]

DAY_S = 86_400


def steps(price: str) -> tuple[Step, ...]:
    return (Step(0, Decimal(price), 1, 1),)


def second_of_day(at: datetime) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        yield built


def dearer_from(house: House, change: datetime) -> None:
    """Let the tariff cost 0.01 a second until `change`, and 0.10 from then on."""
    cut = second_of_day(change)
    bands = (
        Band(When(from_s=(cut + DAY_S // 2) % DAY_S, to_s=cut), steps("0.01")),
        Band(When(from_s=cut, to_s=(cut + DAY_S // 2) % DAY_S), steps("0.1")),
    )
    rate = Rate("49", "Germany", Decimal(0), (), Rounding(), bands=bands)
    with work(house.engine) as session:
        tariffs.import_rates(session, "retail", [rate], actor="test", now=CLOCK.now())


async def over(call: FakeCall) -> None:
    await asyncio.wait_for(call.over.wait(), 8)


async def test_a_call_answered_in_a_dearer_band_never_costs_more_than_there_is(house: House) -> None:
    """Offered at 0.01 a second, answered at 0.10: 0.25 buys two seconds of that, and not a third of the first price."""
    change = (CLOCK.now() + timedelta(seconds=2)).replace(microsecond=0)
    dearer_from(house, change)
    customer = house.account("100", "0.25")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    assert call.admitted
    (hold,) = await house.credit.holds()
    assert hold.shares[0].amount_micros == 200_000
    await asyncio.sleep(max((change - CLOCK.now()).total_seconds() + 0.05, 0))
    house.switch.answer(call)
    await over(call)
    record = await house.record(call)
    assert (record.cost_micros, record.reason) == (200_000, "credit_exhausted")
    assert await house.balance(customer) == 50_000
    await house.audit()


async def test_a_controller_that_takes_over_prices_by_the_answer(house: House) -> None:
    """Killed in the middle of a call over the change: the next one goes on with the facts of the hold."""
    change = (CLOCK.now() + timedelta(seconds=3)).replace(microsecond=0)
    dearer_from(house, change)
    customer = house.account("100", "5")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    await asyncio.sleep(max((change - CLOCK.now()).total_seconds() - 1.0, 0))
    house.switch.answer(call)
    await asyncio.sleep(0.3)
    await house.kill()
    await house.begin()
    await asyncio.sleep(max((change - CLOCK.now()).total_seconds() + 1.0, 0))
    house.switch.end(call)
    record = await house.record(call)
    with reading(house.engine) as session:
        _, (charge,) = find_cdr(session, call.offer.call_id)
        assert reprice(charge) == record.cost_micros
        assert charge.facts["answered_at"] == record.answered_at.isoformat() if record.answered_at else False
    # One second at the first price, or two if the answer was a little early, and the rest at the second.
    assert 0 < record.cost_micros < 400_000
    assert record.cost_micros % 100_000 in (10_000, 20_000)
    assert await house.balance(customer) == 5_000_000 - record.cost_micros
    await house.audit()
