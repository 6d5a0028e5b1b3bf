"""People who log in to the panel: invited, given a role, disabled, helped out."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import Field
from starlette.responses import Response

from billing import people
from billing.access import ROLES, Role, covers_all
from billing.people import Person
from billing.store import reading, work
from web.api.auth import Asking, Caller
from web.api.etags import IfMatch, check_match, etag_of
from web.api.problems import Problem
from web.api.routes import MOST_ID, Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Body, Moment, Page, Shape
from web.context import panel_of

router = resource("users")

UserId = Annotated[int, Path(ge=1, le=MOST_ID, examples=[3])]
Login = Annotated[str, Field(min_length=1, max_length=100, examples=["bea"])]
SentRole = Annotated[Role, Field(strict=False)]


class UserShape(Shape):
    """A person who logs in."""

    id: int = Field(examples=[3])
    login: Login
    role: Role
    account_id: int | None = Field(description="Null for administrators.")
    account: str | None
    must_change: bool = Field(description="Has a password that works once.")
    second_factor: bool
    created_at: Moment
    disabled_at: Moment | None


class InvitedShape(UserShape):
    """A person with a password that works once; it is shown now and never again."""

    one_time_password: str


class NewUser(Body):
    """A person to be invited."""

    login: Login
    role: SentRole
    account_id: int | None = Field(default=None, ge=1, le=MOST_ID, description="For reseller and customer roles.")


class ChangedUser(Body):
    """What is to be set; what is not named stays."""

    role: SentRole | None = None
    disabled: bool | None = None


@router.get("/users", **needs("users:read", "cursor_invalid"))
def list_users(request: Request, caller: Asking, after: Cursor = "", most: PageSize = 100) -> Page[UserShape]:
    """List the people of the accounts in your sight."""
    with reading(panel_of(request).engine) as session:
        found = people.list_people(session, caller.reach, after_id=number_of(after), most=most + 1)
    more = str(found[most - 1].id) if len(found) > most else None
    return Page(items=[_shape(person) for person in found[:most]], next=more)


@router.post("/users", status_code=201, **needs("users:write", "not_allowed", changes=True))
def add_user(request: Request, caller: Asking, body: NewUser) -> InvitedShape:
    """Invite a person; they choose a password at their first login."""
    _check_role(caller, body.role)
    panel = panel_of(request)
    with work(panel.engine) as session:
        made, password = people.invite(
            session,
            caller.reach,
            login=body.login,
            role=body.role.value,
            account_id=body.account_id,
            actor=caller.actor,
            ids=panel.ids,
            now=panel.clock.now(),
        )
    return InvitedShape(**_shape(made).model_dump(), one_time_password=password)


@router.get("/users/{user_id}", **needs("users:read"))
def get_user(request: Request, response: Response, caller: Asking, user_id: UserId) -> UserShape:
    """Return one person. The ETag is what a change must name."""
    with reading(panel_of(request).engine) as session:
        shape = _shape(people.find_person(session, caller.reach, user_id))
    response.headers["etag"] = _tag(shape)
    return shape


@router.patch("/users/{user_id}", **needs("users:write", "not_allowed", changes=True, edits=True))
def change_user(
    request: Request,
    response: Response,
    caller: Asking,
    *,
    user_id: UserId,
    body: ChangedUser,
    if_match: IfMatch = None,
) -> UserShape:
    """Give a person another role, let them in no more, or let them in again."""
    panel = panel_of(request)
    now = panel.clock.now()
    with work(panel.engine) as session:
        person = people.lock_person(session, caller.reach, user_id)
        check_match(if_match, _tag(_shape(person)))
        _check_role(caller, Role(person.role))
        if body.role is not None:
            _check_role(caller, body.role)
            person = people.set_role(session, caller.reach, user_id, body.role.value, actor=caller.actor, now=now)
        if body.disabled is not None:
            change = people.disable if body.disabled else people.enable
            person = change(session, caller.reach, user_id, actor=caller.actor, now=now)
        shape = _shape(person)
    response.headers["etag"] = _tag(shape)
    return shape


@router.post("/users/{user_id}/password", **needs("users:write", "not_allowed", changes=True))
def reset_password(request: Request, caller: Asking, user_id: UserId) -> InvitedShape:
    """Give a person a new password that works once; the old one and their sessions end."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        person = people.find_person(session, caller.reach, user_id)
        _check_role(caller, Role(person.role))
        password = people.reset_password(
            session, caller.reach, user_id, actor=caller.actor, ids=panel.ids, now=panel.clock.now()
        )
        person = people.find_person(session, caller.reach, user_id)
    return InvitedShape(**_shape(person).model_dump(), one_time_password=password)


@router.delete("/users/{user_id}/second-factor", status_code=204, **needs("users:write", "not_allowed", changes=True))
def reset_second_factor(request: Request, caller: Asking, user_id: UserId) -> Response:
    """Take a person's second factor away, for who lost their phone; their sessions end."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        person = people.find_person(session, caller.reach, user_id)
        _check_role(caller, Role(person.role))
        people.reset_second_factor(session, caller.reach, user_id, actor=caller.actor, now=panel.clock.now())
    return Response(status_code=204)


def _check_role(caller: Caller, role: Role) -> None:
    """Nobody makes, or becomes by a reset password, somebody who may more than they may themselves."""
    if not covers_all(caller.scopes, ROLES[role]):
        raise Problem("not_allowed", f"This key may less than the role {role.value}, so it cannot give or take it.")


def _shape(person: Person) -> UserShape:
    return UserShape(**{name: getattr(person, name) for name in UserShape.model_fields})


def _tag(shape: UserShape) -> str:
    return etag_of(shape.model_dump(mode="json"))
