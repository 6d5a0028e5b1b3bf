"""What goes wrong between a simulated switch and its client, on order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol


@dataclass
class Faults:
    """Messages that are lost, doubled, late or refused. Each order holds for `times` times, then all is well."""

    events: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    answers: dict[str, list[str | None]] = field(default_factory=dict)
    list_pause_s: float = 0.0
    """How long a list stops after each of its parts, until set otherwise."""
    list_most: int | None = None
    """Parts after which a list goes on no more, until set otherwise."""

    def drop(self, event: str, times: int = 1) -> None:
        """The next events of this name never arrive."""
        self._order(event, (), times)

    def duplicate(self, event: str, times: int = 1) -> None:
        """The next events of this name arrive twice."""
        self._order(event, (0.0, 0.0), times)

    def delay(self, event: str, by_s: float, times: int = 1) -> None:
        """The next events of this name arrive late, so out of order; their time stamps stay true."""
        self._order(event, (by_s,), times)

    def mute(self, command: str, times: int = 1) -> None:
        """The next commands of this name are not answered in time.

        AMI: neither carried out nor answered. ESL, which never leaves an answer out: it and all after it wait.
        """
        self.answers.setdefault(command.lower(), []).extend([None] * times)

    def fail(self, command: str, message: str, times: int = 1) -> None:
        """The next commands of this name are answered with this error."""
        self.answers.setdefault(command.lower(), []).extend([message] * times)

    def _order(self, event: str, delays: tuple[float, ...], times: int) -> None:
        self.events.setdefault(event, []).extend([delays] * times)


class Listener(Protocol):
    """A server whose link can break."""

    cut: bool
    silent: bool

    def drop_all(self) -> None:
        """Cut every client off."""

    def thaw(self) -> None:
        """End a silence."""


class Outage:
    """Breaks a server's link for a while."""

    def __init__(self, server: Listener) -> None:
        self._server = server
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, seconds: float, *, silent: bool = False) -> None:
        """Reset and refuse or, `silent`, let everything on the link wait until then."""
        self.forget()
        if silent:
            self._server.silent = True
        else:
            self._server.cut = True
            self._server.drop_all()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)

    def forget(self) -> None:
        """End no outage by a timer any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        self._server.cut = False
        self._server.thaw()
