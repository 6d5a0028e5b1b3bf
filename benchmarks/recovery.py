"""A controller with many live calls: renewed on time, killed with SIGKILL, and how soon the next one has adopted them.

    python -m benchmarks.recovery [--json] [--calls 10000] [--per-s 200] [--how kill|freeze]

The controller is `callctl controller` in a process of its own, the switch a simulated Asterisk in this one. Calls come
in at `--per-s` until `--calls` are up and talking; a slice is as long as it takes to place all of them. For
`renewal_late_p99_ms` the switch notes, at each new limit, how much later it came than a third of a slice before the
end of the old one. Then a second controller is started, which waits, and the first gets SIGKILL (`--how freeze`:
SIGSTOP): `led_s` later the second leads, `adopted_s` later it has all calls on its board. A frozen one is woken then,
and must say nothing. At the end everything hangs up: one record for each call, and balanced books.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from random import Random

import structlog
import uvloop
from sqlalchemy.engine import Engine
from sqlmodel import col, func, select

from benchmarks.lateness import Lateness
from billing import accounts, books, tariffs, topups
from billing.credit.embedded import start_embedded
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, connect
from billing.models import AccountKind, Cdr, IdentityKind
from billing.ports import SystemClock
from billing.store import migrate, open_store, reading, work
from callctl.simulator.asterisk import SimulatedAsterisk
from callctl.simulator.plans import CallPlan
from rating.tariff import Rate, Rounding, Step

CLOCK = SystemClock()
ACCOUNTS = 50
MOST_S = 400
SETTINGS = """\
[store]
url = "sqlite:///{folder}/callctl.db"
[credit]
url = "{redis}"
[control]
journal = "{folder}/journal.db"
slice_s = {slice_s}
renew_before_s = {lead_s}
[[asterisk]]
name = "sim"
port = {port}
secret = "simulated"
"""


def _fill(engine: Engine) -> None:
    now = CLOCK.now()
    with work(engine) as session:
        accounts.add_operator(session, name="operator", currency="EUR", actor="benchmark", now=now)
        tariffs.add_tariff(session, name="retail", currency="EUR", rounding=Rounding(), actor="benchmark", now=now)
        rates = [Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.6"), 60, 1),), Rounding())]
        tariffs.import_rates(session, "retail", rates, actor="benchmark", now=now)
    for number in range(ACCOUNTS):
        with work(engine) as session:
            account = accounts.add_account(
                session,
                name=f"acct{number}",
                kind=AccountKind.CUSTOMER,
                tariff="retail",
                identities=[(IdentityKind.ACCOUNT_CODE, f"acct{number}")],
                actor="benchmark",
                now=now,
            )
            account_id = account.id or 0
        with work(engine) as session:
            topups.top_up(session, account_id, 10**12, operation=f"topup-{number}", actor="benchmark", now=now)


def _start(folder: Path, config: Path) -> subprocess.Popen[bytes]:
    with (folder / "controller.log").open("ab") as said:
        words = [sys.executable, "-m", "callctl.cli.main", "--config", str(config), "controller"]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)


async def measure(folder: Path, calls: int, per_s: float, how: signal.Signals) -> dict[str, float]:
    """Run it all; return the figures."""
    engine = open_store(f"sqlite:///{folder / 'callctl.db'}")
    migrate(engine)
    _fill(engine)
    server = start_embedded(folder / "credit")
    redis = connect(server.url, timeout_s=5)
    credit, live = CreditStore(redis), LiveCalls(redis)
    slice_s = max(int(calls / per_s), 15)
    lead_s = slice_s / 3
    late = Lateness(lead_s)
    async with SimulatedAsterisk(clock=CLOCK, rng=Random(1)) as switch:
        config = folder / "callctl.toml"
        config.write_text(
            SETTINGS.format(folder=folder, redis=server.url, slice_s=slice_s, lead_s=lead_s, port=switch.port)
        )
        process = _start(folder, config)
        await _until(lambda: len(switch.ami.sessions) > 0, 60)
        await asyncio.sleep(2.0)
        placed = []
        for number in range(calls):
            placed.append(
                switch.place(CallPlan(f"acct{number % ACCOUNTS}", "1", "4930123", ring_s=0.05, talk_s=MOST_S))
            )
            await asyncio.sleep(1 / per_s)
        await _until(lambda: _on_board(live, calls), 60)
        late.clear()
        await asyncio.sleep(slice_s * 1.1)
        renewals, lateness = len(late.late_s), sorted(late.late_s)
        standby = _start(folder, config)
        await _until(lambda: _somebody_waits(live), 60)
        led_s, adopted_s = await _taken_over(live, process, how, calls)
        process = standby
        cut = sum(call.ended for call in placed)
        for call in placed:
            if not call.ended:
                call.hang_up()
        await _until(lambda: _recorded(engine, calls), 120)
        await _until(lambda: _none_held(credit), 60)
        process.terminate()
        await asyncio.to_thread(process.wait)
    with reading(engine) as session:
        report = books.check_store(session)
        _, findings = await books.check_credit(session, credit)
    await redis.aclose()
    server.stop()
    return {
        "calls": calls,
        "renewals": renewals,
        "renewal_late_p50_ms": round(statistics.median(lateness) * 1000, 1),
        "renewal_late_p99_ms": round(lateness[int(len(lateness) * 0.99)] * 1000, 1),
        "led_s": round(led_s, 2),
        "adopted_s": round(adopted_s, 2),
        "cut": cut,
        "cdrs": report.cdrs,
        "findings": len(report.findings) + len(findings),
    }


async def _taken_over(
    live: LiveCalls, process: subprocess.Popen[bytes], how: signal.Signals, calls: int
) -> tuple[float, float]:
    """Kill or freeze who leads; return the seconds until another does, and until it has adopted all calls."""
    first, begun = await _leader(live), time.perf_counter()
    process.send_signal(how)
    if how is signal.SIGKILL:
        process.wait()
    await live.hide_others("sim", ())
    await _until(lambda: _another_leads(live, first), 60)
    led_s = time.perf_counter() - begun
    await _until(lambda: _on_board(live, calls), 60)
    adopted_s = time.perf_counter() - begun
    if how is signal.SIGSTOP:
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(5.0)
        process.terminate()
        await asyncio.to_thread(process.wait)
    return led_s, adopted_s


async def _until(true: object, most_s: float) -> None:
    give_up = time.monotonic() + most_s
    while True:
        found = true()  # type: ignore[operator]
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if time.monotonic() > give_up:
            raise TimeoutError(f"not within {most_s} s")
        await asyncio.sleep(0.02)


async def _leader(live: LiveCalls) -> str:
    return (await live.leaders(["sim"]))["sim"][0] or ""


async def _another_leads(live: LiveCalls, first: str) -> bool:
    return await _leader(live) not in {"", first}


async def _somebody_waits(live: LiveCalls) -> bool:
    leader, waits = (await live.leaders(["sim"]))["sim"]
    return bool(waits) and waits != leader


async def _on_board(live: LiveCalls, calls: int) -> bool:
    talking = sum(call.state == "talking" for call in await live.list(most=calls + 1))
    if talking < calls:
        await asyncio.sleep(0.2)
    return talking >= calls


async def _none_held(credit: CreditStore) -> bool:
    return not await credit.holds()


def _recorded(engine: Engine, calls: int) -> bool:
    with reading(engine) as session:
        return session.exec(select(func.count(col(Cdr.call_id)))).one() >= calls


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--per-s", type=float, default=200.0)
    parser.add_argument("--how", choices=["kill", "freeze"], default="kill", help="what happens to the first")
    given = parser.parse_args()
    how = signal.SIGKILL if given.how == "kill" else signal.SIGSTOP
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with tempfile.TemporaryDirectory(prefix="callctl-bench-") as folder:
        results = uvloop.run(measure(Path(folder), given.calls, given.per_s, how))
    if given.json:
        asked = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        print(json.dumps({"machine": platform.processor() or platform.machine(), "commit": commit, "results": results}))
    else:
        for name, value in results.items():
            print(f"{name:>20}  {value:,}")
    return 0 if results["findings"] == 0 and results["cdrs"] == results["calls"] and not results["cut"] else 1


if __name__ == "__main__":
    sys.exit(main())
