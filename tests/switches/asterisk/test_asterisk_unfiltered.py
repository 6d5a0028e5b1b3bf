"""An operator who left out the event filter: the controller hears the forged events and still believes none of them."""

from __future__ import annotations

import pytest

from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.asterisk.test_asterisk_hostile import attack
from tests.switches.real.world import World

pytestmark = [
    pytest.mark.parametrize("real", ["asterisk"], indirect=True, scope="session"),
    pytest.mark.asterisk,
    pytest.mark.asyncio(loop_scope="module"),
]


async def test_forged_events_on_an_unfiltered_link(own_world: World) -> None:
    """With every event of Asterisk on its link the controller asks the switch before it believes any of them."""
    assert isinstance(own_world.lab, AsteriskLab)
    own_world.login = own_world.lab.observer
    await own_world.start_controller()
    await attack(own_world, "from")
