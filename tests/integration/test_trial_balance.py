"""The trial balance: each ledger account on its side, each currency to zero, at any moment."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.engine import Engine

from billing.cdrs import settle
from billing.chart import CHART, LEDGER_KINDS, Class, ledger_account
from billing.errors import NotFound, Refused
from billing.ledger import Entry, post
from billing.models import WalletKind
from billing.store import reading, work
from billing.topups import top_up
from billing.trial_balance import trial_balance
from tests.integration.tree import EURO, NOW, cleos_call, plant

HOUR = timedelta(hours=1)


def test_every_kind_of_wallet_has_its_place() -> None:
    """No wallet is outside the chart, and no two lines have one number."""
    assert set(CHART) == set(WalletKind)
    assert len({title.number for title in CHART.values()}) == len(CHART)
    assert CHART[WalletKind.MONEY].of is Class.LIABILITY


def test_a_ledger_account_is_made_at_its_first_use(engine: Engine) -> None:
    """The same kind and currency is the same wallet for ever; a live wallet is not made this way."""
    tree = plant(engine)
    with work(engine) as session:
        first = ledger_account(session, WalletKind.CARRIER_COST, "USD")
        assert ledger_account(session, WalletKind.CARRIER_COST, "USD") == first
        assert ledger_account(session, WalletKind.CARRIER_COST, "EUR") != first
        assert ledger_account(session, WalletKind.CASH, "EUR") == tree.cash
        assert ledger_account(session, WalletKind.TAX, "EUR", account_id=tree.ray) != first
        for live in (WalletKind.MONEY, WalletKind.BUNDLE):
            with pytest.raises(Refused):
                ledger_account(session, live, "EUR")
        with pytest.raises(NotFound):
            ledger_account(session, WalletKind.TAX, "EUR", account_id=99)
    assert {WalletKind.MONEY, WalletKind.BUNDLE} == set(WalletKind) - LEDGER_KINDS


def test_a_trial_balance_by_hand(engine: Engine) -> None:
    """10 EUR paid in, a call of 0.11, a carrier's bill of 3 USD, 1 EUR turned into 1.20 USD: worked by hand."""
    tree = plant(engine)
    with work(engine) as session:
        top_up(session, tree.ray, 10 * EURO, operation="t1", actor="eva", now=NOW)
    with work(engine) as session:
        settle(session, [cleos_call(tree, "sw:1", 60)], now=NOW + HOUR)
    with work(engine) as session:
        account = {
            (kind, currency): ledger_account(session, kind, currency)
            for kind in (WalletKind.CARRIER_COST, WalletKind.CARRIER_PAYABLE, WalletKind.EXCHANGE, WalletKind.CASH)
            for currency in ("EUR", "USD")
        }
        bill = [
            Entry(account[WalletKind.CARRIER_COST, "USD"], -3 * EURO),
            Entry(account[WalletKind.CARRIER_PAYABLE, "USD"], 3 * EURO),
        ]
        change = [
            Entry(account[WalletKind.CASH, "EUR"], EURO),
            Entry(account[WalletKind.EXCHANGE, "EUR"], -EURO),
            Entry(account[WalletKind.EXCHANGE, "USD"], 1_200_000),
            Entry(account[WalletKind.CASH, "USD"], -1_200_000),
        ]
        post(session, bill, operation="b", kind="bill", actor="eva", now=NOW + 2 * HOUR)
    with work(engine) as session:
        post(session, change, operation="x", kind="exchange", actor="eva", now=NOW + 2 * HOUR)
    with reading(engine) as session:
        euros, dollars = trial_balance(session)
        (before,) = trial_balance(session, at=NOW)
        (between,) = trial_balance(session, at=NOW + HOUR)
        assert trial_balance(session, at=NOW - HOUR) == ()
    assert [(line.kind.value, line.debit_micros, line.credit_micros) for line in euros.lines] == [
        ("cash", 9 * EURO, 0),
        ("money", 0, 9_890_000),
        ("exchange", EURO, 0),
        ("income", 0, 110_000),
    ]
    assert (euros.debit_micros, euros.credit_micros, euros.balances) == (10 * EURO, 10 * EURO, True)
    assert [(line.kind.value, line.debit_micros, line.credit_micros) for line in dollars.lines] == [
        ("cash", 1_200_000, 0),
        ("carrier_payable", 0, 3 * EURO),
        ("exchange", 0, 1_200_000),
        ("carrier_cost", 3 * EURO, 0),
    ]
    assert dollars.balances
    # Cleo paid ray 0.11 and ray the operator: within the prepaid money 0.22 went out and 0.11 came in.
    money = euros.lines[1]
    assert (money.debits_micros, money.credits_micros) == (220_000, 10_110_000)
    assert [(line.kind.value, line.debit_micros, line.credit_micros) for line in before.lines] == [
        ("cash", 10 * EURO, 0),
        ("money", 0, 10 * EURO),
    ]
    assert [line.kind.value for line in between.lines] == ["cash", "money", "income"]
