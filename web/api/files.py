"""Files that are sent: read after the key was looked at, and no more of them than they can be."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from starlette.requests import Request

from web.api.problems import Problem

ARRIVES_IN_S: Final = 120.0


async def read_file(request: Request, kinds: Collection[str], most_bytes: int) -> bytes:
    """Return what is sent. Raises `Problem` media_unknown, body_too_large or timeout."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in kinds:
        raise Problem("media_unknown", f"Send it as {' or '.join(sorted(kinds))}.")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(ARRIVES_IN_S):
            async for part in request.stream():
                size += len(part)
                if size > most_bytes:
                    raise Problem("body_too_large", headers={"connection": "close"})
                parts.append(part)
    except TimeoutError:
        raise Problem("timeout", headers={"connection": "close"}) from None
    return b"".join(parts)
