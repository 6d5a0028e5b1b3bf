"""SQL first, then Redis: postings that the live credit store has still to apply.

Whoever commits a posting applies it at once; `drain` applies what that left behind. Both may do the same row at the
same time: the second time it is `SEEN`, which changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog
from sqlalchemy import tuple_, update
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing.cdrs import applied_before
from billing.credit.store import AccountState, ApplyCode, CreditStore, WalletState
from billing.ledger import Applied
from billing.models import Account, Cdr, OutboxRow, Wallet, WalletKind
from billing.ports import Clock, to_ms
from billing.store import reading, work

log = structlog.get_logger(__name__)

MARK_CHUNK = 500
DONE = (ApplyCode.APPLIED, ApplyCode.SEEN)


async def apply_now(engine: Engine, credit: CreditStore, applied: Sequence[Applied], *, clock: Clock) -> int:
    """Apply postings right after their commit, mark their outbox rows; a gap or an unknown wallet is synced from SQL.

    Raises `CreditUnavailable`; the rows then stay for `drain`. Returns how many were applied.
    """
    in_order = sorted(applied, key=lambda posting: (posting.wallet_id, posting.seq))
    codes = await credit.apply_many(in_order)
    behind = {posting.wallet_id for posting, code in zip(in_order, codes, strict=True) if code not in DONE}
    if behind:
        await sync(engine, credit, behind)
        # A sync moves a wallet past its postings, but only telling each of them again drops the hold it replaces.
        codes = await credit.apply_many(in_order)
    done = [posting for posting, code in zip(in_order, codes, strict=True) if code in DONE]
    for posting, code in zip(in_order, codes, strict=True):
        if code not in DONE:
            log.error("posting_not_applied", wallet_id=posting.wallet_id, seq=posting.seq, code=str(code))
    if done:
        await asyncio.to_thread(_mark, engine, done, clock)
    return len(done)


async def drain(engine: Engine, credit: CreditStore, *, clock: Clock, most: int = 500) -> int:
    """Apply the oldest waiting rows, in order; return how many."""
    waiting = await asyncio.to_thread(_waiting, engine, most)
    return await apply_now(engine, credit, waiting, clock=clock) if waiting else 0


async def tell_again(engine: Engine, credit: CreditStore, call_ids: Sequence[str], *, clock: Clock) -> int:
    """End the holds of calls that have their record; return how many calls have.

    A live store that lost its last writes holds again for calls that were charged. Calls without a record are left.
    """
    recorded, postings = await asyncio.to_thread(_recorded, engine, call_ids)
    if postings:
        await apply_now(engine, credit, postings, clock=clock)
    for call_id in recorded:
        await credit.release(call_id, now_ms=to_ms(clock.now()))
    return len(recorded)


async def sync_all(engine: Engine, credit: CreditStore, *, mark: bool = True) -> int:
    """Set every wallet and account of the live store from SQL (after its data was lost, or at start).

    Returns how many wallets; then the store is no longer `empty`, unless the caller `mark`s it later.
    """
    synced = await sync(engine, credit, None)
    if mark:
        await credit.mark_filled()
    return synced


async def sync(engine: Engine, credit: CreditStore, wallet_ids: Iterable[int] | None) -> int:
    """Set these wallets (None: all) and their accounts from SQL; return how many wallets."""
    wallets, accounts = await asyncio.to_thread(_states, engine, wallet_ids)
    await credit.sync_accounts(accounts)
    await credit.sync_wallets(wallets)
    return len(wallets)


def _states(engine: Engine, wallet_ids: Iterable[int] | None) -> tuple[list[WalletState], list[AccountState]]:
    wanted = select(Wallet, Account).join(Account, col(Wallet.account_id) == col(Account.id))
    wanted = wanted.where(Wallet.kind == WalletKind.MONEY)
    if wallet_ids is not None:
        wanted = wanted.where(col(Wallet.id).in_(list(wallet_ids)))
    wallets: list[WalletState] = []
    accounts: dict[int, AccountState] = {}
    with reading(engine) as session:
        for wallet, account in session.exec(wanted):
            if wallet.id is None or account.id is None:
                continue
            wallets.append(WalletState(wallet.id, wallet.balance_micros, wallet.seq, account.credit_limit_micros))
            accounts[account.id] = AccountState(account.id, account.status, account.max_calls, account.max_cps)
    return wallets, list(accounts.values())


def _recorded(engine: Engine, call_ids: Sequence[str]) -> tuple[list[str], list[Applied]]:
    with reading(engine) as session:
        recorded: list[str] = []
        for start in range(0, len(call_ids), MARK_CHUNK):
            page = list(call_ids[start : start + MARK_CHUNK])
            recorded += session.exec(select(Cdr.call_id).where(col(Cdr.call_id).in_(page)))
        return recorded, applied_before(session, recorded)


def _waiting(engine: Engine, most: int) -> list[Applied]:
    oldest = select(OutboxRow).where(col(OutboxRow.applied_at).is_(None)).order_by(col(OutboxRow.id)).limit(most)
    with reading(engine) as session:
        return [Applied(row.wallet_id, row.seq, row.amount_micros, row.call_id) for row in session.exec(oldest)]


def _mark(engine: Engine, done: Sequence[Applied], clock: Clock) -> None:
    # One order of locks for all: two processes often mark the same rows at once.
    ordered = sorted(done, key=lambda posting: (posting.wallet_id, posting.seq))
    with work(engine) as session:
        for start in range(0, len(ordered), MARK_CHUNK):
            _mark_chunk(session, ordered[start : start + MARK_CHUNK], clock)


def _mark_chunk(session: Session, done: Sequence[Applied], clock: Clock) -> None:
    row = tuple_(col(OutboxRow.wallet_id), col(OutboxRow.seq))
    told = row.in_([(posting.wallet_id, posting.seq) for posting in done])
    waiting = (
        select(col(OutboxRow.id))
        .where(col(OutboxRow.applied_at).is_(None), told)
        .order_by(col(OutboxRow.wallet_id), col(OutboxRow.seq))
        .with_for_update()
    )
    ids = session.exec(waiting).all()
    session.execute(update(OutboxRow).where(col(OutboxRow.id).in_(ids)).values(applied_at=clock.now()))
