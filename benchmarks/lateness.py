"""How late calls are renewed, as their simulated switch sees it."""

from __future__ import annotations

import asyncio

from callctl.simulator.channels import Channel


class Lateness:
    """Notes how late each new limit of a talking call comes, against the old one."""

    def __init__(self, lead_s: float) -> None:
        self.late_s: list[float] = []
        plain = Channel.set_timeout

        def noted(channel: Channel, loop: asyncio.AbstractEventLoop, left_s: float) -> None:
            left = channel.left_s(loop)
            if left is not None and left_s > left > 0:
                self.late_s.append(lead_s - left)
            plain(channel, loop, left_s)

        Channel.set_timeout = noted  # type: ignore[method-assign, assignment] # the simulator's own, watched

    def clear(self) -> None:
        """Forget what was noted so far."""
        self.late_s.clear()
