"""Corrections by hand: money given or taken with a reason, and a booking of a statement undone by its mirror image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing import accounts, moves
from billing.accounts import AccountView
from billing.errors import Conflict, NotFound, Refused, TooLarge
from billing.models import LedgerTransaction, Posting
from billing.store import reading
from rating.errors import AmountError
from rating.money import parse_amount
from web.context import CREDIT_DOWN, panel_of
from web.pages import show
from web.panel.account_forms import typed
from web.panel.accounts import LATER, MOST_ID, MOST_REASON, OPERATION, AccountId
from web.panel.plan_forms import Wrong
from web.render import amount
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("money:read"))]
Keeper = Annotated[Principal, Depends(may("corrections:write", whole=True))]
Seq = Annotated[int, Path(ge=1, le=MOST_ID)]
DOWN = "The live credit store does not answer, so no money can be taken. Nothing was booked."


@dataclass(frozen=True, slots=True)
class Booking:
    """One posting of an account with its transaction. `undone_by`: the transaction that reversed it, if one has."""

    account: AccountView
    seq: int
    at: datetime
    amount_micros: int
    transaction_id: int
    kind: str
    operation: str
    actor: str
    reason: str
    reverses_id: int | None
    undone_by: int | None

    @property
    def may_be_undone(self) -> bool:
        """Whether a reversal makes sense: a correction is undone with its re-rating, a reversal by booking anew."""
        return self.undone_by is None and self.reverses_id is None and self.kind != "correction"


def _find(session: Session, principal: Principal, account_id: int, seq: int) -> Booking:
    """Return a line of an account's statement. Raises `NotFound`."""
    (view,) = accounts.views_of(session, [principal.reach.see(session, account_id)])
    asked = (
        select(Posting, LedgerTransaction)
        .join(LedgerTransaction, col(LedgerTransaction.id) == col(Posting.transaction_id))
        .where(Posting.wallet_id == view.wallet_id, Posting.seq == seq)
    )
    found = session.exec(asked).first()
    if found is None:
        raise NotFound("There is no such booking.")
    posting, done = found
    undone = session.exec(select(LedgerTransaction.id).where(LedgerTransaction.reverses_id == done.id)).first()
    return Booking(
        account=view,
        seq=seq,
        at=done.created_at,
        amount_micros=posting.amount_micros,
        transaction_id=done.id or 0,
        kind=done.kind,
        operation=done.operation,
        # Who works for the operator is nobody's business below.
        actor=done.actor if principal.reach.whole else "",
        reason=done.reason,
        reverses_id=done.reverses_id,
        undone_by=undone,
    )


@router.get("/accounts/{account_id}/statement/{seq}")
async def booking_page(request: Request, principal: Reader, account_id: AccountId, seq: Seq) -> Response:
    """Show one booking, and the form that undoes it."""
    return await _booking(request, principal, account_id, seq)


async def _booking(
    request: Request,
    principal: Principal,
    account_id: int,
    seq: int,
    *,
    form: Mapping[str, str] | None = None,
    wrong: Wrong | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> Booking:
        with reading(panel.engine) as session:
            return _find(session, principal, account_id, seq)

    return show(
        request,
        principal,
        "booking.html",
        status=422 if wrong else 200,
        booking=await run_in_threadpool(read),
        form=form or {"operation": panel.ids.new("undo"), "reason": ""},
        wrong=wrong.field if wrong else "",
        error=wrong.text if wrong else "",
    )


def _told(form: Mapping[str, str]) -> tuple[str, str]:
    """Return the operation and the reason of a form. Raises `Wrong`."""
    operation, reason = form.get("operation", ""), form.get("reason", "").strip()[:MOST_REASON]
    if not OPERATION.fullmatch(operation):
        raise HTTPException(400)
    if not reason:
        raise Wrong("reason", "A correction has a reason: it stands in the statement and in the audit log.")
    return operation, reason


@router.post("/accounts/{account_id}/statement/{seq}")
async def undo(request: Request, principal: Keeper, account_id: AccountId, seq: Seq) -> Response:
    """Undo a booking for all who had a part in it, once; what it takes back must be there."""
    panel = panel_of(request)
    form = typed(await request.form())

    def read() -> Booking:
        with reading(panel.engine) as session:
            return _find(session, principal, account_id, seq)

    booking = await run_in_threadpool(read)
    try:
        operation, reason = _told(form)
        moved = await moves.reverse(
            panel.engine,
            panel.credit,
            booking.transaction_id,
            operation=f"panel:{principal.user_id}:{operation}",
            actor=principal.login,
            reason=reason,
            beyond=form.get("beyond") == "yes",
            clock=panel.clock,
        )
    except Wrong as wrong:
        return await _booking(request, principal, account_id, seq, form=form, wrong=wrong)
    except (Refused, Conflict, TooLarge) as why:
        # The refusal is kept under its id: the next try is another one.
        again = dict(form) | {"operation": panel.ids.new("undo")}
        return await _booking(request, principal, account_id, seq, form=again, wrong=Wrong("", f"{why}."))
    except CREDIT_DOWN:
        return await _booking(request, principal, account_id, seq, form=form, wrong=Wrong("", DOWN))
    to = f"/accounts/{account_id}/statement"
    if moved.done.replayed:
        return flash(request, principal, "warning", "It was undone before. Nothing was booked again.", to=to)
    said = f"Undone by transaction {moved.done.transaction_id}."
    return flash(request, principal, "success", said if moved.live else f"{said} {LATER}", to=to)


@router.get("/accounts/{account_id}/adjust")
async def adjust_page(request: Request, principal: Keeper, account_id: AccountId) -> Response:
    """Show the form that gives or takes money with a reason."""
    return await _adjust(request, principal, account_id)


async def _adjust(
    request: Request,
    principal: Principal,
    account_id: int,
    *,
    form: Mapping[str, str] | None = None,
    wrong: Wrong | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> AccountView:
        with reading(panel.engine) as session:
            return accounts.views_of(session, [principal.reach.see_below(session, account_id)])[0]

    return show(
        request,
        principal,
        "adjust.html",
        status=422 if wrong else 200,
        account=await run_in_threadpool(read),
        form=form or {"operation": panel.ids.new("adjust"), "way": "give"},
        wrong=wrong.field if wrong else "",
        error=wrong.text if wrong else "",
    )


@router.post("/accounts/{account_id}/adjust")
async def adjust(request: Request, principal: Keeper, account_id: AccountId) -> Response:
    """Give an account money, or take some, once."""
    panel = panel_of(request)
    form = typed(await request.form())

    def check() -> AccountView:
        with reading(panel.engine) as session:
            return accounts.views_of(session, [principal.reach.see_below(session, account_id)])[0]

    view = await run_in_threadpool(check)
    try:
        operation, reason = _told(form)
        micros = _amount(form)
        moved = await moves.adjust(
            panel.engine,
            panel.credit,
            account_id,
            -micros if form.get("way") == "take" else micros,
            operation=f"panel:{principal.user_id}:{operation}",
            actor=principal.login,
            reason=reason,
            beyond=form.get("beyond") == "yes",
            clock=panel.clock,
        )
    except Wrong as wrong:
        return await _adjust(request, principal, account_id, form=form, wrong=wrong)
    except (Refused, Conflict, TooLarge) as why:
        again = dict(form) | {"operation": panel.ids.new("adjust")}
        return await _adjust(request, principal, account_id, form=again, wrong=Wrong("", f"{why}."))
    except CREDIT_DOWN:
        return await _adjust(request, principal, account_id, form=form, wrong=Wrong("", DOWN))
    to, done = f"/accounts/{account_id}", moved.done
    if done.replayed:
        return flash(request, principal, "warning", "It was booked before. Nothing was booked again.", to=to)
    said = f"{amount(done.amount_micros, view.currency)} booked. The balance is {amount(done.balance_micros)}."
    return flash(request, principal, "success", said if moved.live else f"{said} {LATER}", to=to)


def _amount(form: Mapping[str, str]) -> int:
    try:
        micros = parse_amount(form.get("amount", "").strip())
    except AmountError as why:
        raise Wrong("amount", f"{why}.") from why
    if micros <= 0:
        raise Wrong("amount", "The amount must be more than 0; choose whether it is given or taken.")
    return micros
