"""What the links to an Asterisk and to a FreeSWITCH have in common: why they fail, and what odd things came."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from callctl.switches.base import SwitchUnavailable

log = structlog.get_logger()

SEEN_NAMES = 256
"""Kinds of odd things that are logged; what comes after is only counted."""
MOST_LOGGED = 80
"""Characters of a text from outside."""


class LinkTimeout(SwitchUnavailable):
    """No answer in time; what was asked for may have been done."""


class LinkDown(SwitchUnavailable):
    """There is no link, or it broke before the answer; what was asked for may have been done."""


class LinkRefused(SwitchUnavailable):
    """The switch did not accept the login."""


@dataclass(slots=True)
class LinkCounters:
    """What came over the link, for the metrics."""

    events: int = 0
    hostile: int = 0
    """Events that the shipped dialplan cannot have caused, with a header twice, or that the switch itself denied."""
    unknown: int = 0
    garbage: int = 0
    late: int = 0
    """Answers that nobody waits for any more."""
    timeouts: int = 0
    overflows: int = 0
    connects: int = 0
    failures: int = 0


class Watchful:
    """A link that counts what is odd, and logs the first of each kind. `protocol` begins the names in the log."""

    def __init__(self, protocol: str, host: str) -> None:
        self.host = host
        self.counters = LinkCounters()
        self._protocol_name = protocol
        self._seen: set[str] = set()

    def count_garbage(self, what: str, **facts: str) -> None:
        """Count what is not in the protocol's form."""
        self.counters.garbage += 1
        self._log_once("garbage", what, what=what, **facts)

    def count_hostile(self, what: str, **facts: str) -> None:
        """Count what only somebody who wants to deceive would send."""
        self.counters.hostile += 1
        self._log_once("hostile", what, what=what, **facts)

    def count_unknown(self, event: str) -> None:
        """Count an event nobody asked for; each name is a kind."""
        self.counters.unknown += 1
        self._log_once("unknown_event", event, name=event)

    def _log_once(self, message: str, kind: str, **facts: str) -> None:
        key = f"{message} {kind}"
        if key not in self._seen and len(self._seen) < SEEN_NAMES:
            self._seen.add(key)
            cut = {name: fact[:MOST_LOGGED] for name, fact in facts.items()}
            event = f"{self._protocol_name}_{message}"
            log.warning(event, host=self.host, **cut)
