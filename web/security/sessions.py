"""Who is asking: the session cookie, the guard before every panel route, the flash message after a redirect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Depends
from fastapi.concurrency import run_in_threadpool
from itsdangerous import BadData, URLSafeSerializer
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from billing import users
from billing.store import reading
from web.context import panel_of
from web.security.origin import csrf_matches, same_origin

ROLES = frozenset({"owner"})
"""Who may use the panel. A role that is not named here may do nothing."""

FLASH_COOKIE = "callctl_flash"
FLASH_AGE_S = 120
MOST_TOKEN = 200
Tone = Literal["success", "warning", "danger"]


@dataclass(frozen=True, slots=True)
class Principal:
    """A person with a valid session. `token` is the cookie's own text: never shown, never logged."""

    user_id: int
    login: str
    role: str
    must_change: bool
    csrf: str
    token: str

    def __repr__(self) -> str:
        """Name the person, not the secrets."""
        return f"Principal({self.login!r}, {self.role!r})"


class NotSignedIn(Exception):
    """There is no session: the answer is a redirect to the login page."""


class MustChangePassword(Exception):
    """The password works once: it must be changed before anything else."""


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
            if found is None or found[0].id is None:
                return None
            user, row = found
            return Principal(found[0].id, user.login, user.role, user.must_change, row.csrf, token)

    return await run_in_threadpool(find)


async def check_post(request: Request, principal: Principal) -> None:
    """Let a change pass only when a page of this very session sent it."""
    if request.method in {"GET", "HEAD"}:
        return
    if not same_origin(request) or not csrf_matches(request, await request.form(), principal.csrf):
        raise Forbidden("This form is out of date or came from another page. Go back, reload the page and try again.")


async def signed_in(request: Request) -> Principal:
    """Let pass whoever has a session, even with a one-time password: for the pages that end it or change it."""
    principal = await session_of(request)
    if principal is None:
        raise NotSignedIn
    request.state.principal = principal
    await check_post(request, principal)
    return principal


async def owner_only(principal: Annotated[Principal, Depends(signed_in)]) -> Principal:
    """Let pass an owner with a lasting password: the dependency of every panel route."""
    if principal.must_change:
        raise MustChangePassword
    if principal.role not in ROLES:
        raise Forbidden("Your account may not use this page.")
    return principal


SignedIn = Annotated[Principal, Depends(signed_in)]
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
