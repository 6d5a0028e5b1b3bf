"""Do the books balance? The invariants of the design, checked in SQL and against the live credit store.

Give each check a session of `billing.store.reading`: on one consistent state calls may go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import func, text
from sqlmodel import Session, SQLModel, col, select

from billing.charges import rate_of, talk_of
from billing.credit.store import CreditStore, OpenHold, WalletView
from billing.models import CallCost, Cdr, Charge, Correction, LedgerTransaction, OutboxRow, Posting, Wallet, WalletKind
from rating.money import format_amount
from rating.pricing import cost_ms
from rating.tariff import Rate

MOST_FINDINGS = 20
"""How many findings of one kind are told; the first say what is wrong."""
PAGE = 5_000
RATES_KEPT = 10_000
LOOKS = 3
"""The live store moves while it is read: what is wrong must be wrong each time."""
LOOK_AGAIN_S = 0.05
GUARDS = ("posting", "ledger_transaction", "audit", "cdr", "charge", "correction", "exchange_rate", "call_cost")
"""The tables whose history triggers protect."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that does not hold: its number in the design, and what is wrong in a sentence."""

    invariant: int
    what: str


@dataclass(frozen=True, slots=True)
class BooksReport:
    """What was looked at, and what is wrong."""

    transactions: int
    postings: int
    wallets: int
    cdrs: int
    holds: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Look:
    """A question to SQL whose every row is something wrong; `says` is filled with the row."""

    invariant: int
    says: str
    sql: str


_LOOKS = (
    _Look(
        1,
        "Transaction {0} does not sum to zero in {1}: {2} micro-units are left over.",
        """SELECT transaction_id, currency, sum(amount_micros) FROM posting
           GROUP BY transaction_id, currency HAVING sum(amount_micros) <> 0 ORDER BY transaction_id""",
    ),
    _Look(
        1,
        "All postings in {0} together do not sum to zero: {1} micro-units are left over.",
        "SELECT currency, sum(amount_micros) FROM posting GROUP BY currency HAVING sum(amount_micros) <> 0",
    ),
    _Look(
        1,
        "Transaction {0} ({1}) has no postings.",
        """SELECT t.id, t.operation FROM ledger_transaction t LEFT JOIN posting p ON p.transaction_id = t.id
           WHERE p.id IS NULL ORDER BY t.id""",
    ),
    _Look(
        1,
        "Posting {0} is in {1}, its wallet {2} in {3}.",
        """SELECT p.id, p.currency, w.id, w.currency FROM posting p JOIN wallet w ON w.id = p.wallet_id
           WHERE p.currency <> w.currency ORDER BY p.id""",
    ),
    _Look(
        2,
        "Wallet {0} says its balance is {1}, its postings sum to {2} micro-units.",
        """SELECT w.id, w.balance_micros, coalesce(sum(p.amount_micros), 0)
           FROM wallet w LEFT JOIN posting p ON p.wallet_id = w.id WHERE w.kind = 'money'
           GROUP BY w.id, w.balance_micros HAVING w.balance_micros <> coalesce(sum(p.amount_micros), 0)
           ORDER BY w.id""",
    ),
    _Look(
        2,
        "Wallet {0} keeps a balance or a number, though it is a {1} wallet.",
        """SELECT id, kind FROM wallet WHERE kind <> 'money' AND (balance_micros <> 0 OR seq <> 0) ORDER BY id""",
    ),
    _Look(
        2,
        "The live credit store is to be told posting {1} of wallet {0}, which the ledger does not have so.",
        """SELECT o.wallet_id, o.seq FROM outbox o
           LEFT JOIN posting p ON p.wallet_id = o.wallet_id AND p.seq = o.seq
           WHERE p.id IS NULL OR p.amount_micros <> o.amount_micros ORDER BY o.id""",
    ),
    _Look(
        12,
        "Wallet {0} has counted {1} postings, but has {2}, numbered {3} to {4}.",
        """SELECT w.id, w.seq, count(p.id), coalesce(min(p.seq), 0), coalesce(max(p.seq), 0)
           FROM wallet w LEFT JOIN posting p ON p.wallet_id = w.id WHERE w.kind = 'money' GROUP BY w.id, w.seq
           HAVING count(p.id) <> w.seq OR count(p.seq) <> w.seq OR coalesce(max(p.seq), 0) <> w.seq
              OR coalesce(min(p.seq), 1) <> 1 ORDER BY w.id""",
    ),
    _Look(
        5,
        "Transaction {0}: the charges of its call and its postings on wallet {1} differ by {2} micro-units.",
        """SELECT transaction_id, wallet_id, sum(amount) FROM (
             SELECT c.transaction_id, h.wallet_id, -h.amount_micros AS amount FROM charge h JOIN cdr c USING (call_id)
             UNION ALL
             SELECT c.transaction_id, h.to_wallet_id, h.amount_micros FROM charge h JOIN cdr c USING (call_id)
             UNION ALL
             SELECT c.transaction_id, k.wallet_id, -k.amount_micros FROM call_cost k JOIN cdr c USING (call_id)
             UNION ALL
             SELECT c.transaction_id, k.to_wallet_id, k.amount_micros FROM call_cost k JOIN cdr c USING (call_id)
             UNION ALL
             SELECT p.transaction_id, p.wallet_id, -p.amount_micros FROM posting p
             JOIN ledger_transaction t ON t.id = p.transaction_id WHERE t.kind = 'call'
           ) AS both_sides GROUP BY transaction_id, wallet_id HAVING sum(amount) <> 0 ORDER BY transaction_id""",
    ),
    _Look(
        5,
        "Transaction {0} ({1}) charges for a call that has no record.",
        """SELECT t.id, t.operation FROM ledger_transaction t LEFT JOIN cdr c ON c.transaction_id = t.id
           WHERE t.kind = 'call' AND c.call_id IS NULL ORDER BY t.id""",
    ),
    _Look(
        5,
        "The record of call {0} says it cost {1}, its charge says {2} micro-units.",
        """SELECT c.call_id, c.cost_micros, coalesce(h.amount_micros, 0) FROM cdr c
           LEFT JOIN charge h ON h.call_id = c.call_id AND h.level = 0
           WHERE c.cost_micros <> coalesce(h.amount_micros, 0) ORDER BY c.call_id""",
    ),
    _Look(
        5,
        "Transaction {0}: the corrections of its call and its postings on wallet {1} differ by {2} micro-units.",
        """SELECT transaction_id, wallet_id, sum(amount) FROM (
             SELECT transaction_id, wallet_id, before_micros - after_micros AS amount FROM correction
             UNION ALL
             SELECT transaction_id, to_wallet_id, after_micros - before_micros FROM correction
             UNION ALL
             SELECT p.transaction_id, p.wallet_id, -p.amount_micros FROM posting p
             JOIN ledger_transaction t ON t.id = p.transaction_id
             WHERE t.kind = 'correction' OR t.id IN (SELECT transaction_id FROM correction)
           ) AS both_sides GROUP BY transaction_id, wallet_id HAVING sum(amount) <> 0 ORDER BY transaction_id""",
    ),
    _Look(
        5,
        "Correction {0} of call {1} begins at {2} micro-units, but what stood before it is {3}.",
        """SELECT id, call_id, before_micros, stood FROM (
             SELECT n.id, n.call_id, n.before_micros, coalesce(
               lag(n.after_micros) OVER (PARTITION BY n.call_id, n.level ORDER BY n.id), h.amount_micros) AS stood
             FROM correction n LEFT JOIN charge h ON h.call_id = n.call_id AND h.level = n.level
           ) AS chain WHERE stood IS NULL OR before_micros <> stood ORDER BY id""",
    ),
    _Look(
        5,
        "Correction {0} of call {1} takes correction {2} back, but not to what stood before that.",
        """SELECT n.id, n.call_id, o.id FROM correction n JOIN correction o ON o.id = n.undoes_id
           WHERE n.after_micros <> o.before_micros OR n.call_id <> o.call_id OR n.level <> o.level
              OR n.run_id <> o.run_id ORDER BY n.id""",
    ),
)

_GUARDS_ON = {
    "sqlite": "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%_no_delete'",
    "postgresql": """SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                     WHERE t.tgname LIKE '%_is_history' AND t.tgenabled = 'O'
                     AND c.relnamespace = current_schema()::regnamespace""",
}


def check_store(session: Session) -> BooksReport:
    """Check what SQL alone can say: sums to zero, balances, numbers without gaps, charges = postings, prices again."""
    findings = [finding for look in _LOOKS for finding in _wrong(session, look)]
    findings += _reprice_all(session)
    guarded = set(session.execute(text(_GUARDS_ON[session.get_bind().dialect.name])).scalars())
    findings += [
        Finding(12, f"Nothing keeps the rows of {table} from being deleted: its trigger is missing or off.")
        for table in GUARDS
        if table not in guarded
    ]
    return BooksReport(
        transactions=_count(session, LedgerTransaction),
        postings=_count(session, Posting),
        wallets=_count(session, Wallet),
        cdrs=_count(session, Cdr),
        holds=0,
        findings=tuple(findings),
    )


async def check_credit(session: Session, credit: CreditStore) -> tuple[int, tuple[Finding, ...]]:
    """Check the live credit store against SQL; return the number of open holds and the findings.

    Postings that wait in the outbox are no finding, nor is a wallet that Redis has not been asked for yet.
    """
    found: dict[tuple[int, str], Finding] = {}
    number = 0
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(LOOK_AGAIN_S)
            # SQL as it is now, not as it was at the last look.
            session.rollback()
        number, seen = await _look_at_credit(session, credit)
        found = seen if not look else {key: finding for key, finding in seen.items() if key in found}
        if not found:
            break
    return number, tuple(found.values())


def _wrong(session: Session, look: _Look) -> Iterator[Finding]:
    rows = session.execute(text(look.sql)).fetchmany(MOST_FINDINGS + 1)
    for row in rows[:MOST_FINDINGS]:
        yield Finding(look.invariant, look.says.format(*row))
    if len(rows) > MOST_FINDINGS:
        yield Finding(look.invariant, "There are more of these.")


def _count(session: Session, table: type[SQLModel]) -> int:
    return int(session.execute(select(func.count()).select_from(table)).scalar_one())


def _reprice_all(session: Session) -> list[Finding]:
    """Price each charge, and each correction of one, again from its stored facts, page by page."""
    rates: dict[bytes, Rate] = {}
    of_charges = select(Charge.id, Charge.call_id, Charge.amount_micros, col(Charge.facts))
    of_corrections = select(Correction.id, Correction.call_id, Correction.after_micros, col(Correction.facts))
    findings = _reprice_each(session, "charge", of_charges, col(Charge.id), rates)
    findings += _reprice_each(session, "correction", of_corrections, col(Correction.id), rates)
    return [*findings, *_reprice_costs(session, rates)]


def _reprice_each(session: Session, what: str, asked: Any, key: Any, rates: dict[bytes, Rate]) -> list[Finding]:
    findings: list[Finding] = []
    asked, last = asked.order_by(key).limit(PAGE), 0
    while page := session.exec(asked.where(key > last)).all():
        for row_id, call_id, amount_micros, facts in page:
            last = row_id
            says = _reprice(facts, amount_micros, rates)
            if says and len(findings) < MOST_FINDINGS:
                findings.append(Finding(6, f"Call {call_id}, {what} {row_id}: {says}."))
    return findings


def _reprice_costs(session: Session, rates: dict[bytes, Rate]) -> list[Finding]:
    """Price what carriers charge again, in the same way."""
    findings: list[Finding] = []
    asked = select(CallCost.call_id, CallCost.amount_micros, col(CallCost.facts)).order_by(col(CallCost.call_id))
    last = ""
    while page := session.exec(asked.where(col(CallCost.call_id) > last).limit(PAGE)).all():
        for call_id, amount_micros, facts in page:
            last = call_id
            says = _reprice(facts, amount_micros, rates)
            if says and len(findings) < MOST_FINDINGS:
                findings.append(Finding(6, f"Call {call_id}, what its carrier charges: {says}."))
    return findings


def _reprice(facts: Any, amount_micros: int, rates: dict[bytes, Rate]) -> str:
    """Return what is wrong with a charge, or nothing. `rates` remembers those read before: most calls share few."""
    try:
        key = orjson.dumps([facts["rate"], facts.get("plan")])
        rate = rates.get(key)
        if rate is None:
            if len(rates) >= RATES_KEPT:
                rates.clear()
            rate = rates[key] = rate_of(facts)
        again = cost_ms(rate, *talk_of(facts))[0]
    except (ValueError, KeyError, TypeError) as error:
        return f"its facts cannot be priced ({error})"
    if again != amount_micros:
        return f"{format_amount(amount_micros)} was charged, its facts say {format_amount(again)}"
    return ""


async def _look_at_credit(session: Session, credit: CreditStore) -> tuple[int, dict[tuple[int, str], Finding]]:
    """Look once. Redis is read before SQL: what it has applied by then is in SQL too.

    SQL is read in a thread: whoever controls calls or serves pages in this loop goes on meanwhile.
    """
    listed = await asyncio.to_thread(_money_wallets, session)
    holds = await credit.holds()
    views = {wallet_id: await credit.wallet(wallet_id) for wallet_id, _ in listed}
    calls = {account_id: await credit.calls_of(account_id) for _, account_id in listed}
    return len(holds), await asyncio.to_thread(_compare_credit, session, views, calls, holds)


def _money_wallets(session: Session) -> list[tuple[int, int]]:
    """Return each live wallet with its account."""
    money = select(Wallet.id, Wallet.account_id).where(Wallet.kind == WalletKind.MONEY).order_by(col(Wallet.id))
    listed = [(wallet_id or 0, account_id) for wallet_id, account_id in session.exec(money).all()]
    session.rollback()
    return listed


def _compare_credit(
    session: Session, views: dict[int, WalletView | None], calls: dict[int, int], holds: Sequence[OpenHold]
) -> dict[tuple[int, str], Finding]:
    found: dict[tuple[int, str], Finding] = {}
    found.update(_check_wallets(session, views, holds))
    found.update(_check_channels(calls, holds))
    found.update(_check_ended(session, holds))
    return found


def _check_wallets(
    session: Session, views: dict[int, WalletView | None], holds: Sequence[OpenHold]
) -> Iterator[tuple[tuple[int, str], Finding]]:
    held: Counter[int] = Counter()
    for hold in holds:
        for share in hold.shares:
            held[share.wallet_id] += share.amount_micros
    kept = {wallet.id: wallet for wallet in session.exec(select(Wallet).where(Wallet.kind == WalletKind.MONEY))}
    for wallet_id, view in views.items():
        if view is None:
            if held[wallet_id]:
                yield (3, f"w{wallet_id}"), Finding(3, f"Calls hold money of wallet {wallet_id}, which Redis lacks.")
            continue
        says = _compare(session, kept[wallet_id], view)
        if says:
            yield (2, f"w{wallet_id}"), Finding(2, says)
        if view.held_micros != held[wallet_id]:
            what = (
                f"Wallet {wallet_id} says {view.held_micros} is held, its holds sum to {held[wallet_id]} micro-units."
            )
            yield (3, f"h{wallet_id}"), Finding(3, what)
        if view.available_micros < 0 <= view.balance_micros + view.credit_limit_micros:
            what = f"Wallet {wallet_id} has {-view.available_micros} micro-units less than calls hold of it."
            yield (3, f"a{wallet_id}"), Finding(3, what)


def _compare(session: Session, wallet: Wallet, view: WalletView) -> str:
    """Return what is wrong with Redis' copy of a wallet, or nothing."""
    if view.seq > wallet.seq:
        return f"Redis has applied posting {view.seq} of wallet {view.wallet_id}, SQL has {wallet.seq}."
    at_seq, told = wallet.balance_micros, wallet.seq - view.seq
    if told:
        newer = (col(Posting.wallet_id) == wallet.id, col(Posting.seq) > view.seq)
        at_seq -= int(session.exec(select(func.coalesce(func.sum(Posting.amount_micros), 0)).where(*newer)).one())
        waiting = select(func.count()).where(
            OutboxRow.wallet_id == wallet.id, OutboxRow.seq > view.seq, col(OutboxRow.applied_at).is_(None)
        )
        if session.exec(waiting).one() < told:
            return f"Redis has lost postings of wallet {view.wallet_id} after {view.seq}; SQL has {wallet.seq}."
    if view.balance_micros != at_seq:
        return (
            f"Redis says wallet {view.wallet_id} has {view.balance_micros}, SQL says {at_seq} micro-units"
            f" at posting {view.seq}."
        )
    return ""


def _check_channels(calls: dict[int, int], holds: Sequence[OpenHold]) -> Iterator[tuple[tuple[int, str], Finding]]:
    up = {share.account_id for hold in holds if not hold.finished for share in hold.shares}
    for account_id, number in calls.items():
        if number and account_id not in up:
            what = f"Account {account_id} has {number} channels in use, but no call."
            yield (10, f"c{account_id}"), Finding(10, what)


def _check_ended(session: Session, holds: Sequence[OpenHold]) -> Iterator[tuple[tuple[int, str], Finding]]:
    """Find holds of calls that are settled and told: nothing will ever end them."""
    call_ids = [hold.call_id for hold in holds]
    for at in range(0, len(call_ids), MOST_FINDINGS * 10):
        page = call_ids[at : at + MOST_FINDINGS * 10]
        waiting = select(OutboxRow.call_id).where(col(OutboxRow.call_id).in_(page), col(OutboxRow.applied_at).is_(None))
        settled = select(Cdr.call_id).where(col(Cdr.call_id).in_(page), col(Cdr.call_id).not_in(waiting))
        for call_id in session.exec(settled).all():
            yield (4, call_id), Finding(4, f"Call {call_id} is settled, but money is still held for it.")
