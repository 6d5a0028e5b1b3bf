"""Commissions: a part of revenue or margin, for a month that is over, booked once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis
from sqlalchemy import func
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import commission_moves, commissions
from billing.cdrs import settle
from billing.credit.store import CreditStore
from billing.errors import BillingError, NotFound, Refused
from billing.models import AuditRow, Commission, CommissionOf, LedgerTransaction, Operation, Posting
from billing.outbox import sync_all
from billing.store import again, reading, work
from billing.topups import top_up
from tests.integration.test_vouchers import Still
from tests.integration.tree import EURO, NOW, Tree, balance, carls_call, charge, cleos_call, ended, plant

APRIL = datetime(2026, 4, 1, 0, 0, tzinfo=UTC)


def _set(engine: Engine, account_id: int, percent: str, of: CommissionOf = CommissionOf.REVENUE) -> None:
    with work(engine) as session:
        ppm = commissions.read_percent(percent)
        commissions.set_commission(session, account_id, of, ppm, actor="admin", now=NOW)


def _pay(engine: Engine, account_id: int, month: str = "2026-03", **more: Any) -> commissions.PaidOut:
    given: dict[str, Any] = {"actor": "admin", "now": APRIL, **more}
    return again(engine, lambda session: commissions.pay_commission(session, account_id, month, **given))


def _talk(engine: Engine, tree: Tree) -> None:
    """Ten calls of a minute, 11 cents each: carl's in March, and one of his that ended in April."""
    calls = [carls_call(tree, f"c{number}", 60) for number in range(10)]
    late = carls_call(tree, "late", 60)
    late = replace(late, answered_at=APRIL, offered_at=APRIL, ended_at=APRIL)
    with work(engine) as session:
        settle(session, [*calls, late], now=NOW)


def _kept(engine: Engine) -> list[list[str]]:
    with reading(engine) as session:
        tables = (Commission, LedgerTransaction, Posting, Operation, AuditRow)
        return [sorted(str(row.model_dump()) for row in session.exec(select(table)).all()) for table in tables]


def test_a_part_of_the_revenue_is_booked_once(engine: Engine) -> None:
    """12.5 % of ten calls of 0.11 are 0.1375; the call of April does not count; a second time nothing is booked."""
    tree = plant(engine)
    _talk(engine, tree)
    _set(engine, tree.carl, "12.5")
    before = balance(engine, tree.carl_wallet)
    done = _pay(engine, tree.carl)
    assert (done.base_micros, done.amount_micros, done.replayed) == (1_100_000, 137_500, False)
    assert balance(engine, tree.carl_wallet) == before + 137_500
    kept = _kept(engine)
    assert _pay(engine, tree.carl).replayed
    assert _kept(engine) == kept
    with reading(engine) as session:
        reason = session.exec(select(LedgerTransaction.reason).where(LedgerTransaction.kind == "commission")).one()
        assert reason == "12.5 % of the revenue of 2026-03"
        assert session.exec(select(func.sum(Posting.amount_micros))).one() == 0


def test_many_at_once_book_one(engine: Engine) -> None:
    """Sixteen payers of the same month at once: one posting."""
    tree = plant(engine)
    _talk(engine, tree)
    _set(engine, tree.carl, "10")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: _pay(engine, tree.carl), range(16)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 15
    with reading(engine) as session:
        assert len(session.exec(select(LedgerTransaction).where(LedgerTransaction.kind == "commission")).all()) == 1


def test_a_part_of_what_was_left_to_a_reseller(engine: Engine) -> None:
    """Cleo pays ray 0.20 for what costs ray 0.11: of ten times 0.09 half is 0.45, out of ray's own money."""
    tree = plant(engine)
    with work(engine) as session:
        top_up(session, tree.ray, EURO, operation="t", actor="admin", now=NOW)
    calls = []
    for number in range(10):
        cleos = charge(tree.cleo, tree.cleo_wallet, tree.ray_wallet, 60, amount_micros=200_000)
        rays = charge(tree.ray, tree.ray_wallet, tree.income, 60)
        calls.append(ended(f"c{number}", tree.cleo, cleos, rays, seconds=60))
    with work(engine) as session:
        settle(session, calls, now=NOW)
    _set(engine, tree.cleo, "50", CommissionOf.MARGIN)
    ray, cleo = balance(engine, tree.ray_wallet), balance(engine, tree.cleo_wallet)
    done = _pay(engine, tree.cleo)
    assert (done.base_micros, done.amount_micros) == (900_000, 450_000)
    assert balance(engine, tree.ray_wallet) == ray - 450_000
    assert balance(engine, tree.cleo_wallet) == cleo + 450_000


def test_calls_whose_cost_nobody_knows_earn_nothing_of_the_margin(engine: Engine) -> None:
    """Without a carrier's cost there is no margin: nothing is booked, and the count says why."""
    tree = plant(engine)
    _talk(engine, tree)
    _set(engine, tree.carl, "50", CommissionOf.MARGIN)
    with reading(engine) as session:
        found = commissions.earned(session, tree.carl, "2026-03")
        assert (found.calls, found.without_cost, found.amount_micros) == (0, 10, 0)
    done = _pay(engine, tree.carl)
    assert (done.amount_micros, done.applied) == (0, ())


async def test_a_reseller_without_the_money_is_asked_again(engine: Engine) -> None:
    """Refused and nothing booked; once ray has the money the same month is paid, and only once."""
    tree = plant(engine, ray_credit=0)
    with work(engine) as session:
        calls = [cleos_call(tree, f"c{number}", 60) for number in range(10)]
        settle(session, calls, now=NOW)
    _set(engine, tree.cleo, "10")
    credit = CreditStore(FakeAsyncRedis(decode_responses=True))
    await sync_all(engine, credit)
    clock = Still(APRIL)
    before = balance(engine, tree.cleo_wallet)
    for _ in range(2):
        with pytest.raises(Refused, match=r"lacks 0\.11 EUR"):
            await commission_moves.pay(engine, credit, tree.cleo, "2026-03", actor="admin", clock=clock)
    assert balance(engine, tree.cleo_wallet) == before
    assert await credit.holds() == []
    with work(engine) as session:
        top_up(session, tree.ray, EURO, operation="t", actor="admin", now=NOW)
    for replayed in (False, True):
        done, live = await commission_moves.pay(engine, credit, tree.cleo, "2026-03", actor="admin", clock=clock)
        assert (done.amount_micros, done.replayed, live) == (110_000, replayed, True)
    assert balance(engine, tree.cleo_wallet) == before + 110_000
    wallet = await credit.wallet(tree.ray_wallet)
    assert wallet is not None
    assert (wallet.balance_micros, wallet.held_micros) == (EURO - 110_000, 0)


def test_what_is_no_commission_is_refused(engine: Engine) -> None:
    """A month that is not over, a wrong percentage, nobody's commission, one's own: nothing changes."""
    tree = plant(engine)
    _talk(engine, tree)
    _set(engine, tree.carl, "10")
    before = _kept(engine)
    for text in ("0", "100.1", "-5", "1e1", "ten", "0.00001", ""):
        with pytest.raises(Refused):
            commissions.read_percent(text)
    cases: list[tuple[int, str, dict[str, Any], type[BillingError]]] = [
        (tree.carl, "2026-04", {}, Refused),
        (tree.carl, "2026-13", {}, Refused),
        (tree.cleo, "2026-03", {}, NotFound),
        (999, "2026-03", {}, NotFound),
        (tree.operator, "2026-03", {}, NotFound),
    ]
    for account_id, month, more, error in cases:
        with pytest.raises(error):
            _pay(engine, account_id, month, **more)
    for account_id, within, failure in (
        (tree.operator, None, Refused),
        (tree.ray, tree.ray, Refused),
        (tree.carl, tree.ray, NotFound),
    ):
        with pytest.raises(failure), work(engine) as session:
            commissions.set_commission(
                session, account_id, CommissionOf.REVENUE, 1000, within=within, actor="ray", now=NOW
            )
    assert _kept(engine) == before
    with work(engine) as session:
        commissions.set_commission(session, tree.carl, None, 0, actor="admin", now=NOW)
    with pytest.raises(NotFound):
        _pay(engine, tree.carl)
