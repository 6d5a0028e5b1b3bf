"""The way in and out: login, the change of a one-time password, logout."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from billing import users
from billing.brands import brand_at
from billing.errors import Refused
from billing.store import reading, work
from web.context import address_of, panel_of
from web.pages import show, show_bare
from web.security.origin import local_path, same_origin
from web.security.sessions import (
    Forbidden,
    Principal,
    SignedIn,
    Step,
    Unfinished,
    flash,
    give_cookie,
    session_of,
    take_cookie,
)

public = APIRouter(include_in_schema=False)
router = APIRouter(include_in_schema=False)

WRONG = "Login or password is wrong."
FEWEST_PASSWORD = 10
MOST_PASSWORD = 200


@public.get("/login")
async def login_page(request: Request, next: str = "/", out: str = "") -> Response:  # noqa: A002 - the address' own word
    """Show the form, or go on where there is a session already."""
    if await session_of(request) is not None:
        return RedirectResponse(local_path(next), 303)
    notice = "You are logged out." if out else ""
    return await _page(request, next=local_path(next), login="", error="", notice=notice)


async def _page(request: Request, *, status: int = 200, **context: str) -> Response:
    """Show the form, under the brand of whoever's host name it was asked at."""
    panel = panel_of(request)

    def brand() -> str:
        with reading(panel.engine) as session:
            return brand_at(session, request.url.hostname or "")

    return show_bare(request, "login.html", status=status, brand=await run_in_threadpool(brand), **context)


@public.post("/login")
async def log_in(
    request: Request,
    login: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = "/",  # noqa: A002 - the form's own word
) -> Response:
    """Check the password. One answer for an unknown login and a wrong password, and the same work for both."""
    panel = panel_of(request)
    if not same_origin(request):
        raise Forbidden("This form came from another page.")
    login = login.strip()[:100]
    form = {"next": local_path(next), "login": login, "notice": ""}
    wait_s = panel.throttle.admit(login, address_of(request))
    if wait_s > 0:
        panel.counters.logins.labels("throttled").inc()
        minutes = int(wait_s // 60) + 1
        text = f"Too many attempts. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
        page = await _page(request, status=429, error=text, **form)
        page.headers["retry-after"] = str(int(wait_s) + 1)
        return page

    def check() -> str | None:
        with panel.password_slots:
            # Hashing takes long: whoever only guesses never holds the lock that the ledger's writers need.
            with reading(panel.engine) as session:
                if users.check_password(session, login, password) is None:
                    return None
            with work(panel.engine) as session:
                found = users.log_in(
                    session,
                    login,
                    password,
                    ids=panel.ids,
                    now=panel.clock.now(),
                    address=address_of(request),
                    agent=request.headers.get("user-agent", ""),
                )
                return None if found is None else found[1]

    token = await run_in_threadpool(check)
    if token is None:
        panel.counters.logins.labels("wrong").inc()
        return await _page(request, status=401, error=WRONG, **form)
    panel.throttle.succeed(login, address_of(request))
    panel.counters.logins.labels("ok").inc()
    response = RedirectResponse(form["next"], 303)
    give_cookie(request, response, token)
    return response


@router.post("/logout")
async def log_out(request: Request, principal: SignedIn) -> Response:
    """End this session, in the store too."""
    panel = panel_of(request)

    def revoke() -> None:
        with work(panel.engine) as session:
            users.log_out(session, principal.token)

    await run_in_threadpool(revoke)
    response = RedirectResponse("/login?out=1", 303)
    take_cookie(request, response)
    return response


def _proven(principal: Principal) -> None:
    """A password alone does not change itself where there is a second factor."""
    if principal.lacks is Step.PROVE:
        raise Unfinished(Step.PROVE)


@router.get("/password")
async def password_page(request: Request, principal: SignedIn) -> Response:
    """Show the form; forced where the password works only once."""
    _proven(principal)
    return show(request, principal, "password.html", error="")


@router.post("/password")
async def change_password(
    request: Request,
    principal: SignedIn,
    old: Annotated[str, Form()] = "",
    new: Annotated[str, Form()] = "",
    again: Annotated[str, Form()] = "",
) -> Response:
    """Set a lasting password; every other session of this person ends."""
    _proven(principal)
    panel = panel_of(request)

    def refuse(text: str, status: int = 422) -> Response:
        return show(request, principal, "password.html", status=status, error=text)

    if not FEWEST_PASSWORD <= len(new) <= MOST_PASSWORD:
        return refuse(f"The new password needs {FEWEST_PASSWORD} to {MOST_PASSWORD} characters.")
    if new != again:
        return refuse("The two new passwords are not the same.")
    if new == old:
        return refuse("The new password is the old one.")
    # The old password is asked for again, and guessed as slowly as at the door: a browser left alone is not its owner.
    if panel.throttle.admit(principal.login, address_of(request)) > 0:
        return refuse("Too many attempts. Try again later.", 429)

    def change() -> str:
        with panel.password_slots:
            with reading(panel.engine) as session:
                if users.check_password(session, principal.login, old) is None:
                    return "The present password is wrong."
            try:
                with work(panel.engine) as session:
                    users.set_password(
                        session, principal.user_id, new, keep_token=principal.token, now=panel.clock.now()
                    )
            except Refused as error:
                return str(error)
            return ""

    wrong = await run_in_threadpool(change)
    if wrong:
        return refuse(wrong)
    panel.throttle.succeed(principal.login, address_of(request))
    return flash(request, principal, "success", "Your password is changed. Other sessions have ended.", to="/")
