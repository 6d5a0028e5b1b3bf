"""The ledger: transactions whose postings sum to zero per currency, numbered per wallet, mirrored into the outbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from billing.models import LedgerTransaction


@dataclass(frozen=True, slots=True)
class Entry:
    """A posting to be made. `call_id` names the hold it replaces in the live credit store."""

    wallet_id: int
    amount_micros: int
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """A posting on a MONEY wallet, as the live credit store must apply it, in order of `seq`."""

    wallet_id: int
    seq: int
    amount_micros: int
    call_id: str | None = None


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

    Raises `LedgerBroken` where the entries do not sum to zero per currency, `TooLarge` beyond 2**53, `Conflict` where the
    operation has posted already.
    """
    raise NotImplementedError


def reverse(
    session: Session, transaction_id: int, *, operation: str, actor: str, reason: str, now: datetime
) -> LedgerTransaction:
    """Undo a transaction by its mirror image, once."""
    raise NotImplementedError
