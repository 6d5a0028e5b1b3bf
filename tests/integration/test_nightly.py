"""The check as it is run: once a night by one process, in portions, parking what it names; lifted by one action."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import nightly, outbox
from billing.alerts import list_alerts
from billing.cdrs import settle
from billing.credit.store import CreditStore, HoldCode, NotHeld, Share
from billing.housekeeping import Housekeeping
from billing.models import Account, AccountStatus, BooksRun
from billing.nightly import check_books, is_due, last_run, lift
from billing.ports import to_ms
from billing.settings import BooksSettings
from billing.store import reading, work
from billing.topups import top_up
from billing.totals import behind
from tests.integration.test_books import _tamper
from tests.integration.tree import EURO, NOW, Tree, carls_call, cleos_call, ended, plant

BERLIN = ZoneInfo("Europe/Berlin")


@dataclass
class Clock:
    """Stands until it is moved."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


@pytest.fixture
async def tree(engine: Engine, credit: CreditStore) -> Tree:
    """A day's work, that Redis knows of."""
    made = plant(engine)
    for number, account_id in enumerate((made.ray, made.carl)):
        with work(engine) as session:
            top_up(session, account_id, 10 * EURO, operation=f"t{number}", actor="test", now=NOW)
    with work(engine) as session:
        calls = [cleos_call(made, "sw:1", 31), carls_call(made, "sw:2", 90), ended("sw:3", None, disposition="refused")]
        settle(session, calls, now=NOW)
    await outbox.sync_all(engine, credit)
    await outbox.drain(engine, credit, clock=Clock())
    return made


async def _run(engine: Engine, credit: CreditStore | None, *, everything: bool = False) -> BooksRun:
    run = await check_books(engine, credit, everything=everything, actor="eva", clock=Clock())
    assert run is not None
    return run


def _status(engine: Engine, account_id: int) -> AccountStatus:
    with reading(engine) as session:
        return session.exec(select(Account).where(Account.id == account_id)).one().status


async def test_a_check_looks_at_what_is_new(engine: Engine, credit: CreditStore, tree: Tree) -> None:
    """The first reads all, the second nothing, the third what came since; a full one all again."""
    first = await _run(engine, credit)
    assert (first.transactions, first.cdrs, first.wallets, first.findings) == (4, 3, 3, [])
    assert first.credit_asked
    again = await _run(engine, credit)
    assert (again.transactions, again.cdrs, again.wallets) == (0, 0, 0)
    with work(engine) as session:
        settle(session, [carls_call(tree, "sw:4", 31)], now=NOW)
    third = await _run(engine, None)
    assert (third.transactions, third.cdrs, third.wallets, third.credit_asked) == (1, 1, 1, False)
    whole = await _run(engine, credit, everything=True)
    assert (whole.transactions, whole.wallets, whole.findings) == (5, 3, [])
    with reading(engine) as session:
        kept = last_run(session)
        assert kept is not None
        assert kept.id == whole.id
        assert kept.ended_at == NOW


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        ("UPDATE posting SET amount_micros = amount_micros + 5 WHERE id = 4", 1),
        ("UPDATE wallet SET balance_micros = balance_micros + 1 WHERE id = {carl}", 2),
        ("UPDATE wallet SET seq = seq + 1 WHERE id = {carl}", 12),
        ("UPDATE charge SET amount_micros = amount_micros + 1 WHERE call_id = 'sw:2'", 6),
        ("UPDATE cdr SET cost_micros = 1 WHERE call_id = 'sw:2'", 5),
        ("UPDATE cdr SET transaction_id = NULL WHERE call_id = 'sw:2'", 5),
        ("UPDATE outbox SET amount_micros = 1 WHERE wallet_id = {carl} AND seq = 1", 2),
        ("DELETE FROM posting WHERE wallet_id = {carl} AND seq = 1", 2),
    ],
)
async def test_what_is_broken_is_parked(
    engine: Engine, credit: CreditStore, tree: Tree, damage: str, rule: int
) -> None:
    """The account makes no new calls, in Redis too; an alert says why; nobody else is touched."""
    _tamper(engine, damage.format(carl=tree.carl_wallet))
    run = await _run(engine, credit, everything="wallet" in damage)
    assert rule in {finding["invariant"] for finding in run.findings}
    assert _status(engine, tree.carl) is AccountStatus.PARKED
    assert _status(engine, tree.cleo) is AccountStatus.ACTIVE
    share = [Share(tree.carl_wallet, tree.carl, 1)]
    held = await credit.hold("sw:9", share, now_ms=to_ms(NOW), deadline_ms=to_ms(NOW) + 1000, facts="{}")
    assert isinstance(held, NotHeld)
    assert held.code is HoldCode.INACTIVE
    with reading(engine) as session:
        (alert,) = list_alerts(session, account_ids=[tree.carl])
        assert (alert.kind, alert.subject, alert.cleared_at) == ("books.broken", f"account:{tree.carl}", None)
        assert rule in alert.facts["rules"]


async def test_a_parked_account_is_lifted_by_one_action(engine: Engine, credit: CreditStore, tree: Tree) -> None:
    """Lifted, it is active and its alert is cleared; lifting one that is not parked changes nothing."""
    _tamper(engine, "UPDATE cdr SET cost_micros = 1 WHERE call_id = 'sw:2'")
    await _run(engine, credit)
    _tamper(engine, "UPDATE cdr SET cost_micros = 140000 WHERE call_id = 'sw:2'")
    with work(engine) as session:
        assert lift(session, tree.carl, actor="eva", now=NOW)
        assert not lift(session, tree.carl, actor="eva", now=NOW)
    assert _status(engine, tree.carl) is AccountStatus.ACTIVE
    with reading(engine) as session:
        (alert,) = list_alerts(session)
        assert (alert.cleared_at, alert.cleared_by) == (NOW, "eva")


async def test_redis_that_differs_parks_too(engine: Engine, credit: CreditStore, tree: Tree) -> None:
    """Money in Redis that SQL does not have could be spent: its account waits for a person."""
    await credit._redis.hincrby("{callctl}:w:" + str(tree.carl_wallet), "balance", 5)
    run = await _run(engine, credit)
    assert [(finding["invariant"], finding["accounts"]) for finding in run.findings] == [(2, [tree.carl])]
    assert _status(engine, tree.carl) is AccountStatus.PARKED


def test_the_night_check_is_due_once_a_day_by_the_local_clock(engine: Engine) -> None:
    """03:30 in Berlin is 02:30 UTC in winter and 01:30 in summer; before it, the one of yesterday is due."""
    at = time(3, 30)
    with work(engine) as session:
        winter = is_due(session, datetime(2026, 1, 10, 2, 30, tzinfo=UTC), at=at, zone=BERLIN)
        before = is_due(session, datetime(2026, 1, 10, 2, 29, tzinfo=UTC), at=at, zone=BERLIN)
        summer = is_due(session, datetime(2026, 7, 10, 1, 30, tzinfo=UTC), at=at, zone=BERLIN)
        assert winter == datetime(2026, 1, 10, 2, 30, tzinfo=UTC)
        assert before == datetime(2026, 1, 9, 2, 30, tzinfo=UTC)
        assert summer == datetime(2026, 7, 10, 1, 30, tzinfo=UTC)
        session.add(BooksRun(due_at=winter, everything=False, actor="x", started_at=winter))
        session.flush()
        assert is_due(session, winter + timedelta(hours=1), at=at, zone=BERLIN) is None
        # It was stopped half-way: somebody else makes it.
        assert is_due(session, winter + timedelta(hours=3), at=at, zone=BERLIN) == winter


async def test_of_many_processes_one_makes_the_night_check(engine: Engine, credit: CreditStore, tree: Tree) -> None:
    """Six look at the same moment; there is one run, and it is not made again that day."""
    clock = Clock(NOW + timedelta(days=1))
    houses = [Housekeeping(engine, credit, BooksSettings(everything_on="mon"), clock) for _ in range(6)]
    await asyncio.gather(*(house.check_if_due() for house in houses))
    with reading(engine) as session:
        (run,) = session.exec(select(BooksRun)).all()
        assert (run.actor, run.everything) == ("nightly", True)  # the 2nd of March 2026 is a Monday
        assert run.transactions == 4
    clock.at += timedelta(hours=5)
    await houses[0].check_if_due()
    with reading(engine) as session:
        assert len(session.exec(select(BooksRun)).all()) == 1
    assert tree


async def test_a_run_that_was_stopped_is_taken_over(
    engine: Engine, credit: CreditStore, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that died in its check leaves it to the next one."""
    clock = Clock(NOW)
    house = Housekeeping(engine, credit, BooksSettings(), clock)

    def die(*_: object) -> None:
        raise RuntimeError("the process dies")

    with monkeypatch.context() as patch:
        patch.setattr(nightly, "_look", die)
        with pytest.raises(RuntimeError):
            await house.check_if_due()
    await house.check_if_due()
    with reading(engine) as session:
        assert last_run(session) is None
    clock.at += timedelta(hours=3)
    await house.check_if_due()
    with reading(engine) as session:
        (run,) = session.exec(select(BooksRun)).all()
        assert run.ended_at == clock.at
    assert tree


async def test_housekeeping_rolls_and_reaps(engine: Engine, credit: CreditStore, tree: Tree) -> None:
    """Totals come up to date, and what was set aside for nothing comes back."""
    clock = Clock(NOW)
    house = Housekeeping(engine, credit, BooksSettings(), clock)
    await house.roll_totals()
    await house.make_months()
    with reading(engine) as session:
        assert behind(session) == 0
    share = [Share(tree.carl_wallet, tree.carl, EURO)]
    await credit.reserve("op:0123456789abcdef:x", share, now_ms=to_ms(NOW), deadline_ms=to_ms(NOW) + 1000)
    clock.at += timedelta(minutes=1)
    await house.reap()
    view = await credit.wallet(tree.carl_wallet)
    assert view is not None
    assert view.held_micros == 0
