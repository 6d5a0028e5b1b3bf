"""What a person sees when something went wrong: one plain sentence, a way on, and a number for the log."""

from __future__ import annotations

import traceback
from http import HTTPStatus

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from billing.errors import BillingError, CreditUnavailable, NotFound
from web.api.problems import problem
from web.context import panel_of
from web.pages import is_fragment, show_bare
from web.security.bodies import TOO_LARGE, in_words
from web.security.sessions import Forbidden, NotSignedIn, Unfinished, to_login

log = structlog.get_logger("web")

SENTENCES = {
    400: ("Not understood", "The address or the form holds a value that this page cannot use."),
    403: ("Not allowed", "You may not do this."),
    404: ("Not found", "There is nothing at this address. It may have been a call or an account that does not exist."),
    405: ("Not like this", "This address does not take that kind of request."),
    503: ("Not available now", "A part that this page needs does not answer. Calls are controlled without this page."),
}
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"})
API = "/api/v1/"


def error_page(request: Request, status: int, text: str = "", *, fault: str = "") -> Response:
    """Return an error as a page, or as a notice where a fragment was asked for."""
    title, sentence = SENTENCES.get(status, (HTTPStatus(status).phrase, "This did not work."))
    template = "_error.html" if is_fragment(request) else "error.html"
    seen_by = getattr(request.state, "principal", None)
    return show_bare(
        request,
        template,
        status=status,
        code=status,
        title=title,
        text=text or sentence,
        fault=fault,
        brand=seen_by.brand if seen_by else "",
    )


async def _not_signed_in(request: Request, _: Exception) -> Response:
    return to_login(request)


async def _unfinished(request: Request, error: Exception) -> Response:
    to = error.step.value if isinstance(error, Unfinished) else "/password"
    if is_fragment(request):
        return Response(status_code=401, headers={"hx-redirect": to})
    return RedirectResponse(to, 303)


async def _forbidden(request: Request, error: Exception) -> Response:
    return error_page(request, 403, str(error))


async def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    if request.url.path.startswith(API):
        return problem("not_found")  # an address so odd that it did not even get there
    return error_page(request, status)


async def _billing(request: Request, error: Exception) -> Response:
    match error:
        case NotFound():
            return error_page(request, 404)
        case CreditUnavailable():
            return error_page(request, 503, "The live credit store does not answer. Live calls keep their deadlines.")
        case _:
            return error_page(request, 409, str(error))


async def _store(request: Request, error: Exception) -> Response:
    if not isinstance(error, DBAPIError):
        raise error
    log.error("the store failed", error=type(error.orig).__name__, path=request.url.path)
    return error_page(
        request, 503, "The store does not answer. Ended calls wait in the controller's journal meanwhile."
    )


def handle_errors(app: FastAPI) -> None:
    """Register the answers to everything that is expected to go wrong."""
    app.add_exception_handler(NotSignedIn, _not_signed_in)
    app.add_exception_handler(Unfinished, _unfinished)
    app.add_exception_handler(Forbidden, _forbidden)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _http)
    app.add_exception_handler(BillingError, _billing)
    app.add_exception_handler(SQLAlchemyError, _store)


class Faults:
    """The edge of a request: counts it, and turns what nobody expected into a page with a number that is in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer 500 where nothing has been answered yet."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        clock = panel_of(request).clock
        began = clock.monotonic()
        answered = False

        async def watched(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and not answered:
                answered = True
                _count(request, int(message["status"]), clock.monotonic() - began)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            fault = panel_of(request).ids.new("fault")
            # A trace as text: loggers that draw local variables would write down passwords.
            trace = traceback.format_exc()
            log.error(  # noqa: TRY400 - the trace goes as text
                "a page broke", fault=fault, path=scope["path"], method=scope["method"], trace=trace
            )
            if answered:
                raise
            await _broken(request, fault)(scope, receive, watched)


def _broken(request: Request, fault: str) -> Response:
    if request.url.path.startswith(API):
        return problem("fault", fault=fault)
    return error_page(request, 500, "Something broke on our side. It has been written down.", fault=fault)


def refuse_body(path: str, status: int) -> Response:
    """Return the answer to a body that is too large or too slow, in the words of who sent it."""
    if path.startswith(API):
        return problem("body_too_large" if status == TOO_LARGE else "timeout", headers={"connection": "close"})
    return in_words(path, status)


def _count(request: Request, status: int, seconds: float) -> None:
    route = getattr(request.scope.get("route"), "path", "unmatched")
    if request.scope["path"].startswith(API):
        route = f"{API}{route.removeprefix('/')}"
    method = request.method if request.method in KNOWN_METHODS else "other"
    counters = panel_of(request).counters
    counters.requests.labels(route, method, f"{status // 100}xx").inc()
    counters.seconds.labels(route).observe(seconds)
