"""A look at all channels of an Asterisk: asked over a login of its own, and taken in channel by channel as they come.

There may be a hundred thousand: nothing is kept of a channel but the call it is. Calls go on meanwhile, so what the
list says of one that has ended by now is not believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from callctl.switches import asterisk_wire as wire
from callctl.switches.ami import AmiLink
from callctl.switches.ami_request import Lines
from callctl.switches.asterisk_calls import CallTable
from callctl.switches.base import LiveCall, SwitchUnavailable


class Look:
    """Looks at one switch, one look at a time."""

    def __init__(self, switch: str, link: AmiLink, calls: CallTable) -> None:
        self._switch, self._link, self._calls = switch, link, calls
        self._one = asyncio.Lock()

    async def live_calls(self) -> list[LiveCall]:
        """Learn the calls that the switch has, and forget those it has not shown for a while.

        Raises `SwitchUnavailable` where the list did not come whole: what came of it says nothing of the rest.
        """
        async with self._one:
            with self._calls.looking() as over:
                living = wire.Living(self._switch)

                def take(lines: Lines) -> None:
                    try:
                        channel = wire.parse_channel(lines)
                    except wire.HostileText as why:
                        self._link.count_hostile(str(why), name="Status")
                        return
                    living.add(channel)
                    self._calls.adopt((channel,), besides=over)

                await self._ask(take)
                calls = living.by_key()
                await self._calls.drop_missing(calls)
                return [call for key, call in calls.items() if key not in over]

    async def _ask(self, take: Callable[[Lines], None]) -> None:
        if not self._link.up:
            raise SwitchUnavailable("no link")
        fields = [("Variables", ",".join(wire.ASKED))]
        reply = await self._link.ask_apart("Status", fields, tail=wire.ASKED, each=take)
        if not reply.ok:
            raise SwitchUnavailable(f"Status: {reply.get('message') or reply.lines[0][1]}")
        if not self._link.up:
            raise SwitchUnavailable("the link broke before all channels were listed")
