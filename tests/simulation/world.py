"""One seed: a controller, its Redis, its store, its switch and the people who call, for a few virtual minutes.

First calls and faults, all drawn; then the faults stop, and within ten virtual minutes everything must come to rest.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import structlog
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from billing import accounts, books, outbox, tariffs, topups
from billing.credit.live import HangupRequest, LiveCalls
from billing.credit.runs import Runs
from billing.credit.store import CreditStore
from billing.errors import BillingError
from billing.models import AccountKind, AccountStatus, Cdr, Charge, IdentityKind
from billing.settings import ControlSettings
from billing.store import migrate, open_store, reading, work
from callctl.controller import Controller
from callctl.journal import Journal
from tests.simulation.auditor import Auditor, Broken, Payer
from tests.simulation.loop import Job, SimulatedLoop, Stuck, acting_as
from tests.simulation.net import PREFIX, Server, SimulatedRedis
from tests.simulation.options import Faults, Options
from tests.simulation.switch import CallPlan, SimulatedSwitch

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
LIVENESS_S = 600.0
"""How long everything may take to come to rest once the faults have stopped."""
LONGEST_TALK_S = 240.0
QUIET = Faults()
TOLD_SOON_S = 0.02
RECOVERED_S = 8.0
"""So long after a fault is over may a call still be cut for it."""
IMPOSSIBLE = {
    "call_broken",
    "loop_broken",
    "task_broken",
    "call_parked",
    "posting_not_applied",
    "journal_row_unreadable",
}
"""What the code itself calls an impossible state when it logs it."""


class VirtualClock:
    """The controller's clock: the loop's time."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return START + timedelta(microseconds=round(self._loop.time() * 1_000_000))

    def monotonic(self) -> float:
        return self._loop.time()


class SeededIds:
    """Ids in a row."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, kind: str) -> str:
        self._last += 1
        return f"{kind}-{self._last}"

    def secret(self) -> str:
        return self.new("secret")


class Folder:
    """One process' files: a migrated store to copy, and the store of the seed at hand behind one engine."""

    def __init__(self) -> None:
        shared = Path("/dev/shm")  # noqa: S108 - memory, where there is some
        self._kept = tempfile.TemporaryDirectory(prefix="callctl-sim-", dir=shared if shared.is_dir() else None)
        self.path = Path(self._kept.name)
        self._template = self.path / "template.db"
        template = open_store(f"sqlite:///{self._template}")
        migrate(template)
        template.dispose()
        with sqlite3.connect(self._template) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.store = self.path / "store.db"
        self.engine = open_store(f"sqlite:///{self.store}")
        event.listen(self.engine, "connect", _do_not_sync)

    def fresh(self) -> Engine:
        """Return the engine over an empty store."""
        self.engine.dispose()
        for old in self.path.glob("[sj]*.db*"):
            old.unlink()
        shutil.copy(self._template, self.store)
        return self.engine

    def close(self) -> None:
        """Remove it all."""
        self.engine.dispose()
        self._kept.cleanup()


def _do_not_sync(connection: sqlite3.Connection, _entry: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")


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
        self.server = Server()
        self.mutate = mutate or (lambda text: text)
        self.redis = self._client("controller")
        self.switch = SimulatedSwitch(
            "sw", self.loop, Random(f"switch {options.seed}"), lambda: self.faults, START, options.limit_late_s
        )
        self.controller: Controller | None = None
        self.lives = 0
        self.trace: list[str] = []
        self.wallets: dict[int, int] = {}
        """account → wallet"""
        self.parents: dict[int, int] = {}
        """account → the reseller above it"""
        self.asked: dict[str, tuple[int, int]] = {}
        """operation → account and amount of a top-up somebody asked for, once or more often"""
        self.failure: Broken | None = None
        self.auditor = self._open_accounts()
        self.server.after = self._after_redis
        self.switch.watch_limit = lambda call, total_s: self._checked(lambda: self.auditor.limit_set(call, total_s))
        self.switch.watch_cut = lambda call: self._checked(lambda: self.auditor.cut(call))
        self.switch.trace = self._seen_on_switch
        self._happened: Counter[str] = Counter()
        self.loop.run_job = self._run_job
        self._pictures: list[dict[str, tuple[str, Any]]] = []

    def note(self, what: str) -> None:
        """Keep a line for whoever looks at a failure."""
        self.trace.append(f"{self.loop.time():9.3f} {what}")

    def _seen_on_switch(self, what: str, call_id: str) -> None:
        self.note(f"{call_id} {what}")
        kind = what.partition(" ")[0].rstrip(":")
        self._happened[kind] += 1
        for death, number, after_s, for_s in self.faults.deaths_after:
            if death == kind and number == self._happened[kind]:
                self.loop.later(after_s, self.kill)
                self._task_at(after_s + for_s, self.begin)

    def _client(self, name: str) -> SimulatedRedis:
        client = SimulatedRedis(self.server, lambda: self.faults, Random(f"{name} {self.options.seed}"))
        client.mutate = self.mutate
        return client

    def _credit(self, *, watched: bool = False) -> CreditStore:
        client, runs = self.redis, Runs()
        if watched:
            client.watched = runs
        else:
            client = self._client("panel")
        return CreditStore(client, prefix=PREFIX, runs=runs)  # type: ignore[arg-type] # what it uses of a client

    # -- the store -----------------------------------------------------------------------------------------------------

    def _open_accounts(self) -> Auditor:
        options = self.options
        with work(self.engine) as session:
            accounts.add_operator(session, name="operator", currency="EUR", actor="sim", now=START)
            for name, rate in zip(("retail", "wholesale"), options.rates, strict=True):
                tariffs.add_tariff(session, name=name, currency="EUR", rounding=rate.rounding, actor="sim", now=START)
                tariffs.import_rates(session, name, [rate], actor="sim", now=START)
        ids: list[int] = []
        credit: dict[int, int] = {}
        chains: dict[str, tuple[Payer, ...]] = {}
        for plan in options.accounts:
            parent = None if plan.parent is None else options.accounts[plan.parent].name
            with work(self.engine) as session:
                made = accounts.add_account(
                    session,
                    name=plan.name,
                    kind=AccountKind.CUSTOMER if plan.code else AccountKind.RESELLER,
                    parent=parent,
                    tariff="retail" if plan.code else "wholesale",
                    credit_limit_micros=plan.credit_limit_micros,
                    max_calls=plan.max_calls,
                    max_cps=plan.max_cps,
                    identities=[(IdentityKind.ACCOUNT_CODE, plan.code)] if plan.code else [],
                    actor="sim",
                    now=START,
                )
                account_id = made.id or 0
                wallet = accounts.find_account(session, str(account_id)).wallet_id
            ids.append(account_id)
            self.wallets[account_id] = wallet
            if plan.parent is not None:
                self.parents[account_id] = ids[plan.parent]
            credit[wallet] = plan.credit_limit_micros
            if plan.parent is None and plan.opening_micros:
                self._pay_in(account_id, plan.opening_micros, "opening")
            if plan.code:
                chain, at = [Payer(account_id, wallet, self.options.rates[0])], plan.parent
                while at is not None:
                    chain.append(Payer(ids[at], self.wallets[ids[at]], self.options.rates[1]))
                    at = options.accounts[at].parent
                chains[plan.code] = tuple(chain)
        for number, plan in enumerate(options.accounts):
            if plan.parent is not None and plan.opening_micros and not plan.code:
                self._pay_in(
                    ids[number], min(plan.opening_micros, options.accounts[plan.parent].opening_micros // 2), "o"
                )
        look = sqlite3.connect(self.folder.store, isolation_level=None)
        most = {str(account_id): plan.max_calls for account_id, plan in zip(ids, options.accounts, strict=True)}
        return Auditor(options, self.server, chains, credit, most, self.loop.time, _restless(options), look)

    def _pay_in(self, account_id: int, amount_micros: int, operation: str) -> topups.TopUp | None:
        self.asked[f"{operation} {account_id}"] = (account_id, amount_micros)
        with work(self.engine) as session:
            return topups.top_up(
                session,
                account_id,
                amount_micros,
                operation=f"{operation} {account_id}",
                actor="sim",
                now=self.clock.now(),
            )

    def _paid_in(self) -> dict[int, int]:
        """Return what was put into each wallet: every operation that SQL knows counts once, however often asked for."""
        paid = dict.fromkeys(self.wallets.values(), 0)
        for operation, (account_id, amount) in self.asked.items():
            if self.auditor.store.execute("SELECT 1 FROM operation WHERE id = ?", (operation,)).fetchone():
                paid[self.wallets[account_id]] += amount
                if account_id in self.parents:
                    paid[self.wallets[self.parents[account_id]]] -= amount
        return paid

    def _run_job(self, owner: str, executor: Executor | None, job: Job, future: asyncio.Future[Any]) -> None:
        """Carry out work for a thread: at a drawn moment, with what can go wrong in a store."""
        journal = isinstance(executor, ThreadPoolExecutor)
        delay = self.rng.expovariate(1 / (0.0005 if journal else self.faults.sql_slow_s))
        self.loop.later(delay, self._do_job, owner, job, future, journal)

    def _do_job(self, owner: str, job: Job, future: asyncio.Future[Any], journal: bool) -> None:
        if self.loop.is_dead(owner) and (journal or self.rng.random() < 0.8):
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
            self._checked(self.auditor.after_sql)
            if drawn > 1 - faults.sql_unknown:
                _fail(future, OperationalError("COMMIT", {}, Exception("the connection broke")))
                return
        if not future.done():
            future.set_result(result)

    # -- the controller ------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start a controller, unless one lives."""
        if self.controller is not None:
            return
        self.lives += 1
        owner = f"controller {self.lives}"
        self.note(f"{owner} starts")
        options = self.options
        with acting_as(owner):
            self.controller = Controller(
                [self.switch],
                self.engine,
                self._credit(watched=True),
                LiveCalls(self.redis, prefix=PREFIX, clock=self.clock),  # type: ignore[arg-type]
                Journal(self.folder.path / "journal.db"),
                ControlSettings(
                    slice_s=options.slice_s,
                    renew_before_s=options.renew_before_s,
                    last_try_s=options.last_try_s,
                    warn_before_s=options.warn_before_s,
                    ring_s=options.ring_s,
                    controller_loss_grace_s=options.grace_s,
                    resync_s=options.resync_s,
                ),
                clock=self.clock,
                ids=self.ids,
            )
            self._starting = asyncio.ensure_future(self._start(self.controller))

    async def _start(self, controller: Controller) -> None:
        while True:
            try:
                await controller.start()
            except Exception as error:  # noqa: BLE001 - whoever runs the service starts it again
                self.note(f"start failed: {error}")
                await asyncio.sleep(1.0)
            else:
                return

    def kill(self) -> None:
        """End the controller as SIGKILL would."""
        if self.controller is None:
            return
        self.note(f"controller {self.lives} is killed")
        self.auditor.deaths_s.append(self.loop.time())
        self.loop.kill(f"controller {self.lives}")
        self.switch.disconnect()
        self._let_go(self.controller.journal)
        self.controller = None

    async def stop(self) -> None:
        """Stop the controller as an operator does."""
        controller = self.controller
        if controller is None or not self._starting.done():
            return
        self.note(f"controller {self.lives} is told to stop")
        with acting_as(f"controller {self.lives}"):
            await asyncio.ensure_future(controller.stop())
        if self.controller is controller:
            self.loop.kill(f"controller {self.lives}")
            self.auditor.deaths_s.append(self.loop.time())
            self.controller = None

    def _let_go(self, journal: Journal) -> None:
        """What the system does with the files of a dead process."""
        for open_file in (journal._db, journal._lock):
            if open_file is not None:
                open_file.close()

    # -- what happens --------------------------------------------------------------------------------------------------

    def schedule(self) -> None:  # noqa: C901, PLR0912 - one line for each thing that may happen
        """Draw and plan all that will happen."""
        options, faults, rng = self.options, self.faults, self.rng
        for number in range(options.calls):
            self.loop.later(rng.uniform(0.3, options.over_s), self.switch.offer, str(number), self._plan())
        for at_s, for_s in faults.deaths:
            self.loop.later(at_s, self.kill)
            self._task_at(at_s + for_s, self.begin)
        for at_s, for_s in faults.stops:
            self._task_at(at_s, self.stop)
            self._task_at(at_s + for_s, self.begin)
        for at_s, for_s in faults.link_cuts:
            self.loop.later(at_s, self.switch.cut)
            self.loop.later(at_s + for_s, self.switch.mend)
        for at_s, for_s in faults.switch_restarts:
            self.loop.later(at_s, self.switch.die)
            self.loop.later(at_s + for_s, self.switch.come_back)
        for at_s, for_s in faults.partitions:
            self.loop.later(at_s, self._split, True)
            self.loop.later(at_s + for_s, self._split, False)
        for at_s, for_s in faults.redis_down:
            self.loop.later(at_s, self._redis_up, False)
            self.loop.later(at_s + for_s, self._redis_up, True)
        for at_s, lost_s in faults.redis_rewound:
            self.loop.later(max(at_s - lost_s, 0.0), self._take_picture)
            self.loop.later(at_s, self._rewind)
        for at_s in faults.redis_emptied:
            self.loop.later(at_s, self._empty)
        for at_s, for_s, lost_s in faults.failovers:
            self.loop.later(max(at_s - lost_s, 0.0), self._take_picture)
            self.loop.later(at_s, self._redis_up, False)
            self.loop.later(at_s, self._rewind)
            self.loop.later(at_s + for_s, self._redis_up, True)
        for number in range(options.top_ups):
            self._task_at(rng.uniform(1, options.over_s), partial(self._top_up, number))
        for _ in range(options.hangups):
            self._task_at(rng.uniform(1, options.over_s), self._ask_hangup)
        for _ in range(options.blocks):
            self._task_at(rng.uniform(1, options.over_s), self._block)

    def _task_at(self, at_s: float, act: Callable[[], Any]) -> None:
        self.loop.later(at_s, lambda: self.loop.create_task(act()))

    def _plan(self) -> CallPlan:
        options, rng = self.options, self.rng
        kind = rng.random()
        codes = [plan.code for plan in options.accounts if plan.code]
        return CallPlan(
            account_code="nobody" if rng.random() < 0.04 else rng.choice(codes),
            callee="7495" if rng.random() < 0.04 else "4930123",
            rings_s=rng.uniform(0.05, 3.0),
            answered=kind > 0.2,
            busy=kind < 0.1,
            talks_s=min(max(rng.expovariate(1 / options.talk_s), 0.05), LONGEST_TALK_S)
            if rng.random() < 0.85
            else options.slice_s * 1.0,
            hangs_up_s=rng.uniform(0.0, 2.0) if rng.random() < 0.12 else None,
            forks_s=rng.uniform(0.1, 3.0) if rng.random() < 0.1 else None,
        )

    def _split(self, now_so: bool) -> None:
        self.note(f"partition {now_so}")
        self.redis.split = now_so

    def _redis_up(self, now_so: bool) -> None:
        self.note(f"redis up {now_so}")
        self.server.up = now_so

    def _take_picture(self) -> None:
        self._pictures.append(self.server.picture())

    def _rewind(self) -> None:
        self.note("redis restarts without its last writes")
        self._lose(self._pictures[-1])

    def _empty(self) -> None:
        self.note("redis lost everything")
        self._lose({})

    def _lose(self, picture: dict[str, tuple[str, Any]]) -> None:
        before = {key: self.server.hash(key) for key in self.server.keys(f"{{{PREFIX}}}:h:")}
        self.server.go_back(picture)
        self.auditor.redis_lost(before)

    async def _top_up(self, number: int) -> None:
        """The panel adds money; it is asked twice now and then, and may fail between SQL and Redis."""
        codes = [at for at, plan in enumerate(self.options.accounts) if plan.parent is None]
        account_id = list(self.wallets)[self.rng.choice(codes)]
        rate = self.options.rates[0].steps[0]
        amount = int(rate.price * 1_000_000 * self.rng.choice([5, 30, 300]) / rate.per_s) + 10_000
        for _ in range(2 if self.rng.random() < 0.3 else 1):
            try:
                done = await asyncio.to_thread(self._pay_in, account_id, amount, f"top-up {number}")
                self.note(f"top-up of account {account_id}: {amount}")
                if done is not None and self.rng.random() < 0.6:
                    await outbox.apply_now(self.engine, self._credit(), done.applied, clock=self.clock)
            except (BillingError, OperationalError) as error:
                self.note(f"top-up: {error}")

    async def _ask_hangup(self) -> None:
        living = [call_id for call_id, call in self.switch.calls.items() if call.stage != "over"]
        if living:
            live = LiveCalls(self.redis, prefix=PREFIX, clock=self.clock)  # type: ignore[arg-type]
            try:
                await live.ask_hangup(HangupRequest(self.rng.choice(living), "owner", "sim"))
            except BillingError as error:
                self.note(f"hang-up: {error}")

    async def _block(self) -> None:
        account_id = self.rng.choice(list(self.wallets))

        def set_to(status: AccountStatus) -> None:
            with work(self.engine) as session:
                accounts.set_status(session, account_id, status, actor="sim", now=self.clock.now())

        try:
            await asyncio.to_thread(set_to, AccountStatus.BLOCKED)
            await asyncio.sleep(self.rng.uniform(1, 8))
            await asyncio.to_thread(set_to, AccountStatus.ACTIVE)
        except (BillingError, OperationalError) as error:
            self.note(f"block: {error}")

    # -- checks --------------------------------------------------------------------------------------------------------

    def _after_redis(self) -> None:
        self._checked(self.auditor.after_redis)

    def _checked(self, check: Callable[[], None]) -> None:
        if self.failure is not None:
            return
        try:
            check()
        except Broken as broken:
            self.failure = broken
            self.note(f"BROKEN {broken}")

    def log_seen(self, name: str, said: dict[str, Any]) -> None:
        """Take a line the code logged as an error."""
        self.note(f"log {name} {said}")
        if name in IMPOSSIBLE and self.failure is None:
            self.failure = Broken("impossible", f"{name} {said}"[:400])
        if name == "holds_left_over" and not self.auditor.lost_s and self.failure is None:
            self.failure = Broken("left over", f"a hold stood on although its call is charged: {said}"[:400])

    async def live(self) -> None:
        """Let everything happen, then let it come to rest, then check it all. Raises `Broken`."""
        self.schedule()
        await self.begin()
        await self._until(self.options.over_s + 1.0)
        self.note("the faults stop")
        self.faults = QUIET
        self._split(False)
        self._redis_up(True)
        self.switch.come_back()
        deadline = self.loop.time() + LIVENESS_S
        while not self._at_rest():
            if self.loop.time() > deadline:
                raise Broken("liveness", self._unrest())
            await self.begin()
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

    def _at_rest(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> str:  # noqa: PLR0911 - one sentence for each reason
        living = [call.call_id for call in self.switch.calls.values() if call.stage != "over"]
        if living:
            return f"{len(living)} calls live, such as {living[0]}"
        if self.controller is None or not self._starting.done():
            return "no controller"
        if self.controller.calls:
            return f"the controller still has {list(self.controller.calls)[:3]}"
        if self.controller.settler.backlog:
            return f"{self.controller.settler.backlog} ended calls are not settled"
        if not self.controller.ready:
            return "the controller is not ready"
        holds = self.server.keys(f"{{{PREFIX}}}:h:")
        if holds:
            return f"held: {holds[:3]}"
        waiting = self.auditor.store.execute("SELECT count(*) FROM outbox WHERE applied_at IS NULL").fetchone()[0]
        return f"{waiting} postings wait for Redis" if waiting else ""

    async def _audit(self) -> None:
        with reading(self.engine) as session:
            report = books.check_store(session)
            held, findings = await books.check_credit(session, self._credit())
        if held:
            raise Broken("held", f"{held} holds are left at rest")
        with reading(self.engine) as session:
            charges: dict[str, list[Charge]] = {}
            for charge in session.exec(select(Charge).order_by(col(Charge.call_id), col(Charge.level))):
                charges.setdefault(charge.call_id, []).append(charge)
            records = [(record, charges.get(record.call_id, [])) for record in session.exec(select(Cdr))]
        self.auditor.at_rest(self.switch, records, self._paid_in(), [*report.findings, *findings])
        self.charged = sum(1 for _, paid in records if any(charge.amount_micros for charge in paid))


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
        outcome.charged, outcome.deaths = getattr(world, "charged", 0), len(world.auditor.deaths_s)
        world.auditor.store.close()
        if world.controller is not None:
            world._let_go(world.controller.journal)
        world.loop.forget()
        world.loop.close()
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
        *(*faults.deaths, *faults.stops, *faults.link_cuts, *faults.switch_restarts),
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
