"""Do the books balance? The invariants of the design, checked in SQL and against the live credit store.

Give each check a session of `billing.store.reading`: on one consistent state calls may go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from sqlalchemy import func, text
from sqlmodel import Session, SQLModel, col, select

from billing.charges import paid_again, rate_of
from billing.credit.store import CreditStore, OpenHold, WalletView
from billing.invariants import CHARGES_WITHIN, GUARDS, GUARDS_ON, LOOKS, MONTHS, Look, Window
from billing.models import LIVE_KINDS, CallCost, Cdr, Charge, Correction, LedgerTransaction, OutboxRow, Posting, Wallet
from rating.money import format_amount
from rating.tariff import Rate

MOST_FINDINGS = 20
"""How many findings of one kind are told; the first say what is wrong."""
PAGE = 5_000
RATES_KEPT = 10_000
LOOK_TIMES = 3
"""The live store moves while it is read: what is wrong must be wrong each time."""
LOOK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that does not hold: its number in the design, what is wrong in a sentence, and whose money it is."""

    invariant: int
    what: str
    accounts: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class BooksReport:
    """What was looked at, and what is wrong."""

    transactions: int
    postings: int
    wallets: int
    cdrs: int
    holds: int
    findings: tuple[Finding, ...]


def check_store(session: Session) -> BooksReport:
    """Check what SQL alone can say: sums to zero, balances, numbers without gaps, charges = postings, prices again."""
    findings = [finding for look in LOOKS for finding in _wrong(session, look)]
    findings += _reprice_all(session)
    findings += unguarded(session)
    return BooksReport(
        transactions=_count(session, LedgerTransaction),
        postings=_count(session, Posting),
        wallets=_count(session, Wallet),
        cdrs=_count(session, Cdr),
        holds=0,
        findings=tuple(findings),
    )


def check_window(session: Session, window: Window) -> list[Finding]:
    """Check what is new, in SQL: each question that can be asked of a window, and the prices of its charges."""
    looks = [look for look in LOOKS if look.windowed]
    findings = [finding for look in looks for finding in _wrong(session, look, window)]
    rates: dict[bytes, Rate] = {}
    for what, question in CHARGES_WITHIN:
        for call_id, amount_micros, facts in session.execute(text(question), window.parameters()):
            read = orjson.loads(facts) if isinstance(facts, str) else facts
            says = _reprice(read, amount_micros, rates)
            if says and len(findings) < MOST_FINDINGS:
                findings.append(_of_call(session, Finding(6, f"Call {call_id}, {what}: {says}."), call_id))
    return findings


def unguarded(session: Session) -> list[Finding]:
    """Name the tables of history whose triggers are missing or off, months included."""
    guarded = set(session.execute(text(GUARDS_ON[session.get_bind().dialect.name])).scalars())
    tables = [*GUARDS, *session.execute(text(MONTHS[session.get_bind().dialect.name])).scalars()]
    return [
        Finding(12, f"Nothing keeps the rows of {table} from being deleted: its trigger is missing or off.")
        for table in tables
        if table not in guarded
    ]


def ask_of_everything(session: Session) -> list[Finding]:
    """Ask what can be asked of no window, and is not much to read."""
    looks = [look for look in LOOKS if not look.windowed and not look.whole]
    return [finding for look in looks for finding in _wrong(session, look)]


async def check_credit(session: Session, credit: CreditStore) -> tuple[int, tuple[Finding, ...]]:
    """Check the live credit store against SQL; return the number of open holds and the findings.

    Postings that wait in the outbox are no finding, nor is a wallet that Redis has not been asked for yet.
    """
    found: dict[tuple[int, str], Finding] = {}
    number = 0
    for look in range(LOOK_TIMES):
        if look:
            await asyncio.sleep(LOOK_AGAIN_S)
            # SQL as it is now, not as it was at the last look.
            session.rollback()
        number, seen = await _look_at_credit(session, credit)
        found = seen if not look else {key: finding for key, finding in seen.items() if key in found}
        if not found:
            break
    return number, tuple(found.values())


def _wrong(session: Session, look: Look, window: Window | None = None) -> Iterator[Finding]:
    asked = {} if window is None else window.parameters()
    rows = session.execute(text(look.within(window)), asked).fetchmany(MOST_FINDINGS + 1)
    for row in rows[:MOST_FINDINGS]:
        found = Finding(look.invariant, look.says.format(*row))
        yield replace(found, accounts=_owners(session, look.about, row[look.whose])) if look.about else found
    if len(rows) > MOST_FINDINGS:
        yield Finding(look.invariant, "There are more of these.")


_OWNERS = {
    "wallet": "SELECT w.account_id FROM wallet w JOIN account a ON a.id = w.account_id WHERE w.id = :it {}",
    "transaction": """SELECT DISTINCT w.account_id FROM posting p JOIN wallet w ON w.id = p.wallet_id
                      JOIN account a ON a.id = w.account_id WHERE p.transaction_id = :it {} ORDER BY 1""",
    "call": """SELECT a.id FROM account a WHERE a.id IN (SELECT account_id FROM charge WHERE call_id = :it
               UNION SELECT account_id FROM cdr WHERE call_id = :it) {} ORDER BY 1""",
}


def _owners(session: Session, about: str, it: Any) -> tuple[int, ...]:
    """Return the accounts that a wallet, a transaction or a call is about; the operator is nobody's customer."""
    asked = _OWNERS[about].format("AND a.kind <> 'operator'")
    return tuple(session.execute(text(asked), {"it": it}).scalars())


def _of_call(session: Session, found: Finding, call_id: str) -> Finding:
    return replace(found, accounts=_owners(session, "call", call_id))


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
                findings.append(_of_call(session, Finding(6, f"Call {call_id}, {what} {row_id}: {says}."), call_id))
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
                found = Finding(6, f"Call {call_id}, what its carrier charges: {says}.")
                findings.append(_of_call(session, found, call_id))
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
        again = paid_again(rate, facts).micros
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
    money = select(Wallet.id, Wallet.account_id).where(col(Wallet.kind).in_(LIVE_KINDS)).order_by(col(Wallet.id))
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
    kept = {wallet.id: wallet for wallet in session.exec(select(Wallet).where(col(Wallet.kind).in_(LIVE_KINDS)))}
    for wallet_id, view in views.items():
        owner = (kept[wallet_id].account_id,)
        if view is None:
            if held[wallet_id]:
                what = f"Calls hold money of wallet {wallet_id}, which Redis lacks."
                yield (3, f"w{wallet_id}"), Finding(3, what, owner)
            continue
        says = _compare(session, kept[wallet_id], view)
        if says:
            yield (2, f"w{wallet_id}"), Finding(2, says, owner)
        if view.held_micros != held[wallet_id]:
            what = (
                f"Wallet {wallet_id} says {view.held_micros} is held, its holds sum to {held[wallet_id]} micro-units."
            )
            yield (3, f"h{wallet_id}"), Finding(3, what, owner)
        if view.available_micros < 0 <= view.balance_micros + view.credit_limit_micros:
            what = f"Wallet {wallet_id} has {-view.available_micros} micro-units less than calls hold of it."
            yield (3, f"a{wallet_id}"), Finding(3, what, owner)


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
            yield (10, f"c{account_id}"), Finding(10, what, (account_id,))


def _check_ended(session: Session, holds: Sequence[OpenHold]) -> Iterator[tuple[tuple[int, str], Finding]]:
    """Find holds of calls that are settled and told: nothing will ever end them."""
    call_ids = [hold.call_id for hold in holds]
    for at in range(0, len(call_ids), MOST_FINDINGS * 10):
        page = call_ids[at : at + MOST_FINDINGS * 10]
        waiting = select(OutboxRow.call_id).where(col(OutboxRow.call_id).in_(page), col(OutboxRow.applied_at).is_(None))
        settled = select(Cdr.call_id).where(col(Cdr.call_id).in_(page), col(Cdr.call_id).not_in(waiting))
        for call_id in session.exec(settled).all():
            found = Finding(4, f"Call {call_id} is settled, but money is still held for it.")
            yield (4, call_id), _of_call(session, found, call_id)
