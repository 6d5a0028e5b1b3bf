"""Vouchers: batches whose codes are told once, and codes redeemed for accounts below one's own."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlmodel import Session

from billing import voucher_moves, vouchers
from billing.store import reading, work
from billing.voucher_key import read_key
from billing.vouchers import BatchView
from web.api.auth import Asking
from web.api.routes import MOST_ID, AccountId, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Amount, Body, Currency, Moment, Name, Page, Positive, SentMoment, Shape, amount
from web.context import Panel, panel_of

router = resource("vouchers")

BatchId = Annotated[int, Path(ge=1, le=MOST_ID, description="The batch's number.", examples=[1])]
STATES = "open, used, expired or cancelled"


class NewBatch(Body):
    """Vouchers to be made. They are good for accounts right under their issuer: you."""

    name: Name
    number: int = Field(ge=1, le=vouchers.MOST_VOUCHERS, examples=[50])
    worth: Positive
    currency: Currency | None = Field(default=None, description="Yours, if not given.")
    expires_at: SentMoment | None = None


class BatchShape(Shape):
    """A batch."""

    id: int
    name: str = Field(examples=["Summer 2026"])
    issuer_id: int
    worth: Amount
    currency: Currency
    number: int
    redeemed: int
    expires_at: Moment | None
    cancelled_at: Moment | None
    created_at: Moment


class NewBatchShape(BatchShape):
    """A batch that was just made, with its codes: they are told now and never again."""

    codes: list[str] = Field(examples=[["QJE7-4E83-9JFC-YEJK"]])


class VoucherShape(Shape):
    """A voucher, known by the end of its code."""

    id: int
    ends_in: str = Field(examples=["YEJK"])
    state: str = Field(description=f"One of {STATES}.", examples=["open"])
    redeemed_at: Moment | None
    redeemed_by: str | None = Field(description="The account's name.")


class Cancelled(Shape):
    """How many open vouchers are worth nothing now."""

    batch_id: int
    cancelled: int


class Redemption(Body):
    """A code, in whatever spelling."""

    code: str = Field(min_length=1, max_length=100, examples=["QJE7-4E83-9JFC-YEJK"])


class RedeemedShape(Shape):
    """What a voucher added. `replayed` where this account had redeemed it before: nothing was added again."""

    account_id: int
    worth: Amount
    currency: Currency
    batch: str
    balance: Amount | None = Field(description="Right after it; null where nothing was added again.")
    replayed: bool


@router.get("/voucher-batches", **needs("vouchers:read", "cursor_invalid"))
async def list_voucher_batches(
    request: Request, caller: Asking, after: Cursor = "", most: PageSize = 100
) -> Page[BatchShape]:
    """List the batches you have issued, newest first; the operator sees everybody's."""
    panel = panel_of(request)
    before = number_of(after)

    def read() -> list[BatchView]:
        with reading(panel.engine) as session:
            return vouchers.list_batches(session, within=caller.reach.within, before_id=before or None, most=most + 1)

    found = await run_in_threadpool(read)
    following = str(found[most - 1].id) if len(found) > most else None
    return Page(items=[_shape(one) for one in found[:most]], next=following)


@router.post(
    "/voucher-batches", status_code=201, **needs("vouchers:write", "amount_invalid", "too_large", changes=True)
)
async def add_voucher_batch(request: Request, caller: Asking, body: NewBatch) -> NewBatchShape:
    """Make vouchers and return their codes, this once: only hashes of them are kept.

    There is no Idempotency-Key, since an answer that could be given again would have to be kept. Where the answer was
    lost, cancel the batch and make another.
    """
    panel = panel_of(request)

    def make() -> tuple[BatchView, tuple[str, ...]]:
        key = _key(panel)
        with work(panel.engine) as session:
            return vouchers.make_batch(
                session,
                name=body.name.strip(),
                face_micros=body.worth,
                number=body.number,
                currency=body.currency,
                expires_at=body.expires_at,
                within=caller.reach.within,
                key=key,
                ids=panel.ids,
                actor=caller.actor,
                now=panel.clock.now(),
            )

    made, codes = await run_in_threadpool(make)
    return NewBatchShape(**_shape(made).model_dump(), codes=[vouchers.spaced(code) for code in codes])


@router.get("/voucher-batches/{batch_id}", **needs("vouchers:read"))
async def get_voucher_batch(request: Request, caller: Asking, batch_id: BatchId) -> BatchShape:
    """Return one batch."""
    panel = panel_of(request)

    def read() -> BatchView:
        with reading(panel.engine) as session:
            return vouchers.find_batch(session, batch_id, within=caller.reach.within)

    return _shape(await run_in_threadpool(read))


@router.get("/voucher-batches/{batch_id}/vouchers", **needs("vouchers:read", "cursor_invalid"))
async def list_vouchers(
    request: Request, caller: Asking, batch_id: BatchId, after: Cursor = "", most: PageSize = 100
) -> Page[VoucherShape]:
    """List the vouchers of a batch by the end of their codes: nobody has the codes any more."""
    panel = panel_of(request)
    after_id = number_of(after)

    def read() -> list[VoucherShape]:
        with reading(panel.engine) as session:
            found = vouchers.list_vouchers(
                session,
                batch_id,
                within=caller.reach.within,
                now=panel.clock.now(),
                after_id=after_id,
                most=most + 1,
            )
            return [
                VoucherShape(
                    id=one.id,
                    ends_in=one.hint,
                    state=one.state,
                    redeemed_at=one.redeemed_at,
                    redeemed_by=one.redeemed_by,
                )
                for one in found
            ]

    found = await run_in_threadpool(read)
    return Page(items=found[:most], next=str(found[most - 1].id) if len(found) > most else None)


@router.post("/voucher-batches/{batch_id}/cancellation", **needs("vouchers:write", changes=True))
async def cancel_voucher_batch(request: Request, caller: Asking, batch_id: BatchId) -> Cancelled:
    """Cancel what is still open of a batch; what was redeemed stays. A second time nothing is left to cancel."""
    panel = panel_of(request)

    def change(session: Session) -> int:
        now = panel.clock.now()
        return vouchers.cancel(session, batch_id, within=caller.reach.within, actor=caller.actor, now=now)

    def do() -> int:
        with work(panel.engine) as session:
            return change(session)

    return Cancelled(batch_id=batch_id, cancelled=await run_in_threadpool(do))


@router.post("/accounts/{account_id}/vouchers", **needs("vouchers:write", changes=True))
async def redeem_voucher(request: Request, caller: Asking, account_id: AccountId, body: Redemption) -> RedeemedShape:
    """Redeem a voucher for an account below your own; its live calls get longer at once.

    A code is worth its money once: sent again for the same account, nothing is added and `replayed` is true.
    """
    panel = panel_of(request)

    def check() -> bytes:
        with reading(panel.engine) as session:
            caller.reach.see_below(session, account_id)
        return _key(panel)

    key = await run_in_threadpool(check)
    done, _ = await voucher_moves.redeem(
        panel.engine, panel.credit, body.code, account_id, key=key, actor=caller.actor, clock=panel.clock
    )
    return RedeemedShape(
        account_id=account_id,
        worth=amount(done.face_micros),
        currency=done.currency,
        batch=done.batch,
        balance=None if done.top_up is None else amount(done.top_up.balance_micros),
        replayed=done.top_up is None,
    )


def _key(panel: Panel) -> bytes:
    return read_key(panel.settings.vouchers.key_file, panel.ids)


def _shape(batch: BatchView) -> BatchShape:
    return BatchShape(
        id=batch.id,
        name=batch.name,
        issuer_id=batch.issuer_id,
        worth=amount(batch.face_micros),
        currency=batch.currency,
        number=batch.number,
        redeemed=batch.redeemed,
        expires_at=batch.expires_at,
        cancelled_at=batch.cancelled_at,
        created_at=batch.created_at,
    )
