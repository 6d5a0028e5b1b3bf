"""The connection to Redis (or Valkey) that everything of live credit uses: bounded, and with an end to every wait."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from billing.credit.batch import unavailable
from billing.credit.runs import Runs, greet

MOST_CONNECTIONS: Final = 64
CHUNK: Final = 500
"""How many commands travel together."""
WAKE_POLL_S: Final = 1.0
RECONNECT_S: Final = 0.5


def connect(url: str, timeout_s: float = 2.0, *, runs: Runs | None = None) -> Redis:
    """Make a client (redis://, rediss:// or unix://) on which every call ends: answered, tried twice, or an error.

    Every script may be told twice, so a lost answer is asked for again on a new connection. With `runs` no command
    reaches a server that was started again before that is known.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=MOST_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(ConstantBackoff(0.05), 1, (RedisConnectionError, RedisTimeoutError)),
        decode_responses=True,
        **({"redis_connect_func": partial(greet, runs=runs)} if runs else {}),
    )
    return Redis.from_pool(pool)


def client_timeout_s(redis: Redis) -> float:
    """Return how long a client waits for an answer."""
    return float(redis.connection_pool.connection_kwargs.get("socket_timeout") or 2 * WAKE_POLL_S)


async def reply(answer: Awaitable[Any] | Any) -> Any:
    """Await an answer: the client's types leave open whether a command is one."""
    return await answer


@contextmanager
def answers() -> Iterator[None]:
    """Turn whatever a client raises when Redis cannot be used into `CreditUnavailable`."""
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise unavailable(error) from error
