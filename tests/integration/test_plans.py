"""Mark-ups, discounts and own rates in the store: who pays what for a number, and why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing.catalogue import load_catalogue
from billing.cdrs import EndedCharge
from billing.charges import behind, explain, reprice
from billing.errors import NotFound, Refused
from billing.models import Account, AccountDiscount, AccountRate, AuditRow, Meta, Tariff, TariffMarkup
from billing.plans import edit
from billing.plans.store import catalogue_in_store
from billing.store import reading, work
from billing.tariffs import add_tariff, import_rates
from callctl import refusals
from callctl.admission import Refused as NotAdmitted
from callctl.admission import price_chain
from callctl.terms import Level, Terms
from rating.errors import TariffError
from rating.plans import MarkUp
from rating.tariff import Rate, Rounding, RoundingMode, Step
from tests.integration.tree import NOW, Tree, plant

ROUNDING = Rounding(RoundingMode.HALF_UP, 4)


def rate(prefix: str, price: str, destination: str = "", *, barred: bool = False) -> Rate:
    return Rate(prefix, destination, Decimal(0), (Step(0, Decimal(price), 60, 1),), ROUNDING, barred)


@pytest.fixture
def tree(engine: Engine) -> Tree:
    """Carrier lists 49 and 4915, bars 4990; retail has a 33. Carl and cleo (under ray) buy it, ray buys carrier."""
    planted = plant(engine)
    with work(engine) as session:
        for name, rates in (
            (
                "carrier",
                [rate("49", "0.01", "Germany"), rate("4915", "0.05", "Mobile"), rate("4990", "1", barred=True)],
            ),
            ("retail", [rate("33", "0.02", "France")]),
        ):
            add_tariff(session, name=name, currency="EUR", rounding=ROUNDING, actor="test", now=NOW)
            import_rates(session, name, rates, actor="test", now=NOW)
        ids = dict(session.exec(select(Tariff.name, Tariff.id)).all())
        for name, tariff in (("ray", "carrier"), ("cleo", "retail"), ("carl", "retail")):
            session.exec(select(Account).where(Account.name == name)).one().tariff_id = ids[tariff]
    return planted


def mark_up(engine: Engine, prefix: str = "49", percent: str = "20", least: str = "0.005") -> None:
    with work(engine) as session:
        wanted = MarkUp(Decimal(percent), Decimal(least), 4)
        edit.set_markup(session, "retail", "carrier", prefix, wanted, actor="test", now=NOW)


def offered(engine: Engine, account_id: int, number: str) -> Terms | NotAdmitted:
    """Return what the catalogue says of a call, after checking that the store itself says the same."""
    with reading(engine) as session:
        catalogue, stored = load_catalogue(session), catalogue_in_store(session)
        terms = price_chain(catalogue, catalogue.payers(account_id), number, NOW)
        again = price_chain(stored, stored.payers(account_id), number, NOW)
    assert terms == again
    return terms


def charge(engine: Engine, account_id: int, number: str, seconds: int = 60) -> EndedCharge:
    """Price a call; the facts must say the same again."""
    terms = offered(engine, account_id, number)
    assert isinstance(terms, Terms)
    for level in terms.levels:
        assert Level.from_facts(level.facts()) == level
    (first, *_) = charges = terms.charges(seconds * 1000, NOW + timedelta(seconds=5))
    assert [reprice(one) for one in charges] == [one.amount_micros for one in charges]
    return first


def test_a_tariff_sells_what_another_lists_marked_up(engine: Engine, tree: Tree) -> None:
    """0.01 + 20 % is 0.012, but at least 0.005 more: 0.015. 0.05 + 20 % = 0.06. What is barred stays barred."""
    mark_up(engine)
    assert charge(engine, tree.carl, "4930").amount_micros == 15_000
    assert charge(engine, tree.carl, "491511").amount_micros == 60_000
    barred = offered(engine, tree.carl, "499011")
    assert isinstance(barred, NotAdmitted)
    assert barred.refusal is refusals.BARRED


def test_a_derived_tariff_keeps_its_own_rates_and_sells_nothing_else(engine: Engine, tree: Tree) -> None:
    """Its own 33 is as before; an own 4915 wins over the derived one; 39 is nowhere."""
    mark_up(engine)
    with work(engine) as session:
        import_rates(session, "retail", [rate("33", "0.02"), rate("4915", "0.09")], actor="test", now=NOW)
    assert charge(engine, tree.carl, "33123").amount_micros == 20_000
    assert charge(engine, tree.carl, "491511").amount_micros == 90_000
    assert charge(engine, tree.carl, "4930").amount_micros == 15_000
    nothing = offered(engine, tree.carl, "39123")
    assert isinstance(nothing, NotAdmitted)
    assert nothing.refusal is refusals.NO_RATE


def test_the_longest_group_of_prefixes_marks_up(engine: Engine, tree: Tree) -> None:
    """49 + 20 %, but 4915 + 100 %."""
    mark_up(engine)
    mark_up(engine, "4915", "100", "0")
    assert charge(engine, tree.carl, "491511").amount_micros == 100_000


def test_a_new_price_of_the_carrier_is_a_new_price_of_what_is_derived(engine: Engine, tree: Tree) -> None:
    """Nothing is copied: the carrier's next version is sold from its import on, and the charge names it."""
    mark_up(engine)
    with work(engine) as session:
        import_rates(session, "carrier", [rate("49", "0.10")], actor="test", now=NOW)
    made = charge(engine, tree.carl, "4930")
    assert made.amount_micros == 120_000
    assert made.facts["plan"]["markup"]["from_version"] == 3


def test_every_level_of_a_chain_pays_by_its_own_tariff(engine: Engine, tree: Tree) -> None:
    """Cleo pays ray 0.015 by retail, ray pays the operator 0.01 by the carrier's list."""
    mark_up(engine)
    terms = offered(engine, tree.cleo, "4930")
    assert isinstance(terms, Terms)
    assert [one.amount_micros for one in terms.charges(60_000, NOW)] == [15_000, 10_000]


def test_a_discount_is_taken_off_the_tariff_and_explained(engine: Engine, tree: Tree) -> None:
    """0.015 less 12.5 % is 0.013125, rounded once to 0.0131; the longest prefix with a discount counts."""
    mark_up(engine)
    with work(engine) as session:
        edit.set_discount(session, "carl", "49", Decimal("12.5"), actor="test", now=NOW)
        edit.set_discount(session, "carl", "", Decimal(1), actor="test", now=NOW)
    made = charge(engine, tree.carl, "4930")
    assert made.amount_micros == 13_100
    assert explain(made) == [
        "Tariff retail, version 3, prefix 49 (Germany).",
        "60 s of talk, billed as 60 s.",
        "60 s at 0.015 per 60 s, in increments of 1 s: 0.015 EUR",
        "Discount of 12.5 % on numbers that begin with 49: -0.001875 EUR",
        "Total, rounded half up to 4 decimals: 0.0131 EUR",
    ]
    (sold,) = behind(made)
    assert sold.startswith("Sold at the prices of tariff carrier, version 2, plus 20 %, at least 0.005 a minute more")
    assert sold.endswith("for numbers that begin with 49; prices rounded up to 4 decimals.")
    assert charge(engine, tree.carl, "33123").amount_micros == 19_800
    with work(engine) as session:
        edit.set_discount(session, "carl", "49", Decimal(0), actor="test", now=NOW)
        edit.set_discount(session, "carl", "", Decimal(0), actor="test", now=NOW)
    assert charge(engine, tree.carl, "4930").amount_micros == 15_000


def test_an_own_rate_wins_over_the_same_prefix_and_no_discount_touches_it(engine: Engine, tree: Tree) -> None:
    """Own 49 at 0.007 for 4930, without the discount; 4915 is longer in the tariff, and 4990 stays barred."""
    mark_up(engine)
    with work(engine) as session:
        edit.set_own_rate(session, "carl", rate("49", "0.007", "Germany"), actor="test", now=NOW)
        edit.set_discount(session, "carl", "", Decimal(50), actor="test", now=NOW)
    made = charge(engine, tree.carl, "4930")
    assert made.amount_micros == 7_000
    assert explain(made)[0] == "Price agreed for this account alone, prefix 49 (Germany)."
    assert charge(engine, tree.carl, "491511").amount_micros == 30_000
    assert isinstance(offered(engine, tree.carl, "499011"), NotAdmitted)
    # Another account of the same tariff pays as before.
    assert charge(engine, tree.cleo, "4930").amount_micros == 15_000
    with work(engine) as session:
        edit.remove_own_rate(session, "carl", "49", actor="test", now=NOW)
    assert charge(engine, tree.carl, "4930").amount_micros == 7_500


def state(engine: Engine) -> dict[str, Any]:
    with reading(engine) as session:
        tables: tuple[type[Any], ...] = (TariffMarkup, AccountDiscount, AccountRate, Tariff, AuditRow, Meta)
        return {table.__tablename__: [row.model_dump() for row in session.exec(select(table))] for table in tables}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda s: edit.set_markup(s, "carrier", "retail", "", MarkUp(Decimal(1)), actor="t", now=NOW), Refused),
        (lambda s: edit.set_markup(s, "retail", "retail", "", MarkUp(Decimal(1)), actor="t", now=NOW), Refused),
        (lambda s: edit.set_markup(s, "retail", "usd", "", MarkUp(Decimal(1)), actor="t", now=NOW), Refused),
        (lambda s: edit.set_markup(s, "retail", "none", "", MarkUp(Decimal(1)), actor="t", now=NOW), NotFound),
        (lambda s: edit.set_markup(s, "retail", "carrier", "x", MarkUp(Decimal(1)), actor="t", now=NOW), TariffError),
        (lambda s: edit.remove_markup(s, "retail", "77", actor="t", now=NOW), NotFound),
        (lambda s: edit.set_discount(s, "carl", "49", Decimal(101), actor="t", now=NOW), TariffError),
        (lambda s: edit.set_discount(s, "op", "49", Decimal(1), actor="t", now=NOW), Refused),
        (lambda s: edit.set_discount(s, "nobody", "49", Decimal(1), actor="t", now=NOW), NotFound),
        (lambda s: edit.set_own_rate(s, "carl", rate("4x", "1"), actor="t", now=NOW), TariffError),
        (lambda s: edit.remove_own_rate(s, "carl", "77", actor="t", now=NOW), NotFound),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    engine: Engine, tree: Tree, change: Callable[[Any], None], error: type[Exception]
) -> None:
    """Circles, other currencies, unknown names, bad numbers: an error, and the store as it was."""
    assert tree.carl
    with work(engine) as session:
        add_tariff(session, name="usd", currency="USD", rounding=ROUNDING, actor="test", now=NOW)
    mark_up(engine)
    before = state(engine)
    with pytest.raises(error), work(engine) as session:
        change(session)
    assert state(engine) == before
