"""Complete prepaid calls a second that one controller carries: simulated switch over TCP, real Redis, real SQL.

    python -m benchmarks.controller [--json] [--kind asterisk|freeswitch] [--calls 4000] [--at-once 200]
                                    [--live 2000] [--live-per-s 100] [--slice-s 60]
    python -m benchmarks.controller --rates 0,10,25,50,100 [--seconds 10]

The switch runs in a process of its own and keeps a fixed number of calls up: each is offered, held, admitted, answered,
ended, priced, journalled, written to SQL and applied to Redis. `calls_per_s` counts from the first offer to the last
record; `calls_per_cpu_s` divides by the controller's own processor time, which is what a core of its own would carry.
Then `--live` calls are held at once (`benchmarks/live.py`): `bytes_per_live_call`, `renewal_late_p99_ms`.

`--rates`: instead so many calls a second, one rate after the other. A controller that has little to do gathers less
into one write, so a call costs it more than when it is busy: `ms_per_s` is its processor time in a second,
`ms_per_call` that divided by the calls. At the end the books must balance. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import structlog
import uvloop
from pydantic import SecretStr

from benchmarks.live import Load, hold_many
from billing import accounts, books, tariffs, topups
from billing.credit.embedded import start_embedded
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, connect
from billing.models import AccountKind, IdentityKind
from billing.ports import SystemClock, SystemIds
from billing.settings import AsteriskSettings, ControlSettings, FreeswitchSettings
from billing.store import migrate, open_store, reading, work
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.simulator.asterisk import SimulatedAsterisk
from callctl.simulator.freeswitch import SimulatedFreeswitch
from callctl.simulator.plans import CallPlan
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.base import Switch
from callctl.switches.freeswitch import FreeSwitch
from rating.tariff import Rate, Rounding, Step

ACCOUNTS = 50
MOST_S = 300


@dataclass(frozen=True, slots=True)
class Traffic:
    """`calls` calls: `per_s` of them begin in each second, or (0) as many as keep `at_once` up."""

    calls: int
    at_once: int = 0
    per_s: int = 0


def serve(pipe: Connection, kind: str) -> None:
    """Be the switch: tell the port, make the traffic that is asked for and tell how many were refused, until None."""
    uvloop.run(_serve(pipe, kind))


async def _serve(pipe: Connection, kind: str) -> None:
    simulated = SimulatedAsterisk if kind == "asterisk" else SimulatedFreeswitch
    async with simulated(clock=SystemClock(), rng=Random(1)) as switch:
        pipe.send(switch.port)

        async def call(number: int) -> bool:
            plan = CallPlan(f"acct{number % ACCOUNTS}", "1001", "4930123", ring_s=0.01, talk_s=0.05)
            return (await switch.place(plan).over()).answered_at is None

        async def caller(numbers: Iterator[int]) -> int:
            return sum([await call(number) for number in numbers])

        while (traffic := await asyncio.to_thread(pipe.recv)) is not None:
            if traffic.per_s:
                begun, calls = time.perf_counter(), []
                for number in range(traffic.calls):
                    await asyncio.sleep(max(begun + number / traffic.per_s - time.perf_counter(), 0))
                    calls.append(asyncio.create_task(call(number)))
                pipe.send(sum(await asyncio.gather(*calls)))
            else:
                numbers = iter(range(traffic.calls))
                pipe.send(sum(await asyncio.gather(*[caller(numbers) for _ in range(traffic.at_once)])))


class Bench:
    """A controller on a simulated switch."""

    def __init__(self, kind: str, controller: Controller, pipe: Connection) -> None:
        self.kind, self.controller, self.pipe = kind, controller, pipe
        self.placed = self.refused = 0

    async def run(self, traffic: Traffic) -> tuple[float, float]:
        """Carry the traffic until its last call is settled; return the seconds and the processor seconds it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.pipe.send(traffic)
        stats = self.controller.stats
        self.placed += traffic.calls
        async with asyncio.timeout(MOST_S):
            self.refused += await asyncio.to_thread(self.pipe.recv)
            while (  # noqa: ASYNC110 - at the end
                stats.ended + stats.refused < self.placed or self.controller.settler.backlog
            ):
                await asyncio.sleep(0.01)
        return time.perf_counter() - wall, time.process_time() - cpu

    async def at_once(self, calls: int, at_once: int) -> dict[str, float]:
        """Carry as much as it can."""
        wall, cpu = await self.run(Traffic(calls, at_once=at_once))
        return {"calls": calls, "calls_per_s": round(calls / wall, 1), "calls_per_cpu_s": round(calls / cpu, 1)}

    async def at_rates(self, rates: Sequence[int], seconds: int) -> dict[str, float]:
        """Carry so many calls a second, one rate after the other; 0: do nothing for as long."""
        found: dict[str, float] = {}
        if 0 not in rates:
            await self.run(Traffic(seconds, per_s=1))
        for rate in rates:
            if rate:
                wall, cpu = await self.run(Traffic(rate * seconds, per_s=rate))
                found[f"ms_per_call_at_{rate}"] = round(cpu * 1000 / (rate * seconds), 2)
            else:
                wall, cpu = time.perf_counter(), time.process_time()
                await asyncio.sleep(seconds)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            found[f"ms_per_s_at_{rate}"] = round(cpu * 1000 / wall, 1)
        return {"calls": self.placed, **found}


async def measure(
    folder: Path, kind: str, work: Callable[[Bench], Awaitable[dict[str, float]]], load: Load | None
) -> dict[str, float]:
    """Start everything, do the work, and check the books; return the figures."""
    engine = open_store(f"sqlite:///{folder / 'callctl.db'}")
    migrate(engine)
    fill(engine)
    server = start_embedded(folder / "credit")
    redis = connect(server.url, timeout_s=5)
    credit, live = CreditStore(redis), LiveCalls(redis)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, kind), daemon=True)
    child.start()
    port = await asyncio.to_thread(ours.recv)
    clock, ids = SystemClock(), SystemIds()
    controller = Controller(
        [_switch(kind, port)],
        engine,
        credit,
        live,
        Journal(folder / "journal.db"),
        ControlSettings(),
        clock=clock,
        ids=ids,
    )
    await controller.start()
    while not controller.ready or "sim" not in controller.watch.compared:  # noqa: ASYNC110 - once, at the start
        await asyncio.sleep(0.05)
    bench = Bench(kind, controller, ours)
    results = await work(bench)
    ours.send(None)
    await controller.stop()
    if load is not None:
        results |= await hold_many(folder, engine, credit, live, load)
    while await credit.holds():  # noqa: ASYNC110 - the last postings
        await asyncio.sleep(0.05)
    with reading(engine) as session:
        report = books.check_store(session)
        _, findings = await books.check_credit(session, credit)
    await redis.aclose()
    server.stop()
    child.join(5)
    return {
        **results,
        "refused": bench.refused,
        "cdrs": report.cdrs,
        "findings": len(report.findings) + len(findings),
    }


def _switch(kind: str, port: int) -> Switch:
    clock, ids = SystemClock(), SystemIds()
    if kind == "asterisk":
        secret = SecretStr("simulated")
        return AsteriskSwitch(AsteriskSettings(name="sim", port=port, secret=secret), clock=clock, ids=ids)
    return FreeSwitch(FreeswitchSettings(name="sim", port=port, password=SecretStr("simulated")), clock=clock, ids=ids)


def fill(engine: object) -> None:
    """Make a tariff and accounts with money."""
    now = SystemClock().now()
    with work(engine) as session:  # type: ignore[arg-type]
        accounts.add_operator(session, name="operator", currency="EUR", actor="benchmark", now=now)
        tariffs.add_tariff(session, name="retail", currency="EUR", rounding=Rounding(), actor="benchmark", now=now)
        rates = [Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.6"), 60, 1),), Rounding())]
        tariffs.import_rates(session, "retail", rates, actor="benchmark", now=now)
        for number in range(ACCOUNTS):
            account = accounts.add_account(
                session,
                name=f"acct{number}",
                kind=AccountKind.CUSTOMER,
                tariff="retail",
                identities=[(IdentityKind.ACCOUNT_CODE, f"acct{number}")],
                actor="benchmark",
                now=now,
            )
            if account.id is None:
                raise AssertionError("an account without a number")
            topups.top_up(session, account.id, 10**10, operation=f"topup-{number}", actor="benchmark", now=now)


def commit() -> str:
    """Return the short commit of the working tree, or "" outside one."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--kind", choices=["asterisk", "freeswitch"], default="asterisk")
    parser.add_argument("--rates", default="", help="calls per second, by commas: the processor time at each")
    parser.add_argument("--seconds", type=int, default=10, help="how long at each rate")
    parser.add_argument("--live", type=int, default=2000, help="calls held at once; 0: none")
    parser.add_argument("--live-per-s", type=float, default=100.0, help="how fast they come")
    parser.add_argument("--slice-s", type=int, default=60, help="talk time held at once for each of them")
    options = parser.parse_args()
    rates = [int(rate) for rate in options.rates.split(",") if rate]

    async def work(bench: Bench) -> dict[str, float]:
        if rates:
            return await bench.at_rates(rates, options.seconds)
        return await bench.at_once(options.calls, options.at_once)

    load = Load(options.live, options.live_per_s, options.slice_s, ACCOUNTS) if options.live and not rates else None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="callctl-bench-") as folder:
        results = uvloop.run(measure(Path(folder), options.kind, work, load))
    if options.json:
        print(
            json.dumps({"machine": platform.processor() or platform.machine(), "commit": commit(), "results": results})
        )
    else:
        for name, value in results.items():
            print(f"{name:>20}  {value:,}")
    calls = results["calls"] + load.calls if load else results["calls"]
    return 0 if results["findings"] == 0 and results["cdrs"] == calls and not results.get("cut") else 1


if __name__ == "__main__":
    sys.exit(main())
