"""Webhooks: who is posted what happens to an account and all below it, signed. See docs/webhooks.md."""

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

Url = Annotated[str, Field(min_length=1, max_length=500, examples=["https://hooks.example.com/callctl"])]
WebhookId = Annotated[int, Path(ge=1, le=MOST_ID, examples=[7])]
SETS = {"url": "address", "events": "kinds", "paused": "paused"}
"""What a member of a change is inside."""


class WebhookShape(Shape):
    """A webhook, without its secret."""

    id: int = Field(examples=[7])
    account_id: int
    account: str = Field(examples=["Bluebird Voice"])
    url: str = Field(examples=["https://hooks.example.com/callctl"])
    events: list[EventKind]
    created_at: Moment
    paused_at: Moment | None = Field(description="Off since then: told nothing that happens meanwhile. Null is on.")
    ended_at: Moment | None
    ended_why: str


class MadeWebhookShape(WebhookShape):
    """A webhook with its secret, which is shown now and never again."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])


class NewWebhook(Body):
    """Where to post, and what."""

    url: Url
    events: Events
    account_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="Whose events; yours, if not given.")


class ChangedWebhook(Body):
    """What is to be set; what is not named stays. Whose events it posts stays: for those of others make another one."""

    url: Url = ""
    events: Events = Field(default=[])
    paused: bool = Field(default=False, description="Post nothing that happens until it is on again.")


@router.get("/webhooks", **needs("webhooks:read"))
def list_webhooks(request: Request, caller: Asking) -> Page[WebhookShape]:
    """List the webhooks of the accounts in your sight that are in use, newest first."""
    with reading(panel_of(request).engine) as session:
        found = in_sight(session, caller.reach, Channel.WEBHOOK)
    return Page(items=[_shape(one) for one in found])


@router.post("/webhooks", status_code=201, **needs("webhooks:write", changes=True))
def add_webhook(request: Request, response: Response, caller: Asking, body: NewWebhook) -> MadeWebhookShape:
    """Post events to a URL, signed as Standard Webhooks say."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        account_id = body.account_id or caller.reach.account_id
        caller.reach.see(session, account_id)
        number, secret = listeners.add_webhook(
            session,
            account_id=account_id,
            url=body.url,
            kinds=body.events,
            ids=panel.ids,
            actor=caller.actor,
            now=panel.clock.now(),
        )
        shape = _shape(listeners.find_listener(session, number))
    response.headers["location"] = f"/api/v1/webhooks/{number}"
    response.headers["etag"] = _tag(shape)
    return MadeWebhookShape(**shape.model_dump(), secret=secret)


@router.get("/webhooks/{webhook_id}", **needs("webhooks:read"))
def get_webhook(request: Request, response: Response, caller: Asking, webhook_id: WebhookId) -> WebhookShape:
    """Return one webhook, ended or not. Its ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _shape(see_webhook(session, caller.reach, webhook_id))
    response.headers["etag"] = _tag(shape)
    return shape


@router.patch("/webhooks/{webhook_id}", **needs("webhooks:write", changes=True, edits=True))
def change_webhook(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    webhook_id: WebhookId,
    body: ChangedWebhook,
    if_match: IfMatch = None,
) -> WebhookShape:
    """Post elsewhere, or other events, or nothing for a while. Its secret stays; what waits goes where it posts now."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        seen = see_webhook(session, caller.reach, webhook_id)
        now = panel.clock.now()
        changed = change(
            session, caller, seen, body, sets=SETS, if_match=if_match, tag=lambda one: _tag(_shape(one)), now=now
        )
        shape = _shape(changed)
    response.headers["etag"] = _tag(shape)
    return shape


@router.post("/webhooks/{webhook_id}/secret", **needs("webhooks:write", changes=True))
def renew_secret(request: Request, caller: Asking, webhook_id: WebhookId) -> MadeWebhookShape:
    """Give a webhook a new secret; the old one signs nothing any more."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        found = see_webhook(session, caller.reach, webhook_id)
        secret = listeners.renew_secret(session, webhook_id, ids=panel.ids, actor=caller.actor, now=panel.clock.now())
    return MadeWebhookShape(**_shape(found).model_dump(), secret=secret)


@router.delete("/webhooks/{webhook_id}", status_code=204, **needs("webhooks:write", changes=True))
def end_webhook(request: Request, caller: Asking, webhook_id: WebhookId) -> Response:
    """Post nothing there any more; what waits is not sent."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        see_webhook(session, caller.reach, webhook_id)
        listeners.end_listener(session, webhook_id, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def see_webhook(session: Session, reach: Reach, webhook_id: int) -> ListenerView:
    """Return a webhook in sight, ended or not. Raises `NotFound`."""
    return see(session, reach, Channel.WEBHOOK, webhook_id)


def _shape(one: ListenerView) -> WebhookShape:
    return WebhookShape(
        id=one.id,
        account_id=one.account_id,
        account=one.account,
        url=one.address,
        events=list(one.kinds),
        created_at=one.created_at,
        paused_at=one.paused_at,
        ended_at=one.ended_at,
        ended_why=one.ended_why,
    )


def _tag(shape: WebhookShape) -> str:
    return etag_of(shape.model_dump(mode="json", exclude={"account", "created_at"}))
