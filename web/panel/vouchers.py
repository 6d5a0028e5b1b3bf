"""Voucher batches: made, printed once, looked at, cancelled; and a voucher redeemed for an account."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import col, select
from starlette.responses import Response

from billing import voucher_moves, vouchers
from billing.errors import NotFound, Refused, TooLarge
from billing.models import Account, AccountKind, AccountStatus
from billing.store import reading, work
from billing.voucher_key import read_key
from billing.voucher_sheet import sheet_csv
from billing.vouchers import BatchView, VoucherView
from rating.errors import AmountError
from rating.money import parse_amount
from web.context import CREDIT_DOWN, Panel, panel_of
from web.pages import show
from web.panel.accounts import LATER, MOST_ID, AccountId
from web.render import amount
from web.security.sessions import Forbidden, Inside, Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("vouchers:read"))]
Keeper = Annotated[Principal, Depends(may("vouchers:write"))]

PAGE = 50
VOUCHERS_PAGE = 200
BatchId = Annotated[int, Path(ge=1, le=MOST_ID)]
EMPTY = {"name": "", "number": "50", "worth": "10.00", "expires": "", "issuer": ""}


def _key(panel: Panel) -> bytes:
    return read_key(panel.settings.vouchers.key_file, panel.ids)


async def _batches(
    request: Request, principal: Principal, *, before: int = 0, form: Mapping[str, str] = EMPTY, error: str = ""
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[list[BatchView], list[tuple[int, str]]]:
        with reading(panel.engine) as session:
            within = principal.reach.within
            found = vouchers.list_batches(session, within=within, before_id=before or None, most=PAGE + 1)
            if within is not None:
                return found, []
            issuers = (
                select(Account.id, Account.name)
                .where(Account.kind == AccountKind.RESELLER, Account.status == AccountStatus.ACTIVE)
                .order_by(col(Account.name))
                .limit(500)
            )
            return found, [(account_id or 0, name) for account_id, name in session.exec(issuers)]

    found, issuers = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "vouchers.html",
        status=422 if error else 200,
        batches=found[:PAGE],
        following=found[PAGE - 1].id if len(found) > PAGE else None,
        issuers=issuers,
        form=form,
        error=error,
        now=panel.clock.now(),
    )


@router.get("/vouchers")
async def batches_page(
    request: Request, principal: Reader, before: Annotated[int, Query(ge=0, le=MOST_ID)] = 0
) -> Response:
    """Show the batches, newest first, and the form for another."""
    return await _batches(request, principal, before=before)


@router.post("/vouchers")
async def make_batch(
    request: Request,
    principal: Keeper,
    *,
    name: Annotated[str, Form()] = "",
    number: Annotated[str, Form()] = "",
    worth: Annotated[str, Form()] = "",
    expires: Annotated[str, Form()] = "",
    issuer: Annotated[str, Form()] = "",
) -> Response:
    """Make a batch and show its codes, this once: they are kept nowhere."""
    panel = panel_of(request)
    form = {
        "name": name[:200],
        "number": number[:20],
        "worth": worth[:40],
        "expires": expires[:20],
        "issuer": issuer[:20],
    }

    def make() -> tuple[BatchView, tuple[str, ...], str]:
        with work(panel.engine) as session:
            made, codes = vouchers.make_batch(
                session,
                name=name.strip(),
                face_micros=parse_amount(worth.strip()),
                number=_whole(number) or 0,
                expires_at=_end_of(expires),
                # A reseller's are its own, whatever the form says.
                issuer_id=_whole(issuer) if principal.reach.whole else None,
                within=principal.reach.within,
                key=_key(panel),
                ids=panel.ids,
                actor=principal.login,
                now=panel.clock.now(),
            )
            brand = session.exec(select(Account.brand).where(Account.id == made.issuer_id)).one()
            return made, codes, brand or made.issuer

    try:
        made, codes, brand = await run_in_threadpool(make)
    except (Refused, TooLarge, NotFound, AmountError) as error:
        return await _batches(request, principal, form=form, error=str(error))
    response = show(
        request,
        principal,
        "voucher_sheet.html",
        batch=made,
        codes=[vouchers.spaced(code) for code in codes],
        csv=sheet_csv(made, codes),
        brand=brand,
    )
    # A browser that keeps the page would keep the codes.
    response.headers["cache-control"] = "no-store"
    return response


@router.get("/vouchers/{batch_id}")
async def batch_page(
    request: Request, principal: Reader, batch_id: BatchId, after: Annotated[int, Query(ge=0, le=MOST_ID)] = 0
) -> Response:
    """Show the vouchers of a batch, by the end of their codes."""
    panel = panel_of(request)

    def read() -> tuple[BatchView, list[VoucherView]]:
        with reading(panel.engine) as session:
            within, now = principal.reach.within, panel.clock.now()
            batch = vouchers.find_batch(session, batch_id, within=within)
            return batch, vouchers.list_vouchers(
                session, batch_id, within=within, now=now, after_id=after, most=VOUCHERS_PAGE + 1
            )

    batch, found = await run_in_threadpool(read)
    following = found[VOUCHERS_PAGE - 1].id if len(found) > VOUCHERS_PAGE else None
    return show(
        request, principal, "voucher_batch.html", batch=batch, vouchers=found[:VOUCHERS_PAGE], following=following
    )


@router.post("/vouchers/{batch_id}/cancel")
async def cancel(
    request: Request, principal: Keeper, batch_id: BatchId, hint: Annotated[str, Form(max_length=40)] = ""
) -> Response:
    """Cancel what is open of a batch, or one voucher of it."""
    panel = panel_of(request)

    def change() -> int:
        with work(panel.engine) as session:
            return vouchers.cancel(
                session,
                batch_id,
                hint=hint or None,
                within=principal.reach.within,
                actor=principal.login,
                now=panel.clock.now(),
            )

    done = await run_in_threadpool(change)
    text = f"{done} voucher{'' if done == 1 else 's'} cancelled." if done else "Nothing was open any more."
    return flash(request, principal, "success" if done else "warning", text, to=f"/vouchers/{batch_id}")


async def redeemer(principal: Inside) -> Principal:
    """Let pass who may redeem: for those below, who deals in vouchers; a customer for itself, by the code it has."""
    if not (principal.may("vouchers:write") or principal.reach.kind is AccountKind.CUSTOMER):
        raise Forbidden("Your role does not include this.")
    return principal


redeemer.scope = "vouchers:write"  # type: ignore[attr-defined] # what an administrator needs for it


@router.post("/accounts/{account_id}/voucher")
async def redeem(
    request: Request,
    principal: Annotated[Principal, Depends(redeemer)],
    account_id: AccountId,
    code: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Redeem a voucher for an account; its live calls get longer at once."""
    panel = panel_of(request)
    to = f"/accounts/{account_id}"

    def check() -> None:
        with reading(panel.engine) as session:
            account = principal.reach.see(session, account_id)
            if principal.reach.kind is AccountKind.RESELLER and account.parent_id != principal.reach.account_id:
                raise Forbidden("A voucher is redeemed by the reseller right above the account, or by the account.")

    await run_in_threadpool(check)
    try:
        key = await run_in_threadpool(_key, panel)
        done, live = await voucher_moves.redeem(
            panel.engine, panel.credit, code, account_id, key=key, actor=principal.login, clock=panel.clock
        )
    except Refused as error:
        return flash(request, principal, "danger", f"{str(error)[:1].upper()}{str(error)[1:]}.", to=to)
    except CREDIT_DOWN:
        text = "The live credit store does not answer. The voucher stays open: try again in a moment."
        return flash(request, principal, "danger", text, to=to)
    if done.top_up is None:
        text = "This account has redeemed this voucher before. Nothing was added again."
        return flash(request, principal, "warning", text, to=to)
    text = f"{amount(done.face_micros, done.currency)} added by a voucher of {done.batch}."
    if live:
        return flash(request, principal, "success", text, to=to)
    return flash(request, principal, "warning", f"{text} {LATER}", to=to)


def _whole(text: str) -> int | None:
    """Return a whole number that a store can hold, None for anything else."""
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= len(str(MOST_ID)) else None


def _end_of(day: str) -> datetime | None:
    if not day.strip():
        return None
    try:
        return datetime.combine(date.fromisoformat(day.strip()) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise Refused(f"a day is written 2026-12-31, not {day[:20]!r}") from None
