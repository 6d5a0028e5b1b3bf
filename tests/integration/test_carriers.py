"""What carriers charge: priced at the offer's rate, posted with the call, and never sold below the least margin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import books, day_money
from billing.catalogue import load_catalogue
from billing.cdrs import EndedCall, EndedCost, find_cdr, find_cost, settle
from billing.charges import explain_cost, margin_of
from billing.errors import NotFound, Refused
from billing.models import Account, AuditRow, CallCost, Carrier, Meta, MinMargin, Route, Tariff, Wallet, WalletKind
from billing.plans.carriers import set_carrier, set_min_margin, set_route
from billing.plans.exchange import set_exchange
from billing.store import reading, work
from billing.tariffs import add_tariff, import_rates
from callctl import refusals
from callctl.admission import Refused as NotAdmitted
from callctl.admission import price_chain
from callctl.costs import Carriage
from callctl.terms import Terms
from rating.errors import TariffError
from rating.tariff import Band, Rate, Rounding, RoundingMode, Step, When
from tests.integration.tree import NOW, Tree, balance_in, ended, plant

ROUNDING = Rounding(RoundingMode.HALF_UP, 4)
HOUR = 3600


def rate(prefix: str, price: str, *, fee: str = "0", increment_s: int = 1) -> Rate:
    return Rate(prefix, "Germany", Decimal(fee), (Step(0, Decimal(price), 60, increment_s),), ROUNDING)


@pytest.fixture
def tree(engine: Engine) -> Tree:
    """Retail sells 49 and 33 at 0.02; the carrier charges 0.015, in minutes, for 49, and has no rate for 33."""
    planted = plant(engine)
    with work(engine) as session:
        for name, currency, rates in (
            ("retail", "EUR", [rate("49", "0.02"), rate("33", "0.02")]),
            ("wholesale", "EUR", [rate("49", "0.018"), rate("33", "0.02")]),
            ("cost", "EUR", [rate("49", "0.015", increment_s=60)]),
            ("cost usd", "USD", [rate("49", "0.02")]),
        ):
            add_tariff(session, name=name, currency=currency, rounding=ROUNDING, actor="test", now=NOW)
            import_rates(session, name, rates, actor="test", now=NOW)
        ids = dict(session.exec(select(Tariff.name, Tariff.id)).all())
        for name, tariff in (("ray", "wholesale"), ("cleo", "retail"), ("carl", "retail")):
            session.exec(select(Account).where(Account.name == name)).one().tariff_id = ids[tariff]
        set_carrier(session, "colt", "cost", actor="test", now=NOW)
        set_route(session, "", "colt", actor="test", now=NOW)
    return planted


def offered(
    engine: Engine, account_id: int, number: str = "4930", *, at: datetime = NOW, ring_s: float = 90
) -> Terms | NotAdmitted:
    with reading(engine) as session:
        catalogue = load_catalogue(session)
        return price_chain(catalogue, catalogue.payers(account_id), number, at, ring_s=ring_s)


def refused(engine: Engine, account_id: int, number: str = "4930", **more: Any) -> bool:
    found = offered(engine, account_id, number, **more)
    if isinstance(found, NotAdmitted):
        assert found.refusal is refusals.NO_MARGIN
        return True
    return False


def least(engine: Engine, *, percent: str | None = None, per_min: str | None = None, **of: str) -> None:
    with work(engine) as session:
        set_min_margin(
            session,
            percent=None if percent is None else Decimal(percent),
            per_min=None if per_min is None else Decimal(per_min),
            actor="test",
            now=NOW,
            **of,
        )


def ledger(engine: Engine, kind: WalletKind, currency: str = "EUR") -> int:
    with reading(engine) as session:
        wallet = session.exec(select(Wallet.id).where(Wallet.kind == kind, Wallet.currency == currency)).one()
        return balance_in(session, wallet or 0)


def call(engine: Engine, account_id: int, seconds: int, call_id: str = "sw:1") -> EndedCall:
    terms = offered(engine, account_id)
    assert isinstance(terms, Terms)
    assert terms.carriage
    assert Carriage.from_facts(terms.carriage.facts()) == terms.carriage
    charges, cost = terms.charges(seconds * 1000, NOW), terms.cost(seconds * 1000, NOW)
    made = replace(ended(call_id, account_id, *charges, seconds=seconds), cost=cost)
    assert EndedCall.from_json(made.to_json()) == made
    return made


def test_the_cost_is_posted_with_the_charges_and_the_margin_is_told(engine: Engine, tree: Tree) -> None:
    """90 s: carl pays 0.03; the carrier bills two minutes, 0.03; nothing is earned. 120 s: 0.04, a quarter is."""
    with work(engine) as session:
        settle(session, [call(engine, tree.carl, 90), call(engine, tree.carl, 120, "sw:2")], now=NOW)
        # The same call again is known, and posts nothing.
        settle(session, [call(engine, tree.carl, 90)], now=NOW)
    assert (ledger(engine, WalletKind.CARRIER_COST), ledger(engine, WalletKind.CARRIER_PAYABLE)) == (-60_000, 60_000)
    assert ledger(engine, WalletKind.INCOME) == 70_000
    with reading(engine) as session:
        assert day_money.carrier_cost(session, NOW.date()) == (("EUR", 60_000),)
        assert day_money.carrier_cost(session, NOW.date() + timedelta(days=1)) == ()
        assert books.check_store(session).findings == ()
        _, charges = find_cdr(session, "sw:2")
        cost = find_cost(session, "sw:2")
    assert cost
    assert explain_cost(cost, charges) == [
        "Carrier colt, tariff cost, version 2, prefix 49.",
        "120 s of talk, billed by the carrier as 120 s.",
        "120 s at 0.015 per 60 s, in increments of 60 s: 0.03 EUR",
        "Carrier cost: 0.03 EUR",
        "Margin: 0.01 EUR, 25.0 % of the price",
    ]


def test_a_cost_in_another_currency_is_posted_in_it(engine: Engine, tree: Tree) -> None:
    """0.02 USD sum to zero in USD; at 0.9 they are 0.018 EUR of the 0.02 that came in. Unconverted, who knows."""
    with work(engine) as session:
        set_carrier(session, "colt", "cost usd", actor="test", now=NOW)
    unknown = call(engine, tree.carl, 60, "sw:2")
    assert unknown.cost
    assert margin_of(20_000, "EUR", unknown.cost) is None
    with work(engine) as session:
        set_exchange(session, "USD", "EUR", Decimal("0.9"), source="ecb", at=NOW, actor="test", now=NOW)
    made = call(engine, tree.carl, 60)
    with work(engine) as session:
        settle(session, [made, unknown], now=NOW)
    assert ledger(engine, WalletKind.CARRIER_PAYABLE, "USD") == 40_000
    assert made.cost
    margin = margin_of(20_000, "EUR", made.cost)
    assert margin
    assert (margin.micros, margin.currency, margin.percent) == (2_000, "EUR", "10.0")
    with reading(engine) as session:
        assert books.check_store(session).findings == ()


def test_a_cost_that_its_facts_do_not_make_is_a_finding(engine: Engine, tree: Tree) -> None:
    """The books price what carriers charge again, and compare it with what was posted."""
    made = call(engine, tree.carl, 60)
    assert made.cost
    wrong: EndedCost = replace(made.cost, amount_micros=1)
    with work(engine) as session:
        settle(session, [replace(made, cost=wrong)], now=NOW)
    with reading(engine) as session:
        (finding,) = books.check_store(session).findings
    assert (finding.invariant, "its carrier charges" in finding.what) == (6, True)


def test_calls_without_a_route_have_no_known_cost(engine: Engine, tree: Tree) -> None:
    """The carrier has no rate for 33: the call goes on, without a cost; an inbound call has no carrier."""
    terms = offered(engine, tree.carl, "33123")
    assert isinstance(terms, Terms)
    assert terms.cost(60_000, NOW) is None
    with work(engine) as session:
        set_route(session, "49", "colt", actor="test", now=NOW)
        set_route(session, "", None, actor="test", now=NOW)
    assert isinstance(offered(engine, tree.carl), Terms)


@pytest.mark.parametrize(
    ("percent", "per_min", "is_refused"),
    [
        ("25", None, False),
        ("25.0001", None, True),
        (None, "0.005", False),
        (None, "0.005001", True),
        ("25", "0.006", True),
    ],
)
def test_a_call_that_earns_too_little_is_refused(
    engine: Engine, tree: Tree, percent: str | None, per_min: str | None, *, is_refused: bool
) -> None:
    """0.02 less 0.015 is 0.005 a minute, a quarter of the price: just enough is enough; for account and tariff."""
    least(engine, account="carl", percent=percent, per_min=per_min)
    assert refused(engine, tree.carl) is is_refused
    least(engine, account="carl")
    assert not refused(engine, tree.carl)
    least(engine, tariff="retail", percent=percent, per_min=per_min)
    assert refused(engine, tree.carl) is is_refused


def test_what_is_not_known_to_earn_enough_is_refused(engine: Engine, tree: Tree) -> None:
    """No rate of the carrier, or its currency without an exchange rate: a least margin refuses, even one of nothing."""
    least(engine, account="carl", percent="0")
    assert refused(engine, tree.carl, "33123")
    assert not refused(engine, tree.carl)
    with work(engine) as session:
        set_carrier(session, "colt", "cost usd", actor="test", now=NOW)
    assert refused(engine, tree.carl)
    with work(engine) as session:
        set_exchange(session, "USD", "EUR", Decimal("0.9"), source="ecb", at=NOW, actor="test", now=NOW)
    assert not refused(engine, tree.carl)


def test_each_level_earns_what_it_charges_less_what_it_pays(engine: Engine, tree: Tree) -> None:
    """Ray sells to cleo at 0.02 and pays 0.018: a tenth; the operator earns 0.003 of 0.018 on ray, a sixth."""
    least(engine, account="cleo", percent="10")
    assert not refused(engine, tree.cleo)
    least(engine, account="cleo", percent="11")
    assert refused(engine, tree.cleo)
    least(engine, account="cleo")
    least(engine, account="ray", percent="16.6666")
    assert not refused(engine, tree.cleo)
    least(engine, account="ray", percent="16.6667")
    assert refused(engine, tree.cleo)


def test_the_carriers_dear_hours_count_while_it_rings(engine: Engine, tree: Tree) -> None:
    """The carrier is dearer from 18:00: offered at 17:59 it may be answered then, and earn nothing."""
    dear = Band(When(from_s=18 * HOUR, to_s=6 * HOUR), (Step(0, Decimal("0.03"), 60, 1),))
    cheap = Band(When(from_s=6 * HOUR, to_s=18 * HOUR), (Step(0, Decimal("0.01"), 60, 1),))
    with work(engine) as session:
        banded = replace(rate("49", "0"), steps=(), bands=(cheap, dear))
        import_rates(session, "cost", [banded], actor="test", now=NOW)
    least(engine, account="carl", percent="0")
    evening = datetime(2026, 3, 2, 17, 59, tzinfo=UTC)
    assert refused(engine, tree.carl, at=evening)
    # An hour from 17:00 on stays in the cheap band; from 17:30 on half of it is dear: 0.3 + 0.9 of 1.2.
    assert not refused(engine, tree.carl, at=evening - timedelta(minutes=59), ring_s=0)
    assert not refused(engine, tree.carl, at=evening - timedelta(minutes=29), ring_s=0)
    assert refused(engine, tree.carl, at=evening - timedelta(minutes=10), ring_s=0)


def state(engine: Engine) -> dict[str, Any]:
    with reading(engine) as session:
        tables: tuple[type[Any], ...] = (Carrier, Route, MinMargin, CallCost, AuditRow, Meta, Wallet)
        return {table.__tablename__: [row.model_dump() for row in session.exec(select(table))] for table in tables}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda s: set_carrier(s, "", "cost", actor="t", now=NOW), Refused),
        (lambda s: set_carrier(s, "x", "none", actor="t", now=NOW), NotFound),
        (lambda s: set_route(s, "49", "nobody", actor="t", now=NOW), NotFound),
        (lambda s: set_route(s, "4x", "colt", actor="t", now=NOW), TariffError),
        (lambda s: set_route(s, "77", None, actor="t", now=NOW), NotFound),
        (lambda s: set_min_margin(s, actor="t", now=NOW), Refused),
        (lambda s: set_min_margin(s, account="carl", tariff="retail", actor="t", now=NOW), Refused),
        (lambda s: set_min_margin(s, account="carl", percent=Decimal(101), actor="t", now=NOW), TariffError),
        (lambda s: set_min_margin(s, account="carl", per_min=Decimal(-1), actor="t", now=NOW), TariffError),
        (lambda s: set_min_margin(s, account="op", percent=Decimal(1), actor="t", now=NOW), Refused),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    engine: Engine, tree: Tree, change: Callable[[Any], None], error: type[Exception]
) -> None:
    """Unknown names, bad prefixes and margins: an error, and the store as it was."""
    assert tree.carl
    before = state(engine)
    with pytest.raises(error), work(engine) as session:
        change(session)
    assert state(engine) == before
