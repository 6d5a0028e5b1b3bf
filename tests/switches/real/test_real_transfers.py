"""Transfers: whoever leaves, the carrier legs that live on stay charged, limited and on record."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.switches.real.scenarios import Carrier, number
from tests.switches.real.ua import Telephone
from tests.switches.real.world import PER_SECOND, World, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_blind_transfer_by_the_caller(world: World) -> None:
    """The caller sends the callee on to a third party and leaves: both carrier legs are charged to their own ends."""
    one = await world.customer("1")
    first, second = (
        number("49", Carrier.ANSWERS, target="4101"),
        number("49", Carrier.HANGS_UP, tenths=15, target="4102"),
    )
    run = await world.call(one, first, refer_to=second, refer_ms=1200)
    assert run.only.first("REFER") is not None
    kept, added = await world.cdrs(one, 2)
    assert (kept.callee, added.callee) == (first, second)
    assert (kept.disposition, added.disposition) == ("answered", "answered")
    assert 2600 <= kept.talk_ms <= 3400
    assert 1400 <= added.talk_ms <= 2000
    assert (kept.cost_micros, added.cost_micros) == (3 * PER_SECOND, 2 * PER_SECOND)
    # The two legs are joined and end together: their hangup handlers run side by side.
    assert kept.ended_at >= added.ended_at - timedelta(milliseconds=50)
    assert world.balance(one) == 1_000_000 - 5 * PER_SECOND


async def test_what_lives_on_after_a_transfer_is_limited(world: World) -> None:
    """After the caller has left, the money still ends the legs that live on."""
    one = await world.customer("0.08")
    first, second = number("49", Carrier.ANSWERS, target="4103"), number("49", Carrier.ANSWERS, target="4104")
    await world.call(one, first, refer_to=second, refer_ms=1000)
    cdrs = await world.cdrs(one, 2)
    for called in (first, second):
        dialog = world.carrier.dialogs(called)[0]
        assert not dialog.bye_sent
        assert dialog.talk_s < 8
    assert "credit_exhausted" in {cdr.reason for cdr in cdrs}
    assert sum(cdr.cost_micros for cdr in cdrs) <= 80_000
    assert world.balance(one) == 80_000 - sum(cdr.cost_micros for cdr in cdrs) >= 0


async def test_blind_transfer_by_the_callee(world: World) -> None:
    """The callee sends the caller on: the first leg ends there, the second is a call of its own of the same account."""
    one = await world.customer("1")
    second = number("49", Carrier.HANGS_UP, tenths=12, target="05")
    first = number("49", Carrier.TRANSFERS, tenths=8, target=second)
    run = await world.call(one, first)
    assert not run.only.bye_sent
    kept, added = await world.cdrs(one, 2)
    assert (kept.callee, added.callee) == (first, second)
    assert added.call_id.startswith(f"{kept.call_id}~")
    assert 700 <= kept.talk_ms <= 1300
    assert 1100 <= added.talk_ms <= 1700
    assert kept.ended_at <= added.ended_at
    charged = sum(-(-cdr.talk_ms // 1000) for cdr in (kept, added)) * PER_SECOND
    assert world.balance(one) == 1_000_000 - charged


async def test_transfer_to_where_nobody_may_call(world: World) -> None:
    """A transfer is no way around the rules: its target is refused, recorded, and never rings."""
    one = await world.customer("1")
    first, second = number("49", Carrier.ANSWERS, target="4106"), "8821000009"
    await world.call(one, first, refer_to=second, refer_ms=800)
    kept, refused = await world.cdrs(one, 2)
    assert (kept.disposition, refused.disposition, refused.reason) == ("answered", "refused", "barred_destination")
    assert world.carrier.dialogs(second) == ()
    assert refused.cost_micros == 0


async def test_attended_transfer(world: World) -> None:
    """A telephone joins its two calls and leaves: both carrier legs go on, charged and limited, until they end."""
    one = await world.customer("1")
    first, second = (
        number("49", Carrier.ANSWERS, target="4107"),
        number("49", Carrier.HANGS_UP, tenths=40, target="4108"),
    )
    telephone = await Telephone((one.endpoint.host, 5060), world.lab.sip).open()
    try:
        a = await telephone.call(first)
        b = await telephone.call(second)
        await telephone.attended_transfer(a, b)
        legs = await world.observer.limits(one.endpoint.account_code)
        assert sorted(legs) == sorted([first, second])
        # Asterisk drops a limit where the transfer comes within milliseconds of the answer; the other leg, without
        # which it cannot go on, keeps its own, and the end of the caller's channel puts the lost one back.
        assert any(0 < left <= 6 for left in legs.values())

        async def all_limited() -> bool:
            return all(0 < left <= 6 for left in (await world.observer.limits(one.endpoint.account_code)).values())

        await until(all_limited, "both legs limited", timeout_s=1.0)

        async def both_shown() -> bool:
            return len(await world.live.list(account_id=one.account_id)) == 2

        await until(both_shown, "both legs on the board", timeout_s=2.0)
    finally:
        telephone.close()
    kept, added = await world.cdrs(one, 2)
    assert (kept.callee, added.callee) == (first, second)
    assert 3900 <= added.talk_ms <= 4600
    assert kept.talk_ms >= added.talk_ms
    charged = sum(-(-cdr.talk_ms // 1000) for cdr in (kept, added)) * PER_SECOND
    assert world.balance(one) == 1_000_000 - charged
