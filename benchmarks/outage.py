"""SQL is away for an hour at 50 calls a second: what waits, and how long it takes to be written afterwards.

    python -m benchmarks.outage [--json] [--calls 180000] [--at-once 500]

Every call of that hour goes through the controller, as fast as it takes them: offered, held, admitted, answered, ended,
priced and written to the journal; real Redis, a switch in this process. Meanwhile no connection to SQL can be had. Then
it is back: after `catch_up_s` every record is there, the journal is empty, and Redis knows every posting.

`journal_mb` is what the hour has grown the journal to, `resident_mb` the process, `bytes_per_waiting_call` the same for
a call. At the end there is one record for each call, exact, and the books balance. Loopback only; ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import structlog
import uvloop
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import col, func, select

from benchmarks.controller import ACCOUNTS, commit, fill
from benchmarks.live import resident
from billing import books
from billing.credit.embedded import start_embedded
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, connect
from billing.models import Cdr
from billing.ports import SystemClock, SystemIds
from billing.settings import ControlSettings
from billing.store import migrate, open_store, reading
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    Direction,
    LinkUp,
    LiveCall,
    Outcome,
    Refusal,
    SwitchEvent,
    SwitchRecord,
)

CLOCK = SystemClock()
TALK = timedelta(seconds=2)
COST_MICROS = 20_000
"""Two seconds at 0.60 a minute, by the second."""
MB = 1_000_000


class QuickSwitch:
    """A switch on which every call is answered at once and is over a moment later, having talked two seconds."""

    def __init__(self) -> None:
        self.name, self.ahead_s, self.refused = "sim", 0.0, 0
        self.may_act: Callable[[], bool] = lambda: True
        self.tell: Callable[[SwitchEvent], None] = lambda _: None

    async def start(self, tell: Callable[[SwitchEvent], None]) -> None:
        """Be linked."""
        self.tell = tell
        tell(LinkUp(self.name))

    async def stop(self) -> None:
        """Nothing is connected."""

    def offer(self, number: int) -> None:
        """Somebody calls."""
        at = CLOCK.now() - TALK
        code = f"acct{number % ACCOUNTS}"
        self.tell(CallOffered(f"sim:{number}", at, Direction.OUTBOUND, code, "1001", "4930123"))

    async def admit(self, call_id: str, *, grant_s: float | None, ring_s: int) -> Outcome:  # noqa: ARG002 - the port's
        """Answer, and hang up."""
        now, loop = CLOCK.now(), asyncio.get_running_loop()
        loop.call_soon(self.tell, CallAnswered(call_id, now - TALK))
        loop.call_soon(self.tell, CallEnded(call_id, now, 16, hung_up_by="caller"))
        return Outcome.DONE

    async def refuse(self, call_id: str, refusal: Refusal) -> Outcome:  # noqa: ARG002 - the port's
        """Count it."""
        self.refused += 1
        return Outcome.DONE

    async def set_limit(self, call_id: str, left_s: float | None) -> Outcome:  # noqa: ARG002 - the port's
        """No call lasts so long."""
        return Outcome.DONE

    async def warn(self, call_id: str) -> Outcome:  # noqa: ARG002 - the port's
        """Nobody listens."""
        return Outcome.DONE

    async def hangup(self, call_id: str, *, cause: int = 16) -> Outcome:  # noqa: ARG002 - the port's
        """It is over already."""
        return Outcome.GONE

    async def live_calls(self) -> list[LiveCall]:
        """Return none: they are over before anybody asks."""
        return []

    async def record_of(self, call_id: str) -> SwitchRecord | None:  # noqa: ARG002 - the port's
        """Return none: every end is told."""
        return None

    async def forget_record(self, call_id: str) -> None:
        """There is none."""


@contextmanager
def outage(engine: Engine) -> Iterator[None]:
    """Let nobody have a connection to SQL."""

    def away(_connection: Connection) -> None:
        raise OperationalError("CONNECT", {}, Exception("the store is away"))

    event.listen(engine, "engine_connect", away)
    try:
        yield
    finally:
        event.remove(engine, "engine_connect", away)


async def measure(folder: Path, calls: int, at_once: int) -> dict[str, float]:
    """Live through the hour and what comes after; return the figures."""
    engine = open_store(f"sqlite:///{folder / 'callctl.db'}")
    migrate(engine)
    fill(engine)
    server = start_embedded(folder / "credit")
    redis = connect(server.url, timeout_s=30)
    credit, switch = CreditStore(redis), QuickSwitch()
    journal = folder / "journal.db"
    control = ControlSettings(slice_s=60)
    ids = SystemIds()
    controller = Controller([switch], engine, credit, LiveCalls(redis), Journal(journal), control, clock=CLOCK, ids=ids)
    await controller.start()
    while not controller.ready or "sim" not in controller.watch.compared:  # noqa: ASYNC110 - once, at the start
        await asyncio.sleep(0.05)
    before, begun = resident(), time.perf_counter()
    with outage(engine):
        for number in range(calls):
            switch.offer(number)
            while number - controller.settler.backlog - switch.refused >= at_once:  # noqa: ASYNC110 - it is soon over
                await asyncio.sleep(0.001)
        while controller.calls or controller.settler.backlog + switch.refused < calls:  # noqa: ASYNC110 - the last
            await asyncio.sleep(0.05)
        took_s = time.perf_counter() - begun
        grown, written = resident() - before, _written(folder)
        held = await credit.holds()
        back = time.perf_counter()
    drained = await controller.settler.drained(1800)
    while await credit.holds():  # noqa: ASYNC110 - the last postings
        await asyncio.sleep(0.05)
    catch_up_s = time.perf_counter() - back
    await controller.stop()
    with reading(engine) as session:
        exact = select(func.count(col(Cdr.call_id))).where(Cdr.cost_micros == COST_MICROS, ~col(Cdr.estimated))
        records = session.exec(exact).one()
        report = books.check_store(session)
        _, findings = await books.check_credit(session, credit)
    await redis.aclose()
    server.stop()
    return {
        "calls": calls,
        "refused": switch.refused,
        "hour_took_s": round(took_s, 1),
        "holds_kept": len(held),
        "journal_mb": round(written / MB, 1),
        "resident_mb": round(grown / MB, 1),
        "bytes_per_waiting_call": grown // calls,
        "catch_up_s": round(catch_up_s, 1),
        "caught_up_per_s": round(calls / catch_up_s, 1),
        "cdrs": report.cdrs,
        "exact": records,
        "findings": len(report.findings) + len(findings) + (not drained),
    }


def _written(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("journal.db*"))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--calls", type=int, default=180_000)
    parser.add_argument("--at-once", type=int, default=500)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    with tempfile.TemporaryDirectory(prefix="callctl-bench-") as folder:
        results = uvloop.run(measure(Path(folder), given.calls, given.at_once))
    if given.json:
        machine = platform.processor() or platform.machine()
        print(json.dumps({"machine": machine, "commit": commit(), "results": results}))
    else:
        for name, value in results.items():
            print(f"{name:>22}  {value:,}")
    wrong = results["findings"] or results["refused"] or results["exact"] != results["calls"]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
