"""What happens, in a form that people and counters can use: told by the controller, never waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from callctl.call import Call, HoldReplied, Input, Stage


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


class Reporter:
    """Counts what calls do, and tells it to whoever listens; `changed` is told the calls whose picture is old."""

    def __init__(self, changed: Callable[[str], None], listener: Listener | None = None) -> None:
        self.stats = Stats()
        self._changed = changed
        self._listener = listener

    def tell(self, kind: NewsKind, call_id: str, account: str, detail: str = "") -> None:  # noqa: C901 - one case each
        """Count a happening and tell it."""
        stats = self.stats
        match kind:
            case NewsKind.ADMITTED:
                stats.admitted += 1
            case NewsKind.REFUSED:
                stats.refused += 1
            case NewsKind.ANSWERED:
                stats.answered += 1
            case NewsKind.EXTENDED:
                stats.extended += 1
            case NewsKind.EXTENDED_BY_TOPUP:
                stats.extended += 1
                stats.extended_by_topup += 1
            case NewsKind.CUT_AT_ZERO:
                stats.ended += 1
                stats.cut_at_zero += 1
            case NewsKind.ENDED:
                stats.ended += 1
            case NewsKind.ADOPTED:
                stats.adopted += 1
            case NewsKind.SHORT:
                pass
            case _:
                assert_never(kind)
        if self._listener:
            self._listener(News(kind, call_id, account, detail))

    def moved(self, call: Call, given: Input, before: tuple[int, bool, Stage]) -> None:
        """Say what an input has done to a call; `before` is its granted_s, exhausted and stage from before."""
        granted_s, exhausted, stage = before
        account = call.terms.levels[0].account
        if (call.stage, call.granted_s, call.exhausted) != (stage, granted_s, exhausted):
            self._changed(call.call_id)
        if call.stage is not stage:
            self._entered(call, given, stage, account)
        elif call.granted_s > granted_s:
            kind = NewsKind.EXTENDED_BY_TOPUP if exhausted else NewsKind.EXTENDED
            self.tell(kind, call.call_id, account, str(call.granted_s))
        if call.exhausted and not exhausted and call.stage is not Stage.ENDED:
            self.tell(NewsKind.SHORT, call.call_id, account, str(call.granted_s))

    def _entered(self, call: Call, given: Input, stage: Stage, account: str) -> None:
        match call.stage:
            case Stage.RINGING:
                self.tell(NewsKind.ADMITTED, call.call_id, account, str(call.granted_s))
            case Stage.TALKING:
                self.tell(NewsKind.ANSWERED, call.call_id, account)
            case Stage.ENDED if isinstance(given, HoldReplied) and stage is Stage.OFFERED:
                self.tell(NewsKind.REFUSED, call.call_id, account, call.ending)
            case Stage.ENDED:
                self.stats.estimated += call.estimated
                cut = call.ending == "credit_exhausted"
                self.tell(NewsKind.CUT_AT_ZERO if cut else NewsKind.ENDED, call.call_id, account)
            case Stage.OFFERED:
                pass
            case _:
                assert_never(call.stage)
