"""Identities: by what a call names its payer. Each belongs to one account while it is in use."""

from __future__ import annotations

from fastapi import Request
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing import account_changes, pins
from billing.models import IdentityKind
from billing.pins import LEAST_DIGITS, MOST_DIGITS
from billing.store import reading, work
from web.api.accounts import IdentityShape, IdentityValue, Kind, identities_of, view_of
from web.api.auth import Asking, Caller
from web.api.problems import Problem
from web.api.routes import AccountId, needs, resource
from web.api.shapes import Body, Page
from web.context import Panel, panel_of

router = resource("accounts")


class GivenIdentity(Body):
    """An identity to be given to an account. Without a value a PIN is made, of so many digits."""

    kind: Kind
    value: IdentityValue | None = Field(
        default=None, description=f"Needed but for a PIN; a PIN that is wished for is {LEAST_DIGITS} digits or more."
    )
    digits: int | None = Field(
        default=None, ge=LEAST_DIGITS, le=MOST_DIGITS, description="Of a PIN without a value; else what is set up."
    )


class IdentitiesAfter(Page[IdentityShape]):
    """All that an account has now. `pin` is the PIN that was just made: it is told now and never again."""

    pin: str | None = Field(default=None, examples=["4071983362"])


@router.get("/accounts/{account_id}/identities", **needs("accounts:read"))
def list_identities(request: Request, caller: Asking, account_id: AccountId) -> Page[IdentityShape]:
    """List what names an account in a call."""
    with reading(panel_of(request).engine) as session:
        view = view_of(session, caller, account_id)
    return Page(items=identities_of(view))


@router.post("/accounts/{account_id}/identities", status_code=201, **needs("accounts:write", changes=True))
def add_identity(request: Request, caller: Asking, account_id: AccountId, body: GivenIdentity) -> IdentitiesAfter:
    """Let calls with this identity be paid by an account below yours; the answer is all it has now.

    A PIN is in the answer this once: where it was lost, take it away by its number and make another.
    """
    panel = panel_of(request)
    pin = None
    with work(panel.engine) as session:
        caller.reach.see_below(session, account_id)
        if body.kind is IdentityKind.PIN:
            pin = _make_pin(panel, session, caller, account_id, body)
        else:
            _add(panel, session, caller, account_id, body)
        view = view_of(session, caller, account_id)
    return IdentitiesAfter(items=identities_of(view), pin=pin)


def _make_pin(panel: Panel, session: Session, caller: Caller, account_id: int, body: GivenIdentity) -> str:
    if body.value is not None and body.digits is not None:
        raise Problem("invalid", "A PIN that is wished for has the digits that it has.", more={"errors": []})
    settings = panel.settings.pins
    made = pins.make_pin(
        session,
        account_id,
        secret=settings.secret.get_secret_value(),
        ids=panel.ids,
        wished=body.value,
        digits=body.digits or settings.digits,
        within=caller.reach.within,
        actor=caller.actor,
        now=panel.clock.now(),
    )
    return made.pin


def _add(panel: Panel, session: Session, caller: Caller, account_id: int, body: GivenIdentity) -> None:
    if body.value is None or body.digits is not None:
        errors = [{"at": "body/value" if body.value is None else "body/digits", "what": "of a PIN only"}]
        raise Problem(
            "invalid", "An identity has a value; only a PIN is made, of so many digits.", more={"errors": errors}
        )
    account_changes.add_identities(
        session,
        account_id,
        [(body.kind, body.value)],
        within=caller.reach.within,
        actor=caller.actor,
        now=panel.clock.now(),
    )


@router.delete(
    "/accounts/{account_id}/identities/{kind}/{value:path}", status_code=204, **needs("accounts:write", changes=True)
)
def free_identity(request: Request, caller: Asking, account_id: AccountId, kind: IdentityKind, value: str) -> Response:
    """Take an identity away, from now on; whose calls it named until then stays known. A PIN is named by its number."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        caller.reach.see_below(session, account_id)
        account_changes.free_identity(
            session, account_id, kind, value, within=caller.reach.within, actor=caller.actor, now=panel.clock.now()
        )
    return Response(status_code=204)
