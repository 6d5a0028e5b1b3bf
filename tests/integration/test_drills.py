"""Big outages, each rehearsed; docs/operations.md says what an operator sees. Redis lost: `test_controller.py`."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import col, func, select

from billing.models import Cdr
from billing.ports import SystemClock
from billing.settings import ControlSettings
from billing.store import reading
from callctl.journal import Journal
from callctl.settler import Settler
from callctl.switches.base import Outcome
from tests.integration import test_controller
from tests.integration.test_controller import House, decided, house, server

__all__ = ["house", "server"]

CALLS = 3_000
"""A minute at 50 calls a second; an hour is sixty times that, and no other thing."""


async def test_sql_is_down_and_every_record_arrives_afterwards(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are admitted, end, and wait in the journal with their exact cost held; then all are in SQL, once each."""
    customer = house.account("100", "1000")
    house.settings = ControlSettings(slice_s=60, ring_s=5, resync_s=30.0)
    controller = await house.begin()
    await asyncio.sleep(1.2)  # the catalogue knows the account
    down = True
    write = Settler._write

    def away(settler: Settler, calls: Any) -> Any:
        if down:
            raise OperationalError("INSERT", {}, Exception("the store is away"))
        return write(settler, calls)

    monkeypatch.setattr(Settler, "_write", away)
    for start in range(0, CALLS, 250):
        calls = [house.switch.offer(start + n, "100", "4930123") for n in range(250)]
        await asyncio.gather(*[decided(call) for call in calls])
        for call in calls:
            assert call.admitted
            house.switch.answer(call)
        await asyncio.sleep(0.05)
        for call in calls:
            house.switch.end(call)
    while controller.calls:  # noqa: ASYNC110 - the last ends
        await asyncio.sleep(0.05)
    assert controller.settler.backlog == CALLS
    await asyncio.sleep(0.5)  # the last flush
    with sqlite3.connect(house.journal_path) as journal:
        assert journal.execute("SELECT count(*) FROM ended").fetchone() == (CALLS,)
    wallet = await house.credit.wallet((await house.credit.holds())[0].shares[0].wallet_id)
    assert wallet is not None
    assert wallet.held_micros == CALLS * 10_000  # one second each, exactly
    down = False
    assert await controller.settler.drained(60)
    with reading(house.engine) as session:
        assert session.exec(select(func.count(col(Cdr.call_id)))).one() == CALLS
    assert await house.balance(customer) == 1_000_000_000 - CALLS * 10_000
    await house.audit()


async def test_a_full_disk_stops_new_calls_and_no_hang_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal cannot be written: new calls are refused, live ones end and are hung up, and all is written later."""
    house.account("100", "5")
    house.settings = ControlSettings(slice_s=30, renew_before_s=10.0, ring_s=5, resync_s=1.0)
    controller = await house.begin()
    first, second = [await decided(house.switch.offer(n, "100", "4930123")) for n in (1, 2)]
    for call in (first, second):
        house.switch.answer(call)
    await asyncio.sleep(0.1)
    commit = Journal._commit

    def full(_journal: Journal, _batch: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Journal, "_commit", full)
    house.switch.end(first)
    await asyncio.sleep(0.3)
    assert controller.journal.broken
    assert not controller.ready
    refused = await decided(house.switch.offer(3, "100", "4930123"))
    assert refused.refused is not None
    assert refused.refused.code == "unavailable"
    assert await house.switch.hangup(second.offer.call_id) is Outcome.DONE
    monkeypatch.setattr(Journal, "_commit", commit)
    for call in (first, second):
        assert (await house.record(call)).disposition == "answered"
    assert (await house.record(refused)).reason == "unavailable"
    assert controller.ready
    await house.audit()


@pytest.mark.parametrize("step_s", [-3600.0, 3600.0])
async def test_our_clock_steps_and_no_call_notices(
    house: House, monkeypatch: pytest.MonkeyPatch, step_s: float
) -> None:
    """Somebody sets the machine's time: calls are renewed by the monotonic clock and billed by the switch's."""

    class Stepping(SystemClock):
        stepped_s = 0.0

        def now(self) -> datetime:
            return super().now() + timedelta(seconds=self.stepped_s)

    clock = Stepping()
    monkeypatch.setattr(test_controller, "CLOCK", clock)
    customer = house.account("100", "5")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    house.switch.answer(call)
    await asyncio.sleep(0.3)
    clock.stepped_s = step_s
    house.switch.ahead_s = -step_s  # as the adapter measures it a moment later
    await asyncio.sleep(2.3)
    assert call.ended_at is None
    house.switch.end(call)
    record = await house.record(call)
    ended_at = house.switch.calls[record.call_id].ended_at
    assert (record.answered_at, record.ended_at) == (call.answered_at, ended_at)
    assert await house.balance(customer) == 5_000_000 - (record.talk_ms + 999) // 1000 * 10_000
    await house.audit()
