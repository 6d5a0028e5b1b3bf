"""SQL first, then Redis: postings that the live credit store has still to apply."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Engine

from billing.credit.store import CreditStore
from billing.ledger import Applied
from billing.ports import Clock


async def apply_now(engine: Engine, credit: CreditStore, applied: Sequence[Applied], *, clock: Clock) -> int:
    """Apply postings right after their commit and mark their outbox rows; a gap or an unknown wallet is synced from SQL.

    Raises `CreditUnavailable`; the rows then stay for `drain`. Returns how many were applied.
    """
    raise NotImplementedError


async def drain(engine: Engine, credit: CreditStore, *, clock: Clock, most: int = 500) -> int:
    """Apply the oldest waiting rows, in order; return how many."""
    raise NotImplementedError


async def sync_all(engine: Engine, credit: CreditStore) -> int:
    """Set every wallet and account of the live store from SQL (after its data was lost, or at start)."""
    raise NotImplementedError
