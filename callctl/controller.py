"""The controller: the asyncio shell around `call.step`. It feeds inputs, carries out effects, and keeps time.

Each call has an inbox; while it holds something, one task works it off in order, so a call is never in two steps at
once and a quiet call costs no task. What lives on the switch is compared by `watch.Watch`; what ended goes to
`settler.Settler`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never

import structlog
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing import outbox
from billing.catalogue import Catalogue
from billing.cdrs import EndedCall
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, Held, HoldCode, NotHeld
from billing.errors import BillingError, CreditUnavailable
from billing.ports import Clock, Ids, to_ms
from billing.settings import ControlSettings, PinSettings
from callctl import call as machine
from callctl import refusals
from callctl.admission import Refused, dialled
from callctl.alarms import Alarms
from callctl.board import Board
from callctl.call import Call, Commanded, HoldReplied, Input, Policy, Stage, Tick, step
from callctl.journal import Journal
from callctl.news import Listener, NewsKind, Reporter
from callctl.pins import PinBrake
from callctl.records import refused_offer_record
from callctl.restore import Restorer
from callctl.settler import Settler
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    LinkDown,
    LinkUp,
    Outcome,
    Refusal,
    Switch,
    SwitchEvent,
)
from callctl.upkeep import Upkeep
from callctl.watch import Watch, switch_of

log = structlog.get_logger(__name__)

READY_S = 5.0
"""How long an offer waits for a controller that is still reading its catalogue or comparing calls."""

DOUBT_S = 0.1
"""How often a lease in doubt is looked at."""

END_TRIES = 20
"""How often a loop is told to end before we go without it."""

NO_PINS = PinSettings()
REMEMBERED = 100_000
"""How many ended calls are remembered, so that a late or doubled event does not open one again."""


class Controller:
    """Controls the calls of its switches, until stopped. Stopping touches no call: they go on up to their deadlines."""

    def __init__(  # noqa: PLR0917 - its parts, in the order the house is built
        self,
        switches: Sequence[Switch],
        engine: Engine,
        credit: CreditStore,
        live: LiveCalls,
        journal: Journal,
        settings: ControlSettings,
        *,
        clock: Clock,
        ids: Ids,
        listener: Listener | None = None,
        leads: Callable[[], bool] = lambda: True,
        lost: Callable[[], bool] = lambda: False,
        others: Callable[[], bool] = lambda: False,
        pins: PinSettings = NO_PINS,
    ) -> None:
        self.switches = {switch.name: switch for switch in switches}
        self.leads, self.lost, self.others = leads, lost, others
        """Whether we may act now; and whether another controller has taken over. Neither: the lease is in doubt. And
        whether there is another one that waits, or has led."""
        for switch in switches:
            switch.may_act = leads
        self.engine, self.credit, self.live, self.journal = engine, credit, live, journal
        self.settings, self.clock, self.ids = settings, clock, ids
        self.policy = Policy(
            slice_s=settings.slice_s,
            renew_before_s=settings.renew_before_s,
            last_try_s=settings.last_try_s,
            ring_s=settings.ring_s,
            warn_before_s=settings.warn_before_s,
        )
        self.calls: dict[str, Call] = {}
        self.ended: OrderedDict[str, Refusal | None] = OrderedDict()
        self.settler = Settler(engine, credit, journal, clock, self._settled)
        self.board = Board(live, clock, self.calls)
        self.reporter = Reporter(self.board.changed, listener)
        self.stats = self.reporter.stats
        self.watch = Watch(self)
        self.catalogue: Catalogue | None = None
        self._busy: set[str] = set()
        self.alarms = Alarms(clock, self._wake)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self.admits = asyncio.Event()
        """Set while new calls may be admitted."""
        self.restorer = Restorer(self)
        self.upkeep = Upkeep(self)
        self.brake = PinBrake(pins, clock, lambda guesses: self._spawn(self.upkeep.tell_of(guesses)))

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the journal, read the catalogue, bring Redis up to date, connect. Raises `JournalBroken`."""
        waiting = await self.journal.open()
        for entry in waiting:
            self.remember(entry.ended.call_id, refusal_in(entry.ended))
        self.settler.resume(waiting)
        loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("settler", self.settler.run),
            ("board", self.board.run),
            ("catalogue", self.upkeep.follow_catalogue),
            ("outbox", self.upkeep.drain_outbox),
            ("bundles", self.upkeep.expire_bundles),
            ("wakes", self.upkeep.listen_to_wakes),
            ("hangups", self.upkeep.listen_to_hangups),
            ("beat", self.watch.beat),
            *((f"watch {name}", partial(self.watch.watch, switch)) for name, switch in self.switches.items()),
            ("journal", self.upkeep.probe_journal),
        ]
        self._loops = [asyncio.create_task(self._for_ever(name, run), name=name) for name, run in loops]
        for switch in self.switches.values():
            await switch.start(self.tell)

    async def stop(self) -> None:
        """Disconnect and put away what can be put away; the journal keeps the rest."""
        for switch in self.switches.values():
            await switch.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)
        if not await self.settler.drained(3.0):
            log.warning("stopped_with_backlog", waiting=self.settler.backlog)
        self.alarms.stop()
        await end_tasks(self._loops)
        # The loop that writes the board is gone: calls that ended since its last round would stay on it.
        await self.board.flush()
        await self.journal.close()

    async def _for_ever(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run a loop again when it breaks: one bad moment must not end control of all calls."""
        while True:
            try:
                await run()
            except (CreditUnavailable, SQLAlchemyError, BillingError, OSError) as error:
                log.warning("loop_interrupted", loop=name, error=type(error).__name__)
            except Exception:
                log.exception("loop_broken", loop=name)
            await asyncio.sleep(1.0)

    @property
    def ready(self) -> bool:
        """Return whether new calls can be admitted."""
        return self.admits.is_set() and not self.journal.broken

    # -- events in -----------------------------------------------------------------------------------------------------

    def tell(self, event: SwitchEvent) -> None:
        """Take an event from a switch; returns at once."""
        match event:
            case CallOffered():
                self._offered(event)
            case CallAnswered() | CallEnded():
                known = self.calls.get(event.call_id)
                if known and known.stage is Stage.TALKING and isinstance(event, CallAnswered):
                    # Told again: the leg may have changed hands (a transfer), and must carry its limit.
                    self._spawn(self.watch.limit_again(known))
                elif known:
                    self.give(known, event)
                else:
                    self.stats.ignored_events += 1
                    self.watch.heard_early(event)
            case LinkUp():
                self.watch.link_up(event.switch)
            case LinkDown():
                self.watch.link_down(event.switch)
            case _:
                assert_never(event)

    def _offered(self, offer: CallOffered) -> None:
        if offer.call_id in self.calls:
            self.stats.ignored_events += 1
        elif offer.call_id in self.ended:
            refusal = self.ended[offer.call_id]
            if refusal:  # refused before, but the switch has not heard it
                self._spawn(self._tell_refusal(offer.call_id, refusal))
        else:
            self.stats.offered += 1
            self._spawn(self._decide(offer))

    async def _decide(self, offer: CallOffered) -> None:
        if not self.admits.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.admits.wait(), READY_S)
        if offer.call_id in self.calls or offer.call_id in self.ended:
            return
        if self.catalogue is None or not self.ready:
            await self._refuse(offer, Refused(refusals.UNAVAILABLE))
            return
        terms = self.brake.decide(self.catalogue, offer, ring_s=self.policy.ring_s)
        if isinstance(terms, Refused):
            await self._refuse(offer, terms)
            return
        call = Call(
            call_id=offer.call_id,
            # One text for all calls of a switch or an account: there may be fifty thousand of them.
            switch=self.switches[switch_of(offer.call_id)].name,
            direction=offer.direction,
            account_code=sys.intern(offer.account_code),
            caller=offer.caller,
            callee=dialled(offer.callee),
            offered_at=offer.at,
            terms=terms,
        )
        self.calls[call.call_id] = call
        self.give(call, offer)

    async def _refuse(self, offer: CallOffered, refused: Refused) -> None:
        """Refuse a call that never held anything: write it down, then tell its caller. No refusal without a record."""
        if not await self._still_ours():
            return
        self.remember(offer.call_id, refused.refusal)
        record = refused_offer_record(
            offer,
            switch_of(offer.call_id),
            refused.refusal,
            self.now_on(switch_of(offer.call_id)),
            account_id=refused.account_id,
            destination=refused.destination,
        )
        self.reporter.tell(NewsKind.REFUSED, offer.call_id, offer.account_code, refused.refusal.code)
        await self.settler.take(record, held=False)
        await self._tell_refusal(offer.call_id, refused.refusal)

    async def _tell_refusal(self, call_id: str, refusal: Refusal) -> None:
        await self.switches[switch_of(call_id)].refuse(call_id, refusal)

    async def _still_ours(self) -> bool:
        """Return whether what happened is ours to write down. While the lease is in doubt nobody says."""
        while not self.leads():
            if self.lost():
                return False
            await asyncio.sleep(DOUBT_S)
        return True

    def now_on(self, switch: str) -> datetime:
        """Return what time it is by a switch's own clock, which dates its calls."""
        return self.clock.now() + timedelta(seconds=self.switches[switch].ahead_s)

    # -- one call ------------------------------------------------------------------------------------------------------

    def give(self, call: Call, given: Input) -> None:
        """Put an input into a call's inbox; the order is kept."""
        call.inbox.append(given)
        if call.call_id not in self._busy:
            self._busy.add(call.call_id)
            self._spawn(self._work_off(call))

    async def _work_off(self, call: Call) -> None:
        try:
            while call.inbox:
                given = call.inbox.pop(0)
                before = (call.granted_s, call.exhausted, call.stage)
                effects = step(
                    call, given, mono=self.clock.monotonic(), now=self.now_on(call.switch), policy=self.policy
                )
                for effect in effects:
                    await self._carry_out(call, effect)
                self.reporter.moved(call, given, before)
                self._set_alarm(call)
        except Exception:
            # An impossible state: this call stops being moved, its deadline stands on the switch; all others go on.
            self.stats.broken_calls += 1
            log.exception("call_broken", call_id=call.call_id)
        finally:
            self._busy.discard(call.call_id)

    async def _carry_out(  # noqa: C901 - one case for each effect
        self, call: Call, effect: machine.Effect
    ) -> None:
        switch = self.switches[call.switch]
        match effect:
            case machine.Hold() | machine.Extend() | machine.Note():
                await self._hold(call, effect)
            case machine.Admit():
                await self.restorer.before_promise(call)
                grant = effect.grant_s + await self._grace(call)
                outcome = await switch.admit(call.call_id, grant_s=grant, ring_s=effect.ring_s)
                call.inbox.insert(0, Commanded(effect, outcome))
            case machine.Refuse():
                await switch.refuse(call.call_id, effect.refusal)
                await self.settler.trim(call.call_id)
            case machine.SetLimit():
                asked_mono = self.clock.monotonic()
                await self.restorer.before_promise(call)
                left_s = effect.left_s + await self._grace(call)
                # Both may take seconds where Redis is slow: the time that is left goes by meanwhile.
                left_s = max(left_s - (self.clock.monotonic() - asked_mono), 0.1)
                outcome = await switch.set_limit(call.call_id, left_s)
                if outcome is Outcome.UNKNOWN:
                    self.watch.untold.add(call.call_id)
                call.inbox.insert(0, Commanded(effect, outcome))
            case machine.Warn():
                await switch.warn(call.call_id)
            case machine.HangUp():
                outcome = await switch.hangup(call.call_id, cause=effect.cause)
                if outcome is not Outcome.DONE:
                    call.inbox.insert(0, Commanded(effect, outcome))
            case machine.Doubt():
                self.watch.doubt(call.switch)
            case machine.Finish():
                call.ending = effect.ended.reason
                self._over(call, effect.refusal)
                if not await self._still_ours():
                    return  # whoever took over knows better how it ended
                trim = effect.refusal is None
                await self.settler.take(effect.ended, held=effect.held, trim=trim, facts=call.facts)
            case _:
                assert_never(effect)

    async def _hold(self, call: Call, effect: machine.Hold | machine.Extend | machine.Note) -> None:
        now = self.clock.now()
        now_ms, days = to_ms(now), call.terms.days(now)
        deadline_ms = now_ms + int((effect.for_s + self.settings.controller_loss_grace_s) * 1000)
        facts = call.facts()
        try:
            match effect:
                case machine.Hold():
                    reply = await self._hold_or_sync(call, effect, now_ms, deadline_ms, facts)
                case machine.Extend():
                    self._may_extend(call)
                    reply = await self.credit.extend(
                        call.call_id, effect.shares, now_ms=now_ms, deadline_ms=deadline_ms, facts=facts, days=days
                    )
                    if isinstance(reply, NotHeld) and reply.code is HoldCode.NO_HOLD:
                        reply = await self._hold_or_sync(call, effect, now_ms, deadline_ms, facts)
                case machine.Note():
                    shares = call.terms.shares(call.granted_s)
                    await self.credit.extend(
                        call.call_id, shares, now_ms=now_ms, deadline_ms=deadline_ms, facts=facts, days=days
                    )
                    return
                case _:
                    assert_never(effect)
        except (CreditUnavailable, SQLAlchemyError) as error:
            log.warning("hold_unanswered", call_id=call.call_id, error=type(error).__name__)
            if isinstance(effect, machine.Note):
                return
            reply = None
        call.inbox.insert(0, HoldReplied(reply))

    async def _hold_or_sync(
        self,
        call: Call,
        effect: machine.Hold | machine.Extend,
        now_ms: int,
        deadline_ms: int,
        facts: str,
    ) -> Held | NotHeld:
        """Hold; where Redis does not know a wallet yet, bring it from SQL and try once more.

        An extension that gets here has lost its hold with Redis' data: the call lives, so only the money is asked for,
        and not before every other call that lives has its own hold again. Raises `CreditUnavailable` until then.
        """
        adopting, days = isinstance(effect, machine.Extend), call.terms.days(self.clock.now())
        reply = await self.credit.hold(
            call.call_id,
            effect.shares,
            now_ms=now_ms,
            deadline_ms=deadline_ms,
            facts=facts,
            adopting=adopting,
            days=days,
        )
        if isinstance(reply, NotHeld) and reply.code is HoldCode.UNKNOWN_WALLET:
            if self.restorer.lost or await self.restorer.has_lost():
                # Not a new wallet: everything is gone, and money may only be counted on when the holds are back.
                raise CreditUnavailable("the live credit store has lost its data")
            await outbox.sync_all(self.engine, self.credit, clock=self.clock)
            reply = await self.credit.hold(
                call.call_id,
                effect.shares,
                now_ms=now_ms,
                deadline_ms=deadline_ms,
                facts=facts,
                adopting=adopting,
                days=days,
            )
        return reply

    def _may_extend(self, call: Call) -> None:
        """Raise `CreditUnavailable` where more time can be of no use yet: it is asked for again in a second."""
        if self.restorer.lost:
            raise CreditUnavailable("the holds of other calls are not back yet")
        if not self.watch.linked(call.switch):
            # Its switch could not be told: the time would be held, and in an estimate charged, but never given.
            raise CreditUnavailable("the link to the switch is down")

    async def _grace(self, call: Call) -> float:
        """Return how much longer than paid for the switch may let this call live if we die: what it could still pay."""
        grace = self.settings.controller_loss_grace_s
        if not grace or call.exhausted or call.terms.limited:
            return 0.0
        try:
            wallets = [await self.credit.wallet(share.wallet_id) for share in call.terms.shares(call.granted_s)]
        except CreditUnavailable:
            return 0.0
        held = call.terms.shares(call.granted_s)
        funds = tuple(
            wallet.available_micros + share.amount_micros if wallet else 0
            for wallet, share in zip(wallets, held, strict=True)
        )
        return float(max(call.terms.affordable(funds, call.granted_s + int(grace)) - call.granted_s, 0))

    def _over(self, call: Call, refusal: Refusal | None) -> None:
        self.calls.pop(call.call_id, None)
        if call.call_id not in self.ended:
            self.remember(call.call_id, refusal)
        self.board.changed(call.call_id)

    def _settled(self, calls: list[EndedCall]) -> None:
        self._spawn(self._forget_records([call for call in calls if call.answered_at and call.switch in self.switches]))

    async def _forget_records(self, calls: list[EndedCall]) -> None:
        """The switch's own notes have done their duty."""
        for call in calls:
            await self.switches[call.switch].forget_record(call.call_id)

    def remember(self, call_id: str, refusal: Refusal | None) -> None:
        """Remember a call that is over, and how it was refused: its offer may be heard again."""
        self.ended[call_id] = refusal
        while len(self.ended) > REMEMBERED:
            self.ended.popitem(last=False)

    # -- time ----------------------------------------------------------------------------------------------------------

    def _set_alarm(self, call: Call) -> None:
        self.alarms.set(call.call_id, call.wake_mono if call.stage is not Stage.ENDED else None)

    def _wake(self, call_id: str) -> None:
        call = self.calls.get(call_id)
        if call:
            self.give(call, Tick())

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_done)

    def _spawned_done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("task_broken", exc_info=task.exception())


async def end_tasks(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done: a library that takes a cancellation for a time-out goes on after the first."""
    pending = set(tasks)
    for _ in range(END_TRIES):
        for task in pending:
            task.cancel()
        if pending:
            _, pending = await asyncio.wait(pending, timeout=0.5)
    if pending:
        log.error("tasks_left_running", tasks=sorted(task.get_name() for task in pending))


def refusal_in(ended: EndedCall) -> Refusal | None:
    """Return how a call was refused, from its record; None where it was not."""
    if ended.disposition != "refused":
        return None
    return Refusal(ended.reason, ended.sip_status or refusals.UNAVAILABLE.sip_status, ended.cause or 0)
