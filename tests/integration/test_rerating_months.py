"""Re-rating of calls that a month had a part in: volume tiers and flat rates with fair use."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from billing.catalogue import load_catalogue
from billing.charges import explain, reprice
from billing.credit.store import CreditStore
from billing.models import Account, Correction, MonthUsage, RerateChange, Tariff
from billing.plans import edit
from billing.store import reading, work
from billing.tariffs import add_tariff
from billing.topups import top_up
from callctl.admission import price_chain
from callctl.terms import Terms
from rating.tariff import Rate, Rounding, RoundingMode, Step
from rating.volumes import Tier
from tests.integration.rerating import World, found_world
from tests.integration.tree import EURO, NOW, ended

ROUNDING = Rounding(RoundingMode.HALF_UP, 4)
TIERS = (Tier(0, Decimal(0)), Tier(600, Decimal(10)))


def germany(price: str, increment_s: int = 10) -> Rate:
    return Rate("49", "Germany", Decimal(0), (Step(0, Decimal(price), 60, increment_s),), ROUNDING)


@pytest.fixture
async def world(engine: Engine, credit: CreditStore) -> World:
    """Carl buys 49 at 0.06 a minute, in tens of seconds."""
    world = await found_world(engine, credit)
    with work(engine) as session:
        add_tariff(session, name="months", currency="EUR", rounding=ROUNDING, actor="test", now=NOW)
        tariff_id = session.exec(select(Tariff.id).where(Tariff.name == "months")).one()
        session.exec(select(Account).where(Account.name == "carl")).one().tariff_id = tariff_id
        top_up(session, world.tree.carl, 10 * EURO, operation="more", actor="test", now=NOW)
    world.import_rates([germany("0.06")], "months")
    await world.tell()
    return world


def talk(world: World, number: int, seconds: int) -> None:
    """Let carl talk, as the controller would price it, and settle it."""
    with reading(world.engine) as session:
        catalogue = load_catalogue(session)
        terms = price_chain(catalogue, catalogue.payers(world.tree.carl), "49301234", NOW)
    assert isinstance(terms, Terms)
    at = NOW + timedelta(minutes=number)
    charges = terms.charges(seconds * 1000, NOW)
    world.settle(replace(ended(f"m:{number}", world.tree.carl, *charges, seconds=seconds), ended_at=at))


def volume(world: World, **told: Any) -> int:
    given: dict[str, Any] = {"name": "volume", "prefixes": ["49"], "timezone": "UTC"} | told
    with work(world.engine) as session:
        return edit.set_volume(session, actor="test", now=NOW, **given)


def changes(world: World) -> dict[str, tuple[int, int]]:
    """Return what each call cost and would cost."""
    with reading(world.engine) as session:
        rows = session.exec(select(RerateChange).order_by(col(RerateChange.call_id))).all()
    return {row.call_id: (row.before_micros, row.after_micros) for row in rows}


def used(world: World) -> list[int]:
    with reading(world.engine) as session:
        return list(session.exec(select(MonthUsage.used_ms).order_by(col(MonthUsage.plan_id))))


@pytest.mark.parametrize("owner", [{"account": "carl"}, {"tariff": "months"}])
async def test_a_call_keeps_the_tier_of_its_offer(world: World, owner: dict[str, str]) -> None:
    """0.06 a minute becomes 0.12. 600 s were used before the second call, none before the first: 10 % less for it.

    By now the month has seen 1,200 s: what is used by now gives no call of the past a tier.
    """
    volume(world, **owner, tiers=TIERS)
    talk(world, 1, 600)
    talk(world, 2, 600)
    counted = used(world)
    world.import_rates([germany("0.12")], "months")
    report = world.preview(tariff="months")
    assert changes(world) == {"m:1": (600_000, 1_200_000), "m:2": (540_000, 1_080_000)}
    assert report.run.unpriced == {}
    await world.post()
    corrections = world.rows(Correction)
    assert [reprice(one) for one in corrections] == [1_200_000, 1_080_000]
    assert explain(corrections[1])[-2:] == [
        "volume, 10 % less from 600 s on (600 s were used in 2026-03 before the call): -0.12 EUR",
        "Total, rounded half up to 4 decimals: 1.08 EUR",
    ]
    assert used(world) == counted == [1_200_000]
    await world.clean()
    again = world.preview("r2", tariff="months")
    assert (again.totals, again.run.unchanged) == ({}, 2)
    await world.undo()
    await world.clean()
    assert used(world) == counted


async def test_a_tier_that_has_ended_or_changed_since_stays_what_it_was(world: World) -> None:
    """The percent of its offer is a fact of the call; a plan that came later is nothing to it."""
    talk(world, 1, 600)
    plan = volume(world, account="carl", tiers=(Tier(0, Decimal(20)),))
    talk(world, 2, 600)
    with work(world.engine) as session:
        edit.end_volume(session, plan, actor="test", now=NOW)
    volume(world, account="carl", tiers=(Tier(0, Decimal(50)),))
    world.import_rates([germany("0.12")], "months")
    world.preview(tariff="months")
    assert changes(world) == {"m:1": (600_000, 1_200_000), "m:2": (480_000, 960_000)}


async def test_a_call_keeps_the_seconds_of_its_flat_rate(world: World) -> None:
    """95 s of fair use: 60 s are free, then 30 s and 10 s for money, which cost 0.02 instead of 0.01."""
    volume(world, account="carl", name="Flat", fair_s=95)
    talk(world, 1, 60)
    talk(world, 2, 40)
    counted = used(world)
    world.import_rates([germany("0.12")], "months")
    report = world.preview(tariff="months")
    assert changes(world) == {"m:2": (10_000, 20_000)}
    assert (report.run.unchanged, report.run.unpriced) == (1, {})
    await world.post()
    assert "30 s are within the flat rate Flat; 35 s of its fair use in 2026-03 were left before the call." in explain(
        world.rows(Correction)[0]
    )
    await world.clean()
    assert used(world) == counted == [90_000]


async def test_where_the_month_would_be_used_otherwise_the_charge_stays(world: World) -> None:
    """By the second 35 s of fair use would be taken and not 30: later calls have had what was left."""
    volume(world, account="carl", name="Flat", fair_s=95)
    talk(world, 1, 60)
    talk(world, 2, 40)
    before = world.money()
    world.import_rates([germany("0.12", increment_s=1)], "months")
    report = world.preview(tariff="months")
    assert changes(world) == {}
    assert report.run.unpriced == {"special": 1}
    assert world.money() == before


@pytest.mark.parametrize("had", [True, False])
async def test_another_tariff_with_a_month_of_its_own_cannot_be_asked(world: World, had: bool) -> None:
    """What its month would have seen is not known, nor does the plan of the first tariff hold in the second."""
    if had:
        volume(world, tariff="months", tiers=TIERS)
    else:
        volume(world, tariff="retail", tiers=TIERS)
    talk(world, 1, 600)
    report = world.preview(tariff="months", to_tariff="retail")
    assert changes(world) == {}
    assert report.run.unpriced == {"special": 1}


async def test_the_plan_of_an_account_holds_in_every_tariff(world: World) -> None:
    """10 % less than what the other tariff asks: 0.05 and 10 minutes of 0.06 are 0.65, less 10 %."""
    volume(world, account="carl", tiers=(Tier(0, Decimal(10)),))
    talk(world, 1, 600)
    world.preview(tariff="months", to_tariff="retail")
    assert changes(world) == {"m:1": (540_000, 585_000)}


async def test_a_free_call_that_would_have_used_a_flat_rate_stays(world: World) -> None:
    """It used nothing of it then, for it was free; whether the fair use would have paid for it nobody knows."""
    world.import_rates([germany("0")], "months")
    volume(world, account="carl", name="Flat", fair_s=95)
    talk(world, 1, 60)
    world.import_rates([germany("0.12")], "months")
    report = world.preview(tariff="months")
    assert changes(world) == {}
    assert report.run.unpriced == {"special": 1}
