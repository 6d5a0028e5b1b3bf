"""What callctl costs on a real switch: calls per second and set-up time, bare and controlled in one run.

    python -m benchmarks.switch --kind asterisk|freeswitch [--json]

The rate rises step by step until a call fails or SIPp cannot keep it; the set-up time (INVITE to 200) is taken at half
of what the bare switch reached. Caller, carrier, switch, controller and credit store share this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from socket import SOCK_DGRAM
from statistics import quantiles

from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.freeswitch.lab import FreeswitchLab
from tests.switches.real.lab import REPOSITORY, Lab, free_port
from tests.switches.real.scenarios import Carrier, answerer, caller, number
from tests.switches.real.sipp import Sipp, SippRun
from tests.switches.real.world import World

STEPS = (20, 40, 60, 80, 100, 125, 150, 175, 200, 250, 300)
STEP_S = 5
HOLD_MS = 1000
SETUP_S = 10


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

    async def run(self, host: str, rate: int, seconds: int) -> tuple[SippRun, float]:
        """Call at this rate; return what SIPp measured, and how much longer than planned it took."""
        calls = rate * seconds
        begun = time.monotonic()
        run = await self.sipp.call(
            caller(number("49", Carrier.ANSWERS), hold_ms=HOLD_MS, strict=True),
            local=(host, free_port(SOCK_DGRAM, host)),
            remote=self.lab.sip,
            calls=calls,
            rate=rate,
            limit_s=seconds + 15,
        )
        return run, time.monotonic() - begun - seconds - HOLD_MS / 1000

    async def reach(self, host: str) -> Reached:
        """Raise the rate until it fails."""
        best, tried = 0, []
        for rate in STEPS:
            run, late_s = await self.run(host, rate, STEP_S)
            verdict = "ok" if run.exit_status == 0 and late_s < 2 else f"status {run.exit_status}, {late_s:.1f} s late"
            tried.append((rate, verdict))
            if verdict != "ok":
                break
            best = rate
        await asyncio.sleep(1)
        return Reached(best, tuple(tried))

    async def setup(self, host: str, rate: int, *pids: int) -> Setup:
        """Call at one rate and measure INVITE to 200, and the CPU time that these processes take for it."""
        before = [cpu_ms(pid) for pid in pids]
        run, _ = await self.run(host, rate, SETUP_S)
        cuts = quantiles(run.answer_ms, n=100)
        spent = [(cpu_ms(pid) - was) / (rate * SETUP_S) for pid, was in zip(pids, before, strict=True)]
        return Setup(cuts[49], cuts[98], [round(ms, 2) for ms in spent])


def cpu_ms(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


async def measure(kind: str, folder: Path) -> dict[str, object]:
    """Measure bare and controlled on one switch."""
    switch = folder / kind
    switch.mkdir()
    lab = AsteriskLab(switch, verbose=False) if kind == "asterisk" else FreeswitchLab(switch, verbose=False)
    lab.start()
    try:
        bench = Bench(lab, folder / "sipp")
        async with bench.sipp.carrier(answerer(lab.trunk), local=(lab.carrier_host, 5060)):
            bare = await bench.reach(lab.bare_host)
            world = World(lab, folder / "world", watched=False)
            await world.open()
            try:
                payer = await world.customer("1000000")
                await world.start_controller(slice_s=60, renew_before_s=20.0)
                controlled = await bench.reach(payer.endpoint.host)
                half = max(bare.cps // 2, 1)
                if lab.process is None or world.controller is None:
                    raise RuntimeError("the switch or the controller has ended")
                pids = (lab.process.pid, world.controller.pid)
                plain = await bench.setup(lab.bare_host, half, *pids)
                billed = await bench.setup(payer.endpoint.host, half, *pids)
                await world.check_books()
            finally:
                await world.close()
    finally:
        lab.stop()
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
        "load_average": round(os.getloadavg()[0], 1),
        "bare_steps": bare.tried,
        "controlled_steps": controlled.tried,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Calls per second and set-up time, bare and controlled.")
    parser.add_argument("--kind", choices=["asterisk", "freeswitch"], required=True)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callctl-bench-") as folder:
        results = asyncio.run(measure(chosen.kind, Path(folder)))
    if chosen.json:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
        ).stdout.strip()
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        print(json.dumps({"machine": machine, "commit": commit, "results": results}))
    else:
        for name, found in results.items():
            print(f"{name:22} {found}")


if __name__ == "__main__":
    main()
