"""A switch that gives a call the id of one that is over: it is refused, or else kept for a person, never unseen."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from billing.credit.embedded import EmbeddedServer, start_embedded
from tests.integration.test_controller import House, build, decided


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    running = start_embedded(tmp_path_factory.mktemp("v"))
    yield running
    running.stop()


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        yield built


async def talked(house: House) -> None:
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.sleep(0.1)
    house.switch.end(call)
    await house.record(call)


async def test_the_controller_that_had_the_call_offers_its_id_nothing(house: House) -> None:
    """Whoever comes under the id, another account too, is not admitted and costs nobody anything."""
    first, other = house.account("100", "5"), house.account("200", "5")
    await house.begin()
    await talked(house)
    paid = await house.balance(first)
    again = house.switch.offer(1, "200", "4930")
    await asyncio.sleep(0.3)
    assert not again.decided.is_set()
    assert (await house.balance(first), await house.balance(other)) == (paid, 5_000_000)
    await house.audit()


async def test_the_next_controller_is_told_by_the_credit_store(house: House) -> None:
    """For an hour nothing is held under the id of a call that is over: the caller is refused."""
    customer = house.account("100", "5")
    controller = await house.begin()
    await talked(house)
    paid = await house.balance(customer)
    await controller.stop()
    await house.begin()
    again = await decided(house.switch.offer(1, "100", "4930"))
    assert again.refused is not None
    assert again.refused.sip_status == 503
    assert await house.balance(customer) == paid
    await house.audit()


async def test_after_that_it_is_put_aside_for_a_person(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id has a record already: it is not taken for that call, but kept in the journal with what it costs."""
    monkeypatch.setattr("billing.cdrs.ANOTHER_CALL_AFTER", timedelta())
    customer = house.account("100", "5")
    controller = await house.begin()
    await talked(house)
    paid = await house.balance(customer)
    await controller.stop()
    await house.redis.delete(house.credit._call_keys("fake:1")[2])
    controller = await house.begin()
    again = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(again)
    await asyncio.sleep(1.2)
    house.switch.end(again)
    for _ in range(100):
        if controller.settler.parked:
            break
        await asyncio.sleep(0.05)
    assert controller.settler.parked == 1
    assert await house.balance(customer) == paid
    with sqlite3.connect(house.journal_path) as journal:
        [(body, why)] = journal.execute("SELECT body, parked FROM ended").fetchall()
    assert why.startswith("IdUsedAgain")
    assert '"amount_micros":20000' in body.replace(" ", "")
