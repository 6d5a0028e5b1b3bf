"""A machine with a controller on it: begun, killed, frozen, cut off from Redis, told to stop, and begun again.

Where it is the only one its controller simply runs; where there are two, each runs behind its lease, as the service
does, and leads or waits.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from billing.credit.lease import Lease
from billing.credit.live import LiveCalls
from billing.credit.runs import Runs
from billing.credit.store import CreditStore
from billing.settings import ControlSettings
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.leftovers import Leftovers
from callctl.standby import Standby
from tests.simulation.clock import VirtualClock
from tests.simulation.link import SwitchLink
from tests.simulation.loop import acting_as
from tests.simulation.net import PREFIX, SimulatedRedis

if TYPE_CHECKING:
    from tests.simulation.options import Options
    from tests.simulation.world import World


class Process:
    """One machine. `name` is the machine's, `owner` the process' that lives on it now."""

    def __init__(self, world: World, name: str, *, clock: VirtualClock, journal: Path) -> None:
        self.world, self.name, self.clock = world, name, clock
        self._journal = journal
        self.lives = 0
        self.alive = False
        self.split = False
        """No packet goes between it and Redis."""
        self.redis: SimulatedRedis | None = None
        self.lease: Lease | None = None
        self.links: list[SwitchLink] = []
        self.born_s = 0.0
        self._standby: Standby | None = None
        self._left: Leftovers | None = None
        self._made: list[Controller] = []
        self._starting: asyncio.Task[None] | None = None

    @property
    def owner(self) -> str:
        """Whose steps are this process'."""
        return f"{self.name} {self.lives}"

    @property
    def controller(self) -> Controller | None:
        """The controller that acts here now."""
        if not self.alive:
            return None
        return self._standby.controller if self._standby else self._made[-1]

    @property
    def started(self) -> bool:
        """Whether it has come through its start."""
        return self._starting is not None and self._starting.done()

    @property
    def leads(self) -> bool:
        """Whether it acts now."""
        return self.controller is not None and (self.lease is None or self.lease.leads())

    def begin(self) -> None:
        """Start it, unless it lives."""
        if self.alive:
            return
        self.lives += 1
        self.alive, self.born_s = True, self.world.loop.time()
        self.world.note(f"{self.owner} starts")
        world, runs = self.world, Runs()
        self.redis = client = SimulatedRedis(
            world.server, lambda: world.faults, Random(f"{self.owner} {world.options.seed}")
        )
        client.mutate, client.watched, client.split = world.mutate, runs, self.split
        credit = CreditStore(client, prefix=PREFIX, runs=runs)  # type: ignore[arg-type] # what it uses of a client
        self._made, self._standby, self.lease, self._left = [], None, None, None
        if world.options.controllers > 1:
            names = [world.switch.name]
            self.lease = Lease(client, credit, names, prefix=PREFIX, token=self.owner, clock=self.clock)  # type: ignore[arg-type]
            self._left = Leftovers(world.engine, credit, lambda: Journal(self._journal), self.clock)
            self._standby = Standby(self.lease, lambda: self._make(client, credit), self._left)
        with acting_as(self.owner):
            if self._standby is None:
                self._make(client, credit)
            self._starting = asyncio.ensure_future(self._start())

    def _make(self, client: SimulatedRedis, credit: CreditStore) -> Controller:
        world, lease = self.world, self.lease
        link = SwitchLink(
            world.switch,
            Random(f"link {self.owner} {len(self._made)} {world.options.seed}"),
            clock_ahead_s=self.clock.ahead_s,
        )
        controller = Controller(
            [link],
            world.engine,
            credit,
            LiveCalls(client, prefix=PREFIX, clock=self.clock),  # type: ignore[arg-type]
            Journal(self._journal),
            settings_of(world.options),
            clock=self.clock,
            ids=world.ids,
            leads=lease.leads if lease else lambda: True,
            lost=(lambda: lease.taken) if lease else lambda: False,
            others=(lambda: lease.met) if lease else lambda: False,
        )
        self.links.append(link)
        self._made.append(controller)
        return controller

    async def _start(self) -> None:
        while True:
            try:
                await (self._standby.start() if self._standby else self._made[-1].start())
            except Exception as error:  # noqa: BLE001 - whoever runs the service starts it again
                self.world.note(f"start failed: {error}")
                await asyncio.sleep(1.0)
            else:
                return

    def kill(self) -> None:
        """End it as SIGKILL would."""
        if self.alive:
            self.world.note(f"{self.owner} is killed")
            self._gone()

    def _gone(self) -> None:
        self.world.loop.kill(self.owner)
        for link in self.links:
            link.disconnect()
        self.let_go()
        self.alive, self.links = False, []
        self.world.auditor.one_less()

    def freeze(self) -> None:
        """Let it do nothing, as SIGSTOP would."""
        if self.alive and not self.world.loop.is_frozen(self.owner):
            self.world.note(f"{self.owner} freezes")
            self.world.loop.freeze(self.owner)
            self.world.auditor.nobody_sure()

    def thaw(self) -> None:
        """Let it go on."""
        if self.world.loop.is_frozen(self.owner):
            self.world.note(f"{self.owner} wakes")
            self.world.loop.thaw(self.owner)
            self.world.auditor.nobody_sure()

    def cut_off(self, now_so: bool) -> None:
        """Let no packet through between it and Redis."""
        self.split = now_so
        if self.redis is not None:
            self.redis.split = now_so

    async def stop(self) -> None:
        """Stop it as an operator does."""
        if not self.alive or not self.started or self.world.loop.is_frozen(self.owner):
            return
        life = self.lives
        self.world.note(f"{self.owner} is told to stop")
        with acting_as(self.owner):
            await asyncio.ensure_future(self._standby.stop() if self._standby else self._made[-1].stop())
        if self.alive and self.lives == life:
            self._gone()

    def let_go(self) -> None:
        """Do what the system does with the files of a dead process."""
        left = self._left.journal if self._left else None
        for journal in (*(controller.journal for controller in self._made), *([left] if left else [])):
            for open_file in (journal._db, journal._lock):
                if open_file is not None:
                    open_file.close()

    def unrest(self) -> str:
        """Say what keeps this process from rest; "" where nothing does."""
        if not self.alive or not self.started or self.world.loop.is_frozen(self.owner):
            return f"{self.name} is not there"
        controller = self.controller
        if controller is None:
            return f"{self.owner} looks through its journal" if self._standby and self._standby.settling else ""
        if controller.calls:
            return f"{self.owner} still has {list(controller.calls)[:3]}"
        if controller.settler.backlog:
            return f"{controller.settler.backlog} ended calls are not settled"
        return "" if controller.ready else f"{self.owner} is not ready"


def settings_of(options: Options) -> ControlSettings:
    """Return what the seed has drawn as an operator would set it."""
    return ControlSettings(
        slice_s=options.slice_s,
        renew_before_s=options.renew_before_s,
        last_try_s=options.last_try_s,
        warn_before_s=options.warn_before_s,
        ring_s=options.ring_s,
        controller_loss_grace_s=options.grace_s,
        resync_s=options.resync_s,
    )
