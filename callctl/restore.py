"""Brings the live credit store back to what must be in it, after it lost data: all of it, or its last writes.

Wallets come from SQL, holds from the calls that live, costs of ended calls from the journal. Until all are back no call
is admitted and none gets more time, since money that looks free may be held. "Lost" is said of every restart of the
server: whether its last writes came back with it cannot be known.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from billing import outbox
from billing.credit.store import Held, NotHeld
from billing.errors import CreditUnavailable
from billing.ports import to_ms
from callctl.call import Call, Stage

if TYPE_CHECKING:
    from callctl.controller import Controller

log = structlog.get_logger(__name__)

DRAIN_S = 5.0
"""How long ended calls may take to get into SQL before their costs are held instead."""
OTHERS_S = 3.0
"""How long others are given to bring back their own holds: the controllers of other switches, which share the store,
and those that wait."""


class Restorer:
    """One for a controller. `lost`: the store may lack holds of ours; `noticed`: look now, not in a second."""

    def __init__(self, controller: Controller) -> None:
        self._its = controller
        self.lost = False
        self.noticed = asyncio.Event()
        self._since_mono = 0.0
        controller.credit.runs.on_change = self._server_changed

    def _server_changed(self) -> None:
        """A connection led to another run of the server: before a single command of ours reached it."""
        self._note_loss()
        self.noticed.set()

    def _note_loss(self) -> None:
        if not self.lost:
            self._since_mono = self._its.clock.monotonic()
        self.lost = True
        self._its.admits.clear()

    async def has_lost(self) -> bool:
        """Look whether the store has lost data; from then on it has until `bring_back` is through."""
        self.noticed.clear()
        if await self._its.credit.empty():
            self._note_loss()
        return self.lost

    async def bring_back(self) -> None:
        """Bring back wallets and holds, and only then mark the store: who dies before leaves it to the next one.

        Raises `CreditUnavailable` and what SQL raises; it is then done again from the start.
        """
        its = self._its
        # Who waits holds what it ended while it led, as soon as it sees that it must.
        alone = (its.catalogue is None or not its.calls) and not its.others()
        log.warning("credit_store_was_empty", live_calls=len(its.calls))
        # What has ended had better be in SQL: then nothing needs to hold its cost any more.
        await its.settler.drained(DRAIN_S)
        await outbox.sync_all(its.engine, its.credit, mark=False, clock=its.clock)
        await self._end_resurrected()
        await self._hold_again()
        # After those that live: a call that ended while its turn was to come is among these by now.
        await its.settler.hold_again()
        if not alone:
            await asyncio.sleep(max(self._since_mono + OTHERS_S - its.clock.monotonic(), 0.0))
        await its.watch.all_compared(DRAIN_S)
        await its.credit.mark_filled()
        self.lost = False

    async def before_promise(self, call: Call) -> None:
        """Hold what a call is about to be promised, where the hold just made may have been lost again."""
        if self.lost:
            try:
                await self.hold_one(call)
            except CreditUnavailable as error:
                # Its turn comes with all others: until then nobody else is admitted.
                log.warning("hold_not_back_yet", call_id=call.call_id, error=str(error))

    async def _hold_again(self) -> None:
        for call in list(self._its.calls.values()):
            if call.stage in (Stage.RINGING, Stage.TALKING):
                await self.hold_one(call)

    async def hold_one(self, call: Call) -> Held | NotHeld:
        """Hold what a call was promised, whatever is left: it is owed already. Raises `CreditUnavailable`."""
        its = self._its
        now = its.clock.now()
        now_ms = to_ms(now)
        held = await its.credit.restore(
            call.call_id,
            call.terms.shares(call.granted_s),
            now_ms=now_ms,
            deadline_ms=now_ms + (its.policy.ring_s + call.granted_s) * 1000,
            facts=call.facts(),
            days=call.terms.days(now),
        )
        if isinstance(held, NotHeld):
            log.error("hold_not_restored", call_id=call.call_id, code=str(held.code))
        return held

    async def _end_resurrected(self) -> None:
        """End holds that came back with older data although their calls are over and charged."""
        its = self._its
        over = [
            hold.call_id
            for hold in await its.credit.holds()
            if hold.call_id.partition(":")[0] in its.switches
            and (hold.finished or hold.call_id in its.ended)
            and hold.call_id not in its.calls
            and not its.settler.has(hold.call_id)
        ]
        if over:
            await outbox.tell_again(its.engine, its.credit, over, clock=its.clock)
