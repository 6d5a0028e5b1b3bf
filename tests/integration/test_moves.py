"""Movements of money beside live calls: what is held is not moved, what is moved is not held, and each is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from billing import moves, outbox, transfers
from billing.accounts import set_status
from billing.books import check_credit, check_store
from billing.cdrs import settle
from billing.credit.store import CreditStore, Held, HoldCode, NotHeld, Share
from billing.errors import BillingError, CreditUnavailable, NotFound, OtherBody, Refused, TooLarge
from billing.models import AccountStatus, AuditRow, LedgerTransaction, OutboxRow, Posting, Wallet
from billing.ports import SystemClock, to_ms
from billing.store import Remembered, reading, work
from billing.topups import top_up
from tests.credit_fixtures import everything
from tests.integration.tree import EURO, Tree, balance, carls_call, plant

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
"""As the clock of these tests begins."""


@dataclass
class FakeClock:
    """A clock that stands until it is moved."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0

    def move(self, by: timedelta) -> None:
        self.at += by


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands."""
    return FakeClock(AT)


@pytest.fixture
async def tree(engine: Engine, credit: CreditStore, clock: FakeClock) -> AsyncIterator[Tree]:
    """Ray has 10 EUR, and Redis knows everybody."""
    made = plant(engine)
    with work(engine) as session:
        top_up(session, made.ray, 10 * EURO, operation="fund", actor="test", now=AT)
    await outbox.sync_all(engine, credit)
    await outbox.drain(engine, credit, clock=clock)
    yield made
    await _clean(engine, credit)


async def _clean(engine: Engine, credit: CreditStore) -> None:
    with reading(engine) as session:
        assert check_store(session).findings == ()
        assert (await check_credit(session, credit))[1] == ()


def _rows(engine: Engine) -> list[object]:
    with reading(engine) as session:
        tables = (LedgerTransaction, Posting, OutboxRow, Wallet, AuditRow)
        return [row.model_dump() for table in tables for row in session.exec(select(table)).all()]


async def _view(credit: CreditStore, wallet_id: int) -> tuple[int, int]:
    view = await credit.wallet(wallet_id)
    assert view is not None
    return view.balance_micros, view.held_micros


async def _call(credit: CreditStore, tree: Tree, amount: int, call_id: str = "sw:1") -> Held | NotHeld:
    now_ms = to_ms(AT)
    share = [Share(tree.ray_wallet, tree.ray, amount)]
    return await credit.hold(call_id, share, now_ms=now_ms, deadline_ms=now_ms + 60_000, facts="{}")


async def test_a_reseller_tops_up_out_of_its_own_wallet(
    engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock
) -> None:
    """What the customer gets the reseller has no more, in SQL and in Redis; told again, nothing moves."""
    for replayed in (False, True):
        moved = await moves.pay_in(engine, credit, tree.cleo, 4 * EURO, operation="t1", actor="ray", clock=clock)
        assert (moved.done.balance_micros, moved.done.replayed, moved.live) == (4 * EURO, replayed, True)
        assert (balance(engine, tree.ray_wallet), balance(engine, tree.cleo_wallet)) == (6 * EURO, 4 * EURO)
        assert await _view(credit, tree.ray_wallet) == (6 * EURO, 0)
        assert await _view(credit, tree.cleo_wallet) == (4 * EURO, 0)
    assert await credit.holds() == []


async def test_what_calls_hold_is_not_transferred(
    engine: Engine, credit: CreditStore, redis: Redis, tree: Tree, clock: FakeClock
) -> None:
    """With 7 of 10 held by a call, 4 are refused and stay refused under their id; 3 go."""
    assert isinstance(await _call(credit, tree, 7 * EURO), Held)
    rows, keys = _rows(engine), await everything(redis)
    for _ in range(2):
        with pytest.raises(Remembered, match=r"'ray' lacks 1\.00 EUR"):
            await moves.transfer(
                engine, credit, tree.ray, tree.cleo, 4 * EURO, operation="x1", actor="ray", clock=clock
            )
    assert (_rows(engine), await everything(redis)) == (rows, keys)
    moved = await moves.transfer(
        engine, credit, tree.ray, tree.cleo, 3 * EURO, operation="x2", actor="ray", clock=clock
    )
    assert moved.done.balance_micros == 7 * EURO
    assert await _view(credit, tree.ray_wallet) == (7 * EURO, 7 * EURO)
    await credit.release("sw:1", now_ms=to_ms(AT))
    with pytest.raises(Remembered):
        await moves.transfer(engine, credit, tree.ray, tree.cleo, 4 * EURO, operation="x1", actor="ray", clock=clock)


async def test_what_a_movement_set_aside_is_not_held_by_a_call(
    engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the reservation and SQL a call gets only the rest, and no channel is counted for the movement."""
    seen: list[Held | NotHeld] = []
    loop = asyncio.get_running_loop()
    real = transfers.transfer

    def spy(session: Session, *args: int, **options: Any) -> object:
        seen.append(asyncio.run_coroutine_threadsafe(_call(credit, tree, 4 * EURO), loop).result(5))
        return real(session, *args, **options)

    monkeypatch.setattr(transfers, "transfer", spy)
    await moves.transfer(engine, credit, tree.ray, tree.cleo, 7 * EURO, operation="x1", actor="ray", clock=clock)
    (answer,) = seen
    assert isinstance(answer, NotHeld)
    assert (answer.code, answer.available) == (HoldCode.NO_MONEY, (3 * EURO,))
    assert await credit.calls_of(tree.ray) == 0


async def test_calls_and_movements_at_once_never_spend_a_cent_twice(
    engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock
) -> None:
    """Ten calls of 2 EUR and ten transfers of 2 EUR on 10 EUR: five of them get it, whichever."""

    async def move(number: int) -> bool:
        try:
            await moves.transfer(
                engine, credit, tree.ray, tree.cleo, 2 * EURO, operation=f"x{number}", actor="ray", clock=clock
            )
        except BillingError:
            return False
        return True

    async def call(number: int) -> bool:
        return isinstance(await _call(credit, tree, 2 * EURO, f"sw:{number}"), Held)

    done = await asyncio.gather(*(one for n in range(10) for one in (move(n), call(n))))
    moved, held = sum(done[::2]), sum(done[1::2])
    assert moved + held == 5
    assert await _view(credit, tree.ray_wallet) == ((10 - 2 * moved) * EURO, 2 * held * EURO)


async def test_the_same_movement_told_twice_at_once_is_done_once(
    engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock
) -> None:
    """Eight requests with one id on a wallet that pays for one: all get the same answer, and the money moves once."""
    told = await asyncio.gather(
        *(
            moves.transfer(engine, credit, tree.ray, tree.cleo, 8 * EURO, operation="x", actor="ray", clock=clock)
            for _ in range(8)
        )
    )
    assert len({moved.done.transaction_id for moved in told}) == 1
    assert sorted(moved.done.replayed for moved in told) == [False, *[True] * 7]
    assert await _view(credit, tree.ray_wallet) == (2 * EURO, 0)


async def test_another_body_under_the_same_id_leaves_nothing(
    engine: Engine, credit: CreditStore, redis: Redis, tree: Tree, clock: FakeClock
) -> None:
    """The id of a transfer is good for that transfer only."""
    await moves.transfer(engine, credit, tree.ray, tree.cleo, EURO, operation="x", actor="ray", clock=clock)
    rows, keys = _rows(engine), await everything(redis)
    with pytest.raises(OtherBody):
        await moves.transfer(engine, credit, tree.ray, tree.cleo, 2 * EURO, operation="x", actor="ray", clock=clock)
    with pytest.raises(OtherBody):
        await moves.pay_in(engine, credit, tree.cleo, EURO, operation="x", actor="ray", clock=clock)
    assert (_rows(engine), await everything(redis)) == (rows, keys)


async def test_who_may_not_transfer(
    engine: Engine, credit: CreditStore, redis: Redis, tree: Tree, clock: FakeClock
) -> None:
    """Not a neighbour, the operator, nobody, nothing, too much: refused at once, nothing changed and nothing told."""
    rows, keys = _rows(engine), await everything(redis)
    for giver, taker, amount, error in (
        (tree.ray, tree.carl, EURO, Refused),
        (tree.operator, tree.ray, EURO, Refused),
        (tree.ray, tree.operator, EURO, Refused),
        (tree.ray, tree.ray, EURO, Refused),
        (tree.ray, 99, EURO, NotFound),
        (tree.ray, tree.cleo, 0, Refused),
        (tree.ray, tree.cleo, -1, Refused),
        (tree.ray, tree.cleo, 2**53, (TooLarge, CreditUnavailable)),
    ):
        with pytest.raises(error):
            await moves.transfer(engine, credit, giver, taker, amount, operation="x", actor="ray", clock=clock)
    assert (_rows(engine), await everything(redis)) == (rows, keys)
    with work(engine) as session:
        set_status(session, tree.ray, AccountStatus.BLOCKED, actor="eva", now=AT)
    with pytest.raises(Remembered, match="blocked"):
        await moves.transfer(engine, credit, tree.ray, tree.cleo, EURO, operation="b", actor="ray", clock=clock)
    assert await credit.holds() == []


async def test_money_goes_back_up(engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock) -> None:
    """A customer's money can be given back to the reseller above, as far as it goes."""
    await moves.pay_in(engine, credit, tree.cleo, 4 * EURO, operation="t1", actor="ray", clock=clock)
    await moves.transfer(engine, credit, tree.cleo, tree.ray, 3 * EURO, operation="x1", actor="ray", clock=clock)
    with pytest.raises(Remembered):
        await moves.transfer(engine, credit, tree.cleo, tree.ray, 2 * EURO, operation="x2", actor="ray", clock=clock)
    assert await _view(credit, tree.ray_wallet) == (9 * EURO, 0)


async def test_without_redis_no_money_of_a_reseller_moves(
    engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be set aside is not moved; the operator's own top-ups and corrections beyond go on, told later."""
    rows = _rows(engine)

    async def down(*_: object, **__: object) -> None:
        raise CreditUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(credit, "reserve", down)
        patch.setattr(credit, "apply_many", down)
        with pytest.raises(CreditUnavailable):
            await moves.pay_in(engine, credit, tree.cleo, EURO, operation="t1", actor="ray", clock=clock)
        assert _rows(engine) == rows
        moved = await moves.pay_in(engine, credit, tree.carl, EURO, operation="t2", actor="eva", clock=clock)
        assert moved.live is False
    assert await _view(credit, tree.carl_wallet) == (0, 0)
    await outbox.drain(engine, credit, clock=clock)
    assert await _view(credit, tree.carl_wallet) == (EURO, 0)
    assert (await moves.pay_in(engine, credit, tree.cleo, EURO, operation="t1", actor="ray", clock=clock)).live


async def test_a_movement_that_stopped_half_way_is_cleared(
    engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before SQL the money comes back, after SQL it is gone once; either way the id can be told again."""

    def stop(*_: object, **__: object) -> None:
        raise RuntimeError("the process dies")

    with monkeypatch.context() as patch:
        patch.setattr(transfers, "transfer", stop)
        with pytest.raises(RuntimeError):
            await moves.transfer(engine, credit, tree.ray, tree.cleo, EURO, operation="x1", actor="ray", clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(outbox, "apply_now", stop)
        with pytest.raises(RuntimeError):
            await moves.transfer(
                engine, credit, tree.ray, tree.cleo, 2 * EURO, operation="x2", actor="ray", clock=clock
            )
    assert await _view(credit, tree.ray_wallet) == (10 * EURO, 3 * EURO)
    assert await moves.reap(engine, credit, clock=clock) == 0
    clock.move(timedelta(minutes=6))
    assert await moves.reap(engine, credit, clock=clock) == 2
    assert await _view(credit, tree.ray_wallet) == (8 * EURO, 0)
    for operation, amount in (("x1", EURO), ("x2", 2 * EURO)):
        await moves.transfer(engine, credit, tree.ray, tree.cleo, amount, operation=operation, actor="ray", clock=clock)
    assert await _view(credit, tree.ray_wallet) == (7 * EURO, 0)
    assert await _view(credit, tree.cleo_wallet) == (3 * EURO, 0)
    await outbox.drain(engine, credit, clock=clock)


async def test_a_correction_takes_only_what_no_call_holds(
    engine: Engine, credit: CreditStore, tree: Tree, clock: FakeClock
) -> None:
    """The fund of 10 EUR cannot be undone while a call holds 7 of it; beyond, it can, and the wallet is in debt."""
    assert isinstance(await _call(credit, tree, 7 * EURO), Held)
    with pytest.raises(Remembered, match=r"lacks 7\.00 EUR"):
        await moves.reverse(engine, credit, 1, operation="r1", actor="eva", reason="bounced", clock=clock)
    with pytest.raises(Remembered, match=r"lacks 1\.00 EUR"):
        await moves.adjust(engine, credit, tree.ray, -4 * EURO, operation="a1", actor="eva", reason="fee", clock=clock)
    await moves.adjust(engine, credit, tree.ray, -3 * EURO, operation="a2", actor="eva", reason="fee", clock=clock)
    await moves.adjust(engine, credit, tree.carl, EURO, operation="a3", actor="eva", reason="gift", clock=clock)
    assert await _view(credit, tree.ray_wallet) == (7 * EURO, 7 * EURO)
    await credit.release("sw:1", now_ms=to_ms(AT))
    moved = await moves.reverse(
        engine, credit, 1, operation="r2", actor="eva", reason="bounced", beyond=True, clock=clock
    )
    assert moved.live
    assert await _view(credit, tree.ray_wallet) == (-3 * EURO, 0)


async def test_a_call_is_undone_for_everybody(engine: Engine, credit: CreditStore, clock: FakeClock) -> None:
    """Reversing a call gives the customer back what it paid."""
    tree = plant(engine)
    with work(engine) as session:
        settle(session, [carls_call(tree, "sw:1", 60)], now=AT)
    await outbox.sync_all(engine, credit)
    await outbox.drain(engine, credit, clock=clock)
    await moves.reverse(engine, credit, 1, operation="r1", actor="eva", reason="bad line", clock=SystemClock())
    assert await _view(credit, tree.carl_wallet) == (0, 0)
    await _clean(engine, credit)


def test_sql_alone_refuses_more_than_there_is(engine: Engine) -> None:
    """Whatever Redis said, SQL never takes what its balance does not have."""
    tree = plant(engine)
    with pytest.raises(Remembered, match="lacks"), work(engine) as session:
        transfers.transfer(session, tree.ray, tree.cleo, EURO, operation="x1", actor="ray", now=AT)
    assert balance(engine, tree.cleo_wallet) == 0
