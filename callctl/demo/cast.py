"""Who calls whom, when: a crowd at random, and scenes that show each thing callctl does, at known seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from callctl.demo.world import (
    ASTERISK,
    BOTH,
    BUSY_LINE,
    CAST,
    CROWD,
    CUT,
    FREESWITCH,
    NO_MONEY,
    PREMIUM,
    SATELLITE,
    SAVED,
    Person,
)
from callctl.simulator.plans import CallPlan, Side, Then

SCENES_EVERY_S = 48.0
CALLS_PER_S = 1.1
"""Of the crowd. With the talk times below about a dozen are on the line."""

BY_NAME = {person.name: person for person in (*CAST, *CROWD)}
NUMBERS = ("4930", "4989", "49151", "49172", "4420", "331", "1212", "53")


@dataclass(frozen=True, slots=True)
class Dial:
    """Somebody calls, through one of the switches."""

    plan: CallPlan
    switch: str = ASTERISK


@dataclass(frozen=True, slots=True)
class TopUpDue:
    """Somebody pays: an amount in the account's currency."""

    account: str
    amount: str


Scene = Dial | TopUpDue


@dataclass(slots=True)
class Script:
    """Gives out what is due. Seconds count from the start of the show."""

    random: Random
    _scenes: Iterator[tuple[float, Scene]] = field(init=False)
    _next: tuple[float, Scene] = field(init=False)
    _crowd_at: float = 1.0

    def __post_init__(self) -> None:
        self._scenes = scenes()
        self._next = next(self._scenes)

    def due(self, at_s: float) -> list[Scene]:
        """Return everything that has become due since the last time."""
        found: list[Scene] = []
        while self._next[0] <= at_s:
            found.append(self._next[1])
            self._next = next(self._scenes)
        while self._crowd_at <= at_s:
            found.append(Dial(self._somebody(), self.random.choice((ASTERISK, FREESWITCH))))
            self._crowd_at += self.random.expovariate(CALLS_PER_S)
        return found

    def _somebody(self) -> CallPlan:
        person = self.random.choice(CROWD)
        digits = self.random.choice(NUMBERS)
        callee = "+" + digits + "".join(self.random.choice("0123456789") for _ in range(11 - len(digits)))
        then = self.random.choices((Then.ANSWER, Then.BUSY, Then.CANCEL, Then.CONGESTION), weights=(80, 8, 8, 4))[0]
        return CallPlan(
            account_code=person.code,
            caller=person.number,
            callee=callee,
            ring_s=self.random.uniform(0.5, 3.0),
            then=then,
            talk_s=self.random.uniform(4.0, 22.0),
            hung_up_by=self.random.choice((Side.CALLER, Side.CALLEE)),
        )


def scenes() -> Iterator[tuple[float, Scene]]:
    """Yield the scenes for ever. The first ones play within ten seconds, so that half a minute shows them all."""
    begin, first = 0.0, True
    while True:
        if not first:
            # The money of the last act is gone: as much again, or the act could not be repeated.
            yield begin, TopUpDue(CUT, "0.50")
            yield begin, TopUpDue(SAVED, "1.20")
            yield begin, TopUpDue(BOTH, "3.00")
        yield begin + 0.5, Dial(to(SAVED, f"+{SATELLITE}773110", ring_s=0.5, talk_s=120.0))
        yield (
            begin + 1.0,
            Dial(to(CUT, "+4930555010", ring_s=0.5, talk_s=5.0) if not first else cut_call(), FREESWITCH),
        )
        yield begin + 1.5, Dial(to(BOTH, f"+{SATELLITE}773120", ring_s=0.5, talk_s=120.0))
        yield begin + 1.7, Dial(to(BOTH, f"+{SATELLITE}773121", ring_s=0.5, talk_s=120.0), FREESWITCH)
        yield begin + 2.0, Dial(to(NO_MONEY, "+4930555020"))
        yield begin + 3.0, Dial(to(BUSY_LINE, "+4930555030", talk_s=30.0))
        yield begin + 4.0, Dial(to(BUSY_LINE, "+4930555031"), FREESWITCH)
        yield begin + 5.5, Dial(to("Studio Nova", f"+{PREMIUM}555040"), FREESWITCH)
        yield begin + 7.0, TopUpDue(SAVED, "5.00")
        yield begin + 14.0, Dial(to(NO_MONEY, "+4930555021"), FREESWITCH)
        if not first:
            yield begin + 15.0, Dial(cut_call())
        yield begin + 30.0, Dial(to(NO_MONEY, "+4930555022"))
        begin, first = begin + SCENES_EVERY_S, False


def cut_call() -> CallPlan:
    """Return a call that wants to talk longer than its money: 0.50 − 0.10 at 0.05 a second is 8 seconds."""
    return to(CUT, "+5371234567", ring_s=0.5, talk_s=120.0)


def to(name: str, callee: str, *, ring_s: float = 1.0, talk_s: float = 20.0) -> CallPlan:
    """Return the plan of a call by somebody of the cast that is answered, and ended by its caller."""
    person: Person = BY_NAME[name]
    return CallPlan(account_code=person.code, caller=person.number, callee=callee, ring_s=ring_s, talk_s=talk_s)
