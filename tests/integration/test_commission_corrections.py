"""Commissions and what is corrected after their month was booked: taken in by the next run, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from billing import commissions
from billing.adjustments import reverse_once
from billing.credit.store import CreditStore
from billing.models import CommissionMonth, CommissionOf, LedgerTransaction
from billing.store import again, reading, work
from tests.integration.rerating import NEW, World, found_world
from tests.integration.test_rerating import redis
from tests.integration.tree import NOW

__all__ = ["redis"]

APRIL, MAY = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def credit(redis: Any) -> CreditStore:
    """The live store on a real server."""
    return CreditStore(redis)


@pytest.fixture
async def world(engine: Engine, credit: CreditStore) -> World:
    """Carl's calls of March cost 0.11 + 0.14, cleo's 0.14; at the new deck 0.062 + 0.18, and 0.18."""
    made = await found_world(engine, credit)
    made.import_rates([NEW])
    return made


def earns(world: World, account_id: int, percent: str = "10", of: CommissionOf = CommissionOf.REVENUE) -> None:
    with work(world.engine) as session:
        ppm = commissions.read_percent(percent)
        commissions.set_commission(session, account_id, of, ppm, actor="admin", now=NOW)


def pay(world: World, account_id: int, month: str, now: datetime) -> tuple[int, int, int]:
    """Book a month; return its base, what it takes in of earlier ones, and what was booked."""
    done = again(
        world.engine,
        lambda session: commissions.pay_commission(session, account_id, month, actor="admin", now=now),
    )
    return done.base_micros, done.earlier_micros, done.amount_micros


async def test_a_correction_made_before_the_run_is_in_the_base(world: World) -> None:
    """Carl's March is 0.062 + 0.18 by the time it is booked: 10 % are 0.0242."""
    earns(world, world.tree.carl)
    world.preview()
    await world.post()
    assert pay(world, world.tree.carl, "2026-03", APRIL) == (242_000, 0, 24_200)
    assert pay(world, world.tree.carl, "2026-04", MAY) == (0, 0, 0)


async def test_a_correction_made_later_is_taken_in_by_the_next_run_once(world: World) -> None:
    """Cleo's call was 0.14 when March was booked and is 0.18 since: April brings 10 % of 0.04 more, May nothing."""
    earns(world, world.tree.cleo)
    assert pay(world, world.tree.cleo, "2026-03", APRIL) == (140_000, 0, 14_000)
    world.preview()
    world.clock.at = APRIL + timedelta(days=3)
    await world.post()
    with reading(world.engine) as session:
        would = commissions.earned(session, world.tree.cleo, "2026-04")
    assert (would.earned_micros, would.earlier_micros, would.amount_micros) == (0, 4_000, 4_000)
    assert pay(world, world.tree.cleo, "2026-04", MAY) == (0, 4_000, 4_000)
    assert pay(world, world.tree.cleo, "2026-04", MAY) == (0, 4_000, 4_000)
    with reading(world.engine) as session:
        # Of a month that is booked: what its calls came to by now, and what was booked.
        march = commissions.earned(session, world.tree.cleo, "2026-03")
    assert (march.base_micros, march.earned_micros, march.amount_micros) == (180_000, 18_000, 14_000)
    assert pay(world, world.tree.cleo, "2026-05", MAY + timedelta(days=31)) == (0, 0, 0)
    await world.clean()


async def test_what_was_booked_too_much_waits_for_months_that_earn(world: World) -> None:
    """Carl's March fell by 0.008: April earns nothing and owes nothing; a call of May pays it back out of its 10 %."""
    earns(world, world.tree.carl)
    assert pay(world, world.tree.carl, "2026-03", APRIL) == (250_000, 0, 25_000)
    world.preview()
    world.clock.at = APRIL + timedelta(days=3)
    await world.post()
    assert pay(world, world.tree.carl, "2026-04", MAY) == (0, -800, 0)
    assert pay(world, world.tree.carl, "2026-05", MAY + timedelta(days=31)) == (0, -800, 0)
    world.clock.at = MAY + timedelta(days=40)
    await world.undo()
    assert pay(world, world.tree.carl, "2026-06", MAY + timedelta(days=62)) == (0, 0, 0)
    assert sorted((row.month, row.earned_micros, row.paid_micros) for row in _months(world)) == [
        ("2026-03", 25_000, 25_000),
        ("2026-04", 0, 0),
        ("2026-05", 0, 0),
        ("2026-06", 0, 0),
    ]


async def test_a_margin_follows_both_sides_of_a_correction(world: World) -> None:
    """Cleo pays ray what ray pays on: no margin before, and none after both were corrected alike."""
    earns(world, world.tree.cleo, "50", CommissionOf.MARGIN)
    world.preview()
    await world.post()
    assert pay(world, world.tree.cleo, "2026-03", APRIL) == (0, 0, 0)


async def test_a_call_that_was_reversed_by_hand_earns_nothing_any_more(world: World) -> None:
    """Cleo's call is taken back in April: the 0.014 of March wait as too much, and the next call's part pays them."""
    earns(world, world.tree.cleo)
    pay(world, world.tree.cleo, "2026-03", APRIL)
    with work(world.engine) as session:
        asked = select(LedgerTransaction.id).where(col(LedgerTransaction.operation) == "call:sw:2")
        number = session.exec(asked).one() or 0
        reverse_once(session, number, operation="gone", actor="eva", reason="no talk", now=APRIL + timedelta(days=1))
    assert pay(world, world.tree.cleo, "2026-04", MAY) == (0, -14_000, 0)


def _months(world: World) -> list[CommissionMonth]:
    with reading(world.engine) as session:
        found = list(session.exec(select(CommissionMonth)))
        session.expunge_all()
        return found
