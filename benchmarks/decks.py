"""What a million rates cost, from a file to rates that are ready to use: `python -m benchmarks.decks [--json]`.

A deck of a million rows is read and checked, imported into an empty store on the disk (SQLite, or what --store names),
and loaded as a controller loads it; then the same deck is imported again, one with other prices is looked at and
imported, and that is taken back; meanwhile somebody else writes small things, as calls that end do. Times are of the
wall and of this process's processor; the store must be this benchmark's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import polars as pl

from billing.catalogue import load_catalogue
from billing.decks.imports import Order, find_tariff, preview
from billing.decks.parts import import_in_parts, undo_in_parts
from billing.models import Meta
from billing.ports import SystemClock
from billing.store import migrate, open_store, reading, work
from billing.tariffs import add_tariff
from rating.decks.deck import ALWAYS, NEVER, Deck, rate_map
from rating.decks.reading import guess, read_deck
from rating.decks.sheet import open_sheet
from rating.tariff import Rate, Rounding

MILLION = 1_000_000
NOW = datetime(2026, 12, 1, tzinfo=UTC)
BUDGET_S = 10.0


def deck_text(rows: int, chance: random.Random) -> str:
    """Return a deck of prefixes of one to eleven digits, each with its own price; 60,000 different terms in all."""
    prefixes = {str(digit) for digit in range(1, 10)}
    while len(prefixes) < rows:
        prefixes.add(str(chance.randrange(1, 10 ** chance.randint(3, 11))))
    lines = [
        f"{prefix},destination {prefix[:3]},{chance.choice(('', '0.01'))},0.{chance.randrange(1, 9999):04d},"
        f"{chance.choice(('1,1', '60,60', '30,6'))}"
        for prefix in sorted(prefixes)
    ]
    return "prefix,destination,connect_fee,price,first_increment_s,increment_s\n" + "\n".join(lines) + "\n"


@dataclass
class Laps:
    """Seconds of the wall and of this process, by what was done."""

    wall: dict[str, float] = field(default_factory=dict)
    process: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        wall, process = time.perf_counter(), time.process_time()
        yield
        self.wall[name] = time.perf_counter() - wall
        self.process[name] = time.process_time() - process


def import_rows_per_s(rows: int = 200_000) -> int:
    """Return how many rows a second of one process are read and checked, without a store."""
    data = deck_text(rows, random.Random(1)).encode()
    start = time.process_time()
    deck = _read(data)
    return int(len(deck) / (time.process_time() - start))


def _read(data: bytes) -> Deck:
    sheet = open_sheet(data)
    deck = read_deck(sheet, guess(sheet), rounding=Rounding())
    if deck.bad:
        raise ValueError(f"the benchmark's own deck is bad: {deck.bad[0]}")
    return deck


def bytes_per_rate(rows: int = MILLION) -> int:
    """Return what a rate of a million takes in the memory of this process, loaded as a controller loads it."""
    terms: dict[int, Rate] = dict(enumerate(_read(b"prefix,price\n1,0.01\n").terms))
    numbers = range(rows, 2 * rows)
    before = resident()
    book = rate_map(
        pl.DataFrame(
            {
                "prefix": [str(number) for number in numbers],
                "destination": [f"destination {number % 1000}" for number in numbers],
            }
        ).with_columns(
            terms=pl.lit(0, pl.Int64), effective_us=pl.lit(ALWAYS, pl.Int64), expires_us=pl.lit(NEVER, pl.Int64)
        ),
        terms,
    )
    return (resident() - before) // len(book)


def resident() -> int:
    """Return the memory this process takes, in bytes."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def others_writing(store: str) -> Iterator[list[float]]:
    """Write a row every few milliseconds meanwhile, as calls that end do; yield how long each had to wait, in s."""
    waited: list[float] = []
    over = threading.Event()
    engine = open_store(store)

    def write() -> None:
        while not over.is_set():
            begun = time.perf_counter()
            with work(engine) as session:
                session.merge(Meta(key="benchmark", value=len(waited)))
            waited.append(time.perf_counter() - begun)
            over.wait(0.02)

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            yield waited
        finally:
            over.set()
            writing.result()
            engine.dispose()


def measure(store: str, rows: int) -> dict[str, float]:
    """Measure the whole way of a deck once."""
    data = deck_text(rows, random.Random(1)).encode()
    laps = Laps()
    engine = open_store(store)
    migrate(engine)
    with work(engine) as session:
        add_tariff(session, name="retail", currency="EUR", rounding=Rounding(), actor="benchmark", now=NOW)
    with laps.lap("parse"):
        sheet = open_sheet(data)
        mapping = guess(sheet)
    with laps.lap("validate"):
        deck = read_deck(sheet, mapping, rounding=Rounding())
    del sheet
    waits: dict[str, list[float]] = {}

    def bring(deck: Deck, lap: str) -> None:
        with others_writing(store) as waits[lap], laps.lap(lap):
            order, clock = Order(), SystemClock()
            import_in_parts(engine, "retail", deck, order, operation=lap, actor="benchmark", clock=clock)

    bring(deck, "write")
    with laps.lap("load"), reading(engine) as session:
        book = next(iter(load_catalogue(session).tariffs.values()))
    loaded = len(book.rates)  # type: ignore[arg-type] # a catalogue in memory has a map
    others = replace(deck, rows=deck.rows.with_columns(pl.col("terms").shift(1, fill_value=0)))
    bring(deck, "same_again")
    with laps.lap("look"), reading(engine) as session:
        preview(session, find_tariff(session, "retail"), others, Order(), now=NOW)
    bring(others, "all_changed")
    with others_writing(store) as waits["undo"], laps.lap("undo"):
        undo_in_parts(engine, "retail", operation="undo", actor="benchmark", clock=SystemClock())
    engine.dispose()
    way = ("parse", "validate", "write", "load")
    ready_s = sum(laps.wall[name] for name in way)
    return {
        "rates": loaded,
        "terms": len(deck.terms),
        "file_mb": len(data) / 1_000_000,
        "ready_s": ready_s,
        "ready_process_s": sum(laps.process[name] for name in way),
        "within_budget": float(ready_s <= BUDGET_S * rows / MILLION),
        **{f"{name}_s": seconds for name, seconds in laps.wall.items()},
        **{f"others_wait_{name}_max_s": max(waited, default=0.0) for name, waited in waits.items()},
        **{f"others_wait_{name}_median_s": median(waited or [0.0]) for name, waited in waits.items()},
        **{f"{name}_share": laps.wall[name] / ready_s for name in way},
        "ready_rows_per_s": rows / ready_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measure and print a table, or one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rows", type=int, default=MILLION, help="rows of the deck")
    parser.add_argument("--store", default="", help="an empty PostgreSQL database; SQLite if not given")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(asked.store or f"sqlite:///{folder}/rates.db", asked.rows)
    if asked.json:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        print(json.dumps({"machine": machine, "commit": commit.stdout.strip(), "results": results}))
        return
    for name, value in results.items():
        print(f"{name:<20} {value:>14,.2f}")


if __name__ == "__main__":
    main()
