"""Deliveries of webhooks: what was posted, what came back, what waits and what was given up; and sending it again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Request
from pydantic import Field
from sqlmodel import Session

from billing.access import Reach
from billing.errors import NotFound
from billing.events import deliveries
from billing.events.kinds import EventKind
from billing.events.webhooks import message_id
from billing.models import Channel, Delivery, DeliveryState, Event, Listener
from billing.store import reading, work
from web.api.auth import Asking
from web.api.routes import MOST_ID, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Moment, Page, Shape
from web.api.webhooks import WebhookId, see_webhook
from web.context import panel_of

router = resource("webhooks")

DeliveryId = Annotated[int, Path(ge=1, le=MOST_ID, description="The delivery's number.", examples=[4711])]


class DeliveryShape(Shape):
    """One event for one webhook. `dead` was given up after the last try, and can be sent again."""

    id: int = Field(examples=[4711])
    webhook_id: int = Field(examples=[7])
    event: str = Field(description="The `webhook-id` header: the same at every try.", examples=["evt_99"])
    kind: EventKind
    account_id: int | None = Field(examples=[5])
    data: dict[str, Any] = Field(description="What is posted.", examples=[{"message": "Anna's Bakery is low"}])
    state: DeliveryState
    attempts: int = Field(examples=[1])
    happened_at: Moment
    next_at: Moment | None = Field(description="When it is tried next; null where it is not.")
    last_at: Moment | None = Field(description="When it was tried last.")
    answer: str = Field(description="What came back last: a status, or why none did.", examples=["200"])


@router.get("/webhooks/{webhook_id}/deliveries", **needs("webhooks:read", "cursor_invalid"))
def list_deliveries(
    request: Request,
    caller: Asking,
    *,
    webhook_id: WebhookId,
    state: DeliveryState | None = None,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[DeliveryShape]:
    """List what was, or is to be, posted to a webhook, newest first. They are kept for 30 days."""
    before = number_of(after)
    with reading(panel_of(request).engine) as session:
        see_webhook(session, caller.reach, webhook_id)
        found = deliveries.list_deliveries(
            session, listener_id=webhook_id, state=state, before_id=before or None, most=most + 1
        )
        items = [_shape(delivery, event) for delivery, event in found[:most]]
    return Page(items=items, next=str(items[-1].id) if len(found) > most else None)


@router.get("/deliveries/{delivery_id}", **needs("webhooks:read"))
def get_delivery(request: Request, caller: Asking, delivery_id: DeliveryId) -> DeliveryShape:
    """Return one delivery."""
    with reading(panel_of(request).engine) as session:
        return _shape(*_see(session, caller.reach, delivery_id))


@router.post("/deliveries/{delivery_id}/resend", status_code=202, **needs("webhooks:write", changes=True))
def resend_delivery(request: Request, caller: Asking, delivery_id: DeliveryId) -> DeliveryShape:
    """Post it again from the start, whether it was heard or given up; with the same event id."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        _see(session, caller.reach, delivery_id)
        deliveries.resend(session, delivery_id, actor=caller.actor, now=panel.clock.now())
        return _shape(*deliveries.find_delivery(session, delivery_id))


def _see(session: Session, reach: Reach, delivery_id: int) -> tuple[Delivery, Event]:
    """Return a delivery to a webhook in sight. Raises `NotFound`: mails are nobody's business here."""
    delivery, event = deliveries.find_delivery(session, delivery_id)
    listener = session.get(Listener, delivery.listener_id)
    if listener is None or listener.channel is not Channel.WEBHOOK or not reach.holds(session, listener.account_id):
        raise NotFound(f"there is no delivery {delivery_id}")
    return delivery, event


def _shape(delivery: Delivery, event: Event) -> DeliveryShape:
    waits = delivery.state is DeliveryState.WAITING
    return DeliveryShape(
        id=delivery.id or 0,
        webhook_id=delivery.listener_id,
        event=message_id(delivery.event_id),
        kind=EventKind(event.kind),
        account_id=event.account_id,
        data=event.data,
        state=delivery.state,
        attempts=delivery.attempts,
        happened_at=event.happened_at,
        next_at=delivery.next_at if waits else None,
        last_at=delivery.last_at,
        answer=delivery.answer,
    )
