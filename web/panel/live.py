"""Live calls: who talks to whom, on what money, for how long still; and the button that ends a call."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing import audit
from billing.credit.live import HangupRequest, LiveCallView
from billing.ports import to_ms
from billing.store import reading, work
from web.context import CREDIT_DOWN, Panel, panel_of
from web.livecalls import live_in
from web.pages import show
from web.security.origin import local_path
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

MOST_SHOWN = 200
MOST_CALL_ID = 200
Reader = Annotated[Principal, Depends(may("calls:read"))]
EVERY_CALL = "*account:"
"""How a request names all calls of an account, see `HangupRequest`."""


async def board(
    panel: Panel, principal: Principal, *, account_id: int | None = None, most: int = MOST_SHOWN
) -> dict[str, Any]:
    """Return what the table of live calls needs; `down` where the live store does not answer."""
    calls: list[LiveCallView] = []
    down = False
    try:
        if account_id is None:
            calls = await live_in(panel, principal.reach, most=most + 1)
        else:
            calls = await panel.live.list(account_id=account_id, most=most + 1)
    except CREDIT_DOWN:
        down = True
    return {
        "calls": calls[:most],
        "more": len(calls) > most,
        "down": down,
        "now_ms": to_ms(panel.clock.now()),
        "one_account": account_id is not None,
    }


@router.get("/live")
async def live_page(request: Request, principal: Reader) -> Response:
    """Show every live call; the table renews itself."""
    return show(request, principal, "live.html", **await board(panel_of(request), principal))


@router.get("/live/board")
async def live_board(
    request: Request, principal: Reader, account: Annotated[int | None, Query(ge=1, le=2**53)] = None
) -> Response:
    """Return the table alone."""
    panel = panel_of(request)
    if account is not None and not await run_in_threadpool(_is_seen, panel, principal, account):
        raise HTTPException(404)
    return show(request, principal, "_board.html", **await board(panel, principal, account_id=account))


@router.post("/live/hangup")
async def hang_up(
    request: Request,
    principal: Annotated[Principal, Depends(may("calls:write"))],
    call_id: Annotated[str, Form()] = "",
    back: Annotated[str, Form()] = "/live",
) -> Response:
    """Ask the controller to end one call."""
    if not 0 < len(call_id) <= MOST_CALL_ID or call_id.startswith("*"):
        raise HTTPException(400)
    panel = panel_of(request)
    to = local_path(back, default="/live")
    try:
        found = await panel.live.find(call_id)
    except CREDIT_DOWN:
        return _unreachable(request, principal, to)
    if found is None or not await run_in_threadpool(_is_seen, panel, principal, found.account_id):
        return flash(request, principal, "warning", "That call has ended already.", to=to)
    if not await ask(panel, principal, call_id, before=_facts(found)):
        return _unreachable(request, principal, to)
    return flash(request, principal, "success", f"Hang-up asked for: {found.caller} to {found.callee}.", to=to)


async def ask(panel: Panel, principal: Principal, call_id: str, *, before: dict[str, Any] | None) -> bool:
    """Write down who wants it, then ask. False where the live store did not take it; the audit row stays."""

    def note() -> None:
        with work(panel.engine) as session:
            audit.record(
                session,
                actor=principal.login,
                action="call.hangup",
                subject=call_id,
                before=before,
                now=panel.clock.now(),
            )

    await run_in_threadpool(note)
    try:
        await panel.live.ask_hangup(HangupRequest(call_id, principal.login, "panel"))
    except CREDIT_DOWN:
        return False
    panel.counters.hangups.inc()
    return True


def _is_seen(panel: Panel, principal: Principal, account_id: int) -> bool:
    with reading(panel.engine) as session:
        return principal.reach.holds(session, account_id)


def _facts(call: LiveCallView) -> dict[str, Any]:
    wanted = ("account_id", "caller", "callee", "state", "held_micros", "currency")
    return {name: value for name, value in asdict(call).items() if name in wanted}


def _unreachable(request: Request, principal: Principal, to: str) -> Response:
    text = "The live store does not answer, so the controller cannot be asked. The call keeps its deadline."
    return flash(request, principal, "danger", text, to=to)
