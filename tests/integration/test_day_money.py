"""What the overview says of a day beside its revenue: corrections and carriers' cost, on the day they were booked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from billing import day_money
from billing.adjustments import reverse_once
from billing.credit.store import CreditStore
from billing.models import LedgerTransaction
from billing.store import reading, work
from billing.totals import roll
from tests.integration.rerating import LATER, NEW, World, found_world
from tests.integration.test_rerating import redis
from tests.integration.tree import NOW

__all__ = ["redis"]


@pytest.fixture
async def world(engine: Engine, redis: Any) -> World:
    """Carl's calls cost 0.11 + 0.14, cleo's 0.14; at the new deck 0.062 + 0.18, and 0.18."""
    made = await found_world(engine, CreditStore(redis))
    made.import_rates([NEW])
    return made


def corrected(world: World, days: int = 0) -> Any:
    with reading(world.engine) as session:
        return day_money.corrected(session, (LATER + timedelta(days=days)).date())


async def test_a_correction_counts_on_the_day_it_was_booked(world: World) -> None:
    """0.048 less and 0.04 more of carl, 0.04 more of ray's: 0.032 more that day, nothing the day before or after."""
    assert corrected(world) == ()
    world.preview()
    await world.post()
    assert corrected(world) == (("EUR", 32_000),)
    assert corrected(world, -1) == corrected(world, 1) == ()
    await world.undo()
    assert corrected(world) == ()


async def test_a_call_that_was_taken_back_is_a_correction(world: World) -> None:
    """Carl's call of 0.11 is reversed by hand: the income of that day is 0.11 less."""
    (number,) = (row.id for row in world.rows(LedgerTransaction) if row.operation == "call:sw:1")
    with work(world.engine) as session:
        reverse_once(session, number, operation="gone", actor="eva", reason="no talk", now=LATER)
    assert corrected(world) == (("EUR", -110_000),)


@pytest.mark.parametrize("rolled", [False, True])
async def test_without_carriers_there_is_no_cost(world: World, rolled: bool) -> None:
    """What calls were charged is no cost of carriers, whether the totals are rolled or not."""
    if rolled:
        with work(world.engine) as session:
            roll(session)
    with reading(world.engine) as session:
        assert day_money.carrier_cost(session, NOW.date()) == ()
