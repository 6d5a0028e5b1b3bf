"""The board: what the panel sees of live calls, written to Redis a few times a second, however many calls there are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from billing.credit.live import LiveCalls, LiveCallView
from billing.errors import CreditUnavailable
from billing.ports import Clock, to_ms
from callctl.call import Call, Stage

EVERY_S = 0.25


@dataclass(slots=True)
class Board:
    """Remembers which calls changed and shows them together. A panel that is behind is harmless; a slow call is not."""

    live: LiveCalls
    clock: Clock
    calls: Mapping[str, Call]
    _changed: set[str] = field(default_factory=set)

    def changed(self, call_id: str) -> None:
        """Say that a call is new, different or over."""
        self._changed.add(call_id)

    async def run(self) -> None:
        """Write what changed, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what changed since the last time."""
        changed, self._changed = self._changed, set()
        try:
            for call_id in changed:
                call = self.calls.get(call_id)
                if call is None or call.stage in (Stage.OFFERED, Stage.ENDED):
                    await self.live.remove(call_id)
                else:
                    await self.live.put(self.view(call))
        except CreditUnavailable:
            self._changed |= changed

    def view(self, call: Call) -> LiveCallView:
        """Return a call as the panel shows it."""
        payer = call.terms.levels[0]
        answered = call.answered_at
        return LiveCallView(
            call_id=call.call_id,
            switch=call.switch,
            account_id=payer.account_id,
            account=payer.account,
            direction=call.direction.value,
            caller=call.caller,
            callee=call.callee,
            destination=payer.rate.destination,
            state="talking" if answered else "ringing",
            offered_ms=to_ms(call.offered_at),
            answered_ms=to_ms(answered) if answered else None,
            limit_ms=to_ms(answered + timedelta(seconds=call.granted_s)) if answered else None,
            held_micros=call.terms.shares(call.granted_s)[0].amount_micros,
            currency=payer.currency,
        )
