"""Whatever the order of events, a call ends once, is never extended unpaid, and is never charged beyond its grant."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from billing.credit.store import Held, HoldCode, NotHeld
from callctl import call as machine
from callctl.call import Commanded, HangupAsked, HoldReplied, Input, MoneyGrew, Stage, Tick
from callctl.records import OVERRUN_MS
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction, Outcome
from tests.unit.test_call import T0, Played, level

moments = st.floats(0, 400).map(lambda at: T0 + timedelta(seconds=at))
replies = st.one_of(
    st.just(HoldReplied(Held())),
    st.just(HoldReplied(None)),
    st.builds(
        lambda code, money: HoldReplied(NotHeld(code, 0, (money,))),
        st.sampled_from(list(HoldCode)),
        st.integers(-1_000_000, 3_000_000),
    ),
)
inputs: st.SearchStrategy[Input] = st.one_of(
    st.builds(lambda at: CallAnswered("a:1", at), moments),
    st.builds(lambda at, answered: CallEnded("a:1", at, 16, answered_at=answered), moments, st.none() | moments),
    replies,
    replies,
    st.just(Tick()),
    st.just(MoneyGrew()),
    st.just(HangupAsked("x")),
    st.just(CallOffered("a:1", T0, Direction.OUTBOUND, "100", "1", "49")),
    st.builds(lambda outcome: Commanded(machine.SetLimit(1.0), outcome), st.sampled_from(list(Outcome))),
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["0", "0.60", "0.61"]),
    st.sampled_from([1, 6, 60]),
    st.lists(st.tuples(inputs, st.floats(0, 30)), max_size=25),
)
def test_any_order_of_events(price: str, increment_s: int, story: list[tuple[Input, float]]) -> None:
    """One end at most; a grant only ever grows by a hold that stood; the limit never passes what the hold pays for."""
    played = Played(level(1, price, increment_s))
    finishes, paid_s, asked_s = 0, 0, 0
    for given_input, later_s in [(CallOffered("a:1", T0, Direction.OUTBOUND, "100", "1", "49"), 0.0), *story]:
        before = played.call.stage
        asked_s = played.call.wanted_s
        effects = played.give(given_input, at_s=played.at_s + later_s)
        if isinstance(given_input, HoldReplied) and isinstance(given_input.result, Held):
            paid_s = max(paid_s, asked_s)
        for effect in effects:
            match effect:
                case machine.Finish():
                    finishes += 1
                    billed = [charge.billed_s for charge in effect.ended.charges]
                    over_ms = effect.ended.talk_ms - paid_s * 1000
                    # A call that was never granted anything and yet was answered is charged what it cost.
                    assert not billed or not paid_s or over_ms > OVERRUN_MS or billed[0] <= paid_s
                case machine.Admit():
                    assert effect.grant_s <= paid_s
                case machine.SetLimit():
                    end_s = played.call.answered_mono - 1000 + paid_s
                    assert played.at_s + effect.left_s <= max(end_s, played.at_s + 0.1) + 1e-6
                case _:
                    pass
        if before is Stage.ENDED:
            assert effects == []
    assert finishes <= 1
    assert (played.call.stage is Stage.ENDED) == (finishes == 1)
