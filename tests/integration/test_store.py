"""The store: migrations, units of work, what the database itself refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlmodel import select

from billing import migrations
from billing.catalogue import bump_catalogue, catalogue_version
from billing.models import Account, AccountKind, AuditRow, LedgerTransaction, Meta, Posting, Wallet, WalletKind
from billing.store import migrate, migrating, migrations_missing, open_store, reading, work

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def _add_ledger_rows(engine: Engine, amounts: list[int]) -> None:
    with work(engine) as session:
        account = Account(kind=AccountKind.OPERATOR, name="op", currency="EUR", created_at=NOW)
        session.add(account)
        session.flush()
        assert account.id
        wallet = Wallet(account_id=account.id, kind=WalletKind.CASH, currency="EUR")
        entry = LedgerTransaction(operation="o", kind="test", actor="test", created_at=NOW)
        session.add_all([wallet, entry])
        session.flush()
        assert wallet.id
        assert entry.id
        for amount in amounts:
            session.add(
                Posting(
                    transaction_id=entry.id, wallet_id=wallet.id, amount_micros=amount, currency="EUR", posted_at=NOW
                )
            )
        session.add(AuditRow(at=NOW, actor="test", action="made", subject="op"))


def test_migrations_and_models_agree(engine: Engine) -> None:
    """What the migrations build is what the models say."""
    with migrating(engine) as config:
        command.check(config)


def test_migrations_go_up_down_up(bare_engine: Engine) -> None:
    """Each migration can be undone without a trace, and done again."""
    newest = len([*(Path(migrations.__file__).parent / "versions").glob("0*.py")])
    assert migrations_missing(bare_engine) == newest
    migrate(bare_engine)
    assert migrations_missing(bare_engine) == 0
    with migrating(bare_engine) as config:
        command.downgrade(config, "base")
    assert inspect(bare_engine).get_table_names() == ["alembic_version"]
    assert migrations_missing(bare_engine) == newest
    migrate(bare_engine)
    assert migrations_missing(bare_engine) == 0


def test_migrating_twice_at_once_is_migrating_once(store_url: str) -> None:
    """Processes that start together on an empty store all find it ready."""
    engines = [open_store(store_url) for _ in range(4)]
    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(migrate, engines))
    assert [migrations_missing(engine) for engine in engines] == [0] * len(engines)
    for engine in engines:
        engine.dispose()


def test_a_failed_unit_of_work_leaves_nothing(engine: Engine) -> None:
    """An error inside `work` undoes all of it."""

    def fail() -> None:
        with work(engine) as session:
            session.add(Meta(key="x", value=1))
            session.flush()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    with reading(engine) as session:
        assert session.get(Meta, "x") is None


def test_reading_neither_writes_nor_waits(engine: Engine) -> None:
    """A reader sees one state, beside a writer, and cannot write."""
    with work(engine) as writer:
        bump_catalogue(writer)
        with reading(engine) as reader:
            assert catalogue_version(reader) == 1
    with reading(engine) as reader:
        assert catalogue_version(reader) == 2
        with work(engine) as writer:
            bump_catalogue(writer)
        assert catalogue_version(reader) == 2
    with reading(engine) as reader, pytest.raises(DatabaseError):
        bump_catalogue(reader)
    with reading(engine) as reader:
        assert catalogue_version(reader) == 3


def test_concurrent_units_of_work_all_count(engine: Engine) -> None:
    """Writers in several threads wait for each other; no change is lost, none fails."""

    def bump(_: int) -> None:
        with work(engine) as session:
            catalogue_version(session)
            bump_catalogue(session)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bump, range(80)))
    with reading(engine) as session:
        assert catalogue_version(session) == 81


@pytest.mark.parametrize("table", ["posting", "ledger_transaction", "audit"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = id + 100", "DELETE FROM {}"])
def test_history_is_only_appended_to(engine: Engine, table: str, change: str) -> None:
    """Postings, transactions and audit rows can be neither changed nor deleted, whoever tries."""
    _add_ledger_rows(engine, [5, -5])
    with pytest.raises(IntegrityError, match="history"), work(engine) as session:
        session.execute(text(change.format(table)))
    with reading(engine) as session:
        assert session.execute(text(f"SELECT min(id) FROM {table}")).scalar_one() == 1  # noqa: S608 - our own names


def test_postgresql_refuses_postings_that_do_not_sum_to_zero(engine: Engine) -> None:
    """Even a bug cannot commit money out of nothing."""
    if engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no triggers at commit; `billing.ledger` and the books check it")
    with pytest.raises(IntegrityError, match="do not sum to zero"):
        _add_ledger_rows(engine, [5, -4])
    with reading(engine) as session:
        assert session.exec(select(Posting)).all() == []
        assert session.exec(select(LedgerTransaction)).all() == []


def test_a_naive_time_is_refused(engine: Engine) -> None:
    """A time without a zone never reaches the store."""
    with pytest.raises(Exception, match="without a zone"), work(engine) as session:
        session.add(AuditRow(at=NOW.replace(tzinfo=None), actor="test", action="made", subject="op"))


def test_sqlite_is_set_up_for_money(engine: Engine) -> None:
    """On SQLite every commit is on the disk, readers do not stop writers, and foreign keys hold."""
    if engine.dialect.name != "sqlite":
        pytest.skip("SQLite only")
    with work(engine) as session:
        settings = [session.execute(text(f"PRAGMA {name}")).scalar_one() for name in ("journal_mode", "synchronous")]
        assert settings == ["wal", 2]
        assert session.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        assert session.execute(text("PRAGMA busy_timeout")).scalar_one() == 10_000
