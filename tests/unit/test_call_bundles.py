"""A call with bundles: seconds before money, split by the hold that succeeded, and charged as it was held."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from billing.cdrs import EndedCall
from billing.charges import explain, reprice
from billing.credit.store import Held, HoldCode, NotHeld
from callctl import call as machine
from callctl.call import Call, HoldReplied, Input, Policy, Stage, Tick, step
from callctl.recovery import rebuild
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction
from callctl.terms import Level, LevelBundle, Terms
from rating.tariff import Band, Conditions, Rate, Rounding, RoundingMode, Step, When

OFFERED = datetime(2026, 1, 5, 17, 59, 50, tzinfo=UTC)
POLICY = Policy(slice_s=60, renew_before_s=20, last_try_s=1, ring_s=90)
HOUR = 3600
SECOND = 1_000_000
PLAIN = Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.60"), 60, 10),), Rounding(RoundingMode.HALF_UP, 6))
EUROPE, MOBILE = LevelBundle("Europe", 71, 9), LevelBundle("Mobile", 72, 9)


class Played:
    """A call driven by hand, with a bundle for each of `bundles` before the money."""

    def __init__(self, *bundles: LevelBundle, rate: Rate = PLAIN) -> None:
        level = Level(1, "account", 10, 1, "EUR", "retail", 1, 1, rate, bundles=bundles, caps_ms=(0,) * len(bundles))
        self.call = Call("a:1", "a", Direction.OUTBOUND, "100", "111", "4930", OFFERED, Terms((level,)).at(OFFERED))

    def give(self, given: Input, at_s: float = 0.0) -> list[machine.Effect]:
        now = OFFERED + timedelta(seconds=at_s)
        return step(self.call, given, mono=1000 + at_s, now=now, policy=POLICY)

    def offered(self) -> list[machine.Effect]:
        return self.give(CallOffered("a:1", OFFERED, Direction.OUTBOUND, "100", "111", "4930"))

    def answered(self, at_s: float = 0.0) -> list[machine.Effect]:
        return self.give(CallAnswered("a:1", OFFERED + timedelta(seconds=at_s)), at_s)

    def held(self, at_s: float = 0.0) -> list[machine.Effect]:
        return self.give(HoldReplied(Held()), at_s)

    def short(self, *available: int, at_s: float = 0.0) -> list[machine.Effect]:
        return self.give(HoldReplied(NotHeld(HoldCode.NO_MONEY, 0, available)), at_s)

    def ended(self, at_s: float) -> EndedCall:
        (effect,) = self.give(CallEnded("a:1", OFFERED + timedelta(seconds=at_s), 16), at_s)
        assert isinstance(effect, machine.Finish)
        for charge in effect.ended.charges:
            assert reprice(charge) == charge.amount_micros
        assert EndedCall.from_json(json.loads(json.dumps(effect.ended.to_json()))) == effect.ended
        return effect.ended


def amounts(effects: list[machine.Effect]) -> list[int]:
    """What is held: micro-units of the money, then of the seconds of each bundle."""
    (effect,) = (one for one in effects if isinstance(one, machine.Hold | machine.Extend))
    return [share.amount_micros for share in effect.shares]


def test_the_bundle_is_asked_to_pay_for_all_of_the_first_slice() -> None:
    """A minute of the bundle and no money; admitted for it, and charged what was talked, in whole increments."""
    played = Played(EUROPE)
    assert amounts(played.offered()) == [0, 60 * SECOND]
    assert played.held() == [machine.Admit(60, 90)]
    played.answered()
    ended = played.ended(34)
    (charge,) = ended.charges
    assert (charge.amount_micros, [use.amount_micros for use in charge.uses], charge.billed_s) == (0, [40 * SECOND], 40)
    assert charge.facts["bundles"] == [{"name": "Europe", "wallet_id": 71, "most_ms": 60_000, "used_ms": 40_000}]
    assert "40 s are paid by the bundle Europe." in explain(charge)


def test_a_slice_of_free_seconds_asks_the_bundle_that_pays_for_what_follows() -> None:
    """The first minute is free, 0.07 is the least of a charge in money: with a bundle nothing of it is due, nor needed.

    What is held is the increment after the free minute; ended before it, the call used nothing and costs nothing.
    """
    free = replace(PLAIN, conditions=Conditions(free_s=60, min_charge=Decimal("0.07")))
    played = Played(EUROPE, rate=free)
    assert amounts(played.offered()) == [0, 10 * SECOND]
    assert played.held() == [machine.Admit(60, 90)]
    played.answered()
    (charge,) = played.ended(5).charges
    assert (charge.amount_micros, [use.amount_micros for use in charge.uses]) == (0, [0])

    # The bundle has less than an increment: it pays for nothing, and the least charge is money, which is not there.
    short = Played(EUROPE, rate=free)
    short.offered()
    assert short.short(0, 9 * SECOND)[-1] == machine.Refuse(machine.REFUSALS[HoldCode.NO_MONEY])
    assert short.call.stage is Stage.ENDED


def test_what_the_bundle_lacks_is_money_from_a_whole_increment_on() -> None:
    """37 s are left in the bundle: three increments, and 0.30 for the other 30 s; with 0.25, two of them."""
    played = Played(EUROPE)
    played.offered()
    assert amounts(played.short(5 * SECOND, 37 * SECOND)) == [300_000, 30 * SECOND]
    assert played.held() == [machine.Admit(60, 90)]
    assert not played.call.exhausted, "the slice is whole, however it is paid"
    poor = Played(EUROPE)
    poor.offered()
    assert amounts(poor.short(250_000, 37 * SECOND)) == [200_000, 30 * SECOND]
    assert poor.held() == [machine.Admit(50, 90)]
    assert poor.call.exhausted


def test_bundles_are_used_up_one_after_the_other() -> None:
    """15 s of the first pay for one increment, 25 s of the second for two, money for the rest of the minute."""
    played = Played(EUROPE, MOBILE)
    assert amounts(played.offered()) == [0, 60 * SECOND, 0]
    assert amounts(played.short(SECOND, 15 * SECOND, 25 * SECOND)) == [300_000, 10 * SECOND, 20 * SECOND]
    played.held()
    played.answered()
    (charge,) = played.ended(18).charges
    assert [charge.amount_micros, *(use.amount_micros for use in charge.uses)] == [0, 10 * SECOND, 10 * SECOND]


def test_without_seconds_and_without_money_the_call_is_refused() -> None:
    """Seven seconds are no whole increment: nothing can be held."""
    played = Played(EUROPE)
    played.offered()
    effects = played.short(0, 7 * SECOND)
    assert effects[-1] == machine.Refuse(machine.REFUSALS[HoldCode.NO_MONEY])
    assert played.call.stage is Stage.ENDED


def test_a_slice_more_is_asked_of_the_bundle_while_all_was_paid_by_it() -> None:
    """Renewed at 40 s: two minutes of the bundle; another call has taken it, so the second minute is money."""
    played = Played(EUROPE)
    played.offered()
    played.held()
    played.answered()
    assert amounts(played.give(Tick(), 40)) == [0, 120 * SECOND]
    # 75 s are there, the 60 of this call included: one increment more, then 50 s of money.
    assert amounts(played.short(10 * SECOND, 75 * SECOND, at_s=40)) == [500_000, 70 * SECOND]
    played.held(40)
    assert (played.call.granted_s, played.call.exhausted) == (120, False)
    # From now on it is money, even if the bundle has seconds again: what was held decided the split.
    assert amounts(played.give(Tick(), 100)) == [1_100_000, 70 * SECOND]
    played.held(100)
    (charge,) = played.ended(125).charges
    # 130 s billed: 70 by the bundle, 60 in money.
    assert [charge.amount_micros, charge.uses[0].amount_micros, charge.billed_s] == [600_000, 70 * SECOND, 130]


def test_a_renewal_that_is_not_answered_changes_nothing() -> None:
    """No answer is neither yes nor no: the call goes on as it was held before, and asks again."""
    played = Played(EUROPE)
    played.offered()
    played.held()
    played.answered()
    played.give(Tick(), 40)
    assert played.give(HoldReplied(None), 42) == []
    assert (played.call.granted_s, played.call.terms.levels[0].caps_ms) == (60, (60_000,))
    assert amounts(played.give(Tick(), 43)) == [0, 120 * SECOND]


def test_another_call_that_is_faster_again_and_again_leaves_the_money() -> None:
    """Each answer says what is left; after four tries the call has what it had, and tries again at the last moment."""
    played = Played(EUROPE)
    played.offered()
    for left in (50, 40, 30):
        assert amounts(played.short(10 * SECOND, left * SECOND))[1] == left * SECOND
    assert played.short(10 * SECOND, 20 * SECOND)[-1] == machine.Refuse(machine.REFUSALS[HoldCode.NO_MONEY])


def test_nothing_is_held_of_a_bundle_that_has_expired() -> None:
    """It expires 30 s after the offer: the first minute is its own; the next slice is money."""
    played = Played(replace(EUROPE, expires_at=OFFERED + timedelta(seconds=30)))
    assert amounts(played.offered()) == [0, 60 * SECOND]
    played.held()
    played.answered()
    assert amounts(played.give(Tick(), 40)) == [600_000, 60 * SECOND]


def test_while_it_rings_the_most_that_any_answer_would_take_is_held() -> None:
    """By day tens, by night from 18:00 half minutes: of 45 s in the bundle 40 or 30 are used, the rest is money."""
    bands = (
        Band(When(from_s=6 * HOUR, to_s=18 * HOUR), (Step(0, Decimal("0.6"), 60, 10),)),
        Band(When(from_s=18 * HOUR, to_s=6 * HOUR), (Step(0, Decimal("1.2"), 60, 30),)),
    )
    played = Played(EUROPE, rate=replace(PLAIN, steps=(), bands=bands))
    played.offered()
    # Answered at once: 10 s by day, then a half minute to 40 s by the bundle, and one more: 0.60. At night: 30 s by it.
    money, seconds = amounts(played.short(10 * SECOND, 45 * SECOND))
    assert (money, seconds) == (600_000, 40 * SECOND)
    played.held()
    played.answered(15)
    (charge,) = played.ended(75).charges
    assert [charge.amount_micros, charge.uses[0].amount_micros] == [600_000, 30 * SECOND]


def test_another_controller_takes_the_split_from_the_hold() -> None:
    """The facts that lie with the hold name the bundles and how much of each is held."""
    played = Played(EUROPE, MOBILE)
    played.offered()
    played.short(10 * SECOND, 15 * SECOND, 25 * SECOND)
    facts = played.call.facts()
    played.held()
    taken = rebuild(facts)
    assert taken.terms == played.call.terms
    assert taken.terms.levels[0].caps_ms == (10_000, 20_000)
    assert taken.granted_s == 60
