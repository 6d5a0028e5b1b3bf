"""Keys: made with what one has oneself, listed, changed, revoked."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import Field
from starlette.responses import Response

from billing import keys
from billing.access import covers_all
from billing.keys import KeyChanges, KeyView
from billing.store import reading, work
from web.api.auth import Asking
from web.api.etags import IfMatch, check_match, etag_of
from web.api.problems import Problem
from web.api.routes import MOST_ID, Cursor, PageSize, needs, resource
from web.api.shapes import Body, Moment, Page, SentMoment, Shape
from web.context import panel_of

router = resource("keys")

KeyId = Annotated[str, Path(min_length=1, max_length=60, examples=["callctl-5f1c0a9b2d3e4f5061728394"])]

Scopes = list[Annotated[str, Field(max_length=40)]]
Networks = list[Annotated[str, Field(max_length=50)]]


class KeyShape(Shape):
    """A key, without its secret."""

    id: str = Field(examples=["callctl-5f1c0a9b2d3e4f5061728394"])
    name: str = Field(examples=["billing robot"])
    account_id: int = Field(examples=[2])
    account: str = Field(examples=["Bluebird Voice"])
    scopes: list[str] = Field(examples=[["money:write", "cdrs:read"]])
    allow_from: list[str] = Field(examples=[["203.0.113.0/24"]])
    created_by: str
    created_at: Moment
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None
    last_used_from: str


class MadeKeyShape(KeyShape):
    """A key that has just been made. `key` is shown now and never again."""

    key: str


class NewKey(Body):
    """A key to be made."""

    name: str = Field(min_length=1, max_length=100, examples=["billing robot"])
    account_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="For whom it acts; you, if not given.")
    scopes: Scopes = Field(min_length=1, max_length=50, examples=[["money:read"]])
    allow_from: Networks = Field(
        default=[], max_length=50, description="Networks; anywhere, if none.", examples=[["203.0.113.0/24"]]
    )
    expires_at: SentMoment | None = None


class ChangedKey(Body):
    """What is to be set; what is not named stays. No network is from anywhere; `expires_at` null is never."""

    name: str = Field(default="", min_length=1, max_length=100, examples=["billing robot"])
    scopes: Scopes = Field(default=[], min_length=1, max_length=50, examples=[["money:read"]])
    allow_from: Networks = Field(default=[], max_length=50, examples=[["203.0.113.0/24"]])
    expires_at: SentMoment | None = Field(default=None, examples=["2099-01-01T00:00:00Z"])


@router.get("/keys", **needs("keys:read"))
def list_keys(request: Request, caller: Asking, after: Cursor = "", most: PageSize = 100) -> Page[KeyShape]:
    """List the keys of the accounts in your sight."""
    with reading(panel_of(request).engine) as session:
        found = keys.list_keys(session, caller.reach, after=after, most=most + 1)
    more = found[most - 1].public_id if len(found) > most else None
    return Page(items=[_shape(key) for key in found[:most]], next=more)


@router.post("/keys", status_code=201, **needs("keys:write", "not_allowed", changes=True))
def add_key(request: Request, response: Response, caller: Asking, body: NewKey) -> MadeKeyShape:
    """Make a key for your own account or one below it, with scopes that you have yourself."""
    if not covers_all(caller.scopes, body.scopes):
        raise Problem("not_allowed", "A key can give away only scopes that it has itself.")
    panel = panel_of(request)
    with work(panel.engine) as session:
        account = caller.reach.see(session, body.account_id or caller.reach.account_id)
        made, token = keys.add_key(
            session,
            account_id=account.id or 0,
            name=body.name,
            scopes=body.scopes,
            allow_from=body.allow_from,
            expires_at=body.expires_at,
            actor=caller.actor,
            ids=panel.ids,
            now=panel.clock.now(),
        )
    response.headers["etag"] = _tag(_shape(made))
    return MadeKeyShape(**_shape(made).model_dump(), key=token)


@router.get("/keys/{key_id}", **needs("keys:read"))
def get_key(request: Request, response: Response, caller: Asking, key_id: KeyId) -> KeyShape:
    """Return one key. Its ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _shape(keys.find_key(session, caller.reach, key_id))
    response.headers["etag"] = _tag(shape)
    return shape


@router.patch("/keys/{key_id}", **needs("keys:write", "not_allowed", changes=True, edits=True))
def change_key(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    key_id: KeyId,
    body: ChangedKey,
    if_match: IfMatch = None,
) -> KeyShape:
    """Set what is named of a key; its secret stays. Both what it has and what it gets must be scopes of your own."""
    panel = panel_of(request)
    changes: KeyChanges = {name: getattr(body, name) for name in body.model_fields_set}  # type: ignore[assignment]
    with work(panel.engine) as session:
        found = keys.lock_key(session, caller.reach, key_id)
        check_match(if_match, _tag(_shape(found)))
        # Who may less than a key must not let it live longer, or be used from elsewhere.
        if not covers_all(caller.scopes, [*found.scopes, *body.scopes]):
            raise Problem("not_allowed", "A key is changed, and given, only by who has all of its scopes.")
        changed = keys.change_key(session, caller.reach, key_id, changes, actor=caller.actor, now=panel.clock.now())
        shape = _shape(changed)
    response.headers["etag"] = _tag(shape)
    return shape


@router.delete("/keys/{key_id}", status_code=204, **needs("keys:write", changes=True))
def revoke_key(request: Request, caller: Asking, key_id: KeyId) -> Response:
    """End a key, at once and for good. It stays in the list."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        keys.revoke_key(session, caller.reach, key_id, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _shape(key: KeyView) -> KeyShape:
    facts = {name: getattr(key, name) for name in KeyShape.model_fields if name not in {"id", "scopes", "allow_from"}}
    return KeyShape(**facts, id=key.public_id, scopes=list(key.scopes), allow_from=list(key.allow_from))


def _tag(shape: KeyShape) -> str:
    """Return the tag of what can be edited, or ended: that a key was used changes nothing about it."""
    return etag_of(shape.model_dump(mode="json", exclude={"last_used_at", "last_used_from", "account"}))
