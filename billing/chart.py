"""The chart of accounts: what each kind of wallet stands for in the books, and the operator's ledger accounts.

Positive is the credit of whoever holds the wallet, so a wallet below zero is a debit of the operator's books. Money
that came in is a debit of cash; what customers and resellers own is a credit, since the operator owes it in calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sqlmodel import Session, select

from billing.errors import NotFound, Refused
from billing.models import LIVE_KINDS, Account, AccountKind, Wallet, WalletKind, id_of
from billing.store import insert_or_skip


class Class(StrEnum):
    """The five classes of book-keeping."""

    ASSET = "asset"
    LIABILITY = "liability"
    INCOME = "income"
    EXPENSE = "expense"
    EQUITY = "equity"


@dataclass(frozen=True, slots=True)
class Title:
    """A line of the chart: its number, its name, its class, what it is for."""

    number: int
    name: str
    of: Class
    what: str


CHART: Final[dict[WalletKind, Title]] = {
    WalletKind.CASH: Title(1000, "Cash", Class.ASSET, "money that came in or went out: top-ups, payments"),
    WalletKind.MONEY: Title(2000, "Prepaid money", Class.LIABILITY, "what customers and resellers own, or owe"),
    WalletKind.BUNDLE: Title(2010, "Bundles", Class.LIABILITY, "seconds that customers may still talk"),
    WalletKind.CARRIER_PAYABLE: Title(2100, "Owed to carriers", Class.LIABILITY, "carrier cost that is not paid yet"),
    WalletKind.TAX: Title(2200, "Tax", Class.LIABILITY, "tax taken, owed to the tax office"),
    WalletKind.EXCHANGE: Title(3000, "Exchange", Class.EQUITY, "the two sides of a conversion, one per currency"),
    WalletKind.ADJUSTMENT: Title(3900, "Adjustments", Class.EQUITY, "corrections by hand, with a reason"),
    WalletKind.INCOME: Title(4000, "Income", Class.INCOME, "what calls and fees earned"),
    WalletKind.BREAKAGE: Title(4100, "Breakage", Class.INCOME, "money and minutes that expired unused"),
    WalletKind.MINUTES: Title(4200, "Seconds of bundles", Class.EQUITY, "seconds given less seconds talked"),
    WalletKind.CARRIER_COST: Title(5000, "Carrier cost", Class.EXPENSE, "what carriers charge for the calls"),
    WalletKind.COMMISSION: Title(5100, "Commission", Class.EXPENSE, "what resellers and agents earn"),
}

LEDGER_KINDS: Final = frozenset(CHART) - set(LIVE_KINDS)
"""Kinds that keep no balance of their own and are never locked, so any number of calls post there at once."""


def ledger_account(session: Session, kind: WalletKind, currency: str, *, account_id: int | None = None) -> int:
    """Return the wallet of a ledger account, made at its first use; of the operator, unless another account is named.

    Raises `Refused` for a live wallet, which comes with its account, and `NotFound` where there is no such account.
    """
    if kind not in LEDGER_KINDS:
        raise Refused(f"a {kind.value} wallet comes with its account")
    owner = account_id if account_id is not None else operator_id(session)
    asked = select(Wallet.id).where(Wallet.account_id == owner, Wallet.kind == kind, Wallet.currency == currency)
    found = session.exec(asked).first()
    if found is None:
        if session.get(Account, owner) is None:
            raise NotFound(f"there is no account {owner}")
        row = {"account_id": owner, "kind": kind, "currency": currency, "balance_micros": 0, "seq": 0}
        insert_or_skip(session, Wallet, [row], "id")
        found = session.exec(asked).one()
    return found or 0


def operator_id(session: Session) -> int:
    """Return the root of the tree. Raises `NotFound` before there is one."""
    operator = session.exec(select(Account).where(Account.kind == AccountKind.OPERATOR)).one_or_none()
    if operator is None:
        raise NotFound("there is no operator yet")
    return id_of(operator)
