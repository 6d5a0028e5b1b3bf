"""What is happening right now, through Redis: the live calls a panel shows, and the hang-ups it asks for.

So the web sees calls without knowing the controller, and the controller is asked without knowing the web.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from redis.asyncio import Redis


@dataclass(frozen=True, slots=True)
class LiveCallView:
    """A call as the panel shows it. Times are epoch ms; `limit_ms` is when it will be cut unless extended."""

    call_id: str
    switch: str
    account_id: int
    account: str
    direction: str
    caller: str
    callee: str
    destination: str
    state: str
    """ringing or talking"""
    offered_ms: int
    answered_ms: int | None
    limit_ms: int | None
    held_micros: int
    currency: str


@dataclass(frozen=True, slots=True)
class HangupRequest:
    """A person wants a call ended. `call_id` "*account:<id>" means every call of an account."""

    call_id: str
    actor: str
    reason: str


class LiveCalls:
    """The hash `live` and the list `hangups` under the same prefix as the credit store."""

    def __init__(self, redis: Redis, *, prefix: str = "callctl") -> None:
        raise NotImplementedError

    async def put(self, call: LiveCallView) -> None:
        """Show a call, or show it anew."""
        raise NotImplementedError

    async def remove(self, call_id: str) -> None:
        """Take a call off the board."""
        raise NotImplementedError

    async def list(self, *, account_id: int | None = None, most: int = 1000) -> list[LiveCallView]:
        """Return live calls, oldest first."""
        raise NotImplementedError

    async def replace_all(self, switch: str, calls: list[LiveCallView]) -> None:
        """Set what is shown for one switch (at a controller's start)."""
        raise NotImplementedError

    async def ask_hangup(self, request: HangupRequest) -> None:
        """Ask the controller to end a call; lost after a minute if none listens."""
        raise NotImplementedError

    async def hangups(self) -> AsyncIterator[HangupRequest]:
        """Yield requests as they come (blocking pop with a time-out, so that closing works)."""
        raise NotImplementedError
        yield HangupRequest("", "", "")

    async def beat(self, switch: str, status: str, *, now_ms: int) -> None:
        """Say that a controller is alive and how its link to a switch is (connected, down)."""
        raise NotImplementedError

    async def beats(self) -> dict[str, tuple[str, int]]:
        """Return per switch the last status and when (epoch ms)."""
        raise NotImplementedError
