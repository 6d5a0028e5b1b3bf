"""Complete prepaid calls a second that one controller carries: simulated Asterisk over TCP, real Redis, real SQL.

    python -m benchmarks.controller [--json] [--calls 4000] [--at-once 200]

The switch runs in a process of its own and keeps a fixed number of calls up: each is offered, held, admitted, answered,
ended, priced, journalled, written to SQL and applied to Redis. `calls_per_s` counts from the first offer to the last
record; `calls_per_cpu_s` divides by the controller's own processor time, which is what a core of its own would carry.
At the end the books must balance. Loopback only; ends by itself.
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
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import structlog
import uvloop
from pydantic import SecretStr

from billing import accounts, books, tariffs, topups
from billing.credit.embedded import start_embedded
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, connect
from billing.models import AccountKind, IdentityKind
from billing.ports import SystemClock, SystemIds
from billing.settings import AsteriskSettings, ControlSettings
from billing.store import migrate, open_store, reading, work
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.simulator.asterisk import SimulatedAsterisk
from callctl.simulator.plans import CallPlan
from callctl.switches.asterisk import AsteriskSwitch
from rating.tariff import Rate, Rounding, Step

ACCOUNTS = 50
MOST_S = 300


def serve(pipe: Connection, calls: int, at_once: int) -> None:
    """Be the switch: tell the port, wait for the word, keep `at_once` calls up until `calls` are over."""
    uvloop.run(_serve(pipe, calls, at_once))


async def _serve(pipe: Connection, calls: int, at_once: int) -> None:
    async with SimulatedAsterisk(clock=SystemClock(), rng=Random(1)) as switch:
        pipe.send(switch.port)
        await asyncio.to_thread(pipe.recv)
        numbers = iter(range(calls))

        async def caller() -> int:
            refused = 0
            for number in numbers:
                plan = CallPlan(f"acct{number % ACCOUNTS}", "1001", "4930123", ring_s=0.01, talk_s=0.05)
                facts = await switch.place(plan).over()
                refused += facts.answered_at is None
            return refused

        pipe.send(sum(await asyncio.gather(*[caller() for _ in range(at_once)])))
        await asyncio.to_thread(pipe.recv)


async def measure(folder: Path, calls: int, at_once: int) -> dict[str, float]:
    """Run the calls; return the figures."""
    engine = open_store(f"sqlite:///{folder / 'callctl.db'}")
    migrate(engine)
    _fill(engine)
    server = start_embedded(folder / "credit")
    redis = connect(server.url, timeout_s=5)
    credit, live = CreditStore(redis), LiveCalls(redis)
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, calls, at_once), daemon=True)
    child.start()
    port = await asyncio.to_thread(ours.recv)
    clock, ids = SystemClock(), SystemIds()
    switch = AsteriskSwitch(
        AsteriskSettings(name="sim", port=port, secret=SecretStr("simulated")), clock=clock, ids=ids
    )
    controller = Controller(
        [switch], engine, credit, live, Journal(folder / "journal.db"), ControlSettings(), clock=clock, ids=ids
    )
    await controller.start()
    while not controller.ready or "sim" not in controller.watch.compared:  # noqa: ASYNC110 - once, at the start
        await asyncio.sleep(0.05)
    wall, cpu = time.perf_counter(), time.process_time()
    ours.send("go")
    async with asyncio.timeout(MOST_S):
        refused = await asyncio.to_thread(ours.recv)
        while (  # noqa: ASYNC110 - at the end
            controller.stats.ended + controller.stats.refused < calls or controller.settler.backlog
        ):
            await asyncio.sleep(0.01)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ours.send("stop")
    await controller.stop()
    while await credit.holds():  # noqa: ASYNC110 - the last postings
        await asyncio.sleep(0.05)
    with reading(engine) as session:
        report = books.check_store(session)
        _, findings = await books.check_credit(session, credit)
    await redis.aclose()
    server.stop()
    child.join(5)
    return {
        "calls": calls,
        "refused": refused,
        "cdrs": report.cdrs,
        "findings": len(report.findings) + len(findings),
        "calls_per_s": round(calls / wall, 1),
        "calls_per_cpu_s": round(calls / cpu, 1),
    }


def _fill(engine: object) -> None:
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
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="callctl-bench-") as folder:
        results = uvloop.run(measure(Path(folder), options.calls, options.at_once))
    if options.json:
        print(
            json.dumps({"machine": platform.processor() or platform.machine(), "commit": commit(), "results": results})
        )
    else:
        for name, value in results.items():
            print(f"{name:>18}  {value:,}")
    return 0 if results["findings"] == 0 and results["cdrs"] == results["calls"] else 1


if __name__ == "__main__":
    sys.exit(main())
