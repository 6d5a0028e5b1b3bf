"""Keys of the API: made, listed, revoked. A key is shown once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import Response

from billing import keys
from billing.access import SCOPES, Area, covers, covers_all
from billing.errors import NotFound, Refused
from billing.keys import KeyView
from billing.store import reading, work
from billing.subtree import find_within
from web.context import panel_of
from web.pages import show
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

MOST_SHOWN = 500
MOST_DAYS = 3650
Reader = Annotated[Principal, Depends(may("keys:read"))]
Keeper = Annotated[Principal, Depends(may("keys:write"))]


async def _keys(request: Request, principal: Principal, *, status: int = 200, **more: Any) -> Response:
    panel = panel_of(request)

    def read() -> list[KeyView]:
        with reading(panel.engine) as session:
            return keys.list_keys(session, principal.reach, most=MOST_SHOWN)

    found = await run_in_threadpool(read)
    found.sort(key=lambda key: (key.revoked_at is not None, -key.created_at.timestamp()))
    form = {"name": "", "account": "", "scopes": (), "allow_from": "", "days": ""}
    parts = {"error": "", "made": None, "token": "", "form": form} | more
    areas = [area.value for area in Area if covers(principal.scopes, f"{area.value}:read")]
    return show(
        request,
        principal,
        "keys.html",
        status=status,
        keys=found,
        areas=areas,
        writable=[area for area in areas if covers(principal.scopes, f"{area}:write")],
        now=panel.clock.now(),
        **parts,
    )


@router.get("/keys")
async def keys_page(request: Request, principal: Reader) -> Response:
    """Show the keys."""
    return await _keys(request, principal)


@router.post("/keys")
async def add_key(
    request: Request,
    principal: Keeper,
    *,
    name: Annotated[str, Form()] = "",
    account: Annotated[str, Form()] = "",
    allow_from: Annotated[str, Form()] = "",
    days: Annotated[str, Form()] = "",
) -> Response:
    """Make a key and show it."""
    panel = panel_of(request)
    asked = await request.form()
    scopes = [scope for scope in SCOPES if asked.get(f"scope-{scope.partition(':')[0]}") == scope.partition(":")[2]]
    form = {
        "name": name[:100],
        "account": account[:100],
        "scopes": scopes,
        "allow_from": allow_from[:500],
        "days": days[:5],
    }
    if not covers_all(principal.scopes, scopes):
        raise Forbidden("Nobody gives away what they may not do themselves.")
    days_given = days.strip()
    if days_given and not (days_given.isascii() and days_given.isdigit() and 0 < int(days_given[:5]) <= MOST_DAYS):
        return await _keys(request, principal, status=422, error=f"Days are 1 to {MOST_DAYS}, or nothing.", form=form)

    def add() -> tuple[KeyView, str]:
        now = panel.clock.now()
        with work(panel.engine) as session:
            wanted = account.strip()[:100]
            owner = find_within(session, principal.reach.within, wanted).id if wanted else principal.reach.account_id
            return keys.add_key(
                session,
                account_id=owner,
                name=name.strip(),
                scopes=scopes,
                allow_from=[part.strip() for part in allow_from.split(",") if part.strip()],
                expires_at=now + timedelta(days=int(days_given)) if days_given else None,
                actor=principal.login,
                ids=panel.ids,
                now=now,
            )

    try:
        made, token = await run_in_threadpool(add)
    except (NotFound, Refused) as error:
        return await _keys(request, principal, status=422, error=str(error), form=form)
    return await _keys(request, principal, made=made, token=token)


@router.post("/keys/{key_id}/revoke")
async def revoke_key(
    request: Request, principal: Keeper, key_id: Annotated[str, Path(min_length=1, max_length=60)]
) -> Response:
    """End a key."""
    panel = panel_of(request)

    def revoke() -> KeyView:
        with work(panel.engine) as session:
            return keys.revoke_key(session, principal.reach, key_id, actor=principal.login, now=panel.clock.now())

    ended = await run_in_threadpool(revoke)
    return flash(request, principal, "success", f"The key {ended.name} is revoked.", to="/keys")
