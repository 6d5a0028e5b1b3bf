"""One timer for the alarms of all calls."""

from __future__ import annotations

import asyncio
from random import Random

from billing.ports import SystemClock
from callctl.alarms import STALE, Alarms

CLOCK = SystemClock()


async def test_each_alarm_rings_once_in_its_time_and_in_order() -> None:
    """Whatever the order in which they are set, they ring in the order of their moments, none early, each once."""
    rang: list[tuple[str, float]] = []
    alarms = Alarms(CLOCK, lambda key: rang.append((key, CLOCK.monotonic())))
    now = CLOCK.monotonic()
    moments = {f"call-{number}": now + 0.02 + number * 0.004 for number in range(20)}
    keys = list(moments)
    Random(3).shuffle(keys)
    for key in keys:
        alarms.set(key, moments[key])
    await asyncio.sleep(0.2)
    assert [key for key, _ in rang] == list(moments)
    assert all(at > moments[key] - 0.003 for key, at in rang)
    assert len(alarms) == 0


async def test_an_alarm_set_anew_or_taken_back_does_not_ring_at_its_old_time() -> None:
    """Earlier, later, never: only the last word counts, also where it is the first one again."""
    rang: list[str] = []
    alarms = Alarms(CLOCK, rang.append)
    now = CLOCK.monotonic()
    for key, *moments in (("later", 0.01, 0.09), ("earlier", 5.0, 0.02), ("never", 0.01, None), ("again", 0.03, None)):
        for moment in moments:
            alarms.set(key, None if moment is None else now + moment)
    alarms.set("again", now + 0.03)
    await asyncio.sleep(0.06)
    assert rang == ["earlier", "again"]
    await asyncio.sleep(0.06)
    assert rang == ["earlier", "again", "later"]


async def test_what_is_due_already_rings_at_once() -> None:
    """A moment that has gone by is now; and who is rung for may set its alarm again."""
    rang: list[str] = []

    def ring(key: str) -> None:
        rang.append(key)
        if len(rang) < 3:
            alarms.set(key, CLOCK.monotonic() - 1)

    alarms = Alarms(CLOCK, ring)
    alarms.set("call", CLOCK.monotonic() - 10)
    await asyncio.sleep(0.05)
    assert rang == ["call"] * 3


async def test_moments_that_hold_no_longer_are_not_kept_for_ever() -> None:
    """An alarm that is moved a thousand times takes no more room than those that are set."""
    alarms = Alarms(CLOCK, lambda _: None)
    for number in range(10 * STALE):
        alarms.set("call", CLOCK.monotonic() + 1000 + number)
    assert len(alarms._moments) <= STALE + 3
    alarms.stop()
    assert len(alarms) == 0
