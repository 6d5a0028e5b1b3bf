"""Notifications: who is told of what happens, by webhook or e-mail, and how each telling went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session
from starlette.responses import Response

from billing.access import Reach
from billing.errors import Conflict, NotFound, Refused
from billing.events import deliveries, listeners
from billing.events.kinds import MEANINGS, EventKind
from billing.events.mails import LANGUAGES
from billing.models import Channel, Delivery, DeliveryState, Event
from billing.store import reading, work
from billing.subtree import find_within
from web.context import panel_of
from web.pages import show
from web.security.sessions import Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("webhooks:read"))]
Keeper = Annotated[Principal, Depends(may("webhooks:write"))]
HOME = "/notifications"
PAGE = 50
MOST_ID = 2**53
Number = Annotated[int, Path(ge=1, le=MOST_ID)]
Text = Annotated[str, Form()]
Kinds = Annotated[list[str], Form()]


@router.get(HOME)
async def notifications_page(request: Request, principal: Reader) -> Response:
    """Show who is told, and the forms to add one."""
    return await _page(request, principal)


async def _page(
    request: Request,
    principal: Principal,
    *,
    status: int = 200,
    error: str = "",
    form: Mapping[str, Any] | None = None,
    secret: tuple[int, str] | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[list[listeners.ListenerView], int]:
        with reading(panel.engine) as session:
            own = None if principal.reach.whole else list(session.execute(principal.reach.ids()).scalars())
            # Those that were given up are counted over all, which is the operator's to know.
            dead = deliveries.count_dead(session) if principal.reach.whole else 0
            return listeners.list_listeners(session, account_ids=own), dead

    found, dead = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "notifications.html",
        status=status,
        webhooks=[one for one in found if one.channel is Channel.WEBHOOK],
        letters=[one for one in found if one.channel is Channel.EMAIL],
        dead=dead,
        meanings=MEANINGS,
        languages=LANGUAGES,
        error=error,
        form=form or {"channel": ""},
        secret=secret,
        mail_host=panel.settings.mail.host,
    )


@router.post(f"{HOME}/webhook")
async def add_webhook(
    request: Request, principal: Keeper, *, address: Text = "", account: Text = "", kinds: Kinds | None = None
) -> Response:
    """Add a webhook and show its secret, this once."""
    panel = panel_of(request)
    form = {"channel": "webhook", "address": address[:500], "account": account[:100], "kinds": kinds or []}

    def add() -> tuple[int, str]:
        with work(panel.engine) as session:
            return listeners.add_webhook(
                session,
                account_id=_owner_id(session, principal.reach, account),
                url=address.strip(),
                kinds=_kinds(kinds or []),
                ids=panel.ids,
                actor=principal.login,
                now=panel.clock.now(),
            )

    try:
        made = await run_in_threadpool(add)
    except (Refused, Conflict, NotFound) as why:
        return await _page(request, principal, status=422, error=str(why), form=form)
    return await _page(request, principal, secret=made)


@router.post(f"{HOME}/email")
async def add_email(
    request: Request,
    principal: Keeper,
    *,
    address: Text = "",
    account: Text = "",
    language: Text = "",
    subtree: Text = "",
    kinds: Kinds | None = None,
) -> Response:
    """Add an address that is written to."""
    panel = panel_of(request)
    form = {
        "channel": "email",
        "address": address[:500],
        "account": account[:100],
        "kinds": kinds or [],
        "language": language[:10],
        "subtree": subtree == "yes",
    }

    def add() -> None:
        with work(panel.engine) as session:
            listeners.add_email(
                session,
                account_id=_owner_id(session, principal.reach, account),
                address=address.strip(),
                kinds=_kinds(kinds or []),
                subtree=subtree == "yes",
                language=language,
                actor=principal.login,
                now=panel.clock.now(),
            )

    try:
        await run_in_threadpool(add)
    except (Refused, Conflict, NotFound) as why:
        return await _page(request, principal, status=422, error=str(why), form=form)
    return flash(request, principal, "success", f"{address.strip()} is written to from now on.", to=HOME)


@router.get(HOME + "/{number}")
async def listener_page(
    request: Request,
    principal: Reader,
    number: Number,
    before: Annotated[int | None, Query(ge=1, le=MOST_ID)] = None,
    state: DeliveryState | None = None,
) -> Response:
    """Show one listener and what it was told, newest first."""
    return await _listener(request, principal, number, before=before, state=state)


async def _listener(
    request: Request,
    principal: Principal,
    number: int,
    *,
    before: int | None = None,
    state: DeliveryState | None = None,
    status: int = 200,
    error: str = "",
    form: Mapping[str, Any] | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[listeners.ListenerView, list[tuple[Delivery, Event]]]:
        with reading(panel.engine) as session:
            listener = _see(session, principal.reach, number)
            told = deliveries.list_deliveries(session, listener_id=number, state=state, before_id=before, most=PAGE + 1)
            return listener, told

    listener, told = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "listener.html",
        status=status,
        error=error,
        form=form
        or {
            "address": listener.address,
            "kinds": [kind.value for kind in listener.kinds],
            "language": listener.language,
            "subtree": listener.subtree,
        },
        languages=LANGUAGES,
        listener=listener,
        told=told[:PAGE],
        following=told[PAGE - 1][0].id if len(told) > PAGE else None,
        state=state,
        states=list(DeliveryState),
        meanings=MEANINGS,
    )


@router.post(HOME + "/{number}")
async def change(
    request: Request,
    principal: Keeper,
    number: Number,
    *,
    address: Text = "",
    language: Text = "",
    subtree: Text = "",
    kinds: Kinds | None = None,
) -> Response:
    """Tell it elsewhere, or of other events."""
    panel = panel_of(request)

    def do() -> None:
        with work(panel.engine) as session:
            found = _see(session, principal.reach, number)
            changes = listeners.ListenerChanges(address=address.strip(), kinds=_kinds(kinds or []))
            if found.channel is Channel.EMAIL:
                changes["language"], changes["subtree"] = language, subtree == "yes"
            listeners.change_listener(session, number, changes, actor=principal.login, now=panel.clock.now())

    try:
        await run_in_threadpool(do)
    except Refused as why:
        form = {"address": address[:500], "kinds": kinds or [], "language": language[:10], "subtree": subtree == "yes"}
        return await _listener(request, principal, number, status=422, error=f"{why}.", form=form)
    return flash(request, principal, "success", "It is told so from now on.", to=f"{HOME}/{number}")


@router.post(HOME + "/{number}/pause")
async def pause(request: Request, principal: Keeper, number: Number, off: Text = "") -> Response:
    """Let it rest, or tell it again."""
    panel = panel_of(request)

    def do() -> None:
        with work(panel.engine) as session:
            _see(session, principal.reach, number)
            changes = listeners.ListenerChanges(paused=off == "yes")
            listeners.change_listener(session, number, changes, actor=principal.login, now=panel.clock.now())

    try:
        await run_in_threadpool(do)
    except Refused as why:
        return flash(request, principal, "danger", f"{why}.", to=f"{HOME}/{number}")
    said = "It is off: nothing that happens is told to it." if off == "yes" else "It is on again; what waited is told."
    return flash(request, principal, "success", said, to=f"{HOME}/{number}")


@router.post(HOME + "/{number}/end")
async def end(request: Request, principal: Keeper, number: Number) -> Response:
    """Tell nobody there any more."""
    panel = panel_of(request)

    def stop() -> bool:
        with work(panel.engine) as session:
            _see(session, principal.reach, number)
            return listeners.end_listener(session, number, actor=principal.login, now=panel.clock.now())

    ended = await run_in_threadpool(stop)
    text = "It is told nothing any more; what waited is given up." if ended else "It had ended before."
    return flash(request, principal, "success" if ended else "warning", text, to=HOME)


@router.post(HOME + "/{number}/secret")
async def renew(request: Request, principal: Keeper, number: Number) -> Response:
    """Give a webhook a new secret and show it, this once."""
    panel = panel_of(request)

    def make() -> str:
        with work(panel.engine) as session:
            _see(session, principal.reach, number)
            return listeners.renew_secret(session, number, ids=panel.ids, actor=principal.login, now=panel.clock.now())

    try:
        secret = await run_in_threadpool(make)
    except Refused as why:
        return flash(request, principal, "danger", str(why), to=HOME)
    return await _page(request, principal, secret=(number, secret))


@router.post(HOME + "/{number}/resend")
async def send_again(
    request: Request, principal: Keeper, number: Number, delivery: Annotated[int, Form(ge=1, le=MOST_ID)]
) -> Response:
    """Tell one event again."""
    panel = panel_of(request)

    def again() -> None:
        with work(panel.engine) as session:
            _see(session, principal.reach, number)
            found = session.get(Delivery, delivery)
            if found is None or found.listener_id != number:
                raise NotFound(f"there is no delivery {delivery}")
            deliveries.resend(session, delivery, actor=principal.login, now=panel.clock.now())

    try:
        await run_in_threadpool(again)
    except Refused as why:
        return flash(request, principal, "danger", str(why), to=f"{HOME}/{number}")
    return flash(request, principal, "success", "It is told again within a second or two.", to=f"{HOME}/{number}")


def _owner_id(session: Session, reach: Reach, account: str) -> int:
    return find_within(session, reach.within, account.strip()[:100]).id if account.strip() else reach.account_id


def _see(session: Session, reach: Reach, number: int) -> listeners.ListenerView:
    """Return a listener of an account in reach. Raises `NotFound`."""
    found = listeners.find_listener(session, number)
    if not reach.holds(session, found.account_id):
        raise NotFound(f"there is no listener {number}")
    return found


def _kinds(words: list[str]) -> list[EventKind]:
    try:
        return [EventKind(word) for word in words[: len(EventKind)]]
    except ValueError:
        raise Refused(f"an event is one of {', '.join(EventKind)}") from None
