"""The ledger: transactions whose postings sum to zero per currency, numbered per wallet, mirrored into the outbox.

One sign for all: positive is the credit of whoever holds the wallet. A top-up is cash −x, wallet +x, so the operator's
cash goes down as money comes in, and all wallets of a currency sum to zero. A charge is wallet −x, payee +x.

Post once in a unit of work (`post_many` takes any number of transactions): each posting locks all its wallets in order
of id, and two postings in one unit of work could lock them in another order than somebody else. Nothing here is undone
by itself: after an error the caller rolls back, as `billing.store.work` does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, func, text, update
from sqlmodel import Session, col, select

from billing.errors import Conflict, LedgerBroken, NotFound, TooLarge
from billing.low_balance import watch_balances
from billing.models import LIVE_KINDS, LedgerTransaction, OutboxRow, Posting, Wallet
from billing.store import announce_numbers, insert_or_skip, insert_rows
from rating.money import MOST_MICROS

PAGE = 500
"""How many ids one query names."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A posting to be made. `call_id` names the hold it replaces in the live credit store.

    Where `currency` is given, the wallet must have it.
    """

    wallet_id: int
    amount_micros: int
    call_id: str | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A posting on a live wallet, as the live credit store must apply it, in order of `seq`."""

    wallet_id: int
    seq: int
    amount_micros: int
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A transaction to be posted; `operation` is the caller's id for it. `id` where the caller has reserved one."""

    operation: str
    kind: str
    entries: tuple[Entry, ...]
    actor: str
    reason: str = ""
    reverses_id: int | None = None
    id: int | None = None


class Purse(NamedTuple):
    """What posting must know of a wallet; a `live` one (money or bundle) is locked until the unit of work ends."""

    live: bool
    currency: str
    balance_micros: int
    seq: int


def post(
    session: Session,
    entries: Sequence[Entry],
    *,
    operation: str,
    kind: str,
    actor: str,
    reason: str = "",
    now: datetime,
    reverses_id: int | None = None,
) -> tuple[LedgerTransaction, tuple[Applied, ...]]:
    """Post one transaction: lock the wallets in order of id, number, add, write outbox rows.

    Raises `LedgerBroken` where the entries do not sum to zero per currency, `TooLarge` beyond 2**53, `Conflict` where
    the operation has posted already, `NotFound` where there is no such wallet. Nothing has been written then.
    """
    draft = Draft(operation, kind, tuple(entries), actor, reason, reverses_id)
    applied = post_many(session, [draft], now=now)
    written = session.exec(select(LedgerTransaction).where(LedgerTransaction.operation == operation)).one()
    return written, applied


def post_many(session: Session, drafts: Sequence[Draft], *, now: datetime) -> tuple[Applied, ...]:
    """Post many transactions at the price of few statements; what it returns is in order of the drafts' entries.

    Raises what `post` raises. After a `Conflict` transactions of other drafts may have been written: roll back.
    """
    if not drafts:
        return ()
    session.flush()
    announce_numbers(session)
    entries = [entry for draft in drafts for entry in draft.entries]
    purses = lock_wallets(session, sorted({entry.wallet_id for entry in entries}))
    for draft in drafts:
        _check(draft, purses)
    applied = _number(entries, purses)
    numbered = _with_ids(session, drafts)
    _write_transactions(session, numbered, now)
    _write_postings(session, numbered, purses, applied, now)
    _move_balances(session, applied)
    watch_balances(session, (one.wallet_id for one in applied), actor=drafts[0].actor, now=now)
    return tuple(applied)


def reverse(
    session: Session, transaction_id: int, *, operation: str, actor: str, reason: str, now: datetime
) -> LedgerTransaction:
    """Undo a transaction by its mirror image, once.

    Raises `NotFound`, or `Conflict` where it has been reversed already or is itself a reversal (post anew instead).
    """
    undone = session.get(LedgerTransaction, transaction_id)
    if undone is None:
        raise NotFound(f"there is no transaction {transaction_id}")
    if undone.reverses_id is not None:
        raise Conflict(f"transaction {transaction_id} is itself a reversal")
    postings = select(Posting).where(Posting.transaction_id == transaction_id).order_by(col(Posting.id))
    mirror = [Entry(row.wallet_id, -row.amount_micros) for row in session.exec(postings).all()]
    written, _ = post(
        session,
        mirror,
        operation=operation,
        kind="reversal",
        actor=actor,
        reason=reason,
        now=now,
        reverses_id=transaction_id,
    )
    return written


def lock_wallets(session: Session, wallet_ids: list[int]) -> dict[int, Purse]:
    """Lock the live wallets in order of id and return what stands in them. Others keep no balance to protect."""
    purses: dict[int, Purse] = {}
    asked = select(Wallet.id, Wallet.currency, Wallet.balance_micros, Wallet.seq).order_by(col(Wallet.id))
    for page in _pages(wallet_ids):
        live = asked.where(col(Wallet.id).in_(page), col(Wallet.kind).in_(LIVE_KINDS))
        # key_share: rows that merely point to a wallet are written by others meanwhile.
        for wallet_id, currency, balance, seq in session.exec(live.with_for_update(key_share=True)):
            purses[wallet_id or 0] = Purse(True, currency, balance, seq)
        others = asked.where(col(Wallet.id).in_(page), col(Wallet.kind).not_in(LIVE_KINDS))
        for wallet_id, currency, balance, seq in session.exec(others):
            purses[wallet_id or 0] = Purse(False, currency, balance, seq)
    missing = [wallet_id for wallet_id in wallet_ids if wallet_id not in purses]
    if missing:
        raise NotFound(f"there is no wallet {missing[0]}")
    return purses


def reserve_ids(session: Session, number: int) -> list[int]:
    """Return ids for transactions that are about to be posted, so that rows which name them can be written before."""
    if session.get_bind().dialect.name == "sqlite":
        # Safe under the write lock that every unit of work holds; and transactions are never deleted.
        last = session.exec(select(func.max(LedgerTransaction.id))).one() or 0
        return list(range(last + 1, last + 1 + number))
    ids = text("SELECT nextval(pg_get_serial_sequence('ledger_transaction', 'id')) FROM generate_series(1, :number)")
    return list(session.execute(ids, {"number": number}).scalars())


def _check(draft: Draft, purses: dict[int, Purse]) -> None:
    sums: defaultdict[str, int] = defaultdict(int)
    for entry in draft.entries:
        if not entry.amount_micros:
            raise LedgerBroken(f"{draft.operation!r} has a posting of nothing")
        if abs(entry.amount_micros) > MOST_MICROS:
            raise TooLarge(f"{draft.operation!r} has an amount beyond 2**53 micro-units")
        currency = purses[entry.wallet_id].currency
        if entry.currency not in (None, currency):
            raise LedgerBroken(f"{draft.operation!r} posts {entry.currency} to a wallet in {currency}")
        sums[currency] += entry.amount_micros
    if not draft.entries or any(sums.values()):
        raise LedgerBroken(f"the postings of {draft.operation!r} do not sum to zero: {dict(sums)}")


def _number(entries: list[Entry], purses: dict[int, Purse]) -> list[Applied]:
    """Give each posting on a live wallet its place, and refuse a balance that Redis could not keep exactly."""
    balances = {wallet_id: purse.balance_micros for wallet_id, purse in purses.items() if purse.live}
    seqs = {wallet_id: purses[wallet_id].seq for wallet_id in balances}
    applied: list[Applied] = []
    for entry in entries:
        wallet_id, amount = entry.wallet_id, entry.amount_micros
        if wallet_id not in balances:
            continue
        balances[wallet_id] += amount
        if abs(balances[wallet_id]) > MOST_MICROS:
            raise TooLarge(f"the balance of wallet {wallet_id} would go beyond 2**53 micro-units")
        seqs[wallet_id] += 1
        applied.append(Applied(wallet_id, seqs[wallet_id], amount, entry.call_id))
    return applied


def _with_ids(session: Session, drafts: Sequence[Draft]) -> list[tuple[int, Draft]]:
    lacking = sum(1 for draft in drafts if draft.id is None)
    fresh = iter(reserve_ids(session, lacking) if lacking else ())
    return [(next(fresh) if draft.id is None else draft.id, draft) for draft in drafts]


def _write_transactions(session: Session, drafts: list[tuple[int, Draft]], now: datetime) -> None:
    rows = [
        {
            "id": transaction_id,
            "operation": draft.operation,
            "kind": draft.kind,
            "reason": draft.reason[:500],
            "actor": draft.actor[:100],
            "reverses_id": draft.reverses_id,
            "created_at": now,
        }
        for transaction_id, draft in drafts
    ]
    written = set(insert_or_skip(session, LedgerTransaction, rows, "operation"))
    for _, draft in drafts:
        if draft.operation not in written:
            done = draft.operation if draft.reverses_id is None else f"reversal of transaction {draft.reverses_id}"
            raise Conflict(f"{done!r} has been posted already")


def _write_postings(
    session: Session, drafts: list[tuple[int, Draft]], purses: dict[int, Purse], applied: list[Applied], now: datetime
) -> None:
    numbered = iter(applied)
    postings = [
        {
            "transaction_id": transaction_id,
            "wallet_id": entry.wallet_id,
            "amount_micros": entry.amount_micros,
            "currency": purses[entry.wallet_id].currency,
            "seq": next(numbered).seq if purses[entry.wallet_id].live else None,
            "posted_at": now,
        }
        for transaction_id, draft in drafts
        for entry in draft.entries
    ]
    insert_rows(session, Posting, postings)
    outbox = [
        {"wallet_id": one.wallet_id, "seq": one.seq, "amount_micros": one.amount_micros, "call_id": one.call_id}
        for one in applied
    ]
    insert_rows(session, OutboxRow, outbox)


def _move_balances(session: Session, applied: list[Applied]) -> None:
    moves: defaultdict[int, list[int]] = defaultdict(list)
    for one in applied:
        moves[one.wallet_id].append(one.amount_micros)
    if not moves:
        return
    wallet = Wallet.__table__  # type: ignore[attr-defined]
    move = (
        update(wallet)
        .where(wallet.c.id == bindparam("wallet"))
        .values(balance_micros=wallet.c.balance_micros + bindparam("sum"), seq=wallet.c.seq + bindparam("count"))
    )
    rows = [{"wallet": key, "sum": sum(moves[key]), "count": len(moves[key])} for key in sorted(moves)]
    session.execute(move, rows)
    for held in session.identity_map.values():
        if isinstance(held, Wallet) and held.id in moves:
            session.refresh(held)


def _pages(ids: list[int]) -> list[list[int]]:
    return [ids[at : at + PAGE] for at in range(0, len(ids), PAGE)]
