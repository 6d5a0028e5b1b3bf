"""A call we are ending ourselves: asked again until its end is heard, and never in circles."""

from __future__ import annotations

from callctl import call as machine
from callctl.call import HangupAsked, Tick
from tests.unit.test_call import Played


def test_a_hang_up_that_nobody_heard_is_asked_for_again() -> None:
    """Each look at a call that should be over asks for its end once more, and the next look is a second later."""
    played = Played()
    played.talking()
    assert played.wake_s == 40
    assert played.give(HangupAsked("hung_up_by_admin"), at_s=10) == [machine.HangUp()]
    assert played.give(Tick(), at_s=40) == [machine.HangUp()]
    assert played.wake_s == 41
    assert played.give(Tick(), at_s=41) == [machine.HangUp()]
    assert played.wake_s == 42
