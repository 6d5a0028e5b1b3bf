"""What a price costs: `python -m benchmarks.rating [--json]`. Bounded: some thirty seconds.

`price_per_s` is the longest prefix of 200,000 and the cost of the call, `first_price_per_s` the same for rates that
were never used before, `reference_per_s` the same as a plain reading of the rules does it: every prefix tried, every
increment walked, in fractions. `bulk_per_s` is the same again for a frame of a million calls, `bulk_mixed_per_s` where
a fifth of the rates has bands. `price_ratio` and `bulk_ratio` say how many times the reference that is.
`bands_price_per_s` is for rates with three bands in a zone with daylight saving, at any time of a year; `afford_per_s`
and `bands_afford_per_s` are the inverse. `import_rows_per_s` is reading and checking a
deck, without a database; `bytes_per_rate` is the memory of a million rates, loaded as a controller loads them. Speeds
are per second of one core's work, so that what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import polars as pl

from benchmarks.decks import bytes_per_rate, import_rows_per_s
from rating.bulk import BulkBook, call_columns
from rating.decks.reading import read_csv
from rating.money import round_total
from rating.prefixes import PrefixMap
from rating.pricing import afford, cost
from rating.tariff import Band, Conditions, Rate, Rounding, RoundingMode, Step, When

PREFIXES = 200_000
CALLS = 50_000
ROUNDS = 3
REFERENCE_CALLS = 2_000
BANDED_CALLS = 20_000
BULK_CALLS = 1_000_000
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
    rates = read_csv(text, rounding=rounding).rates
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

    by_prefix = {rate.prefix: rate for rate in rates}

    def reference_calls() -> int:
        for number, seconds in calls[:REFERENCE_CALLS]:
            plainly(by_prefix, number, seconds)
        return REFERENCE_CALLS

    first_price_per_s = once(price_calls)
    price_per_s, reference_per_s = per_second(price_calls), per_second(reference_calls)
    bulk = measure_bulk(chance, rates)
    return {
        "first_price_per_s": first_price_per_s,
        "price_per_s": price_per_s,
        "reference_per_s": reference_per_s,
        "price_ratio": price_per_s // reference_per_s,
        **bulk,
        "bulk_ratio": bulk["bulk_per_s"] // reference_per_s,
        "afford_per_s": per_second(afford_calls),
        **measure_bands(chance),
        "import_rows_per_s": import_rows_per_s(),
        "bytes_per_rate": bytes_per_rate(),
    }


def measure_bulk(chance: random.Random, rates: Sequence[Rate]) -> dict[str, int]:
    """Measure an archive of a million calls of a month; all threads' work counts."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    offered = [begin + timedelta(milliseconds=chance.randrange(31 * 86_400_000)) for _ in range(BULK_CALLS)]
    calls = pl.DataFrame(
        {
            "number": [str(chance.randrange(10**11, 10**12)) for _ in range(BULK_CALLS)],
            "offered_at": offered,
            "answered_at": offered,
            "talk_ms": [chance.randrange(1, 3_600_000) for _ in range(BULK_CALLS)],
        },
        call_columns(),
    )
    banded = banded_rate()
    mixed = [
        rate if number % 5 else replace(banded, prefix=rate.prefix, connect_fee=rate.connect_fee)
        for number, rate in enumerate(rates)
    ]
    results = {}
    for name, book in (("bulk_per_s", BulkBook(rates)), ("bulk_mixed_per_s", BulkBook(mixed))):
        results[name] = per_second(lambda book=book: book.price(calls).frame.height)  # type: ignore[misc] # bound now
    return results


def plainly(rates: dict[str, Rate], number: str, seconds: int) -> int:
    """Price a call as the rules are told to a person."""
    rate = next((rates[number[:length]] for length in range(len(number), 0, -1) if number[:length] in rates), None)
    if rate is None:
        return 0
    total, at = Fraction(rate.connect_fee), 0
    while at < seconds:
        step = [step for step in rate.steps if step.from_s <= at][-1]
        total += Fraction(step.price) * int(step.increment_s) / step.per_s
        at += int(step.increment_s)
    return round_total(total, rate.rounding)


def banded_rate() -> Rate:
    """Return a rate with bands: day, night and weekend, in Berlin."""
    bands = tuple(
        Band(When(days, begin * 3600, end * 3600), (Step(0, Decimal(price), 60, 60), Step(60, Decimal(price), 60, 1)))
        for days, begin, end, price in (
            ((1, 2, 3, 4, 5), 8, 18, "0.12"),
            ((1, 2, 3, 4, 5), 18, 8, "0.04"),
            ((6, 7), 0, 24, "0.03"),
        )
    )
    # Friday's night ends on Saturday at eight, so the weekend begins there.
    weekend = Band(When((6,), 8 * 3600, 24 * 3600), bands[2].steps), Band(When((7,), 0, 24 * 3600), bands[2].steps)
    monday = Band(When((1,), 0, 8 * 3600), bands[1].steps)
    rounding = Rounding(RoundingMode.HALF_UP, 4)
    of = Rate("49", "", Decimal(0), (), rounding, bands=(*bands[:2], *weekend, monday))
    return replace(of, conditions=Conditions(timezone="Europe/Berlin"))


def measure_bands(chance: random.Random) -> dict[str, int]:
    """Measure rates with bands."""
    of = banded_rate()
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    calls = [
        (begin + timedelta(seconds=chance.randrange(365 * 86_400)), chance.randrange(1, 3600))
        for _ in range(BANDED_CALLS)
    ]

    def price_calls() -> int:
        for at, seconds in calls:
            cost(of, seconds, at)
        return BANDED_CALLS

    def afford_calls() -> int:
        for at, _ in calls[: BANDED_CALLS // 10]:
            afford(of, 1_000_000, 3600, at)
        return BANDED_CALLS // 10

    return {"bands_price_per_s": per_second(price_calls), "bands_afford_per_s": per_second(afford_calls)}


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
