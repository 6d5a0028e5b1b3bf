"""Holding: each answer of hold and extend, on fakeredis and on a real server."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from billing.credit.store import CreditStore, Held, HoldCode, NotHeld, OpenHold, Share
from tests.credit_fixtures import (
    DEADLINE_MS,
    LARGEST,
    NOW_MS,
    everything,
    extend,
    held_micros,
    hold,
    open_wallet,
    shares,
)


async def refused(
    redis: Redis, credit: CreditStore, wanted: list[Share], answer: NotHeld, *, call_id: str = "s:1"
) -> None:
    """A hold gets this answer and nothing changes."""
    before = await everything(redis)
    assert await hold(credit, call_id, wanted) == answer
    assert await everything(redis) == before


async def test_a_hold_takes_from_every_wallet_of_the_chain(credit: CreditStore) -> None:
    """Three levels hold their own amounts, and each account has one channel more in use."""
    for wallet_id in (1, 2, 3):
        await open_wallet(credit, wallet_id, 100)
    assert await hold(credit, "s:1", shares((1, 100), (2, 70), (3, 0)), facts='{"rate": 7}') == Held()
    assert [await held_micros(credit, wallet_id) for wallet_id in (1, 2, 3)] == [100, 70, 0]
    assert [await credit.calls_of(account_id) for account_id in (1, 2, 3)] == [1, 1, 1]
    expected = OpenHold(
        "s:1", tuple(shares((1, 100), (2, 70), (3, 0))), DEADLINE_MS, finished=False, facts='{"rate": 7}'
    )
    assert await credit.find_hold("s:1") == expected
    assert await credit.holds() == [expected]


@pytest.mark.parametrize("level", [0, 1, 2])
async def test_one_wallet_without_money_refuses_all(redis: Redis, credit: CreditStore, level: int) -> None:
    """The hold is made in every wallet or in none, and the answer names the level and what each has."""
    for wallet_id in (1, 2, 3):
        await open_wallet(credit, wallet_id, 99 if wallet_id == level + 1 else 500)
    available = tuple(99 if at == level else 500 for at in range(3))
    wanted = shares((1, 100), (2, 100), (3, 100))
    await refused(redis, credit, wanted, NotHeld(HoldCode.NO_MONEY, level, available))


async def test_the_credit_limit_counts_and_held_money_does_not(redis: Redis, credit: CreditStore) -> None:
    """Available = balance + credit limit − held, to the last micro-unit."""
    await open_wallet(credit, 1, -30, credit_limit_micros=100)
    assert await hold(credit, "s:1", shares((1, 50))) == Held()
    await refused(redis, credit, shares((1, 21)), NotHeld(HoldCode.NO_MONEY, 0, (20,)), call_id="s:2")
    assert await hold(credit, "s:2", shares((1, 20))) == Held()


async def test_what_costs_nothing_needs_no_money(credit: CreditStore) -> None:
    """A share of 0 is held by a wallet in debt."""
    await open_wallet(credit, 1, -5)
    assert await hold(credit, "s:1", shares((1, 0))) == Held()
    assert await credit.calls_of(1) == 1


async def test_ten_calls_at_once_on_money_for_three(credit: CreditStore) -> None:
    """Exactly three of ten simultaneous calls are admitted."""
    await open_wallet(credit, 1, 399)
    answers = await asyncio.gather(*(hold(credit, f"s:{n}", shares((1, 100))) for n in range(10)))
    assert sum(answer == Held() for answer in answers) == 3
    assert [answer for answer in answers if answer != Held()] == [NotHeld(HoldCode.NO_MONEY, 0, (99,))] * 7
    assert await held_micros(credit, 1) == 300
    assert await credit.calls_of(1) == 3


async def test_a_hold_told_twice_is_one_hold(redis: Redis, credit: CreditStore) -> None:
    """A retry after a lost answer changes nothing, even with other amounts, and counts no second channel."""
    await open_wallet(credit, 1, 150, max_calls=1)
    assert await hold(credit, "s:1", shares((1, 100))) == Held()
    before = await everything(redis)
    assert await hold(credit, "s:1", shares((1, 100))) == Held()
    assert await hold(credit, "s:1", shares((1, 140)), facts="other") == Held()
    assert await everything(redis) == before


async def test_a_call_that_is_over_is_never_held_again(redis: Redis, credit: CreditStore) -> None:
    """A hold or an extension that arrives late is refused, and so is one that arrives before it was ever made."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 40)))
    assert await credit.release("s:1", now_ms=NOW_MS)
    await hold(credit, "s:2", shares((1, 40)))
    assert await credit.finish("s:2", shares((1, 30)), now_ms=NOW_MS)
    assert not await credit.release("s:3", now_ms=NOW_MS)
    assert not await credit.finish("s:4", shares((1, 0)), now_ms=NOW_MS)
    before = await everything(redis)
    for call_id in ("s:1", "s:2", "s:3", "s:4"):
        available = (100,) if call_id == "s:2" else (70,)
        assert await hold(credit, call_id, shares((1, 1))) == NotHeld(HoldCode.ENDED, 0, available)
        assert await extend(credit, call_id, shares((1, 1))) == NotHeld(HoldCode.ENDED, 0, available)
    assert await everything(redis) == before


@pytest.mark.parametrize("status", ["blocked", "parked", "closed"])
async def test_an_account_that_is_not_active_makes_no_call(redis: Redis, credit: CreditStore, status: str) -> None:
    """Any level of the chain that is not active refuses the call, before money is looked at."""
    await open_wallet(credit, 1, 0)
    await open_wallet(credit, 2, 100, status=status)
    await refused(redis, credit, shares((1, 10), (2, 10)), NotHeld(HoldCode.INACTIVE, 1, (0, 100)))


async def test_an_account_has_so_many_channels(redis: Redis, credit: CreditStore) -> None:
    """The call beyond `max_calls` is refused until one ends; a limit of 0 refuses all."""
    await open_wallet(credit, 1, 100)
    await open_wallet(credit, 2, 100, max_calls=1)
    await open_wallet(credit, 3, 100, max_calls=0)
    chain = shares((1, 1), (2, 1))
    assert await hold(credit, "s:1", chain) == Held()
    await refused(redis, credit, chain, NotHeld(HoldCode.TOO_MANY_CALLS, 1, (99, 99)), call_id="s:2")
    await refused(redis, credit, shares((3, 1)), NotHeld(HoldCode.TOO_MANY_CALLS, 0, (100,)), call_id="s:2")
    await credit.release("s:1", now_ms=NOW_MS)
    assert await hold(credit, "s:2", chain) == Held()


async def test_an_account_makes_so_many_calls_per_second(redis: Redis, credit: CreditStore) -> None:
    """Admitted calls count, refused ones do not; the next second starts anew; a clock 2 s behind does not."""
    await open_wallet(credit, 1, 100, max_cps=2)
    assert await hold(credit, "s:1", shares((1, 1))) == Held()
    await refused(redis, credit, shares((1, 1000)), NotHeld(HoldCode.NO_MONEY, 0, (99,)), call_id="s:2")
    assert await hold(credit, "s:2", shares((1, 1)), now_ms=NOW_MS + 999) == Held()
    await refused(redis, credit, shares((1, 1)), NotHeld(HoldCode.TOO_FAST, 0, (98,)), call_id="s:3")
    before = await everything(redis)
    for behind_ms in (1, 1000, 2000):
        answer = await hold(credit, "s:3", shares((1, 1)), now_ms=NOW_MS - behind_ms)
        assert answer == NotHeld(HoldCode.TOO_FAST, 0, (98,))
    assert await everything(redis) == before
    assert await hold(credit, "s:3", shares((1, 1)), now_ms=NOW_MS + 1000) == Held()
    assert await hold(credit, "s:4", shares((1, 1)), now_ms=NOW_MS - 60_000) == Held()


async def test_the_checks_have_an_order(credit: CreditStore) -> None:
    """Status before channels, channels before calls per second, calls per second before money."""
    await open_wallet(credit, 1, 10, max_calls=1, max_cps=1)
    await hold(credit, "s:1", shares((1, 10)))
    much = shares((1, 1000))
    await open_wallet(credit, 1, 10, status="blocked", max_calls=1, max_cps=1)
    assert await hold(credit, "s:2", much) == NotHeld(HoldCode.INACTIVE, 0, (0,))
    await open_wallet(credit, 1, 10, max_calls=1, max_cps=1)
    assert await hold(credit, "s:2", much) == NotHeld(HoldCode.TOO_MANY_CALLS, 0, (0,))
    await open_wallet(credit, 1, 10, max_calls=2, max_cps=1)
    assert await hold(credit, "s:2", much) == NotHeld(HoldCode.TOO_FAST, 0, (0,))
    await open_wallet(credit, 1, 10, max_calls=2, max_cps=2)
    assert await hold(credit, "s:2", much) == NotHeld(HoldCode.NO_MONEY, 0, (0,))


async def test_a_wallet_or_account_redis_does_not_know(redis: Redis, credit: CreditStore) -> None:
    """The answer names the level to sync."""
    await open_wallet(credit, 1, 100)
    await refused(redis, credit, shares((1, 1), (2, 1)), NotHeld(HoldCode.UNKNOWN_WALLET, 1, (100, 0)))
    await refused(redis, credit, [Share(1, 9, 1)], NotHeld(HoldCode.UNKNOWN_WALLET, 0, (100,)))


async def test_a_wallet_named_twice_is_summed(redis: Redis, credit: CreditStore) -> None:
    """Two shares of one wallet need the money of both, and one account counts a call once."""
    await open_wallet(credit, 1, 100)
    await refused(redis, credit, shares((1, 60), (1, 41)), NotHeld(HoldCode.NO_MONEY, 1, (100, 100)))
    assert await hold(credit, "s:1", shares((1, 60), (1, 40))) == Held()
    assert await held_micros(credit, 1) == 100
    assert await credit.calls_of(1) == 1
    found = await credit.find_hold("s:1")
    assert found is not None
    assert found.shares == (Share(1, 1, 100),)


async def test_two_wallets_of_one_account_count_one_call(credit: CreditStore) -> None:
    """A bundle and the money of the same account are two shares and one channel."""
    await open_wallet(credit, 1, 100, account_id=7, max_calls=1)
    await open_wallet(credit, 2, 100, account_id=7, max_calls=1)
    assert await hold(credit, "s:1", [Share(1, 7, 60), Share(2, 7, 50)]) == Held()
    assert await credit.calls_of(7) == 1
    assert await credit.finish("s:1", [Share(1, 7, 60), Share(2, 7, 50)], now_ms=NOW_MS)
    assert await credit.calls_of(7) == 0


async def test_an_extension_raises_never_lowers(redis: Redis, credit: CreditStore) -> None:
    """Amounts are absolute: told twice is once, told late is nothing; deadline and facts move."""
    await open_wallet(credit, 1, 100)
    await open_wallet(credit, 2, 100)
    await hold(credit, "s:1", shares((1, 30), (2, 30)), facts="a")
    assert await extend(credit, "s:1", shares((1, 100), (2, 20))) == Held()
    found = await credit.find_hold("s:1")
    assert found == OpenHold("s:1", tuple(shares((1, 100), (2, 30))), DEADLINE_MS + 60_000, finished=False, facts="a")
    before = await everything(redis)
    assert await extend(credit, "s:1", shares((1, 100), (2, 20))) == Held()
    assert await extend(credit, "s:1", shares((1, 60), (2, 30))) == Held()
    assert await everything(redis) == before
    assert await held_micros(credit, 1) == 100
    assert await credit.extend("s:1", [], now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="b") == Held()
    found = await credit.find_hold("s:1")
    assert found is not None
    assert (found.deadline_ms, found.facts) == (DEADLINE_MS, "b")


async def test_an_extension_without_money_says_what_there_is(redis: Redis, credit: CreditStore) -> None:
    """`available` counts what the call holds itself, so the caller can ask for exactly that."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 30)))
    await hold(credit, "s:2", shares((1, 25)))
    before = await everything(redis)
    assert await extend(credit, "s:1", shares((1, 76))) == NotHeld(HoldCode.NO_MONEY, 0, (75,))
    assert await everything(redis) == before
    assert await extend(credit, "s:1", shares((1, 75))) == Held()


async def test_an_extension_needs_an_open_hold(redis: Redis, credit: CreditStore) -> None:
    """Nothing is held for a call that was never admitted."""
    await open_wallet(credit, 1, 100)
    before = await everything(redis)
    assert await extend(credit, "s:1", shares((1, 1))) == NotHeld(HoldCode.NO_HOLD, 0, (100,))
    assert await everything(redis) == before


async def test_a_blocked_account_keeps_its_live_calls(credit: CreditStore) -> None:
    """Status and limits are for new calls; an extension needs money only."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 30)))
    await open_wallet(credit, 1, 100, status="blocked", max_calls=0, max_cps=0)
    assert await extend(credit, "s:1", shares((1, 40))) == Held()
    assert await credit.calls_of(1) == 1


async def test_amounts_at_the_edge_of_doubles(redis: Redis, credit: CreditStore) -> None:
    """2^53 − 1 is held to the digit; 2^53 and sums beyond it are refused."""
    await open_wallet(credit, 1, LARGEST, credit_limit_micros=LARGEST)
    await refused(redis, credit, shares((1, LARGEST + 1)), NotHeld(HoldCode.TOO_LARGE, 0, (LARGEST,)))
    await refused(redis, credit, shares((1, 10**30)), NotHeld(HoldCode.TOO_LARGE, 0, (LARGEST,)))
    await refused(redis, credit, shares((1, LARGEST), (1, 1)), NotHeld(HoldCode.TOO_LARGE, 1, (LARGEST, LARGEST)))
    assert await hold(credit, "s:1", shares((1, LARGEST - 1))) == Held()
    assert await held_micros(credit, 1) == LARGEST - 1
    assert await hold(credit, "s:2", shares((1, 1))) == Held()
    assert await held_micros(credit, 1) == LARGEST
    await refused(redis, credit, shares((1, 1)), NotHeld(HoldCode.TOO_LARGE, 0, (LARGEST,)), call_id="s:3")


async def test_available_at_the_edge_of_doubles(credit: CreditStore) -> None:
    """What is available is exact wherever it can be said exactly, whatever its parts."""
    await open_wallet(credit, 1, -LARGEST, credit_limit_micros=LARGEST)
    assert await hold(credit, "s:1", shares((1, 1))) == NotHeld(HoldCode.NO_MONEY, 0, (0,))
    await open_wallet(credit, 2, LARGEST)
    assert await hold(credit, "s:2", shares((2, LARGEST))) == Held()
    await open_wallet(credit, 2, LARGEST, credit_limit_micros=3)
    assert await hold(credit, "s:3", shares((2, 4))) == NotHeld(HoldCode.TOO_LARGE, 0, (3,))


async def test_a_negative_share_is_a_mistake(credit: CreditStore) -> None:
    """A share below 0 would make money; it never reaches Redis."""
    with pytest.raises(ValueError, match="negative"):
        await hold(credit, "s:1", shares((1, -1)))


async def test_overdue_calls_are_those_past_their_deadline(credit: CreditStore) -> None:
    """A hold is overdue after its deadline, not at it; one that is finished waits for its posting and is not."""
    await open_wallet(credit, 1, 100)
    for call_id in ("s:1", "s:2", "s:3"):
        await hold(credit, call_id, shares((1, 10)))
    await credit.finish("s:2", shares((1, 5)), now_ms=NOW_MS)
    await extend(credit, "s:3", shares((1, 10)))
    assert await credit.overdue(DEADLINE_MS) == []
    assert await credit.overdue(DEADLINE_MS + 1) == ["s:1"]
    assert await credit.overdue(DEADLINE_MS + 60_001) == ["s:1", "s:3"]
    assert await credit.overdue(DEADLINE_MS + 60_001, most=1) == ["s:1"]
