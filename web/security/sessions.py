"""Who is asking: the session cookie, the guard before every panel route, the flash message after a redirect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends
from fastapi.concurrency import run_in_threadpool
from itsdangerous import BadData, URLSafeSerializer
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from billing import second_factor, users
from billing.access import ROLES, Reach, Role, covers, reach_of, role_of
from billing.brands import brand_for
from billing.models import AccountKind, User, UserSession
from billing.store import reading
from web.context import Panel, panel_of
from web.security.origin import csrf_matches, same_origin

FLASH_COOKIE = "callctl_flash"
FLASH_AGE_S = 120
MOST_TOKEN = 200
Tone = Literal["success", "warning", "danger"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A person with a valid session. `token` is the cookie's own text: never shown, never logged.

    `lacks` is what the session must do before it opens anything: see `Step`. `reach` is the part of the tree they see,
    `brand` the name under which they see it ("": our own).
    """

    user_id: int
    login: str
    role: str
    scopes: frozenset[str]
    reach: Reach
    lacks: Step | None
    csrf: str
    token: str
    handle: str
    brand: str = ""

    @property
    def must_change(self) -> bool:
        """Whether pages other than those of the login itself are still closed."""
        return self.lacks is not None

    @property
    def sees_all(self) -> bool:
        """Whether they see the whole tree."""
        return self.reach.whole

    @property
    def sells(self) -> bool:
        """Whether they may have customers: all but a customer's people."""
        return self.reach.kind is not AccountKind.CUSTOMER

    def may(self, scope: str) -> bool:
        """Return whether this person may do a thing; templates ask it before they show a button."""
        return covers(self.scopes, scope)

    def __repr__(self) -> str:
        """Name the person, not the secrets."""
        return f"Principal({self.login!r}, {self.role!r})"


class Step(StrEnum):
    """What stands between a password that fits and the panel; the value is the page where it is done."""

    PROVE = "/second-factor"
    CHANGE = "/password"
    ENROL = "/second-factor/new"


class NotSignedIn(Exception):
    """There is no session: the answer is a redirect to the login page."""


class Unfinished(Exception):
    """The session must do a step before it opens anything."""

    def __init__(self, step: Step) -> None:
        super().__init__(step.name)
        self.step = step


class Forbidden(Exception):
    """A session, but not for this; or a request that no page of ours made. The text is for the person."""


def cookie_name(request: Request) -> str:
    """Return the cookie's name; over https its prefix makes the browser insist on Secure and on this very host."""
    return "__Host-callctl_session" if request.url.scheme == "https" else "callctl_session"


def give_cookie(request: Request, response: Response, token: str) -> None:
    """Let the browser keep the token until it closes; the server's own expiry holds anyway."""
    response.set_cookie(
        cookie_name(request), token, httponly=True, samesite="lax", secure=request.url.scheme == "https", path="/"
    )


def take_cookie(request: Request, response: Response) -> None:
    """Let the browser forget the token."""
    response.delete_cookie(
        cookie_name(request), httponly=True, samesite="lax", secure=request.url.scheme == "https", path="/"
    )


async def session_of(request: Request) -> Principal | None:
    """Return who has the cookie's session, if it is valid."""
    panel = panel_of(request)
    token = request.cookies.get(cookie_name(request), "")
    if not token or len(token) > MOST_TOKEN:
        return None

    def find() -> Principal | None:
        with reading(panel.engine) as session:
            found = users.find_session(session, token, now=panel.clock.now())
            if found is None:
                return None
            return _principal(session, panel, *found, token)

    return await run_in_threadpool(find)


def _principal(session: Session, panel: Panel, user: User, row: UserSession, token: str) -> Principal:
    role = role_of(user.role)
    reach = reach_of(session, user.account_id)
    return Principal(
        user_id=user.id or 0,
        login=user.login,
        role=user.role,
        scopes=ROLES[role] if role else frozenset(),
        reach=reach,
        lacks=_lacks(session, panel, user, row),
        csrf=row.csrf,
        token=token,
        handle=row.handle,
        brand=brand_for(session, reach.account_id),
    )


def _lacks(session: Session, panel: Panel, user: User, row: UserSession) -> Step | None:
    if not row.proven:
        return Step.PROVE
    if user.must_change:
        return Step.CHANGE
    wanted = {role.strip() for role in panel.settings.web.second_factor_for.split(",")}
    if user.role in wanted and not second_factor.is_confirmed(session, user.id or 0):
        return Step.ENROL
    return None


async def check_post(request: Request, principal: Principal) -> None:
    """Let a change pass only when a page of this very session sent it."""
    if request.method in {"GET", "HEAD"}:
        return
    if not same_origin(request) or not csrf_matches(request, await request.form(), principal.csrf):
        raise Forbidden("This form is out of date or came from another page. Go back, reload the page and try again.")


async def signed_in(request: Request) -> Principal:
    """Let pass whoever has a session, whatever it lacks: for the pages where it gets what it lacks, or ends."""
    principal = await session_of(request)
    if principal is None:
        raise NotSignedIn
    request.state.principal = principal
    await check_post(request, principal)
    return principal


async def inside(principal: Annotated[Principal, Depends(signed_in)]) -> Principal:
    """Let pass a session that lacks nothing: the dependency of every panel route."""
    if principal.lacks is not None:
        raise Unfinished(principal.lacks)
    if not principal.scopes:
        raise Forbidden("Your account may not use this page.")
    return principal


def may(scope: str, *, whole: bool = False) -> Callable[..., Awaitable[Principal]]:
    """Return a guard that lets pass who may do this: `Annotated[Principal, Depends(may("money:write"))]`.

    `whole` where the page shows what is not parted by accounts: administrators only.
    """

    async def guard(principal: Annotated[Principal, Depends(inside)]) -> Principal:
        if not principal.may(scope) or (whole and not principal.reach.whole):
            raise Forbidden("Your role does not include this.")
        return principal

    guard.scope = scope  # type: ignore[attr-defined] # a test walks the routes and asks for it
    return guard


async def owner_only(principal: Annotated[Principal, Depends(inside)]) -> Principal:
    """Let pass an owner."""
    if principal.role != Role.OWNER:
        raise Forbidden("Your role does not include this.")
    return principal


owner_only.scope = "audit:write"  # type: ignore[attr-defined] # what an owner alone has

SignedIn = Annotated[Principal, Depends(signed_in)]
Inside = Annotated[Principal, Depends(inside)]
Owner = Annotated[Principal, Depends(owner_only)]


def to_login(request: Request) -> Response:
    """Send a browser to the login page, and back here afterwards; a fragment's answer makes the whole page go there."""
    if request.headers.get("hx-request") == "true":
        return Response(status_code=401, headers={"hx-redirect": "/login"})
    if request.method not in {"GET", "HEAD"} or request.url.path == "/":
        return RedirectResponse("/login", 303)
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/login?next={quote(target, safe='/')}", 303)


def flash(request: Request, principal: Principal, tone: Tone, text: str, *, to: str) -> Response:
    """Redirect after a change, with one message for the next page; signed, or anyone could make us say anything."""
    response = RedirectResponse(to, 303)
    sealed = URLSafeSerializer(principal.csrf, salt="flash").dumps([tone, text[:300]])
    response.set_cookie(
        FLASH_COOKIE,
        str(sealed),
        max_age=FLASH_AGE_S,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/",
    )
    return response


def read_flash(request: Request, principal: Principal) -> dict[str, str] | None:
    """Return the message that waits for this page, if it is ours."""
    sealed = request.cookies.get(FLASH_COOKIE)
    if not sealed:
        return None
    try:
        message: Any = URLSafeSerializer(principal.csrf, salt="flash").loads(sealed)
    except BadData:
        return None
    return {"tone": str(message[0]), "text": str(message[1])}
