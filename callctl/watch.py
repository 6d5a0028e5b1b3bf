"""Watches the switches: compares what lives on each with what we know, at every connect, in doubt, and now and then.

Adopts calls that go on from before, finds the end of those that vanished, settles holds nobody owns. If a switch cannot
be asked, nothing is concluded and it is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from billing import outbox
from billing.cdrs import records_of
from billing.credit.store import HoldCode, NotHeld, OpenHold
from billing.errors import CreditUnavailable
from billing.ports import to_ms
from billing.store import reading
from callctl import recovery, refusals
from callctl.admission import Refused, decide, dialled
from callctl.call import Call, Stage
from callctl.news import NewsKind
from callctl.pieces import in_pieces
from callctl.switches.base import (
    CallAnswered,
    CallEnded,
    CallOffered,
    LiveCall,
    Outcome,
    Refusal,
    Switch,
    SwitchUnavailable,
)

if TYPE_CHECKING:
    from callctl.controller import Controller

log = structlog.get_logger(__name__)

SETTLE_S = 1.0
"""The end of a call that is missing from a comparison is usually on its way: it is given this long to arrive."""

MOST_EARLY = 10_000
ADOPTED_AT_ONCE = 20
"""Each is made anew from the facts of its hold."""


class Watch:
    """One for a controller; `status` says how each switch's link is."""

    def __init__(self, controller: Controller) -> None:
        self._its = controller
        self.status: dict[str, str] = dict.fromkeys(controller.switches, "connecting")
        self.compared: set[str] = set()
        self.untold: set[str] = set()
        """Calls whose new limit the switch may not have heard of."""
        self._asked: dict[str, asyncio.Event] = {name: asyncio.Event() for name in controller.switches}
        self._linked: set[str] = set()
        self._left_over: dict[str, set[str]] = {}
        self._early: dict[str, dict[str, list[CallAnswered | CallEnded]]] = {}
        """What is told, while a switch is compared, of calls that nobody knows yet."""

    def link_up(self, switch: str) -> None:
        """Compare as soon as a link stands."""
        self._linked.add(switch)
        self.status[switch] = "connected"
        self.doubt(switch)

    def link_down(self, switch: str) -> None:
        """Nothing is known of this switch's calls until it is back."""
        self._linked.discard(switch)
        self.compared.discard(switch)
        self.status[switch] = "down"
        log.warning("switch_link_down", switch=switch)

    def linked(self, switch: str) -> bool:
        """Return whether the link to a switch stands."""
        return switch in self._linked

    def doubt(self, switch: str) -> None:
        """Ask the switch soon."""
        self._asked[switch].set()

    def heard_early(self, event: CallAnswered | CallEnded) -> None:
        """Keep what is told of an unknown call: it may be about to be adopted, from a list that is older."""
        early = self._early.get(switch_of(event.call_id))
        if early is not None and (event.call_id in early or len(early) < MOST_EARLY):
            early.setdefault(event.call_id, []).append(event)

    async def all_compared(self, most_s: float) -> None:
        """Compare every switch whose link stands; a switch that cannot be reached is waited for no longer than this."""
        self.compared.clear()
        for switch in self._asked:
            self.doubt(switch)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while self.compared != set(self._asked):  # noqa: ASYNC110 - a few looks, at start only
                    await asyncio.sleep(0.02)

    async def beat(self) -> None:
        """Say how the links are, for ever."""
        while True:
            now_ms = to_ms(self._its.clock.now())
            for switch, status in self.status.items():
                try:
                    await self._its.live.beat(switch, status, now_ms=now_ms)
                except CreditUnavailable:
                    break
            await asyncio.sleep(1.0)

    async def watch(self, switch: Switch) -> None:
        """Watch one switch, for ever."""
        asked = self._asked[switch.name]
        while True:
            # Not `wait_for`: before Python 3.12 it may swallow the cancellation that ends us.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._its.settings.resync_s):
                    await asked.wait()
            asked.clear()
            if switch.name not in self._linked or self._its.catalogue is None:
                await asyncio.sleep(0.05)
                if switch.name in self._linked:
                    asked.set()
                continue
            self._early[switch.name] = {}
            try:
                await self.compare(switch)
            except (SwitchUnavailable, CreditUnavailable, SQLAlchemyError) as error:
                log.warning("comparison_put_off", switch=switch.name, error=type(error).__name__)
                await asyncio.sleep(1.0)
                asked.set()
            finally:
                del self._early[switch.name]

    async def compare(self, switch: Switch) -> None:
        """Compare once, and do what follows. Raises `SwitchUnavailable`, `CreditUnavailable`; repeating is harmless."""
        its = self._its
        asked_mono = its.clock.monotonic()
        # Holds first: a call admitted between the two questions would otherwise look like a hold without a call.
        # Ours are left out: nothing is asked of them here, and there may be fifty thousand.
        holds = await its.credit.holds(besides=its.calls)
        live = await switch.live_calls()
        seen_mono = its.clock.monotonic()
        plan = await recovery.compare(switch.name, live, its.calls, holds, its.ended, asked_mono=asked_mono)
        await self._follow_living(switch, plan, seen_mono)
        if plan.vanished or plan.orphans:
            await asyncio.sleep(SETTLE_S)
        for call_id in plan.vanished:
            await self._settle_vanished(switch, its.calls.get(call_id), asked_mono)
        for orphan in plan.orphans:
            await self._settle_orphan(switch, orphan)
        await self._end_left_over(switch, holds)
        if switch.name not in self.compared:
            await its.board.show_all(switch.name)
        self.compared.add(switch.name)

    async def _end_left_over(self, switch: Switch, holds: Sequence[OpenHold]) -> None:
        """End holds of calls that are over and charged: a credit store that lost its last writes has them again."""
        its = self._its
        over = {
            hold.call_id
            for hold in holds
            if hold.call_id.partition(":")[0] == switch.name
            and (hold.finished or hold.call_id in its.ended)
            and hold.call_id not in its.calls
            and not its.settler.has(hold.call_id)
        }
        # Seen twice: a hold that ended between our look and now is the usual case.
        again = sorted(over & self._left_over.get(switch.name, set()))
        self._left_over[switch.name] = over
        if again:
            ended = await outbox.tell_again(its.engine, its.credit, again, clock=its.clock)
            log.warning("holds_left_over", switch=switch.name, calls=len(again), ended=ended)

    async def _follow_living(self, switch: Switch, plan: recovery.Plan, seen_mono: float) -> None:
        its = self._its
        await self._recall_refusals([seen.call_id for seen in plan.offers if seen.call_id not in its.ended])
        for seen in plan.offers:
            now = its.now_on(switch.name)
            its.tell(CallOffered(seen.call_id, now, seen.direction, seen.account_code, seen.caller, seen.callee))
        for call_id in plan.readmit:
            if (call := its.calls.get(call_id)) and call.stage is Stage.RINGING:  # unless it was answered meanwhile
                await self._readmit(switch, call)
        for call_id, at in plan.answered:
            its.tell(CallAnswered(call_id, at))
        async for some in in_pieces(plan.adopt, ADOPTED_AT_ONCE):
            for seen, hold in some:
                await self._adopt(switch, seen, hold, seen_mono)
        for call_id in plan.unlimited:
            if call := its.calls.get(call_id):
                log.error("call_without_deadline", call_id=call_id)
                await self.limit_again(call)
        await self._tell_limits_again(switch)
        for call_id in plan.ghosts:
            # Just ended, or its end was forged or misread: nobody pays for it any more, so it must not live.
            log.warning("settled_call_lives", call_id=call_id)
            await switch.hangup(call_id)

    async def _readmit(self, switch: Switch, call: Call) -> None:
        """Let a call in again whose admission was not heard, for what is left of the time that its hold was made for.

        Answered later, it might cost more than is held; a call whose time is over is refused.
        """
        its = self._its
        left_s = its.policy.ring_s - (its.now_on(switch.name) - call.offered_at).total_seconds()
        if left_s >= 1:
            await switch.admit(call.call_id, grant_s=call.granted_s, ring_s=int(left_s))
        else:
            await switch.refuse(call.call_id, refusals.UNAVAILABLE)

    async def _tell_limits_again(self, switch: Switch) -> None:
        for call_id in [call_id for call_id in self.untold if switch_of(call_id) == switch.name]:
            self.untold.discard(call_id)
            if call := self._its.calls.get(call_id):
                await self.limit_again(call)

    async def _recall_refusals(self, call_ids: Sequence[str]) -> None:
        """Remember refusals that an earlier controller wrote down, but died before the switch heard of them."""
        if not call_ids:
            return
        for call_id, refusal in (await asyncio.to_thread(_refused, self._its.engine, call_ids)).items():
            self._its.remember(call_id, refusal)

    async def _adopt(self, switch: Switch, seen: LiveCall, hold: OpenHold | None, seen_mono: float) -> None:
        """Take over a call that lives and is not ours yet: from its hold's facts, or else from what the switch says."""
        its = self._its
        if seen.call_id in its.calls:
            return
        call = self._call_of(seen, hold)
        if call is None:
            log.error("unpayable_call_ended", call_id=seen.call_id)
            await switch.hangup(seen.call_id)
            return
        answered_at = call.answered_at or seen.answered_at
        if hold is None and not await self._hold_promise(switch, call, seen, seen_mono):
            return
        call.touched_mono = its.clock.monotonic()
        its.calls[call.call_id] = call
        its.reporter.tell(NewsKind.ADOPTED, call.call_id, call.terms.levels[0].account)
        call.answered_at, call.stage = None, Stage.RINGING
        its.board.changed(call.call_id)
        if answered_at:
            its.give(call, CallAnswered(call.call_id, answered_at))
        for event in self._early.get(switch.name, {}).pop(call.call_id, ()):
            its.give(call, event)

    async def _hold_promise(self, switch: Switch, call: Call, seen: LiveCall, seen_mono: float) -> bool:
        """Hold anew what a call was promised whose hold is lost: up to its limit on the switch, or else one slice.

        False where it is over for us, and must not live. Raises `CreditUnavailable`.
        """
        its = self._its
        call.granted_s = its.policy.slice_s
        if seen.answered_at:
            # What was left of its limit goes with what it had talked when that was seen, not with what it has by now.
            talked_s = (its.now_on(switch.name) - seen.answered_at).total_seconds()
            talked_s -= its.clock.monotonic() - seen_mono
            call.granted_s = max(round(max(talked_s, 0.0) + max(seen.limit_s or 0.0, 0.0)), 1)
        held = await its.restorer.hold_one(call)
        if isinstance(held, NotHeld) and held.code is HoldCode.ENDED:
            log.warning("settled_call_lives", call_id=call.call_id)
            await switch.hangup(call.call_id)
            return False
        return True

    def _call_of(self, seen: LiveCall, hold: OpenHold | None) -> Call | None:
        its = self._its
        if hold is not None:
            try:
                return recovery.rebuild(hold.facts)
            except ValueError:
                log.exception("hold_facts_unreadable", call_id=seen.call_id)
        offer = CallOffered(
            seen.call_id,
            seen.answered_at or its.now_on(seen.call_id.partition(":")[0]),
            seen.direction,
            seen.account_code,
            seen.caller,
            seen.callee,
        )
        terms = decide(its.catalogue, offer, ring_s=its.policy.ring_s) if its.catalogue else None
        if terms is None or isinstance(terms, Refused):
            return None
        return Call(
            call_id=offer.call_id,
            switch=offer.call_id.partition(":")[0],
            direction=offer.direction,
            account_code=offer.account_code,
            caller=offer.caller,
            callee=dialled(offer.callee),
            offered_at=offer.at,
            terms=terms,
            stage=Stage.RINGING,
        )

    async def limit_again(self, call: Call) -> None:
        """Set the limit that a call should have on its switch."""
        if call.stage is Stage.TALKING:
            left_s = max(call.grant_ends_mono - self._its.clock.monotonic(), 0.1)
            outcome = await self._its.switches[call.switch].set_limit(call.call_id, left_s)
            if outcome is Outcome.DONE:
                call.told_s = call.granted_s
            elif outcome is Outcome.UNKNOWN:
                self.untold.add(call.call_id)

    async def _settle_vanished(self, switch: Switch, call: Call | None, asked_mono: float) -> None:
        if call is None or call.touched_mono >= asked_mono or call.stage is Stage.ENDED:
            return
        self._its.give(call, await self._end_of(switch, call))

    async def _settle_orphan(self, switch: Switch, hold: OpenHold) -> None:
        its = self._its
        if hold.call_id in its.calls or hold.call_id in its.ended:
            return
        try:
            call = recovery.rebuild(hold.facts)
        except ValueError:
            log.exception("hold_facts_unreadable", call_id=hold.call_id)
            return
        its.calls[call.call_id] = call
        its.give(call, await self._end_of(switch, call))

    async def _end_of(self, switch: Switch, call: Call) -> CallEnded:
        record = await switch.record_of(call.call_id)
        return recovery.end_of_vanished(call, record, now=self._its.now_on(switch.name))


def switch_of(call_id: str) -> str:
    """Return the name of the switch a call is on."""
    return call_id.partition(":")[0]


def _refused(engine: Engine, call_ids: Sequence[str]) -> dict[str, Refusal]:
    with reading(engine) as session:
        return {
            record.call_id: Refusal(record.reason, record.sip_status or 503, record.cause or 0)
            for record in records_of(session, call_ids)
            if record.disposition == "refused"
        }
