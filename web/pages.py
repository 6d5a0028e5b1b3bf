"""Putting a page together: who looks at it, what waits to be said, and what every page needs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from web.context import panel_of
from web.security.sessions import FLASH_COOKIE, Principal, read_flash


def is_fragment(request: Request) -> bool:
    """Return whether htmx asks for a part of a page."""
    return request.headers.get("hx-request") == "true"


def show(request: Request, principal: Principal, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page or fragment for someone signed in. A whole page says the message that waits, once."""
    message = None if is_fragment(request) else read_flash(request, principal)
    parts = {"principal": principal, "path": request.url.path, "flash": message} | context
    response = panel_of(request).renderer.page(template, parts, status=status)
    if message is not None:
        response.delete_cookie(FLASH_COOKIE, path="/")
    return response


def show_bare(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page for whoever asks: login and errors."""
    return panel_of(request).renderer.page(template, context, status=status)
