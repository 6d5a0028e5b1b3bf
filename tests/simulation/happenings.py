"""All that happens in a seed: calls, top-ups, requests of people, and faults, each at a drawn moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError

from billing import accounts, outbox
from billing.credit.live import HangupRequest, LiveCalls
from billing.credit.store import CreditStore
from billing.errors import BillingError
from billing.models import AccountStatus
from billing.store import work
from tests.simulation.net import PREFIX
from tests.simulation.switch import CallPlan

if TYPE_CHECKING:
    from tests.simulation.world import World

LONGEST_TALK_S = 240.0
GOODBYE_S = 30.0


class Happenings:
    """One for a world: `schedule` draws and plans it all."""

    def __init__(self, world: World) -> None:
        self.world, self.rng = world, world.rng
        self._pictures: list[dict[str, tuple[str, Any]]] = []
        self._happened: Counter[str] = Counter()

    def schedule(self) -> None:
        """Draw and plan all that will happen."""
        world, rng = self.world, self.rng
        options = world.options
        for number in range(options.calls):
            world.loop.later(rng.uniform(0.3, options.over_s), world.switch.offer, str(number), self._plan())
        self._schedule_deaths()
        self._schedule_redis()
        for at_s, for_s in world.faults.link_cuts:
            world.loop.later(at_s, world.switch.cut)
            world.loop.later(at_s + for_s, world.switch.mend)
        for at_s, for_s in world.faults.switch_restarts:
            world.loop.later(at_s, world.switch.die)
            world.loop.later(at_s + for_s, world.switch.come_back)
        for number in range(options.top_ups):
            self._task_at(rng.uniform(1, options.over_s), partial(self._top_up, number))
        for _ in range(options.hangups):
            self._task_at(rng.uniform(1, options.over_s), self._ask_hangup)
        for _ in range(options.blocks):
            self._task_at(rng.uniform(1, options.over_s), self._block)

    def say_goodbye(self) -> None:
        """Let whoever is there still hang up in the next half minute: a call that only goes on shows nothing new."""
        for call in self.world.switch.calls.values():
            if call.stage != "over":
                self.world.loop.later(self.rng.uniform(0.0, GOODBYE_S), self.world.switch.end, call, "caller")

    def _schedule_deaths(self) -> None:
        world, faults = self.world, self.world.faults
        for at_s, for_s in faults.deaths:
            world.loop.later(at_s, self.kill)
            world.loop.later(at_s + for_s, world.begin)
        for at_s, for_s in faults.stops:
            self._task_at(at_s, self._stop)
            world.loop.later(at_s + for_s, world.begin)
        for at_s, for_s in faults.freezes:
            world.loop.later(at_s, self._freeze, for_s)
        for at_s, for_s in faults.cut_off:
            world.loop.later(at_s, self._cut_off, for_s)

        for at_s in faults.away:
            world.loop.later(at_s, self._cut_off, 6.0, False)
            world.loop.later(at_s + 4.0, self._cut_off, 12.0, True)
        for at_s in faults.doubts:
            world.loop.later(at_s, self._cut_off, 16.0, False)
            world.loop.later(at_s + 2.0, self._cut_off, 8.0, True)
        for number, at_s in enumerate(faults.relays):
            act = self._freeze if number % 2 else self._cut_off
            world.loop.later(at_s, act, 9.0, True)
            world.loop.later(at_s + 5.0, act, 9.0, True)

    def _schedule_redis(self) -> None:
        world, faults = self.world, self.world.faults
        for at_s, for_s in faults.partitions:
            world.loop.later(at_s, world.split, True)
            world.loop.later(at_s + for_s, world.split, False)
        for at_s, for_s in faults.redis_down:
            world.loop.later(at_s, world.redis_up, False)
            world.loop.later(at_s + for_s, world.redis_up, True)
        for at_s, lost_s in faults.redis_rewound:
            world.loop.later(max(at_s - lost_s, 0.0), self._take_picture)
            world.loop.later(at_s, self._rewind)
        for at_s in faults.redis_emptied:
            world.loop.later(at_s, self._empty)
        for at_s, for_s, lost_s in faults.failovers:
            world.loop.later(max(at_s - lost_s, 0.0), self._take_picture)
            world.loop.later(at_s, world.redis_up, False)
            world.loop.later(at_s, self._rewind)
            world.loop.later(at_s + for_s, world.redis_up, True)

    def seen_on_switch(self, what: str, call_id: str) -> None:
        """Kill in the middle of something, where that was drawn."""
        self.world.note(f"{call_id} {what}")
        kind = what.partition(" ")[0].rstrip(":")
        self._happened[kind] += 1
        for death, number, after_s, for_s in self.world.faults.deaths_after:
            if death == kind and number == self._happened[kind]:
                self.world.loop.later(after_s, self.kill)
                self.world.loop.later(after_s + for_s, self.world.begin)

    def _task_at(self, at_s: float, act: Callable[[], Any]) -> None:
        self.world.loop.later(at_s, lambda: self.world.loop.create_task(act()))

    def _plan(self) -> CallPlan:
        options, rng = self.world.options, self.rng
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
            hangs_up_s=rng.uniform(0.0, 2.0) if rng.random() < options.hasty else None,
            forks_s=rng.uniform(0.1, 3.0) if rng.random() < 0.1 else None,
        )

    # -- controllers ---------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """Kill a controller: as a rule the one that leads."""
        if process := self.world.chosen():
            process.kill()

    async def _stop(self) -> None:
        if process := self.world.chosen():
            await process.stop()

    def _freeze(self, for_s: float, leads: bool | None = None) -> None:
        if process := self.world.chosen(leads=leads):
            process.freeze()
            self.world.loop.later(for_s, process.thaw)

    def _cut_off(self, for_s: float, leads: bool | None = None) -> None:
        if process := self.world.chosen(leads=leads):
            self.world.note(f"{process.owner} is cut off from redis")
            process.cut_off(True)
            self.world.loop.later(for_s, process.cut_off, False)

    # -- redis ---------------------------------------------------------------------------------------------------------

    def _take_picture(self) -> None:
        self._pictures.append(self.world.server.picture())

    def _rewind(self) -> None:
        self.world.note("redis restarts without its last writes")
        self._lose(self._pictures[-1])

    def _empty(self) -> None:
        self.world.note("redis lost everything")
        self._lose({})

    def _lose(self, picture: dict[str, tuple[str, Any]]) -> None:
        server = self.world.server
        before = {key: server.hash(key) for key in server.keys(f"{{{PREFIX}}}:h:")}
        server.go_back(picture)
        self.world.auditor.redis_lost(before)

    # -- people --------------------------------------------------------------------------------------------------------

    async def _top_up(self, number: int) -> None:
        """The panel adds money; it is asked twice now and then, and may fail between SQL and Redis."""
        world = self.world
        codes = [at for at, plan in enumerate(world.options.accounts) if plan.parent is None]
        account_id = world.customers.ids[self.rng.choice(codes)]
        rate = world.options.rates[0].steps[0]
        amount = int(rate.price * 1_000_000 * self.rng.choice([5, 30, 300]) / rate.per_s) + 10_000
        for _ in range(2 if self.rng.random() < 0.3 else 1):
            try:
                done = await asyncio.to_thread(world.customers.pay_in, account_id, amount, f"top-up {number}")
                world.note(f"top-up of account {account_id}: {amount}")
                if done is not None and self.rng.random() < 0.6:
                    credit = CreditStore(world.panel, prefix=PREFIX)  # type: ignore[arg-type]
                    await outbox.apply_now(world.engine, credit, done.applied, clock=world.clock)
            except (BillingError, OperationalError) as error:
                world.note(f"top-up: {error}")

    async def _ask_hangup(self) -> None:
        world = self.world
        living = [call_id for call_id, call in world.switch.calls.items() if call.stage != "over"]
        if living:
            live = LiveCalls(world.panel, prefix=PREFIX, clock=world.clock)  # type: ignore[arg-type]
            try:
                await live.ask_hangup(HangupRequest(self.rng.choice(living), "owner", "sim"))
            except BillingError as error:
                world.note(f"hang-up: {error}")

    async def _block(self) -> None:
        world = self.world
        account_id = self.rng.choice(world.customers.ids)

        def set_to(status: AccountStatus) -> None:
            with work(world.engine) as session:
                accounts.set_status(session, account_id, status, actor="sim", now=world.clock.now())

        try:
            await asyncio.to_thread(set_to, AccountStatus.BLOCKED)
            await asyncio.sleep(self.rng.uniform(1, 8))
            await asyncio.to_thread(set_to, AccountStatus.ACTIVE)
        except (BillingError, OperationalError) as error:
            world.note(f"block: {error}")
