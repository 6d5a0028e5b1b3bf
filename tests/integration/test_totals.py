"""Totals: what a sum over all records would say, at any moment, however often and by whomever they are rolled."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from billing.cdrs import EndedCall, settle
from billing.models import Cdr, Charge, LedgerTotal
from billing.store import reading, work
from billing.topups import top_up
from billing.totals import CallSum, MoneySum, behind, call_sums, ledger_sums, money_sums, roll
from billing.trial_balance import trial_balance
from tests.integration.tree import EURO, NOW, Tree, carls_call, cleos_call, ended, plant

FROM, TO = date(2026, 2, 1), date(2026, 4, 1)
HUGE = date(2000, 1, 1), date(2100, 1, 1)


def _calls(tree: Tree, number: int) -> list[EndedCall]:
    """A few calls over three days: cleo's over ray, carl's, and refused ones."""
    made: list[EndedCall] = []
    for n in range(number):
        later: dict[str, Any] = {"ended_at": NOW + timedelta(hours=7 * n), "switch": "pbx" if n % 4 else "sip"}
        made.append(
            cleos_call(tree, f"a:{n}", 10 + n, **later)
            if n % 3 == 0
            else carls_call(tree, f"a:{n}", 20 + n, **later)
            if n % 3 == 1
            else ended(f"a:{n}", tree.carl if n % 2 else None, disposition="refused", reason="no_money", **later)
        )
    return made


def _by_hand(session: Session) -> tuple[Counter[object], Counter[object]]:
    """Add up calls and money record by record."""
    calls: Counter[object] = Counter()
    money: Counter[object] = Counter()
    for record in session.exec(select(Cdr)):
        calls[record.account_id or 0, record.ended_at.date(), record.disposition] += 1
    for charge in session.exec(select(Charge)):
        money[charge.account_id, charge.ended_at.date(), "spent"] += charge.amount_micros
    return calls, money


def _agree(engine: Engine) -> None:
    with reading(engine) as session:
        calls, money = _by_hand(session)
        said: Counter[object] = Counter()
        for row in call_sums(session, "account", *HUGE):
            said[row.account_id, row.day, row.disposition] += row.calls
        assert said == calls
        assert sum(row.calls for row in call_sums(session, "all", *HUGE)) == calls.total()
        assert sum(row.calls for row in call_sums(session, "destination", *HUGE)) == calls.total()
        paid: Counter[object] = Counter()
        for sum_ in money_sums(session, "account", *HUGE):
            if sum_.spent_micros:
                paid[sum_.account_id, sum_.day, "spent"] += sum_.spent_micros
        assert paid == money


def test_totals_are_exact_before_while_and_after_they_are_rolled(engine: Engine) -> None:
    """In portions of any size, again with nothing new, and with calls that came in between."""
    tree = plant(engine)
    with work(engine) as session:
        settle(session, _calls(tree, 12), now=NOW)
    _agree(engine)
    for _ in range(3):
        with work(engine) as session:
            roll(session, most=5)
        _agree(engine)
    with work(engine) as session:
        assert roll(session) > 0
        assert roll(session) == 0
        assert behind(session) == 0
    _agree(engine)
    with work(engine) as session:
        settle(session, _calls(tree, 20), now=NOW)
        assert behind(session) >= 8  # numbers may have gaps
    _agree(engine)
    with work(engine) as session:
        roll(session)
    _agree(engine)


def test_totals_tell_apart_what_their_scope_says(engine: Engine) -> None:
    """One call of 31 s over a reseller, by hand: 0.05 + 60 s × 0.001 = 0.11 for each level."""
    tree = plant(engine)
    with work(engine) as session:
        settle(session, [cleos_call(tree, "a:1", 31), ended("a:2", None, disposition="refused", reason="x")], now=NOW)
    day = NOW.date()
    for rolled in (False, True):
        with work(engine) as session:
            if rolled:
                roll(session)
            assert call_sums(session, "all", day, day) == [
                CallSum(0, day, "outbound", "answered", "", "sw", "", 1, 31_000, 31_000),
                CallSum(0, day, "outbound", "refused", "", "sw", "x", 1, 0, 0),
            ]
            assert call_sums(session, "account", day, day, account_ids=[tree.cleo]) == [
                CallSum(tree.cleo, day, "outbound", "answered", "Berlin", "", "", 1, 31_000, 31_000)
            ]
            assert money_sums(session, "all", day, day) == [
                MoneySum(0, day, "EUR", "outbound", "", 1, 60, 110_000, 110_000)
            ]
            assert money_sums(session, "account", day, day) == [
                MoneySum(tree.ray, day, "EUR", "outbound", "Berlin", 1, 60, 110_000, 110_000),
                MoneySum(tree.cleo, day, "EUR", "outbound", "Berlin", 1, 60, 110_000, 0),
            ]
            assert call_sums(session, "all", day + timedelta(days=1), day + timedelta(days=9)) == []


def test_several_roll_at_once_and_each_record_counts_once(engine: Engine) -> None:
    """Four processes roll while calls come in."""
    tree = plant(engine)
    calls = _calls(tree, 120)

    def write(part: int) -> None:
        for at in range(part, 120, 4):
            with work(engine) as session:
                settle(session, [calls[at]], now=NOW)

    def keep_rolling(_: int) -> None:
        for _ in range(15):
            try:
                with work(engine) as session:
                    roll(session, most=7)
            except OperationalError:
                continue  # somebody numbers for too long: later

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: job[0](job[1]), [(f, n) for n in range(4) for f in (write, keep_rolling)]))
    _agree(engine)
    with work(engine) as session:
        while roll(session):
            pass
    _agree(engine)


def test_a_record_that_becomes_visible_late_is_not_passed_over(engine: Engine) -> None:
    """A unit of work that has its numbers but no commit yet holds the roll back; none is lost."""
    if engine.dialect.name == "sqlite":
        return  # it has one writer: the second waits at its beginning
    tree = plant(engine)
    numbered, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        with work(engine) as session:
            settle(session, [carls_call(tree, "a:1", 31)], now=NOW)
            numbered.set()
            go_on.wait(10)

    with ThreadPoolExecutor(1) as pool:
        slowly = pool.submit(slow)
        numbered.wait(10)
        with work(engine) as session:
            # Not by the front door: it would wait for nobody.
            session.execute(text("INSERT INTO cdr_key (call_id, ended_at) VALUES ('a:2', now())"))
        with pytest.raises(OperationalError), work(engine) as session:
            roll(session)
        go_on.set()
        slowly.result(10)
    with work(engine) as session:
        assert roll(session) > 0
    _agree(engine)


def test_the_trial_balance_is_the_same_rolled_or_not(engine: Engine) -> None:
    """At every moment: before, within and after the days that are rolled."""
    tree = plant(engine)
    for n in range(6):
        with work(engine) as session:
            top_up(
                session, tree.carl, (n + 1) * EURO, operation=f"t{n}", actor="test", now=NOW + timedelta(hours=9 * n)
            )
    moments = [None, *(NOW + timedelta(hours=h) for h in range(-9, 60, 3))]
    with reading(engine) as session:
        before = [trial_balance(session, at=moment) for moment in moments]
    for most in (3, 100):
        with work(engine) as session:
            roll(session, most=most)
        with reading(engine) as session:
            assert [trial_balance(session, at=moment) for moment in moments] == before
            assert session.exec(select(LedgerTotal)).all()
    with reading(engine) as session:
        sums = ledger_sums(session, None)
    assert {kind.value: sides for (kind, _), sides in sums.items()} == {
        "cash": (21 * EURO, 0),
        "money": (0, 21 * EURO),
    }
