"""Top-ups: money into a wallet. The operator's comes from cash; a reseller's out of its own wallet, never beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, select

from billing import audit
from billing.chart import ledger_account
from billing.errors import NotFound, Refused, TooLarge
from billing.events.emit import emit
from billing.events.kinds import EventKind
from billing.ledger import Applied, Entry, lock_wallets, post
from billing.models import Account, AccountKind, AccountStatus, Wallet, WalletKind, id_of
from billing.operations import check_id, once
from rating.money import MOST_MICROS, format_amount


@dataclass(frozen=True, slots=True)
class TopUp:
    """What a top-up did. `replayed` where the same operation had been done before; then `applied` is empty."""

    operation: str
    account_id: int
    wallet_id: int
    amount_micros: int
    balance_micros: int
    replayed: bool
    applied: tuple[Applied, ...]


def top_up(
    session: Session,
    account_id: int,
    amount_micros: int,
    *,
    operation: str,
    actor: str,
    reason: str = "",
    hold: str | None = None,
    now: datetime,
) -> TopUp:
    """Add money to an account's wallet, once per `operation`.

    Under an operator the money comes from its cash account; under a reseller out of the reseller's wallet, and more
    than its SQL balance + credit limit is `Refused` (remembered under the operation). The same operation with another
    body is `OtherBody`. Amounts must be positive.

    The body is the account and the amount: who asks, and in what words, may differ when a request is sent again.
    Remembered are the refusals that depend on the state of the store, so that a retry of a refused top-up never
    surprises by succeeding; `NotFound`, `TooLarge` and an amount below 1 are wrong by themselves and leave nothing
    behind. A remembered refusal is `Remembered`: `work` commits it, so do one top-up in a unit of work. What live calls
    hold of the reseller's money is known to the live credit store alone: `billing.moves.pay_in` sets it aside there
    first, and `hold` names that. Callers who serve several principals put the principal into the operation id.
    """
    _check(amount_micros, operation)
    account = session.get(Account, account_id)
    if account is None:
        raise NotFound(f"there is no account {account_id}")
    if account.kind is AccountKind.OPERATOR or account.parent_id is None:
        raise Refused("the operator's own money is not topped up")
    done = once(
        session,
        operation,
        topup_body(account_id, amount_micros),
        lambda: _move(
            session, account, amount_micros, operation=operation, actor=actor, reason=reason, hold=hold, now=now
        ),
        now=now,
    )
    return TopUp(operation=operation, replayed=done.replayed, applied=done.applied, **done.facts)


def topup_body(account_id: int, amount_micros: int) -> list[Any]:
    """Return what makes two top-ups the same operation."""
    return ["topup", account_id, amount_micros]


def is_paid_by_operator(session: Session, account_id: int) -> bool:
    """Return whether an account's top-ups come from the operator's cash, and not out of a reseller's money."""
    account = session.get(Account, account_id)
    above = session.get(Account, account.parent_id) if account and account.parent_id is not None else None
    return above is None or above.kind is AccountKind.OPERATOR


def _check(amount_micros: int, operation: str) -> None:
    if amount_micros < 1:
        raise Refused("the amount of a top-up must be more than 0")
    if amount_micros > MOST_MICROS:
        raise TooLarge("the amount must stay below 2**53 micro-units")
    check_id(operation)


def _move(
    session: Session,
    account: Account,
    amount_micros: int,
    *,
    operation: str,
    actor: str,
    reason: str,
    hold: str | None,
    now: datetime,
) -> tuple[dict[str, Any], tuple[Applied, ...]]:
    """Move the money, or say why not; return the outcome to be remembered."""
    if account.status is AccountStatus.CLOSED:
        return {"refused": f"{account.name!r} is closed"}, ()
    source, payer = _source(session, account)
    wallet = _wallet(session, id_of(account), WalletKind.MONEY, account.currency)
    purses = lock_wallets(session, sorted([source, wallet]))
    # Closing locks the wallet as well: it may have been closed while we waited for it.
    if session.exec(select(Account.status).where(Account.id == account.id)).one() is AccountStatus.CLOSED:
        return {"refused": f"{account.name!r} is closed"}, ()
    if payer is not None:
        # Nobody moves this wallet's money now: it is locked.
        funds = purses[source].balance_micros + payer.credit_limit_micros
        if funds < amount_micros:
            lacking = format_amount(amount_micros - funds)
            return {"refused": f"{payer.name!r} lacks {lacking} {payer.currency} for this top-up"}, ()
    _, applied = post(
        session,
        [Entry(source, -amount_micros, hold), Entry(wallet, amount_micros)],
        # Its own kind of name, so that no operation id of a caller can take the place of a call's.
        operation=f"topup:{operation}",
        kind="topup" if payer is None else "transfer",
        actor=actor,
        reason=reason,
        now=now,
    )
    balance = purses[wallet].balance_micros + amount_micros
    outcome = {
        "account_id": id_of(account),
        "wallet_id": wallet,
        "amount_micros": amount_micros,
        "balance_micros": balance,
    }
    _tell(session, account, amount_micros, balance, operation=operation, reason=reason, now=now)
    audit.record(
        session,
        actor=actor,
        action="topup.add",
        subject=f"account:{account.id}",
        before={"balance_micros": purses[wallet].balance_micros},
        after={**outcome, "operation": operation, "reason": reason[:500]},
        now=now,
    )
    return outcome, applied


def _tell(
    session: Session, account: Account, amount_micros: int, balance: int, *, operation: str, reason: str, now: datetime
) -> None:
    data = {
        "account": {"id": account.id, "name": account.name},
        "amount": format_amount(amount_micros),
        "balance": format_amount(balance),
        "currency": account.currency,
        "reason": reason[:500],
    }
    emit(session, EventKind.TOPUP_CREATED, [(operation, account.id, data)], now=now)


def _source(session: Session, account: Account) -> tuple[int, Account | None]:
    """Return the wallet the money comes from, and the reseller who owns it; None where it is the operator's cash."""
    above = session.exec(select(Account).where(Account.id == account.parent_id)).one()
    if above.kind is AccountKind.OPERATOR:
        return ledger_account(session, WalletKind.CASH, account.currency), None
    return _wallet(session, id_of(above), WalletKind.MONEY, account.currency), above


def _wallet(session: Session, account_id: int, kind: WalletKind, currency: str) -> int:
    asked = select(Wallet.id).where(Wallet.account_id == account_id, Wallet.kind == kind, Wallet.currency == currency)
    found = session.exec(asked).first()
    if found is None:
        raise NotFound(f"account {account_id} has no {kind.value} wallet in {currency}")
    return found
