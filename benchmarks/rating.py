"""What a price costs: `python -m benchmarks.rating [--json]`. Bounded: some fifteen seconds.

`price_per_s` is the longest prefix of 200,000 and the cost of the call, `first_price_per_s` the same for rates that
were never used before; `import_rows_per_s` is reading and checking a deck, without a database. All per second of one
core's work, so that what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable

from rating.deck import read_deck
from rating.prefixes import PrefixMap
from rating.pricing import afford, cost
from rating.tariff import Rate, Rounding, RoundingMode

PREFIXES = 200_000
CALLS = 50_000
ROUNDS = 3
LONGEST_S = 1.0
"""How long one measurement may go on."""


def deck_text(chance: random.Random) -> str:
    """Return a deck of 200,000 prefixes of one to eleven digits, 1/1, 60/60 and 30/6."""
    prefixes = {str(digit) for digit in range(1, 10)}
    while len(prefixes) < PREFIXES:
        prefixes.add(str(chance.randrange(1, 10 ** chance.randint(3, 11))))
    rows = [
        f"{prefix},destination {prefix[:3]},{chance.choice(('', '0.01'))},0.{chance.randrange(1, 9999):04d},"
        f"{chance.choice(('1,1', '60,60', '30,6'))}"
        for prefix in sorted(prefixes)
    ]
    return "prefix,destination,connect_fee,price,first_increment_s,increment_s\n" + "\n".join(rows) + "\n"


def per_second(work: Callable[[], int]) -> int:
    """Return how many things a second `work` does, which returns how many it did; the best of at least three rounds."""
    best, rounds, began = 0, 0, time.process_time()
    while rounds < ROUNDS or time.process_time() - began < LONGEST_S:
        best = max(best, once(work))
        rounds += 1
    return best


def once(work: Callable[[], int]) -> int:
    """Return how many things a second `work` does, done once."""
    start = time.process_time()
    done = work()
    return int(done / (time.process_time() - start))


def measure() -> dict[str, int]:
    """Measure everything once."""
    chance = random.Random(1)
    text = deck_text(chance)
    rounding = Rounding(RoundingMode.HALF_UP, 4)
    start = time.process_time()
    rates = read_deck(io.StringIO(text), rounding=rounding).rates
    import_rows_per_s = int(len(rates) / (time.process_time() - start))
    prefixes: PrefixMap[Rate] = PrefixMap((rate.prefix, rate) for rate in rates)
    numbers = [str(chance.randrange(10**11, 10**12)) for _ in range(CALLS)]
    calls = [(number, chance.randrange(1, 3600)) for number in numbers]

    def price_calls() -> int:
        for number, seconds in calls:
            rate = prefixes.longest(number)
            if rate is not None:
                cost(rate, seconds)
        return CALLS

    def afford_calls() -> int:
        for number, _ in calls:
            rate = prefixes.longest(number)
            if rate is not None:
                afford(rate, 1_000_000, 3600)
        return CALLS

    first_price_per_s = once(price_calls)
    return {
        "first_price_per_s": first_price_per_s,
        "price_per_s": per_second(price_calls),
        "afford_per_s": per_second(afford_calls),
        "import_rows_per_s": import_rows_per_s,
    }


def main() -> None:
    """Measure and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rating", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    results = measure()
    if as_json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        print(json.dumps({"machine": machine, "commit": commit.stdout.strip(), "results": results}))
        return
    for name, value in results.items():
        print(f"{name:<20} {value:>12,}")


if __name__ == "__main__":
    main()
