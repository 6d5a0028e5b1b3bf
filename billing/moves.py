"""Movements of money as an edge does them: set aside in Redis, then SQL, then Redis told. Safe to repeat at any point.

    reserve (Redis: all or none) ─▶ one unit of work under the operation's id ─▶ apply (drops what was set aside)

Whatever takes money out of a live wallet goes this way, so that a call and a movement never spend the same cent: what
is set aside for one is not available to the other. It has a name made of the operation and its body: the same operation
told twice shares it, and one that stopped half-way is cleared by `reap`, after a look into SQL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing import adjustments, outbox, topups, transfers
from billing.credit.store import CreditStore, HoldCode, NotHeld, Share
from billing.errors import CreditUnavailable, NotFound, OtherBody, Refused
from billing.ledger import Applied
from billing.models import Account, LedgerTransaction, Posting, Wallet, WalletKind
from billing.operations import body_hash, find_outcome, once
from billing.ports import Clock, to_ms
from billing.store import Remembered, again, reading
from rating.money import format_amount

log = structlog.get_logger(__name__)

MARK: Final = "op:"
"""How the names of what is set aside begin; those of calls begin with a switch."""
SET_ASIDE_MS: Final = 300_000
"""Longer than any unit of work can take; then `reap` looks what became of it."""
KINDS: Final = ("topup", "transfer", "reversal", "adjustment", "commission")


class Done(Protocol):
    """What a movement's unit of work returns."""

    @property
    def applied(self) -> tuple[Applied, ...]:
        """The postings that the live credit store must be told."""


D = TypeVar("D", bound=Done)


@dataclass(frozen=True, slots=True)
class Order(Generic[D]):
    """A movement to be done: `takes` says what it takes out of live wallets, `do` is its unit of work.

    `do` is told the name of what was set aside, None where nothing was, and the time.
    """

    operation: str
    body: Sequence[Any]
    takes: Callable[[Session], list[Share]]
    do: Callable[[Session, str | None, datetime], D]


@dataclass(frozen=True, slots=True)
class Moved(Generic[D]):
    """A movement that is booked. `live`: the credit store knows of it; otherwise it is told as soon as it answers."""

    done: D
    live: bool


async def pay_in(
    engine: Engine,
    credit: CreditStore,
    account_id: int,
    amount_micros: int,
    *,
    operation: str,
    actor: str,
    reason: str = "",
    clock: Clock,
) -> Moved[topups.TopUp]:
    """Top an account up: from the operator's cash, or out of the available money of the reseller above it.

    Raises what `topups.top_up` raises, and `CreditUnavailable` where a reseller's money cannot be set aside.
    """

    def takes(session: Session) -> list[Share]:
        if amount_micros < 1 or topups.is_paid_by_operator(session, account_id):
            return []
        account = session.exec(select(Account).where(Account.id == account_id)).one()
        above = session.exec(select(Account).where(Account.id == account.parent_id)).one()
        return _share(session, above, amount_micros)

    def do(session: Session, hold: str | None, now: datetime) -> topups.TopUp:
        return topups.top_up(
            session, account_id, amount_micros, operation=operation, actor=actor, reason=reason, hold=hold, now=now
        )

    body = topups.topup_body(account_id, amount_micros)
    return await move(engine, credit, Order(operation, body, takes, do), clock=clock)


async def transfer(
    engine: Engine,
    credit: CreditStore,
    from_account_id: int,
    to_account_id: int,
    amount_micros: int,
    *,
    operation: str,
    actor: str,
    reason: str = "",
    clock: Clock,
) -> Moved[transfers.Transfer]:
    """Move money between neighbours in the tree, out of what the giver has available. See `transfers.transfer`."""

    def takes(session: Session) -> list[Share]:
        giver, _ = transfers.neighbours(session, from_account_id, to_account_id)
        return _share(session, giver, amount_micros) if amount_micros > 0 else []

    def do(session: Session, hold: str | None, now: datetime) -> transfers.Transfer:
        return transfers.transfer(
            session,
            from_account_id,
            to_account_id,
            amount_micros,
            operation=operation,
            actor=actor,
            reason=reason,
            hold=hold,
            now=now,
        )

    body = transfers.transfer_body(from_account_id, to_account_id, amount_micros)
    return await move(engine, credit, Order(operation, body, takes, do), clock=clock)


async def adjust(
    engine: Engine,
    credit: CreditStore,
    account_id: int,
    amount_micros: int,
    *,
    operation: str,
    actor: str,
    reason: str,
    against: WalletKind = WalletKind.ADJUSTMENT,
    beyond: bool = False,
    clock: Clock,
) -> Moved[adjustments.Adjustment]:
    """Give or take money with a reason; only what is available is taken, unless it goes `beyond`. See `adjustments`."""

    def takes(session: Session) -> list[Share]:
        account = session.get(Account, account_id)
        if account is None or beyond or amount_micros >= 0:
            return []
        return _share(session, account, -amount_micros)

    def do(session: Session, hold: str | None, now: datetime) -> adjustments.Adjustment:
        return adjustments.adjust(
            session,
            account_id,
            amount_micros,
            operation=operation,
            actor=actor,
            reason=reason,
            against=against,
            beyond=beyond,
            hold=hold,
            now=now,
        )

    body = adjustments.adjustment_body(account_id, amount_micros, against)
    return await move(engine, credit, Order(operation, body, takes, do), clock=clock)


async def reverse(
    engine: Engine,
    credit: CreditStore,
    transaction_id: int,
    *,
    operation: str,
    actor: str,
    reason: str,
    beyond: bool = False,
    clock: Clock,
) -> Moved[adjustments.Reversal]:
    """Undo a transaction; what it takes back must be available, unless it goes `beyond`. See `reverse_once`."""

    def takes(session: Session) -> list[Share]:
        if beyond:
            return []
        wanted = adjustments.takes_of(session, transaction_id)
        live = select(Wallet).where(col(Wallet.id).in_(list(wanted)), Wallet.kind == WalletKind.MONEY)
        return [
            Share(wallet.id, wallet.account_id, wanted[wallet.id])
            for wallet in session.exec(live.order_by(col(Wallet.id)))
            if wallet.id is not None and wanted[wallet.id] > 0
        ]

    def do(session: Session, hold: str | None, now: datetime) -> adjustments.Reversal:
        return adjustments.reverse_once(
            session,
            transaction_id,
            operation=operation,
            actor=actor,
            reason=reason,
            beyond=beyond,
            hold=hold,
            now=now,
        )

    body = adjustments.reversal_body(transaction_id)
    return await move(engine, credit, Order(operation, body, takes, do), clock=clock)


async def move(engine: Engine, credit: CreditStore, order: Order[D], *, clock: Clock) -> Moved[D]:
    """Do one movement. What is not available is refused, and remembered under the operation.

    Raises what its unit of work raises, and `CreditUnavailable` where money must be set aside and cannot be.
    """

    def look() -> list[Share]:
        with reading(engine) as session:
            known = find_outcome(session, order.operation, order.body)
            return order.takes(session) if known is None else []

    shares = await asyncio.to_thread(look)
    name = f"{MARK}{body_hash(order.body)[:16]}:{order.operation}" if shares else None
    if name is not None:
        await _set_aside(engine, credit, name, shares, order, clock)
    now = clock.now()
    try:
        done = await asyncio.to_thread(again, engine, lambda session: order.do(session, name, now))
    except (Remembered, OtherBody):
        # SQL gives this answer for ever: nobody posts under this name any more.
        if name is not None:
            await _release(credit, name, clock)
        raise
    try:
        if done.applied:
            await outbox.apply_now(engine, credit, done.applied, clock=clock)
        elif name is not None:
            # Somebody else did it meanwhile, perhaps with this very hold: its posting dropped it, or does so now.
            await settle_reserved(engine, credit, [name], clock=clock)
    except CreditUnavailable as error:
        log.warning("credit_told_later", operation=order.operation, error=str(error))
        return Moved(done, live=False)
    return Moved(done, live=True)


async def reap(engine: Engine, credit: CreditStore, *, clock: Clock) -> int:
    """Clear what was set aside for movements that stopped half-way; return how many. Others may do so meanwhile."""
    overdue = await credit.overdue(to_ms(clock.now()))
    left = [name for name in overdue if name.startswith(MARK)]
    await settle_reserved(engine, credit, left, clock=clock)
    return len(left)


async def settle_reserved(engine: Engine, credit: CreditStore, names: Sequence[str], *, clock: Clock) -> None:
    """Drop what was set aside under these names: by its posting where SQL has it, else by giving it back."""
    for name in names:
        postings = await asyncio.to_thread(_posted, engine, name)
        if postings:
            await outbox.apply_now(engine, credit, postings, clock=clock)
        await credit.release(name, now_ms=to_ms(clock.now()))


def _posted(engine: Engine, name: str) -> list[Applied]:
    operation = name.removeprefix(MARK).partition(":")[2]
    names = [f"{kind}:{operation}" for kind in KINDS]
    asked = (
        select(Posting.wallet_id, Posting.seq, Posting.amount_micros)
        .join(LedgerTransaction, col(LedgerTransaction.id) == col(Posting.transaction_id))
        .where(col(LedgerTransaction.operation).in_(names), col(Posting.seq).is_not(None))
    )
    with reading(engine) as session:
        rows = session.exec(asked).all()
    return [Applied(wallet_id, seq or 0, amount, name if amount < 0 else None) for wallet_id, seq, amount in rows]


async def _set_aside(  # noqa: PLR0917 - private, and each is of another type
    engine: Engine, credit: CreditStore, name: str, shares: list[Share], order: Order[D], clock: Clock
) -> None:
    for synced in (False, True):
        now_ms = to_ms(clock.now())
        answer = await credit.reserve(name, shares, now_ms=now_ms, deadline_ms=now_ms + SET_ASIDE_MS)
        if not isinstance(answer, NotHeld):
            return
        if not synced:
            # It may not know the wallet yet, or not the newest money in it.
            await outbox.sync(engine, credit, [share.wallet_id for share in shares])
        elif answer.code is HoldCode.NO_MONEY:
            await asyncio.to_thread(again, engine, partial(_refuse, shares, answer, order, clock.now()))
        else:
            raise CreditUnavailable(f"the live credit store does not set the money aside: {answer.code.value}")


def _refuse(shares: list[Share], answer: NotHeld, order: Order[D], now: datetime, session: Session) -> None:
    """Remember that the money is not there; where somebody else did it meanwhile, that answer stands instead."""
    share = shares[answer.level]
    account = session.get(Account, share.account_id)
    lacks = format_amount(share.amount_micros - answer.available[answer.level])
    says = f"{account.name!r} lacks {lacks} {account.currency}" if account else "money is lacking"
    says += " (what calls hold does not count)"
    once(session, order.operation, order.body, lambda: ({"refused": says}, ()), now=now)


async def _release(credit: CreditStore, name: str, clock: Clock) -> None:
    try:
        await credit.release(name, now_ms=to_ms(clock.now()))
    except CreditUnavailable:
        log.warning("set_aside_until_reaped", name=name)


def _share(session: Session, account: Account, amount_micros: int) -> list[Share]:
    try:
        wallet_id = adjustments.money_wallet(session, account)
    except NotFound:
        raise Refused(f"{account.name!r} has no money to take") from None
    return [Share(wallet_id, account.id or 0, amount_micros)]
