"""Months of records and postings on PostgreSQL: each row in its month, each month guarded, each call once over all."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from billing.adjustments import reverse_once
from billing.books import check_store
from billing.cdrs import find_cdr, settle
from billing.months import add_months, in_rest
from billing.store import migrate, migrating, reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, Tree, carls_call, cleos_call, ended, plant


def _count(engine: Engine, table: str) -> int:
    with reading(engine) as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608 - our own names


def _fill(engine: Engine) -> Tree:
    """A top-up, three calls, a reversal."""
    tree = plant(engine)
    with work(engine) as session:
        top_up(session, tree.ray, 10 * EURO, operation="t1", actor="test", now=NOW)
    with work(engine) as session:
        calls = [cleos_call(tree, "sw:1", 31), carls_call(tree, "sw:2", 90), ended("sw:3", None, disposition="refused")]
        settle(session, calls, now=NOW + timedelta(days=40))
    with work(engine) as session:
        reverse_once(session, 1, operation="r1", actor="test", reason="test", beyond=True, now=NOW)
    return tree


def test_a_store_in_use_is_split_into_months_and_put_together_again(bare_engine: Engine) -> None:
    """Records, charges, postings and what points to them survive the migration down and up; the books stay clean."""
    migrate(bare_engine)
    tree = _fill(bare_engine)
    tables = ("cdr", "charge", "posting", "ledger_transaction", "outbox")
    before = [_count(bare_engine, table) for table in tables]
    for target in ("0011", "head"):
        with migrating(bare_engine) as config:
            (command.downgrade if target != "head" else command.upgrade)(config, target)
        assert [_count(bare_engine, table) for table in tables] == before
    with reading(bare_engine) as session:
        assert check_store(session).findings == ()
        record, charges = find_cdr(session, "sw:1")
        assert [charge.ended_at for charge in charges] == [record.ended_at] * 2
        same = (
            "SELECT count(*) FROM posting JOIN ledger_transaction t ON t.id = transaction_id AND posted_at = created_at"
        )
        assert session.execute(text(same)).scalar_one() == before[2]
    with work(bare_engine) as session:
        again = settle(session, [carls_call(tree, "sw:2", 90), carls_call(tree, "sw:4", 90)], now=NOW)
        assert (again.written, again.known) == (("sw:4",), ("sw:2",))
    with pytest.raises(IntegrityError, match="history"), work(bare_engine) as session:
        session.execute(text("UPDATE posting SET amount_micros = 1"))


def test_a_call_has_one_record_over_all_months(engine: Engine) -> None:
    """Told again with an end in another month, a call keeps the record it has."""
    tree = plant(engine)
    call = carls_call(tree, "sw:1", 31)
    later = carls_call(tree, "sw:1", 31, ended_at=call.ended_at + timedelta(days=60))
    with work(engine) as session:
        assert settle(session, [call], now=NOW).written == ("sw:1",)
    with work(engine) as session:
        assert settle(session, [later], now=NOW).known == ("sw:1",)
    assert _count(engine, "cdr") == 1
    with reading(engine) as session:
        assert find_cdr(session, "sw:1")[0].ended_at == call.ended_at


def test_rows_lie_in_their_months(engine: Engine) -> None:
    """A month takes what ends within it, UTC; what has no month goes to the rest; SQLite has neither."""
    tree = plant(engine)
    first = datetime(2031, 5, 1, tzinfo=UTC)
    with work(engine) as session:
        made = add_months(session, date(2031, 4, 10))
        assert add_months(session, date(2031, 4, 10)) == []
    if engine.dialect.name == "sqlite":
        assert made == []
        return
    assert made == [f"{parent}_2031_0{month}" for month in (4, 5, 6, 7) for parent in ("cdr", "posting")]
    moments = [first - timedelta(microseconds=1), first, datetime(2099, 1, 1, tzinfo=UTC)]
    with work(engine) as session:
        for number, moment in enumerate(moments):
            settle(session, [carls_call(tree, f"sw:{number}", 31, ended_at=moment)], now=moment)
    assert [_count(engine, table) for table in ("cdr_2031_04", "cdr_2031_05", "cdr_rest")] == [1, 1, 1]
    assert [_count(engine, table) for table in ("posting_2031_04", "posting_2031_05", "posting_rest")] == [2, 2, 2]
    with work(engine) as session:
        assert in_rest(session) == {"cdr": 1, "posting": 2}
        # A month that has rows in the rest is not made: they stay where they are, and are found.
        assert add_months(session, date(2098, 10, 1)) == [
            f"{parent}_2098_{month}" for month in (10, 11, 12) for parent in ("cdr", "posting")
        ]
        assert find_cdr(session, "sw:2")[0].ended_at == moments[2]


@pytest.mark.parametrize("table", ["posting_2031_04", "posting_rest"])
def test_a_month_spoken_to_alone_is_history_too(engine: Engine, table: str) -> None:
    """The months themselves refuse changes, and a number that is taken."""
    if engine.dialect.name == "sqlite":
        return
    plant(engine)
    with work(engine) as session:
        add_months(session, date(2031, 4, 1))
    for change in (f"UPDATE {table} SET seq = 1", f"DELETE FROM {table}", f"TRUNCATE {table}"):  # noqa: S608 - our names
        with pytest.raises(IntegrityError, match="history"), work(engine) as session:
            session.execute(text(change))
    record = table.replace("posting", "cdr")
    for change in (f"DELETE FROM {record}", f"TRUNCATE {record}"):  # noqa: S608 - our names
        with pytest.raises(IntegrityError, match="history"), work(engine) as session:
            session.execute(text(change))


def test_a_number_of_a_wallet_is_posted_once(engine: Engine) -> None:
    """Raw SQL cannot give a posting a number its wallet has used in that month, nor tell the outbox one twice."""
    tree = _fill(engine)
    again = (
        "INSERT INTO posting (transaction_id, wallet_id, amount_micros, currency, seq, posted_at)"
        " SELECT transaction_id, wallet_id, amount_micros, currency, seq, posted_at FROM posting"
        " WHERE wallet_id = :wallet AND seq = 1"
    )
    with pytest.raises(IntegrityError), work(engine) as session:
        session.execute(text(again), {"wallet": tree.ray_wallet})
    told = f"INSERT INTO outbox (wallet_id, seq, amount_micros) VALUES ({tree.ray_wallet}, 1, 5)"  # noqa: S608 - our own
    with pytest.raises(IntegrityError), work(engine) as session:
        session.execute(text(told))
