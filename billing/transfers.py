"""Transfers: money from an account to the one above or below it, out of its own money and never beyond it.

This is SQL's part. What live calls hold of that money only the live credit store knows: `billing.moves.transfer` sets
the money aside there first, so that a call and a transfer never spend the same cent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session

from billing import audit
from billing.adjustments import lacking, money_wallet
from billing.errors import NotFound, Refused, TooLarge
from billing.ledger import Applied, Entry, lock_wallets, post
from billing.models import Account, AccountKind, AccountStatus, id_of
from billing.operations import check_id, once
from rating.money import MOST_MICROS


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer did. `balance_micros` is what the giver has left, in SQL."""

    operation: str
    transaction_id: int
    from_account_id: int
    to_account_id: int
    amount_micros: int
    balance_micros: int
    replayed: bool
    applied: tuple[Applied, ...]


@dataclass(frozen=True, slots=True)
class _Order:
    operation: str
    actor: str
    reason: str
    hold: str | None
    now: datetime


def transfer(
    session: Session,
    from_account_id: int,
    to_account_id: int,
    amount_micros: int,
    *,
    operation: str,
    actor: str,
    reason: str = "",
    hold: str | None = None,
    now: datetime,
) -> Transfer:
    """Move money between an account and the one above or below it, once per `operation`.

    Refused and remembered: more than balance + credit limit of the giver, a giver that is not active, a taker that is
    closed. `Refused` at once: an amount below 1, accounts that are not neighbours in the tree, the operator (it has no
    wallet: its money comes in by top-ups), two currencies. Raises `NotFound`, `TooLarge`, `OtherBody`.
    """
    check_id(operation)
    if amount_micros < 1:
        raise Refused("the amount of a transfer must be more than 0")
    if amount_micros > MOST_MICROS:
        raise TooLarge("the amount must stay below 2**53 micro-units")
    giver, taker = neighbours(session, from_account_id, to_account_id)
    order = _Order(operation, actor, reason, hold, now)
    body = transfer_body(from_account_id, to_account_id, amount_micros)
    done = once(session, operation, body, lambda: _move(session, giver, taker, amount_micros, order), now=now)
    return Transfer(operation=operation, replayed=done.replayed, applied=done.applied, **done.facts)


def transfer_body(from_account_id: int, to_account_id: int, amount_micros: int) -> list[Any]:
    """Return what makes two transfers the same operation."""
    return ["transfer", from_account_id, to_account_id, amount_micros]


def neighbours(session: Session, from_account_id: int, to_account_id: int) -> tuple[Account, Account]:
    """Return both accounts, one of which is right above the other. Raises `NotFound`, `Refused`."""
    giver, taker = session.get(Account, from_account_id), session.get(Account, to_account_id)
    if giver is None or taker is None:
        raise NotFound(f"there is no account {from_account_id if giver is None else to_account_id}")
    if AccountKind.OPERATOR in (giver.kind, taker.kind):
        raise Refused("the operator has no wallet to transfer from or to; its money comes in by top-ups")
    if giver.id != taker.parent_id and taker.id != giver.parent_id:
        raise Refused("a transfer goes to the account right above or below")
    if giver.currency != taker.currency:
        raise Refused(f"{giver.name!r} has {giver.currency}, {taker.name!r} has {taker.currency}")
    return giver, taker


def _move(
    session: Session, giver: Account, taker: Account, amount_micros: int, order: _Order
) -> tuple[dict[str, Any], tuple[Applied, ...]]:
    if giver.status is not AccountStatus.ACTIVE:
        return {"refused": f"{giver.name!r} is {giver.status.value}"}, ()
    if taker.status is AccountStatus.CLOSED:
        return {"refused": f"{taker.name!r} is closed"}, ()
    source, target = money_wallet(session, giver), money_wallet(session, taker)
    purses = lock_wallets(session, sorted([source, target]))
    if says := lacking(session, {source: amount_micros}, purses):
        return {"refused": f"{says} for this transfer"}, ()
    written, applied = post(
        session,
        [Entry(source, -amount_micros, order.hold), Entry(target, amount_micros)],
        operation=f"transfer:{order.operation}",
        kind="transfer",
        actor=order.actor,
        reason=order.reason,
        now=order.now,
    )
    outcome = {
        "transaction_id": id_of(written),
        "from_account_id": id_of(giver),
        "to_account_id": id_of(taker),
        "amount_micros": amount_micros,
        "balance_micros": purses[source].balance_micros - amount_micros,
    }
    audit.record(
        session,
        actor=order.actor,
        action="transfer.add",
        subject=f"account:{taker.id}",
        before={"from": purses[source].balance_micros, "to": purses[target].balance_micros},
        after={**outcome, "operation": order.operation, "reason": order.reason[:500]},
        now=order.now,
    )
    return outcome, applied
