"""One's own login: the second factor, shown at the door and set up here, and the sessions that stand."""

from __future__ import annotations

from typing import Annotated, Any

import segno
from fastapi import APIRouter, Form, Request
from fastapi.concurrency import run_in_threadpool
from markupsafe import Markup
from starlette.responses import RedirectResponse, Response

from billing import people, second_factor, users
from billing.errors import Conflict
from billing.store import reading, work
from web.context import Panel, panel_of
from web.pages import show
from web.security.sessions import Forbidden, Inside, Principal, SignedIn, Step, Unfinished, flash

router = APIRouter(include_in_schema=False)

WRONG = "This code is wrong, or has been used. Wait for the next one."
TOO_OFTEN = "Too many attempts. Try again in a quarter of an hour."
GROUP = 4


@router.get("/me")
async def me_page(request: Request, principal: Inside) -> Response:
    """Show one's own login."""
    panel = panel_of(request)

    def read() -> dict[str, Any]:
        with reading(panel.engine) as session:
            sessions = people.list_sessions(session, principal.user_id, now=panel.clock.now())
            return {
                "has_factor": second_factor.is_confirmed(session, principal.user_id),
                "codes_left": second_factor.codes_left(session, principal.user_id),
                "sessions": sessions,
            }

    return show(request, principal, "me.html", **await run_in_threadpool(read))


@router.post("/me/sessions/end")
async def end_session(request: Request, principal: Inside, handle: Annotated[str, Form()] = "") -> Response:
    """End one of one's own sessions."""
    panel = panel_of(request)

    def end() -> None:
        with work(panel.engine) as session:
            people.end_session(session, principal.user_id, handle[:60], actor=principal.login, now=panel.clock.now())

    await run_in_threadpool(end)
    return flash(request, principal, "success", "The session has ended.", to="/me")


@router.get("/second-factor")
async def prove_page(request: Request, principal: SignedIn) -> Response:
    """Ask for the code."""
    if principal.lacks is not Step.PROVE:
        return RedirectResponse("/", 303)
    return show(request, principal, "second_factor.html", error="")


@router.post("/second-factor")
async def prove(request: Request, principal: SignedIn, code: Annotated[str, Form()] = "") -> Response:
    """Let the session in if the code is right. Whoever guesses is slow, from wherever they guess."""
    if principal.lacks is not Step.PROVE:
        return RedirectResponse("/", 303)
    panel = panel_of(request)
    if not _may_try(panel, principal):
        return show(request, principal, "second_factor.html", status=429, error=TOO_OFTEN)

    def check() -> bool:
        with work(panel.engine) as session:
            if not second_factor.check(session, principal.user_id, code, now=panel.clock.now()):
                return False
            users.prove(session, principal.token)
            return True

    if not await run_in_threadpool(check):
        panel.counters.logins.labels("wrong_code").inc()
        return show(request, principal, "second_factor.html", status=422, error=WRONG)
    _forgive(panel, principal)
    return RedirectResponse("/", 303)


@router.get("/second-factor/new")
async def enrol_page(request: Request, principal: SignedIn) -> Response:
    """Show the secret to a phone."""
    return await _enrol(request, principal)


@router.post("/second-factor/new")
async def enrol(request: Request, principal: SignedIn, code: Annotated[str, Form()] = "") -> Response:
    """Let the factor count if a code of the phone is right, and show the recovery codes, once."""
    _within(principal)
    panel = panel_of(request)
    if not _may_try(panel, principal):
        return await _enrol(request, principal, status=429, error=TOO_OFTEN)

    def confirm() -> list[str] | None:
        with work(panel.engine) as session:
            return second_factor.confirm(
                session, principal.user_id, code, actor=principal.login, ids=panel.ids, now=panel.clock.now()
            )

    codes = await run_in_threadpool(confirm)
    if codes is None:
        return await _enrol(request, principal, status=422, error=WRONG)
    _forgive(panel, principal)
    return show(request, principal, "recovery_codes.html", codes=codes, fresh=True)


@router.post("/second-factor/codes")
async def renew_codes(request: Request, principal: Inside, code: Annotated[str, Form()] = "") -> Response:
    """Show new recovery codes for a code of the phone; the old ones are worth nothing."""
    panel = panel_of(request)
    await _check_again(panel, principal, code)

    def renew() -> list[str]:
        with work(panel.engine) as session:
            return second_factor.renew_codes(
                session, principal.user_id, actor=principal.login, ids=panel.ids, now=panel.clock.now()
            )

    return show(request, principal, "recovery_codes.html", codes=await run_in_threadpool(renew), fresh=False)


@router.post("/second-factor/remove")
async def remove(request: Request, principal: Inside, code: Annotated[str, Form()] = "") -> Response:
    """Take the factor away, for a code of it: a browser left alone is not its owner."""
    panel = panel_of(request)
    await _check_again(panel, principal, code)

    def take_away() -> None:
        with work(panel.engine) as session:
            second_factor.take_away(session, principal.user_id, actor=principal.login, now=panel.clock.now())

    await run_in_threadpool(take_away)
    return flash(request, principal, "success", "Your second factor is taken away.", to="/me")


async def _enrol(request: Request, principal: Principal, *, status: int = 200, error: str = "") -> Response:
    _within(principal)
    panel = panel_of(request)

    def begin() -> tuple[str, str] | None:
        with work(panel.engine) as session:
            try:
                return second_factor.begin(
                    session, principal.user_id, principal.login, ids=panel.ids, now=panel.clock.now()
                )
            except Conflict:
                return None

    begun = await run_in_threadpool(begin)
    if begun is None:
        return RedirectResponse("/me", 303)
    secret, address = begun
    picture = segno.make(address, error="m").svg_inline(scale=5, border=3, svgclass="qr", lineclass="qr-line")
    return show(
        request,
        principal,
        "second_factor_new.html",
        status=status,
        error=error,
        # Made by us of text that the library has encoded into squares: nothing of it is anybody's markup.
        picture=Markup(picture),  # noqa: S704
        secret=" ".join(secret[at : at + GROUP] for at in range(0, len(secret), GROUP)),
    )


def _within(principal: Principal) -> None:
    """A factor is set up by a session that lacks nothing, or nothing but a factor."""
    if principal.lacks not in {None, Step.ENROL}:
        raise Unfinished(principal.lacks or Step.PROVE)


async def _check_again(panel: Panel, principal: Principal, code: str) -> None:
    if not _may_try(panel, principal):
        raise Forbidden(TOO_OFTEN)

    def check() -> bool:
        with work(panel.engine) as session:
            return second_factor.check(session, principal.user_id, code, now=panel.clock.now())

    if not await run_in_threadpool(check):
        raise Forbidden(WRONG)
    _forgive(panel, principal)


def _may_try(panel: Panel, principal: Principal) -> bool:
    """Count an attempt by the person, wherever it comes from: a million codes must not be tried by a thousand hosts."""
    return panel.throttle.admit(f"code of {principal.user_id}", f"person {principal.user_id}") <= 0


def _forgive(panel: Panel, principal: Principal) -> None:
    panel.throttle.succeed(f"code of {principal.user_id}", f"person {principal.user_id}")
