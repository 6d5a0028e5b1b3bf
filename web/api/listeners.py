"""What webhooks and e-mail addresses have in common over the API: which are in sight, and how one is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Final

from pydantic import Field
from sqlmodel import Session

from billing.access import Reach
from billing.errors import NotFound
from billing.events import listeners
from billing.events.kinds import EventKind
from billing.events.listeners import ListenerChanges, ListenerView
from billing.models import Channel
from web.api.auth import Caller
from web.api.etags import check_match
from web.api.shapes import Body

Events = Annotated[
    list[Annotated[EventKind, Field(strict=False)]],
    Field(min_length=1, max_length=20, examples=[["balance.low", "topup.created"]]),
]
WORDS: Final[Mapping[Channel, str]] = {Channel.WEBHOOK: "webhook", Channel.EMAIL: "address"}


def in_sight(session: Session, reach: Reach, channel: Channel) -> list[ListenerView]:
    """Return those of one kind that are in use, newest first."""
    own = None if reach.whole else list(session.execute(reach.ids()).scalars())
    return [one for one in listeners.list_listeners(session, account_ids=own) if one.channel is channel]


def see(session: Session, reach: Reach, channel: Channel, number: int) -> ListenerView:
    """Return one in sight, ended or not. Raises `NotFound`, for the number of one of another kind as well."""
    missing = NotFound(f"there is no {WORDS[channel]} {number}")
    try:
        found = listeners.find_listener(session, number)
    except NotFound:
        raise missing from None
    if found.channel is not channel or not reach.holds(session, found.account_id):
        raise missing
    return found


def change(
    session: Session,
    caller: Caller,
    seen: ListenerView,
    body: Body,
    *,
    sets: Mapping[str, str],
    if_match: str | None,
    tag: Callable[[ListenerView], str],
    now: datetime,
) -> ListenerView:
    """Set what a body names; `sets` says what its members are inside, `tag` what the caller must have seen."""
    changes: ListenerChanges = {sets[name]: getattr(body, name) for name in body.model_fields_set}  # type: ignore[assignment]
    listeners.lock_listener(session, seen.id)
    check_match(if_match, tag(listeners.find_listener(session, seen.id)))
    return listeners.change_listener(session, seen.id, changes, actor=caller.actor, now=now)
