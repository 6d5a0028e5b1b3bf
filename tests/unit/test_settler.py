"""How often ended calls go to SQL, in virtual time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from random import Random
from typing import Any, cast

import pytest

from billing.cdrs import EndedCall, Settled
from callctl import settler as module
from callctl.journal import Entry
from callctl.settler import BATCH, Settler, Waiting
from tests.simulation.clock import VirtualClock
from tests.simulation.loop import SimulatedLoop

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class _Disk:
    async def write(self, _entry: object) -> None:
        pass

    def settled(self, _call_ids: object) -> None:
        pass


def _ended(number: int) -> EndedCall:
    return EndedCall(
        f"ast:{number}", "ast", 1, "outbound", "1", "2", "", "busy", "", 486, 17, "", NOON, None, NOON, 0, 0, False
    )


def batches(ends_s: list[float], monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """Return when the batches began and how many calls each had, where calls end at these seconds."""
    found: list[tuple[float, int]] = []

    async def settle_some(settler: Settler) -> bool:
        found.append((round(asyncio.get_running_loop().time(), 3), len(settler._waiting)))
        settler._waiting.clear()
        return True

    async def calls(settler: Settler) -> None:
        running = asyncio.create_task(settler.run())
        for number, at_s in enumerate(ends_s):
            await asyncio.sleep(at_s - asyncio.get_running_loop().time())
            await settler.take(_ended(number), held=False)
        await asyncio.sleep(2)
        running.cancel()

    monkeypatch.setattr(Settler, "_settle_some", settle_some)
    loop = SimulatedLoop(Random(1))
    nothing = cast("Any", None)
    try:
        loop.run_until_complete(calls(Settler(nothing, nothing, cast("Any", _Disk()), VirtualClock(loop))))
    finally:
        loop.close()
    return found


def test_a_lone_call_is_settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that ends where none ended lately waits a tenth of a second for company, and no longer."""
    assert batches([1.0, 3.0], monkeypatch) == [(1.1, 1), (3.1, 1)]


def test_calls_that_keep_ending_share_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine calls a second make two batches a second, not nine; none waits longer than half a second for its own."""
    ends_s = [1 + number * 0.115 for number in range(12)]
    assert batches(ends_s, monkeypatch) == [(1.1, 1), (1.6, 5), (2.1, 4), (2.6, 2)]


async def test_a_round_costs_the_same_however_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour without SQL 180,000 calls wait: a round looks at those it settles, and at no other."""
    looked_at: set[int] = set()

    class Watched(Waiting):
        def __getattribute__(self, name: str) -> Any:
            looked_at.add(id(self))
            return super().__getattribute__(name)

    monkeypatch.setattr(module, "Waiting", Watched)
    monkeypatch.setattr(Settler, "_write", lambda _, calls: Settled(tuple(one.call_id for one in calls), (), ()))
    nothing = cast("Any", None)
    settler = Settler(nothing, nothing, cast("Any", _Disk()), nothing)
    settler.resume([Entry(_ended(number), held=False) for number in range(20 * BATCH)])
    for settled in (1, 2, 3):
        looked_at.clear()
        assert await settler._settle_some()
        assert settler.backlog == (20 - settled) * BATCH
        assert len(looked_at) <= 2 * BATCH  # those of the round before are looked at, and left
