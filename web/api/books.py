"""The operator's books: the trial balance of any moment."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from pydantic import Field

from billing.models import WalletKind
from billing.store import reading
from billing.trial_balance import trial_balance
from web.api.auth import Asking
from web.api.problems import Problem
from web.api.routes import needs, resource
from web.api.shapes import Amount, Currency, SentMoment, Shape, amount
from web.context import panel_of

router = resource("books")


class BookLineShape(Shape):
    """A ledger account: what stands on its left or right side."""

    kind: WalletKind
    debit: Amount
    credit: Amount


class SheetShape(Shape):
    """The trial balance of one currency."""

    currency: Currency
    debit: Amount
    credit: Amount
    balances: bool = Field(description="Whether both sides are the same.")
    lines: list[BookLineShape]


class TrialBalanceShape(Shape):
    """A sheet for each currency."""

    sheets: list[SheetShape]


@router.get("/books/trial-balance", **needs("books:read", "not_allowed"))
def get_trial_balance(
    request: Request,
    caller: Asking,
    at: Annotated[SentMoment | None, Query(description="Of what was posted up to then; now, if not given.")] = None,
) -> TrialBalanceShape:
    """Return what each ledger account adds up to, in debits and credits."""
    if not caller.reach.whole:
        raise Problem("not_allowed")
    with reading(panel_of(request).engine) as session:
        sheets = trial_balance(session, at=at)
    return TrialBalanceShape(
        sheets=[
            SheetShape(
                currency=sheet.currency,
                debit=amount(sheet.debit_micros),
                credit=amount(sheet.credit_micros),
                balances=sheet.balances,
                lines=[
                    BookLineShape(kind=line.kind, debit=amount(line.debit_micros), credit=amount(line.credit_micros))
                    for line in sheet.lines
                ],
            )
            for sheet in sheets
        ]
    )
