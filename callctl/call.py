"""The life of one call, as a pure state machine: inputs in, effects out; no I/O, no clock.

    OFFERED --held--> RINGING --answered--> TALKING --ended--> ENDED
       └──refused──────────┴──ended unanswered──────────────────^

The shell (`controller.py`) feeds `step` one input at a time and carries the effects out in order; what they bring back
(`HoldReplied`, `Commanded`) are inputs again. Inputs may come doubled, late or in any order: what no longer fits is
ignored. Times: `at` are the switch's own stamps; `mono` is the controller's monotonic clock, used for differences only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from billing.cdrs import EndedCall
from billing.credit.store import Held, HoldCode, NotHeld, Share
from callctl import refusals
from callctl.records import end_of_grant, ended_record, refused_record
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction, Outcome, Refusal
from callctl.terms import Terms

HOLD_TRIES = 3
"""How often a hold is tried again with less when money is short: other calls may take money in between."""

SOON_S = 0.05
"""What is due within this time is due now."""


class Stage(StrEnum):
    """Where a call is in its life."""

    OFFERED = "offered"
    RINGING = "ringing"
    TALKING = "talking"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Policy:
    """How much time is held, and when it is renewed. Seconds."""

    slice_s: int = 60
    renew_before_s: float = 20.0
    last_try_s: float = 1.0
    ring_s: int = 90
    warn_before_s: float = 10.0
    """How long before a call is cut its people hear a warning; 0: never."""


@dataclass(slots=True)
class Call:
    """A call the controller is in charge of. Only `step` and recovery change it."""

    call_id: str
    switch: str
    direction: Direction
    account_code: str
    caller: str
    callee: str
    offered_at: datetime
    terms: Terms
    stage: Stage = Stage.OFFERED
    granted_s: int = 0
    """Talk time that the hold pays for."""
    told_s: int = 0
    """Talk time that the switch has let it have, as far as it said; 0: whatever is granted."""
    wanted_s: int = 0
    """The talk time of the hold asked for and not yet answered; 0 where none is under way."""
    asked: Terms | None = None
    """The terms of the hold asked for, where they are others than `terms`: they hold once it is made."""
    tries: int = 0
    short: bool = False
    """The hold asked for is for less time than was wanted."""
    exhausted: bool = False
    """The last renewal got less than it wanted: more money means more time."""
    day_spent: bool = False
    """What it lacks is not money: an account of its chain may not spend more today."""
    warned: bool = False
    answered_at: datetime | None = None
    answered_mono: float = 0.0
    ending: str = ""
    """Why we are ending it ourselves."""
    estimated: bool = False
    wake_mono: float | None = None
    """When the call wants to be looked at again."""
    touched_mono: float = 0.0
    """When the switch last told us of it, or we it of the admission: an older picture of the switch is not believed."""
    inbox: list[Input] = field(default_factory=list, repr=False)

    def facts(self) -> str:
        """Return what another controller needs to take this call over, as JSON text."""
        own = {
            "call_id": self.call_id,
            "switch": self.switch,
            "direction": self.direction.value,
            "account_code": self.account_code,
            "caller": self.caller,
            "callee": self.callee,
            "offered_at": self.offered_at.isoformat(),
            "answered_at": self.answered_at.isoformat() if self.answered_at else None,
            "granted_s": self.wanted_s or self.granted_s,
            **({"moments": [moment.isoformat() for moment in self.terms.moments]} if self.terms.moments else {}),
            **({"carriage": self.terms.carriage.facts()} if self.terms.carriage else {}),
        }
        return f'{json.dumps(own, separators=(",", ":"))[:-1]},"levels":{(self.asked or self.terms).facts()}}}'

    @property
    def grant_ends_mono(self) -> float:
        """When, on our clock, the time paid for is over (only once answered)."""
        return self.answered_mono + self.granted_s


# -- inputs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldReplied:
    """What the credit store said to the last `Hold` or `Extend`; `result` None: it did not answer."""

    result: Held | NotHeld | None


@dataclass(frozen=True, slots=True)
class Commanded:
    """What the switch said to a command."""

    effect: Admit | SetLimit | HangUp
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Tick:
    """The time the call asked to be woken at has come."""


@dataclass(frozen=True, slots=True)
class MoneyGrew:
    """A wallet that pays for this call has more money than before."""


@dataclass(frozen=True, slots=True)
class HangupAsked:
    """Somebody with the right to do so wants the call ended."""

    reason: str


Input = CallOffered | CallAnswered | CallEnded | HoldReplied | Commanded | Tick | MoneyGrew | HangupAsked


# -- effects -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold these shares, or nothing; `for_s` from now is when the hold is overdue."""

    shares: tuple[Share, ...]
    for_s: float


@dataclass(frozen=True, slots=True)
class Extend:
    """Raise the hold to these shares."""

    shares: tuple[Share, ...]
    for_s: float


@dataclass(frozen=True, slots=True)
class Note:
    """Keep the call's new facts with its hold (the answer), without changing the money."""

    for_s: float


@dataclass(frozen=True, slots=True)
class Admit:
    """Let it ring; from the answer the switch limits it to `grant_s`."""

    grant_s: int
    ring_s: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the caller no."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class SetLimit:
    """The switch ends the call after `left_s` from now."""

    left_s: float


@dataclass(frozen=True, slots=True)
class Warn:
    """Let people hear that the call ends soon."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call on the switch."""

    cause: int = 16


@dataclass(frozen=True, slots=True)
class Doubt:
    """The switch says that it does not know the call, or did not say: ask it what lives."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The call is over: write it down, trim its hold to what it costs."""

    ended: EndedCall
    held: bool
    refusal: Refusal | None = None


Effect = Hold | Extend | Note | Admit | Refuse | SetLimit | Warn | HangUp | Doubt | Finish


# -- the machine -------------------------------------------------------------------------------------------------------


def step(  # noqa: C901, PLR0911 - one case for each input
    call: Call, given: Input, *, mono: float, now: datetime, policy: Policy
) -> list[Effect]:
    """Take one input; return what is to be done, in order. `now` is the time of day by the call's switch."""
    if call.stage is Stage.ENDED:
        return []
    if call.stage is Stage.OFFERED or isinstance(given, CallAnswered | CallEnded):
        # Only what the switch tells, and the admission: our own timers say nothing about what lives there.
        call.touched_mono = mono
    match given:
        case CallOffered():
            return _offered(call, now=now, policy=policy)
        case HoldReplied():
            return _hold_replied(call, given.result, mono=mono, now=now, policy=policy)
        case CallAnswered():
            return _answered(call, given.at, mono=mono, now=now, policy=policy)
        case CallEnded():
            return _ended(call, given)
        case Tick():
            return _tick(call, mono=mono, now=now, policy=policy)
        case MoneyGrew():
            return _renew(call, mono=mono, now=now, policy=policy) if call.exhausted else []
        case HangupAsked():
            call.ending = call.ending or given.reason
            return [HangUp()]
        case Commanded():
            return _commanded(call, given)
        case _:
            assert_never(given)


def _offered(call: Call, *, now: datetime, policy: Policy) -> list[Effect]:
    if call.wanted_s or call.stage is not Stage.OFFERED:
        return []
    # The price may depend on the time of the answer: until that is known, the dearest time counts.
    call.terms = call.terms.ringing(call.offered_at, policy.ring_s)
    asked = call.terms.ask(policy.slice_s, 0, now)
    call.wanted_s = asked.whole(policy.slice_s)
    if call.wanted_s <= 0:
        refusal = refusals.CALL_TOO_DEAR if call.terms.capped else refusals.CLOSED
        call.stage = Stage.ENDED
        return _refuse(call, refusal, now, held=False)
    _asks(call, asked)
    return [Hold(asked.shares(call.wanted_s), policy.ring_s + call.wanted_s)]


def _hold_replied(
    call: Call, result: Held | NotHeld | None, *, mono: float, now: datetime, policy: Policy
) -> list[Effect]:
    wanted, call.wanted_s = call.wanted_s, 0
    if not wanted:
        return []
    asked, call.asked = call.asked, None
    if asked is not None and isinstance(result, Held):
        call.terms = asked
    if call.stage is Stage.OFFERED:
        return _admission(call, result, wanted, now=now, policy=policy)
    match result:
        case Held():
            return _extended(call, wanted, mono=mono, policy=policy)
        case NotHeld(code=HoldCode.NO_MONEY | HoldCode.DAY_LIMIT) if call.tries < _most_tries(call):
            call.day_spent = result.code is HoldCode.DAY_LIMIT
            able, terms = call.terms.within(result.available, wanted, call.granted_s, now)
            if able > call.granted_s:
                call.tries += 1
                call.short = call.short or able < wanted
                call.wanted_s, call.exhausted = able, call.short or call.exhausted
                call.asked = terms if terms is not call.terms else None
                return [Extend(terms.shares(able), able - _talked(call, mono))]
        case NotHeld() | None:
            pass
        case _:
            assert_never(result)
    # No more time for now: what is paid for stays, and there is one more try at the last moment.
    call.exhausted = call.exhausted or result is not None
    call.wake_mono = _next_try(call, mono, policy, unanswered=result is None)
    return []


def _admission(
    call: Call, result: Held | NotHeld | None, wanted: int, *, now: datetime, policy: Policy
) -> list[Effect]:
    match result:
        case Held():
            call.granted_s, call.told_s, call.stage = wanted, wanted, Stage.RINGING
            call.exhausted = wanted < policy.slice_s
            return [Admit(wanted, policy.ring_s)]
        case NotHeld(code=HoldCode.NO_MONEY | HoldCode.DAY_LIMIT) if call.tries < _most_tries(call):
            able, terms = call.terms.within(result.available, wanted, 0, now)
            call.day_spent = result.code is HoldCode.DAY_LIMIT
            if able > 0:
                call.tries += 1
                call.wanted_s, call.asked = able, terms if terms is not call.terms else None
                return [Hold(terms.shares(able), policy.ring_s + able)]
            refusal = REFUSALS[result.code]
        case NotHeld():
            refusal = REFUSALS.get(result.code, refusals.UNAVAILABLE)
        case None:
            refusal = refusals.UNAVAILABLE
        case _:
            assert_never(result)
    call.stage = Stage.ENDED
    # No answer is not a no, and of a no that was asked for twice the first question may still be on its way: whatever
    # was held, or will be, is released.
    return _refuse(call, refusal, now, held=True)


def _asks(call: Call, terms: Terms) -> None:
    """Note the terms of a hold that is asked for the first time."""
    call.tries, call.short = 1, False
    call.asked = terms if terms is not call.terms else None


def _most_tries(call: Call) -> int:
    """Return how often a hold is asked for: where there are bundles, the first answer says what is in them."""
    return HOLD_TRIES + call.terms.bundled


def _refuse(call: Call, refusal: Refusal, now: datetime, *, held: bool) -> list[Effect]:
    """Write it down, then say it: whoever was told no has a record, whatever dies."""
    return [Finish(refused_record(call, refusal, now), held=held, refusal=refusal), Refuse(refusal)]


REFUSALS = {
    HoldCode.NO_MONEY: refusals.NO_MONEY,
    HoldCode.DAY_LIMIT: refusals.DAY_TOO_DEAR,
    HoldCode.INACTIVE: refusals.INACTIVE_ACCOUNT,
    HoldCode.TOO_MANY_CALLS: refusals.TOO_MANY_CALLS,
    HoldCode.TOO_FAST: refusals.TOO_FAST,
}


def _answered(call: Call, at: datetime, *, mono: float, now: datetime, policy: Policy) -> list[Effect]:
    if call.answered_at is not None:
        return []
    late_s = min(max((now - at).total_seconds(), 0.0), float(call.granted_s))
    call.answered_at, call.answered_mono, call.stage = at, mono - late_s, Stage.TALKING
    held, call.terms = call.terms, call.terms.at(at)
    if held is not call.terms and not _covers(held, call):
        return _answered_dearer(call, held, mono=mono, now=now, policy=policy)
    call.wake_mono = _next_try(call, mono, policy)
    return [Note(call.granted_s - late_s)]


def _covers(held: Terms, call: Call) -> bool:
    """Return whether what is held pays for the grant, now that the time of the answer is known."""
    pairs = zip(held.shares(call.granted_s), call.terms.shares(call.granted_s), strict=True)
    return call.terms.longest(call.granted_s) == call.granted_s and all(
        had.amount_micros >= needs.amount_micros for had, needs in pairs
    )


def _answered_dearer(call: Call, held: Terms, *, mono: float, now: datetime, policy: Policy) -> list[Effect]:
    """Cut the grant to what the hold pays for at the true price, at once; then ask for the money that is missing."""
    promised_s = call.granted_s
    funds = tuple(share.amount_micros for share in held.shares(promised_s))
    call.granted_s = call.told_s = call.terms.affordable(funds, promised_s)
    talked_s = _talked(call, mono)
    limit = SetLimit(max(call.granted_s - talked_s, 0.1))
    asked = call.terms.ask(promised_s, call.granted_s, now)
    call.wanted_s = asked.longest(promised_s)
    if call.wanted_s > call.granted_s:
        _asks(call, asked)
        return [limit, Extend(asked.shares(call.wanted_s), max(call.wanted_s - talked_s, 0.0))]
    call.wanted_s, call.exhausted = 0, True
    call.wake_mono = _next_try(call, mono, policy)
    return [limit, Note(max(call.granted_s - talked_s, 0.0))]


def _tick(call: Call, *, mono: float, now: datetime, policy: Policy) -> list[Effect]:
    if call.stage is not Stage.TALKING:
        call.wake_mono = None
        return []
    if call.wake_mono is None or mono < call.wake_mono - SOON_S:
        return []  # late from a moment that has moved: the renewal it was for is done
    if call.ending or mono >= call.grant_ends_mono:
        # It should have ended by now, by our hang-up or the switch's own limit; make sure.
        call.ending = call.ending or end_of_grant(call)
        call.wake_mono = mono + 1.0
        return [HangUp(), Doubt()] if mono > call.grant_ends_mono + 1.0 else [HangUp()]
    if _warns(call, policy) and mono < call.grant_ends_mono - policy.last_try_s - SOON_S:
        call.warned = True
        call.wake_mono = _next_try(call, mono, policy)
        return [Warn()]
    return _renew(call, mono=mono, now=now, policy=policy)


def _renew(call: Call, *, mono: float, now: datetime, policy: Policy) -> list[Effect]:
    if call.wanted_s or call.stage is not Stage.TALKING or call.ending:
        return []
    target_s = max(call.granted_s, int(_talked(call, mono))) + policy.slice_s
    asked = call.terms.ask(target_s, call.granted_s, now)
    wanted_s = asked.whole(target_s)
    if wanted_s <= call.granted_s:
        # The tariff ends the call here, however much money there is.
        call.exhausted = True
        call.wake_mono = _next_try(call, mono, policy)
        return []
    call.wanted_s = wanted_s
    _asks(call, asked)
    return [Extend(asked.shares(wanted_s), wanted_s - _talked(call, mono))]


def _extended(call: Call, wanted: int, *, mono: float, policy: Policy) -> list[Effect]:
    full = not call.short
    call.day_spent = call.day_spent and not full
    call.granted_s, call.exhausted, call.warned = max(call.granted_s, wanted), not full, False
    call.wake_mono = _next_try(call, mono, policy)
    return [SetLimit(max(call.granted_s - _talked(call, mono), 0.1))]


def _next_try(call: Call, mono: float, policy: Policy, *, unanswered: bool = False) -> float:
    """Return when to ask for more: in good time, then at the last moment, then when the grant is over."""
    end = call.grant_ends_mono
    if unanswered:
        return min(mono + 1.0, max(end, mono + 0.1))
    if not call.exhausted:
        lead = min(policy.renew_before_s, policy.slice_s / 2)
        if mono < end - lead:
            return end - lead
    elif _warns(call, policy) and mono < end - policy.last_try_s - SOON_S:
        # Later it is too late for a warning, and to be woken for one at once would be to run in circles.
        return max(end - policy.warn_before_s, mono)
    last = end - policy.last_try_s
    return last if mono < last - SOON_S else end + 0.25


def _warns(call: Call, policy: Policy) -> bool:
    """Return whether a warning is still to come: the money is short, and the call is longer than the warning's time."""
    return call.exhausted and not call.warned and 0 < policy.warn_before_s < call.granted_s


def _talked(call: Call, mono: float) -> float:
    return mono - call.answered_mono if call.answered_at else 0.0


def _commanded(call: Call, given: Commanded) -> list[Effect]:
    match given.outcome:
        case Outcome.DONE:
            if isinstance(given.effect, SetLimit):
                # Only now: where the call vanishes while the command is on its way, nobody can say that it was heard.
                call.told_s = call.granted_s
            return []
        case Outcome.GONE | Outcome.UNKNOWN:
            # Its end may be on the way; if not, the comparison with the switch finds out. Never guessed here.
            return [Doubt()]
        case _:
            assert_never(given.outcome)


def _ended(call: Call, event: CallEnded) -> list[Effect]:
    answered_at = call.answered_at or event.answered_at
    call.answered_at, call.stage, call.wake_mono = answered_at, Stage.ENDED, None
    return [Finish(ended_record(call, event), held=True)]
