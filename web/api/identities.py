"""Identities: by what a call names its payer. Each belongs to one account while it is in use."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from billing import account_changes
from billing.models import IdentityKind
from billing.store import reading, work
from web.api.accounts import IdentityShape, NewIdentity, view_of
from web.api.auth import Asking
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Page
from web.context import panel_of

router = resource("accounts")


@router.get("/accounts/{account_id}/identities", **needs("accounts:read"))
def list_identities(request: Request, caller: Asking, account_id: AccountId) -> Page[IdentityShape]:
    """List what names an account in a call."""
    with reading(panel_of(request).engine) as session:
        view = view_of(session, caller, account_id)
    return Page(items=[IdentityShape(kind=kind, value=value) for kind, value in view.identities])


@router.post("/accounts/{account_id}/identities", status_code=201, **needs("accounts:write", changes=True))
def add_identity(request: Request, caller: Asking, account_id: AccountId, body: NewIdentity) -> Page[IdentityShape]:
    """Let calls with this identity be paid by an account below yours; the answer is all it has now."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        caller.reach.see_below(session, account_id)
        account_changes.add_identities(
            session,
            account_id,
            [(body.kind, body.value)],
            within=caller.reach.within,
            actor=caller.actor,
            now=panel.clock.now(),
        )
        view = view_of(session, caller, account_id)
    return Page(items=[IdentityShape(kind=kind, value=value) for kind, value in view.identities])


@router.delete(
    "/accounts/{account_id}/identities/{kind}/{value:path}", status_code=204, **needs("accounts:write", changes=True)
)
def free_identity(request: Request, caller: Asking, account_id: AccountId, kind: IdentityKind, value: str) -> Response:
    """Take an identity away, from now on; whose calls it named until then stays known."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        caller.reach.see_below(session, account_id)
        account_changes.free_identity(
            session, account_id, kind, value, within=caller.reach.within, actor=caller.actor, now=panel.clock.now()
        )
    return Response(status_code=204)
