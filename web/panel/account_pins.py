"""A PIN for an account: made, and shown this once."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from billing import pins
from billing.accounts import AccountView, views_of
from billing.errors import Conflict, Refused
from billing.pins import MadePin
from billing.store import reading, work
from web.context import panel_of
from web.pages import show
from web.panel.account_settings import settings_of
from web.panel.accounts import AccountId
from web.security.sessions import Principal, may

router = APIRouter(include_in_schema=False)


@router.post("/accounts/{account_id}/pins")
async def make_pin(
    request: Request,
    principal: Annotated[Principal, Depends(may("accounts:write"))],
    account_id: AccountId,
    wished: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Make a PIN, or the one that was wished for, and show it. What was wished for never comes back in a form."""
    panel = panel_of(request)
    settings = panel.settings.pins

    def make() -> MadePin:
        with work(panel.engine) as session:
            principal.reach.see_below(session, account_id)
            return pins.make_pin(
                session,
                account_id,
                secret=settings.secret.get_secret_value(),
                ids=panel.ids,
                wished=wished.strip() or None,
                digits=settings.digits,
                within=principal.reach.within,
                actor=principal.login,
                now=panel.clock.now(),
            )

    def read() -> AccountView:
        with reading(panel.engine) as session:
            return views_of(session, [principal.reach.see(session, account_id)])[0]

    try:
        made = await run_in_threadpool(make)
    except (Refused, Conflict) as error:
        return await settings_of(request, principal, account_id, pin_error=str(error), status=422)
    account = await run_in_threadpool(read)
    return show(request, principal, "pin_made.html", account=account, made=made, groups=pins.spaced(made.pin))
