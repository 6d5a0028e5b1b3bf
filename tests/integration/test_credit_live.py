"""The board of live calls and the hang-ups asked for through Redis, on fakeredis and on a real server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from billing.credit.live import HangupRequest, LiveCalls, LiveCallView
from billing.credit.store import connect

CALL = LiveCallView(
    call_id="pbx:1.1",
    switch="pbx",
    account_id=7,
    account="anna",
    direction="outbound",
    caller='"<script>" \r\nEvent: Hangup\u2028\ud800',
    callee="4930123",
    destination="Germany",
    state="talking",
    offered_ms=1000,
    answered_ms=None,
    limit_ms=60_000,
    held_micros=2**53 - 1,
    currency="EUR",
)
REQUEST = HangupRequest("pbx:1.1", "owner", "fraud\r\n")


class MovableClock:
    """A clock a test sets."""

    def __init__(self) -> None:
        self.at = datetime(2027, 1, 15, 8, tzinfo=UTC)

    def now(self) -> datetime:
        """The moment it was set to."""
        return self.at

    def monotonic(self) -> float:
        """Nobody asks."""
        return 0.0


@pytest.fixture
def live(redis: Redis) -> LiveCalls:
    """An empty board."""
    return LiveCalls(redis)


async def test_a_call_is_shown_as_it_was_put(live: LiveCalls) -> None:
    """Every value comes back to the digit and the character; shown anew it is one call; removed it is none."""
    await live.put(CALL)
    assert await live.list() == [CALL]
    answered = replace(CALL, answered_ms=5, state="talking")
    await live.put(answered)
    assert await live.list() == [answered]
    await live.remove(CALL.call_id)
    await live.remove(CALL.call_id)
    assert await live.list() == []


async def test_the_oldest_come_first_and_only_so_many(live: LiveCalls) -> None:
    """A page of the board, of everybody or of one account."""
    calls = [replace(CALL, call_id=f"pbx:{n}", offered_ms=9 - n, account_id=n % 2) for n in range(6)]
    for call in calls:
        await live.put(call)
    assert await live.list() == calls[::-1]
    assert await live.list(most=2) == [calls[5], calls[4]]
    assert await live.list(account_id=0) == [calls[4], calls[2], calls[0]]
    assert await live.list(account_id=0, most=1) == [calls[4]]
    assert await live.list(account_id=5) == []


async def test_a_controller_that_starts_sets_its_own_switch(live: LiveCalls, redis: Redis) -> None:
    """Calls of other switches stay; what its former self had shown goes, from the account's list too."""
    other = replace(CALL, call_id="fs:1", switch="fs")
    old, new = replace(CALL, call_id="pbx:old"), replace(CALL, call_id="pbx:new")
    for call in (other, old, new):
        await live.put(call)
    await live.hide_others("pbx", {"pbx:new"})
    assert sorted(call.call_id for call in await live.list()) == ["fs:1", "pbx:new"]
    assert sorted(call.call_id for call in await live.list(account_id=7)) == ["fs:1", "pbx:new"]
    await live.hide_others("pbx", ())
    await live.hide_others("fs", ())
    assert await redis.keys("*") == []


async def test_a_hangup_is_heard_once_in_order(live: LiveCalls) -> None:
    """Requests come in the order they were made."""
    await live.ask_hangup(REQUEST)
    await live.ask_hangup(replace(REQUEST, call_id="*account:7"))
    hangups = live.hangups()
    assert await anext(hangups) == REQUEST
    assert await anext(hangups) == replace(REQUEST, call_id="*account:7")
    waiting = asyncio.ensure_future(anext(hangups))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await live.ask_hangup(REQUEST)
    assert await waiting == REQUEST
    await hangups.aclose()  # type: ignore[attr-defined]


async def test_a_hangup_nobody_heard_for_a_minute_is_lost(redis: Redis) -> None:
    """An old request must not end the call that somebody else has by now."""
    clock = MovableClock()
    live = LiveCalls(redis, clock=clock)
    await live.ask_hangup(replace(REQUEST, actor="too old"))
    clock.at += timedelta(seconds=1)
    await live.ask_hangup(REQUEST)
    clock.at += timedelta(seconds=60)
    hangups = live.hangups()
    assert await anext(hangups) == REQUEST
    await hangups.aclose()  # type: ignore[attr-defined]


async def test_only_so_many_hangups_wait(live: LiveCalls, redis: Redis) -> None:
    """With no controller the list does not grow without end."""
    for _ in range(1005):
        await live.ask_hangup(REQUEST)
    assert await redis.llen("{callctl}:hangups") == 1000


async def test_listening_in_silence_is_no_error(server_url: str) -> None:
    """A blocking pop ends before the client's own time-out, however short that is, and goes on listening."""
    redis = connect(server_url, 0.2)
    await redis.flushall()
    live = LiveCalls(redis)
    hangups = live.hangups()
    waiting = asyncio.ensure_future(anext(hangups))
    await asyncio.sleep(0.7)
    await live.ask_hangup(REQUEST)
    async with asyncio.timeout(0.4):
        assert await waiting == REQUEST
    await redis.aclose()


async def test_the_last_beat_of_each_switch(live: LiveCalls) -> None:
    """The panel sees how each link was when last heard of."""
    assert await live.beats() == {}
    await live.beat("pbx", "connected", now_ms=1)
    await live.beat("fs", "connected", now_ms=2)
    await live.beat("pbx", "down", now_ms=3)
    assert await live.beats() == {"pbx": ("down", 3), "fs": ("connected", 2)}
