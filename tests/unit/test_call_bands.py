"""A call whose price depends on the time of its answer, and one that its tariff ends: holds, grants, charges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.cdrs import EndedCall, talk_of
from billing.credit.store import Held, HoldCode, NotHeld
from callctl import call as machine
from callctl.call import Call, HoldReplied, Input, Policy, Stage, Tick, step
from callctl.recovery import rebuild
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction
from callctl.terms import Level, Terms
from rating.pricing import cost_ms
from rating.tariff import Band, Conditions, Outside, Rate, Rounding, RoundingMode, Step, ThenWhat, When

OFFERED = datetime(2026, 1, 5, 17, 59, 50, tzinfo=UTC)
POLICY = Policy(slice_s=60, renew_before_s=20, last_try_s=1, ring_s=90)
HOUR = 3600


def steps(price: str, increment_s: int = 1) -> tuple[Step, ...]:
    return (Step(0, Decimal(price), 60, increment_s),)


def rate(day: str, night: str, *, increment_s: int = 1) -> Rate:
    """Return a rate of two bands: the day until 18:00, then the night."""
    return Rate(
        "49",
        "Germany",
        Decimal(0),
        (),
        Rounding(RoundingMode.HALF_UP, 6),
        bands=(
            Band(When(from_s=6 * HOUR, to_s=18 * HOUR), steps(day, increment_s)),
            Band(When(from_s=18 * HOUR, to_s=6 * HOUR), steps(night, increment_s)),
        ),
    )


OPEN_BY_DAY = replace(
    rate("0.60", "0"),
    bands=(Band(When(from_s=6 * HOUR, to_s=18 * HOUR), steps("0.60")),),
    conditions=Conditions(outside=Outside.CLOSED),
)
CUT_AT_ONE = replace(
    rate("0.60", "0"),
    bands=(),
    steps=steps("0.60"),
    conditions=Conditions(max_charge=Decimal(1), max_charge_then=ThenWhat.DISCONNECT),
)


class Played:
    """A call driven by hand; seconds count from its offer at 17:59:50."""

    def __init__(self, *rates: Rate, offered_at: datetime = OFFERED) -> None:
        levels = tuple(
            Level(number, f"account {number}", number * 10, 1, "EUR", "retail", 1, 1, each)
            for number, each in enumerate(rates, 1)
        )
        terms = Terms(levels).at(offered_at)
        self.offered_at = offered_at
        self.call = Call("a:1", "a", Direction.OUTBOUND, "100", "111", "4930", offered_at, terms)

    def give(self, given: Input, at_s: float = 0.0) -> list[machine.Effect]:
        now = self.offered_at + timedelta(seconds=at_s)
        return step(self.call, given, mono=1000 + at_s, now=now, policy=POLICY)

    def offered(self) -> list[machine.Effect]:
        return self.give(CallOffered("a:1", self.offered_at, Direction.OUTBOUND, "100", "111", "4930"))

    def answered(self, at_s: float) -> list[machine.Effect]:
        return self.give(CallAnswered("a:1", self.offered_at + timedelta(seconds=at_s)), at_s)

    def ended(self, at_s: float) -> EndedCall:
        (effect,) = self.give(CallEnded("a:1", self.offered_at + timedelta(seconds=at_s), 16), at_s)
        assert isinstance(effect, machine.Finish)
        return effect.ended


def held(effect: machine.Effect) -> list[int]:
    assert isinstance(effect, machine.Hold | machine.Extend)
    return [share.amount_micros for share in effect.shares]


def test_the_hold_pays_for_the_dearer_band_that_may_be_answered_in() -> None:
    """Offered at 17:59:50 by day at 0.60, the phone may ring into the night at 1.20: a minute of the night is held."""
    played = Played(rate("0.60", "1.20"))
    (hold,) = played.offered()
    assert held(hold) == [1_200_000]
    assert played.give(HoldReplied(Held())) == [machine.Admit(60, 90)]
    # Answered at 18:00:05: the hold is exact, nothing more is asked for.
    assert played.answered(15) == [machine.Note(60)]
    ended = played.ended(75)
    assert ended.charges[0].amount_micros == 1_200_000


def test_the_hold_is_kept_where_the_band_that_comes_is_cheaper() -> None:
    """Offered by day at 0.60, answered at 18:00:05 in the night at 0.30: held 0.60 at most, charged what it costs."""
    played = Played(rate("0.60", "0.30"))
    (hold,) = played.offered()
    # Answered at once, the call would have ten seconds of the day and fifty of the night.
    assert held(hold) == [350_000]
    played.give(HoldReplied(Held()))
    assert played.answered(15) == [machine.Note(60)]
    assert played.ended(75).charges[0].amount_micros == 300_000


def test_the_next_slice_is_held_at_the_true_price() -> None:
    """Once the time of the answer is known the renewal asks for exactly what two minutes cost from then on."""
    played = Played(rate("0.60", "0.30"))
    played.offered()
    played.give(HoldReplied(Held()))
    played.answered(5)
    (extend,) = played.give(Tick(), 45)
    # Answered at 17:59:55: five seconds of the day, 115 of the night.
    assert held(extend) == [50_000 + 575_000]


def test_an_answer_in_a_dearer_band_than_was_thought_shortens_the_grant_until_the_money_is_held() -> None:
    """Rung longer than was allowed for: at 18:00:05 the hold of 0.60 pays for 30 s only; the rest is asked for."""
    played = Played(rate("0.60", "1.20"))
    played.offered()
    # The hold was made for the day alone.
    played.call.terms = played.call.terms.at(OFFERED - timedelta(minutes=5))
    played.give(HoldReplied(Held()))
    limit, extend = played.answered(15)
    assert limit == machine.SetLimit(30)
    assert held(extend) == [1_200_000]
    assert played.call.granted_s == 30
    (limit,) = played.give(HoldReplied(Held()), 15)
    assert limit == machine.SetLimit(60)
    assert (played.call.granted_s, played.call.exhausted) == (60, False)


def test_an_answer_in_a_dearer_band_without_money_ends_with_what_was_held() -> None:
    """No more money: the call ends after the thirty seconds that are paid for, and costs no more than was held."""
    played = Played(rate("0.60", "1.20"))
    played.offered()
    played.call.terms = played.call.terms.at(OFFERED - timedelta(minutes=5))
    played.give(HoldReplied(Held()))
    played.answered(15)
    assert played.give(HoldReplied(NotHeld(HoldCode.NO_MONEY, 0, (600_000,))), 15) == []
    assert (played.call.granted_s, played.call.exhausted) == (30, True)
    assert played.give(Tick(), 45.5) == [machine.HangUp()]
    ended = played.ended(45.6)
    assert (ended.charges[0].amount_micros, ended.reason) == (600_000, "credit_exhausted")


def test_money_that_reaches_in_one_band_only_is_refused_where_the_other_may_come() -> None:
    """0.70 pays for an increment by day and not by night: it is not known which, so the call is refused."""
    played = Played(rate("0.60", "1.20", increment_s=60))
    played.offered()
    _, refuse = played.give(HoldReplied(NotHeld(HoldCode.NO_MONEY, 0, (700_000,))))
    assert isinstance(refuse, machine.Refuse)
    assert refuse.refusal.code == "no_money"


def test_every_level_is_held_at_its_own_dearest_time() -> None:
    """A reseller whose dear band is the day and a customer whose dear band is the night: each for its own."""
    played = Played(rate("0.60", "1.20"), rate("0.50", "0.20"))
    (hold,) = played.offered()
    # The reseller: ten seconds of the day, fifty of the night; a call that is answered later costs less.
    assert held(hold) == [1_200_000, 83_333 + 166_667]


def test_a_charge_keeps_the_time_of_the_answer_and_prices_again_the_same() -> None:
    """Answered at 17:59:55, ended 20 s later: five seconds of the day, fifteen of the night."""
    played = Played(rate("0.60", "1.20"))
    played.offered()
    played.give(HoldReplied(Held()))
    played.answered(5)
    (charge,) = played.ended(25).charges
    assert (charge.amount_micros, charge.billed_s) == (350_000, 20)
    assert charge.facts["answered_at"] == "2026-01-05T17:59:55+00:00"
    assert cost_ms(Rate.from_facts(charge.facts["rate"]), *talk_of(charge.facts)) == (350_000, 20_000)


@pytest.mark.parametrize("answered", [False, True])
def test_a_controller_that_takes_the_call_over_knows_its_times(answered: bool) -> None:
    """The facts of the hold carry the times that its money was worked out for."""
    played = Played(rate("0.60", "1.20"))
    played.offered()
    played.give(HoldReplied(Held()))
    if answered:
        played.answered(15)
    again = rebuild(played.call.facts())
    assert again.terms == played.call.terms
    assert again.terms.shares(60) == played.call.terms.shares(60)


# -- tariffs that end calls --------------------------------------------------------------------------------------------


def test_a_call_ends_when_its_tariff_closes() -> None:
    """Offered at 17:59:00, answered at once: granted the 60 s until 18:00, renewed no further, and hung up then."""
    played = Played(OPEN_BY_DAY, offered_at=OFFERED - timedelta(seconds=80))
    assert held(played.offered()[0]) == [600_000]
    played.give(HoldReplied(Held()))
    played.answered(0)
    assert held(played.give(Tick(), 40)[0]) == [900_000]
    played.give(HoldReplied(Held()), 40)
    assert played.call.granted_s == 90
    assert played.give(Tick(), 70) == []
    assert played.give(Tick(), 80) == [machine.Warn()]
    assert played.give(Tick(), 89) == []
    assert played.give(Tick(), 90.3) == [machine.HangUp()]
    ended = played.ended(90.4)
    assert (ended.charges[0].amount_micros, ended.reason) == (900_000, "tariff_limit")


def test_a_call_answered_after_closing_is_ended_at_once_and_free() -> None:
    """Offered at 17:59:50 and answered at 18:00:05: there is no price, so there is no talk."""
    played = Played(OPEN_BY_DAY)
    assert held(played.offered()[0]) == [100_000]
    assert played.give(HoldReplied(Held())) == [machine.Admit(10, 90)]
    limit, _ = played.answered(15)
    assert limit == machine.SetLimit(0.1)
    assert played.give(Tick(), 15.3) == [machine.HangUp()]
    ended = played.ended(15.4)
    assert [charge.amount_micros for charge in ended.charges] == [0]


def test_a_call_is_cut_at_its_highest_charge() -> None:
    """At 0.60 a minute 1.00 is reached after 100 s: no more is granted or charged, however late the switch is."""
    played = Played(CUT_AT_ONE)
    assert held(played.offered()[0]) == [600_000]
    played.give(HoldReplied(Held()))
    played.answered(0)
    assert held(played.give(Tick(), 40)[0]) == [1_000_000]
    assert played.give(HoldReplied(Held()), 40) == [machine.SetLimit(60)]
    assert played.give(Tick(), 80) == []
    ended = played.ended(130)
    assert (ended.charges[0].amount_micros, ended.charges[0].facts["billable_s"]) == (1_000_000, 100)


def test_a_tariff_that_lets_no_call_last_refuses() -> None:
    """A highest charge below the first increment grants no second: refused, nothing held."""
    played = Played(replace(CUT_AT_ONE, conditions=replace(CUT_AT_ONE.conditions, max_charge=Decimal("0.001"))))
    finish, refuse = played.offered()
    assert isinstance(refuse, machine.Refuse)
    assert refuse.refusal.code == "closed"
    assert isinstance(finish, machine.Finish)
    assert (finish.held, finish.ended.disposition) == (False, "refused")
    assert played.call.stage is Stage.ENDED
