"""Little money left: told once when it gets low, once when it is well again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.engine import Engine

from billing.account_changes import Changes, change_account
from billing.alerts import list_alerts
from billing.cdrs import settle
from billing.models import Alert
from billing.store import reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, Tree, carls_call, cleos_call, plant


def _top_up(engine: Engine, account_id: int, micros: int, operation: str) -> None:
    with work(engine) as session:
        top_up(session, account_id, micros, operation=operation, actor="admin", now=NOW)


def _change(engine: Engine, account_id: int, changes: Changes) -> None:
    with work(engine) as session:
        change_account(session, account_id, changes, actor="admin", now=NOW)


def _talk(engine: Engine, tree: Tree, call_id: str, seconds: int) -> None:
    with work(engine) as session:
        settle(session, [carls_call(tree, call_id, seconds)], now=NOW)


def _alerts(engine: Engine) -> list[Alert]:
    with reading(engine) as session:
        return list_alerts(session, kind="balance.low")


def test_low_is_told_once_and_cleared_well_above(engine: Engine) -> None:
    """5 cents and a tenth of a cent a second; threshold 1 EUR, so cleared at 1.20. Between the two nothing is told."""
    tree = plant(engine)
    _top_up(engine, tree.carl, EURO + 50_000, "t1")
    _change(engine, tree.carl, Changes(low_balance_micros=EURO))
    assert _alerts(engine) == []
    _talk(engine, tree, "c1", 0)
    assert _alerts(engine) == []
    _talk(engine, tree, "c2", 30)  # 8 cents: 0.97 left
    (alert,) = _alerts(engine)
    assert (alert.account_id, alert.subject, alert.cleared_at) == (tree.carl, f"account:{tree.carl}", None)
    assert alert.message == "carl has 0.97 EUR left to spend, less than 1.00."
    assert alert.facts == {"left": "0.97", "threshold": "1.00", "currency": "EUR"}
    _talk(engine, tree, "c3", 30)
    _top_up(engine, tree.carl, 300_000, "t2")  # 1.19: above the threshold, and not yet well
    _talk(engine, tree, "c4", 30)
    _talk(engine, tree, "c5", 30)  # 1.03
    _talk(engine, tree, "c6", 30)  # 0.95: low still, and told already
    (alert,) = _alerts(engine)
    assert alert.cleared_at is None
    _top_up(engine, tree.carl, 250_000, "t3")  # 1.20
    (alert,) = _alerts(engine)
    assert (alert.cleared_at, alert.cleared_by) == (NOW, "admin")
    _talk(engine, tree, "c7", 300)
    assert [alert.cleared_at for alert in _alerts(engine)] == [None, NOW]


def test_a_credit_limit_counts_and_a_change_of_it_is_looked_at(engine: Engine) -> None:
    """What is left includes the credit limit; lowering it raises the alert, taking the threshold away clears it."""
    tree = plant(engine)
    _change(engine, tree.carl, Changes(credit_limit_micros=5 * EURO, low_balance_micros=2 * EURO))
    assert _alerts(engine) == []
    _change(engine, tree.carl, Changes(credit_limit_micros=EURO))
    assert [alert.cleared_at for alert in _alerts(engine)] == [None]
    _change(engine, tree.carl, Changes(low_balance_micros=None))
    assert [alert.cleared_at for alert in _alerts(engine)] == [NOW]


def test_a_threshold_to_clear_of_its_own(engine: Engine) -> None:
    """With 3 EUR to clear, 2.99 is not enough."""
    tree = plant(engine)
    _change(engine, tree.carl, Changes(low_balance_micros=EURO, clear_balance_micros=3 * EURO))
    _top_up(engine, tree.carl, 3 * EURO - 10_000, "t1")
    assert [alert.cleared_at for alert in _alerts(engine)] == [None]
    _top_up(engine, tree.carl, 10_000, "t2")
    assert [alert.cleared_at for alert in _alerts(engine)] == [NOW]


def test_every_level_is_watched_and_many_calls_at_once_tell_once(engine: Engine) -> None:
    """A reseller that pays for its customer's calls gets low by them; eight batches at once raise one alert each."""
    tree = plant(engine)
    _top_up(engine, tree.ray, 10 * EURO, "t1")
    _top_up(engine, tree.cleo, 5 * EURO, "t2")
    for account_id in (tree.ray, tree.cleo):
        _change(engine, account_id, Changes(low_balance_micros=5 * EURO))

    def batch(number: int) -> None:
        with work(engine) as session:
            settle(session, [cleos_call(tree, f"c{number}.{call}", 60) for call in range(5)], now=NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(batch, range(8)))
    # Ray paid 40 × 0.11 of its 5 EUR to the operator, and got as much from cleo.
    assert sorted((alert.account_id, alert.cleared_at) for alert in _alerts(engine)) == [(tree.cleo, None)]
