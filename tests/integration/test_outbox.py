"""SQL first, then Redis: postings arrive once and in order, whoever brings them and whatever was lost between."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from billing.credit.store import CreditStore, Held, WalletState, WalletView, connect
from billing.errors import CreditUnavailable
from billing.ledger import Applied
from billing.models import Account, AccountKind, AccountStatus, OutboxRow, Wallet, WalletKind
from billing.outbox import apply_now, drain, sync_all
from billing.store import reading, work
from tests.credit_fixtures import NOW_MS, everything, hold, shares

NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


class StillClock:
    """A clock that stands."""

    def now(self) -> datetime:
        """The moment of these tests."""
        return NOW

    def monotonic(self) -> float:
        """No time passes."""
        return 0.0


CLOCK = StillClock()


def add_wallet(engine: Engine, number: int, *, credit_limit_micros: int = 0) -> None:
    """Make a customer with an empty money wallet, both of this number."""
    with work(engine) as session:
        session.add(
            Account(
                id=number,
                kind=AccountKind.CUSTOMER,
                name=f"customer {number}",
                status=AccountStatus.ACTIVE,
                currency="EUR",
                credit_limit_micros=credit_limit_micros,
                max_calls=5,
                created_at=NOW,
            )
        )
        session.flush()
        session.add(Wallet(id=number, account_id=number, kind=WalletKind.MONEY, currency="EUR"))


def post(engine: Engine, number: int, amount_micros: int, call_id: str | None = None) -> Applied:
    """Do to the wallet and the outbox what the ledger does in its transaction."""
    with work(engine) as session:
        wallet = session.get_one(Wallet, number)
        wallet.balance_micros += amount_micros
        wallet.seq += 1
        session.add(OutboxRow(wallet_id=number, seq=wallet.seq, amount_micros=amount_micros, call_id=call_id))
        return Applied(number, wallet.seq, amount_micros, call_id)


def waiting(engine: Engine) -> list[tuple[int, int]]:
    """Return wallet and sequence of the rows that wait."""
    with reading(engine) as session:
        rows = session.exec(select(OutboxRow).where(col(OutboxRow.applied_at).is_(None)).order_by(col(OutboxRow.id)))
        return [(row.wallet_id, row.seq) for row in rows]


async def test_postings_are_applied_and_marked(engine: Engine, credit: CreditStore) -> None:
    """Right after their commit postings are in Redis, their holds gone, their rows marked with the time."""
    add_wallet(engine, 1)
    await sync_all(engine, credit)
    assert await apply_now(engine, credit, [post(engine, 1, 100)], clock=CLOCK) == 1
    assert await hold(credit, "s:1", shares((1, 60))) == Held()
    await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS)
    assert await apply_now(engine, credit, [post(engine, 1, -12, "s:1")], clock=CLOCK) == 1
    assert await credit.wallet(1) == WalletView(1, 88, 0, 0, 2)
    assert await credit.holds() == []
    with reading(engine) as session:
        assert [row.applied_at for row in session.exec(select(OutboxRow))] == [NOW, NOW]
    assert await apply_now(engine, credit, [], clock=CLOCK) == 0


async def test_the_order_they_are_told_in_does_not_matter(engine: Engine, credit: CreditStore) -> None:
    """Postings of a wallet are applied by their numbers."""
    add_wallet(engine, 1)
    add_wallet(engine, 2)
    await sync_all(engine, credit)
    postings = [post(engine, 1, 100), post(engine, 2, 7), post(engine, 1, -30), post(engine, 1, 5)]
    assert await apply_now(engine, credit, postings[::-1], clock=CLOCK) == 4
    assert await credit.wallet(1) == WalletView(1, 75, 0, 0, 3)
    assert await credit.wallet(2) == WalletView(2, 7, 0, 0, 1)


async def test_a_gap_is_synced_and_holds_are_still_dropped(engine: Engine, credit: CreditStore) -> None:
    """Where an earlier posting never came, the wallet is set from SQL; the drain of the earlier one drops its hold."""
    add_wallet(engine, 1)
    await sync_all(engine, credit)
    await apply_now(engine, credit, [post(engine, 1, 100)], clock=CLOCK)
    for call_id in ("s:1", "s:2"):
        await hold(credit, call_id, shares((1, 30)))
        await credit.finish(call_id, shares((1, 10)), now_ms=NOW_MS)
    post(engine, 1, -10, "s:1")
    later = post(engine, 1, -10, "s:2")
    assert await apply_now(engine, credit, [later], clock=CLOCK) == 1
    assert await credit.wallet(1) == WalletView(1, 80, 10, 0, 3)
    assert waiting(engine) == [(1, 2)]
    assert await drain(engine, credit, clock=CLOCK) == 1
    assert await credit.wallet(1) == WalletView(1, 80, 0, 0, 3)
    assert (waiting(engine), await credit.holds()) == ([], [])


@pytest.mark.parametrize("order", sorted(set(permutations(("finish", "finish", "sync", "tell")))), ids="-".join)
async def test_a_cost_whose_hold_was_lost_counts_from_the_first_word_and_once_at_the_end(
    engine: Engine, credit: CreditStore, order: tuple[str, ...]
) -> None:
    """Redis is empty, SQL has the charge: in any order nobody can spend it; who finished the call tells of it last."""
    add_wallet(engine, 1)
    post(engine, 1, 100)
    charge = post(engine, 1, -12, "s:1")
    for step in (*order, "finish", "tell"):
        match step:
            case "finish":
                await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS)
            case "sync":
                await sync_all(engine, credit)
            case _:
                await apply_now(engine, credit, [charge], clock=CLOCK)
        view = await credit.wallet(1)
        assert view is None or view.available_micros in {88 - 12, 88}
    assert await credit.wallet(1) == WalletView(1, 88, 0, 0, 2)
    assert await credit.holds() == []


async def test_an_unknown_wallet_is_brought_from_sql_with_its_account(engine: Engine, credit: CreditStore) -> None:
    """The first posting of a new customer makes the wallet and the account in Redis."""
    add_wallet(engine, 1, credit_limit_micros=50)
    assert await apply_now(engine, credit, [post(engine, 1, 100)], clock=CLOCK) == 1
    assert await credit.wallet(1) == WalletView(1, 100, 0, 50, 1)
    assert await hold(credit, "s:1", shares((1, 150))) == Held()
    assert waiting(engine) == []


async def test_drain_brings_what_waits_oldest_first(engine: Engine, credit: CreditStore) -> None:
    """So many at a time, until nothing waits."""
    add_wallet(engine, 1)
    await sync_all(engine, credit)
    for amount_micros in (10, 20, 30):
        post(engine, 1, amount_micros)
    assert await drain(engine, credit, clock=CLOCK, most=2) == 2
    assert await credit.wallet(1) == WalletView(1, 30, 0, 0, 2)
    assert await drain(engine, credit, clock=CLOCK, most=2) == 1
    assert await drain(engine, credit, clock=CLOCK, most=2) == 0
    assert await credit.wallet(1) == WalletView(1, 60, 0, 0, 3)


async def test_drains_at_once_are_harmless(engine: Engine, credit: CreditStore) -> None:
    """Web, controller and whoever committed may all bring the same rows."""
    add_wallet(engine, 1)
    add_wallet(engine, 2)
    await sync_all(engine, credit)
    postings = [post(engine, 1 + n % 2, 10) for n in range(40)]
    await asyncio.gather(
        drain(engine, credit, clock=CLOCK),
        apply_now(engine, credit, postings[20:], clock=CLOCK),
        drain(engine, credit, clock=CLOCK, most=10),
        apply_now(engine, credit, postings[:20], clock=CLOCK),
    )
    assert await credit.wallet(1) == WalletView(1, 200, 0, 0, 20)
    assert await credit.wallet(2) == WalletView(2, 200, 0, 0, 20)
    assert waiting(engine) == []


async def test_without_redis_the_rows_stay(engine: Engine, tmp_path: Path, credit: CreditStore) -> None:
    """`CreditUnavailable` marks nothing; later everything arrives."""
    add_wallet(engine, 1)
    posting = post(engine, 1, 100)
    nowhere = connect(f"unix://{tmp_path}/nobody.sock", 0.2)
    with pytest.raises(CreditUnavailable):
        await apply_now(engine, CreditStore(nowhere), [posting], clock=CLOCK)
    with pytest.raises(CreditUnavailable):
        await drain(engine, CreditStore(nowhere), clock=CLOCK)
    await nowhere.aclose()
    assert waiting(engine) == [(1, 1)]
    assert await drain(engine, credit, clock=CLOCK) == 1
    assert await credit.wallet(1) == WalletView(1, 100, 0, 0, 1)


async def test_a_crash_between_redis_and_the_mark_changes_nothing(engine: Engine, credit: CreditStore) -> None:
    """A row that was applied but not marked is seen the next time, and marked."""
    add_wallet(engine, 1)
    await sync_all(engine, credit)
    posting = post(engine, 1, 100)
    await credit.apply(1, posting.seq, posting.amount_micros)
    assert await drain(engine, credit, clock=CLOCK) == 1
    assert await credit.wallet(1) == WalletView(1, 100, 0, 0, 1)
    assert waiting(engine) == []


async def test_lost_data_is_set_again_from_sql(engine: Engine, credit: CreditStore, redis: Redis) -> None:
    """`sync_all` brings every money wallet and account, and the marker; postings that wait are then seen."""
    add_wallet(engine, 1, credit_limit_micros=9)
    add_wallet(engine, 2)
    with work(engine) as session:
        session.add(Wallet(id=3, account_id=2, kind=WalletKind.CASH, currency="EUR"))
    post(engine, 1, 100)
    assert await credit.empty()
    assert await sync_all(engine, credit) == 2
    assert not await credit.empty()
    assert await credit.wallet(1) == WalletView(1, 100, 0, 9, 1)
    assert await credit.wallet(2) == WalletView(2, 0, 0, 0, 0)
    assert await credit.wallet(3) is None
    before = await everything(redis)
    assert await drain(engine, credit, clock=CLOCK) == 1
    assert await sync_all(engine, credit) == 2
    assert await everything(redis) == before
    await redis.flushall()
    await sync_all(engine, credit)
    assert await everything(redis) == before


async def test_a_wallet_that_went_wrong_in_redis_is_healed(engine: Engine, credit: CreditStore) -> None:
    """Where Redis cannot take a posting that SQL could, SQL is right."""
    add_wallet(engine, 1)
    await sync_all(engine, credit)
    await credit.sync_wallet(WalletState(1, 2**53 - 1, 0, 0))
    assert await apply_now(engine, credit, [post(engine, 1, 5)], clock=CLOCK) == 1
    assert await credit.wallet(1) == WalletView(1, 5, 0, 0, 1)


async def test_one_impossible_wallet_does_not_stop_the_others(engine: Engine, credit: CreditStore) -> None:
    """A posting that Redis cannot keep exactly stays waiting; the postings of other wallets arrive."""
    add_wallet(engine, 1)
    add_wallet(engine, 2)
    with work(engine) as session:
        session.get_one(Wallet, 1).balance_micros = 2**53 - 1
    await sync_all(engine, credit)
    with work(engine) as session:
        session.add(OutboxRow(wallet_id=1, seq=1, amount_micros=5))
    post(engine, 2, 7)
    assert await drain(engine, credit, clock=CLOCK) == 1
    assert waiting(engine) == [(1, 1)]
    assert await credit.wallet(1) == WalletView(1, 2**53 - 1, 0, 0, 0)
    assert await credit.wallet(2) == WalletView(2, 7, 0, 0, 1)
