"""Accounts: the tree with its money, and one account with its top-ups, limits, calls and records."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from billing import accounts, blocks, moves, outbox
from billing.access import Reach
from billing.accounts import AccountView
from billing.alerts import list_alerts
from billing.credit.store import WalletView
from billing.errors import Conflict, NotFound, Refused, TooLarge
from billing.limits import day_of
from billing.models import AccountKind, AccountStatus
from billing.moves import Moved
from billing.store import reading, work
from billing.subtree import find_within, list_within
from billing.topups import TopUp
from rating.errors import AmountError
from rating.money import parse_amount
from web.context import CREDIT_DOWN, Panel, panel_of
from web.pages import show
from web.panel.live import EVERY_CALL, ask, board
from web.queries import CdrFilter, search_cdrs
from web.render import amount
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

PAGE = 100
TREE_MOST = 500
"""Up to so many accounts are shown as one tree; beyond, page by page."""

BELOW = 50
"""Up to so many accounts right under one are shown on its page."""
REDIS_AT_ONCE = 8
MOST_ID = 2**53
AccountId = Annotated[int, Path(ge=1, le=MOST_ID)]
Reader = Annotated[Principal, Depends(may("accounts:read"))]
OPERATION = re.compile(r"[A-Za-z0-9_.-]{8,80}")
MOST_REASON = 200
LATER = "The live credit store does not answer; it will learn this by itself as soon as it is back."


@dataclass(frozen=True, slots=True)
class Branch:
    """An account in its place: how deep it hangs, and its live money (None where Redis does not know it)."""

    account: AccountView
    depth: int
    money: WalletView | None


def as_tree(views: Sequence[AccountView]) -> list[tuple[AccountView, int]]:
    """Return accounts parent first with their depth; one whose parent is not among them stands at the top."""
    names = {view.name for view in views}
    children: dict[str | None, list[AccountView]] = {}
    for view in views:
        children.setdefault(view.parent if view.parent in names else None, []).append(view)
    ordered: list[tuple[AccountView, int]] = []
    waiting = [(view, 0) for view in reversed(children.get(None, []))]
    while waiting:
        view, depth = waiting.pop()
        ordered.append((view, depth))
        waiting.extend((child, depth + 1) for child in reversed(children.get(view.name, [])))
    return ordered


def _may_top_up(principal: Principal, view: AccountView) -> bool:
    """Return whether this person may add money: an administrator to all, a reseller to those right below it."""
    if not principal.may("money:write") or view.kind is AccountKind.OPERATOR:
        return False
    return principal.reach.whole or view.parent_id == principal.reach.account_id


async def live_money(panel: Panel, views: Sequence[AccountView]) -> tuple[Mapping[int, WalletView | None], bool]:
    """Return the live wallets by id, and whether the live store failed to answer."""
    gate = asyncio.Semaphore(REDIS_AT_ONCE)

    async def one(wallet_id: int) -> tuple[int, WalletView | None]:
        async with gate:
            return wallet_id, await panel.credit.wallet(wallet_id)

    wallet_ids = [view.wallet_id for view in views if view.kind != AccountKind.OPERATOR]
    try:
        return dict(await asyncio.gather(*(one(wallet_id) for wallet_id in wallet_ids))), False
    except CREDIT_DOWN:
        return {}, True


def _all_for_tree(session: Session, reach: Reach) -> list[AccountView]:
    views: list[AccountView] = []
    while len(views) <= TREE_MOST:
        page = list_within(session, reach.within, after_id=views[-1].id if views else 0, most=PAGE)
        views.extend(page)
        if len(page) < PAGE:
            break
    return views


@router.get("/accounts")
async def accounts_page(
    request: Request, principal: Reader, after: Annotated[int, Query(ge=0, le=MOST_ID)] = 0, q: str = ""
) -> Response:
    """Show the tree (or, of very many, a page in order of number).

    `q` goes to the account of that name or number, else lists those with it in their name or identities.
    """
    panel, reach = panel_of(request), principal.reach
    wanted = q.strip()[:100]

    def read() -> list[AccountView] | AccountView | None:
        with reading(panel.engine) as session:
            if wanted:
                try:
                    return find_within(session, reach.within, wanted)
                except NotFound:
                    return list_within(session, reach.within, q=wanted, after_id=after, most=PAGE) or None
            if after > 0:
                return list_within(session, reach.within, after_id=after, most=PAGE)
            return _all_for_tree(session, reach)

    found = await run_in_threadpool(read)
    if isinstance(found, list) and wanted and len(found) == 1 and not after:
        found = found[0]
    if isinstance(found, AccountView):
        return RedirectResponse(f"/accounts/{found.id}", 303)
    missing = found is None
    views = found or []
    flat = after > 0 or len(views) > TREE_MOST or bool(wanted)
    shown = [(view, 0) for view in views[:PAGE]] if flat else as_tree(views)
    money, down = await live_money(panel, [view for view, _ in shown])
    branches = [Branch(view, depth, money.get(view.wallet_id)) for view, depth in shown]
    following = shown[-1][0].id if flat and len(views) >= PAGE else None
    return show(
        request,
        principal,
        "accounts.html",
        status=404 if missing else 200,
        branches=branches,
        down=down,
        flat=flat,
        following=following,
        q=wanted,
        missing=missing,
    )


@router.get("/accounts/{account_id}")
async def account_page(request: Request, principal: Reader, account_id: AccountId) -> Response:
    """Show one account."""
    return await _account(request, principal, account_id)


async def _account(
    request: Request,
    principal: Principal,
    account_id: int,
    *,
    status: int = 200,
    error: str = "",
    form: Mapping[str, str] | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[AccountView, dict[str, Any]]:
        with reading(panel.engine) as session:
            (view,) = accounts.views_of(session, [principal.reach.see(session, account_id)])
            is_below = view.id != principal.reach.account_id
            wanted = CdrFilter(account_id=account_id)
            return view, {
                # What stands above one's own account is beyond one's sight.
                "parent_id": view.parent_id if is_below else None,
                "is_below": is_below,
                "may_lift": blocks.may_lift(session, account_id, principal.reach.within),
                "cdrs": search_cdrs(session, wanted, most=10) if principal.may("cdrs:read") else [],
                "below": list_within(session, principal.reach.within, parent_id=account_id, most=BELOW + 1),
                "alerts": list_alerts(session, standing=True, account_ids=[account_id], most=5),
            }

    view, seen = await run_in_threadpool(read)
    money, down = await live_money(panel, [view])
    return show(
        request,
        principal,
        "account.html",
        status=status,
        account=view,
        money=money.get(view.wallet_id),
        money_down=down,
        spent_today=None if down else await _spent_today(panel, view),
        most_below=BELOW,
        may_top_up=_may_top_up(principal, view),
        may_redeem=principal.reach.kind is AccountKind.CUSTOMER and view.status is not AccountStatus.CLOSED,
        **seen,
        names={view.id: view.name},
        error=error,
        # Minted with the page: sending the same form twice, by whatever accident, tops up once.
        form=form or {"operation": panel.ids.new("topup"), "amount": "", "reason": ""},
        **await board(panel, principal, account_id=account_id),
    )


async def _spent_today(panel: Panel, view: AccountView) -> int | None:
    """Return what an account with a limit for the day has spent and holds today, where the live store knows."""
    if view.max_day_micros is None:
        return None
    try:
        spent = await panel.credit.spent_today(view.id)
    except CREDIT_DOWN:
        return None
    return spent[1] if spent and spent[0] == day_of(view.timezone, panel.clock.now()) else 0


@router.post("/accounts/{account_id}/topup")
async def top_up(
    request: Request,
    principal: Annotated[Principal, Depends(may("money:write"))],
    account_id: AccountId,
    *,
    operation: Annotated[str, Form()] = "",
    amount_text: Annotated[str, Form(alias="amount")] = "",
    reason: Annotated[str, Form()] = "",
) -> Response:
    """Add money once: booked in SQL, then told to the live store at once, so that a live call is extended."""
    if not OPERATION.fullmatch(operation):
        raise HTTPException(400)
    panel = panel_of(request)
    reason = reason.strip()[:MOST_REASON]
    form = {"operation": operation, "amount": amount_text[:40], "reason": reason}
    try:
        micros = parse_amount(amount_text.strip())
    except AmountError as error:
        return await _account(request, principal, account_id, status=422, error=str(error), form=form)
    if micros <= 0:
        text = "The amount must be more than 0."
        return await _account(request, principal, account_id, status=422, error=text, form=form)

    def check() -> bool:
        with reading(panel.engine) as session:
            account = principal.reach.see(session, account_id)
            return principal.reach.whole or account.parent_id == principal.reach.account_id

    if not await run_in_threadpool(check):
        raise Forbidden("The money of this account comes from the reseller right above it.")
    try:
        moved = await moves.pay_in(
            panel.engine,
            panel.credit,
            account_id,
            micros,
            operation=f"panel:{principal.user_id}:{operation}",
            actor=principal.login,
            reason=reason,
            clock=panel.clock,
        )
    except (Refused, Conflict, TooLarge) as error:
        panel.counters.topups.labels("refused").inc()
        return await _account(request, principal, account_id, status=409, error=str(error))
    except CREDIT_DOWN:
        text = "The live credit store does not answer, so a reseller's money cannot be taken. Nothing was booked."
        return await _account(request, principal, account_id, status=503, error=text, form=form)
    return _booked(request, principal, account_id, moved)


def _booked(request: Request, principal: Principal, account_id: int, moved: Moved[TopUp]) -> Response:
    panel = panel_of(request)
    to = f"/accounts/{account_id}"
    done = moved.done
    if done.replayed:
        panel.counters.topups.labels("replayed").inc()
        text = "This top-up was booked before. Nothing was added again."
        return flash(request, principal, "warning", text, to=to)
    panel.counters.topups.labels("booked").inc()
    added = f"{amount(done.amount_micros)} added. The balance is {amount(done.balance_micros)}."
    if not moved.live:
        return flash(request, principal, "warning", f"{added} {LATER}", to=to)
    return flash(request, principal, "success", added, to=to)


@router.post("/accounts/{account_id}/status")
async def set_status(
    request: Request,
    principal: Annotated[Principal, Depends(may("accounts:write"))],
    account_id: AccountId,
    status: Annotated[str, Form()] = "",
) -> Response:
    """Block an account, or let it call again. Live calls go on: ending them is a button of its own."""
    if status not in {AccountStatus.ACTIVE, AccountStatus.BLOCKED}:
        raise HTTPException(400)
    panel = panel_of(request)

    def change() -> AccountView:
        with work(panel.engine) as session:
            account = principal.reach.see_below(session, account_id)
            if account.status is AccountStatus.PARKED and not principal.reach.whole:
                raise Forbidden("A parked account is opened by the operator.")
            by, now = principal.reach.within, panel.clock.now()
            lifts = status == AccountStatus.ACTIVE and account.status is AccountStatus.BLOCKED
            if lifts and not blocks.may_lift(session, account_id, by):
                raise Forbidden("This account was blocked by who stands above you: only they lift it.")
            accounts.set_status(session, account_id, AccountStatus(status), by=by, actor=principal.login, now=now)
            return accounts.find_account(session, str(account_id))

    view = await run_in_threadpool(change)
    to = f"/accounts/{account_id}"
    said = f"{view.name} is blocked: no new calls." if status == "blocked" else f"{view.name} may call again."
    try:
        await outbox.tell_accounts(panel.engine, panel.credit, [view.id], clock=panel.clock)
    except CREDIT_DOWN:
        return flash(request, principal, "warning", f"{said} {LATER}", to=to)
    return flash(request, principal, "success", said, to=to)


@router.post("/accounts/{account_id}/hangup")
async def hang_up_all(
    request: Request, principal: Annotated[Principal, Depends(may("calls:write"))], account_id: AccountId
) -> Response:
    """Ask the controller to end every call of an account."""
    panel = panel_of(request)

    def read() -> AccountView:
        with reading(panel.engine) as session:
            return accounts.views_of(session, [principal.reach.see(session, account_id)])[0]

    view = await run_in_threadpool(read)
    to = f"/accounts/{view.id}"
    if await ask(panel, principal, f"{EVERY_CALL}{view.id}", before=None):
        return flash(request, principal, "success", f"Hang-up asked for: every call of {view.name}.", to=to)
    return flash(request, principal, "danger", "The live store does not answer; the calls keep their deadlines.", to=to)
