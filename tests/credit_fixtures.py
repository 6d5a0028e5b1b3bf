"""Live credit under test: every test that asks for `redis` runs on fakeredis and on a real server of our own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from fakeredis import FakeAsyncRedis
from redis.asyncio import Redis

from billing.credit.embedded import start_embedded
from billing.credit.store import AccountState, CreditStore, Held, NotHeld, Share, WalletState, connect

LARGEST = 2**53 - 1
NOW_MS = 1_800_000_000_000
DEADLINE_MS = NOW_MS + 60_000


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A real server for this test run."""
    with tempfile.TemporaryDirectory(prefix="callctl-") as folder:
        server = start_embedded(Path(folder))
        yield server.url
        server.stop()


@pytest.fixture(params=["fakeredis", "server"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    """A client of an empty store."""
    if request.param == "fakeredis":
        client: Redis = FakeAsyncRedis(decode_responses=True)
    else:
        client = connect(request.getfixturevalue("server_url"))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def credit(redis: Redis) -> CreditStore:
    """An empty credit store."""
    return CreditStore(redis)


async def open_wallet(
    credit: CreditStore,
    wallet_id: int,
    balance_micros: int,
    *,
    account_id: int | None = None,
    credit_limit_micros: int = 0,
    seq: int = 0,
    status: str = "active",
    max_calls: int | None = None,
    max_cps: int | None = None,
) -> None:
    """Set a wallet and its account (of the same number unless told)."""
    await credit.sync_account(AccountState(account_id or wallet_id, status, max_calls, max_cps))
    assert await credit.sync_wallet(WalletState(wallet_id, balance_micros, seq, credit_limit_micros))


def shares(*amounts: tuple[int, int]) -> list[Share]:
    """Make shares of (wallet, amount); the account has the wallet's number."""
    return [Share(wallet_id, wallet_id, amount_micros) for wallet_id, amount_micros in amounts]


async def hold(
    credit: CreditStore, call_id: str, wanted: Sequence[Share], *, now_ms: int = NOW_MS, facts: str = "{}"
) -> Held | NotHeld:
    """Hold with the usual times."""
    return await credit.hold(call_id, wanted, now_ms=now_ms, deadline_ms=DEADLINE_MS, facts=facts)


async def extend(credit: CreditStore, call_id: str, wanted: Sequence[Share]) -> Held | NotHeld:
    """Extend to a minute after the usual deadline."""
    return await credit.extend(call_id, wanted, now_ms=NOW_MS, deadline_ms=DEADLINE_MS + 60_000)


async def everything(redis: Redis) -> dict[str, object]:
    """Return all that Redis keeps, to show that a refused action changed nothing."""
    kept: dict[str, object] = {}
    for name in sorted(await redis.keys("*")):
        key = str(name)
        match await redis.type(key):
            case "hash":
                kept[key] = await redis.hgetall(key)
            case "zset":
                kept[key] = await redis.zrange(key, 0, -1, withscores=True)
            case "list":
                kept[key] = await redis.lrange(key, 0, -1)
            case _:
                kept[key] = await redis.get(key)
    return kept


async def held_micros(credit: CreditStore, wallet_id: int) -> int:
    """Return what is held of a wallet."""
    view = await credit.wallet(wallet_id)
    assert view is not None
    return view.held_micros


async def balance_micros(credit: CreditStore, wallet_id: int) -> int:
    """Return the balance of a wallet."""
    view = await credit.wallet(wallet_id)
    assert view is not None
    return view.balance_micros
