"""Little money left: an alert while it stands, raised once and cleared once, whatever comes and goes in between.

What is left to spend is balance + credit limit. Below the account's threshold the alert is raised, and only well above
it (`clear_balance_micros`, else a fifth more) it is over: a balance that wavers around one figure tells nobody twice.
Evaluated with every posting, in the same unit of work, under the wallet's lock; what live calls hold does not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from sqlmodel import Session, col, select

from billing.alerts import clear_alert, raise_alert
from billing.models import Account, Alert, Wallet, WalletKind
from rating.money import format_amount

KIND: Final = "balance.low"
PAGE: Final = 500


def clear_at(low_micros: int, clear_micros: int | None) -> int:
    """Return how much must be left for the alert to be over."""
    return low_micros + low_micros // 5 if clear_micros is None else clear_micros


def watch_balances(session: Session, wallet_ids: Iterable[int], *, actor: str, now: datetime) -> None:
    """Raise and clear what the balances of these wallets say now."""
    ordered = sorted(set(wallet_ids))
    for start in range(0, len(ordered), PAGE):
        page = ordered[start : start + PAGE]
        asked = (
            select(Account, Wallet.balance_micros)
            .join(Wallet, col(Wallet.account_id) == col(Account.id))
            .where(
                col(Wallet.id).in_(page),
                Wallet.kind == WalletKind.MONEY,
                col(Account.low_balance_micros).is_not(None),
            )
            .order_by(col(Wallet.id))
        )
        watched = session.exec(asked).all()
        # Most postings neither raise nor clear: one question tells for all of them.
        standing = _standing(session, [account.id or 0 for account, _ in watched])
        for account, balance_micros in watched:
            _look_at(session, account, balance_micros, account.id in standing, actor=actor, now=now)


def _standing(session: Session, account_ids: list[int]) -> set[int]:
    if not account_ids:
        return set()
    subjects = [f"account:{account_id}" for account_id in account_ids]
    asked = select(Alert.account_id).where(
        Alert.kind == KIND, col(Alert.subject).in_(subjects), col(Alert.cleared_at).is_(None)
    )
    return {account_id for account_id in session.exec(asked) if account_id is not None}


def watch_account(session: Session, account: Account, *, actor: str, now: datetime) -> None:
    """Look again after a threshold or a credit limit was changed; without a threshold there is nothing to tell."""
    if account.low_balance_micros is None:
        clear_alert(session, kind=KIND, subject=f"account:{account.id}", actor=actor, now=now)
        return
    asked = select(Wallet.id).where(Wallet.account_id == account.id, Wallet.kind == WalletKind.MONEY)
    watch_balances(session, [wallet_id or 0 for wallet_id in session.exec(asked)], actor=actor, now=now)


def _look_at(
    session: Session, account: Account, balance_micros: int, stands: bool, *, actor: str, now: datetime
) -> None:
    low = account.low_balance_micros or 0
    left = balance_micros + account.credit_limit_micros
    if left < low and not stands:
        raise_alert(
            session,
            kind=KIND,
            subject=f"account:{account.id}",
            account_id=account.id,
            message=(
                f"{account.name} has {format_amount(left)} {account.currency} left to spend,"
                f" less than {format_amount(low)}."
            ),
            facts={"left": format_amount(left), "threshold": format_amount(low), "currency": account.currency},
            now=now,
        )
    elif left >= clear_at(low, account.clear_balance_micros) and stands:
        clear_alert(session, kind=KIND, subject=f"account:{account.id}", actor=actor, now=now)
