"""Calls that travel together: each keeps its own answer, and one that is wrong harms no other."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from billing.credit.batch import Scripts
from billing.credit.store import CreditStore, Held, HoldCode, NotHeld
from billing.errors import CreditUnavailable
from tests.credit_fixtures import hold, open_wallet, shares


async def test_each_call_of_a_batch_has_its_own_answer(credit: CreditStore) -> None:
    """Of holds asked for at once as many are made as there is money for, and the others are told no."""
    await open_wallet(credit, 1, 100)
    answers = await asyncio.gather(*(hold(credit, f"s:{n}", shares((1, 30))) for n in range(5)))
    assert answers == [Held(), Held(), Held(), *[NotHeld(HoldCode.NO_MONEY, 0, (10,))] * 2]


async def test_a_server_that_forgot_the_scripts_is_given_them(credit: CreditStore, redis: Redis) -> None:
    """After SCRIPT FLUSH every call of a batch is done, once."""
    await open_wallet(credit, 1, 100)
    await redis.script_flush()
    answers = await asyncio.gather(*(hold(credit, f"s:{n}", shares((1, 30))) for n in range(3)))
    assert answers == [Held()] * 3
    view = await credit.wallet(1)
    assert view is not None
    assert view.held_micros == 90


async def test_text_that_cannot_be_sent_harms_its_own_call_only(credit: CreditStore) -> None:
    """Half a surrogate pair is an error of that call; its neighbours are held, and it holds nothing."""
    await open_wallet(credit, 1, 100)
    names = ["s:1", "s:\ud800", "s:2"]
    first, bad, last = await asyncio.gather(
        *(hold(credit, name, shares((1, 30))) for name in names), return_exceptions=True
    )
    assert (first, last) == (Held(), Held())
    assert isinstance(bad, UnicodeEncodeError)
    assert [found.call_id for found in await credit.holds()] == ["s:1", "s:2"]


async def test_a_script_that_fails_fails_alone(redis: Redis) -> None:
    """An error of one script is that call's `CreditUnavailable`."""
    scripts = Scripts(redis)
    good, broken = redis.register_script("return ARGV[1]"), redis.register_script("return redis.call('NONSENSE')")
    answers = await asyncio.gather(
        scripts.run(good, [], ["a"]), scripts.run(broken, [], []), scripts.run(good, [], [7]), return_exceptions=True
    )
    assert (answers[0], answers[2]) == ("a", "7")
    assert isinstance(answers[1], CreditUnavailable)


async def test_a_call_that_is_cancelled_leaves_the_others(redis: Redis) -> None:
    """Who gives up waiting takes nothing from who goes on."""
    scripts, good = Scripts(redis), redis.register_script("return ARGV[1]")
    impatient, patient = (asyncio.create_task(scripts.run(good, [], [n])) for n in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == "1"
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert await scripts.run(good, [], ["again"]) == "again"
