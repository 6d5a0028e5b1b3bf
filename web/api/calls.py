"""Live calls: who talks right now, on what money, for how long still; and ending them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from billing import audit
from billing.access import Reach
from billing.credit.live import HangupRequest, LiveCallView
from billing.store import reading, work
from web.api.auth import Asking, Caller
from web.api.problems import Problem
from web.api.routes import MOST_ID, AccountId, Cursor, PageSize, needs, resource
from web.api.shapes import Amount, Moment, Page, Shape, amount
from web.context import CREDIT_DOWN, Panel, panel_of
from web.livecalls import MOST_CALLS, live_in
from web.panel.live import EVERY_CALL
from web.render import from_ms

router = resource("calls")

T = TypeVar("T")

CallId = Annotated[str, Path(min_length=1, max_length=200, examples=["pbx:1763892000.7"])]


class CallShape(Shape):
    """A call that is up. `limit_at` is when it is cut unless money comes."""

    call_id: str = Field(examples=["pbx:1763892000.7"])
    switch: str = Field(examples=["pbx"])
    account_id: int = Field(examples=[5])
    account: str = Field(examples=["Anna's Bakery"])
    direction: str = Field(examples=["outbound"])
    caller: str = Field(examples=["4930123456"])
    callee: str = Field(examples=["442071838750"])
    destination: str = Field(examples=["United Kingdom"])
    state: str = Field(examples=["talking"])
    offered_at: Moment
    answered_at: Moment | None
    limit_at: Moment | None
    held: Amount
    currency: str = Field(examples=["EUR"])
    short: bool = Field(description="The money does not reach for more time.")


class AskedShape(Shape):
    """A hang-up that was asked for; the controller carries it out within a second."""

    call_id: str | None
    account_id: int


@router.get("/calls", **needs("calls:read", "credit_unavailable", "cursor_invalid"))
async def list_calls(
    request: Request,
    caller: Asking,
    *,
    account: Annotated[int | None, Query(ge=1, le=MOST_ID, description="Only of this account.")] = None,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[CallShape]:
    """List the live calls in your sight, the longest first."""
    panel = panel_of(request)
    if account is None:
        calls = await _ask(live_in(panel, caller.reach))
    else:
        await run_in_threadpool(_see, panel, caller, account)
        calls = await _ask(panel.live.list(account_id=account, most=MOST_CALLS))
    since = _read(after)
    calls = [call for call in calls if (call.offered_ms, call.call_id) > since]
    following = f"{calls[most - 1].offered_ms}.{calls[most - 1].call_id}" if len(calls) > most else None
    return Page(items=[_shape(call) for call in calls[:most]], next=following)


@router.get("/calls/{call_id}", **needs("calls:read", "credit_unavailable"))
async def get_call(request: Request, caller: Asking, call_id: CallId) -> CallShape:
    """Return one live call. A call that is over is a record: see /cdrs."""
    return _shape(await _find(panel_of(request), caller, call_id))


@router.post("/calls/{call_id}/hangup", status_code=202, **needs("calls:write", changes=True))
async def hang_up(request: Request, caller: Asking, call_id: CallId) -> AskedShape:
    """End a call."""
    panel = panel_of(request)
    call = await _find(panel, caller, call_id)
    facts = {"account_id": call.account_id, "caller": call.caller, "callee": call.callee, "state": call.state}
    await _end(panel, caller, call_id, facts)
    return AskedShape(call_id=call_id, account_id=call.account_id)


@router.post("/accounts/{account_id}/hangup", status_code=202, **needs("calls:write", changes=True))
async def hang_up_all(request: Request, caller: Asking, account_id: AccountId) -> AskedShape:
    """End every call of an account (of it alone, not of those below it)."""
    panel = panel_of(request)
    await run_in_threadpool(_see, panel, caller, account_id)
    await _end(panel, caller, f"{EVERY_CALL}{account_id}", None)
    return AskedShape(call_id=None, account_id=account_id)


async def _end(panel: Panel, caller: Caller, call_id: str, before: dict[str, Any] | None) -> None:
    """Write down who wants it, then ask."""

    def note() -> None:
        with work(panel.engine) as session:
            audit.record(
                session,
                actor=caller.actor,
                action="call.hangup",
                subject=call_id,
                before=before,
                now=panel.clock.now(),
            )

    await run_in_threadpool(note)
    await _ask(panel.live.ask_hangup(HangupRequest(call_id, caller.actor, "api")))
    panel.counters.hangups.inc()


async def _find(panel: Panel, caller: Caller, call_id: str) -> LiveCallView:
    found = await _ask(panel.live.find(call_id))
    if found is None or not await run_in_threadpool(_holds, panel, caller.reach, found.account_id):
        raise Problem("not_found", "There is no such live call.")
    return found


async def _ask(answer: Awaitable[T]) -> T:
    """Await the live store. Raises `Problem` where it does not answer."""
    try:
        return await answer
    except CREDIT_DOWN:
        raise Problem("credit_unavailable") from None


def _see(panel: Panel, caller: Caller, account_id: int) -> None:
    with reading(panel.engine) as session:
        caller.reach.see(session, account_id)


def _holds(panel: Panel, reach: Reach, account_id: int) -> bool:
    with reading(panel.engine) as session:
        return reach.holds(session, account_id)


def _read(cursor: str) -> tuple[int, str]:
    if not cursor:
        return -1, ""
    moment, _, call_id = cursor.partition(".")
    if not moment.isascii() or not moment.isdigit():
        raise Problem("cursor_invalid")
    return int(moment[:17]), call_id


def _shape(call: LiveCallView) -> CallShape:
    return CallShape(
        call_id=call.call_id,
        switch=call.switch,
        account_id=call.account_id,
        account=call.account,
        direction=call.direction,
        caller=call.caller,
        callee=call.callee,
        destination=call.destination,
        state=call.state,
        offered_at=from_ms(call.offered_ms),
        answered_at=None if call.answered_ms is None else from_ms(call.answered_ms),
        limit_at=None if call.limit_ms is None else from_ms(call.limit_ms),
        held=amount(call.held_micros),
        currency=call.currency,
        short=call.short,
    )
