"""One running system around a real switch: controller (a process of its own), live credit, SQL, carrier, observer."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from billing.accounts import add_account, add_operator
from billing.books import check_credit, check_store
from billing.credit.embedded import EmbeddedServer, start_embedded
from billing.credit.live import HangupRequest, LiveCalls
from billing.credit.store import CreditStore, connect
from billing.models import AccountKind, Cdr, Charge, IdentityKind, OutboxRow, Wallet, WalletKind
from billing.outbox import apply_now
from billing.ports import SystemClock
from billing.store import migrate, open_store, reading, work
from billing.tariffs import add_tariff, import_rates
from billing.topups import top_up
from rating.tariff import Rate, Rounding, Step
from tests.switches.real.lab import PIN_SECRET, Endpoint, Lab, Observer, free_port
from tests.switches.real.scenarios import answerer, caller
from tests.switches.real.sipp import CarrierRun, Sipp, SippRun

PER_SECOND = 10_000
"""Micro-units of a second to 49…: 0.60 a minute, charged by the second."""
ROUNDING = Rounding()
BY_SECOND = (Step(0, Decimal("0.60"), 60, 1),)
RATES = (
    Rate("49", "Germany", Decimal(0), BY_SECOND, ROUNDING),
    Rate("33", "France, by the minute", Decimal("0.05"), (Step(0, Decimal("0.30"), 60, 60),), ROUNDING),
    Rate("882", "Satellite", Decimal(0), BY_SECOND, ROUNDING, barred=True),
    Rate("3110", "Number of ours", Decimal(0), BY_SECOND, ROUNDING),
)
RING_S = 4
POOL = 60


@dataclass(frozen=True, slots=True)
class Customer:
    """An account, and the endpoint whose calls it pays."""

    endpoint: Endpoint
    account_id: int
    wallet_id: int


class World:
    """Everything between a telephone and the books. Money in texts of the currency, amounts in micro-units.

    `watched`: with a carrier whose messages are kept and an observer of the switch; a benchmark does without.
    `also`: further switches of the same controller.
    """

    def __init__(self, lab: Lab, folder: Path, *, watched: bool = True, also: tuple[Lab, ...] = ()) -> None:
        self.lab, self.folder, self.also = lab, folder, also
        self.watched = watched
        self.clock = SystemClock()
        self.sipp = Sipp(folder / "sipp")
        self.engine: Engine
        self.server: EmbeddedServer
        self.redis: Redis
        self.credit: CreditStore
        self.live: LiveCalls
        self.observer: Observer
        self.carrier: CarrierRun
        self.controller: asyncio.subprocess.Process | None = None
        self.control_port = lab.control_port
        self.login = lab.login
        self._stack = AsyncExitStack()
        self._observer_stack = AsyncExitStack()
        self._pool: list[Customer] = []
        self._customers: list[Customer] = []
        self._topups = 0

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the store, start live credit, carrier and observer; no controller yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.engine = open_store(f"sqlite:///{self.folder}/callctl.db")
        self._stack.callback(self.engine.dispose)
        await asyncio.to_thread(self._fill)
        self.server = await asyncio.to_thread(start_embedded, self.folder / "credit")
        self._stack.callback(self.server.stop)
        self.redis = connect(self.server.url)
        self._stack.push_async_callback(self.redis.aclose)
        self.credit, self.live = CreditStore(self.redis), LiveCalls(self.redis)
        if self.watched:
            carrier = self.sipp.carrier(answerer(self.lab.trunk), local=(self.lab.carrier_host, 5060))
            self.carrier = await self._stack.enter_async_context(carrier)
            await self.observe()

    async def close(self) -> None:
        """End everything that was started here."""
        await self.stop_controller()
        await self._observer_stack.aclose()
        await self._stack.aclose()

    async def observe(self) -> None:
        """Listen to the switch (again, after it was restarted)."""
        await self._observer_stack.aclose()
        self._observer_stack = AsyncExitStack()
        self.observer = await self._observer_stack.enter_async_context(self.lab.observing())

    async def start_controller(self, *, slice_s: int = 3, renew_before_s: float = 1.0) -> None:
        """Run `callctl controller` and wait until its link to the switch stands."""
        settings = self._settings(slice_s, renew_before_s)
        before = await self._beats()
        with (self.folder / "controller.log").open("ab") as log:
            self.controller = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "callctl.cli.main", "controller", "-c", str(settings)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

        async def connected() -> bool:
            if self.controller is None or self.controller.returncode is not None:
                raise AssertionError(f"the controller ended:\n{self.log()}")
            now = await self._beats()
            return all(now[name][0] == "connected" and now[name][1] > before[name][1] for name in now)

        try:
            await until(connected, "the controller is connected", timeout_s=30)
        except AssertionError as error:
            error.add_note(self.log())
            raise

    async def _beats(self) -> dict[str, tuple[str, int]]:
        beats = await self.live.beats()
        return {lab.name: beats.get(lab.name, ("", 0)) for lab in (self.lab, *self.also)}

    async def stop_controller(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the controller; SIGKILL is a crash."""
        if self.controller is None:
            return
        if self.controller.returncode is None:
            self.controller.send_signal(how)
            try:
                await asyncio.wait_for(self.controller.wait(), 15)
            except TimeoutError:
                self.controller.kill()
                await self.controller.wait()
        self.controller = None

    def log(self) -> str:
        """Return what the controllers wrote."""
        path = self.folder / "controller.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _settings(self, slice_s: int, renew_before_s: float) -> Path:
        path = self.folder / "callctl.toml"
        path.write_text(f"""[store]
url = "sqlite:///{self.folder}/callctl.db"
[credit]
url = "{self.server.url}"
[control]
journal = "{self.folder}/journal.db"
slice_s = {slice_s}
renew_before_s = {renew_before_s}
last_try_s = 0.5
ring_s = {RING_S}
resync_s = 2.0
[pins]
secret = "{PIN_SECRET}"
tries = 3
{self.lab.settings(self.control_port, self.login)}
{"".join(lab.settings(lab.control_port, lab.login) for lab in self.also)}""")
        path.chmod(0o600)
        return path

    # -- people and money ----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        migrate(self.engine)
        now = self.clock.now()
        with work(self.engine) as session:
            add_operator(session, name="operator", currency="EUR", actor="test", now=now)
            add_tariff(session, name="retail", currency="EUR", rounding=ROUNDING, actor="test", now=now)
            import_rates(session, "retail", RATES, actor="test", now=now)
        self._pool = [self._add(self.lab.fresh_endpoint()) for _ in range(POOL)]

    def _add(self, endpoint: Endpoint, **options: Any) -> Customer:
        code = [(IdentityKind.ACCOUNT_CODE, endpoint.account_code), (IdentityKind.DID, endpoint.did)]
        identities = options.pop("identities", code)
        with work(self.engine) as session:
            account = add_account(
                session,
                name=endpoint.account_code,
                kind=AccountKind.CUSTOMER,
                tariff="retail",
                identities=identities,
                actor="test",
                now=self.clock.now(),
                **options,
            )
            session.flush()
            if account.id is None:
                raise AssertionError("an account without a number")
            money = select(Wallet).where(Wallet.account_id == account.id, Wallet.kind == WalletKind.MONEY)
            wallet_id = session.exec(money).one().id
            return Customer(endpoint, account.id, wallet_id or 0)

    async def customer(self, money: str = "0", **options: Any) -> Customer:
        """Return a customer nobody has used, with this money; `options`: those of `add_account`, and an `endpoint`."""
        if options:
            endpoint = options.pop("endpoint", None) or self.lab.fresh_endpoint()
            one = await asyncio.to_thread(self._add, endpoint, **options)
            if self.controller is not None:
                await asyncio.sleep(1.5)  # a controller looks for a newer catalogue every second
        else:
            one = self._pool.pop()
        self._customers.append(one)
        if Decimal(money):
            await self.top_up(one, money)
        return one

    async def top_up(self, customer: Customer, money: str) -> None:
        """Add money as the command line does: SQL first, then live credit."""
        self._topups += 1
        operation, micros = f"test-{self._topups}", int(Decimal(money) * 1_000_000)

        def book() -> Any:
            with work(self.engine) as session:
                return top_up(
                    session,
                    customer.account_id,
                    micros,
                    operation=operation,
                    actor="test",
                    now=self.clock.now(),
                )

        done = await asyncio.to_thread(book)
        await apply_now(self.engine, self.credit, done.applied, clock=self.clock)

    def balance(self, customer: Customer) -> int:
        """Return the balance in SQL."""
        with reading(self.engine) as session:
            return session.exec(select(Wallet).where(Wallet.id == customer.wallet_id)).one().balance_micros

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def call(
        self, who: Customer | Endpoint, called: str, *, calls: int = 1, limit_s: float = 30, **how: Any
    ) -> SippRun:
        """Have SIPp call from an account's endpoint; `how` as for `scenarios.caller`."""
        host = (who.endpoint if isinstance(who, Customer) else who).host
        local = (host, free_port(socket.SOCK_DGRAM, host))
        return await self.sipp.call(
            caller(called, **how), local=local, remote=self.lab.sip, calls=calls, limit_s=limit_s
        )

    async def call_from_carrier(self, did: str, **how: Any) -> SippRun:
        """Have the world call a number of ours."""
        host = self.lab.carrier_host
        return await self.sipp.call(
            caller(did, from_user="442071234567", **how),
            local=(host, free_port(socket.SOCK_DGRAM, host)),
            remote=self.lab.trunk,
        )

    def phone(self, customer: Customer) -> AbstractAsyncContextManager[CarrierRun]:
        """Have the telephone of an account answer at its address."""
        return self.sipp.carrier(answerer(self.lab.sip), local=(customer.endpoint.host, 5060))

    async def ask_hangup(self, call_id: str) -> None:
        """Ask for a hang-up as the panel does."""
        await self.live.ask_hangup(HangupRequest(call_id, "test", "asked"))

    async def cdrs(self, customer: Customer | None, count: int = 1, *, timeout_s: float = 10) -> list[Cdr]:
        """Wait until an account (None: nobody) has that many records; return them, the oldest offer first."""
        owner = customer.account_id if customer else None

        def read() -> list[Cdr]:
            with reading(self.engine) as session:
                wanted = select(Cdr).where(col(Cdr.account_id) == owner if owner else col(Cdr.account_id).is_(None))
                return list(session.exec(wanted.order_by(col(Cdr.offered_at))))

        async def enough() -> bool:
            return len(read()) >= count

        await until(enough, f"{count} records of {customer}", timeout_s=timeout_s)
        found = read()
        assert len(found) == count, f"{len(found)} records instead of {count}: {found}"
        return found

    async def cdr(self, customer: Customer | None) -> Cdr:
        """Wait for the only record of an account."""
        return (await self.cdrs(customer))[0]

    def charges(self, cdr: Cdr) -> list[Charge]:
        """Return the charges of a call."""
        with reading(self.engine) as session:
            return list(session.exec(select(Charge).where(Charge.call_id == cdr.call_id).order_by(col(Charge.level))))

    async def talking(self, customer: Customer, count: int = 1) -> None:
        """Wait until that many calls of an account are answered, as the panel would show it."""

        async def up() -> bool:
            views = await self.live.list(account_id=customer.account_id)
            return sum(view.answered_ms is not None for view in views) >= count

        await until(up, f"{count} answered calls of {customer.endpoint.account_code}")

    # -- the end -------------------------------------------------------------------------------------------------------

    async def settled(self, timeout_s: float = 15) -> None:
        """Wait until the switch has no channel, Redis no hold, the outbox nothing to tell."""
        if self.watched:
            await self.observer.until_silent(timeout_s)

        async def left() -> dict[str, object]:
            held, shown = await self.credit.holds(), await self.live.list()
            return {"holds": held, "postings to tell": self._outbox(), "on the board": shown}

        async def put_away() -> bool:
            return not any((await left()).values())

        try:
            await until(put_away, "no hold, no posting to tell, nothing on the board", timeout_s=timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; left: {await left()}") from None

    async def check_books(self) -> None:
        """Assert that nothing is left over and that every invariant holds."""
        await self.settled()
        with reading(self.engine) as session:
            report = check_store(session)
            holds, findings = await check_credit(session, self.credit)
        assert (report.findings, holds, findings) == ((), 0, ())
        for one in self._customers:
            assert await self.credit.calls_of(one.account_id) == 0

    def _outbox(self) -> int:
        with reading(self.engine) as session:
            return len(session.exec(select(OutboxRow.id).where(col(OutboxRow.applied_at).is_(None))).all())

    async def clear(self) -> None:
        """Hang up whatever a failed test has left."""
        await self.observer.hang_up_all()

    def story(self) -> str:
        """Return what controller, switch and SIP said, for the report of a failure."""
        sip = "\n\n".join(dialog.story() for dialog in self.carrier.dialogs()[-6:])
        return f"files: {self.folder}\n{self.log()[-6000:]}\n{self.lab.log()[-3000:]}\ncarrier:\n{sip}"


async def until(condition: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float = 10) -> None:
    """Wait until something is so."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s: {what}") from None


def seconds_between(start: datetime | None, end: datetime | None) -> float:
    """Return the seconds from one moment to another."""
    if start is None or end is None:
        raise AssertionError("a moment is missing")
    return (end - start).total_seconds()
