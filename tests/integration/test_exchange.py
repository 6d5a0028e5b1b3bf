"""Exchange rates: fixed at the offer, kept with the charge, never edited."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DatabaseError
from sqlmodel import select

from billing import books
from billing.accounts import add_account
from billing.catalogue import load_catalogue
from billing.cdrs import EndedCharge, find_cdr, settle
from billing.charges import explain, reprice
from billing.errors import Conflict, Refused
from billing.models import AccountKind, AuditRow, ExchangeRate, Meta, id_of
from billing.plans import edit
from billing.plans.exchange import list_exchanges, set_exchange
from billing.store import reading, work
from billing.tariffs import add_tariff, import_rates
from callctl import refusals
from callctl.admission import Refused as NotAdmitted
from callctl.admission import price_chain
from callctl.terms import Terms
from rating.tariff import Rate, Rounding, RoundingMode, Step
from tests.integration.tree import NOW, Tree, balance, ended, plant

HOUR = timedelta(hours=1)
ROUNDING = Rounding(RoundingMode.HALF_UP, 4)
RATE = Rate("49", "Germany", Decimal("0.01"), (Step(0, Decimal("0.0123"), 60, 1),), ROUNDING)


@pytest.fixture
def tree(engine: Engine) -> Tree:
    """The usual tree in EUR, and a tariff in USD."""
    planted = plant(engine)
    with work(engine) as session:
        add_tariff(session, name="usd", currency="USD", rounding=ROUNDING, actor="test", now=NOW)
        import_rates(session, "usd", [RATE], actor="test", now=NOW)
    return planted


def say(engine: Engine, value: str, at: datetime = NOW) -> bool:
    with work(engine) as session:
        return set_exchange(session, "USD", "EUR", Decimal(value), source="ecb", at=at, actor="test", now=NOW)


def buyer(engine: Engine) -> int:
    with work(engine) as session:
        customer = AccountKind.CUSTOMER
        return id_of(add_account(session, name="eva", kind=customer, tariff="usd", actor="test", now=NOW))


def offered(engine: Engine, account_id: int, at: datetime = NOW) -> Terms | NotAdmitted:
    with reading(engine) as session:
        catalogue = load_catalogue(session)
        return price_chain(catalogue, catalogue.payers(account_id), "4930", at)


def charge(engine: Engine, account_id: int, at: datetime = NOW) -> EndedCharge:
    terms = offered(engine, account_id, at)
    assert isinstance(terms, Terms)
    (made,) = terms.charges(90_000, at)
    assert reprice(made) == made.amount_micros
    return made


def test_a_price_is_converted_exactly_and_rounded_once(engine: Engine, tree: Tree) -> None:
    """90 s are 0.01 + 0.01845 = 0.02845 USD; × 0.9137 = 0.025994765 EUR, half up 0.0260."""
    assert tree.carl
    say(engine, "0.9137")
    made = charge(engine, buyer(engine))
    assert (made.amount_micros, made.currency) == (26_000, "EUR")
    assert made.facts["plan"]["exchange"] == {
        "from": "USD",
        "to": "EUR",
        "value": "0.9137",
        "source": "ecb",
        "at": "2026-03-01T12:00:00+00:00",
    }
    assert explain(made)[-3:] == [
        "90 s at 0.0123 per 60 s, in increments of 1 s: 0.01845 USD",
        "Converted at 1 USD = 0.9137 EUR (ecb, 2026-03-01 12:00 UTC): 0.025994765 EUR",
        "Total, rounded half up to 4 decimals: 0.026 EUR",
    ]


def test_rounding_twice_would_be_another_price(engine: Engine, tree: Tree) -> None:
    """0.02845 USD × 3.1 = 0.088195, 0.0882. Rounded before it would be 0.0285 × 3.1 = 0.08835, 0.0884 (half up)."""
    assert tree.carl
    say(engine, "3.1")
    assert charge(engine, buyer(engine)).amount_micros == 88_200


def test_discount_and_exchange_are_one_factor(engine: Engine, tree: Tree) -> None:
    """0.02845 × 0.9 × 3.1 = 0.0793755 EUR, 0.0794; each step is said in its currency."""
    assert tree.carl
    say(engine, "3.1")
    eva = buyer(engine)
    with work(engine) as session:
        edit.set_discount(session, "eva", "", Decimal(10), actor="test", now=NOW)
    made = charge(engine, eva)
    assert made.amount_micros == 79_400
    assert explain(made)[-3:-1] == [
        "Discount of 10 %: -0.002845 USD",
        "Converted at 1 USD = 3.1 EUR (ecb, 2026-03-01 12:00 UTC): 0.0793755 EUR",
    ]


def test_the_rate_of_the_offer_counts(engine: Engine, tree: Tree) -> None:
    """A rate that is set for later holds from then on; before the first there is none, and the call is refused."""
    assert tree.carl
    say(engine, "2")
    say(engine, "4", NOW + HOUR)
    eva = buyer(engine)
    assert charge(engine, eva, NOW + HOUR - timedelta(seconds=1)).amount_micros == 56_900
    assert charge(engine, eva, NOW + HOUR).amount_micros == 113_800
    none = offered(engine, eva, NOW - HOUR)
    assert isinstance(none, NotAdmitted)
    assert none.refusal is refusals.WRONG_CURRENCY


def test_a_converted_call_is_settled_and_the_books_balance(engine: Engine, tree: Tree) -> None:
    """Wallet and income are both in EUR, so the transaction sums to zero; the books price the charge again."""
    say(engine, "0.9137")
    eva = buyer(engine)
    made = charge(engine, eva)
    with work(engine) as session:
        settle(session, [ended("sw:1", eva, made, seconds=90)], now=NOW)
    assert balance(engine, made.wallet_id) == -26_000
    assert balance(engine, tree.income) == 26_000
    # What is said later changes nothing of the past.
    say(engine, "7", NOW + HOUR)
    with reading(engine) as session:
        assert books.check_store(session).findings == ()
        _, (stored,) = find_cdr(session, "sw:1")
        assert reprice(stored) == 26_000


def test_a_charge_whose_facts_do_not_make_its_rate_is_a_finding(engine: Engine, tree: Tree) -> None:
    """A rate that is not the listed one times its plan: the books say so."""
    assert tree.carl
    say(engine, "0.9137")
    eva = buyer(engine)
    made = charge(engine, eva)
    made.facts["plan"]["exchange"]["value"] = "0.9138"
    with work(engine) as session:
        settle(session, [ended("sw:1", eva, made, seconds=90)], now=NOW)
    with reading(engine) as session:
        (finding,) = books.check_store(session).findings
    assert (finding.invariant, "do not make its rate" in finding.what) == (6, True)


def test_an_account_may_buy_in_another_currency_only_where_there_is_a_rate(engine: Engine, tree: Tree) -> None:
    """The error says what to do; nothing is made."""
    assert tree.carl
    with pytest.raises(Refused, match="callctl exchange set USD EUR"):
        buyer(engine)


def test_the_same_rate_again_is_no_change_and_another_is_refused(engine: Engine, tree: Tree) -> None:
    """Told twice, nothing happens; another value for the same moment would change what was said."""
    assert tree.carl
    assert say(engine, "0.9137")
    with reading(engine) as session:
        before = (session.exec(select(AuditRow)).all(), session.exec(select(Meta)).all())
    assert not say(engine, "0.91370")
    with pytest.raises(Conflict):
        say(engine, "0.92")
    with reading(engine) as session:
        assert (session.exec(select(AuditRow)).all(), session.exec(select(Meta)).all()) == before
        assert [one.value for one in list_exchanges(session)] == ["0.9137"]


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "Infinity", "1E-13", "1000000001"])
def test_what_is_no_exchange_rate_is_refused(engine: Engine, tree: Tree, value: str) -> None:
    """More than nothing, and few enough digits to stay exact."""
    assert tree.carl
    with pytest.raises(Refused):
        say(engine, value)
    with reading(engine) as session:
        assert session.exec(select(ExchangeRate)).all() == []


@pytest.mark.parametrize("change", ["UPDATE exchange_rate SET value = '9'", "DELETE FROM exchange_rate"])
def test_the_database_refuses_to_edit_what_was_said(engine: Engine, tree: Tree, change: str) -> None:
    """Charges name these rows: they are history."""
    assert tree.carl
    say(engine, "0.9137")
    with pytest.raises(DatabaseError), work(engine) as session:
        session.execute(text(change))
