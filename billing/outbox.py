"""SQL first, then Redis: postings that the live credit store has still to apply.

Whoever commits a posting applies it at once; `drain` applies what that left behind. Both may do the same row at the
same time: the second time it is `SEEN`, which changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy import func, tuple_, update
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing.cdrs import applied_before
from billing.credit.store import AccountState, ApplyCode, CreditStore, WalletState
from billing.ledger import Applied
from billing.limits import day_began, day_of
from billing.models import LIVE_KINDS, Account, Cdr, Charge, OutboxRow, Wallet, WalletKind
from billing.ports import Clock, SystemClock, to_ms
from billing.store import again, reading

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
        await sync(engine, credit, behind, clock)
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

    A live store that lost its last writes holds again for calls that were charged; and where two controllers ended one
    call, the hold may be what the other record would have cost. Calls without a record are left.
    """
    recorded, postings = await asyncio.to_thread(_recorded, engine, call_ids)
    if postings:
        await apply_now(engine, credit, postings, clock=clock)
    for call_id in recorded:
        await credit.release(call_id, now_ms=to_ms(clock.now()), charged=True)
    return len(recorded)


async def sync_all(engine: Engine, credit: CreditStore, *, mark: bool = True, clock: Clock | None = None) -> int:
    """Set every wallet and account of the live store from SQL (after its data was lost, or at start).

    Returns how many wallets; then the store is no longer `empty`, unless the caller `mark`s it later.
    """
    synced = await sync(engine, credit, None, clock)
    if mark:
        await credit.mark_filled()
    return synced


async def tell_accounts(
    engine: Engine, credit: CreditStore, account_ids: Sequence[int], *, clock: Clock | None = None
) -> None:
    """Tell the live store what has just been changed of these accounts, without waiting for a controller to do it.

    Raises `CreditUnavailable`: a controller brings it along with the next version of the catalogue.
    """
    wallet_ids = await asyncio.to_thread(_wallets_of, engine, account_ids)
    await sync(engine, credit, wallet_ids, clock)


async def sync(
    engine: Engine, credit: CreditStore, wallet_ids: Iterable[int] | None, clock: Clock | None = None
) -> int:
    """Set these wallets (None: all) and their accounts from SQL; return how many wallets."""
    wallets, accounts = await asyncio.to_thread(_states, engine, wallet_ids)
    limited = [state.account_id for state in accounts if state.max_day_micros is not None]
    missing = set(await credit.without_a_day(limited)) if limited else set()
    if missing:
        # Only then: it reads all records of a day.
        now = (clock or SystemClock()).now()
        days = await asyncio.to_thread(_days_of, engine, missing, now)
        accounts = [
            replace(state, day=days[state.account_id][0], spent_micros=days[state.account_id][1])
            if state.account_id in days
            else state
            for state in accounts
        ]
    await credit.sync_accounts(accounts)
    await credit.sync_wallets(wallets)
    return len(wallets)


def _states(engine: Engine, wallet_ids: Iterable[int] | None) -> tuple[list[WalletState], list[AccountState]]:
    wanted = select(Wallet, Account).join(Account, col(Wallet.account_id) == col(Account.id))
    wanted = wanted.where(col(Wallet.kind).in_(LIVE_KINDS))
    if wallet_ids is not None:
        wanted = wanted.where(col(Wallet.id).in_(list(wallet_ids)))
    wallets: list[WalletState] = []
    accounts: dict[int, AccountState] = {}
    with reading(engine) as session:
        for wallet, account in session.exec(wanted):
            if wallet.id is None or account.id is None:
                continue
            # Nobody talks on the credit of a bundle.
            credit = account.credit_limit_micros if wallet.kind is WalletKind.MONEY else 0
            wallets.append(WalletState(wallet.id, wallet.balance_micros, wallet.seq, credit))
            accounts[account.id] = AccountState(
                account.id, account.status, account.max_calls, account.max_cps, account.max_day_micros
            )
    return wallets, list(accounts.values())


def _wallets_of(engine: Engine, account_ids: Sequence[int]) -> list[int]:
    with reading(engine) as session:
        asked = select(Wallet.id).where(col(Wallet.account_id).in_(account_ids), Wallet.kind == WalletKind.MONEY)
        return [wallet_id or 0 for wallet_id in session.exec(asked)]


def _days_of(engine: Engine, account_ids: Collection[int], now: datetime) -> dict[int, tuple[int, int]]:
    """Return for each account the number of its day, and what the calls that ended in it have cost it."""
    with reading(engine) as session:
        asked = select(Account.id, Account.timezone).where(col(Account.id).in_(account_ids))
        zones = dict(session.exec(asked).all())
        return {
            account_id or 0: (day_of(zone, now), _spent_since(session, account_id or 0, day_began(zone, now)))
            for account_id, zone in zones.items()
        }


def _spent_since(session: Session, account_id: int, since: datetime) -> int:
    cost = select(func.coalesce(func.sum(Charge.amount_micros), 0)).join(Cdr, col(Cdr.call_id) == col(Charge.call_id))
    return int(session.exec(cost.where(Charge.account_id == account_id, col(Cdr.ended_at) >= since)).one())


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

    def mark(session: Session) -> None:
        for start in range(0, len(ordered), MARK_CHUNK):
            _mark_chunk(session, ordered[start : start + MARK_CHUNK], clock)

    # The money is booked: a crowd at the lock must not turn that into an error for whoever waits for the answer.
    again(engine, mark)


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
