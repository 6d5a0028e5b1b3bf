"""The state machine of a call: every order of events, doubled and lost ones, and the money each step asks for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from billing.cdrs import EndedCall
from billing.credit.store import Held, HoldCode, NotHeld
from callctl import call as machine
from callctl.call import Call, Commanded, HangupAsked, HoldReplied, Input, MoneyGrew, Policy, Stage, Tick, step
from callctl.recovery import rebuild
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction, Outcome
from callctl.terms import Level, Terms
from rating.tariff import Rate, Rounding, RoundingMode, Step

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
POLICY = Policy(slice_s=60, renew_before_s=20, last_try_s=1, ring_s=90)


def level(account_id: int, price: str, increment_s: int = 1, fee: str = "0") -> Level:
    rate = Rate(
        "49",
        "Germany",
        Decimal(fee),
        (Step(0, Decimal(price), 60, increment_s),),
        Rounding(RoundingMode.HALF_UP, 6),
    )
    return Level(account_id, f"account {account_id}", account_id * 10, 1, "EUR", "retail", 1, 1, rate)


class Played:
    """A call driven by hand, with a clock of its own."""

    def __init__(self, *levels: Level) -> None:
        self.call = Call("a:1", "a", Direction.OUTBOUND, "100", "111", "4930", T0, Terms(levels or (level(1, "0.60"),)))
        self.at_s = 0.0

    def give(self, given: Input, *, at_s: float | None = None) -> list[machine.Effect]:
        self.at_s = self.at_s if at_s is None else at_s
        now = T0 + timedelta(seconds=self.at_s)
        return step(self.call, given, mono=1000 + self.at_s, now=now, policy=POLICY)

    def offered(self) -> list[machine.Effect]:
        return self.give(CallOffered("a:1", T0, Direction.OUTBOUND, "100", "111", "4930"))

    def answered(self, at_s: float) -> list[machine.Effect]:
        return self.give(CallAnswered("a:1", T0 + timedelta(seconds=at_s)), at_s=at_s)

    def ended(self, at_s: float) -> EndedCall:
        (effect,) = self.give(CallEnded("a:1", T0 + timedelta(seconds=at_s), 16), at_s=at_s)
        assert isinstance(effect, machine.Finish)
        return effect.ended

    def talking(self, at_s: float = 0.0) -> None:
        self.offered()
        self.give(HoldReplied(Held()))
        self.answered(at_s)

    @property
    def wake_s(self) -> float | None:
        return None if self.call.wake_mono is None else self.call.wake_mono - 1000


def short(*available: int) -> HoldReplied:
    return HoldReplied(NotHeld(HoldCode.NO_MONEY, 0, available))


def amounts(effects: list[machine.Effect]) -> list[int]:
    (effect,) = effects
    assert isinstance(effect, machine.Hold | machine.Extend)
    return [share.amount_micros for share in effect.shares]


def test_money_is_held_before_the_phone_rings() -> None:
    """The first effect of an offer is the hold of one slice; the switch is told only when it stands."""
    played = Played()
    assert amounts(played.offered()) == [600_000]
    assert played.give(HoldReplied(Held())) == [machine.Admit(60, 90)]
    assert played.call.stage is Stage.RINGING


def test_every_level_of_the_chain_is_held_at_its_own_price() -> None:
    """The customer holds 0.60 and its reseller 0.40 for the same minute."""
    assert amounts(Played(level(1, "0.60"), level(2, "0.40")).offered()) == [600_000, 400_000]


def test_less_money_than_a_slice_buys_whole_increments() -> None:
    """0.25 at 0.60 a minute in steps of 6 s buys 24 s, held to the cent it costs."""
    played = Played(level(1, "0.60", increment_s=6))
    played.offered()
    assert amounts(played.give(short(250_000))) == [240_000]
    assert played.give(HoldReplied(Held())) == [machine.Admit(24, 90)]
    assert played.call.exhausted


def test_money_that_buys_not_even_one_increment_is_refused() -> None:
    """One cent does not buy a 60-second minimum: refused with 402, recorded, nothing held."""
    played = Played(level(1, "0.60", increment_s=60))
    played.offered()
    finish, refuse = played.give(short(10_000))
    assert isinstance(refuse, machine.Refuse)
    assert (refuse.refusal.code, refuse.refusal.sip_status) == ("no_money", 402)
    assert isinstance(finish, machine.Finish)
    assert (finish.ended.disposition, finish.ended.reason, finish.held) == ("refused", "no_money", True)
    assert played.call.stage is Stage.ENDED


def test_money_that_runs_away_between_tries_ends_in_a_refusal() -> None:
    """Other calls may take what was available a moment ago: after three tries it is refused."""
    played = Played()
    played.offered()
    played.give(short(300_000))
    played.give(short(200_000))
    _, refuse = played.give(short(100_000))
    assert isinstance(refuse, machine.Refuse)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (HoldCode.TOO_MANY_CALLS, "too_many_calls"),
        (HoldCode.TOO_FAST, "too_fast"),
        (HoldCode.INACTIVE, "inactive_account"),
        (HoldCode.UNKNOWN_WALLET, "unavailable"),
    ],
)
def test_what_the_credit_store_refuses_is_refused_with_its_reason(code: HoldCode, reason: str) -> None:
    """Limits and states of accounts are the credit store's word; the caller hears the matching status."""
    played = Played()
    played.offered()
    _, refuse = played.give(HoldReplied(NotHeld(code, 0, (0,))))
    assert isinstance(refuse, machine.Refuse)
    assert refuse.refusal.code == reason


def test_no_answer_from_the_credit_store_refuses_and_releases() -> None:
    """Fail closed; and since the hold may have been made, it is released."""
    played = Played()
    played.offered()
    finish, refuse = played.give(HoldReplied(None))
    assert isinstance(refuse, machine.Refuse)
    assert refuse.refusal.code == "unavailable"
    assert isinstance(finish, machine.Finish)
    assert finish.held


def test_a_call_is_priced_by_the_switchs_own_times() -> None:
    """Answered at 5 s, ended at 47.3 s: 42.3 s of talk are 43 s billed, whenever the events were read."""
    played = Played()
    played.talking(5)
    record = played.ended(47.3)
    assert (record.disposition, record.talk_ms, record.charges[0].billed_s) == ("answered", 42_300, 43)
    assert record.charges[0].amount_micros == 430_000


def test_an_unanswered_call_is_recorded_and_costs_nothing() -> None:
    """Busy, no answer, cancelled: one record with the switch's word for it, no charge."""
    played = Played()
    played.offered()
    played.give(HoldReplied(Held()))
    (effect,) = played.give(CallEnded("a:1", T0 + timedelta(seconds=9), 17, dial_status="busy"), at_s=9)
    assert isinstance(effect, machine.Finish)
    assert (effect.ended.disposition, effect.ended.charges, effect.held) == ("busy", (), True)


def test_the_grant_is_renewed_in_good_time() -> None:
    """20 s before the paid minute is over the next one is held, and the limit on the switch moves."""
    played = Played()
    played.talking()
    assert played.wake_s == 40
    assert amounts(played.give(Tick(), at_s=40)) == [1_200_000]
    assert played.give(HoldReplied(Held())) == [machine.SetLimit(80)]
    assert played.wake_s == 100


def test_a_late_tick_does_not_renew_twice() -> None:
    """The timer of a renewal that is done may still fire: it holds no second slice."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    played.give(HoldReplied(Held()))
    assert played.give(Tick(), at_s=40.01) == []
    assert played.call.granted_s == 120


def test_a_renewal_that_finds_less_gets_what_is_left() -> None:
    """With 0.75 in all the second slice is 15 s; a warning comes 10 s before the end, the last try one second."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    assert amounts(played.give(short(750_000))) == [750_000]
    assert played.give(HoldReplied(Held())) == [machine.SetLimit(35)]
    assert played.call.exhausted
    assert played.wake_s == 65
    assert played.give(Tick(), at_s=65) == [machine.Warn()]
    assert played.wake_s == 74


def test_a_renewal_that_finds_nothing_keeps_what_is_paid_for() -> None:
    """No more money: no new limit, one more try at the last moment, then the end is made sure of."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    assert played.give(short(600_000)) == []
    assert played.wake_s == 50
    assert played.give(Tick(), at_s=50) == [machine.Warn()]
    assert played.wake_s == 59
    assert amounts(played.give(Tick(), at_s=59)) == [1_200_000]
    assert played.give(short(600_000)) == []
    assert played.wake_s == pytest.approx(60.25)
    assert played.give(Tick(), at_s=60.25) == [machine.HangUp()]


def test_a_top_up_extends_a_call_that_is_running_out() -> None:
    """More money in the wallet is used at once, without waiting for the last try."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    played.give(short(600_000))
    assert amounts(played.give(MoneyGrew(), at_s=45)) == [1_200_000]
    assert played.give(HoldReplied(Held())) == [machine.SetLimit(75)]
    assert not played.call.exhausted


def test_more_money_does_not_touch_a_call_that_has_enough() -> None:
    """A wake for a call that is not short asks for nothing."""
    played = Played()
    played.talking()
    assert played.give(MoneyGrew(), at_s=5) == []


def test_the_milliseconds_after_the_limit_are_not_charged() -> None:
    """The switch ends a call some milliseconds late: cut at 60 s, 60.015 s of talk cost 60 s."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    played.give(short(600_000))
    record = played.ended(60.015)
    assert (record.talk_ms, record.billable_ms, record.charges[0].amount_micros) == (60_015, 60_000, 600_000)
    assert record.reason == "credit_exhausted"


def test_a_call_that_really_ran_over_is_charged_in_full() -> None:
    """Only milliseconds are forgiven: ten seconds beyond the grant are a debt, and told as it is."""
    played = Played()
    played.talking()
    assert played.ended(70).charges[0].amount_micros == 700_000


def test_doubled_and_late_events_change_nothing() -> None:
    """A second answer does not move the first; after the end nothing has an effect, not even a second end."""
    played = Played()
    played.talking(5)
    assert played.answered(9) == []
    record = played.ended(15)
    assert record.talk_ms == 10_000
    for late in (CallEnded("a:1", T0, 16), CallAnswered("a:1", T0), Tick(), MoneyGrew(), HoldReplied(Held())):
        assert played.give(late) == []


def test_an_answer_that_was_missed_is_learnt_from_the_end() -> None:
    """The switch tells the answer with the end: the call is charged as if the event had come."""
    played = Played()
    played.offered()
    played.give(HoldReplied(Held()))
    end = CallEnded("a:1", T0 + timedelta(seconds=30), 16, answered_at=T0 + timedelta(seconds=10))
    (effect,) = played.give(end, at_s=30)
    assert isinstance(effect, machine.Finish)
    assert effect.ended.charges[0].billed_s == 20


def test_a_hang_up_asked_for_is_recorded_with_its_reason() -> None:
    """Who ended it and why stands in the record; the end itself is the switch's to tell."""
    played = Played()
    played.talking()
    assert played.give(HangupAsked("hung_up_by_admin"), at_s=5) == [machine.HangUp()]
    assert played.ended(5.1).reason == "hung_up_by_admin"


@pytest.mark.parametrize("outcome", [Outcome.GONE, Outcome.UNKNOWN])
def test_a_command_that_was_not_done_is_looked_into(outcome: Outcome) -> None:
    """Gone or unanswered is no end: the switch is asked, nothing is settled by guessing."""
    played = Played()
    played.offered()
    (admit,) = played.give(HoldReplied(Held()))
    assert isinstance(admit, machine.Admit)
    assert played.give(Commanded(admit, outcome)) == [machine.Doubt()]
    assert played.call.stage is Stage.RINGING


def test_a_second_offer_of_the_same_call_asks_for_nothing() -> None:
    """Told twice, held once."""
    played = Played()
    played.offered()
    assert played.offered() == []


def test_a_free_call_holds_nothing_and_still_has_a_limit() -> None:
    """A price of zero needs no money; the deadline on the switch stands all the same."""
    played = Played(level(1, "0"))
    assert amounts(played.offered()) == [0]
    assert played.give(HoldReplied(Held())) == [machine.Admit(60, 90)]


def test_while_the_credit_store_is_silent_the_call_keeps_its_deadline() -> None:
    """No answer to a renewal: tried again each second until what is paid for is over, never extended unpaid."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    assert played.give(HoldReplied(None)) == []
    assert played.wake_s == 41
    assert not played.call.exhausted


def test_facts_make_the_same_call_again() -> None:
    """What lies with the hold is enough for another controller to take the call over."""
    played = Played(level(1, "0.60", increment_s=6, fee="0.05"), level(2, "0.40"))
    played.talking(3)

    again = rebuild(played.call.facts())
    assert (again.terms, again.granted_s, again.answered_at) == (played.call.terms, 60, T0 + timedelta(seconds=3))
    assert again.stage is Stage.TALKING


def test_a_call_is_cut_where_its_cost_limit_is_reached() -> None:
    """60 cents a minute and 45 cents a call: 45 s, however much money there is, and the record says why."""
    limited = replace(level(1, "0.60"), most_micros=450_000)
    played = Played(limited)
    (hold,) = played.offered()
    assert isinstance(hold, machine.Hold)
    assert hold.shares[0].amount_micros == 450_000
    played.give(HoldReplied(Held()))
    played.answered(0)
    assert played.call.granted_s == 45
    assert played.give(MoneyGrew(), at_s=10) == []
    assert rebuild(played.call.facts()).terms.levels[0].most_micros == 450_000
    ended = played.ended(45.2)
    assert (ended.reason, ended.charges[0].amount_micros) == ("call_cost_limit", 450_000)


def test_a_call_at_its_cost_limit_is_not_looked_at_in_circles() -> None:
    """That it ends here is found out at its last moment, too late for a warning: the next look is behind its end."""
    played = Played(replace(level(1, "0.60"), most_micros=450_000))
    played.talking()
    played.call.exhausted, played.call.wake_mono = False, 1044.0
    assert played.give(Tick(), at_s=44) == []
    assert (played.call.exhausted, played.wake_s) == (True, 45.25)


def test_a_call_whose_first_increment_costs_too_much_is_refused() -> None:
    """A minute is charged whole: where it costs more than a call may cost there is no call, and nothing is held."""
    played = Played(replace(level(1, "0.60", increment_s=60), most_micros=599_999))
    finish, refuse = played.offered()
    assert isinstance(refuse, machine.Refuse)
    assert refuse.refusal.code == "call_cost_limit"
    assert isinstance(finish, machine.Finish)
    assert not finish.held
    assert (finish.ended.disposition, finish.ended.charges) == ("refused", ())
