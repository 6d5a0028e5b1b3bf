"""Run the demo: build the system in a temporary folder, play the script, watch, close, count."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy.engine import Engine
from sqlmodel import func, select

from billing.accounts import AccountView, list_accounts
from billing.books import check_credit, check_store
from billing.cdrs import list_cdrs
from billing.credit.live import HangupRequest
from billing.credit.store import WalletView
from billing.models import Cdr
from billing.outbox import apply_now, drain
from billing.ports import Clock, Ids
from billing.settings import Settings
from billing.store import reading, work
from billing.topups import top_up
from callctl.app import CreditLink, credit_link, make_controller, open_engine, serving_credit
from callctl.controller import Controller
from callctl.demo.cast import Dial, Script, TopUpDue
from callctl.demo.feed import Feed
from callctl.demo.world import ACTOR, ASTERISK, CURRENCY, FREESWITCH, demo_settings, settle_in
from callctl.simulator.asterisk import CONTROLLER, SimulatedAsterisk
from callctl.simulator.calls import SimulatedSwitch
from callctl.simulator.freeswitch import SimulatedFreeswitch
from rating.money import format_amount, parse_amount

BEAT_S = 0.1
WATCH_S = 0.25
CLOSE_S = 15.0
READY_S = 20.0
LATENCY_S = 0.02
"""How often a real FreeSWITCH looks for events."""


@dataclass(frozen=True, slots=True)
class PanelParts:
    """What the web app needs; the demo itself never imports it, so the command line hands in how to serve it."""

    engine: Engine
    link: CreditLink
    settings: Settings
    clock: Clock
    ids: Ids


ServePanel = Callable[[PanelParts], AbstractAsyncContextManager[str]]
"""Serves the panel on loopback for as long as the context lasts; gives its address."""


@dataclass(slots=True)
class Result:
    """What the run came to. `findings` are the books' own words; amounts in micro-units."""

    calls_offered: int
    admitted: int
    refused: int
    cut_at_zero: int
    extended_by_topup: int
    cdrs: int
    charged_micros: int
    holds_left: int
    findings: tuple[str, ...]

    @property
    def balances_ok(self) -> bool:
        """Whether every invariant holds, each call has its record, and nothing is held any more."""
        return not self.findings and self.holds_left == 0 and self.cdrs == self.calls_offered

    def facts(self) -> dict[str, Any]:
        """Return the result for programs; `charged` is a decimal string."""
        return {
            "calls_offered": self.calls_offered,
            "admitted": self.admitted,
            "refused": self.refused,
            "cut_at_zero": self.cut_at_zero,
            "extended_by_topup": self.extended_by_topup,
            "cdrs": self.cdrs,
            "charged": format_amount(self.charged_micros),
            "currency": CURRENCY,
            "balances_ok": self.balances_ok,
            "holds_left": self.holds_left,
            "findings": list(self.findings),
        }


@dataclass(slots=True)
class Show:
    """A demo that runs. `url` and `password` are the panel's; `calls` and `wallets` are renewed four times a second."""

    parts: PanelParts
    switches: dict[str, SimulatedSwitch]
    controller: Controller
    accounts: dict[str, AccountView]
    url: str
    password: str
    script: Script
    feed: Feed
    calls: list[Any] = field(default_factory=list)
    wallets: dict[int, WalletView] = field(default_factory=dict)
    closing: bool = False
    _began: float = 0.0
    _topups: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def elapsed_s(self) -> float:
        """Return the second of the show."""
        return self.parts.clock.monotonic() - self._began

    async def play(self, stop: asyncio.Event, seconds: float | None) -> Result:
        """Let people call until `stop` is set or the time is over; then close and count."""
        deadline = self.parts.clock.monotonic() + READY_S
        while not (self.controller.ready and self.linked):
            if self.parts.clock.monotonic() > deadline:
                raise TimeoutError(f"the controller did not get ready within {READY_S:g} s")
            await asyncio.sleep(BEAT_S)
        self._began = self.parts.clock.monotonic()
        watcher = asyncio.create_task(self._watch(), name="demo-watch")
        try:
            while not stop.is_set() and (seconds is None or self.elapsed_s < seconds):
                for scene in self.script.due(self.elapsed_s):
                    self._enact(scene)
                await asyncio.sleep(BEAT_S)
            self.closing = True
            await self._close()
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, *self._topups, return_exceptions=True)
        await self.look()
        return await self._count()

    @property
    def linked(self) -> bool:
        """Whether the controller knows the calls of both switches."""
        return set(self.controller.watch.status.values()) == {"connected"}

    @property
    def calls_placed(self) -> int:
        """Return how many calls people have made, on both switches."""
        return sum(switch.calls_placed for switch in self.switches.values())

    async def look(self) -> None:
        """Look at live calls, wallets and new records, as a panel does."""
        link = self.parts.link
        self.calls = await link.live.list()
        self.feed.see(self.calls)
        for record in await asyncio.to_thread(self._records):
            self.feed.record(record)
        for account in {call.account_id: call.account for call in self.calls}.values():
            view = self.accounts[account]
            if wallet := await link.credit.wallet(view.wallet_id):
                self.wallets[view.id] = wallet
        self.feed.counters.offered = self.calls_placed

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(WATCH_S)

    def _records(self) -> list[Cdr]:
        """Return the newest records, oldest first; far more than end between two looks."""
        with reading(self.parts.engine) as session:
            records = list_cdrs(session, most=200)[::-1]
            session.expunge_all()
        return records

    def _enact(self, scene: Dial | TopUpDue) -> None:
        match scene:
            case Dial(plan, switch):
                self.switches[switch].place(plan)
            case TopUpDue(account, amount):
                task = asyncio.create_task(self._pay(account, parse_amount(amount)), name="demo-topup")
                self._topups.add(task)
                task.add_done_callback(self._topups.discard)

    async def _pay(self, account: str, micros: int) -> None:
        self.feed.topped_up(account, micros, CURRENCY)
        done = await asyncio.to_thread(self._book, account, micros)
        await apply_now(self.parts.engine, self.parts.link.credit, done.applied, clock=self.parts.clock)

    def _book(self, account: str, micros: int) -> Any:
        with work(self.parts.engine) as session:
            return top_up(
                session,
                self.accounts[account].id,
                micros,
                operation=self.parts.ids.new("topup"),
                actor=ACTOR,
                reason="demo",
                now=self.parts.clock.now(),
            )

    async def _close(self) -> None:
        """Hang up what lives, wait for every record, and until the credit store has heard of every posting."""
        live = self.parts.link.live
        deadline = self.parts.clock.monotonic() + CLOSE_S
        asked: set[str] = set()
        while self._unfinished() and self.parts.clock.monotonic() < deadline:
            for call in await live.list():
                if call.call_id not in asked:
                    asked.add(call.call_id)
                    await live.ask_hangup(HangupRequest(call.call_id, ACTOR, "the demo ends"))
            if self.parts.clock.monotonic() > deadline - CLOSE_S / 2:
                for people in [call for switch in self.switches.values() for call in switch.calls]:
                    people.hang_up()
            await asyncio.sleep(BEAT_S)
        while await drain(self.parts.engine, self.parts.link.credit, clock=self.parts.clock):
            pass

    def _unfinished(self) -> bool:
        talking = any(switch.calls for switch in self.switches.values())
        return bool(talking or self.controller.calls or self.controller.settler.backlog)

    async def _count(self) -> Result:
        with reading(self.parts.engine) as session:
            report = check_store(session)
            holds, found = await check_credit(session, self.parts.link.credit)
            refused = session.exec(select(func.count()).where(Cdr.disposition == "refused")).one()
            cut = session.exec(select(func.count()).where(Cdr.reason == "credit_exhausted")).one()
            charged = session.exec(select(func.coalesce(func.sum(Cdr.cost_micros), 0))).one()
        return Result(
            calls_offered=self.calls_placed,
            admitted=report.cdrs - refused,
            refused=refused,
            cut_at_zero=cut,
            extended_by_topup=len(self.feed.counters.extended),
            cdrs=report.cdrs,
            charged_micros=int(charged),
            holds_left=holds,
            findings=tuple(f"invariant {finding.invariant}: {finding.what}" for finding in (*report.findings, *found)),
        )


@asynccontextmanager
async def show(
    folder: Path, serve_panel: ServePanel, *, web_port: int, random: Random, clock: Clock, ids: Ids
) -> AsyncIterator[Show]:
    """Build everything in `folder`; take it down again in the opposite order."""
    secret = ids.secret()
    user = replace(CONTROLLER, secret=secret)
    async with (
        SimulatedAsterisk(clock=clock, rng=random, users=(user,)) as asterisk,
        SimulatedFreeswitch(clock=clock, rng=random, password=secret, latency_s=LATENCY_S) as freeswitch,
    ):
        switches: dict[str, SimulatedSwitch] = {ASTERISK: asterisk, FREESWITCH: freeswitch}
        settings = demo_settings(
            folder,
            ami_port=asterisk.port,
            ami_user=user.name,
            esl_port=freeswitch.port,
            secret=secret,
            web_port=web_port,
        )
        engine = open_engine(settings)
        try:
            _, password = await asyncio.to_thread(settle_in, engine, clock=clock, ids=ids)
            with reading(engine) as session:
                accounts = {account.name: account for account in list_accounts(session)}
            with serving_credit(settings.credit) as url:
                async with credit_link(settings.credit, url=url) as link:
                    parts = PanelParts(engine, link, settings, clock, ids)
                    made = _make(parts, switches, accounts, password, random)
                    async with _controlling(made.controller), serve_panel(parts) as address:
                        made.url = address
                        yield made
        finally:
            engine.dispose()


def _make(
    parts: PanelParts,
    switches: dict[str, SimulatedSwitch],
    accounts: dict[str, AccountView],
    password: str,
    random: Random,
) -> Show:
    feed = Feed(lambda: 0.0, {account.id: account.name for account in accounts.values()})
    controller = make_controller(
        parts.settings, parts.engine, parts.link, clock=parts.clock, ids=parts.ids, listener=feed.hear
    )
    made = Show(parts, switches, controller, accounts, "", password, Script(random), feed)
    feed.elapsed_s = lambda: made.elapsed_s
    return made


@asynccontextmanager
async def _controlling(controller: Controller) -> AsyncIterator[None]:
    await controller.start()
    try:
        yield
    finally:
        await controller.stop()


def temporary_folder() -> Path:
    """Make a folder of our own, for us only."""
    return Path(tempfile.mkdtemp(prefix="callctl-demo-"))


def remove(folder: Path) -> None:
    """Leave nothing behind."""
    shutil.rmtree(folder, ignore_errors=True)
