"""E-mail addresses that are written to of what happens to an account. See docs/webhooks.md."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import Field
from sqlmodel import Session
from starlette.responses import Response

from billing.access import Reach
from billing.events import listeners
from billing.events.kinds import EventKind
from billing.events.listeners import ListenerView
from billing.models import Channel
from billing.store import reading, work
from web.api.auth import Asking
from web.api.etags import IfMatch, etag_of
from web.api.listeners import Events, change, in_sight, see
from web.api.routes import MOST_ID, needs, resource
from web.api.shapes import Body, Moment, Page, Shape
from web.context import panel_of

router = resource("webhooks")

MailId = Annotated[int, Path(ge=1, le=MOST_ID, description="The address's number.", examples=[8])]
Address = Annotated[str, Field(min_length=3, max_length=320, examples=["billing@example.com"])]
MailLanguage = Annotated[
    str, Field(max_length=10, description="en, de, es or fr; nothing is the account's own.", examples=["de"])
]
SETS = {"address": "address", "events": "kinds", "subtree": "subtree", "language": "language", "paused": "paused"}
"""What a member of a change is inside."""


class MailShape(Shape):
    """An address, and of what it is written to."""

    id: int = Field(examples=[8])
    account_id: int
    account: str = Field(examples=["Anna's Bakery"])
    address: Address
    events: list[EventKind]
    subtree: bool = Field(description="Also of the accounts below.")
    language: MailLanguage
    created_at: Moment
    paused_at: Moment | None = Field(description="Off since then: not written to of what happens. Null is on.")
    ended_at: Moment | None
    ended_why: str


class NewMail(Body):
    """Whom to write to, and of what."""

    address: Address
    events: Events
    account_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="Whose events; yours, if not given.")
    subtree: bool = False
    language: MailLanguage = ""


class ChangedMail(Body):
    """What is to be set; what is not named stays."""

    address: Address = ""
    events: Events = Field(default=[])
    subtree: bool = False
    language: MailLanguage = ""
    paused: bool = Field(default=False, description="Write of nothing that happens until it is on again.")


@router.get("/mail-addresses", **needs("webhooks:read"))
def list_mails(request: Request, caller: Asking) -> Page[MailShape]:
    """List the addresses that are written to of accounts in your sight, newest first."""
    with reading(panel_of(request).engine) as session:
        found = in_sight(session, caller.reach, Channel.EMAIL)
    return Page(items=[_shape(one) for one in found])


@router.post("/mail-addresses", status_code=201, **needs("webhooks:write", changes=True))
def add_mail(request: Request, response: Response, caller: Asking, body: NewMail) -> MailShape:
    """Write to an address of what happens to an account. Letters go out once a mail server is set up."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        account_id = body.account_id or caller.reach.account_id
        caller.reach.see(session, account_id)
        number = listeners.add_email(
            session,
            account_id=account_id,
            address=body.address,
            kinds=body.events,
            subtree=body.subtree,
            language=body.language,
            actor=caller.actor,
            now=panel.clock.now(),
        )
        shape = _shape(listeners.find_listener(session, number))
    response.headers["location"] = f"/api/v1/mail-addresses/{number}"
    response.headers["etag"] = _tag(shape)
    return shape


@router.get("/mail-addresses/{mail_id}", **needs("webhooks:read"))
def get_mail(request: Request, response: Response, caller: Asking, mail_id: MailId) -> MailShape:
    """Return one address, ended or not. Its ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _shape(_see(session, caller.reach, mail_id))
    response.headers["etag"] = _tag(shape)
    return shape


@router.patch("/mail-addresses/{mail_id}", **needs("webhooks:write", changes=True, edits=True))
def change_mail(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    mail_id: MailId,
    body: ChangedMail,
    if_match: IfMatch = None,
) -> MailShape:
    """Write elsewhere, of other events, in another language, or not for a while."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        seen = _see(session, caller.reach, mail_id)
        now = panel.clock.now()
        changed = change(
            session, caller, seen, body, sets=SETS, if_match=if_match, tag=lambda one: _tag(_shape(one)), now=now
        )
        shape = _shape(changed)
    response.headers["etag"] = _tag(shape)
    return shape


@router.delete("/mail-addresses/{mail_id}", status_code=204, **needs("webhooks:write", changes=True))
def end_mail(request: Request, caller: Asking, mail_id: MailId) -> Response:
    """Write there no more; what waits is not sent."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        _see(session, caller.reach, mail_id)
        listeners.end_listener(session, mail_id, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _see(session: Session, reach: Reach, mail_id: int) -> ListenerView:
    return see(session, reach, Channel.EMAIL, mail_id)


def _shape(one: ListenerView) -> MailShape:
    facts = {name: getattr(one, name) for name in MailShape.model_fields if name != "events"}
    return MailShape(**facts, events=list(one.kinds))


def _tag(shape: MailShape) -> str:
    return etag_of(shape.model_dump(mode="json", exclude={"account", "created_at"}))
