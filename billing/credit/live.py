"""What is happening right now, through Redis: the live calls a panel shows, and the hang-ups it asks for.

So the web sees calls without knowing the controller, and the controller is asked without knowing the web.

Keys, under the hash tag of the credit store: `live` hash call → JSON · `live:at` zset call → offered ms ·
`live:at:<account>` the same for one account · `hangups` list of JSON, newest left · `beats` hash switch → JSON.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from billing.credit.client import CHUNK, RECONNECT_S, answers, client_timeout_s, reply
from billing.ports import Clock, SystemClock

HANGUP_LIVES_MS: Final = 60_000
"""A person has long looked elsewhere: the call may be another one's by now."""
MOST_HANGUPS: Final = 1000
BLOCK_S: Final = 1.0
"""How long one blocking pop waits; closing waits no longer."""


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
    short: bool = False
    """The money does not reach for more time: at `limit_ms` the call is cut, unless money comes."""


@dataclass(frozen=True, slots=True)
class HangupRequest:
    """A person wants a call ended. `call_id` "*account:<id>" means every call of an account."""

    call_id: str
    actor: str
    reason: str


class LiveCalls:
    """The hash `live` and the list `hangups` under the same prefix as the credit store.

    `clock` dates hang-up requests. Every call has the client's time-out; no server is `CreditUnavailable`.
    """

    def __init__(self, redis: Redis, *, prefix: str = "callctl", clock: Clock | None = None) -> None:
        self._redis = redis
        self._base = f"{{{prefix}}}:"
        self._live = self._base + "live"
        self._clock = clock or SystemClock()

    async def put(self, call: LiveCallView) -> None:
        """Show a call, or show it anew."""
        with answers():
            async with self._redis.pipeline(transaction=True) as pipe:
                self._show(pipe, [call])
                await pipe.execute()

    async def remove(self, call_id: str) -> None:
        """Take a call off the board."""
        with answers():
            kept = await reply(self._redis.hget(self._live, call_id))
            if kept is None:
                return
            async with self._redis.pipeline(transaction=True) as pipe:
                self._hide(pipe, [(call_id, _view(kept).account_id)])
                await pipe.execute()

    async def update(self, show: Sequence[LiveCallView], hide: Sequence[tuple[str, int]]) -> None:
        """Show and take off many calls in one round trip; `hide` are (call_id, account_id)."""
        if not show and not hide:
            return
        with answers():
            async with self._redis.pipeline(transaction=True) as pipe:
                self._hide(pipe, hide)
                self._show(pipe, show)
                await pipe.execute()

    async def list(self, *, account_id: int | None = None, most: int = 1000) -> list[LiveCallView]:
        """Return live calls, oldest first."""
        with answers():
            call_ids = await reply(self._redis.zrange(self._order_key(account_id), 0, most - 1))
            return [*await self._views(call_ids)]

    async def find(self, call_id: str) -> LiveCallView | None:
        """Return one live call, None where it is not up."""
        with answers():
            kept = await reply(self._redis.hget(self._live, call_id))
        return None if kept is None else _view(kept)

    async def hide_others(self, switch: str, calls: Container[str]) -> None:
        """Take off what is shown of a switch but for these calls (at a controller's start)."""
        with answers():
            shown = await reply(self._redis.hkeys(self._live))
            others = [one for one in shown if one.partition(":")[0] == switch and one not in calls]
            for start in range(0, len(others), CHUNK):
                views = await self._views(others[start : start + CHUNK])
                await self.update([], [(view.call_id, view.account_id) for view in views])

    async def ask_hangup(self, request: HangupRequest) -> None:
        """Ask the controller to end a call; lost after a minute if none listens."""
        asked = json.dumps({**asdict(request), "asked_ms": self._now_ms()})
        with answers():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.lpush(self._base + "hangups", asked)
                pipe.ltrim(self._base + "hangups", 0, MOST_HANGUPS - 1)
                pipe.pexpire(self._base + "hangups", HANGUP_LIVES_MS)
                await pipe.execute()

    async def hangups(self) -> AsyncIterator[HangupRequest]:
        """Yield requests as they come (blocking pop with a time-out, so that closing works).

        A lost connection is made anew; a request that was on its way just then is lost, and the person asks again.
        """
        # The pop must end before the client takes the silence for a dead server.
        block_s = min(BLOCK_S, client_timeout_s(self._redis) / 2)
        while True:
            try:
                popped = await reply(self._redis.brpop([self._base + "hangups"], timeout=block_s))
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(RECONNECT_S)
                continue
            if popped is None:
                continue
            asked = json.loads(popped[1])
            if self._now_ms() - asked.pop("asked_ms") <= HANGUP_LIVES_MS:
                yield HangupRequest(**asked)

    async def beat(self, switch: str, status: str, *, now_ms: int) -> None:
        """Say that a controller is alive and how its link to a switch is (connected, down)."""
        with answers():
            await reply(self._redis.hset(self._base + "beats", switch, json.dumps([status, now_ms])))

    async def beats(self) -> dict[str, tuple[str, int]]:
        """Return per switch the last status and when (epoch ms)."""
        with answers():
            kept = await reply(self._redis.hgetall(self._base + "beats"))
        return {switch: (status, int(at_ms)) for switch, (status, at_ms) in _decoded(kept)}

    async def leaders(self, switches: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Return of each switch which controller leads it and which waits to take over; "" where none does."""
        names = list(switches)
        keys = [f"{self._base}{kind}:{switch}" for switch in names for kind in ("lease", "standby")]
        if not keys:
            return {}
        with answers():
            found = await reply(self._redis.mget(keys))
        pairs = zip(found[::2], found[1::2], strict=True)
        return {switch: (leader or "", waits or "") for switch, (leader, waits) in zip(names, pairs, strict=True)}

    def _show(self, pipe: Pipeline, calls: Iterable[LiveCallView]) -> None:
        views: list[str] = []
        orders: dict[str, list[str | int]] = {}
        for call in calls:
            views += (call.call_id, _text(call))
            for key in (self._order_key(None), self._order_key(call.account_id)):
                orders.setdefault(key, []).extend((call.offered_ms, call.call_id))
        if views:
            pipe.execute_command("HSET", self._live, *views)
        for key, order in orders.items():
            pipe.execute_command("ZADD", key, *order)

    def _hide(self, pipe: Pipeline, calls: Iterable[tuple[str, int]]) -> None:
        gone: dict[str, list[str]] = {}
        for call_id, account_id in calls:
            for key in (self._order_key(None), self._order_key(account_id)):
                gone.setdefault(key, []).append(call_id)
        if gone:
            pipe.hdel(self._live, *gone[self._order_key(None)])
        for key, call_ids in gone.items():
            pipe.zrem(key, *call_ids)

    async def _views(self, call_ids: Iterable[str]) -> Sequence[LiveCallView]:
        wanted = [*call_ids]
        found = []
        for start in range(0, len(wanted), CHUNK):
            kept = await reply(self._redis.hmget(self._live, wanted[start : start + CHUNK]))
            found += [_view(text) for text in kept if text is not None]
        return found

    def _order_key(self, account_id: int | None) -> str:
        return f"{self._live}:at" if account_id is None else f"{self._live}:at:{account_id}"

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def _text(call: LiveCallView) -> str:
    try:
        return orjson.dumps(call).decode()
    except TypeError:
        # ASCII JSON: a name with half a surrogate pair must not stop a call from being shown.
        return json.dumps({name: getattr(call, name) for name in call.__slots__})


def _view(text: str) -> LiveCallView:
    kept = json.loads(text)
    # A newer controller may write more than this reader knows of.
    return LiveCallView(**{name: kept[name] for name in LiveCallView.__slots__ if name in kept})


def _decoded(kept: dict[str, str]) -> list[tuple[str, Any]]:
    return [(name, json.loads(text)) for name, text in kept.items()]
