"""What callctl costs on a real switch: calls per second and set-up time, bare and controlled in one run.

    python -m benchmarks.switch --kind asterisk|freeswitch [--json] [--rate CALLS_PER_SECOND]
    python -m benchmarks.switch --kind asterisk|freeswitch --floor [--rate CALLS_PER_SECOND]

The rate rises by half until a call fails or SIPp cannot keep it, twice in a row; then the middle is tried, some times.
The set-up time (INVITE to 200) and the CPU time a call are taken at half of what the bare switch reached, in pairs of
runs, bare and controlled in turn, so that what else the machine does strikes both.

All of it twice. `shared`: caller, carrier, switch, controller and credit store share all cores, so what a controller
costs is taken from the switch as well. `pinned`: the switch has one core, the same bare and controlled, and everybody
else has the others: what the switch itself loses, and how it would be with the controller on a machine of its own.

`--floor`: no controller. Three kinds of calls in turn: `bare`, with nobody connected to the switch; `listened`, the
same while a client is; `floor`, stopped and sent on by that client, which decides nothing (`benchmarks.floor`). Without
`--rate` the highest rates of `bare` and `floor`, the switch on a core of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_DGRAM
from statistics import median, quantiles

from benchmarks.floor import sending_on
from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.freeswitch.lab import FreeswitchLab
from tests.switches.real.lab import REPOSITORY, Lab, free_port
from tests.switches.real.scenarios import Carrier, answerer, caller, number
from tests.switches.real.sipp import Dialog, Sipp, SippRun
from tests.switches.real.world import World

FIRST = 20
LATE_S = 2.0
MOST = 400
HALVINGS = 3
STEP_S = 5
PAIRS = 3
HOLD_MS = 1000
SETUP_S = 6
TRIES = 2


@dataclass(frozen=True, slots=True)
class Reached:
    """The highest rate without a failed call."""

    cps: int
    tried: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """INVITE to 200, and CPU time a call of the processes asked for."""

    p50_ms: float
    p99_ms: float
    cpu_ms: list[float]


class Bench:
    """One switch, one carrier, and callers past the controller or through it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.sipp = Sipp(folder, messages=False)
        self.timed = Sipp(folder / "timed")

    async def run(self, host: str, rate: int, seconds: int, *, timed: bool = False) -> tuple[SippRun, float]:
        """Call at this rate; return what SIPp measured, and how much longer than planned it took.

        `timed`: with the messages, whose times are finer than the 4 ms in which SIPp counts its own.
        """
        calls = rate * seconds
        begun = time.monotonic()
        run = await (self.timed if timed else self.sipp).call(
            caller(number("49", Carrier.ANSWERS), hold_ms=HOLD_MS, strict=True),
            local=(host, free_port(SOCK_DGRAM, host)),
            remote=self.lab.sip,
            calls=calls,
            rate=rate,
            limit_s=seconds + 15,
        )
        return run, time.monotonic() - begun - seconds - HOLD_MS / 1000

    async def reach(self, host: str) -> Reached:
        """Find the highest rate that the switch keeps."""
        tried: list[tuple[int, str]] = []

        async def keeps(rate: int) -> bool:
            for _ in range(TRIES):
                run, late_s = await self.run(host, rate, STEP_S)
                kept = run.exit_status == 0 and late_s < LATE_S
                tried.append((rate, "ok" if kept else f"status {run.exit_status}, {late_s:.1f} s late"))
                await asyncio.sleep(1)
                if kept:
                    return True
            return False

        best, rate, failed = 0, FIRST, 0
        while not failed and rate <= MOST:
            if await keeps(rate):
                best, rate = rate, rate * 3 // 2
            else:
                failed = rate
        for _ in range(HALVINGS if failed else 0):
            middle = (best + failed) // 2
            if middle in (best, failed):
                break
            if await keeps(middle):
                best = middle
            else:
                failed = middle
        return Reached(best, tuple(tried))

    async def pairs(self, hosts: tuple[str, str], rate: int, *pids: int) -> tuple[Setup, Setup]:
        """Call at one rate past the controller and through it, in turn; return INVITE to 200, and CPU time a call."""
        taken: list[list[Taken]] = [[], []]
        for _ in range(PAIRS):
            for which, host in enumerate(hosts):
                taken[which].append(await self.take(host, rate, *pids))
        return setup_of(taken[0]), setup_of(taken[1])

    async def take(self, host: str, rate: int, *pids: int) -> Taken:
        """Call at one rate for some seconds; return INVITE to 200 of each call, and CPU time a call of each process."""
        before = [cpu_ms(pid) for pid in pids]
        run, _ = await self.run(host, rate, SETUP_S, timed=True)
        await asyncio.sleep(1)  # the last records are written down
        calls = rate * SETUP_S
        spent = tuple((cpu_ms(pid) - was) / calls for pid, was in zip(pids, before, strict=True))
        return Taken(tuple(one for one in map(answer_ms, run.dialogs) if one is not None), spent)


@dataclass(frozen=True, slots=True)
class Taken:
    """One run: INVITE to 200 of its calls, and CPU time a call of each process asked for."""

    answer_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]


def setup_of(taken: Sequence[Taken]) -> Setup:
    """Put runs together."""
    cuts = quantiles([one for run in taken for one in run.answer_ms], n=100)
    spent = zip(*[run.cpu_ms for run in taken], strict=True)
    return Setup(cuts[49], cuts[98], [round(median(column), 2) for column in spent])


def answer_ms(dialog: Dialog) -> float | None:
    """Return the time from INVITE to 200."""
    invite, answer = dialog.first("INVITE"), dialog.first(200)
    return (answer.at - invite.at).total_seconds() * 1000 if invite and answer else None


def pin(pid: int, cores: set[int]) -> None:
    """Let a process with all its threads run on these cores only."""
    for _ in range(2):  # a thread that began meanwhile has its maker's cores
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


def cpu_ms(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


async def measure(kind: str, folder: Path, *, rate: int) -> dict[str, dict[str, object]]:
    """Measure bare and controlled on one switch, shared and pinned."""
    switch = folder / kind
    switch.mkdir()
    lab = AsteriskLab(switch, verbose=False) if kind == "asterisk" else FreeswitchLab(switch, verbose=False)
    lab.start()
    cores = os.sched_getaffinity(0)
    results: dict[str, dict[str, object]] = {}
    try:
        bench = Bench(lab, folder / "sipp")
        async with bench.sipp.carrier(answerer(lab.trunk), local=(lab.carrier_host, 5060)) as carrier:
            world = World(lab, folder / "world", watched=False)
            await world.open()
            try:
                payer = await world.customer("1000000")
                await world.start_controller(slice_s=60, renew_before_s=20.0)
                if lab.process is None or world.controller is None:
                    raise RuntimeError("the switch or the controller has ended")
                ours = (world.controller.pid, int((await world.redis.info("server"))["process_id"]))
                hosts = (lab.bare_host, payer.endpoint.host)
                await bench.run(lab.bare_host, FIRST, 1)
                results["shared"] = await compared(bench, hosts, lab.process.pid, *ours, rate=rate)
                if len(cores) > 1:
                    one, others = {min(cores)}, cores - {min(cores)}
                    for pid in (*ours, carrier.pid, os.getpid()):
                        pin(pid, others)
                    pin(lab.process.pid, one)
                    results["pinned"] = await compared(bench, hosts, lab.process.pid, *ours, rate=rate)
                await world.check_books()
            finally:
                await world.close()
    finally:
        lab.stop()
    return results


async def measure_floor(kind: str, folder: Path, *, rate: int) -> dict[str, dict[str, object]]:
    """Measure what asking costs that decides nothing: at a rate, or the highest rates with the switch on one core."""
    switch = folder / kind
    switch.mkdir()
    lab = AsteriskLab(switch, verbose=False) if kind == "asterisk" else FreeswitchLab(switch, verbose=False)
    lab.start()
    taken: dict[str, list[Taken]] = {"bare": [], "listened": [], "floor": []}
    try:
        bench = Bench(lab, folder / "sipp")
        async with bench.sipp.carrier(answerer(lab.trunk), local=(lab.carrier_host, 5060)) as carrier:
            await bench.run(lab.bare_host, FIRST, 1)
            if not rate:
                return {"pinned": await _floor_reached(kind, bench, carrier.pid)}
            for _ in range(PAIRS * 2):
                if lab.process is None:
                    raise RuntimeError("the switch has ended")
                taken["bare"].append(await bench.take(lab.bare_host, rate, lab.process.pid))
                async with sending_on(kind, lab):
                    taken["listened"].append(await bench.take(lab.bare_host, rate, lab.process.pid))
                    taken["floor"].append(await bench.take(lab.floor_host, rate, lab.process.pid))
    finally:
        lab.stop()
    results: dict[str, dict[str, object]] = {}
    for name, runs in taken.items():
        found = setup_of(runs)
        results[name] = {
            "switch_cpu_ms": found.cpu_ms[0],
            "setup_ms": [round(found.p50_ms, 2), round(found.p99_ms, 2)],
            "setup_rate_cps": rate,
            "load_average": round(os.getloadavg()[0], 1),
        }
    return results


async def _floor_reached(kind: str, bench: Bench, carrier: int) -> dict[str, object]:
    lab, cores = bench.lab, os.sched_getaffinity(0)
    if lab.process is None:
        raise RuntimeError("the switch has ended")
    if len(cores) > 1:
        for pid in (carrier, os.getpid()):
            pin(pid, cores - {min(cores)})
        pin(lab.process.pid, {min(cores)})
    bare = await bench.reach(lab.bare_host)
    async with sending_on(kind, lab):
        floor = await bench.reach(lab.floor_host)
    return {
        "bare_cps": bare.cps,
        "floor_cps": floor.cps,
        "ratio": round(floor.cps / bare.cps, 3) if bare.cps else None,
        "load_average": round(os.getloadavg()[0], 1),
        "bare_steps": bare.tried,
        "floor_steps": floor.tried,
    }


async def compared(
    bench: Bench, hosts: tuple[str, str], switch: int, controller: int, store: int, *, rate: int
) -> dict[str, object]:
    """Measure bare and controlled, the way the processes are placed now."""
    nothing = Reached(0, ())
    bare, controlled = (nothing, nothing) if rate else (await bench.reach(hosts[0]), await bench.reach(hosts[1]))
    half = rate or max(bare.cps // 2, 1)
    plain, billed = await bench.pairs(hosts, half, switch, controller, store)
    return {
        "bare_cps": bare.cps,
        "controlled_cps": controlled.cps,
        "ratio": round(controlled.cps / bare.cps, 3) if bare.cps else None,
        "added_setup_p50_ms": round(billed.p50_ms - plain.p50_ms, 2),
        "added_setup_p99_ms": round(billed.p99_ms - plain.p99_ms, 2),
        "setup_rate_cps": half,
        "bare_setup_ms": [round(plain.p50_ms, 2), round(plain.p99_ms, 2)],
        "controlled_setup_ms": [round(billed.p50_ms, 2), round(billed.p99_ms, 2)],
        "bare_switch_cpu_ms": plain.cpu_ms[0],
        "controlled_switch_cpu_ms": billed.cpu_ms[0],
        "controller_cpu_ms": billed.cpu_ms[1],
        "credit_store_cpu_ms": billed.cpu_ms[2],
        "load_average": round(os.getloadavg()[0], 1),
        "bare_steps": bare.tried,
        "controlled_steps": controlled.tried,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Calls per second and set-up time, bare and controlled.")
    parser.add_argument("--kind", choices=["asterisk", "freeswitch"], required=True)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rate", type=int, default=0, help="set-up and CPU time at this rate only, no highest rate")
    parser.add_argument("--floor", action="store_true", help="what asking costs that decides nothing")
    chosen = parser.parse_args()
    work = measure_floor if chosen.floor else measure
    with tempfile.TemporaryDirectory(prefix="callctl-bench-") as folder:
        results = asyncio.run(work(chosen.kind, Path(folder), rate=chosen.rate))
    if chosen.json:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
        ).stdout.strip()
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        print(json.dumps({"machine": machine, "commit": commit, "results": results}))
    else:
        for placed, found in results.items():
            print(placed)
            for name, value in found.items():
                print(f"  {name:24} {value}")


if __name__ == "__main__":
    main()
