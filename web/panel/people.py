"""People who log in: invited, given a role, disabled, helped out; and their sessions ended."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing import people
from billing.access import ADMINISTRATORS, Role
from billing.errors import Conflict, NotFound, Refused
from billing.people import Person
from billing.store import reading, work
from billing.subtree import find_within
from web.context import panel_of
from web.pages import show
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

PAGE = 100
MOST_ID = 2**53
Reader = Annotated[Principal, Depends(may("users:read"))]
Keeper = Annotated[Principal, Depends(may("users:write"))]
PersonId = Annotated[int, Path(ge=1, le=MOST_ID)]
ABOUT_ROLES = {
    Role.OWNER: "everything",
    Role.BILLING: "accounts, money, tariffs, vouchers; sees calls and the audit log",
    Role.SUPPORT: "sees accounts and records; ends calls, deals with alerts",
    Role.READ_ONLY: "sees everything, changes nothing",
    Role.RESELLER: "a reseller's own people: their account and all below it",
    Role.CUSTOMER: "a customer's own people: their account, its calls and money",
}


def roles_for(principal: Principal) -> list[Role]:
    """Return the roles that a person may give: administrators make all, others only people of accounts."""
    return [role for role in Role if principal.reach.whole or role not in ADMINISTRATORS]


async def _people(request: Request, principal: Principal, *, status: int = 200, **more: Any) -> Response:
    panel = panel_of(request)

    def read() -> list[Person]:
        with reading(panel.engine) as session:
            return people.list_people(session, principal.reach, most=PAGE * 5)

    found = await run_in_threadpool(read)
    parts = {"error": "", "login": "", "role": "", "account": "", "made": None, "password": ""} | more
    return show(
        request, principal, "people.html", status=status, people=found, roles=roles_for(principal), about=ABOUT_ROLES,
        **parts,
    )  # fmt: skip


@router.get("/people")
async def people_page(request: Request, principal: Reader) -> Response:
    """Show who logs in."""
    return await _people(request, principal)


@router.post("/people")
async def invite(
    request: Request,
    principal: Keeper,
    *,
    login: Annotated[str, Form()] = "",
    role: Annotated[str, Form()] = "",
    account: Annotated[str, Form()] = "",
) -> Response:
    """Add a person and show the password that works once."""
    panel = panel_of(request)
    login, account = login.strip()[:200], account.strip()[:100]
    form = {"login": login, "role": role, "account": account}
    if role not in roles_for(principal):
        raise HTTPException(400)

    def add() -> tuple[Person, str]:
        with work(panel.engine) as session:
            account_id = find_within(session, principal.reach.within, account).id if account else None
            if account_id is None and role not in ADMINISTRATORS and not principal.reach.whole:
                account_id = principal.reach.account_id
            return people.invite(
                session,
                principal.reach,
                login=login,
                role=role,
                account_id=account_id,
                actor=principal.login,
                ids=panel.ids,
                now=panel.clock.now(),
            )

    try:
        made, password = await run_in_threadpool(add)
    except (Conflict, NotFound, Refused) as error:
        return await _people(request, principal, status=422, error=str(error), **form)
    return await _people(request, principal, made=made, password=password)


@router.get("/people/{person_id}")
async def person_page(request: Request, principal: Reader, person_id: PersonId) -> Response:
    """Show one person and their sessions."""
    return await _person(request, principal, person_id)


async def _person(request: Request, principal: Principal, person_id: int, *, password: str = "") -> Response:
    panel = panel_of(request)

    def read() -> dict[str, Any]:
        with reading(panel.engine) as session:
            person = people.find_person(session, principal.reach, person_id)
            return {"person": person, "sessions": people.list_sessions(session, person_id, now=panel.clock.now())}

    parts = await run_in_threadpool(read)
    roles = [role for role in ADMINISTRATORS if principal.reach.whole and parts["person"].account_id is None]
    ordered = [role for role in Role if role in roles]
    return show(request, principal, "person.html", password=password, roles=ordered, about=ABOUT_ROLES, **parts)


@router.post("/people/{person_id}/role")
async def set_role(
    request: Request, principal: Keeper, person_id: PersonId, role: Annotated[str, Form()] = ""
) -> Response:
    """Give a person another role."""
    panel = panel_of(request)

    def change(actor: str) -> Person:
        with work(panel.engine) as session:
            return people.set_role(session, principal.reach, person_id, role, actor=actor, now=panel.clock.now())

    return await _done(request, principal, person_id, change, "{} is {} now.")


@router.post("/people/{person_id}/disable")
async def disable(request: Request, principal: Keeper, person_id: PersonId) -> Response:
    """Let a person in no more."""
    panel = panel_of(request)
    if person_id == principal.user_id:
        raise Forbidden("Nobody disables themselves.")

    def change(actor: str) -> Person:
        with work(panel.engine) as session:
            return people.disable(session, principal.reach, person_id, actor=actor, now=panel.clock.now())

    return await _done(request, principal, person_id, change, "{} cannot log in any more.")


@router.post("/people/{person_id}/enable")
async def enable(request: Request, principal: Keeper, person_id: PersonId) -> Response:
    """Let a person in again."""
    panel = panel_of(request)

    def change(actor: str) -> Person:
        with work(panel.engine) as session:
            return people.enable(session, principal.reach, person_id, actor=actor, now=panel.clock.now())

    return await _done(request, principal, person_id, change, "{} may log in again.")


@router.post("/people/{person_id}/second-factor")
async def reset_second_factor(request: Request, principal: Keeper, person_id: PersonId) -> Response:
    """Take a person's second factor away."""
    panel = panel_of(request)

    def change(actor: str) -> Person:
        with work(panel.engine) as session:
            return people.reset_second_factor(session, principal.reach, person_id, actor=actor, now=panel.clock.now())

    return await _done(request, principal, person_id, change, "{} has no second factor any more, and no session.")


@router.post("/people/{person_id}/password")
async def reset_password(request: Request, principal: Keeper, person_id: PersonId) -> Response:
    """Show a new password that works once."""
    panel = panel_of(request)

    def reset() -> str:
        with work(panel.engine) as session:
            return people.reset_password(
                session, principal.reach, person_id, actor=principal.login, ids=panel.ids, now=panel.clock.now()
            )

    return await _person(request, principal, person_id, password=await run_in_threadpool(reset))


@router.post("/people/{person_id}/sessions/end")
async def end_session(
    request: Request, principal: Keeper, person_id: PersonId, handle: Annotated[str, Form()] = ""
) -> Response:
    """End a session of somebody else."""
    panel = panel_of(request)

    def end(actor: str) -> Person:
        with work(panel.engine) as session:
            person = people.find_person(session, principal.reach, person_id)
            people.end_session(session, person_id, handle[:60], actor=actor, now=panel.clock.now())
            return person

    return await _done(request, principal, person_id, end, "A session of {} has ended.")


async def _done(request: Request, principal: Principal, person_id: int, change: Any, said: str) -> Response:
    to = f"/people/{person_id}"
    try:
        person = await run_in_threadpool(change, principal.login)
    except Refused as error:
        return flash(request, principal, "danger", str(error), to=to)
    return flash(request, principal, "success", said.format(person.login, person.role), to=to)
