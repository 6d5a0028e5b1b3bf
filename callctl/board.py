"""The board: what the panel sees of live calls, written to Redis a few times a second, however many calls there are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from billing.credit.live import LiveCalls, LiveCallView
from billing.errors import CreditUnavailable
from billing.ports import Clock, to_ms
from callctl.call import Call, Stage
from callctl.pieces import in_pieces

EVERY_S = 0.25
SHOWN_AT_ONCE = 100
"""There may be fifty thousand, at a start."""


@dataclass(slots=True)
class Board:
    """Remembers which calls changed and shows them together. A panel that is behind is harmless; a slow call is not."""

    live: LiveCalls
    clock: Clock
    calls: Mapping[str, Call]
    _changed: set[str] = field(default_factory=set)
    _shown: dict[str, int] = field(default_factory=dict)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

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
        # One at a time: of two, one could show a call again that the other has taken off.
        async with self._one:
            changed, self._changed = self._changed, set()
            try:
                async for call_ids in in_pieces(changed, SHOWN_AT_ONCE):
                    await self._show(call_ids)
            except CreditUnavailable:
                self._changed |= changed

    async def _show(self, call_ids: Iterable[str]) -> None:
        show, hide = [], []
        for call_id in call_ids:
            call = self.calls.get(call_id)
            if call is not None and call.stage in (Stage.RINGING, Stage.TALKING):
                show.append(self.view(call))
            elif call_id in self._shown:
                hide.append((call_id, self._shown[call_id]))
        await self.live.update(show, hide)
        self._shown.update((view.call_id, view.account_id) for view in show)
        for call_id, _ in hide:
            del self._shown[call_id]

    async def show_all(self, switch: str) -> None:
        """Show exactly the calls we have of a switch: what an earlier controller left on the board goes.

        Raises `CreditUnavailable`.
        """
        await self.live.hide_others(switch, self.calls)
        self._changed.update([call_id for call_id, call in self.calls.items() if call.switch == switch])
        await self.flush()

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
            short=call.exhausted,
        )
