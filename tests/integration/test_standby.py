"""Two controllers for one switch: one leads, the other waits; whatever happens to the first, the second goes on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from billing.credit.lease import LIVES_S, Lease
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, Held, connect
from billing.errors import CreditUnavailable, Fenced
from billing.ports import SystemClock, SystemIds, to_ms
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.leftovers import Leftovers
from callctl.settler import Settler
from callctl.standby import Standby, is_dead, name_of_this_process
from callctl.switches.base import CallAnswered, Outcome
from tests.credit_fixtures import open_wallet, shares
from tests.fakes import FakeSwitch
from tests.integration.test_controller import CLOCK, House, decided, house, server
from tests.switches.scripted_ami import until

__all__ = ["house", "server"]


class SlowClock(SystemClock):
    """A clock whose owner may be frozen: what it missed comes all at once."""

    def __init__(self) -> None:
        self.asleep_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.asleep_s


def lease_of(redis: Any, name: str, *, clock: SystemClock = CLOCK, prefix: str = "callctl") -> Lease:
    return Lease(redis, CreditStore(redis, prefix=prefix), ["fake"], prefix=prefix, token=name, clock=clock)


async def test_one_has_the_lease_until_it_is_not_renewed(redis: Any) -> None:
    """Who asks second is told whose it is; the first learns that somebody waits, and may give it up."""
    first, second = lease_of(redis, "one"), lease_of(redis, "two")
    assert await first.seek()
    assert not await second.seek()
    assert (second.holder, second.leads(), first.wanted) == ("one", False, False)
    assert await first.seek()
    assert first.wanted
    assert await LiveCalls(redis).leaders(["fake", "other"]) == {"fake": ("one", "two"), "other": ("", "")}
    await first.leave()
    assert not first.leads()
    assert await second.seek()
    assert not await first.seek()


async def test_a_frozen_holder_knows_that_it_leads_no_more(redis: Any) -> None:
    """Before it has asked anybody: its lease is older than it may be."""
    clock = SlowClock()
    alone, waiting = lease_of(redis, "one", clock=clock), lease_of(redis, "two")
    assert await alone.seek()
    clock.asleep_s = 2.6
    assert alone.leads()  # nobody waits, and it asked a moment ago
    clock.asleep_s = 30.0
    assert not alone.leads()
    clock.asleep_s = 0.0
    assert not await waiting.seek()
    assert await alone.seek()
    clock.asleep_s = 2.6
    assert not alone.leads()


async def test_who_lost_the_lease_leads_again_for_another_term_only(redis: Any) -> None:
    """Another one led meanwhile, unseen: what was known, and what is still on its way, counts no more."""
    first, second = lease_of(redis, "one"), lease_of(redis, "two")
    now_ms = to_ms(CLOCK.now())
    await first.seek()
    await open_wallet(first.credit, 1, 100)
    await redis.delete("{callctl}:lease:fake")  # it ran out while the first was cut off
    assert await second.seek()
    await redis.delete("{callctl}:lease:fake")
    assert not await first.seek()  # free again, but not for who believes that it has led all the time
    assert (first.leads(), first.taken, first.holder) == (False, True, "two")
    assert await first.seek()
    assert first.token == "one.2"
    assert first.credit.fence == "one.2"
    assert await redis.get("{callctl}:leader:fake") == "one.2"
    # What was sent in the first term and comes now is turned away, and says nothing about the second.
    first.credit.fence = "one"
    sent = asyncio.ensure_future(first.credit.release("fake:1", now_ms=now_ms))
    await asyncio.sleep(0)
    first.credit.fence = "one.2"
    with pytest.raises(Fenced):
        await sent
    assert first.leads()


async def test_that_somebody_waited_is_remembered_while_it_is_away(redis: Any) -> None:
    """Frozen or cut off it comes back and takes over: a leader that is alone with its doubts must not act."""
    clock = SlowClock()
    first, second = lease_of(redis, "one", clock=clock), lease_of(redis, "two")
    await first.seek()
    assert not await second.seek()
    await redis.delete("{callctl}:standby:fake")  # it has not asked for three seconds
    assert await first.seek()
    clock.asleep_s = 2.6
    assert not first.leads()
    clock.asleep_s = 0.0
    await redis.delete("{callctl}:lease:fake")
    third = lease_of(redis, "three", clock=clock)
    assert await third.seek()  # who led before may be frozen, and wake
    assert third.wanted
    await third.leave()
    assert await first.seek()
    await second.leave()  # told to stop: nobody takes over any more
    assert await first.seek()
    clock.asleep_s = 2.6
    assert first.leads()


async def test_who_led_is_let_go_first_where_redis_has_lost_everything(redis: Any) -> None:
    """It knows its calls and what they owe. One that is gone is not waited for longer than a lease lasts."""
    clock = SlowClock()
    first, second = lease_of(redis, "one"), lease_of(redis, "two", clock=clock)
    assert await first.seek()
    assert not await second.seek()
    await redis.flushall()
    assert not await second.seek()
    assert await redis.keys("*") == []
    assert await first.seek()
    assert (first.token, first.met, second.met) == ("one", False, True)
    assert not await second.seek()
    assert await first.seek()
    await redis.flushall()
    assert (await first.seek(), first.wanted, first.met) == (True, False, True)  # what it saw itself it still knows
    assert not await second.seek()
    await redis.flushall()
    assert not await second.seek()
    clock.asleep_s += LIVES_S + 0.1
    assert await second.seek()
    assert not await first.seek()


async def test_a_leader_whose_lease_was_lost_with_other_data_leads_on(redis: Any) -> None:
    """Nobody is known to lead: nothing is held for it until it has said so again, and it does not step down."""
    lease = lease_of(redis, "one")
    await lease.seek()
    await redis.flushall()
    await open_wallet(CreditStore(redis), 1, 100)
    now_ms = to_ms(CLOCK.now())

    async def hold() -> object:
        return await lease.credit.hold("fake:1", shares((1, 40)), now_ms=now_ms, deadline_ms=now_ms + 9000, facts="{}")

    with pytest.raises(CreditUnavailable):
        await hold()
    assert await lease.credit.holds() == []
    assert lease.leads()
    assert await lease.seek()
    assert await hold() == Held()
    assert lease.token == "one"


async def test_a_store_that_is_away_does_not_end_who_is_alone(tmp_path: Path) -> None:
    """Nobody can take over without it: hanging up and refusing go on."""
    clock = SlowClock()
    nowhere = connect(f"unix://{tmp_path}/nobody.sock", 0.1)
    lease = lease_of(nowhere, "one", clock=clock)
    lease._held = True
    clock.asleep_s = 100.0
    with pytest.raises(CreditUnavailable):
        await lease.seek()
    assert lease.leads()
    lease.wanted = True
    assert not lease.leads()
    await nowhere.aclose()


async def test_holds_are_changed_by_who_leads_only(redis: Any) -> None:
    """Fenced: nothing is held, trimmed or released for it, and it knows that it leads no more."""
    first, second = lease_of(redis, "one"), lease_of(redis, "two")
    now_ms = to_ms(CLOCK.now())
    await first.seek()
    await open_wallet(first.credit, 1, 100)

    async def hold(lease: Lease, call: str) -> object:
        return await lease.credit.hold(call, shares((1, 40)), now_ms=now_ms, deadline_ms=now_ms + 9000, facts="{}")

    assert await hold(first, "fake:1") == Held()
    await first.leave()
    await second.seek()
    for attempt in (
        hold(first, "fake:2"),
        first.credit.extend("fake:1", shares((1, 60)), now_ms=now_ms, deadline_ms=now_ms + 9000),
        first.credit.restore("fake:1", shares((1, 60)), now_ms=now_ms, deadline_ms=now_ms + 9000, facts=""),
        first.credit.finish("fake:1", shares((1, 5)), now_ms=now_ms),
        first.credit.release("fake:1", now_ms=now_ms),
    ):
        first._held = True
        with pytest.raises(Fenced):
            await attempt
        assert not first.leads()
    (kept,) = await second.credit.holds()
    assert (kept.call_id, kept.shares[0].amount_micros) == ("fake:1", 40)
    assert await hold(second, "fake:2") == Held()
    # A movement of money belongs to no switch.
    assert await CreditStore(redis).release("fake:2", now_ms=now_ms)


def test_a_token_tells_whether_its_process_is_gone() -> None:
    """Only of a process of this very machine whose number nobody has; of all others nothing is known."""
    ours = SystemIds().new(name_of_this_process())
    assert not is_dead(ours)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    parts = ours.rsplit("-", 3)
    assert is_dead("-".join([parts[0], gone.stdout.decode().strip(), *parts[2:]]))
    assert not is_dead("-".join([parts[0], gone.stdout.decode().strip(), "elsewhere", parts[3]]))
    for token in ("", "machine 0", "host-12-", "-----", "host-x-y-z"):
        assert not is_dead(token)


@asynccontextmanager
async def pair(
    house: House,
    clocks: tuple[SystemClock, SystemClock] = (CLOCK, CLOCK),
    journals: tuple[Path, Path] | None = None,
) -> AsyncIterator[list[Standby]]:
    """Two machines; the first one started leads. `journals`: of each its own, or else the house's for both."""
    made: list[Standby] = []
    prefix = house.journal_path.parent.name
    for number, clock in enumerate(clocks):
        path = journals[number] if journals else house.journal_path
        lease = lease_of(house.redis, f"machine {number}", clock=clock, prefix=prefix)

        def make(lease: Lease = lease, clock: SystemClock = clock, path: Path = path) -> Controller:
            return Controller(
                [Line(house.switch)],
                house.engine,
                lease.credit,
                LiveCalls(house.redis, prefix=prefix),
                Journal(path),
                house.settings,
                clock=clock,
                ids=SystemIds(),
                leads=lease.leads,
                lost=lambda lease=lease: lease.taken,  # type: ignore[misc] # each its own
                others=lambda lease=lease: lease.met,  # type: ignore[misc]
            )

        left = Leftovers(house.engine, lease.credit, lambda path=path: Journal(path), clock)  # type: ignore[misc]
        made.append(Standby(lease, make, left))
    for one in made:
        await one.start()
    try:
        yield made
    finally:
        for one in reversed(made):
            await one.stop()


class Line:
    """One controller's own line to a switch that others have lines to as well."""

    def __init__(self, switch: FakeSwitch) -> None:
        self._switch = switch
        self.may_act: Callable[[], bool] = lambda: True
        self._tell: Any = None

    def __getattr__(self, name: str) -> Any:
        what = getattr(self._switch, name)
        if name not in {"admit", "refuse", "set_limit", "warn", "hangup"}:
            return what

        async def command(*args: Any, **options: Any) -> Outcome:
            return await what(*args, **options) if self.may_act() else Outcome.UNKNOWN

        return command

    async def start(self, tell: Any) -> None:
        self._tell = tell
        await self._switch.start(tell)

    async def stop(self) -> None:
        if self._switch._tell is self._tell:
            self._switch._tell = None


async def leading(standby: Standby, most_s: float = 6.0) -> Controller:
    for _ in range(int(most_s / 0.02)):
        if standby.controller is not None and standby.controller.ready:
            return standby.controller
        await asyncio.sleep(0.02)
    raise AssertionError("it does not lead")


async def adopted(controller: Controller, *call_ids: str) -> None:
    for _ in range(100):
        if set(call_ids) == set(controller.calls):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not adopted: {list(controller.calls)}")


async def test_who_starts_second_waits_and_takes_over_at_once_when_the_first_stops(house: House) -> None:
    """No call is touched: it goes on, is renewed by the next, and is billed once."""
    # Long enough for a slow machine to take over within a slice, short enough to see the next one.
    house.settings = house.settings.model_copy(update={"slice_s": 5, "renew_before_s": 2.0})
    house.account("100", "5")
    async with pair(house) as (first, second):
        await leading(first)
        assert second.controller is None
        call = await decided(house.switch.offer(1, "100", "4930123"))
        house.switch.answer(call)
        await asyncio.sleep(0.3)
        await first.stop()
        # Given up, and not left to run out: nobody has to wait for it.
        assert await house.redis.get(f"{{{house.journal_path.parent.name}}}:lease:fake") != "machine 0"
        controller = await leading(second)
        await adopted(controller, "fake:1")
        await asyncio.sleep(5.2)
        assert call.ended_at is None
        house.switch.end(call)
        record = await house.record(call)
        assert (record.estimated, record.answered_at) == (False, call.answered_at)
    await house.audit()


async def test_a_frozen_leader_acts_no_more_when_it_wakes(house: House) -> None:
    """The second one took its calls; the first wakes up, says nothing to the switch, writes nothing, and waits."""
    house.settings = house.settings.model_copy(update={"slice_s": 30, "renew_before_s": 10.0})
    customer = house.account("100", "5")
    clock = SlowClock()
    async with pair(house, (clock, CLOCK)) as (first, second):
        frozen = await leading(first)
        call = await decided(house.switch.offer(1, "100", "4930123"))
        house.switch.answer(call)
        await asyncio.sleep(0.6)  # so that it knows that somebody waits
        assert first.lease.wanted
        # As SIGSTOP would: none of its tasks runs, its lease ends.
        clock.asleep_s = 1000.0
        await house.redis.delete(f"{{{house.journal_path.parent.name}}}:lease:fake")
        assert await second.lease.seek()
        before = list(house.switch.commands)
        frozen.tell(CallAnswered("fake:1", CLOCK.now()))
        frozen._wake("fake:1")  # by its clock the call is long over: it would hang up
        await asyncio.sleep(0.3)
        assert house.switch.commands == before
        controller = await leading(second)
        for _ in range(100):  # it asks every half second
            if first.controller is None:
                break
            await asyncio.sleep(0.02)
        assert first.controller is None
        await adopted(controller, "fake:1")
        assert call.ended_at is None
        house.switch.end(call)
        record = await house.record(call)
        assert record.disposition == "answered"
        assert await house.balance(customer) < 5_000_000
        assert first.lease.holder == "machine 1"
    await house.audit()


async def test_a_dead_leaders_calls_are_taken_over_within_five_seconds(house: House) -> None:
    """Killed: its lease runs out, the next one adopts what lives, and settles what waits in the dead one's journal."""
    house.account("100", "5")
    house.settings = house.settings.model_copy(update={"slice_s": 30, "renew_before_s": 10.0})
    async with pair(house) as (first, second):
        controller = await leading(first)
        calls = [await decided(house.switch.offer(n, "100", "4930123")) for n in (1, 2)]
        for call in calls:
            house.switch.answer(call)
        await asyncio.sleep(0.2)
        assert first._task is not None
        first.lease.leave = _nothing  # type: ignore[method-assign] # the dead give up nothing
        controller.stop = _nothing  # type: ignore[method-assign]
        first._task.cancel()
        house.switch._tell = None
        for task in (*controller._loops, *controller._tasks):
            task.cancel()
        await controller.journal.close()
        began = CLOCK.monotonic()
        taken = await leading(second, LIVES_S + 2.0)
        await adopted(taken, "fake:1", "fake:2")
        assert CLOCK.monotonic() - began < 5.0
        for call in calls:
            assert call.ended_at is None
            house.switch.end(call)
            await house.record(call)
    await house.audit()


async def _nothing() -> None:
    return


async def test_a_leader_in_doubt_keeps_what_happened_and_says_it_when_it_is_sure(house: House) -> None:
    """Somebody waits, and Redis is away from us: nothing is sent or dropped; the lease was ours all the time."""
    house.account("100", "5")
    house.settings = house.settings.model_copy(update={"slice_s": 30, "renew_before_s": 10.0})
    clock = SlowClock()
    async with pair(house, (clock, CLOCK)) as (first, _second):
        controller = await leading(first)
        call = await decided(house.switch.offer(1, "100", "4930123"))
        house.switch.answer(call)
        await asyncio.sleep(0.6)
        assert first.lease.wanted
        first.lease._sure_until_mono = 0.0  # in doubt until the next answer
        refused = house.switch.offer(2, "nobody", "4930123")
        house.switch.end(call)
        await asyncio.sleep(0)
        assert controller.stats.offered == 2
        assert refused.refused is None
        await decided(refused)
        assert (await house.record(call)).disposition == "answered"
        assert (await house.record(refused)).reason == "unknown_account"
    await house.audit()


@pytest.mark.parametrize("leads", [True, False])
async def test_a_stop_ends_although_a_client_swallows_the_cancellation(house: House, leads: bool) -> None:
    """A client of Redis may take it for its own time-out, and say that the store did not answer."""
    async with pair(house) as both:
        await leading(both[0])
        one = both[0 if leads else 1]
        asks = asyncio.Event()

        async def seek() -> bool:
            asks.set()
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                raise CreditUnavailable("no answer in time") from None
            return False

        one.lease.seek = seek  # type: ignore[method-assign]
        await asyncio.wait_for(asks.wait(), 5)
        async with asyncio.timeout(8):
            await one.stop()
        assert one.lease.taken
        assert await house.redis.get(f"{{{house.journal_path.parent.name}}}:lease:fake") != one.lease.token


async def test_who_is_ended_while_it_stops_stops_to_the_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has lost the lead and is told to end: none of its loops runs on, and its journal is closed."""
    async with pair(house) as (first, second):
        await leading(first)
        controller = first.controller
        assert controller is not None
        call = await decided(house.switch.offer(1, "nobody", "33123"))
        assert call.refused
        with monkeypatch.context() as patch:
            patch.setattr(Settler, "drained", slowly)
            await house.redis.delete(f"{{{house.journal_path.parent.name}}}:lease:fake")  # as if it had been frozen
            assert await second.lease.seek()
            await until(lambda: first.controller is None)
            await first.stop()
        assert all(loop.done() for loop in controller._loops)
        await leading(second)


async def slowly(_settler: Settler, _most_s: float) -> bool:
    await asyncio.sleep(1.0)
    return True
