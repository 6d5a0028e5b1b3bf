"""What happens, in a form that people and counters can use: told by the controller, never waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class NewsKind(StrEnum):
    """What happened to a call."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    ANSWERED = "answered"
    EXTENDED = "extended"
    EXTENDED_BY_TOPUP = "extended_by_topup"
    SHORT = "short"
    """The money does not reach for the next slice: the call will be cut unless money comes."""
    CUT_AT_ZERO = "cut_at_zero"
    ENDED = "ended"
    ADOPTED = "adopted"


@dataclass(frozen=True, slots=True)
class News:
    """One happening. `detail`: the refusal's code, the granted seconds, the cost in micro-units … as text."""

    kind: NewsKind
    call_id: str
    account: str
    detail: str = ""


Listener = Callable[[News], None]


@dataclass(slots=True)
class Stats:
    """Counters since the controller started."""

    offered: int = 0
    admitted: int = 0
    refused: int = 0
    answered: int = 0
    ended: int = 0
    cut_at_zero: int = 0
    extended: int = 0
    extended_by_topup: int = 0
    adopted: int = 0
    estimated: int = 0
    ignored_events: int = 0
    broken_calls: int = 0
