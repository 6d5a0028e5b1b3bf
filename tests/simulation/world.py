"""One seed: controllers, their Redis, their store, their switch and the people who call, for a few virtual minutes.

First calls and faults, all drawn; then the faults stop, and within ten virtual minutes everything must come to rest.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any

import structlog
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from billing import books
from billing.credit.store import CreditStore
from billing.models import Cdr, Charge
from billing.store import reading
from tests.simulation.auditor import Auditor, Broken
from tests.simulation.clock import START, SeededIds, VirtualClock
from tests.simulation.customers import Customers
from tests.simulation.folder import Folder
from tests.simulation.happenings import Happenings
from tests.simulation.link import SwitchLink
from tests.simulation.loop import Job, SimulatedLoop, Stuck
from tests.simulation.net import PREFIX, Server, SimulatedRedis
from tests.simulation.options import Faults, Options
from tests.simulation.process import Process
from tests.simulation.switch import SimulatedSwitch

LIVENESS_S = 600.0
"""How long everything may take to come to rest once the faults have stopped."""
QUIET = Faults()
TOLD_SOON_S = 0.02
RECOVERED_S = 8.0
"""So long after a fault is over may a call still be cut for it."""
TOLD_S = 1.0
"""Who waits is known to who leads after this time, where nothing is lost."""
TRIED_S = 6.1
"""Who knows of nobody that waits may go on without Redis, as long as it has asked within this time."""
IMPOSSIBLE = {
    "call_broken",
    "loop_broken",
    "task_broken",
    "call_parked",
    "posting_not_applied",
    "journal_row_unreadable",
}
"""What the code itself calls an impossible state when it logs it."""


@dataclass(slots=True)
class Outcome:
    """What a seed came to; `broken` is empty where every invariant held."""

    seed: int
    broken: str = ""
    what: str = ""
    at_s: float = 0.0
    calls: int = 0
    answered: int = 0
    charged: int = 0
    deaths: int = 0
    trace: list[str] = field(default_factory=list)


class World:
    """Everything of one seed, in one loop."""

    def __init__(self, options: Options, folder: Folder, *, mutate: Callable[[str], str] | None = None) -> None:
        self.options, self.folder = options, folder
        self.rng = Random(f"world {options.seed}")
        self.loop = SimulatedLoop(Random(f"order {options.seed}"))
        self.clock, self.ids = VirtualClock(self.loop), SeededIds()
        self.faults = options.faults
        self.engine = folder.fresh()
        self.server = Server(self.loop.time)
        self.mutate = mutate or (lambda text: text)
        self.panel = SimulatedRedis(self.server, lambda: self.faults, Random(f"panel {options.seed}"))
        self.panel.mutate = self.mutate
        self.switch = SimulatedSwitch(
            "sw", self.loop, Random(f"switch {options.seed}"), lambda: self.faults, START, options.limit_late_s
        )
        self.processes = self._machines()
        self.trace: list[str] = []
        self.failure: Broken | None = None
        self.customers = Customers(options, self.engine, self.clock.now)
        look = sqlite3.connect(folder.store, isolation_level=None)
        self.auditor = Auditor(
            options, self.server, self.switch, self.customers, self.loop.time, _restless(options), look
        )
        self.happenings = Happenings(self)
        self._watch()
        self.loop.run_job = self._run_job
        folder.full = lambda: _within(self.faults.sql_full, self.loop.time())
        self.charged = 0

    def _machines(self) -> list[Process]:
        drawn = Random(f"machines {self.options.seed}")
        together = drawn.random() < 0.5
        machines = []
        for number in range(self.options.controllers):
            # Two machines: their times of day differ a little, and their monotonic clocks have begun at any time.
            clock = VirtualClock(
                self.loop,
                ahead_s=drawn.uniform(-0.8, 0.8) if self.options.controllers > 1 else 0.0,
                since_s=drawn.uniform(0, 5_000.0),
            )
            name = "controller" if self.options.controllers == 1 else f"controller {'ab'[number]}"
            journal = self.folder.path / ("journal.db" if together or not number else "journal-b.db")
            machines.append(Process(self, name, clock=clock, journal=journal))
        return machines

    def _watch(self) -> None:
        self.server.after = lambda: self.check(self.auditor.after_redis)
        self.server.fenced = lambda what: self.fail(Broken("fence", what))
        self.switch.watch_limit = lambda call, total_s: self.check(lambda: self.auditor.limit_set(call, total_s))
        self.switch.watch_admit = lambda call: self.check(lambda: self.auditor.owed(call.call_id))
        self.switch.watch_cut = lambda call: self.check(lambda: self.auditor.cut(call))
        self.switch.watch_command = self._commanded
        self.switch.trace = self.happenings.seen_on_switch

    def note(self, what: str) -> None:
        """Keep a line for whoever looks at a failure."""
        # Each process has a folder of its own, and a seed must read the same in all.
        self.trace.append(f"{self.loop.time():9.3f} {what}".replace(f"{self.folder.path}/", ""))

    # -- the store -----------------------------------------------------------------------------------------------------

    def _run_job(self, owner: str, executor: Executor | None, job: Job, future: asyncio.Future[Any]) -> None:
        """Carry out work for a thread: at a drawn moment, with what can go wrong in a store."""
        journal = isinstance(executor, ThreadPoolExecutor)
        delay = self.rng.expovariate(1 / (0.0005 if journal else self.faults.sql_slow_s))
        self.loop.later(delay, self._do_job, owner, job, future, journal)

    def _do_job(self, owner: str, job: Job, future: asyncio.Future[Any], journal: bool) -> None:
        if self.loop.is_dead(owner) and (journal or self.rng.random() < 0.8):
            return
        if self.loop.is_frozen(owner) and (journal or self.rng.random() < 0.8):
            self.loop.later(0.2, self._do_job, owner, job, future, journal)
            return
        now, faults, drawn = self.loop.time(), self.faults, self.rng.random()
        if journal:
            if _within(faults.journal_broken, now):
                _fail(future, sqlite3.OperationalError("database or disk is full"))
                return
        elif _within(faults.sql_down, now) or drawn < faults.sql_error:
            _fail(future, OperationalError("SELECT", {}, Exception("the store is away")))
            return
        try:
            result = job()
        except Exception as error:  # noqa: BLE001 - a thread hands every error to who waits for it
            _fail(future, error)
            return
        if not journal:
            self.check(self.auditor.after_sql)
            if drawn > 1 - faults.sql_unknown:
                _fail(future, OperationalError("COMMIT", {}, Exception("the connection broke")))
                return
        if not future.done():
            future.set_result(result)

    # -- the controllers -----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start every controller that is not there."""
        for process in self.processes:
            process.begin()

    def chosen(self, *, leads: bool | None = None) -> Process | None:
        """Return whom a fault meets: who leads, or who does not; by default mostly who leads."""
        living = [one for one in self.processes if one.alive and not self.loop.is_frozen(one.owner)]
        wanted = leads if leads is not None else len(living) == 1 or self.rng.random() < 0.8
        found = [process for process in living if process.leads == wanted]
        if found or leads is not None:
            return found[0] if found else None
        return self.rng.choice(living) if living else None

    def split(self, now_so: bool) -> None:
        """Let no packet through between anybody and Redis."""
        self.note(f"partition {now_so}")
        self.panel.split = now_so
        for process in self.processes:
            process.cut_off(now_so)

    def redis_up(self, now_so: bool) -> None:
        """Start or stop Redis."""
        self.note(f"redis up {now_so}")
        self.server.up = now_so

    def _commanded(self, link: SwitchLink, what: str, call_id: str) -> None:
        """Check that whoever sends a command to the switch may still act."""
        leader = self.server.value(f"{{{PREFIX}}}:leader:{self.switch.name}").partition(".")[0]
        acts = next((one for one in self.processes if one.owner == link.owner), None)
        leads = next((one for one in self.processes if one.owner == leader), None)
        if acts is None or acts.lease is None or acts.redis is None or leader in ("", acts.owner):
            return
        now_s = self.loop.time()
        if now_s - max(self.auditor.lost_s, default=-TRIED_S) < TRIED_S:
            return  # a Redis that has lost its leases gives one anew at once
        unknown = leads is None or leads.redis is None or leads.redis.lease_first_s > acts.redis.lease_heard_s - TOLD_S
        if unknown and now_s - acts.redis.lease_tried_s < TRIED_S:
            self.auditor.both.add(call_id)  # it has not heard from Redis since the other one began to wait
            return
        self.fail(Broken("stale", f"{link.owner} says {what} {call_id}, and {leader} leads"))

    # -- checks --------------------------------------------------------------------------------------------------------

    def check(self, look: Callable[[], None]) -> None:
        """Keep the first thing that is found broken."""
        if self.failure is None:
            try:
                look()
            except Broken as broken:
                self.fail(broken)

    def fail(self, broken: Broken) -> None:
        """Keep it, unless something was broken before."""
        if self.failure is None:
            self.failure = broken
            self.note(f"BROKEN {broken}")

    def log_seen(self, name: str, said: dict[str, Any]) -> None:
        """Take a line the code logged as an error."""
        self.note(f"log {name} {said}")
        # Redis may be emptied between a wallet and its posting: the outbox tells it again.
        torn = name == "posting_not_applied" and self.loop.time() - max(self.auditor.lost_s, default=-TOLD_S) < TOLD_S
        if name in IMPOSSIBLE and not torn:
            self.fail(Broken("impossible", f"{name} {said}"[:400]))
        # Of two controllers one may have charged a call and the other hold it still, until the next look.
        if name == "holds_left_over" and not self.auditor.lost_s and self.options.controllers == 1:
            self.fail(Broken("left over", f"a hold stood on although its call is charged: {said}"[:400]))

    async def live(self) -> None:
        """Let everything happen, then let it come to rest, then check it all. Raises `Broken`."""
        self.happenings.schedule()
        self.begin()
        await self._until(self.options.over_s + 1.0)
        self.note("the faults stop")
        self.faults = QUIET
        self.split(False)
        self.redis_up(True)
        self.switch.come_back()
        self.happenings.say_goodbye()
        deadline = self.loop.time() + LIVENESS_S
        while self._unrest():
            if self.loop.time() > deadline:
                raise Broken("liveness", self._unrest())
            for process in self.processes:
                process.thaw()
            self.begin()
            await self._until(self.loop.time() + 1.0)
        await self._until(self.loop.time() + 2.0)
        await self._audit()

    async def _until(self, at_s: float) -> None:
        while self.loop.time() < at_s:
            await asyncio.sleep(min(0.25, max(at_s - self.loop.time(), 0.001)))
            if self.failure is not None:
                raise self.failure
            if self.loop.broken:
                raise Broken("impossible", self.loop.broken[0])

    def _unrest(self) -> str:
        living = [call.call_id for call in self.switch.calls.values() if call.stage != "over"]
        if living:
            return f"{len(living)} calls live, such as {living[0]}"
        for process in self.processes:
            if why := process.unrest():
                return why
        leading = [process.name for process in self.processes if process.leads]
        if len(leading) != 1:
            return f"{' and '.join(leading) or 'nobody'} leads"
        holds = self.server.keys(f"{{{PREFIX}}}:h:")
        if holds:
            return f"held: {holds[:3]}"
        waiting = self.auditor.store.execute("SELECT count(*) FROM outbox WHERE applied_at IS NULL").fetchone()[0]
        return f"{waiting} postings wait for Redis" if waiting else ""

    async def _audit(self) -> None:
        with reading(self.engine) as session:
            report = books.check_store(session)
            held, findings = await books.check_credit(session, CreditStore(self.panel, prefix=PREFIX))  # type: ignore[arg-type]
        if held:
            raise Broken("held", f"{held} holds are left at rest")
        with reading(self.engine) as session:
            charges: dict[str, list[Charge]] = {}
            for charge in session.exec(select(Charge).order_by(col(Charge.call_id), col(Charge.level))):
                charges.setdefault(charge.call_id, []).append(charge)
            records = [(record, charges.get(record.call_id, [])) for record in session.exec(select(Cdr))]
        self.auditor.at_rest(self.switch, records, [*report.findings, *findings])
        self.charged = sum(1 for _, paid in records if any(charge.amount_micros for charge in paid))

    def close(self) -> None:
        """Let go of everything."""
        self.auditor.store.close()
        for process in self.processes:
            process.let_go()
        self.loop.forget()
        self.loop.close()


def simulate(options: Options, folder: Folder, *, mutate: Callable[[str], str] | None = None) -> Outcome:
    """Run one seed to its end."""
    world = World(options, folder, mutate=mutate)
    _listen(world)
    outcome = Outcome(options.seed, trace=world.trace)
    try:
        world.loop.run_until_complete(world.live())
    except Broken as broken:
        outcome.broken, outcome.what = broken.invariant, broken.what
    except Stuck as stuck:
        outcome.broken, outcome.what = "stuck", str(stuck)
    finally:
        outcome.at_s = world.loop.time()
        calls = world.switch.calls.values()
        outcome.calls, outcome.answered = len(calls), sum(1 for call in calls if call.answered_s is not None)
        outcome.charged, outcome.deaths = world.charged, sum(process.lives - 1 for process in world.processes)
        world.close()
    return outcome


def _listen(world: World) -> None:
    def take(_logger: Any, _method: str, said: Any) -> Any:
        world.log_seen(str(said.pop("event")), {key: value for key, value in said.items() if key != "exc_info"})
        raise structlog.DropEvent

    def with_error(_logger: Any, _method: str, said: Any) -> Any:
        error = said.get("exc_info")
        if error:
            said["error"] = repr(error if isinstance(error, BaseException) else sys.exc_info()[1])
        return said

    structlog.configure(
        processors=[with_error, take],
        wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _restless(options: Options) -> Callable[[float, float], bool]:
    """Return what says whether anything may have kept the controller from renewing calls between two moments."""
    faults = options.faults
    chances = (faults.request_lost, faults.reply_lost, faults.request_late, faults.command_lost, faults.command_unheard)
    more = (faults.event_lost, faults.event_late, faults.sql_error, faults.sql_unknown)
    if any((*chances, *more)) or faults.latency_s > TOLD_SOON_S or faults.deaths_after:
        return lambda _begin, _end: True
    windows = [
        *((0.0, 2.0), *faults.partitions, *faults.stalls, *faults.redis_down, *faults.sql_down, *faults.journal_broken),
        *faults.sql_full,
        *(*faults.deaths, *faults.stops, *faults.link_cuts, *faults.switch_restarts),
        *(*faults.freezes, *faults.cut_off, *((at, 18.0) for at in (*faults.away, *faults.relays, *faults.doubts))),
        *((at, 1.0) for at in faults.redis_emptied),
        *((at, 1.0) for at, _ in faults.redis_rewound),
        *((at, for_s) for at, for_s, _ in faults.failovers),
    ]
    return lambda begin, end: any(at <= end and begin <= at + length + RECOVERED_S for at, length in windows)


def _within(windows: tuple[tuple[float, float], ...], now_s: float) -> bool:
    return any(begin <= now_s < begin + length for begin, length in windows)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # who asked may be dead: then nobody looks
