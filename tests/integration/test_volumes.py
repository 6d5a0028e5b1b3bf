"""Volume tiers and flat rates: what was used before a call is fixed at its offer, and counted with its charge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import books
from billing.catalogue import load_catalogue
from billing.cdrs import EndedCall, EndedCharge, settle
from billing.charges import explain, reprice
from billing.errors import NotFound, Refused
from billing.models import Account, AuditRow, Meta, MonthUsage, Tariff, VolumePlan
from billing.plans import edit
from billing.plans.bundles import give_bundle
from billing.store import reading, work
from billing.tariffs import add_tariff, import_rates
from callctl.admission import price_chain
from callctl.terms import Level, Terms
from rating.errors import TariffError
from rating.tariff import Rate, Rounding, RoundingMode, Step
from rating.volumes import Tier, month_of, tier_of
from tests.integration.tree import NOW, Tree, ended, plant

ROUNDING = Rounding(RoundingMode.HALF_UP, 4)
TIERS = (Tier(0, Decimal(0)), Tier(600, Decimal(10)), Tier(1200, Decimal(25)))


@pytest.fixture
def tree(engine: Engine) -> Tree:
    """Carl buys 49 at 0.06 a minute, in tens of seconds."""
    planted = plant(engine)
    with work(engine) as session:
        add_tariff(session, name="retail", currency="EUR", rounding=ROUNDING, actor="test", now=NOW)
        rate = Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.06"), 60, 10),), ROUNDING)
        import_rates(session, "retail", [rate], actor="test", now=NOW)
        tariff = session.exec(select(Tariff.id).where(Tariff.name == "retail")).one()
        for account in session.exec(select(Account).where(Account.name == "carl")):
            account.tariff_id = tariff
    return planted


def set_volume(engine: Engine, **told: Any) -> int:
    given: dict[str, Any] = {"name": "volume", "prefixes": ["49"], "timezone": "Europe/Berlin"} | told
    with work(engine) as session:
        return edit.set_volume(session, actor="test", now=NOW, **given)


def offered(engine: Engine, account_id: int, at: datetime = NOW) -> Terms:
    with reading(engine) as session:
        catalogue = load_catalogue(session)
        terms = price_chain(catalogue, catalogue.payers(account_id), "4930", at)
    assert isinstance(terms, Terms)
    for level in terms.levels:
        assert Level.from_facts(level.facts()) == level
    return terms


def call(terms: Terms, number: int, seconds: int, at: datetime = NOW) -> EndedCall:
    charges = terms.charges(seconds * 1000, at)
    assert [reprice(one) for one in charges] == [one.amount_micros for one in charges]
    made = ended(f"sw:{number}", terms.levels[0].account_id, *charges, seconds=seconds)
    assert EndedCall.from_json(made.to_json()) == made
    return made


def talk(engine: Engine, account_id: int, number: int, seconds: int, at: datetime = NOW) -> EndedCharge:
    made = call(offered(engine, account_id, at), number, seconds, at)
    with work(engine) as session:
        settle(session, [made], now=NOW)
        settle(session, [made], now=NOW)
    return made.charges[0]


def used(engine: Engine) -> dict[str, int]:
    with reading(engine) as session:
        assert books.check_store(session).findings == ()
        return {row.month: row.used_ms for row in session.exec(select(MonthUsage))}


def test_a_call_has_the_tier_of_its_offer_from_beginning_to_end(engine: Engine, tree: Tree) -> None:
    """Ten minutes at 0.06; then 10 % less for all of a call, though it passes the next tier; then 25 % less."""
    set_volume(engine, tariff="retail", tiers=TIERS)
    assert talk(engine, tree.carl, 1, 599).amount_micros == 600_000
    second = talk(engine, tree.carl, 2, 1200)
    assert second.amount_micros == 1_080_000
    assert explain(second)[-2:] == [
        "volume, 10 % less from 600 s on (600 s were used in 2026-03 before the call): -0.12 EUR",
        "Total, rounded half up to 4 decimals: 1.08 EUR",
    ]
    assert talk(engine, tree.carl, 3, 60).amount_micros == 45_000
    assert used(engine) == {"2026-03": 1_860_000}


def test_calls_at_once_do_not_count_for_each_other(engine: Engine, tree: Tree) -> None:
    """Two offered before either is settled: both at the full price; the third sees both. Settled once each."""
    set_volume(engine, account="carl", tiers=TIERS)
    both = [call(offered(engine, tree.carl), number, 600) for number in (1, 2)]
    assert [one.charges[0].amount_micros for one in both] == [600_000, 600_000]
    with work(engine) as session:
        settle(session, [*both, both[0]], now=NOW)
    assert talk(engine, tree.carl, 3, 60).amount_micros == 45_000


def test_a_month_is_one_of_the_plans_zone(engine: Engine, tree: Tree) -> None:
    """23:30 UTC on the last of March is April in Berlin: a new month, the first tier."""
    set_volume(engine, tariff="retail", tiers=TIERS)
    before, after = datetime(2026, 3, 31, 21, 59, tzinfo=UTC), datetime(2026, 3, 31, 22, 0, tzinfo=UTC)
    assert (month_of("Europe/Berlin", before), month_of("Europe/Berlin", after)) == ("2026-03", "2026-04")
    talk(engine, tree.carl, 1, 1200, before)
    assert talk(engine, tree.carl, 2, 60, before).amount_micros == 45_000
    assert talk(engine, tree.carl, 3, 60, after).amount_micros == 60_000
    assert used(engine) == {"2026-03": 1_260_000, "2026-04": 60_000}


def test_a_flat_rate_pays_up_to_its_fair_use_then_money(engine: Engine, tree: Tree) -> None:
    """100 s of fair use: 60 s free; then 35 s, of which whole tens, 30 s, are left: 30 free and 10 in money at 0.01."""
    plan = set_volume(engine, account="carl", name="Flat", fair_s=95)
    assert talk(engine, tree.carl, 1, 60).amount_micros == 0
    second = talk(engine, tree.carl, 2, 40)
    assert second.amount_micros == 10_000
    assert "30 s are within the flat rate Flat; 35 s of its fair use in 2026-03 were left before the call." in explain(
        second
    )
    assert used(engine) == {"2026-03": 90_000}
    # Five seconds are left, no whole increment: all money.
    assert talk(engine, tree.carl, 3, 20).amount_micros == 20_000
    with work(engine) as session:
        edit.end_volume(session, plan, actor="test", now=NOW)
    assert "flat" not in talk(engine, tree.carl, 4, 20).facts


def test_a_flat_rate_comes_before_bundles_and_needs_no_hold(engine: Engine, tree: Tree) -> None:
    """20 s flat, then the bundle, then money; what is held is the bundle and the money alone."""
    set_volume(engine, account="carl", fair_s=20)
    with work(engine) as session:
        told = {"name": "Ten", "seconds": 600, "prefixes": [""], "operation": "one", "actor": "test"}
        give_bundle(session, "carl", now=NOW, **told)  # type: ignore[arg-type] # as a dict
    terms = offered(engine, tree.carl).ask(60, 0, NOW)
    assert [share.amount_micros for share in terms.shares(60)] == [0, 40_000_000]
    able, terms = terms.within((20_000, 25_000_000), 60, 0, NOW)
    # 20 flat, 20 of the bundle's 25, 20 in money.
    assert (able, [share.amount_micros for share in terms.shares(60)]) == (60, [20_000, 20_000_000])
    (charge,) = terms.charges(60_000, NOW)
    assert (charge.amount_micros, charge.uses[0].amount_micros) == (20_000, 20_000_000)
    assert charge.facts["flat"]["used_ms"] == 20_000
    assert reprice(charge) == 20_000


def test_the_words_add_up_with_a_flat_rate_a_bundle_and_a_discount(engine: Engine, tree: Tree) -> None:
    """100 s: 20 flat, 30 of the bundle, 50 in money at 0.001 a second are 0.05; less 10 % 0.045."""
    set_volume(engine, account="carl", name="Flat", fair_s=20)
    with work(engine) as session:
        edit.set_discount(session, "carl", "", Decimal(10), actor="test", now=NOW)
        give_bundle(session, "carl", name="B", seconds=30, prefixes=["49"], operation="one", actor="test", now=NOW)
    terms = offered(engine, tree.carl)
    _, terms = terms.within((50_000, 30_000_000), 100, 0, NOW)
    (charge,) = terms.charges(100_000, NOW)
    assert explain(charge)[2:] == [
        "100 s at 0.06 per 60 s, in increments of 10 s: 0.1 EUR",
        "20 s are within the flat rate Flat; 20 s of its fair use in 2026-03 were left before the call.",
        "30 s are paid by the bundle B.",
        "What is left for the money: 0.05 EUR",
        "Discount of 10 %: -0.005 EUR",
        "Total, rounded half up to 4 decimals: 0.045 EUR",
    ]


def test_the_longest_prefix_of_a_plan_counts_and_an_own_rate_has_no_tier(engine: Engine, tree: Tree) -> None:
    """A plan for all numbers and one for 49: that one. An own rate is final."""
    set_volume(engine, tariff="retail", name="all", prefixes=[""], tiers=(Tier(0, Decimal(50)),))
    set_volume(engine, tariff="retail", name="49", tiers=(Tier(0, Decimal(20)),))
    assert talk(engine, tree.carl, 1, 60).amount_micros == 48_000
    with work(engine) as session:
        rate = Rate("49", "", Decimal(0), (Step(0, Decimal("0.6"), 60, 1),), ROUNDING)
        edit.set_own_rate(session, "carl", rate, actor="test", now=NOW)
    assert talk(engine, tree.carl, 2, 60).amount_micros == 600_000


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"tiers": TIERS}, Refused),
        ({"account": "carl", "tariff": "retail", "tiers": TIERS}, Refused),
        ({"account": "carl"}, Refused),
        ({"account": "carl", "tiers": TIERS, "fair_s": 1}, Refused),
        ({"account": "carl", "tiers": TIERS[1:]}, TariffError),
        ({"account": "carl", "tiers": (TIERS[0], TIERS[2], TIERS[1])}, TariffError),
        ({"account": "carl", "tiers": (Tier(0, Decimal(101)),)}, TariffError),
        ({"account": "carl", "fair_s": 10**10}, Refused),
        ({"account": "carl", "fair_s": 1, "timezone": "Mars/Olympus"}, TariffError),
        ({"account": "carl", "fair_s": 1, "prefixes": []}, Refused),
        ({"account": "carl", "fair_s": 1, "prefixes": ["x"]}, TariffError),
        ({"account": "carl", "fair_s": 1, "name": ""}, Refused),
        ({"account": "nobody", "fair_s": 1}, NotFound),
    ],
)
def test_what_is_no_plan_is_refused_and_changes_nothing(
    engine: Engine, tree: Tree, told: dict[str, Any], error: type[Exception]
) -> None:
    """An error, and the store as it was."""
    assert tree.carl
    with reading(engine) as session:
        before = [session.exec(select(AuditRow)).all(), session.exec(select(Meta)).all()]
    with pytest.raises(error):
        set_volume(engine, **told)
    with reading(engine) as session:
        assert [session.exec(select(AuditRow)).all(), session.exec(select(Meta)).all()] == before
        assert session.exec(select(VolumePlan)).all() == []


def test_the_tier_of_what_was_used() -> None:
    """The edge itself is in the higher tier; less by a millisecond is not."""
    assert [tier_of(TIERS, ms).from_s for ms in (0, 599_999, 600_000, 1_199_999, 1_200_000)] == [0, 0, 600, 600, 1200]
    assert replace(TIERS[0], from_s=1) != TIERS[0]
