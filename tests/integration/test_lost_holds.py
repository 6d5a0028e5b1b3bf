"""Redis lost its data: what calls that are over cost is held until SQL has it, and not a moment longer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from billing import outbox, topups
from billing.credit.store import CreditStore, WalletView
from billing.errors import CreditUnavailable
from billing.ports import SystemClock
from billing.settings import ControlSettings
from billing.store import work
from callctl import restore
from callctl.journal import Journal
from callctl.settler import Settler, shares_of
from callctl.watch import Watch
from tests.credit_fixtures import DEADLINE_MS, NOW_MS
from tests.integration.test_controller import House, decided, house, server
from tests.integration.tree import EURO, NOW, Tree, carls_call, plant

__all__ = ["house", "server"]

CLOCK = SystemClock()


@asynccontextmanager
async def settling(engine: Engine, credit: CreditStore, tmp_path: Path) -> AsyncIterator[tuple[Settler, Tree]]:
    """Give a settler, and a tree in which carl has one euro; Redis knows both wallets and no call."""
    tree = plant(engine)
    with work(engine) as session:
        topups.top_up(session, tree.carl, EURO, operation="first", actor="test", now=NOW)
    await outbox.sync_all(engine, credit, clock=CLOCK)
    await outbox.drain(engine, credit, clock=CLOCK)
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    yield Settler(engine, credit, journal, CLOCK), tree
    await journal.close()


async def lose(engine: Engine, credit: CreditStore, redis: Redis) -> None:
    """Lose everything, and bring the wallets back from SQL."""
    await redis.flushall()
    await outbox.sync_all(engine, credit, clock=CLOCK)


def away(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, error: Exception) -> None:
    """Let a method of a class raise until the patch is undone."""

    def raises(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(where, name, raises)


async def left(credit: CreditStore, tree: Tree) -> WalletView | None:
    """Return carl's wallet; no channel is taken by anybody."""
    assert await credit.calls_of(tree.carl) == 0
    return await credit.wallet(tree.carl_wallet)


@pytest.mark.parametrize("ends", ["before the loss", "after the loss", "twice"])
async def test_a_cost_is_held_until_its_posting(
    engine: Engine, credit: CreditStore, redis: Redis, tmp_path: Path, ends: str
) -> None:
    """A call ends before its hold is back, or its finished hold is lost: 8 cents stay held, once, and then are paid."""
    async with settling(engine, credit, tmp_path) as (settler, tree):
        call = carls_call(tree, "sw:1", 30)
        assert [share.amount_micros for share in shares_of(call)] == [80_000]
        if ends == "after the loss":
            await lose(engine, credit, redis)
        else:
            await credit.hold("sw:1", shares_of(call), now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="{}")
        await settler.take(call, held=True)
        if ends != "after the loss":
            await lose(engine, credit, redis)
        for _ in range(2 if ends == "twice" else 1):
            await settler.hold_again()
        assert await left(credit, tree) == WalletView(tree.carl_wallet, EURO, 80_000, 0, 1)
        assert await settler._settle_some()
        assert await left(credit, tree) == WalletView(tree.carl_wallet, EURO - 80_000, 0, 0, 2)
        assert (await credit.holds(), settler.backlog) == ([], 0)
        await settler.hold_again()
        await credit.finish("sw:1", shares_of(call), now_ms=NOW_MS)  # late: it was sent long ago
        assert await credit.holds() == []


async def test_what_is_held_late_meets_its_posting(
    engine: Engine, credit: CreditStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have told of the posting before its cost is held for the first time: it is told again, nothing stays."""
    async with settling(engine, credit, tmp_path) as (settler, tree):
        with monkeypatch.context() as patch:
            away(patch, CreditStore, "finish", CreditUnavailable("away"))
            await settler.take(carls_call(tree, "sw:1", 30), held=True)
            assert not await settler._settle_some()
        assert await outbox.drain(engine, credit, clock=CLOCK) == 1
        assert settler.backlog == 1
        assert await settler._settle_some()
        assert await left(credit, tree) == WalletView(tree.carl_wallet, EURO - 80_000, 0, 0, 2)
        assert (await credit.holds(), settler.backlog) == ([], 0)


async def test_a_commit_nobody_heard_of_is_held_no_longer_than_it_is_told(
    engine: Engine, credit: CreditStore, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL has the record, we do not know: the cost is held beside it until it is settled again, and then nothing is."""
    async with settling(engine, credit, tmp_path) as (settler, tree):
        write = Settler._write

        def unheard(self: Settler, calls: Any) -> Any:
            write(self, calls)
            raise OperationalError("COMMIT", {}, Exception("the connection broke"))

        with monkeypatch.context() as patch:
            patch.setattr(Settler, "_write", unheard)
            await settler.take(carls_call(tree, "sw:1", 30), held=True)
            assert not await settler._settle_some()
        await lose(engine, credit, redis)
        await outbox.drain(engine, credit, clock=CLOCK)
        await settler.hold_again()
        assert await left(credit, tree) == WalletView(tree.carl_wallet, EURO - 80_000, 80_000, 0, 2)
        with monkeypatch.context() as patch:
            away(patch, CreditStore, "apply_many", CreditUnavailable("away"))
            assert not await settler._settle_some()
        assert await settler._settle_some()
        assert await left(credit, tree) == WalletView(tree.carl_wallet, EURO - 80_000, 0, 0, 2)
        assert (await credit.holds(), settler.backlog) == ([], 0)


async def test_a_call_that_is_not_on_disk_is_held_so_that_others_find_it(
    engine: Engine, credit: CreditStore, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished hold is taken for a call that is written down: until it is, its hold is open and has its facts."""
    async with settling(engine, credit, tmp_path) as (settler, tree):
        with monkeypatch.context() as patch:
            away(patch, Journal, "_commit", sqlite3.OperationalError("database or disk is full"))
            await settler.take(carls_call(tree, "sw:1", 30), held=True, facts=lambda: "its facts")
            await lose(engine, credit, redis)
            await settler.hold_again()
            found = await credit.find_hold("sw:1")
            assert found is not None
            assert (found.finished, found.facts, found.shares[0].amount_micros) == (False, "its facts", 80_000)
            assert await credit.calls_of(tree.carl) == 1
        assert await settler._settle_some()
        assert await left(credit, tree) == WalletView(tree.carl_wallet, EURO - 80_000, 0, 0, 2)
        assert (await credit.holds(), settler.backlog) == ([], 0)


async def test_a_call_is_promised_no_more_than_its_switch_was_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who adopts a call without its hold may look at what the switch said a second later: its 30 s stay 30 s."""
    house.account("100", "5")
    house.settings = ControlSettings(slice_s=30, renew_before_s=10.0, ring_s=5, resync_s=30.0)
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    house.switch.answer(call)
    await asyncio.sleep(0.2)
    await house.kill()
    await house.lose_redis()

    async def slowly(_watch: Watch, _call_ids: object) -> None:
        await asyncio.sleep(1.2)

    monkeypatch.setattr(Watch, "_recall_refusals", slowly)
    await house.begin()
    async with asyncio.timeout(8):
        while not await house.credit.holds():  # noqa: ASYNC110 - the controller brings it back
            await asyncio.sleep(0.05)
    (hold,) = await house.credit.holds()
    assert hold.shares[0].amount_micros == 300_000
    house.switch.end(call)
    await house.record(call)
    await house.audit()


@pytest.mark.parametrize("ends", ["before the loss", "after the loss"])
async def test_nobody_spends_what_an_ended_call_owes(house: House, monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Redis is empty and SQL cannot be written: the next call is refused, since the money is owed; then it is paid."""
    monkeypatch.setattr(restore, "DRAIN_S", 0.5)
    customer = house.account("100", "0.60")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "33123"))
    house.switch.answer(call)
    await asyncio.sleep(0.2)
    with monkeypatch.context() as patch:
        away(patch, Settler, "_write", OperationalError("INSERT", {}, Exception("the store is away")))
        if ends == "before the loss":
            house.switch.end(call)
            await asyncio.sleep(0.2)
        await house.lose_redis()
        if ends == "after the loss":
            house.switch.end(call)
        await asyncio.sleep(3.0)
        second = await decided(house.switch.offer(2, "100", "33123"))
        assert second.refused
        assert second.refused.code == "no_money"
    assert (await house.record(call)).cost_micros == 600_000
    await house.record(second)
    assert await house.balance(customer) == 0
    await house.audit()
