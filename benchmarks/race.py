"""The overspend race: calls in the same instant on money for a few. Exactly the few must be admitted, every time.

    python -m benchmarks.race [--json] [--calls 1000] [--rounds 1000] [--able 7]

Each round opens a wallet that can pay for `--able` calls and asks for `--calls` holds at once, over several connections
to a real server; then everything is released. `wrong` counts the rounds that did not admit exactly that many, or left a
micro-unit held. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from billing.credit.embedded import start_embedded
from billing.credit.store import AccountState, CreditStore, Held, Share, WalletState, connect

PRICE_MICROS = 600_000
CONNECTIONS = 4
NOW_MS = 1_800_000_000_000


async def race(url: str, *, calls: int, rounds: int, able: int) -> dict[str, float]:
    """Run the rounds; return the figures."""
    clients = [connect(url, timeout_s=30) for _ in range(CONNECTIONS)]
    stores = [CreditStore(client) for client in clients]
    wrong = 0
    began = time.perf_counter()
    for number in range(rounds):
        wallet = number + 1
        await stores[0].sync_account(AccountState(wallet, "active", None, None))
        await stores[0].sync_wallet(WalletState(wallet, PRICE_MICROS * able + PRICE_MICROS - 1, 0, 0))
        share = [Share(wallet, wallet, PRICE_MICROS)]
        asked = [
            stores[each % CONNECTIONS].hold(
                f"s:{number}-{each}", share, now_ms=NOW_MS, deadline_ms=NOW_MS + 60_000, facts="{}"
            )
            for each in range(calls)
        ]
        answers = await asyncio.gather(*asked)
        admitted = [each for each, answer in enumerate(answers) if answer == Held()]
        kept = await stores[0].wallet(wallet)
        right = len(admitted) == able and kept is not None and kept.held_micros == PRICE_MICROS * able
        await asyncio.gather(*[stores[0].release(f"s:{number}-{each}", now_ms=NOW_MS) for each in admitted])
        kept = await stores[0].wallet(wallet)
        wrong += not (right and kept is not None and kept.held_micros == 0)
    took = time.perf_counter() - began
    for client in clients:
        await client.aclose()
    return {
        "rounds": rounds,
        "calls": rounds * calls,
        "wrong": wrong,
        "holds_per_s": round(rounds * calls / took),
        "seconds": round(took, 1),
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--able", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callctl-race-") as folder:
        server = start_embedded(Path(folder))
        results = uvloop.run(race(server.url, calls=given.calls, rounds=given.rounds, able=given.able))
        server.stop()
    if given.json:
        asked = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        print(json.dumps({"machine": platform.processor() or platform.machine(), "commit": commit, "results": results}))
    else:
        for name, value in results.items():
            print(f"{name:>14}  {value:,}")
    return 1 if results["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
