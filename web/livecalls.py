"""The live calls of a part of the tree, for the panel and for the API."""

from __future__ import annotations

import asyncio

from fastapi.concurrency import run_in_threadpool

from billing.access import Reach
from billing.credit.live import LiveCallView
from billing.store import reading
from web.context import Panel

MOST_ASKED = 200
"""Up to so many accounts are asked for one by one; beyond, all live calls are read and sifted."""
MOST_CALLS = 100_000


async def live_in(panel: Panel, reach: Reach, *, most: int = MOST_CALLS) -> list[LiveCallView]:
    """Return live calls in reach, oldest first. Raises what the live store raises where it does not answer."""
    if reach.whole:
        return await panel.live.list(most=most)

    def read() -> list[int]:
        with reading(panel.engine) as session:
            return list(session.execute(reach.ids()).scalars())

    ids = await run_in_threadpool(read)
    if len(ids) > MOST_ASKED:
        inside = set(ids)
        return [call for call in await panel.live.list(most=MOST_CALLS) if call.account_id in inside][:most]
    lists = await asyncio.gather(*(panel.live.list(account_id=one, most=most) for one in ids))
    return sorted((call for calls in lists for call in calls), key=lambda call: (call.offered_ms, call.call_id))[:most]
