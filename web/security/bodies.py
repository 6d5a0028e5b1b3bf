"""How large a request may be, and how long it may take to arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10.0
LARGE_TIMEOUT_S = 180.0
LARGE_AT_ONCE = 2
LARGE_BYTES = 1024 * 1024
"""A body that may be larger is a file: it takes its time, and few of them are in memory at once."""
TOO_LARGE = 413


class BodyTooLarge(Exception):
    """More bytes than a form of ours can have."""


def in_words(path: str, status: int) -> Response:  # noqa: ARG001 - an app may answer otherwise for some paths
    """Return the refusal as a sentence; the connection ends, since the rest of the body may still be on its way."""
    text = "The request is too large.\n" if status == TOO_LARGE else "The request did not arrive in time.\n"
    return PlainTextResponse(text, status, {"connection": "close"})


class BodyLimit:
    """Reads the body before anything else sees the request: 413 beyond 64 KB, 408 where it does not arrive in time.

    `larger`: beginnings of paths that programs post to, and how much these take. `unread`: paths that
    look at who is asking first, then read and count by themselves. `refuse` makes the answer for a path and a status.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        most_bytes: int = MOST_BODY_BYTES,
        timeout_s: float = BODY_TIMEOUT_S,
        larger: Mapping[str, int] = MappingProxyType({}),
        unread: Collection[str] = (),
        refuse: Callable[[str, int], Response] = in_words,
    ) -> None:
        self.app = app
        self.most_bytes = most_bytes
        self.larger = larger
        self.unread = unread
        self.refuse = refuse
        self.timeout_s = timeout_s
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Buffer the body, then hand it on as one message."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"} or scope["path"] in self.unread:
            await self.app(scope, receive, send)
            return
        if self._most(scope) > LARGE_BYTES:
            async with self._large:
                await self._whole(scope, receive, send, LARGE_TIMEOUT_S)
        else:
            await self._whole(scope, receive, send, self.timeout_s)

    async def _whole(self, scope: Scope, receive: Receive, send: Send, timeout_s: float) -> None:
        try:
            body = await asyncio.wait_for(self._read(scope, receive), timeout_s)
        except BodyTooLarge:
            await self.refuse(scope["path"], 413)(scope, receive, send)
            return
        except TimeoutError:
            await self.refuse(scope["path"], 408)(scope, receive, send)
            return
        if body is None:
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    def _most(self, scope: Scope) -> int:
        own = (most for path, most in self.larger.items() if scope["path"].startswith(path))
        return next(own, self.most_bytes)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        most_bytes = self._most(scope)
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > most_bytes):
                raise BodyTooLarge
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            if size > most_bytes:
                raise BodyTooLarge
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(parts)
