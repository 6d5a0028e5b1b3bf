"""What happened, in plain words, and the counters: read from the controller's news and from the call records."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from billing.credit.live import LiveCallView
from billing.models import Cdr
from callctl.demo.world import SWITCHES
from callctl.news import News, NewsKind
from rating.money import format_amount

KEPT = 200

REASONS = {
    "no_money": "no money",
    "barred_destination": "this destination is barred",
    "too_many_calls": "its line is in use (one call at a time)",
    "no_rate": "no rate for this number",
    "unknown_account": "nobody knows this account",
    "inactive_account": "the account is not active",
    "unavailable": "callctl cannot be sure of the money",
}
OUTCOMES = {
    "busy": "busy, costs nothing",
    "no_answer": "no answer, costs nothing",
    "cancelled": "caller gave up, costs nothing",
    "failed": "carrier failed, costs nothing",
}
STYLES = {"refused": "red", "cut": "bold red", "topup": "bold green", "short": "yellow", "admitted": "", "ended": "dim"}
TELLING = frozenset({"refused", "cut", "topup"})
TELLING_S = 15.0
"""How long a telling line stays in sight."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the feed. `kind` is a key of STYLES."""

    at_s: float
    kind: str
    who: str
    text: str


@dataclass(slots=True)
class Counters:
    """What the show has seen. Each call counts once; amounts in micro-units."""

    offered: int = 0
    admitted: int = 0
    refused: int = 0
    cut_at_zero: int = 0
    cdrs: int = 0
    charged_micros: int = 0
    extended: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Feed:
    """Collects lines. `elapsed_s` tells the second of the show, `names` the accounts by number."""

    elapsed_s: Callable[[], float]
    names: Mapping[int, str]
    counters: Counters = field(default_factory=Counters)
    items: deque[Item] = field(default_factory=lambda: deque(maxlen=KEPT))
    short: set[str] = field(default_factory=set)
    """Calls whose money does not reach for more than they have."""
    on_item: Callable[[Item], None] | None = None
    _topped: dict[str, str] = field(default_factory=dict)
    _shown: set[str] = field(default_factory=set)
    _recorded: set[str] = field(default_factory=set)

    def newest(self, rows: int) -> list[Item]:
        """Return the newest lines, oldest first. Up to half are telling ones, so that small talk does not bury them."""
        items = list(self.items)
        telling = [item for item in items if item.kind in TELLING and self.elapsed_s() - item.at_s < TELLING_S]
        kept = telling[-(rows // 2) :] if rows > 1 else []
        others = [item for item in items if item not in kept][-(rows - len(kept)) :]
        return sorted((*kept, *others), key=lambda item: item.at_s)

    def say(self, kind: str, who: str, text: str) -> None:
        """Add a line."""
        item = Item(self.elapsed_s(), kind, who, text)
        self.items.append(item)
        if self.on_item:
            self.on_item(item)

    def topped_up(self, account: str, micros: int, currency: str) -> None:
        """Somebody paid."""
        self._topped[account] = f"{format_amount(micros)} {currency}"
        self.say("topup", account, f"paid in {self._topped[account]}")

    def hear(self, news: News) -> None:
        """Take news of the controller; what ended is read from its record instead."""
        match news.kind:
            case NewsKind.SHORT:
                self.short.add(news.call_id)
                self.say("short", news.account, "money runs out: this call will be cut unless somebody pays in")
            case NewsKind.EXTENDED:
                self.short.discard(news.call_id)
            case NewsKind.EXTENDED_BY_TOPUP:
                self.short.discard(news.call_id)
                if news.call_id not in self.counters.extended and news.account in self._topped:
                    self.counters.extended.add(news.call_id)
                    paid = self._topped[news.account]
                    self.say("topup", news.account, f"live call extended by a top-up of {paid}")
            case _:
                pass

    def see(self, calls: list[LiveCallView]) -> None:
        """Look at the live calls: a new one was admitted."""
        for call in calls:
            if call.call_id not in self._shown and call.call_id not in self._recorded:
                self._shown.add(call.call_id)
                held = f"{format_amount(call.held_micros)} {call.currency}"
                where = SWITCHES.get(call.switch, call.switch)
                self.say("admitted", call.account, f"admitted on {where} to {call.destination}, {held} held")

    def record(self, cdr: Cdr) -> None:
        """Look at a call record, once."""
        if cdr.call_id in self._recorded:
            return
        self._recorded.add(cdr.call_id)
        self.short.discard(cdr.call_id)
        self.counters.cdrs += 1
        self.counters.charged_micros += cdr.cost_micros
        who = self.names.get(cdr.account_id or 0, "nobody")
        if cdr.disposition == "refused":
            self.counters.refused += 1
            self.say("refused", who, f"refused: {REASONS.get(cdr.reason, cdr.reason)} ({cdr.callee})")
            return
        self.counters.admitted += 1
        cost = f"{format_amount(cdr.cost_micros)} {cdr.currency}".rstrip()
        talk = f"{cdr.talk_ms / 1000:.1f} s"
        if cdr.reason == "credit_exhausted":
            self.counters.cut_at_zero += 1
            self.say("cut", who, f"cut at zero after {talk}: {cost} charged, not a cent over")
        elif cdr.reason == "hung_up_by_admin":
            self.say("ended", who, f"hung up by the operator after {talk}: {cost} charged")
        elif cdr.disposition == "answered":
            self.say("ended", who, f"hung up after {talk}: {cost} charged")
        else:
            self.say("ended", who, OUTCOMES.get(cdr.disposition, cdr.disposition))
