"""An archive of made-up calls for `benchmarks.store`: accounts, records, charges, postings, as `billing` writes them.

Made inside the database, set by set, since what is measured is reading it. Numbers come from the call's own number by
multiplication with a large prime, so every run makes the same archive. Indexes and guards are put aside meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.engine import Connection, Engine

from billing import accounts
from billing.models import AccountKind
from billing.months import add_months
from billing.ports import SystemClock
from billing.store import work
from rating.tariff import Rate, Rounding, Step

RESELLERS, CUSTOMERS = 20, 980
DAYS = 365
PRIME = 2654435761
PORTION = 500_000
RATE = Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.06"), 60, 1),), Rounding())
FACTS = json.dumps({"tariff": "retail", "tariff_id": 1, "version": 3, "rate": RATE.facts(), "billable_s": 100})
COST = 100_000
"""100 s at 0.06 a minute, micro-units."""
FILLED = ("cdr_key", "ledger_transaction", "cdr", "charge", "posting", "outbox")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the two databases write differently."""

    numbers: str
    moment: str
    text: str


POSTGRESQL = Dialect(
    "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS g(n)",
    "(CAST(:since AS timestamptz) + (n * CAST(:step AS double precision)) * interval '1 second')",
    "CAST({} AS text)",
)
SQLITE = Dialect(
    "(WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n < :last) SELECT n FROM s) AS g",
    "(strftime('%Y-%m-%d %H:%M:%f', :since, '+' || (n * :step) || ' seconds') || '000')",
    "CAST({} AS text)",
)


def fill(engine: Engine, calls: int, say: Say) -> None:
    """Make accounts, then `calls` records over the last year, seven in ten of them answered and charged."""
    now = SystemClock().now()
    since = (now - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    first, income = _accounts(engine, since)
    postgresql = engine.dialect.name == "postgresql"
    with work(engine) as session:
        add_months(session, now.date(), since=since.date())
    with engine.begin() as connection:
        if postgresql:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
        indexes = _put_indexes_aside(connection, postgresql=postgresql)
        step = (now - since).total_seconds() / (calls + 1)
        facts = {"since": since.isoformat(" ") if not postgresql else since, "step": step, "income": income}
        for at in range(1, calls + 1, PORTION):
            last = min(at + PORTION - 1, calls)
            _portion(connection, POSTGRESQL if postgresql else SQLITE, first, {**facts, "first": at, "last": last})
            say(f"{last:,} of {calls:,} records")
        say("numbering postings, indexes")
        _balances(connection, postgresql=postgresql)
        for statement in indexes:
            connection.execute(text(statement))
    say("statistics")
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("SET statement_timeout = 0" if postgresql else "SELECT 1"))
        connection.execute(text("VACUUM ANALYZE" if postgresql else "ANALYZE"))


def _accounts(engine: Engine, now: datetime) -> tuple[int, int]:
    """Make the tree; return the id of the first reseller (accounts and wallets are numbered alike), and income."""
    with work(engine) as session:
        accounts.add_operator(session, name="op", currency="EUR", actor="benchmark", now=now)
    with work(engine) as session:
        for n in range(RESELLERS):
            accounts.add_account(session, name=f"r{n}", kind=AccountKind.RESELLER, actor="benchmark", now=now)
        for n in range(CUSTOMERS):
            above = f"r{n % RESELLERS}" if n % 3 == 0 else None
            accounts.add_account(
                session, name=f"c{n}", kind=AccountKind.CUSTOMER, parent=above, actor="benchmark", now=now
            )
        first = accounts.find_account(session, "r0")
        income = accounts.find_account(session, "op").wallet_id
        return first.id, income


def _portion(connection: Connection, to: Dialect, first: int, facts: dict[str, object]) -> None:
    hashed = f"((n * {PRIME}) % 1000003)"
    account = f"({first + RESELLERS} + (({hashed} * {hashed}) % 1000003) % {CUSTOMERS})"
    moment, answered = to.moment, "(n % 10 < 7)"
    number = to.text.format(f"(10000000 + {hashed} * 7 % 90000000)")
    destination = to.text.format(f"({hashed} % 200)")
    call_id, source = "'pbx:' || " + to.text.format("n"), f"FROM {to.numbers}"
    wallet = f"({account} + :shift)"
    run = {**facts, "shift": _shift(connection)}
    many = {
        "cdr_key": f"INSERT INTO cdr_key (id, call_id, ended_at) SELECT n, {call_id}, {moment} {source}",
        "ledger_transaction": f"""INSERT INTO ledger_transaction (id, operation, kind, reason, actor, created_at)
            SELECT n, 'call:' || {call_id}, 'call', '', 'switch:pbx', {moment} {source} WHERE {answered}""",
        "cdr": f"""INSERT INTO cdr (call_id, switch, account_id, direction, caller, callee, destination, disposition,
            reason, cause, hung_up_by, offered_at, answered_at, ended_at, talk_ms, billable_ms, estimated, cost_micros,
            currency, transaction_id)
            SELECT {call_id}, 'pbx' || {to.text.format("(n % 4)")}, {account}, 'outbound', '4930' || {number},
            CASE n % 5 WHEN 0 THEN '4915' WHEN 1 THEN '44207' WHEN 2 THEN '331' WHEN 3 THEN '1212' ELSE '8613' END
            || {number}, 'destination ' || {destination},
            CASE WHEN {answered} THEN 'answered' WHEN n % 10 = 7 THEN 'busy' WHEN n % 10 = 8 THEN 'no_answer'
            ELSE 'refused' END, CASE n % 10 WHEN 9 THEN 'no_money' ELSE '' END, 16, 'caller', {moment},
            CASE WHEN {answered} THEN {moment} END, {moment}, CASE WHEN {answered} THEN 100000 ELSE 0 END,
            CASE WHEN {answered} THEN 100000 ELSE 0 END, {"false" if to is POSTGRESQL else "0"},
            CASE WHEN {answered} THEN {COST} ELSE 0 END, CASE WHEN {answered} THEN 'EUR' ELSE '' END,
            CASE WHEN {answered} THEN n END {source}""",
        "charge": f"""INSERT INTO charge (call_id, level, account_id, wallet_id, to_wallet_id, amount_micros, currency,
            billed_s, facts, ended_at) SELECT {call_id}, 0, {account}, {wallet}, :income, {COST}, 'EUR', 100, :facts,
            {moment} {source} WHERE {answered}""",
        "paid": f"""INSERT INTO posting (id, transaction_id, wallet_id, amount_micros, currency, seq, posted_at)
            SELECT 2 * n, n, {wallet}, -{COST}, 'EUR', -n, {moment} {source} WHERE {answered}""",
        "earned": f"""INSERT INTO posting (id, transaction_id, wallet_id, amount_micros, currency, seq, posted_at)
            SELECT 2 * n + 1, n, :income, {COST}, 'EUR', NULL, {moment} {source} WHERE {answered}""",
        "outbox": f"""INSERT INTO outbox (wallet_id, seq, amount_micros, call_id, applied_at)
            SELECT {wallet}, -n, -{COST}, {call_id}, {moment} {source} WHERE {answered}""",
    }
    for statement in many.values():
        used = {name: value for name, value in {**run, "facts": FACTS}.items() if f":{name}" in statement}
        connection.execute(text(statement), used)


def _shift(connection: Connection) -> int:
    """Return by how much a wallet's id is more than its account's."""
    asked = text("SELECT w.id - a.id FROM wallet w JOIN account a ON a.id = w.account_id WHERE a.name = 'c0'")
    return int(connection.execute(asked).scalar_one())


def _balances(connection: Connection, *, postgresql: bool) -> None:
    """Number each wallet's postings without gaps, and give it its balance and the sequences their ends.

    They come with negative numbers: a final one then never meets one that is still to be replaced, whatever the order.
    """
    order = "SELECT id, row_number() OVER (PARTITION BY wallet_id ORDER BY id) AS r FROM {} WHERE seq IS NOT NULL"
    for table in ("posting", "outbox"):
        numbered = order.format(table)
        update = f"UPDATE {table} SET seq = o.r FROM ({numbered}) AS o WHERE o.id = {table}.id"  # noqa: S608 - our own
        connection.execute(text(update))
    sums = "SELECT wallet_id, count(*) AS c, sum(amount_micros) AS s FROM posting WHERE seq IS NOT NULL GROUP BY 1"
    balances = "UPDATE wallet SET balance_micros = o.s, seq = o.c FROM ({}) AS o WHERE o.wallet_id = wallet.id"
    connection.execute(text(balances.format(sums)))
    if postgresql:
        for table in ("cdr_key", "ledger_transaction", "posting"):
            last = f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"  # noqa: S608 - our own names
            connection.execute(text(last))


def _put_indexes_aside(connection: Connection, *, postgresql: bool) -> list[str]:
    """Drop what would be kept up row by row, and return how it is made again at the end."""
    if not postgresql:
        rows = connection.execute(
            text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type IN ('index', 'trigger')")
        ).all()
        aside = [(kind, name, sql) for kind, name, sql in rows if kind == "trigger" or _is_of(sql)]
        for kind, name, _ in aside:
            connection.execute(text(f"DROP {kind} {name}"))
        return [sql for _, _, sql in aside]
    rows = connection.execute(
        text("""SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i
                JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
                WHERE t.relname = ANY(:tables) AND NOT i.indisprimary AND NOT EXISTS
                (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
                AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)"""),
        {"tables": list(FILLED)},
    ).all()
    for name, _ in rows:
        connection.execute(text(f'DROP INDEX "{name}"'))
    return [definition.replace(" ON ONLY ", " ON ") for _, definition in rows]


def _is_of(sql: str) -> bool:
    return any(f" ON {table} " in sql or f" ON {table}(" in sql for table in FILLED)


def started(day: datetime) -> datetime:
    """Return the beginning of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
