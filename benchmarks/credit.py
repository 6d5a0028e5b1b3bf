"""How many holds per second the live credit store takes: `python -m benchmarks.credit [--json] [--seconds N]`.

One hold is the script over a unix socket to a real server with its append-only file, two wallets a call, as a call of a
reseller's customer has them; each is released in between, unmeasured work of the same size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Final

from billing.credit.embedded import start_embedded
from billing.credit.store import AccountState, CreditStore, Held, Share, WalletState, connect

SHARES: Final = (Share(1, 1, 1_000_000), Share(2, 2, 800_000))
BATCH: Final = 200
NOW_MS: Final = 1_800_000_000_000


async def holds_per_s(credit: CreditStore, at_once: int, limit_s: float) -> float:
    """Hold for `limit_s` seconds with so many calls in flight; only the holds are timed."""
    numbers = count()
    held, spent_s = 0, 0.0
    ends = time.monotonic() + limit_s

    async def hold_some(call_ids: list[str]) -> None:
        for call_id in call_ids:
            answer = await credit.hold(call_id, SHARES, now_ms=NOW_MS, deadline_ms=NOW_MS + 60_000, facts="{}")
            if answer != Held():
                raise RuntimeError(f"the benchmark has money for every call, yet: {answer}")

    while time.monotonic() < ends:
        call_ids = [f"bench{at_once}:{next(numbers)}" for _ in range(BATCH)]
        started = time.perf_counter()
        await asyncio.gather(*(hold_some(call_ids[lane::at_once]) for lane in range(at_once)))
        spent_s += time.perf_counter() - started
        held += BATCH
        for call_id in call_ids:
            await credit.release(call_id, now_ms=NOW_MS)
    return held / spent_s


async def measure(url: str, limit_s: float) -> dict[str, float]:
    """Measure one at a time and sixteen at once."""
    redis = connect(url)
    credit = CreditStore(redis)
    for number in (1, 2):
        await credit.sync_account(AccountState(number, "active", 10_000, None))
        await credit.sync_wallet(WalletState(number, 10**15, 0, 0))
    results = {
        "holds_per_s": await holds_per_s(credit, 16, limit_s / 2),
        "holds_per_s_one_at_a_time": await holds_per_s(credit, 1, limit_s / 2),
    }
    await redis.aclose()
    return {name: round(value, 1) for name, value in results.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="holds per second of the live credit store")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callctl-") as folder:
        server = start_embedded(Path(folder))
        try:
            results = asyncio.run(measure(server.url, options.seconds))
        finally:
            server.stop()
    if options.json:
        git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        machine = f"{platform.machine()} {platform.system()} Python {platform.python_version()}"
        print(json.dumps({"machine": machine, "commit": git.stdout.strip(), "results": results}))
        return
    for name, value in results.items():
        print(f"{name:28} {value:>10,.0f}")


if __name__ == "__main__":
    main()
