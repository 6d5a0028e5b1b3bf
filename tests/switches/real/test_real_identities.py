"""Who pays on a real switch: by the endpoint's name and by the address on the socket, as docs/accounts.md says."""

from __future__ import annotations

import pytest

from billing.models import IdentityKind
from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.world import PER_SECOND, World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("by", ["user", "address"])
async def test_a_call_without_an_account_code_is_paid_by_whom_the_dialplan_names(world: World, by: str) -> None:
    """The endpoint's name or its network names the payer; before anybody has it, the caller hears 403."""
    endpoint = world.lab.by_user if by == "user" else world.lab.by_address
    called = number("49", Carrier.ANSWERS, target="1301" if by == "user" else "1302")
    before = await world.call(endpoint, called, hold_ms=500)
    assert before.only.final == 403
    kind, value = (
        (IdentityKind.SIP_USER, endpoint.account_code)
        if by == "user"
        else (IdentityKind.SOURCE_ADDRESS, f"{endpoint.host}/31")
    )
    one = await world.customer("1", endpoint=endpoint, identities=[(kind, value)])
    run = await world.call(one, called, hold_ms=1200)
    assert run.only.final == 200
    cdr = await world.cdr(one)
    assert (cdr.disposition, cdr.account_id, cdr.cost_micros) == ("answered", one.account_id, 2 * PER_SECOND)
    assert world.balance(one) == 1_000_000 - 2 * PER_SECOND
