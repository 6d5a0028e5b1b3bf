"""Sessions of people in the panel: where they are logged in, and ending that. A key has none: it is revoked instead."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import Field
from starlette.responses import Response

from billing import people
from billing.people import SessionView
from billing.store import reading, work
from web.api.auth import Asking
from web.api.routes import needs, resource
from web.api.shapes import Moment, Page, Shape
from web.api.users import UserId
from web.context import panel_of

router = resource("users")

SessionId = Annotated[str, Path(min_length=1, max_length=60, examples=["session-5f1c0a9b2d3e4f5061728394"])]


class SessionShape(Shape):
    """A login that stands. Its id names it, and opens nothing."""

    id: str = Field(examples=["session-5f1c0a9b2d3e4f5061728394"])
    user_id: int = Field(examples=[3])
    created_at: Moment
    expires_at: Moment
    address: str = Field(description="From where, as the panel saw it.", examples=["203.0.113.9"])
    agent: str = Field(description="What the browser said it is.", examples=["Mozilla/5.0"])
    proven: bool = Field(description="False while the second factor is still to be shown.")


class EndedShape(Shape):
    """How many sessions have ended."""

    user_id: int = Field(examples=[3])
    ended: int = Field(examples=[2])


@router.get("/users/{user_id}/sessions", **needs("users:read"))
def list_sessions(request: Request, caller: Asking, user_id: UserId) -> Page[SessionShape]:
    """List where a person of the accounts in your sight is logged in, newest first."""
    panel = panel_of(request)
    with reading(panel.engine) as session:
        people.find_person(session, caller.reach, user_id)
        found = people.list_sessions(session, user_id, now=panel.clock.now())
    return Page(items=[_shape(one) for one in found])


@router.delete("/users/{user_id}/sessions", **needs("users:write", changes=True))
def end_sessions(request: Request, caller: Asking, user_id: UserId) -> EndedShape:
    """Log a person out everywhere; they may log in again. To keep them out, disable them."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        people.lock_person(session, caller.reach, user_id)
        ended = people.end_sessions(session, user_id, actor=caller.actor, now=panel.clock.now())
    return EndedShape(user_id=user_id, ended=ended)


@router.delete("/users/{user_id}/sessions/{session_id}", status_code=204, **needs("users:write", changes=True))
def end_session(request: Request, caller: Asking, user_id: UserId, session_id: SessionId) -> Response:
    """End one session of a person."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        people.lock_person(session, caller.reach, user_id)
        people.end_session(session, user_id, session_id, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _shape(one: SessionView) -> SessionShape:
    facts = {name: getattr(one, name) for name in SessionShape.model_fields if name != "id"}
    return SessionShape(**facts, id=one.handle)
