"""Many calls in the same instant on money for a few: exactly the few. `benchmarks.race` does it a million times."""

from __future__ import annotations

import asyncio

from billing.credit.store import CreditStore, Held, HoldCode, NotHeld
from tests.credit_fixtures import NOW_MS, hold, open_wallet, shares
from tests.integration.test_controller import House, decided, house, server

__all__ = ["house", "server"]


async def test_two_hundred_holds_at_once_on_money_for_seven(credit: CreditStore) -> None:
    """Ten rounds: seven stand, the others say no_money, and not a micro-unit is left or missing."""
    for number in range(10):
        await open_wallet(credit, number + 1, 7 * 600_000 + 599_999)
        wanted = shares((number + 1, 600_000))
        answers = await asyncio.gather(*[hold(credit, f"s:{number}-{each}", wanted) for each in range(200)])
        assert sum(answer == Held() for answer in answers) == 7
        assert all(answer.code is HoldCode.NO_MONEY for answer in answers if isinstance(answer, NotHeld))
        kept = await credit.wallet(number + 1)
        assert kept is not None
        assert kept.available_micros == 599_999
        for each in range(200):
            await credit.release(f"s:{number}-{each}", now_ms=NOW_MS)
        assert (kept := await credit.wallet(number + 1)) is not None
        assert kept.held_micros == 0


async def test_a_thousand_calls_at_once_on_money_for_seven(house: House) -> None:
    """Through the controller: seven are admitted, 993 refused, each has one record, and nothing is overspent."""
    customer = house.account("100", "4.20")
    await house.begin()
    calls = [house.switch.offer(n, "100", "33123") for n in range(1000)]
    await asyncio.wait_for(asyncio.gather(*[call.decided.wait() for call in calls]), 60)
    admitted = [call for call in calls if call.admitted]
    assert len(admitted) == 7
    assert {call.refused.code for call in calls if call.refused} == {"no_money"}
    for call in admitted:
        house.switch.answer(call)
    await asyncio.sleep(0.1)
    for call in admitted:
        house.switch.end(call)
    assert house.controller is not None
    assert await house.controller.settler.drained(60)
    assert await house.balance(customer) == 0
    await decided(calls[0])
    await house.audit()
