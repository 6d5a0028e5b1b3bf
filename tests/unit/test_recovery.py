"""What follows from a look at a switch: each way in which it, we and the holds can disagree."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from billing.credit.store import Held, OpenHold, Share
from callctl.call import Call, Commanded, HoldReplied, SetLimit, Stage, Tick
from callctl.recovery import Plan, compare, end_of_vanished, rebuild
from callctl.switches.base import Direction, LiveCall, Outcome, SwitchRecord
from tests.unit.test_call import Played

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def live(call_id: str, *, waiting: bool = False, answered: bool = True, limit_s: float | None = 30.0) -> LiveCall:
    return LiveCall(call_id, waiting, Direction.OUTBOUND, "100", "1", "49", T0 if answered else None, limit_s)


def hold(call_id: str, *, finished: bool = False) -> OpenHold:
    return OpenHold(call_id, (Share(1, 1, 5),), 0, finished, "{}")


def known(call_id: str, *, touched: float = 0.0, stage: Stage = Stage.TALKING) -> Call:
    played = Played()
    played.call.call_id, played.call.switch = call_id, call_id.partition(":")[0]
    played.call.touched_mono, played.call.stage = touched, stage
    return played.call


def look(
    *seen: LiveCall, calls: tuple[Call, ...] = (), holds: tuple[OpenHold, ...] = (), ended: tuple[str, ...] = ()
) -> Plan:
    return asyncio.run(compare("a", seen, {call.call_id: call for call in calls}, holds, ended, asked_mono=100.0))


def test_nothing_to_do_where_all_agree() -> None:
    """A live call that we know, with its hold and its deadline, is left alone."""
    assert look(live("a:1"), calls=(known("a:1"),), holds=(hold("a:1"),)) == Plan()


async def test_calls_come_and_go_while_they_are_compared() -> None:
    """There may be fifty thousand, and all else goes on meanwhile: who came since is not missed, nor who is gone."""
    calls = {f"a:{number}": known(f"a:{number}") for number in range(1_000)}
    ended: dict[str, None] = {}
    turns = 0

    async def go_on() -> None:
        nonlocal turns
        for turns in range(1_000):
            del calls[f"a:{turns}"]
            ended[f"a:{turns}"] = None
            calls[f"a:new{turns}"] = known(f"a:new{turns}", touched=100.0)
            await asyncio.sleep(0)

    others = asyncio.create_task(go_on())
    seen = [live(call_id) for call_id in calls if call_id != "a:999"]
    plan = await compare("a", seen, calls, [hold("a:998"), hold("a:1")], ended, asked_mono=100.0)
    others.cancel()
    assert turns >= 5
    assert plan == Plan(vanished=["a:999"])


def test_a_live_call_nobody_knows_is_adopted_with_its_hold() -> None:
    """Left by a controller that died; without a hold where Redis lost it."""
    assert look(live("a:1"), holds=(hold("a:1"),)).adopt == [(live("a:1"), hold("a:1"))]
    assert look(live("a:1")).adopt == [(live("a:1"), None)]


def test_a_waiting_offer_is_offered_again() -> None:
    """Its event went by while nobody listened; one refused unheard is refused again."""
    assert look(live("a:1", waiting=True)).offers == [live("a:1", waiting=True)]
    assert look(live("a:1", waiting=True), ended=("a:1",)).offers == [live("a:1", waiting=True)]


def test_an_admission_the_switch_never_got_is_sent_again() -> None:
    """We think it rings, the switch still waits."""
    plan = look(live("a:1", waiting=True), calls=(known("a:1", stage=Stage.RINGING),), holds=(hold("a:1"),))
    assert plan.readmit == ["a:1"]


def test_an_answer_that_was_missed_is_learnt() -> None:
    """The switch knows when it was answered."""
    plan = look(live("a:1"), calls=(known("a:1", stage=Stage.RINGING),), holds=(hold("a:1"),))
    assert plan.answered == [("a:1", T0)]


def test_a_call_without_a_deadline_gets_one() -> None:
    """No live call without a limit on the switch."""
    assert look(live("a:1", limit_s=None), calls=(known("a:1"),)).unlimited == ["a:1"]


def test_a_call_that_rings_needs_no_deadline_yet() -> None:
    """It gets one with the answer, from the admission."""
    ringing = known("a:1", stage=Stage.RINGING)
    assert look(live("a:1", answered=False, limit_s=None), calls=(ringing,), holds=(hold("a:1"),)) == Plan()


def test_a_settled_call_that_lives_is_a_ghost() -> None:
    """Nobody pays for it any more."""
    assert look(live("a:1"), ended=("a:1",)).ghosts == ["a:1"]


def test_a_call_that_is_gone_has_vanished_unless_it_moved_since() -> None:
    """What we learnt after the question was asked is newer than the answer."""
    assert look(calls=(known("a:1"),)).vanished == ["a:1"]
    assert look(calls=(known("a:1", touched=100.5),)).vanished == []


def test_a_hold_that_nobody_owns_is_an_orphan() -> None:
    """Not live, not ours, not being settled; finished holds wait for their posting, other switches' are not ours."""
    assert look(holds=(hold("a:1"),)).orphans == [hold("a:1")]
    assert look(holds=(hold("a:1", finished=True), hold("b:1"))) == Plan()
    assert look(holds=(hold("a:1"),), ended=("a:1",)) == Plan()


def test_another_switchs_calls_are_not_compared() -> None:
    """An empty answer of one switch says nothing about another."""
    assert look(calls=(known("b:1"),)) == Plan()


def test_the_switchs_own_record_is_believed() -> None:
    """Its times are exact, so the call is no estimate."""
    call = known("a:1")
    call.answered_at, call.granted_s = None, 60
    record = SwitchRecord("a:1", T0, T0 + timedelta(seconds=9), 16)
    end = end_of_vanished(call, record, now=T0 + timedelta(hours=1))
    assert (end.answered_at, end.at, call.estimated) == (T0, T0 + timedelta(seconds=9), False)


def test_without_a_record_the_last_paid_second_is_the_end() -> None:
    """An estimate never goes beyond what was held, nor beyond now; an answer nobody knows of costs nothing."""
    call = known("a:1")
    call.answered_at, call.granted_s = T0, 60
    assert end_of_vanished(call, None, now=T0 + timedelta(hours=1)).at == T0 + timedelta(seconds=60)
    assert end_of_vanished(call, None, now=T0 + timedelta(seconds=20)).at == T0 + timedelta(seconds=20)
    assert call.estimated
    half = SwitchRecord("a:1", T0, None, 0)
    call.answered_at, call.estimated = None, False
    end = end_of_vanished(call, half, now=T0 + timedelta(hours=1))
    assert (end.answered_at, end.at, call.estimated) == (T0, T0 + timedelta(seconds=60), True)
    call.answered_at = None
    assert end_of_vanished(call, None, now=T0).answered_at is None


def test_time_that_the_switch_was_never_told_of_is_not_estimated() -> None:
    """It was held, but the switch did not take the new limit: the call cannot have talked so long."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    (limit,) = played.give(HoldReplied(Held()))
    assert isinstance(limit, SetLimit)
    played.give(Commanded(limit, Outcome.GONE))
    assert played.call.granted_s == 120
    end = end_of_vanished(played.call, None, now=T0 + timedelta(hours=1))
    assert end.at == T0 + timedelta(seconds=60)


def test_a_limit_on_its_way_is_estimated_once_the_switch_has_taken_it() -> None:
    """Until then nobody can say that it was heard: the switch may be gone."""
    played = Played()
    played.talking()
    played.give(Tick(), at_s=40)
    (limit,) = played.give(HoldReplied(Held()))
    assert isinstance(limit, SetLimit)
    late = T0 + timedelta(hours=1)
    assert end_of_vanished(played.call, None, now=late).at == T0 + timedelta(seconds=60)
    assert played.give(Commanded(limit, Outcome.DONE)) == []
    assert end_of_vanished(played.call, None, now=late).at == T0 + timedelta(seconds=120)


def test_a_switch_whose_clock_is_ahead_ends_no_call_before_its_answer() -> None:
    """Whatever our own clock says, an estimate is never shorter than nothing."""
    call = known("a:1")
    call.answered_at, call.granted_s = T0, 60
    assert end_of_vanished(call, None, now=T0 - timedelta(hours=1)).at == T0


@pytest.mark.parametrize("facts", ["", "{}", "[]", "null", json.dumps({"call_id": 1})])
def test_facts_that_cannot_be_read_are_an_error_with_a_name(facts: str) -> None:
    """A hold from another version or a broken one never crashes recovery."""
    with pytest.raises(ValueError, match="facts of a hold"):
        rebuild(facts)
