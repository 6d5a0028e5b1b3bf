"""Chaos around a real Asterisk: SIPp calls through it, and it is killed and started again like everything else.

What happened is told by SIP alone: what the carrier was asked for, who answered, who said goodbye and when. The AMI is
listened to for one thing: a call that the controller, and not the dialplan, has refused must have a record.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sqlmodel import col, select

from billing.credit.store import CreditStore, connect
from billing.models import Cdr
from billing.store import reading
from tests.chaos.house import House, Servers, database, settle_in
from tests.chaos.proxy import Line
from tests.chaos.rounds import Rounds, Wrong, fill
from tests.switches.asterisk.ami import Event, Observer, observing, value
from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.real.lab import free_port
from tests.switches.real.scenarios import Carrier, answerer, caller, number
from tests.switches.real.sipp import Dialog, Sipp, SippRun

CUSTOMERS = 10
STRANGER = CUSTOMERS
"""An endpoint without an account."""
FAULTS = (
    "kill leader", "kill leader", "freeze leader", "kill standby", "kill both", "kill redis", "freeze redis",
    "kill postgresql", "freeze postgresql", "stall redis", "cut redis", "stall postgresql", "cut postgresql",
    "stall ast", "cut ast", "kill asterisk", "kill asterisk",
)  # fmt: skip
WAIT_MS = 12_000
"""How long a caller waits for an answer: ten seconds for a controller, and then some."""
CALL_S = 40.0
"""When a caller is taken for hung: it waited, talked, and repeated its goodbye."""
EXACT_MS = 500
"""Between what both ends heard and what the switch noted: a busy one says goodbye late, to one or the other."""
OFFER = "callctl-offer"


@dataclass(slots=True)
class LabVictim:
    """An Asterisk that chaos kills and starts again. It is not frozen: its own times would be wrong, and they rule."""

    lab: AsteriskLab
    name: str = "asterisk"
    killed_at: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def kill(self) -> None:
        """SIGKILL."""
        with self._lock:
            self.killed_at.append(time.monotonic())
            self.lab.kill()

    def freeze(self) -> None:
        """Nothing."""

    def thaw(self) -> None:
        """Nothing."""

    def start(self) -> None:
        """Start it, unless it runs."""
        with self._lock:
            if self.lab.process is None:
                self.lab.start()


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that SIPp made; each has a number of its own."""

    callee: str
    began: float
    ended: float
    run: SippRun


class RealChaos(Rounds):
    """Calls by SIPp through a real Asterisk."""

    def __init__(self, house: House, credit: CreditStore, rng: Random, asterisk: LabVictim, sipp: Sipp) -> None:
        super().__init__(house, credit, rng, FAULTS)
        self.asterisk, self.lab, self.sipp = asterisk, asterisk.lab, sipp
        self.placed: list[Placed] = []
        self.carrier: dict[str, list[Dialog]] = {}
        self.heard: list[Event] = []
        self.ears: Observer | None = None
        self.calls = self.lost = self.told_no = 0

    def more_results(self) -> dict[str, int | float]:
        """Return how often Asterisk was killed, and what was free for it."""
        return {"refused": self.told_no, "asterisk_killed": len(self.asterisk.killed_at), "lost_by_asterisk": self.lost}

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def traffic(self, for_s: float, per_s: float) -> None:
        """Have SIPp make calls of every kind, and wait until each caller is done."""
        carrier = self.sipp.carrier(answerer(self.lab.trunk), local=(self.lab.carrier_host, 5060))
        async with carrier as hearing:
            ends, calls = time.monotonic() + for_s, []
            while time.monotonic() < ends:
                calls.append(asyncio.create_task(self._call()))
                await asyncio.sleep(self.rng.expovariate(per_s))
            await asyncio.gather(*calls)
            for dialog in hearing.dialogs():
                called = dialog.messages[0].first_line.partition("sip:")[2].partition("@")[0]
                self.carrier.setdefault(called, []).append(dialog)

    async def _call(self) -> None:
        self.calls += 1
        kinds = [Carrier.ANSWERS, Carrier.HANGS_UP, Carrier.RINGS_THEN_ANSWERS, Carrier.BUSY, Carrier.NOT_FOUND]
        kind = self.rng.choices([*kinds, Carrier.UNAVAILABLE, Carrier.RINGS_FOR_EVER], [40, 15, 20, 6, 4, 4, 5])[0]
        country = "49" if self.rng.random() < 0.95 else "71"
        callee = number(country, kind, tenths=self.rng.randint(1, 30), target=f"{self.calls:06d}")
        talk_ms = int(min(self.rng.expovariate(1 / 2500), 8000)) + 50
        cancel_ms = self.rng.randint(100, 1500) if kind is Carrier.RINGS_FOR_EVER else 0
        host = self.lab.endpoint(self.rng.randrange(CUSTOMERS + 1)).host
        scenario = caller(callee, hold_ms=talk_ms, cancel_ms=cancel_ms, wait_ms=WAIT_MS)
        began, local = time.monotonic(), (host, free_port(socket.SOCK_DGRAM, host))
        run = await self.sipp.call(scenario, local=local, remote=self.lab.sip, limit_s=CALL_S)
        self.placed.append(Placed(callee, began, time.monotonic(), run))

    async def listen(self) -> None:
        """Hear AMI past the line that is broken, again after each start of Asterisk."""
        while True:
            with contextlib.suppress(OSError, AssertionError, TimeoutError):
                async with observing(self.lab.control_port, self.lab.observer) as ears:
                    self.ears, taken = ears, 0
                    while not ears.reader.at_eof():
                        await asyncio.sleep(0.1)
                        fresh, taken = ears.heard[taken:], len(ears.heard)
                        self.heard += [event for event in fresh if value(event, "Event") == "SoftHangupRequest"]
            self.ears = None
            await asyncio.sleep(0.2)

    # -- rest and records ----------------------------------------------------------------------------------------------

    async def unrest_of_calls(self) -> str:
        """Return the channels that are up, or the calls that were decided and have no record."""
        try:
            channels = await self.ears.channels() if self.ears is not None else None
        except (OSError, TimeoutError):
            channels = None
        if channels is None:
            return "Asterisk does not answer"
        if channels:
            return f"channels: {[value(one, 'Channel') for one in channels[:3]]}"
        missing = await asyncio.to_thread(self._without_record)
        return f"no record of {missing[:3]}" if missing else ""

    def _refused(self) -> set[str]:
        """Return the calls that a controller has refused: nobody else hangs up what waits to be offered."""
        waiting = [event for event in self.heard if value(event, "Context") == OFFER]
        return {f"{self.lab.name}:{value(event, 'Uniqueid')}" for event in waiting}

    def _records(self) -> list[Cdr]:
        with reading(self.house.engine) as session:
            callees = [one.callee for one in self.placed]
            ids = list(self._refused())
            return list(session.exec(select(Cdr).where(col(Cdr.callee).in_(callees) | col(Cdr.call_id).in_(ids))))

    def _without_record(self) -> list[str]:
        records = self._records()
        known = {record.callee for record in records} | {record.call_id for record in records}
        return sorted(({one.callee for one in self.placed if one.callee in self.carrier} | self._refused()) - known)

    async def check_calls(self) -> None:
        """Each call that was put through or refused has one record, as both ends of it saw it."""
        found: dict[str, list[Cdr]] = {}
        for record in self._records():
            found.setdefault(record.callee, []).append(record)
        for one in self.placed:
            self._one(one, self.carrier.get(one.callee, []), found.get(one.callee, []))
        self.told_no += len(self._refused())
        self.checked += sum(map(len, found.values()))
        self.placed.clear()
        self.carrier.clear()
        self.heard.clear()

    def _one(self, placed: Placed, carrier: list[Dialog], records: list[Cdr]) -> None:
        killed = any(placed.began <= at <= placed.ended for at in self.asterisk.killed_at)
        # A caller whose switch was killed repeats its request to the next one: one number, two calls.
        if len(records) < len(carrier) or (len(records) > max(len(carrier), 1) and not killed):
            raise Wrong(f"{placed.callee}: {len(records)} records of {len(carrier)} calls: {records}")
        if not carrier:
            if any(record.answered_at is not None for record in records):
                raise Wrong(f"{placed.callee} was never put through, its record says it was answered: {records}")
            return
        if len(records) == len(carrier):
            for dialog, record in zip(carrier, sorted(records, key=lambda one: one.offered_at), strict=True):
                self._held_against(placed, dialog, record, killed=killed)

    def _held_against(self, placed: Placed, dialog: Dialog, record: Cdr, *, killed: bool) -> None:
        if dialog.final != 200:
            if record.answered_at is not None:
                raise Wrong(f"{placed.callee} was never answered, its record says so: {record}\n{dialog.story()}")
            return
        self.answered += 1
        if record.answered_at is None:
            self.lost += killed
            if not killed:
                raise Wrong(f"{placed.callee} was answered and is free: {record}\n{dialog.story()}")
        elif record.estimated:
            self.estimated += 1
        elif dialog.first("BYE") is not None:
            ends = [one for one in (dialog, *placed.run.dialogs) if one.first(200) and one.first("BYE")]
            talked_ms = [one.talk_s * 1000 for one in ends]
            if not min(talked_ms) - EXACT_MS < record.talk_ms < max(talked_ms) + EXACT_MS:
                raise Wrong(f"{placed.callee} talked {talked_ms} ms, its record says {record.talk_ms}")
        elif not killed:
            raise Wrong(f"{placed.callee} never ended: {record}\n{dialog.story()}")


@asynccontextmanager
async def around_real(servers: Servers, seed: int) -> AsyncIterator[RealChaos]:
    """Give a house around a real Asterisk. Raises `NoSwitch` where there is none."""
    rng = Random(seed)
    folder = servers.folder / "asterisk"
    folder.mkdir()
    asterisk = LabVictim(AsteriskLab(folder, verbose=False))
    lab = asterisk.lab
    engine = await asyncio.to_thread(database, servers.postgres)
    codes = [lab.endpoint(number).account_code for number in range(CUSTOMERS)]
    await asyncio.to_thread(fill, engine, rng, codes)
    async with AsyncExitStack() as stack:
        stack.callback(engine.dispose)
        stack.callback(lab.stop)
        await asyncio.to_thread(asterisk.start)
        ends: dict[str, tuple[str, int] | Path] = {**servers.ends(), "ast": ("127.0.0.1", lab.control_port)}
        lines = {name: await stack.enter_async_context(Line(name, to)) for name, to in ends.items()}
        house = settle_in(servers, engine, lines, lab.settings(lines["ast"].port, lab.login))
        house.switch = asterisk
        link = connect(f"redis://127.0.0.1:{servers.redis_port}/0", timeout_s=2)
        stack.push_async_callback(link.aclose)
        made = RealChaos(house, CreditStore(link), rng, asterisk, Sipp(servers.folder / "sipp"))
        ears = asyncio.create_task(made.listen())
        try:
            yield made
        finally:
            ears.cancel()
            await asyncio.gather(ears, return_exceptions=True)
