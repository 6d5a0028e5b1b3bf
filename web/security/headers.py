"""What every response says to the browser: load nothing from elsewhere, frame nothing, guess nothing."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = "; ".join(  # noqa: FLY002 - one rule a line is what a reader checks
    (
        "default-src 'self'",
        "img-src 'self' data:",  # the style sheet draws its check marks and arrows as data: pictures
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""No inline script and no inline style: whatever a caller smuggles into a page stays text."""

ALWAYS = (
    ("content-security-policy", CONTENT_POLICY),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
HSTS = ("strict-transport-security", "max-age=31536000")


class SecurityHeaders:
    """Puts the headers on every response; pages are never cached unless their route says so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and dress its response."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in ALWAYS:
                    headers[name] = value
                if scope.get("scheme") == "https":
                    headers[HSTS[0]] = HSTS[1]
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self.app(scope, receive, dressed)
