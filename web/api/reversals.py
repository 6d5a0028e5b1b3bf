"""Transactions of the ledger, and their reversal: a mistake is never edited, its mirror image is posted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlmodel import Session, col, select
from starlette.responses import Response

from billing import moves
from billing.access import Reach
from billing.errors import NotFound
from billing.models import LedgerTransaction, Posting, Wallet, WalletKind
from billing.store import reading
from web.api.adjustments import Why
from web.api.auth import Asking
from web.api.once import IdempotencyKey, once
from web.api.routes import MOST_ID, needs, resource
from web.api.shapes import Amount, Body, Currency, Moment, Shape, amount
from web.context import panel_of

router = resource("corrections")

TransactionId = Annotated[int, Path(ge=1, le=MOST_ID, examples=[4711])]


class PostingShape(Shape):
    """One line of a transaction."""

    account_id: int
    kind: WalletKind = Field(description="Money of an account, or an account of the operator's books.")
    amount: Amount
    currency: Currency


class TransactionShape(Shape):
    """A transaction of the ledger. You see its postings on accounts in your sight."""

    id: int = Field(examples=[4711])
    kind: str = Field(examples=["topup"])
    operation: str = Field(examples=["topup:api:2:8f14e45f"])
    actor: str = Field(examples=["key:callctl-5f1c0a9b2d3e4f5061728394"])
    reason: str
    reverses_id: int | None
    reversed_by_id: int | None
    created_at: Moment
    postings: list[PostingShape]


class NewReversal(Body):
    """Why a transaction is undone."""

    reason: Why
    beyond: bool = Field(default=False, description="Take the money back even where it is not there any more.")


class ReversalShape(Shape):
    """A reversal that is booked."""

    operation: str
    transaction_id: int = Field(description="The new transaction.")
    reverses_id: int = Field(description="The one that is undone.")
    reason: str


@router.get("/transactions/{transaction_id}", **needs("money:read"))
def get_transaction(request: Request, caller: Asking, transaction_id: TransactionId) -> TransactionShape:
    """Return one transaction."""
    with reading(panel_of(request).engine) as session:
        return _find(session, caller.reach, transaction_id)


@router.post(
    "/transactions/{transaction_id}/reversals",
    status_code=201,
    response_model=ReversalShape,
    **needs("corrections:write", changes=True, once=True),
)
async def add_reversal(
    request: Request,
    caller: Asking,
    *,
    transaction_id: TransactionId,
    body: NewReversal,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Undo a transaction by its mirror image, once; what it takes back must be available."""
    panel = panel_of(request)

    def check() -> None:
        with reading(panel.engine) as session:
            _find(session, caller.reach, transaction_id)

    async def act(operation: str) -> ReversalShape:
        await run_in_threadpool(check)
        moved = await moves.reverse(
            panel.engine,
            panel.credit,
            transaction_id,
            operation=operation,
            actor=caller.actor,
            reason=body.reason,
            beyond=body.beyond,
            clock=panel.clock,
        )
        return ReversalShape(
            operation=operation,
            transaction_id=moved.done.transaction_id,
            reverses_id=moved.done.reverses_id,
            reason=body.reason,
        )

    return await once(request, caller, idempotency_key, (body.reason, body.beyond), act)


def shapes_of(session: Session, reach: Reach, transaction_ids: Sequence[int]) -> list[TransactionShape]:
    """Return transactions in this order, each with its postings in sight; one that has none is left out."""
    asked = select(Posting, Wallet).join(Wallet, col(Wallet.id) == col(Posting.wallet_id))
    asked = asked.where(col(Posting.transaction_id).in_(transaction_ids)).order_by(col(Posting.id))
    if not reach.whole:
        asked = asked.where(col(Wallet.account_id).in_(reach.ids()))
    postings: dict[int, list[PostingShape]] = {}
    for posting, wallet in session.exec(asked):
        line = PostingShape(
            account_id=wallet.account_id,
            kind=wallet.kind,
            amount=amount(posting.amount_micros),
            currency=posting.currency,
        )
        postings.setdefault(posting.transaction_id, []).append(line)
    rows = select(LedgerTransaction).where(col(LedgerTransaction.id).in_(transaction_ids))
    found = {row.id or 0: row for row in session.exec(rows)}
    undone = select(LedgerTransaction.reverses_id, LedgerTransaction.id)
    reversals = dict(session.exec(undone.where(col(LedgerTransaction.reverses_id).in_(transaction_ids))).all())
    return [
        TransactionShape(
            id=number,
            kind=found[number].kind,
            operation=found[number].operation,
            actor=found[number].actor if reach.whole else "",
            reason=found[number].reason,
            reverses_id=found[number].reverses_id,
            reversed_by_id=reversals.get(number),
            created_at=found[number].created_at,
            postings=postings[number],
        )
        for number in dict.fromkeys(transaction_ids)
        if number in postings and number in found
    ]


def _find(session: Session, reach: Reach, transaction_id: int) -> TransactionShape:
    found = shapes_of(session, reach, [transaction_id])
    if not found:
        raise NotFound(f"there is no transaction {transaction_id}")
    return found[0]
