"""What an account's calls may cost in a day: held and charged within the limit, whatever happens at once."""

from __future__ import annotations

import asyncio
import random

import pytest
from redis.asyncio import Redis

from billing.credit.store import (
    AccountState,
    CreditStore,
    Days,
    Held,
    HoldCode,
    NotHeld,
    Share,
    WalletState,
)
from tests.credit_fixtures import DEADLINE_MS, NOW_MS, everything, held_micros

DAY = 739_000
TODAY = {7: DAY}


async def open_account(credit: CreditStore, max_day: int | None, *, spent: int = 0, balance: int = 10**9) -> None:
    """Account 1 with wallet 7, which has money enough."""
    await credit.sync_account(AccountState(1, "active", None, None, max_day, DAY, spent))
    await credit.sync_wallet(WalletState(7, balance, 0, 0))


async def take(
    credit: CreditStore, call: str, micros: int, *, days: Days = TODAY, mode: str = "hold"
) -> Held | NotHeld:
    shares = [Share(7, 1, micros)]
    if mode == "extend":
        return await credit.extend(call, shares, now_ms=NOW_MS, deadline_ms=DEADLINE_MS, days=days)
    return await credit.hold(
        call, shares, now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="{}", adopting=mode == "adopt", days=days
    )


async def finish(credit: CreditStore, call: str, micros: int) -> None:
    await credit.finish(call, [Share(7, 1, micros)], now_ms=NOW_MS)


async def test_calls_at_once_cannot_pass_the_limit(credit: CreditStore) -> None:
    """Of 100 calls that hold 3 each at once, with 100 for the day, 33 are admitted; what they hold is 99."""
    await open_account(credit, 100)
    answers = await asyncio.gather(*(take(credit, f"s:{n}", 3) for n in range(100)))
    refused = [answer for answer in answers if isinstance(answer, NotHeld)]
    assert len(answers) - len(refused) == 33
    assert {answer.code for answer in refused} == {HoldCode.DAY_LIMIT}
    assert await credit.spent_today(1) == (DAY, 99)
    assert await held_micros(credit, 7) == 99


async def test_a_refusal_says_what_is_left_and_changes_nothing(credit: CreditStore, redis: Redis) -> None:
    """Available is what the day leaves where that is less than the money, so that a shorter grant can be asked for."""
    await open_account(credit, 100)
    await take(credit, "s:1", 60)
    before = await everything(redis)
    assert await take(credit, "s:2", 41) == NotHeld(HoldCode.DAY_LIMIT, 0, (40,))
    assert await take(credit, "s:1", 101, mode="extend") == NotHeld(HoldCode.DAY_LIMIT, 0, (100,))
    assert await everything(redis) == before
    assert await take(credit, "s:2", 40) == Held()
    await credit.sync_wallet(WalletState(7, 105, 1, 0))
    assert await take(credit, "s:3", 50) == NotHeld(HoldCode.DAY_LIMIT, 0, (0,))
    await credit.sync_wallet(WalletState(7, 100, 2, 0))
    assert await take(credit, "s:3", 50) == NotHeld(HoldCode.NO_MONEY, 0, (0,))


async def test_the_day_keeps_what_calls_cost_and_gives_back_what_they_held(credit: CreditStore) -> None:
    """A call that ended counts with its cost, one that cost nothing not at all; a repeated end changes nothing."""
    await open_account(credit, 100)
    await take(credit, "s:1", 60)
    await take(credit, "s:2", 40)
    await finish(credit, "s:1", 12)
    await finish(credit, "s:1", 12)
    assert await credit.spent_today(1) == (DAY, 52)
    await credit.release("s:2", now_ms=NOW_MS)
    await credit.release("s:2", now_ms=NOW_MS)
    assert await credit.spent_today(1) == (DAY, 12)
    await credit.apply(7, 1, -12, call_id="s:1")
    await credit.apply(7, 1, -12, call_id="s:1")
    assert await credit.spent_today(1) == (DAY, 12)
    assert await take(credit, "s:3", 88) == Held()


async def test_a_posting_that_comes_before_the_end_counts_the_true_cost(credit: CreditStore) -> None:
    """SQL may be told first: the share becomes what the call costs, once, and the late end changes nothing."""
    await open_account(credit, 100)
    await take(credit, "s:1", 60)
    await credit.apply(7, 1, -25, call_id="s:1")
    assert await credit.spent_today(1) == (DAY, 25)
    await finish(credit, "s:1", 25)
    assert await credit.spent_today(1) == (DAY, 25)


async def test_a_new_day_begins_with_nothing_and_owes_nothing_back(credit: CreditStore) -> None:
    """What was held yesterday counts there: its end takes nothing off today but what it was extended by."""
    await open_account(credit, 100)
    await take(credit, "s:1", 90)
    tomorrow = {7: DAY + 1}
    assert await take(credit, "s:1", 100, mode="extend", days=tomorrow) == Held()
    assert await credit.spent_today(1) == (DAY + 1, 10)
    assert await take(credit, "s:2", 91, days=tomorrow) == NotHeld(HoldCode.DAY_LIMIT, 0, (90,))
    await finish(credit, "s:1", 3)
    assert await credit.spent_today(1) == (DAY + 1, 0), "10 of today are given back, 87 of yesterday are not"
    assert await take(credit, "s:2", 101, days=tomorrow) == NotHeld(HoldCode.DAY_LIMIT, 0, (100,))


@pytest.mark.parametrize("how", ["finish", "release", "apply"])
async def test_a_call_over_midnight_gives_back_only_what_today_was_charged(credit: CreditStore, how: str) -> None:
    """90 held yesterday and 10 today: whichever way it ends, today gets back 10 and keeps another call's 50."""
    await open_account(credit, 100)
    await take(credit, "s:1", 90)
    await take(credit, "s:1", 100, mode="extend", days={7: DAY + 1})
    await take(credit, "s:2", 50, days={7: DAY + 1})
    match how:
        case "finish":
            await finish(credit, "s:1", 1)
        case "release":
            await credit.release("s:1", now_ms=NOW_MS)
        case _:
            await credit.apply(7, 1, -1, call_id="s:1")
    assert await credit.spent_today(1) == (DAY + 1, 50)


async def test_a_clock_behind_counts_in_the_newest_day(credit: CreditStore) -> None:
    """A controller a little behind at midnight does not open yesterday again; a day far off is not believed."""
    await open_account(credit, 100)
    await take(credit, "s:1", 90, days={7: DAY + 1})
    assert await take(credit, "s:2", 20, days={7: DAY}) == NotHeld(HoldCode.DAY_LIMIT, 0, (10,))
    await take(credit, "s:3", 10, days={7: DAY + 400})
    assert await take(credit, "s:4", 100, days={7: DAY + 2}) == Held()
    assert await credit.spent_today(1) == (DAY + 2, 100)


async def test_a_call_that_lives_already_counts_and_is_not_refused(credit: CreditStore) -> None:
    """An adopted call is held whatever the day says, and new calls get only what it leaves."""
    await open_account(credit, 100, spent=80)
    assert await take(credit, "s:1", 50, mode="adopt") == Held()
    assert await credit.spent_today(1) == (DAY, 130)
    assert await take(credit, "s:2", 1) == NotHeld(HoldCode.DAY_LIMIT, 0, (-30,))


async def test_what_sql_says_was_spent_is_taken_once(credit: CreditStore) -> None:
    """Redis knows better than SQL, whose calls are those that ended: told again, it keeps its own figure."""
    await open_account(credit, 100, spent=70)
    assert await take(credit, "s:1", 31) == NotHeld(HoldCode.DAY_LIMIT, 0, (30,))
    await take(credit, "s:1", 30)
    assert await credit.without_a_day([1, 2]) == [2]
    await open_account(credit, 150, spent=70)
    assert await credit.spent_today(1) == (DAY, 100)
    await open_account(credit, None)
    assert await credit.spent_today(1) is None
    assert await take(credit, "s:2", 10**8) == Held()


async def test_an_account_without_a_limit_is_not_counted(credit: CreditStore, redis: Redis) -> None:
    """The common case writes nothing more than it did."""
    await open_account(credit, None)
    await take(credit, "s:1", 60, days={})
    await take(credit, "s:2", 60, days={7: DAY})
    kept = str(await everything(redis))
    assert "today" not in kept
    assert "d:7" not in kept


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_day_is_what_calls_hold_and_cost(credit: CreditStore, seed: int) -> None:
    """Random holds, extensions, ends and postings: never above the limit, and always the sum a simple model keeps."""
    draw = random.Random(seed)
    await open_account(credit, 1000)
    day, spent, counted, held = DAY, 0, dict[str, int](), dict[str, int]()
    seq = 0
    for number in range(300):
        if draw.random() < 0.03:
            day, spent, counted = day + 1, 0, {}
        call = draw.choice([*held, f"s:{number}"])
        what = draw.choice(["hold", "extend", "finish", "release", "apply"])
        amount = draw.randrange(1, 300)
        if (what == "hold") == (call not in held):
            if what in {"hold", "extend"}:
                raised = max(amount - held.get(call, 0), 0)
                answer = await take(credit, call, amount, days={7: day}, mode=what)
                assert isinstance(answer, Held) == (spent + raised <= 1000 or not raised)
                if isinstance(answer, Held):
                    held[call] = held.get(call, 0) + raised
                    counted[call] = counted.get(call, 0) + raised
                    spent += raised
                continue
            cost = 0 if what == "release" else draw.randrange(0, held[call] + 1)
            given_back = min(held.pop(call) - cost, counted.pop(call, 0))
            spent -= given_back
            if what == "release":
                await credit.release(call, now_ms=NOW_MS)
            elif what == "finish":
                await finish(credit, call, cost)
            else:
                seq += 1
                await credit.apply(7, seq, -cost, call_id=call)
        found = await credit.spent_today(1)
        assert found is not None
        assert found == (day, spent) or (found[0] < day and spent == 0)
        assert found[1] <= 1000
