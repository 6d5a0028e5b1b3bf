"""Totals of calls and money by day, so that no page adds up all records: kept by `roll`, read with what is newer.

`roll` adds the records and postings that have become visible since it last ran, in the same unit of work as the place
it has come to (`meta`): stopped anywhere, or run by several at once, it counts each once. What is read is the totals up
to that place and, from the tables, what came after it: exact at any moment, and quick while somebody rolls.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, SQLModel, col, select

from billing.models import CallTotal, LedgerTotal, Meta, MoneyTotal, WalletKind
from billing.store import insert_or_skip, numbered_until

CALLS_AT: Final = "totals_cdr"
POSTINGS_AT: Final = "totals_posting"
MOST: Final = 50_000
"""How many records and postings one unit of work adds."""

DAY_OF: Final = {"sqlite": "date({})", "postgresql": "({} AT TIME ZONE 'UTC')::date"}
FRESH: Final = "FROM cdr_key k JOIN cdr c ON c.call_id = k.call_id AND c.ended_at = k.ended_at"
CALLS: Final = (
    "SELECT {day} AS day, coalesce(c.account_id, 0) AS account_id, c.direction, c.disposition, c.destination,"
    f" c.switch, c.reason, count(*) AS calls, sum(c.talk_ms) AS talk_ms, sum(c.billable_ms) AS billable_ms {FRESH}"
    " WHERE k.id > :after AND k.id <= :until GROUP BY 1, 2, 3, 4, 5, 6, 7"
)
MONEY: Final = (
    "SELECT {day} AS day, h.account_id AS payer, t.account_id AS payee, t.kind,"
    " CASE h.level WHEN 0 THEN 1 ELSE 0 END AS first, h.currency, c.direction, c.destination,"
    f" count(*) AS charges, sum(h.billed_s) AS billed_s, sum(h.amount_micros) AS amount {FRESH}"
    " JOIN charge h ON h.call_id = k.call_id JOIN wallet t ON t.id = h.to_wallet_id"
    " WHERE k.id > :after AND k.id <= :until GROUP BY 1, 2, 3, 4, 5, 6, 7, 8"
)
POSTINGS: Final = (
    "SELECT {day} AS day, w.kind, p.currency,"
    " sum(CASE WHEN p.amount_micros < 0 THEN -p.amount_micros ELSE 0 END) AS debits,"
    " sum(CASE WHEN p.amount_micros > 0 THEN p.amount_micros ELSE 0 END) AS credits, count(*) AS postings"
    " FROM posting p JOIN wallet w ON w.id = p.wallet_id WHERE p.id > :after AND p.id <= :until GROUP BY 1, 2, 3"
)
CALLED: Final = "sum(calls), sum(talk_ms), sum(billable_ms)"
PAID: Final = (
    "sum(first * charges), sum(first * billed_s), sum(first * amount),"
    " sum(CASE kind WHEN 'income' THEN amount ELSE 0 END)"
)
OF_ALL: Final = "(first = 1 OR kind = 'income')"
END: Final = 2**62
"""No id is greater."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How groups of calls, charges or postings become rows of a table: what is its key, what is added up."""

    table: type[SQLModel]
    groups: str
    moment: str
    key: str
    sums: str
    where: str = "1 = 1"


OF_CALLS: Final = (
    Spread(CallTotal, CALLS, "c.ended_at", "'all', 0, day, direction, disposition, '', switch, reason", CALLED),
    Spread(
        CallTotal,
        CALLS,
        "c.ended_at",
        "'account', account_id, day, direction, disposition, destination, '', ''",
        CALLED,
    ),
    Spread(
        CallTotal, CALLS, "c.ended_at", "'destination', 0, day, direction, disposition, destination, '', ''", CALLED
    ),
    Spread(
        MoneyTotal,
        MONEY,
        "c.ended_at",
        "'account', payer, day, currency, direction, destination",
        "sum(charges), sum(billed_s), sum(amount), 0",
    ),
    Spread(
        MoneyTotal,
        MONEY,
        "c.ended_at",
        "'account', payee, day, currency, direction, destination",
        "0, 0, 0, sum(amount)",
        "kind = 'money'",
    ),
    Spread(MoneyTotal, MONEY, "c.ended_at", "'all', 0, day, currency, direction, ''", PAID, OF_ALL),
    Spread(MoneyTotal, MONEY, "c.ended_at", "'destination', 0, day, currency, direction, destination", PAID, OF_ALL),
)
OF_POSTINGS: Final = (
    Spread(LedgerTotal, POSTINGS, "p.posted_at", "kind, currency, day", "sum(debits), sum(credits), sum(postings)"),
)

Key = tuple[Any, ...]
Sums = dict[Key, list[int]]


@dataclass(frozen=True, slots=True)
class CallSum:
    """Calls of a UTC day that are alike in what the scope tells apart (see `CallTotal`)."""

    account_id: int
    day: date
    direction: str
    disposition: str
    destination: str
    switch: str
    reason: str
    calls: int
    talk_ms: int
    billable_ms: int


@dataclass(frozen=True, slots=True)
class MoneySum:
    """What calls of a UTC day cost and earned (see `MoneyTotal`), micro-units."""

    account_id: int
    day: date
    currency: str
    direction: str
    destination: str
    charges: int
    billed_s: int
    spent_micros: int
    earned_micros: int


def roll(session: Session, *, most: int = MOST) -> int:
    """Add what is new to the totals; return how many records and postings. 0 also where somebody else is at it.

    Up to `most` of each: call it again while it returns that many.
    """
    insert_or_skip(session, Meta, [{"key": key, "value": 0} for key in (CALLS_AT, POSTINGS_AT)], "key")
    locked = select(Meta).where(col(Meta.key).in_([CALLS_AT, POSTINGS_AT])).order_by(col(Meta.key))
    places = {row.key: row for row in session.exec(locked.with_for_update(skip_locked=True))}
    if len(places) != 2:  # noqa: PLR2004 - both, or somebody else has them
        return 0
    added = 0
    last_call, last_posting = numbered_until(session, "cdr_key", "posting")
    calls = places[CALLS_AT]
    if (until := min(last_call, calls.value + most)) > calls.value:
        _add(session, OF_CALLS, calls.value, until)
        added += until - calls.value
        calls.value = until
    postings = places[POSTINGS_AT]
    if (until := min(last_posting, postings.value + most)) > postings.value:
        _add(session, OF_POSTINGS, postings.value, until)
        added += until - postings.value
        postings.value = until
    session.flush()
    return added


def call_sums(
    session: Session, scope: str, since: date, until: date, *, account_ids: Sequence[int] | None = None
) -> list[CallSum]:
    """Return the calls of the days `since` to `until`, both included; of all accounts, or of these payers."""
    sums = _kept(session, CallTotal, scope, since, until, account_ids)
    tail = _spread_calls(_ask(session, CALLS, "c.ended_at", _place(session, CALLS_AT), END))
    _merge(sums, _within(tail, scope, since, until, account_ids))
    return [CallSum(*key[1:], *values) for key, values in sorted(sums.items())]


def money_sums(
    session: Session, scope: str, since: date, until: date, *, account_ids: Sequence[int] | None = None
) -> list[MoneySum]:
    """Return what the calls of the days `since` to `until`, both included, cost and earned."""
    sums = _kept(session, MoneyTotal, scope, since, until, account_ids)
    tail = _spread_money(_ask(session, MONEY, "c.ended_at", _place(session, CALLS_AT), END))
    _merge(sums, _within(tail, scope, since, until, account_ids))
    return [MoneySum(*key[1:], *values) for key, values in sorted(sums.items())]


def ledger_sums(session: Session, before: date | None) -> dict[tuple[WalletKind, str], tuple[int, int]]:
    """Return debits and credits by kind and currency: of all days before one, or of all there are."""
    rules = [] if before is None else [col(LedgerTotal.day) < before]
    sums: Sums = defaultdict(lambda: [0, 0])
    for row in session.exec(select(LedgerTotal).where(*rules)):
        _merge(sums, {(row.kind, row.currency): [row.debits_micros, row.credits_micros]})
    for key, values in _spread_postings(
        _ask(session, POSTINGS, "p.posted_at", _place(session, POSTINGS_AT), END)
    ).items():
        kind, currency, day = key
        if before is None or day < before:
            _merge(sums, {(kind, currency): values[:2]})
    return {(kind, currency): (left, right) for (kind, currency), (left, right) in sums.items()}


def ledger_day(session: Session, day: date) -> dict[tuple[WalletKind, str], tuple[int, int]]:
    """Return debits and credits of one UTC day by kind and currency."""
    sums: Sums = defaultdict(lambda: [0, 0])
    for row in session.exec(select(LedgerTotal).where(LedgerTotal.day == day)):
        _merge(sums, {(row.kind, row.currency): [row.debits_micros, row.credits_micros]})
    fresh = _ask(session, POSTINGS, "p.posted_at", _place(session, POSTINGS_AT), END)
    for (kind, currency, when), values in _spread_postings(fresh).items():
        if when == day:
            _merge(sums, {(kind, currency): values[:2]})
    return {(kind, currency): (left, right) for (kind, currency), (left, right) in sums.items()}


def behind(session: Session) -> int:
    """Return how many records are not in the totals yet."""
    last = session.execute(text("SELECT coalesce(max(id), 0) FROM cdr_key")).scalar_one()
    return max(int(last) - _place(session, CALLS_AT), 0)


def _place(session: Session, key: str) -> int:
    return session.exec(select(Meta.value).where(Meta.key == key)).one_or_none() or 0


def _ask(session: Session, question: str, moment: str, after: int, until: int) -> Iterable[Any]:
    day = DAY_OF[session.get_bind().dialect.name].format(moment)
    return session.execute(text(question.format(day=day)), {"after": after, "until": until})


def _spread_calls(rows: Iterable[Any]) -> Sums:
    """Turn groups of calls into rows of every scope: (scope, account, day, …) → calls, talk, billable."""
    sums: Sums = defaultdict(lambda: [0, 0, 0])
    for day, account_id, direction, disposition, destination, switch, reason, *values in rows:
        when = _day(day)
        alike = (
            ("all", 0, when, direction, disposition, "", switch, reason),
            ("account", account_id, when, direction, disposition, destination, "", ""),
            ("destination", 0, when, direction, disposition, destination, "", ""),
        )
        for key in alike:
            _merge(sums, {key: values})
    return sums


def _spread_money(rows: Iterable[Any]) -> Sums:
    """Turn groups of charges into rows of every scope: (scope, account, day, …) → charges, billed, spent, earned."""
    sums: Sums = defaultdict(lambda: [0, 0, 0, 0])
    for day, payer, payee, kind, first, currency, direction, destination, charges, billed_s, amount in rows:
        when, where = _day(day), (currency, direction, destination)
        _merge(sums, {("account", payer, when, *where): [charges, billed_s, amount, 0]})
        if kind == WalletKind.MONEY:
            _merge(sums, {("account", payee, when, *where): [0, 0, 0, amount]})
        earned = amount if kind == WalletKind.INCOME else 0
        paid = [charges, billed_s, amount, earned] if first else [0, 0, 0, earned]
        if any(paid):
            _merge(sums, {("all", 0, when, currency, direction, ""): paid, ("destination", 0, when, *where): paid})
    return sums


def _spread_postings(rows: Iterable[Any]) -> Sums:
    return {(WalletKind(kind), currency, _day(day)): [int(v) for v in values] for day, kind, currency, *values in rows}


def _add(session: Session, spreads: Iterable[Spread], after: int, until: int) -> None:
    """Add up within the database: what is new may be many groups, and none of them is needed here."""
    for spread in spreads:
        core = spread.table.__table__  # type: ignore[attr-defined] # its columns, in order
        keys = [column.name for column in core.primary_key]
        values = [column.name for column in core.columns if column.name not in keys]
        day = DAY_OF[session.get_bind().dialect.name].format(spread.moment)
        added = ", ".join(f"{name} = {core.name}.{name} + excluded.{name}" for name in values)
        by = ", ".join(part for part in spread.key.split(", ") if part.isidentifier())
        statement = (
            f"INSERT INTO {core.name} ({', '.join((*keys, *values))}) SELECT {spread.key}, {spread.sums}"  # noqa: S608
            f" FROM ({spread.groups.format(day=day)}) AS f WHERE {spread.where} GROUP BY {by}"
            f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {added}"
        )
        session.execute(text(statement), {"after": after, "until": until})


def _kept(  # noqa: PLR0917 - private, and each is of another type
    session: Session,
    table: type[CallTotal | MoneyTotal],
    scope: str,
    since: date,
    until: date,
    account_ids: Sequence[int] | None,
) -> Sums:
    core = table.__table__  # type: ignore[union-attr]
    rules = [core.c.scope == scope, core.c.day >= since, core.c.day <= until]
    if account_ids is not None:
        rules.append(core.c.account_id.in_(list(account_ids)))
    elif scope != "account":
        rules.append(core.c.account_id == 0)  # says nothing new, but lets the index go on to the day
    keys = len(core.primary_key)
    sums: Sums = {}
    for row in session.execute(core.select().where(*rules)):
        sums[tuple(row[:keys])] = list(row[keys:])
    return sums


def _within(sums: Sums, scope: str, since: date, until: date, account_ids: Sequence[int] | None) -> Sums:
    wanted = None if account_ids is None else frozenset(account_ids)
    return {
        key: values
        for key, values in sums.items()
        if key[0] == scope and since <= key[2] <= until and (wanted is None or key[1] in wanted)
    }


def _merge(sums: Sums, more: Mapping[Key, Sequence[int]]) -> None:
    for key, values in more.items():
        known = sums.get(key)
        sums[key] = [int(a) + int(b) for a, b in zip(known, values, strict=True)] if known else [int(v) for v in values]


def _day(value: date | str) -> date:
    return date.fromisoformat(value) if isinstance(value, str) else value
