"""Limits of accounts over whole calls, with a real credit store, SQL and a switch; a refusal has one record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from billing import outbox
from billing.account_changes import Changes, change_account
from billing.credit.embedded import EmbeddedServer
from billing.models import AccountKind, IdentityKind
from billing.store import work
from tests.fakes import FakeCall
from tests.integration.test_controller import CLOCK, House, build, decided, server

__all__ = ["server"]

EURO = 1_000_000


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        yield built


async def over(call: FakeCall) -> None:
    await asyncio.wait_for(call.over.wait(), 8)


async def refused(house: House, call: FakeCall, code: str, status: int) -> None:
    """The caller hears it, one record says why, nothing is held or charged."""
    await decided(call)
    assert call.refused is not None
    assert (call.refused.code, call.refused.sip_status) == (code, status)
    assert not call.admitted
    cdr = await house.record(call)
    assert (cdr.disposition, cdr.reason, cdr.sip_status, cdr.cost_micros) == ("refused", code, status, 0)


async def test_calls_at_once_cannot_cost_more_than_the_day_may(house: House) -> None:
    """1 cent a second and 5 cents a day: of ten calls at once some talk, none lets the day pass 5 cents."""
    customer = house.account("100", "5", max_day_micros=50_000)
    await house.begin()
    calls = [house.switch.offer(number, "100", "+4930123") for number in range(1, 11)]
    await asyncio.gather(*(decided(call) for call in calls))
    admitted = [call for call in calls if call.admitted]
    assert 1 <= len(admitted) <= 5
    for call in admitted:
        house.switch.answer(call)
    await asyncio.gather(*(over(call) for call in admitted))
    records = [await house.record(call) for call in calls]
    assert sum(cdr.cost_micros for cdr in records) == 50_000
    assert {cdr.reason for cdr in records} == {"day_cost_limit"}
    assert await house.balance(customer) == 5 * EURO - 50_000
    await house.audit()
    again = house.switch.offer(20, "100", "+4930123")
    await refused(house, again, "day_cost_limit", 403)
    # More for the day, and the next call is let in at once.
    with work(house.engine) as session:
        change_account(session, customer, Changes(max_day_micros=EURO), actor="test", now=CLOCK.now())
    await outbox.tell_accounts(house.engine, house.credit, [customer], clock=CLOCK)
    more = await decided(house.switch.offer(21, "100", "+4930123"))
    assert more.admitted
    house.switch.end(more)
    await house.record(more)
    await house.audit()


async def test_a_resellers_day_limits_its_customers_together(house: House) -> None:
    """The limit of whoever stands above holds too: two customers of one reseller share its day."""
    house.account("ray", "5", kind=AccountKind.RESELLER, max_day_micros=30_000, identities=[])
    for code in ("100", "200"):
        house.account(code, "1", parent="customer ray")
    await house.begin()
    first = await decided(house.switch.offer(1, "100", "+4930123"))
    second = await decided(house.switch.offer(2, "200", "+4930123"))
    assert (first.admitted, second.admitted) == (True, True)
    third = house.switch.offer(3, "200", "+4930123")
    await refused(house, third, "day_cost_limit", 403)
    for call in (first, second):
        house.switch.answer(call)
    await asyncio.gather(over(first), over(second))
    costs = [(await house.record(call)).cost_micros for call in (first, second)]
    assert sum(costs) == 30_000
    await house.audit()


async def test_what_a_day_has_cost_survives_a_lost_credit_store(house: House) -> None:
    """Redis loses all it knew: what today's calls have cost comes back from SQL."""
    house.account("100", "5", max_day_micros=30_000)
    controller = await house.begin()
    call = await decided(house.switch.offer(1, "100", "+4930123"))
    house.switch.answer(call)
    await asyncio.sleep(1.1)
    house.switch.end(call)
    cost = (await house.record(call)).cost_micros
    assert 10_000 <= cost <= 20_000
    await house.audit()
    await house.lose_redis()
    for _ in range(100):
        if not await house.credit.empty() and controller.ready:
            break
        await asyncio.sleep(0.05)
    spent = await house.credit.spent_today(2)
    assert spent is not None
    assert spent[1] == cost


async def test_a_call_costs_no_more_than_a_call_may(house: House) -> None:
    """3 cents a call at 1 cent a second: cut after 3 s with money left, and the record says why."""
    customer = house.account("100", "5", max_call_micros=30_000)
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "+4930123"))
    house.switch.answer(call)
    await over(call)
    cdr = await house.record(call)
    assert (cdr.cost_micros, cdr.reason, cdr.billable_ms) == (30_000, "call_cost_limit", 3000)
    assert await house.balance(customer) == 5 * EURO - 30_000
    dear = house.account("200", "5", max_call_micros=500_000)
    await asyncio.sleep(1.2)
    minute = house.switch.offer(2, "200", "+33123")
    await refused(house, minute, "call_cost_limit", 403)
    assert await house.balance(dear) == 5 * EURO
    await house.audit()


async def test_destinations_and_hours_refuse_with_their_own_reasons(house: House) -> None:
    """An account that may call France only, and one that may call at no hour of today."""
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    today = CLOCK.now().weekday()
    other = days[(today + 3) % 7]
    house.account("100", "5", allowed=["33"])
    house.account("200", "5", hours=[f"{other} 08:00-09:00"])
    await house.begin()
    await refused(house, house.switch.offer(1, "100", "+4930123"), "destination_not_allowed", 403)
    await refused(house, house.switch.offer(2, "200", "+4930123"), "outside_hours", 403)
    assert (await decided(house.switch.offer(3, "100", "+33123"))).admitted
    house.switch.end(house.switch.calls["fake:3"])
    await house.audit()


async def test_a_sip_user_and_an_address_pay_as_the_dialplan_says(house: House) -> None:
    """The record names the account that the switch's configuration meant, and a stranger is refused."""
    user = house.account("1", "5", identities=[(IdentityKind.SIP_USER, "alice")])
    net = house.account("2", "5", identities=[(IdentityKind.SOURCE_ADDRESS, "192.0.2.0/24")])
    await house.begin()
    for number, told, account in ((1, "sip_user:alice", user), (2, "source_address:192.0.2.9", net)):
        call = await decided(house.switch.offer(number, told, "+4930123"))
        assert call.admitted
        house.switch.end(call)
        assert (await house.record(call)).account_id == account
    await refused(house, house.switch.offer(3, "source_address:198.51.100.1", "+4930123"), "unknown_account", 403)
    await house.audit()
