"""Commissions: who earns a part of what he brings in, set and taken away, and a month booked for all.

Who pays is whoever stands right above: administrators see the operator's and set any, a reseller sees and sets its own,
and what it earns itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select
from starlette.responses import Response

from billing import commission_moves, commissions, statements
from billing.commissions import CommissionView, Earned
from billing.errors import NotFound, Refused
from billing.models import Account, AccountStatus, CommissionMonth, CommissionOf
from billing.store import reading, work
from billing.subtree import find_within
from web.context import CREDIT_DOWN, panel_of
from web.pages import show
from web.panel.accounts import AccountId
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("money:read"))]
Keeper = Annotated[Principal, Depends(may("money:write"))]

HOME = "/commissions"
EMPTY = {"account": "", "percent": "", "of": CommissionOf.REVENUE.value}
MOST_SHOWN = 500
Text = Annotated[str, Form(max_length=200)]


@dataclass(frozen=True, slots=True)
class Line:
    """A commission and what a month brings; `booked` where it was booked, else `would` (or why not)."""

    view: CommissionView
    booked: CommissionMonth | None
    would: Earned | None


@router.get(HOME)
async def commissions_page(
    request: Request, principal: Reader, month: Annotated[str, Query(max_length=7)] = ""
) -> Response:
    """Show the commissions of the accounts right below, and a month of them."""
    return await _page(request, principal, month=month)


async def _page(
    request: Request,
    principal: Principal,
    *,
    month: str = "",
    form: Mapping[str, str] = EMPTY,
    error: str = "",
    field: str = "",
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[str, str, list[Line], CommissionView | None, list[CommissionMonth], list[str]]:
        with reading(panel.engine) as session:
            me = session.exec(select(Account).where(Account.id == principal.reach.account_id)).one()
            current = statements.this_month(panel.clock.now(), me.timezone)
            wanted = month or _before(current)
            statements.month_of(wanted, me.timezone)
            views = commissions.list_commissions(session, payer_id=_payer(principal), most=MOST_SHOWN)
            lines = [_line(session, view, wanted) for view in views]
            own = None if principal.reach.whole else _own(session, principal.reach.account_id)
            mine = commissions.booked_months(session, principal.reach.account_id) if own else []
            session.expunge_all()
            return wanted, current, lines, own, mine, _below(session, principal.reach.account_id)

    wanted, current, lines, own, mine, below = await run_in_threadpool(read)
    first = date.fromisoformat(f"{wanted}-01")
    return show(
        request,
        principal,
        "commissions.html",
        status=422 if error else 200,
        month=wanted,
        earlier=_before(wanted),
        later=f"{first.year + first.month // 12}-{first.month % 12 + 1:02}",
        lines=lines,
        over=wanted < current,
        due=any(line.booked is None and line.would is not None for line in lines),
        own=own,
        mine=mine,
        below=below,
        bases=list(CommissionOf),
        form=form,
        error=error,
        field=field,
        percent_of=commissions.percent_of,
    )


def _payer(principal: Principal) -> int | None:
    return None if principal.reach.whole else principal.reach.account_id


def _before(month: str) -> str:
    first = date.fromisoformat(f"{month}-01")
    return f"{first.year - (first.month == 1)}-{(first.month - 2) % 12 + 1:02}"


def _line(session: Session, view: CommissionView, month: str) -> Line:
    booked = session.get(CommissionMonth, (view.account_id, month))
    return Line(view, booked, None if booked else commissions.earned(session, view.account_id, month))


def _own(session: Session, account_id: int) -> CommissionView | None:
    found = commissions.list_commissions(session, after_id=account_id - 1, most=1)
    return found[0] if found and found[0].account_id == account_id else None


def _below(session: Session, account_id: int) -> list[str]:
    asked = select(Account.name).where(Account.parent_id == account_id, Account.status != AccountStatus.CLOSED)
    return list(session.exec(asked.order_by(col(Account.name)).limit(MOST_SHOWN)))


@router.post(HOME)
async def set_one(
    request: Request, principal: Keeper, account: Text = "", percent: Text = "", of: Text = ""
) -> Response:
    """Give an account a commission, or another one."""
    panel = panel_of(request)
    form = {"account": account.strip(), "percent": percent.strip(), "of": of}

    def change() -> str:
        with work(panel.engine) as session:
            found = find_within(session, principal.reach.within, form["account"])
            _may_pay(principal, found.parent_id)
            ppm = commissions.read_percent(form["percent"].removesuffix("%").strip())
            basis = CommissionOf(of) if of in set(CommissionOf) else CommissionOf.REVENUE
            commissions.set_commission(
                session,
                found.id,
                basis,
                ppm,
                within=principal.reach.within,
                actor=principal.login,
                now=panel.clock.now(),
            )
            return f"{found.name} earns {commissions.percent_of(ppm)} % of the {basis.value}."

    try:
        said = await run_in_threadpool(change)
    except NotFound as why:
        return await _page(request, principal, form=form, error=str(why), field="account")
    except Refused as why:
        field = "percent" if "percent" in str(why) else "account"
        return await _page(request, principal, form=form, error=str(why), field=field)
    return flash(request, principal, "success", said, to=HOME)


@router.post(HOME + "/pay")
async def pay_month(request: Request, principal: Keeper, month: Annotated[str, Form(max_length=7)] = "") -> Response:
    """Book a month for all that one pays; those that were booked stay as they are."""
    panel = panel_of(request)

    def read() -> list[CommissionView]:
        with reading(panel.engine) as session:
            statements.month_of(month, "UTC")
            return commissions.list_commissions(session, payer_id=_payer(principal), most=MOST_SHOWN)

    booked, wrong = 0, []
    for view in await run_in_threadpool(read):
        try:
            done, _ = await commission_moves.pay(
                panel.engine, panel.credit, view.account_id, month, actor=principal.login, clock=panel.clock
            )
        except Refused as why:
            wrong.append(f"{view.account}: {why}.")
        except CREDIT_DOWN:
            wrong.append("The live store does not answer, so no more money could be set aside.")
            break
        else:
            booked += not done.replayed
    to = f"{HOME}?month={month}"
    said = f"{booked} commission{'' if booked == 1 else 's'} of {month} booked."
    if wrong:
        return flash(request, principal, "warning", f"{said} Not booked: {' '.join(wrong)}", to=to)
    return flash(request, principal, "success", said if booked else "All of it had been booked before.", to=to)


@router.post(HOME + "/{account_id}/end")
async def end_one(request: Request, principal: Keeper, account_id: AccountId) -> Response:
    """Take a commission away; what was booked stays."""
    panel = panel_of(request)

    def change() -> str:
        with work(panel.engine) as session:
            account = principal.reach.see_below(session, account_id)
            _may_pay(principal, account.parent_id)
            now, within = panel.clock.now(), principal.reach.within
            commissions.set_commission(session, account_id, None, 0, within=within, actor=principal.login, now=now)
            return account.name

    name = await run_in_threadpool(change)
    return flash(request, principal, "success", f"{name} earns no commission any more.", to=HOME)


def _may_pay(principal: Principal, parent_id: int | None) -> None:
    if not principal.reach.whole and parent_id != principal.reach.account_id:
        raise Forbidden("A commission is given by the reseller right above the account.")
