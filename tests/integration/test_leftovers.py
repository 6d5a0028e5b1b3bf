"""What a controller that waits has in its journal comes to SQL, once nobody can have the call in hand any more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from billing import accounts, outbox
from billing.cdrs import EndedCall, list_cdrs, settle
from billing.credit.store import Held, Share
from billing.models import Cdr
from billing.ports import to_ms
from billing.store import reading, work
from callctl import leftovers
from callctl.journal import Entry, Journal
from callctl.leftovers import Leftovers
from callctl.settler import Settler
from tests.integration.test_controller import CLOCK, House, decided, house, server
from tests.integration.test_lost_holds import away
from tests.integration.test_standby import leading, pair

__all__ = ["house", "server"]


def refused(call_id: str, account_id: int) -> EndedCall:
    """Return the record of a call that was refused a moment ago."""
    now = CLOCK.now()
    return EndedCall(
        call_id=call_id,
        switch="fake",
        account_id=account_id,
        direction="outbound",
        caller="4930",
        callee="4940",
        destination="Germany",
        disposition="refused",
        reason="no_money",
        sip_status=402,
        cause=21,
        hung_up_by="switch",
        offered_at=now - timedelta(seconds=1),
        answered_at=None,
        ended_at=now,
        talk_ms=0,
        billable_ms=0,
        estimated=False,
    )


async def written_down(house: House, calls: Sequence[EndedCall]) -> None:
    """Leave calls in the journal, as a controller does that is killed before it has brought them to SQL."""
    journal = Journal(house.journal_path)
    await journal.open()
    for call in calls:
        await journal.write(Entry(call, held=False))
    await journal.close()


def records(house: House) -> dict[str, Cdr]:
    with reading(house.engine) as session:
        return {cdr.call_id: cdr for cdr in list_cdrs(session)}


async def until_recorded(house: House, *call_ids: str) -> None:
    async with asyncio.timeout(5):
        while not set(call_ids) <= set(records(house)):  # noqa: ASYNC110 - another task writes
            await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "SURELY_OVER_S", 0.2)
    monkeypatch.setattr(leftovers, "AGAIN_S", 0.1)
    monkeypatch.setattr(leftovers, "ON_ITS_WAY_S", 0.2)


@pytest.mark.parametrize("ends", ["before it waits", "while it stops"])
async def test_what_a_waiting_controller_is_owed_is_held_when_redis_is_lost(
    house: House, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """SQL cannot be written, and who leads never heard of the call: the next one is refused, and the first is paid."""
    monkeypatch.setattr(leftovers, "SURELY_OVER_S", 30.0 if ends == "while it stops" else 4.0)
    if ends == "while it stops":
        drained = Settler.drained
        # Until who leads has let somebody in: it still tries to bring to SQL what it has, and does not wait yet.
        monkeypatch.setattr(Settler, "drained", lambda settler, _most_s: drained(settler, 8.0))
    customer = house.account("100", "0.60")
    prefix = house.journal_path.parent.name
    async with pair(house) as (first, second):
        await leading(first)
        call = await decided(house.switch.offer(1, "100", "33123"))
        house.switch.answer(call)
        await asyncio.sleep(0.6)
        with monkeypatch.context() as patch:
            for whose in (Settler, Leftovers):
                away(patch, whose, "_write", OperationalError("INSERT", {}, Exception("the store is full")))
            house.switch.end(call)
            await asyncio.sleep(0.2)
            await house.redis.delete(f"{{{prefix}}}:lease:fake")  # as if it had been frozen
            assert await second.lease.seek()
            if ends == "before it waits":
                await until(lambda: first.settling)
                await leading(second)
            else:
                await until(lambda: first.lease.taken)
                await leading(second)
            await house.lose_redis()
            lost_mono = CLOCK.monotonic()
            await until(lambda: second.controller is not None and not second.controller.ready)
            await leading(second, 10.0)
            assert CLOCK.monotonic() - lost_mono > 2.0  # it does not know that there is anything to wait for
            next_one = await decided(house.switch.offer(2, "100", "33123"))
            assert next_one.refused
            assert next_one.refused.code == "no_money"
        if ends == "while it stops":
            await second.stop()  # who waited leads again, and settles it
            await leading(first, 15.0)
        assert (await house.record(call)).cost_micros == 600_000
        await house.record(next_one)
        assert await house.balance(customer) == 0
        await house.audit()


def of(house: House) -> Leftovers:
    return Leftovers(house.engine, house.credit, lambda: Journal(house.journal_path), CLOCK)


async def test_who_waits_brings_its_journal_to_sql(house: House) -> None:
    """A killed leader that comes back second does not keep its refusals until it leads again, and still can lead."""
    account = house.account("100", "5")
    first_journal = house.journal_path
    await written_down(house, [refused("fake:7", account), refused("fake:8", account)])
    async with pair(house, journals=(first_journal.with_name("another.db"), first_journal)) as (first, second):
        await leading(first)
        await until_recorded(house, "fake:7", "fake:8")
        assert {cdr.disposition for cdr in records(house).values()} == {"refused"}
        await until(lambda: not second.settling)
        await first.stop()
        await leading(second)
        call = await decided(house.switch.offer(9, "100", "4930123"))
        house.switch.end(call)
        await house.record(call)
    journal = Journal(first_journal)
    assert await journal.open() == []
    await journal.close()
    await house.audit()


async def until(what: Any) -> None:
    async with asyncio.timeout(8):
        while not what():  # noqa: ASYNC110 - another task does it
            await asyncio.sleep(0.02)


async def test_a_call_that_somebody_holds_is_left_to_them(house: House) -> None:
    """A refusal nobody heard may have been decided anew: beside a hold its record would make that call free."""
    account = house.account("100", "5")
    await outbox.sync_all(house.engine, house.credit)
    await written_down(house, [refused("fake:7", account), refused("fake:8", account)])
    now_ms = to_ms(CLOCK.now())
    with reading(house.engine) as session:
        held = [Share(accounts.find_account(session, str(account)).wallet_id, account, 40_000)]
    deadline_ms = now_ms + 60_000
    assert await house.credit.hold("fake:8", held, now_ms=now_ms, deadline_ms=deadline_ms, facts="{}") == Held()
    settling = asyncio.ensure_future(of(house).settle())
    await until_recorded(house, "fake:7")
    await asyncio.sleep(0.4)
    assert "fake:8" not in records(house)
    assert not settling.done()
    await house.credit.release("fake:8", now_ms=now_ms)
    await settling
    assert records(house)["fake:8"].reason == "no_money"


async def test_a_call_that_was_let_in_after_all_keeps_its_price(house: House) -> None:
    """It has ended for who leads, and its record is on the way: the refusal of before must not stand in its place."""
    account = house.account("100", "5")
    await outbox.sync_all(house.engine, house.credit)
    await written_down(house, [refused("fake:7", account), refused("fake:8", account)])
    now_ms = to_ms(CLOCK.now())
    with reading(house.engine) as session:
        held = [Share(accounts.find_account(session, str(account)).wallet_id, account, 40_000)]
    await house.credit.hold("fake:8", held, now_ms=now_ms, deadline_ms=now_ms + 60_000, facts="{}")
    assert await house.credit.finish("fake:8", held, now_ms=now_ms)
    settling = asyncio.ensure_future(of(house).settle())
    await until_recorded(house, "fake:7")
    await asyncio.sleep(0.4)
    assert "fake:8" not in records(house)
    settling.cancel()
    await asyncio.wait({settling})


async def test_a_call_for_nothing_that_was_let_in_after_all_is_not_called_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its hold of nothing went with its end, a moment ago: its record is on the way, and is the one that counts."""
    monkeypatch.setattr(leftovers, "ON_ITS_WAY_S", 30.0)
    account = house.account("100", "5")
    await outbox.sync_all(house.engine, house.credit)
    await written_down(house, [refused("fake:7", account), refused("fake:8", account)])
    now_ms = to_ms(CLOCK.now())
    with reading(house.engine) as session:
        nothing = [Share(accounts.find_account(session, str(account)).wallet_id, account, 0)]
    await house.credit.hold("fake:8", nothing, now_ms=now_ms, deadline_ms=now_ms + 60_000, facts="{}")
    assert await house.credit.release("fake:8", now_ms=now_ms)
    settling = asyncio.ensure_future(of(house).settle())
    await until_recorded(house, "fake:7")
    await asyncio.sleep(0.4)
    assert "fake:8" not in records(house)
    with work(house.engine) as session:
        let_in = replace(refused("fake:8", account), disposition="busy", reason="", sip_status=486)
        settle(session, [let_in], now=CLOCK.now())
    monkeypatch.setattr(leftovers, "ON_ITS_WAY_S", 0.2)
    await settling
    assert records(house)["fake:8"].disposition == "busy"


async def test_nothing_is_written_while_an_offer_may_still_be_open(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes over may let that call in a moment later. Whoever leads meanwhile has the journal for itself."""
    monkeypatch.setattr(leftovers, "SURELY_OVER_S", 30.0)
    account = house.account("100", "5")
    await written_down(house, [refused("fake:7", account)])
    settling = asyncio.ensure_future(of(house).settle())
    await asyncio.sleep(0.4)
    assert records(house) == {}
    settling.cancel()
    await asyncio.wait({settling})
    journal = Journal(house.journal_path)
    assert [entry.ended.call_id for entry in await journal.open()] == ["fake:7"]
    await journal.close()


async def test_one_that_cannot_be_booked_stops_no_other(house: House) -> None:
    """It stays in the journal, for the controller that leads next to put it aside."""
    account = house.account("100", "5")
    bad = refused("fake:7", 999_999)
    await written_down(house, [bad, refused("fake:8", account)])
    await of(house).settle()
    assert set(records(house)) == {"fake:8"}
    journal = Journal(house.journal_path)
    assert [entry.ended.call_id for entry in await journal.open()] == ["fake:7"]
    await journal.close()
