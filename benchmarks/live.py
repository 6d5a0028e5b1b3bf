"""Many calls held by one controller: what each takes in memory, and how late renewals come.

A part of `python -m benchmarks.controller`. The switch is a simulated Asterisk in a process of its own; the controller
is in this one. `bytes_per_live_call` is how much the process has grown with all calls up and talking. For
`renewal_late_p99_ms` the switch notes, at each new limit, how much later it came than `lead_s` before the end of the
old one, over one slice.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import uvloop
from pydantic import SecretStr
from sqlalchemy.engine import Engine

from benchmarks.lateness import Lateness
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore
from billing.ports import SystemClock, SystemIds
from billing.settings import AsteriskSettings, ControlSettings
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.simulator.asterisk import SimulatedAsterisk
from callctl.simulator.plans import CallPlan
from callctl.switches.asterisk import AsteriskSwitch

TALK_S = 36_000.0
ANSWERS_S = 120.0
"""How long the last of the calls may take to talk, once all are placed."""
RECORDS_S = 300.0
"""How long the last records may take, once all have hung up."""
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Load:
    """How many calls, how fast they come, and how long they are paid ahead."""

    calls: int
    per_s: float
    slice_s: int
    accounts: int

    @property
    def lead_s(self) -> float:
        """How long before the end of a slice the next is due."""
        return self.slice_s / 3


def _serve(pipe: Connection, load: Load) -> None:
    uvloop.run(_switch(pipe, load))


async def _switch(pipe: Connection, load: Load) -> None:
    late = Lateness(load.lead_s)
    async with SimulatedAsterisk(clock=SystemClock(), rng=Random(1)) as switch:
        pipe.send(switch.port)
        await asyncio.to_thread(pipe.recv)
        loop = asyncio.get_running_loop()
        begun, calls = loop.time(), []
        for number in range(load.calls):
            plan = CallPlan(f"acct{number % load.accounts}", "1001", "4930123", ring_s=0.05, talk_s=TALK_S)
            calls.append(switch.place(plan))
            await asyncio.sleep(max(begun + number / load.per_s - loop.time(), 0))
        pipe.send("placed")
        await asyncio.to_thread(pipe.recv)
        late.late_s.clear()
        await asyncio.to_thread(pipe.recv)
        pipe.send((list(late.late_s), sum(call.ended for call in calls)))
        begun = loop.time()
        for number, call in enumerate(calls):
            call.hang_up()
            await asyncio.sleep(max(begun + number / load.per_s - loop.time(), 0))
        await asyncio.to_thread(pipe.recv)


async def hold_many(folder: Path, engine: Engine, credit: CreditStore, live: LiveCalls, load: Load) -> dict[str, float]:
    """Have this many calls up at once, for a slice and a bit; return the figures."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, load), daemon=True)
    child.start()
    port = await asyncio.to_thread(ours.recv)
    clock, ids = SystemClock(), SystemIds()
    settings = ControlSettings(slice_s=load.slice_s, renew_before_s=load.lead_s)
    sim = AsteriskSettings(name="sim", port=port, secret=SecretStr("simulated"))
    switch = AsteriskSwitch(sim, clock=clock, ids=ids)
    journal = Journal(folder / "journal-live.db")
    controller = Controller([switch], engine, credit, live, journal, settings, clock=clock, ids=ids)
    await controller.start()
    while not controller.ready or "sim" not in controller.watch.compared:  # noqa: ASYNC110 - once, at the start
        await asyncio.sleep(0.05)
    before = resident()
    ours.send("go")
    await asyncio.to_thread(ours.recv)
    await _until(lambda: _all_talk(controller), ANSWERS_S, "not all calls talk", controller)
    talking = len(controller.calls)
    ours.send("count from now")
    await asyncio.sleep(load.slice_s * 1.1)
    ours.send("enough")
    late, cut = await asyncio.to_thread(ours.recv)
    # Not before: a look through all that is in memory holds up every renewal.
    grown = resident() - before
    most_s = load.calls / load.per_s + RECORDS_S
    await _until(
        lambda: not controller.calls and not controller.settler.backlog, most_s, "not all is written", controller
    )
    ours.send("stop")
    await controller.stop()
    child.join(10)
    late_ms = sorted(one * 1000 for one in late)
    return {
        "live_calls": talking,
        "slice_s": load.slice_s,
        "bytes_per_live_call": grown // talking,
        "renewals": len(late_ms),
        "renewal_late_p50_ms": round(statistics.median(late_ms), 1),
        "renewal_late_p99_ms": round(late_ms[int(len(late_ms) * 0.99)], 1),
        "cut": cut,
    }


async def _until(true: Callable[[], bool], most_s: float, what: str, controller: Controller) -> None:
    """Wait until something holds. Raises `RuntimeError` that says how things stand where it does not in time."""
    try:
        async with asyncio.timeout(most_s):
            while not true():  # noqa: ASYNC110 - at the start and at the end
                await asyncio.sleep(0.2)
    except TimeoutError as late:
        calls = controller.calls.values()
        raise RuntimeError(
            f"{what} after {most_s:.0f} s: {len(calls)} calls, {sum(call.answered_at is not None for call in calls)} "
            f"of them talk, {controller.settler.backlog} wait to be written; {controller.stats}; "
            f"links {controller.watch.status}, compared {controller.watch.compared}"
        ) from late


def _all_talk(controller: Controller) -> bool:
    return bool(controller.calls) and all(call.answered_at is not None for call in controller.calls.values())


def resident() -> int:
    """Return the bytes this process has in memory, without what only waits to be thrown away."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
