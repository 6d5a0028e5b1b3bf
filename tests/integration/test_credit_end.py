"""The end of a hold: finish, release, apply and sync, on fakeredis and on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from billing.credit.store import (
    REMEMBER_ENDED_MS,
    ApplyCode,
    CreditStore,
    Held,
    HoldCode,
    NotHeld,
    OpenHold,
    WalletState,
    WalletView,
)
from billing.errors import TooLarge
from billing.ledger import Applied
from tests.credit_fixtures import (
    DEADLINE_MS,
    LARGEST,
    NOW_MS,
    balance_micros,
    everything,
    extend,
    held_micros,
    hold,
    open_wallet,
    shares,
)


@asynccontextmanager
async def woken(redis: Redis, expected: list[int]) -> AsyncIterator[None]:
    """Within, exactly these wallets are told on the channel wake."""
    pubsub = redis.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe("{callctl}:wake")
    while await pubsub.get_message(timeout=0.05) is not None:
        pass
    yield
    heard = []
    while (message := await pubsub.get_message(timeout=0.05)) is not None:
        heard.append(int(message["data"]))
    await pubsub.aclose()  # type: ignore[no-untyped-call]
    assert heard == expected


async def test_finish_trims_to_the_cost_and_waits_for_the_posting(redis: Redis, credit: CreditStore) -> None:
    """The money beyond the cost is free at once, a share of 0 goes, the channel is free, the rest stays held."""
    await open_wallet(credit, 1, 100)
    await open_wallet(credit, 2, 100)
    await hold(credit, "s:1", shares((1, 60), (2, 30)))
    async with woken(redis, [1, 2]):
        assert await credit.finish("s:1", shares((1, 12), (2, 0)), now_ms=NOW_MS)
    assert [await held_micros(credit, wallet_id) for wallet_id in (1, 2)] == [12, 0]
    assert [await credit.calls_of(account_id) for account_id in (1, 2)] == [0, 0]
    assert await credit.holds() == [OpenHold("s:1", tuple(shares((1, 12))), DEADLINE_MS, finished=True, facts="{}")]


async def test_finish_told_twice_is_once(redis: Redis, credit: CreditStore) -> None:
    """A retry finds no open hold and changes nothing; neither does a release that comes after."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 60)))
    assert await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS)
    before = await everything(redis)
    assert not await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS + 5)
    assert not await credit.finish("s:1", shares((1, 99)), now_ms=NOW_MS + 5)
    assert not await credit.release("s:1", now_ms=NOW_MS + 5)
    assert await everything(redis) == before


async def test_a_cost_beyond_the_hold_is_owed(redis: Redis, credit: CreditStore) -> None:
    """Held rises above what there is: it is a true debt; the next call is refused."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 90)))
    async with woken(redis, []):
        assert await credit.finish("s:1", shares((1, 130)), now_ms=NOW_MS)
    assert await held_micros(credit, 1) == 130
    assert await hold(credit, "s:2", shares((1, 1))) == NotHeld(HoldCode.NO_MONEY, 0, (-30,))
    assert await hold(credit, "s:3", shares((1, 0))) == Held()


async def test_finish_with_other_wallets_than_held(credit: CreditStore) -> None:
    """A wallet that is not named costs 0; one that was not held is held now; one named twice is summed."""
    for wallet_id in (1, 2, 3):
        await open_wallet(credit, wallet_id, 100)
    await hold(credit, "s:1", shares((1, 60), (2, 30)))
    assert await credit.finish("s:1", shares((2, 30), (3, 7), (3, 8)), now_ms=NOW_MS)
    assert [await held_micros(credit, wallet_id) for wallet_id in (1, 2, 3)] == [0, 30, 15]
    found = await credit.find_hold("s:1")
    assert found is not None
    assert found.shares == tuple(shares((2, 30), (3, 15)))


async def test_finish_for_nothing_is_a_release(redis: Redis, credit: CreditStore) -> None:
    """Where every share is 0 no posting will come: the hold goes at once."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 60)))
    async with woken(redis, [1]):
        assert await credit.finish("s:1", shares((1, 0)), now_ms=NOW_MS)
    assert await credit.holds() == []
    assert await credit.find_hold("s:1") is None
    assert (await held_micros(credit, 1), await credit.calls_of(1)) == (0, 0)


async def test_release_gives_everything_back_once(redis: Redis, credit: CreditStore) -> None:
    """All shares and channels are free; the retry changes nothing."""
    await open_wallet(credit, 1, 100)
    await open_wallet(credit, 2, 100)
    await hold(credit, "s:1", shares((1, 60), (2, 0)))
    async with woken(redis, [1]):
        assert await credit.release("s:1", now_ms=NOW_MS)
    assert (await held_micros(credit, 1), await credit.calls_of(1), await credit.calls_of(2)) == (0, 0, 0)
    assert await credit.holds() == []
    before = await everything(redis)
    async with woken(redis, []):
        assert not await credit.release("s:1", now_ms=NOW_MS + 5)
    assert await everything(redis) == before


async def test_a_finished_hold_goes_where_its_call_was_charged_otherwise(redis: Redis, credit: CreditStore) -> None:
    """Two controllers ended one call, one record counts: what the other would have cost is not held for ever."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 60)))
    await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS)
    assert not await credit.release("s:1", now_ms=NOW_MS)
    assert await held_micros(credit, 1) == 12
    async with woken(redis, [1]):
        assert await credit.release("s:1", now_ms=NOW_MS, charged=True)
    assert (await held_micros(credit, 1), await credit.calls_of(1), await credit.holds()) == (0, 0, [])
    before = await everything(redis)
    assert not await credit.release("s:1", now_ms=NOW_MS, charged=True)
    assert await everything(redis) == before


async def test_what_a_call_costs_whose_hold_was_lost_is_held_all_the_same(redis: Redis, credit: CreditStore) -> None:
    """It is owed: held once, whatever is left and before its wallet is known; it counts as no channel, and is paid."""
    await open_wallet(credit, 1, 10)
    assert await credit.finish("s:1", shares((1, 12), (2, 3), (2, 4), (3, 0)), now_ms=NOW_MS)
    found = OpenHold("s:1", tuple(shares((1, 12), (2, 7))), NOW_MS, finished=True, facts="")
    assert await credit.holds() == [found]
    assert (await credit.wallet(1), await credit.calls_of(1)) == (WalletView(1, 10, 12, 0, 0), 0)
    before = await everything(redis)
    assert not await credit.finish("s:1", shares((1, 12), (2, 7)), now_ms=NOW_MS + 5)
    assert not await credit.release("s:1", now_ms=NOW_MS + 5)
    restored = await credit.restore("s:1", shares((1, 60)), now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="{}")
    assert isinstance(restored, NotHeld)
    assert await everything(redis) == before
    assert await credit.apply(2, 1, -7, call_id="s:1") is ApplyCode.UNKNOWN_WALLET
    await open_wallet(credit, 2, 100)
    assert await credit.wallet(2) == WalletView(2, 100, 7, 0, 0)
    assert await credit.apply(1, 1, -12, call_id="s:1") is ApplyCode.APPLIED
    assert await credit.apply(2, 1, -7, call_id="s:1") is ApplyCode.APPLIED
    assert (await credit.wallet(1), await credit.wallet(2)) == (WalletView(1, -2, 0, 0, 1), WalletView(2, 93, 0, 0, 1))
    assert not await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS + 9)
    assert await credit.holds() == []


async def test_nothing_is_owed_of_a_call_that_is_over_already(redis: Redis, credit: CreditStore) -> None:
    """Released, paid for or too large to keep exactly: a finish that comes later holds nothing."""
    await open_wallet(credit, 1, LARGEST)
    await credit.release("s:1", now_ms=NOW_MS)
    await hold(credit, "s:2", shares((1, 60)))
    assert await credit.apply(1, 1, -12, call_id="s:2") is ApplyCode.APPLIED
    with pytest.raises(TooLarge):
        await credit.finish("s:3", shares((1, LARGEST), (1, 1)), now_ms=NOW_MS)
    assert not await credit.finish("s:4", shares((1, 0)), now_ms=NOW_MS)
    before = await everything(redis)
    for call_id in ("s:1", "s:2", "s:3", "s:4"):
        assert not await credit.finish(call_id, shares((1, 12)), now_ms=NOW_MS)
    assert await everything(redis) == before


async def test_an_end_told_again_after_an_hour_is_held_until_its_posting_is(credit: CreditStore) -> None:
    """A controller comes back after an hour: nothing is charged twice, and nothing stays held once it has told all."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 60)))
    assert await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS)
    assert await credit.apply(1, 1, -12, call_id="s:1") is ApplyCode.APPLIED
    later_ms = NOW_MS + REMEMBER_ENDED_MS + 1
    await credit.release("s:other", now_ms=later_ms)
    assert await credit.over_since("s:1") is None
    assert await credit.finish("s:1", shares((1, 12)), now_ms=later_ms)
    assert await credit.wallet(1) == WalletView(1, 88, 12, 0, 1)
    assert await credit.apply(1, 1, -12, call_id="s:1") is ApplyCode.SEEN
    assert await credit.wallet(1) == WalletView(1, 88, 0, 0, 1)
    assert await credit.holds() == []


async def test_what_is_owed_is_held_only_where_nothing_is_known_of_the_call(redis: Redis, credit: CreditStore) -> None:
    """Said by one that leads no more: what the leader holds, or has ended, is not touched; told twice is once."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 30)))  # another one has it in hand
    await credit.finish("s:2", shares((1, 12)), now_ms=NOW_MS)  # waits for its posting
    await credit.release("s:3", now_ms=NOW_MS)  # over
    credit.fence = "a token of a term that is over"
    before = await everything(redis)
    for call_id in ("s:1", "s:2", "s:3"):
        assert not await credit.owe(call_id, shares((1, 50)), now_ms=NOW_MS)
    assert await everything(redis) == before
    assert await credit.owe("s:4", shares((1, 7), (2, 0)), now_ms=NOW_MS)
    assert not await credit.owe("s:4", shares((1, 7)), now_ms=NOW_MS)
    assert await credit.find_hold("s:4") == OpenHold("s:4", tuple(shares((1, 7))), NOW_MS, finished=True, facts="")
    assert await credit.wallet(1) == WalletView(1, 100, 49, 0, 0)
    assert await credit.apply(1, 1, -7, call_id="s:4") is ApplyCode.APPLIED
    assert await credit.wallet(1) == WalletView(1, 93, 42, 0, 1)
    assert not await credit.owe("s:4", shares((1, 7)), now_ms=NOW_MS)
    with pytest.raises(TooLarge):
        await credit.owe("s:5", shares((1, LARGEST), (1, 1)), now_ms=NOW_MS)


async def test_the_end_of_a_call_is_remembered_for_an_hour(credit: CreditStore, redis: Redis) -> None:
    """Calls that ended over an hour ago are forgotten, a bounded number at each end."""
    for n in range(20):
        await credit.release(f"s:{n}", now_ms=NOW_MS)
    await credit.release("s:late", now_ms=NOW_MS + REMEMBER_ENDED_MS)
    assert await redis.zcard("{callctl}:ended") == 21
    await credit.release("s:later", now_ms=NOW_MS + REMEMBER_ENDED_MS + 1)
    assert await redis.zcard("{callctl}:ended") == 14
    await credit.release("s:latest", now_ms=NOW_MS + REMEMBER_ENDED_MS + 1)
    await credit.release("s:last", now_ms=NOW_MS + REMEMBER_ENDED_MS + 1)
    assert await redis.zrange("{callctl}:ended", 0, -1) == ["s:late", "s:last", "s:later", "s:latest"]


async def test_a_posting_takes_the_place_of_its_hold(redis: Redis, credit: CreditStore) -> None:
    """Balance down, share gone, available unchanged; with the last share the hold is gone."""
    await open_wallet(credit, 1, 100)
    await open_wallet(credit, 2, 100, seq=7)
    await hold(credit, "s:1", shares((1, 60), (2, 30)))
    await credit.finish("s:1", shares((1, 12), (2, 9)), now_ms=NOW_MS)
    async with woken(redis, []):
        assert await credit.apply(1, 1, -12, call_id="s:1") is ApplyCode.APPLIED
    assert await credit.wallet(1) == WalletView(1, 88, 0, 0, 1)
    assert len(await credit.holds()) == 1
    assert await credit.apply(2, 8, -9, call_id="s:1") is ApplyCode.APPLIED
    assert await credit.wallet(2) == WalletView(2, 91, 0, 0, 8)
    assert await credit.holds() == []
    assert await credit.find_hold("s:1") is None


async def test_a_posting_told_twice_is_once(redis: Redis, credit: CreditStore) -> None:
    """The second time it is seen, and nothing changes."""
    await open_wallet(credit, 1, 100)
    assert await credit.apply(1, 1, 50) is ApplyCode.APPLIED
    before = await everything(redis)
    async with woken(redis, []):
        assert await credit.apply(1, 1, 50) is ApplyCode.SEEN
    assert await everything(redis) == before


async def test_a_missing_posting_is_a_gap(redis: Redis, credit: CreditStore) -> None:
    """A posting out of order changes nothing, its hold included; an unknown wallet says so."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 60)))
    before = await everything(redis)
    assert await credit.apply(1, 2, -12, call_id="s:1") is ApplyCode.GAP
    assert await credit.apply(9, 1, -12, call_id="s:1") is ApplyCode.UNKNOWN_WALLET
    assert await everything(redis) == before


async def test_a_posting_seen_still_drops_its_share(redis: Redis, credit: CreditStore) -> None:
    """After a sync the balance has the charge already; telling the posting again only drops the hold it replaces."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 60)))
    await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS)
    await credit.sync_wallet(WalletState(1, 88, 1, 0))
    assert await credit.wallet(1) == WalletView(1, 88, 12, 0, 1)
    async with woken(redis, [1]):
        assert await credit.apply(1, 1, -12, call_id="s:1") is ApplyCode.SEEN
    assert await credit.wallet(1) == WalletView(1, 88, 0, 0, 1)
    assert await credit.holds() == []


async def test_a_call_charged_before_it_was_finished(credit: CreditStore) -> None:
    """A posting ends the call: nothing more is held, a late finish holds no charge twice, channels are freed once."""
    await open_wallet(credit, 1, 100)
    await open_wallet(credit, 2, 100)
    await hold(credit, "s:1", shares((1, 60), (2, 30)))
    assert await credit.apply(1, 1, -12, call_id="s:1") is ApplyCode.APPLIED
    answer = await extend(credit, "s:1", shares((1, 70), (2, 30)))
    assert answer == NotHeld(HoldCode.ENDED, 0, (88, 100))
    assert await credit.overdue(DEADLINE_MS + 1) == ["s:1"]
    assert await credit.finish("s:1", shares((1, 12), (2, 9)), now_ms=NOW_MS)
    assert [await held_micros(credit, wallet_id) for wallet_id in (1, 2)] == [0, 9]
    assert [await credit.calls_of(account_id) for account_id in (1, 2)] == [0, 0]
    assert await credit.apply(2, 1, -9, call_id="s:1") is ApplyCode.APPLIED
    assert await credit.holds() == []


async def test_the_last_share_of_an_open_hold_frees_its_channels(redis: Redis, credit: CreditStore) -> None:
    """Where postings alone end a hold, no finish has freed the channels: they are freed now, and the call is over."""
    await open_wallet(credit, 1, 100)
    await hold(credit, "s:1", shares((1, 60)))
    async with woken(redis, [1]):
        assert await credit.apply(1, 1, -12, call_id="s:1") is ApplyCode.APPLIED
    assert await credit.wallet(1) == WalletView(1, 88, 0, 0, 1)
    assert await credit.calls_of(1) == 0
    assert await credit.holds() == []
    assert not await credit.finish("s:1", shares((1, 12)), now_ms=NOW_MS)
    assert await hold(credit, "s:1", shares((1, 1))) == NotHeld(HoldCode.ENDED, 0, (88,))
    assert await credit.calls_of(1) == 0


async def test_money_that_grows_wakes(redis: Redis, credit: CreditStore) -> None:
    """A top-up, a smaller charge than held and a raised credit limit are told; a debit and a cut are not."""
    await open_wallet(credit, 1, 100)
    async with woken(redis, [1]):
        await credit.apply(1, 1, 50)
    async with woken(redis, []):
        await credit.apply(1, 2, -50)
    await hold(credit, "s:1", shares((1, 60)))
    async with woken(redis, [1]):
        await credit.apply(1, 3, -10, call_id="s:1")
    async with woken(redis, [1]):
        await credit.sync_wallet(WalletState(1, 90, 3, 10))
    async with woken(redis, []):
        await credit.sync_wallet(WalletState(1, 80, 4, 5))


async def test_wakes_yields_the_wallets(credit: CreditStore) -> None:
    """A controller that listens hears which wallet has more money."""
    await open_wallet(credit, 7, 0)
    wakes = credit.wakes()
    first = asyncio.ensure_future(anext(wakes))
    balance = 0
    while not first.done():
        balance += 1
        await credit.sync_wallet(WalletState(7, balance, 0, 0))
        await asyncio.sleep(0.02)
    assert first.result() == 7
    await wakes.aclose()  # type: ignore[attr-defined]


async def test_sync_never_goes_back(redis: Redis, credit: CreditStore) -> None:
    """Redis ahead of SQL's answer stays as it is; the same or a newer sequence is set, held is kept."""
    await open_wallet(credit, 1, 100, seq=5)
    await hold(credit, "s:1", shares((1, 60)))
    before = await everything(redis)
    assert not await credit.sync_wallet(WalletState(1, 40, 4, 9))
    assert await everything(redis) == before
    assert await credit.sync_wallet(WalletState(1, 100, 5, 9))
    assert await credit.wallet(1) == WalletView(1, 100, 60, 9, 5)
    assert await credit.sync_wallet(WalletState(1, 40, 6, 0))
    assert await credit.wallet(1) == WalletView(1, 40, 60, 0, 6)


async def test_the_largest_balance_survives_to_the_digit(redis: Redis, credit: CreditStore) -> None:
    """No step prints a double: 2^53 − 1 is held, finished and charged exactly, and an odd rest is left."""
    await open_wallet(credit, 1, LARGEST)
    assert await hold(credit, "s:1", shares((1, LARGEST))) == Held()
    assert await credit.wallet(1) == WalletView(1, LARGEST, LARGEST, 0, 0)
    assert await credit.finish("s:1", shares((1, LARGEST - 2)), now_ms=NOW_MS)
    assert await credit.wallet(1) == WalletView(1, LARGEST, LARGEST - 2, 0, 0)
    assert await credit.apply(1, 1, -(LARGEST - 2), call_id="s:1") is ApplyCode.APPLIED
    assert await credit.wallet(1) == WalletView(1, 2, 0, 0, 1)
    assert await credit.apply(1, 2, LARGEST - 2) is ApplyCode.APPLIED
    assert await credit.wallet(1) == WalletView(1, LARGEST, 0, 0, 2)
    assert await redis.hget("{callctl}:w:1", "balance") == "9007199254740991"


async def test_a_balance_beyond_doubles_is_refused(redis: Redis, credit: CreditStore) -> None:
    """Neither a posting, a sync nor a finish makes an amount that cannot be kept exactly."""
    await open_wallet(credit, 1, LARGEST)
    await hold(credit, "s:1", shares((1, 5)))
    await hold(credit, "s:2", shares((1, 5)))
    before = await everything(redis)
    with pytest.raises(TooLarge):
        await credit.apply(1, 1, 1, call_id="s:1")
    with pytest.raises(TooLarge):
        await credit.apply(1, 1, 10**15 * 9007, call_id="s:1")
    with pytest.raises(TooLarge):
        await credit.sync_wallet(WalletState(1, LARGEST + 1, 1, 0))
    with pytest.raises(TooLarge):
        await credit.sync_wallet(WalletState(1, 0, 1, -LARGEST - 1))
    assert await everything(redis) == before
    with pytest.raises(TooLarge):
        await credit.finish("s:1", shares((1, LARGEST)), now_ms=NOW_MS)
    assert await everything(redis) == before | {"{callctl}:ended": [("s:1", float(NOW_MS))]}
    assert await credit.finish("s:1", shares((1, 1)), now_ms=NOW_MS)
    assert (await held_micros(credit, 1), await balance_micros(credit, 1)) == (6, LARGEST)


async def test_many_postings_travel_together_in_order(credit: CreditStore) -> None:
    """A batch is applied in the order given, each with its own answer."""
    await open_wallet(credit, 1, 0)
    postings = [Applied(1, 1, 10), Applied(1, 2, 10), Applied(1, 2, 10), Applied(1, 4, 10), Applied(2, 1, 10)]
    codes = await credit.apply_many(postings)
    applied, seen, gap, unknown = ApplyCode.APPLIED, ApplyCode.SEEN, ApplyCode.GAP, ApplyCode.UNKNOWN_WALLET
    assert codes == [applied, applied, seen, gap, unknown]
    assert await credit.apply_many([]) == []
    assert await credit.wallet(1) == WalletView(1, 20, 0, 0, 2)


async def test_our_marker(credit: CreditStore) -> None:
    """A store is empty until it was filled from SQL."""
    assert await credit.empty()
    await credit.mark_filled()
    assert not await credit.empty()


async def test_what_was_held_is_restored_whatever_is_left(credit: CreditStore) -> None:
    """Data was lost: a hold comes back, or is raised to what it was, without asking for money; it is owed already."""
    await open_wallet(credit, 1, 100)
    assert await hold(credit, "s:1", shares((1, 80))) == Held()
    restored = await credit.restore("s:2", shares((1, 60)), now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="{}")
    assert restored == Held()
    assert await credit.restore("s:1", shares((1, 90)), now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="{}") == Held()
    assert await credit.restore("s:1", shares((1, 70)), now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="{}") == Held()
    assert await credit.wallet(1) == WalletView(1, 100, 150, 0, 0)
    assert await credit.calls_of(1) == 2
    assert await credit.release("s:2", now_ms=NOW_MS)
    over = await credit.restore("s:2", shares((1, 60)), now_ms=NOW_MS, deadline_ms=DEADLINE_MS, facts="{}")
    assert isinstance(over, NotHeld)
    assert over.code is HoldCode.ENDED
    assert await credit.wallet(1) == WalletView(1, 100, 90, 0, 0)
    assert await credit.calls_of(1) == 1
