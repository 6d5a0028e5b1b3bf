"""Top-ups: money into a wallet. The operator's comes from cash; a reseller's out of its own wallet, never beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session

from billing.ledger import Applied


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
    now: datetime,
) -> TopUp:
    """Add money to an account's wallet, once per `operation`.

    Under an operator the money comes from its cash account; under a reseller out of the reseller's wallet, and more than
    its SQL balance + credit limit is `Refused` (remembered under the operation). The same operation with another body is
    `OtherBody`. Amounts must be positive.
    """
    raise NotImplementedError
