"""The books: clean after honest work, and each kind of damage is named."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing.books import BooksReport, Finding, check_credit, check_store
from billing.cdrs import settle
from billing.credit.store import AccountState, CreditStore, Share, WalletState
from billing.ledger import reverse
from billing.models import OutboxRow
from billing.store import reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, Tree, carls_call, cleos_call, ended, plant

NOW_MS = 1_800_000_000_000


def _work_a_day(engine: Engine) -> Tree:
    """Top-ups, calls, a refused one, a reversal: transactions 1 to 5, postings 1 to 12, charges 1 to 3."""
    tree = plant(engine)
    for number, account_id in enumerate((tree.ray, tree.carl)):
        with work(engine) as session:
            top_up(session, account_id, 10 * EURO, operation=f"t{number}", actor="test", now=NOW)
    with work(engine) as session:
        calls = [cleos_call(tree, "sw:1", 31), carls_call(tree, "sw:2", 90), ended("sw:3", None, disposition="refused")]
        settle(session, calls, now=NOW)
    with work(engine) as session:
        reverse(session, 2, operation="undo", actor="test", reason="mistake", now=NOW)
    return tree


def _check(engine: Engine) -> BooksReport:
    with reading(engine) as session:
        return check_store(session)


def _tamper(engine: Engine, *statements: str) -> None:
    """Change history behind the triggers' back, as a bug or a thief with the keys would."""
    with work(engine) as session:
        if engine.dialect.name == "postgresql":
            session.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in statements:
                session.execute(text(statement))
            return
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        triggers = session.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
        for name, _ in triggers:
            session.execute(text(f"DROP TRIGGER {name}"))
        for statement in statements:
            session.execute(text(statement))
        for _, sql in triggers:
            session.execute(text(sql))


def test_honest_work_leaves_nothing_to_find(engine: Engine) -> None:
    """Top-ups, calls and reversals keep every invariant; an empty store does too."""
    assert _check(engine) == BooksReport(0, 0, 0, 0, 0, ())
    _work_a_day(engine)
    assert _check(engine) == BooksReport(transactions=5, postings=12, wallets=6, cdrs=3, holds=0, findings=())


@pytest.mark.parametrize(
    ("damage", "invariants", "says"),
    [
        ("UPDATE posting SET amount_micros = amount_micros + 5 WHERE id = 1", {1}, "do not sum to zero: 5"),
        ("UPDATE posting SET amount_micros = amount_micros + 5 WHERE id = 2", {1, 2}, "Transaction 1 does not sum"),
        ("UPDATE posting SET currency = 'USD' WHERE id = 2", {1}, "Posting 2 is in USD, its wallet"),
        ("UPDATE wallet SET balance_micros = balance_micros + 1 WHERE kind = 'money' AND seq > 0", {2}, "its postings"),
        ("UPDATE wallet SET balance_micros = 1 WHERE kind = 'cash'", {2}, "it is a cash wallet"),
        ("UPDATE outbox SET amount_micros = 1 WHERE id = 1", {2}, "does not have so"),
        ("UPDATE wallet SET seq = seq + 1 WHERE kind = 'money' AND seq > 0", {12}, "has counted"),
        ("UPDATE posting SET seq = 77 WHERE id = 2", {2, 12}, "numbered 2 to 77"),
        ("UPDATE charge SET amount_micros = amount_micros + 1 WHERE id = 2", {5, 6}, "was charged, its facts say"),
        ("UPDATE cdr SET cost_micros = 1 WHERE call_id = 'sw:3'", {5}, "call sw:3 says it cost 1"),
        ("UPDATE cdr SET transaction_id = NULL WHERE call_id = 'sw:2'", {5}, "has no record"),
        ("UPDATE charge SET facts = '{}' WHERE id = 1", {6}, "cannot be priced"),
        ("DELETE FROM posting WHERE transaction_id = 1", {1, 2, 12}, "Transaction 1 (topup:t0) has no postings"),
    ],
)
def test_each_damage_is_named(engine: Engine, damage: str, invariants: set[int], says: str) -> None:
    """What was changed behind the ledger's back is found, under its invariant, in a sentence."""
    _work_a_day(engine)
    _tamper(engine, damage)
    findings = _check(engine).findings
    assert {finding.invariant for finding in findings} == invariants
    assert any(says in finding.what for finding in findings), findings


def test_missing_guards_are_named(engine: Engine) -> None:
    """A store whose triggers were dropped or switched off is not trusted to be append-only."""
    plant(engine)
    with work(engine) as session:
        if engine.dialect.name == "sqlite":
            session.execute(text("DROP TRIGGER audit_no_delete"))
        else:
            session.execute(text("ALTER TABLE audit DISABLE TRIGGER audit_is_history"))
    (finding,) = _check(engine).findings
    if engine.dialect.name == "postgresql":
        with work(engine) as session:
            session.execute(text("ALTER TABLE audit ENABLE TRIGGER audit_is_history"))
    assert finding.invariant == 12
    assert "rows of audit" in finding.what


def test_a_flood_of_findings_is_cut(engine: Engine) -> None:
    """One cause can break thousands of rows: the first ones say enough."""
    tree = plant(engine)
    with work(engine) as session:
        settle(session, [carls_call(tree, f"sw:{n:02}", 31) for n in range(30)], now=NOW)
    _tamper(engine, "UPDATE cdr SET cost_micros = 1")
    findings = _check(engine).findings
    assert len(findings) == 21
    assert findings[-1] == Finding(5, "There are more of these.")


# -- against the live credit store --


async def _look(engine: Engine, credit: CreditStore) -> tuple[int, list[int]]:
    with reading(engine) as session:
        holds, findings = await check_credit(session, credit)
    return holds, [finding.invariant for finding in findings]


async def _tell(engine: Engine, credit: CreditStore, tree: Tree) -> None:
    """Bring Redis to where SQL is."""
    for account_id, wallet_id in (
        (tree.ray, tree.ray_wallet),
        (tree.cleo, tree.cleo_wallet),
        (tree.carl, tree.carl_wallet),
    ):
        await credit.sync_account(AccountState(account_id, "active", None, None))
        await credit.sync_wallet(WalletState(wallet_id, 0, 0, 0))
    with work(engine) as session:
        for row in session.exec(select(OutboxRow)).all():
            await credit.apply(row.wallet_id, row.seq, row.amount_micros, call_id=row.call_id)
            row.applied_at = NOW


async def test_redis_that_follows_is_clean(engine: Engine, credit: CreditStore) -> None:
    """Equal balances, holds that sum up, wallets never asked for, and postings that wait are all in order."""
    tree = _work_a_day(engine)
    assert await _look(engine, credit) == (0, [])
    await _tell(engine, credit, tree)
    share = Share(tree.ray_wallet, tree.ray, 3 * EURO)
    await credit.hold("sw:9", [share], now_ms=NOW_MS, deadline_ms=NOW_MS + 60_000, facts="{}")
    assert await _look(engine, credit) == (1, [])
    with work(engine) as session:
        top_up(session, tree.carl, EURO, operation="waits", actor="test", now=NOW)
    assert await _look(engine, credit) == (1, [])


async def test_redis_that_differs_is_named(engine: Engine, credit: CreditStore) -> None:
    """Another balance at the same number, a posting Redis lost, and one that SQL never had."""
    tree = _work_a_day(engine)
    await _tell(engine, credit, tree)
    with work(engine) as session:
        top_up(session, tree.carl, EURO, operation="lost", actor="test", now=NOW)
        for row in session.exec(select(OutboxRow)).all():
            row.applied_at = NOW
    assert await _look(engine, credit) == (0, [2])
    await credit.apply(tree.cleo_wallet, 2, 5)
    assert await _look(engine, credit) == (0, [2, 2])
    # The same number, another amount.
    carl = await credit.wallet(tree.carl_wallet)
    assert carl
    await credit.apply(tree.carl_wallet, carl.seq + 1, 2 * EURO)
    with reading(engine) as session:
        _, findings = await check_credit(session, credit)
    assert [finding.invariant for finding in findings] == [2, 2]
    assert any(f"wallet {tree.carl_wallet} has" in finding.what for finding in findings)


async def test_a_hold_that_nobody_will_end_is_named(engine: Engine, credit: CreditStore) -> None:
    """A hold whose call is settled and told would keep a customer's money for ever."""
    tree = _work_a_day(engine)
    await _tell(engine, credit, tree)
    share = Share(tree.ray_wallet, tree.ray, EURO)
    await credit.hold("sw:3", [share], now_ms=NOW_MS, deadline_ms=NOW_MS + 60_000, facts="{}")
    assert await _look(engine, credit) == (1, [4])


async def test_sums_of_holds_and_channels_are_checked(engine: Engine, credit: CreditStore) -> None:
    """Held money without a hold, channels without a call, and money held twice over are named."""
    tree = _work_a_day(engine)
    await _tell(engine, credit, tree)
    redis = credit._redis
    await redis.hset("{callctl}:a:" + str(tree.carl), "calls", "2")
    await redis.hset("{callctl}:w:" + str(tree.ray_wallet), "held", str(99 * EURO))
    assert await _look(engine, credit) == (0, [3, 3, 10])
