"""Posting an event: signed as Standard Webhooks says, to the address that was checked, following nothing."""

from __future__ import annotations

import asyncio
import ssl
from datetime import datetime

import httpx2
import orjson
from standardwebhooks import Webhook

from billing.errors import Refused
from billing.events.addresses import Forbidden, Networks, Resolve, find_target, resolve
from billing.events.deliveries import Due, Result

TIMEOUT_S = 15.0
"""For all of a post; a receiver should answer first and work later."""
MOST_READ = 256
"""Bytes of an answer that are kept, to show a person what went wrong."""
GONE = 410
AGENT = "callctl-webhooks/1"


def message_id(event_id: int) -> str:
    """Return the id under which a listener may see that it has heard an event already."""
    return f"evt_{event_id}"


def body_of(due: Due) -> bytes:
    """Return what is posted: the same bytes at every try."""
    return orjson.dumps({"type": due.kind, "timestamp": due.happened_at.isoformat(), "data": due.data})


def headers_of(due: Due, body: bytes, now: datetime) -> dict[str, str]:
    """Return the headers that say who posts, when, and that nothing was changed on the way."""
    name = message_id(due.event_id)
    return {
        "content-type": "application/json",
        "user-agent": AGENT,
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(due.secret).sign(name, now, body.decode()),
    }


class Poster:
    """Posts events. `allowed` are networks besides the open internet; `verify` is for tests with a CA of their own."""

    def __init__(self, *, allowed: Networks = (), ask: Resolve = resolve, verify: ssl.SSLContext | bool = True) -> None:
        self._allowed, self._ask = allowed, ask
        # No connection is kept: the next post to the same name may have to go elsewhere.
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=0)
        self._client = httpx2.AsyncClient(
            verify=verify, limits=limits, timeout=httpx2.Timeout(TIMEOUT_S), follow_redirects=False, trust_env=False
        )

    async def close(self) -> None:
        """Let go of what is open."""
        await self._client.aclose()

    async def post(self, due: Due, *, now: datetime) -> Result:
        """Post one event and say how it went; never raises for what the other side does."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(due, now)
        except TimeoutError:
            return Result(False, f"no answer within {TIMEOUT_S:.0f} s")
        except (Forbidden, Refused) as why:
            return Result(False, f"not sent: {why}")
        except (httpx2.HTTPError, OSError, ValueError) as error:
            return Result(False, f"{type(error).__name__}: {error}"[:300])

    async def _post(self, due: Due, now: datetime) -> Result:
        target = await find_target(due.address, allowed=self._allowed, ask=self._ask)
        body = body_of(due)
        headers = headers_of(due, body, now) | {"host": target.netloc}
        request = self._client.build_request(
            "POST", target.url, content=body, headers=headers, extensions={"sni_hostname": target.host}
        )
        response = await self._client.send(request, stream=True)
        try:
            kept = b""
            async for chunk in response.aiter_raw(MOST_READ):
                kept = chunk[:MOST_READ]
                break
        finally:
            await response.aclose()
        if response.is_success:
            return Result(True, str(response.status_code))
        said = kept.decode("utf-8", "replace").strip()
        answer = f"{response.status_code} {said}".strip()
        return Result(False, _visible(answer), gone=response.status_code == GONE)


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:300]
