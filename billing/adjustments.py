"""Corrections by hand: a transaction undone by its mirror image, money given or taken with a reason.

Both are operations: done once under their caller's id, refusals remembered, audited. Neither takes what a wallet does
not have, unless told to go `beyond`: a payment that was charged back must leave the books, whatever has been spent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from billing import audit
from billing.chart import ledger_account
from billing.errors import NotFound, Refused, TooLarge
from billing.ledger import Applied, Entry, Purse, lock_wallets, post
from billing.models import Account, AccountStatus, LedgerTransaction, Posting, Wallet, WalletKind, id_of
from billing.operations import once
from rating.money import MOST_MICROS, format_amount

MOST_REASON = 500


@dataclass(frozen=True, slots=True)
class _Order:
    """Who asks for a correction, under which id, and how far it may go."""

    operation: str
    actor: str
    reason: str
    beyond: bool
    hold: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class Reversal:
    """What undoing a transaction did: `transaction_id` is the new one."""

    operation: str
    transaction_id: int
    reverses_id: int
    replayed: bool
    applied: tuple[Applied, ...]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an adjustment did; `amount_micros` is below 0 where money was taken."""

    operation: str
    transaction_id: int
    account_id: int
    wallet_id: int
    amount_micros: int
    balance_micros: int
    replayed: bool
    applied: tuple[Applied, ...]


def reverse_once(
    session: Session,
    transaction_id: int,
    *,
    operation: str,
    actor: str,
    reason: str,
    beyond: bool = False,
    hold: str | None = None,
    now: datetime,
) -> Reversal:
    """Undo a transaction. Refused: one that is a reversal, one undone before, money that is not there (see `beyond`).

    `hold` names the hold in the live credit store that sets the money aside which this takes. Raises `NotFound`,
    `Remembered`, `OtherBody`, and `Refused` without a reason.
    """
    _check_reason(reason)
    if session.get(LedgerTransaction, transaction_id) is None:
        raise NotFound(f"there is no transaction {transaction_id}")
    order = _Order(operation, actor, reason, beyond, hold, now)
    body = reversal_body(transaction_id)
    done = once(session, operation, body, lambda: _reverse(session, transaction_id, order), now=now)
    return Reversal(operation=operation, replayed=done.replayed, applied=done.applied, **done.facts)


def adjust(
    session: Session,
    account_id: int,
    amount_micros: int,
    *,
    operation: str,
    actor: str,
    reason: str,
    against: WalletKind = WalletKind.ADJUSTMENT,
    beyond: bool = False,
    hold: str | None = None,
    now: datetime,
) -> Adjustment:
    """Give an account money, or take some (below 0), against a ledger account of the operator. See `reverse_once`."""
    _check_reason(reason)
    if not amount_micros:
        raise Refused("an adjustment of nothing changes nothing")
    if abs(amount_micros) > MOST_MICROS:
        raise TooLarge("the amount must stay below 2**53 micro-units")
    account = session.get(Account, account_id)
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    order = _Order(operation, actor, reason, beyond, hold, now)
    body = adjustment_body(account_id, amount_micros, against)
    done = once(session, operation, body, lambda: _adjust(session, account, amount_micros, against, order), now=now)
    return Adjustment(operation=operation, replayed=done.replayed, applied=done.applied, **done.facts)


def reversal_body(transaction_id: int) -> list[Any]:
    """Return what makes two reversals the same operation."""
    return ["reversal", transaction_id]


def adjustment_body(account_id: int, amount_micros: int, against: WalletKind = WalletKind.ADJUSTMENT) -> list[Any]:
    """Return what makes two adjustments the same operation."""
    return ["adjustment", account_id, amount_micros, against.value]


def money_wallet(session: Session, account: Account) -> int:
    """Return the wallet with the money of an account. Raises `NotFound` (the operator has none)."""
    asked = select(Wallet.id).where(
        Wallet.account_id == account.id, Wallet.kind == WalletKind.MONEY, Wallet.currency == account.currency
    )
    found = session.exec(asked).first()
    if found is None:
        raise NotFound(f"{account.name!r} has no money wallet in {account.currency}")
    return found


def lacking(session: Session, takes: dict[int, int], purses: dict[int, Purse]) -> str:
    """Return which account has less than is to be taken of its wallet (balance + credit limit), in words, or nothing.

    The wallets are locked, so what this says stays true. What live calls hold is the live credit store's to know.
    """
    for wallet_id, amount in sorted(takes.items()):
        purse = purses[wallet_id]
        if not purse.live or amount <= 0:
            continue
        owner = session.exec(select(Account).join(Wallet).where(Wallet.id == wallet_id)).one()
        funds = purse.balance_micros + owner.credit_limit_micros
        if funds < amount:
            return f"{owner.name!r} lacks {format_amount(amount - funds)} {purse.currency}"
    return ""


def takes_of(session: Session, transaction_id: int) -> dict[int, int]:
    """Return what undoing a transaction takes out of each wallet (below 0: gives)."""
    postings = select(Posting.wallet_id, Posting.amount_micros).where(Posting.transaction_id == transaction_id)
    takes: dict[int, int] = {}
    for wallet_id, amount in session.exec(postings):
        takes[wallet_id] = takes.get(wallet_id, 0) + amount
    return takes


def _reverse(session: Session, transaction_id: int, order: _Order) -> tuple[dict[str, Any], tuple[Applied, ...]]:
    undone = session.exec(select(LedgerTransaction).where(LedgerTransaction.id == transaction_id)).one()
    if undone.reverses_id is not None:
        return {"refused": f"transaction {transaction_id} is itself a reversal; post anew instead"}, ()
    if undone.kind == "correction":
        return {"refused": f"transaction {transaction_id} corrects a call: undo its re-rating instead"}, ()
    takes = takes_of(session, transaction_id)
    # With the wallets locked nobody reverses the same transaction at this moment: the look below stays true.
    purses = lock_wallets(session, sorted(takes))
    if session.exec(select(LedgerTransaction.id).where(LedgerTransaction.reverses_id == transaction_id)).first():
        return {"refused": f"transaction {transaction_id} has been reversed already"}, ()
    if not order.beyond and (says := lacking(session, takes, purses)):
        return {"refused": f"{says} for this reversal"}, ()
    # Backwards, so that a wallet gets back what it passed on before it gives back what it was given.
    postings = select(Posting).where(Posting.transaction_id == transaction_id).order_by(col(Posting.id).desc())
    written, applied = post(
        session,
        [_mirror(row, order.hold) for row in session.exec(postings).all()],
        operation=f"reversal:{order.operation}",
        kind="reversal",
        actor=order.actor,
        reason=order.reason,
        now=order.now,
        reverses_id=transaction_id,
    )
    outcome = {"transaction_id": id_of(written), "reverses_id": transaction_id}
    audit.record(
        session,
        actor=order.actor,
        action="transaction.reverse",
        subject=f"transaction:{transaction_id}",
        before={"operation": undone.operation, "kind": undone.kind},
        after={**outcome, "operation": order.operation, "reason": order.reason, "beyond": order.beyond},
        now=order.now,
    )
    return outcome, applied


def _mirror(row: Posting, hold: str | None) -> Entry:
    return Entry(row.wallet_id, -row.amount_micros, hold if row.amount_micros > 0 else None, row.currency)


def _adjust(
    session: Session, account: Account, amount_micros: int, against: WalletKind, order: _Order
) -> tuple[dict[str, Any], tuple[Applied, ...]]:
    wallet_id = money_wallet(session, account)
    if account.status is AccountStatus.CLOSED and amount_micros > 0:
        return {"refused": f"{account.name!r} is closed"}, ()
    other = ledger_account(session, against, account.currency)
    purses = lock_wallets(session, sorted([wallet_id, other]))
    if not order.beyond and (says := lacking(session, {wallet_id: -amount_micros}, purses)):
        return {"refused": f"{says} for this adjustment"}, ()
    written, applied = post(
        session,
        [Entry(wallet_id, amount_micros, order.hold if amount_micros < 0 else None), Entry(other, -amount_micros)],
        operation=f"adjustment:{order.operation}",
        kind="adjustment",
        actor=order.actor,
        reason=order.reason,
        now=order.now,
    )
    outcome = {
        "transaction_id": id_of(written),
        "account_id": id_of(account),
        "wallet_id": wallet_id,
        "amount_micros": amount_micros,
        "balance_micros": purses[wallet_id].balance_micros + amount_micros,
    }
    audit.record(
        session,
        actor=order.actor,
        action="adjustment.add",
        subject=f"account:{account.id}",
        before={"balance_micros": purses[wallet_id].balance_micros},
        after={
            **outcome,
            "operation": order.operation,
            "reason": order.reason,
            "against": against.value,
            "beyond": order.beyond,
        },
        now=order.now,
    )
    return outcome, applied


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > MOST_REASON or not reason.isprintable():
        raise Refused(f"a correction needs a reason, 1 to {MOST_REASON} printable characters")
