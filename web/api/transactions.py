"""The transactions of the ledger: what moved money in and out of accounts, newest first."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from sqlmodel import Session, col, select

from billing.models import LedgerTransaction, Posting, Wallet, WalletKind
from billing.store import reading
from web.api.auth import Asking
from web.api.reversals import TransactionShape, shapes_of
from web.api.routes import MOST_ID, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Page
from web.context import panel_of

router = resource("money")


@router.get("/transactions", **needs("money:read", "cursor_invalid"))
def list_transactions(
    request: Request,
    caller: Asking,
    *,
    account: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Whose money moved; yours, if not given.")] = (
        None
    ),
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[TransactionShape]:
    """List what moved an account's money, newest first; the operator's own are all there are."""
    with reading(panel_of(request).engine) as session:
        if account is not None:
            caller.reach.see(session, account)
        whole = caller.reach.whole and account in {None, caller.reach.account_id}
        before = number_of(after)
        if whole:
            places = _all(session, before, most + 1)
        else:
            places = _of_account(session, account or caller.reach.account_id, before, most + 1)
        items = shapes_of(session, caller.reach, [transaction_id for _, transaction_id in places[:most]])
    return Page(items=items, next=str(places[most - 1][0]) if len(places) > most else None)


def _all(session: Session, before: int, most: int) -> list[tuple[int, int]]:
    asked = select(LedgerTransaction.id).order_by(col(LedgerTransaction.id).desc()).limit(most)
    if before:
        asked = asked.where(col(LedgerTransaction.id) < before)
    return [(one, one) for one in session.exec(asked) if one is not None]


def _of_account(session: Session, account_id: int, before: int, most: int) -> list[tuple[int, int]]:
    """Return (number in the wallet, transaction) of what moved an account's money: by the wallet's own index."""
    wallet = select(Wallet.id).where(Wallet.account_id == account_id, Wallet.kind == WalletKind.MONEY)
    asked = select(Posting.seq, Posting.transaction_id).where(col(Posting.wallet_id).in_(wallet))
    if before:
        asked = asked.where(col(Posting.seq) < before)
    rows = session.exec(asked.order_by(col(Posting.seq).desc()).limit(most))
    return [(seq, transaction_id) for seq, transaction_id in rows if seq is not None]
