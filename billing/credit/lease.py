"""The lease: who of several controllers controls some switches. One has it; the others wait until it is not renewed.

Its holder has a token. Scripts that change holds are told it and turn away everybody else's, and whoever holds the
lease compares its age by its own monotonic clock before each word to a switch: a process that was frozen wakes up too
late, and knows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from billing.credit.client import answers
from billing.credit.store import CreditStore
from billing.errors import CreditUnavailable
from billing.ports import Clock

LIVES_S: Final = 3.0
"""How long a lease holds that is not renewed."""
SURE_S: Final = 2.5
"""How long its holder is sure of it: clocks of two machines do not run equally fast."""
TRIED_S: Final = 6.0
"""Who waits for no answer so long was frozen: a try and its retry take less."""
WAITED_S: Final = 600.0
"""So long is it remembered that somebody waited: one that is frozen or cut off may come back and take over."""

KINDS: Final = ("lease", "leader", "standby", "waited")
"""What is kept of each switch."""


class Lease:
    """One for a process. `token` names it and the term for which it leads: another each time, and never used again."""

    def __init__(
        self, redis: Redis, credit: CreditStore, switches: Sequence[str], *, prefix: str, token: str, clock: Clock
    ) -> None:
        self.credit, self._clock = credit, clock
        self._base = f"{{{prefix}}}:"
        self._script = redis.register_script(Path(__file__).with_name("lease.lua").read_text(encoding="utf-8"))
        self.switches, self._name, self._term = tuple(sorted(switches)), token, 1
        self.token = token
        self.holder = ""
        """Who held it when we asked last."""
        self.wanted = False
        """Somebody waits to take over, or did."""
        self._held = self._waits = False
        self._lost_mono: float | None = None
        """Since when we wait for the one that led to take it again: Redis has lost all that it knew."""
        self._met_mono = -WAITED_S
        self._sure_until_mono = self._tried_mono = clock.monotonic()
        credit.on_fenced = self._lost

    def leads(self) -> bool:
        """Return whether we may act now. Where nobody waits to take over, a live store that is away changes nothing."""
        now = self._clock.monotonic()
        if not self._held:
            return False
        return now < self._sure_until_mono or (not self.wanted and now - self._tried_mono < TRIED_S)

    @property
    def taken(self) -> bool:
        """Whether it is somebody else's, as far as we know."""
        return not self._held

    @property
    def met(self) -> bool:
        """Whether another one has led or waited lately, as far as we saw ourselves: Redis forgets it with its data."""
        return self._clock.monotonic() - self._met_mono < WAITED_S

    async def seek(self) -> bool:
        """Take or keep it; False where it is another's, or was meanwhile.

        Raises `CreditUnavailable`: then nothing is known.
        """
        asked_mono, token = self._clock.monotonic(), self.token
        try:
            match await self._ask("keep" if self._held else "seek"):
                case ["leads", awaited]:
                    self.holder, self.wanted = token, awaited == "1"
                    self._waits, self._lost_mono = False, None
                case ["lost"]:
                    # Who led knows its calls, and has only to say so: it asks every half second.
                    self._lost_mono = asked_mono if self._lost_mono is None else self._lost_mono
                case [_, holder]:
                    self.holder, self._waits, self._lost_mono = str(holder), True, None
                case answer:
                    raise CreditUnavailable(f"the live credit store gave an answer nobody knows: {answer!r}")
        finally:
            self._tried_mono = self._clock.monotonic()
        if self.holder != token or self.wanted:
            self._met_mono = self._tried_mono
        if self.holder != token:
            self._lost()
        elif token == self.token:
            self._held = True
            self._sure_until_mono = asked_mono + SURE_S
            self.credit.fence = token
        return self._held

    async def leave(self) -> None:
        """Give it up, so that nobody has to wait. Raises `CreditUnavailable`: it then ends by itself."""
        token = self.token
        self._lost()
        await self._ask("leave", token)

    async def leave_for(self, token: str) -> None:
        """Give it up for another process, which is dead. Raises `CreditUnavailable`."""
        await self._ask("leave", token)

    async def _ask(self, wants: str, token: str = "") -> list[str]:
        keys = [f"{self._base}{kind}:{switch}" for switch in self.switches for kind in KINDS]
        lives_ms, waited_ms = int(LIVES_S * 1000), int(WAITED_S * 1000)
        with answers():
            arguments: list[str | int] = [
                token or self.token,
                lives_ms,
                wants,
                waited_ms,
                "1" if self._patient() else "",
            ]
            found: list[str] = await self._script(keys=keys, args=arguments)
        return found

    def _patient(self) -> bool:
        since_mono = self._lost_mono
        return self._waits and (since_mono is None or self._clock.monotonic() - since_mono < LIVES_S)

    def _lost(self) -> None:
        """Lead no more. What was sent in this term is turned away for ever, even where we lead again later."""
        if self._held:
            self._held = False
            self._term += 1
            self.token = f"{self._name}.{self._term}"
