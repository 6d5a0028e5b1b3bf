"""When Redis is away, slow, restarted or has forgotten its scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from billing.credit.embedded import start_embedded
from billing.credit.store import CreditStore, Held, WalletState, WalletView, connect
from billing.errors import CreditUnavailable
from tests.credit_fixtures import NOW_MS, everything, hold, open_wallet, shares


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """A server that takes connections and never says a word."""
    server = await asyncio.start_server(lambda _reader, _writer: asyncio.sleep(30), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    yield f"redis://{host}:{port}"
    server.close()


async def test_a_server_that_says_nothing_is_unavailable_in_time(silent: str) -> None:
    """Every call ends: after two tries at most."""
    redis = connect(silent, 0.2)
    credit = CreditStore(redis)
    started = time.monotonic()
    with pytest.raises(CreditUnavailable):
        await hold(credit, "s:1", shares((1, 1)))
    with pytest.raises(CreditUnavailable):
        await credit.wallet(1)
    assert time.monotonic() - started < 3
    await redis.aclose()


async def test_no_server_is_unavailable(tmp_path: Path) -> None:
    """Every operation says so in the same way."""
    redis = connect(f"unix://{tmp_path}/nobody.sock", 0.2)
    credit = CreditStore(redis)
    for operation in (
        credit.extend("s:1", shares((1, 1)), now_ms=NOW_MS, deadline_ms=NOW_MS),
        credit.finish("s:1", shares((1, 1)), now_ms=NOW_MS),
        credit.release("s:1", now_ms=NOW_MS),
        credit.apply(1, 1, 1),
        credit.sync_wallet(WalletState(1, 1, 1, 1)),
        credit.holds(),
        credit.overdue(NOW_MS),
        credit.calls_of(1),
        credit.ping(),
        credit.durable(),
        credit.empty(),
    ):
        with pytest.raises(CreditUnavailable, match="does not answer"):
            await operation
    await redis.aclose()


async def test_forgotten_scripts_are_loaded_again(credit: CreditStore, redis: Redis) -> None:
    """After SCRIPT FLUSH (a restart, a failover) each operation works at once, alone and in a batch."""
    await open_wallet(credit, 1, 100)
    assert await hold(credit, "s:1", shares((1, 60))) == Held()
    await redis.script_flush()
    assert await hold(credit, "s:2", shares((1, 20))) == Held()
    await redis.script_flush()
    assert await credit.sync_wallets([WalletState(n, 5, 0, 0) for n in (2, 3)]) == [True, True]
    await redis.script_flush()
    assert await credit.release("s:1", now_ms=NOW_MS)


async def test_a_restarted_server_is_found_again(tmp_path: Path) -> None:
    """The first call after a restart works, and listeners go on hearing."""
    server = start_embedded(tmp_path)
    redis = connect(server.url, 1.0)
    credit = CreditStore(redis)
    await open_wallet(credit, 7, 100)
    wakes = credit.wakes()
    heard = asyncio.ensure_future(anext(wakes))
    await asyncio.sleep(0.1)
    server.stop()
    server = start_embedded(tmp_path)
    try:
        assert await credit.wallet(7) == WalletView(7, 100, 0, 0, 0)
        async with asyncio.timeout(10):
            balance = 100
            while not heard.done():
                balance += 1
                await credit.sync_wallet(WalletState(7, balance, 0, 0))
                await asyncio.sleep(0.05)
        assert heard.result() == 7
    finally:
        await redis.aclose()
        server.stop()


async def test_a_lost_answer_changes_nothing(credit: CreditStore, redis: Redis) -> None:
    """Each operation told a second time, because its answer was lost, leaves what the first one left."""
    await open_wallet(credit, 1, 100)
    for _ in range(2):
        await hold(credit, "s:1", shares((1, 60)))
        kept = await everything(redis)
    for _ in range(2):
        await hold(credit, "s:1", shares((1, 60)))
        assert await everything(redis) == kept
    for step in (
        lambda: credit.extend("s:1", shares((1, 70)), now_ms=NOW_MS, deadline_ms=NOW_MS + 9),
        lambda: credit.finish("s:1", shares((1, 65)), now_ms=NOW_MS),
        lambda: credit.apply(1, 1, -65, call_id="s:1"),
        lambda: credit.sync_wallet(WalletState(1, 35, 1, 0)),
        lambda: credit.release("s:1", now_ms=NOW_MS),
    ):
        await step()
        kept = await everything(redis)
        await step()
        assert await everything(redis) == kept
    assert await credit.wallet(1) == WalletView(1, 35, 0, 0, 1)


async def test_calls_beyond_the_connections_wait_their_turn(server_url: str) -> None:
    """A burst of a thousand holds opens no thousand connections and loses none."""
    redis = connect(server_url)
    await redis.flushall()
    credit = CreditStore(redis)
    await open_wallet(credit, 1, 10_000)
    answers = await asyncio.gather(*(hold(credit, f"s:{n}", shares((1, 10))) for n in range(1000)))
    assert answers == [Held()] * 1000
    assert int((await redis.info("clients"))["connected_clients"]) <= 80
    assert await credit.wallet(1) == WalletView(1, 10_000, 10_000, 0, 0)
    await redis.aclose()
