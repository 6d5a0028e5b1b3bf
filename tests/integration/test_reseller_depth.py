"""Resellers of resellers: every level is held and charged at its own price, all of them or none, at any depth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from sqlmodel import select

from billing import accounts as tree
from billing import moves, tariffs
from billing.account_changes import Changes, change_account
from billing.accounts import set_status
from billing.cdrs import find_cdr
from billing.credit.embedded import EmbeddedServer
from billing.errors import NotFound, Refused
from billing.models import AccountKind, AccountStatus, LedgerTransaction, Posting, Tariff, TariffOwner, id_of
from billing.store import migrate, open_store, reading, work
from billing.transfers import transfer
from rating.tariff import Rate, Rounding, Step
from tests.fakes import FakeCall
from tests.integration.test_controller import CLOCK, House, build, decided, server

__all__ = ["server"]

EURO = 1_000_000
PRICES = {"four": "0.08", "three": "0.04", "two": "0.02", "one": "0.01"}
"""What a second costs whom: the customer of reseller three pays 8 cents, reseller one pays the operator 1 cent."""
MONEY = {"one": "5", "two": "2", "three": "1", "four": "0.5"}


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        yield built


@dataclass(frozen=True, slots=True)
class Chain:
    """Operator → one → two → three → four, who calls. Ids from the top."""

    one: int
    two: int
    three: int
    four: int

    def all(self) -> tuple[int, ...]:
        return (self.one, self.two, self.three, self.four)


def grow(house: House) -> Chain:
    """Each with a tariff of whoever stands above it, and with money."""
    ids: list[int] = []
    parent: str | None = None
    for name in ("one", "two", "three", "four"):
        kind = AccountKind.CUSTOMER if name == "four" else AccountKind.RESELLER
        rate = Rate("49", "Germany", Decimal(0), (Step(0, Decimal(PRICES[name]), 1, 1),), Rounding())
        with work(house.engine) as session:
            tariff = tariffs.add_tariff(
                session, name=f"for {name}", currency="EUR", rounding=Rounding(), actor="test", now=CLOCK.now()
            )
            if ids:
                session.add(TariffOwner(tariff_id=id_of(tariff), account_id=ids[-1]))
        with work(house.engine) as session:
            tariffs.import_rates(session, f"for {name}", [rate], actor="test", now=CLOCK.now())
        ids.append(house.account(name, parent=parent, kind=kind, tariff=f"for {name}"))
        # What each gets comes out of the one above: 3, 1, 0.50 and 0.50 are left.
        house.put_money(ids[-1], MONEY[name])
        parent = f"customer {name}"
    return Chain(*ids)


async def held(house: House, chain: Chain) -> list[int]:
    (hold,) = await house.credit.holds()
    by_account = {share.account_id: share.amount_micros for share in hold.shares}
    return [by_account[account_id] for account_id in chain.all()]


async def over(call: FakeCall) -> None:
    await asyncio.wait_for(call.over.wait(), 8)


async def test_four_levels_are_held_and_charged_each_at_its_price(house: House) -> None:
    """A slice of 2 s holds 2, 4, 8 and 16 cents; the end charges each level its own, and all balances add up."""
    chain = grow(house)
    before = [await house.balance(account_id) for account_id in chain.all()]
    await house.begin()
    call = await decided(house.switch.offer(1, "four", "+4930123"))
    assert call.admitted
    assert await held(house, chain) == [20_000, 40_000, 80_000, 160_000]
    house.switch.answer(call)
    await asyncio.sleep(0.6)
    house.switch.end(call)
    cdr = await house.record(call)
    with reading(house.engine) as session:
        _, charges = find_cdr(session, call.offer.call_id)
        seconds = charges[0].billed_s
        assert [(row.account_id, row.amount_micros) for row in charges] == [
            (chain.four, seconds * 80_000),
            (chain.three, seconds * 40_000),
            (chain.two, seconds * 20_000),
            (chain.one, seconds * 10_000),
        ]
        assert cdr.account_id == chain.four
    # Each reseller is paid by the one below it and pays the one above it.
    gains = [await house.balance(account_id) - was for account_id, was in zip(chain.all(), before, strict=True)]
    assert gains == [seconds * 10_000, seconds * 20_000, seconds * 40_000, -seconds * 80_000]
    await house.audit()


@pytest.mark.parametrize("lacking", ["one", "two", "three"])
async def test_a_level_without_money_stops_the_call_and_nothing_is_held(house: House, lacking: str) -> None:
    """Whichever reseller above cannot pay its part: refused, with nothing held in any wallet of the chain."""
    chain = grow(house)
    account_id = getattr(chain, lacking)
    with work(house.engine) as session:
        # All that it has goes to the one below it.
        below = chain.all()[chain.all().index(account_id) + 1]
        balance = await house.balance(account_id)
        transfer(session, account_id, below, balance, operation="out", actor="test", now=CLOCK.now())
    await house.begin()
    call = await decided(house.switch.offer(1, "four", "+4930123"))
    assert call.refused is not None
    assert call.refused.code == "no_money"
    assert await house.credit.holds() == []
    for one in chain.all():
        with reading(house.engine) as session:
            assert (
                session.exec(select(Posting).join(LedgerTransaction).where(LedgerTransaction.kind == "call")).all()
                == []
            )
        assert await house.credit.calls_of(one) == 0
    await house.record(call)
    await house.audit()


async def test_a_blocked_reseller_far_above_stops_the_call(house: House) -> None:
    """Three levels up is enough; its customers' customers' customers call no more."""
    chain = grow(house)
    with work(house.engine) as session:
        set_status(session, chain.one, AccountStatus.BLOCKED, actor="test", now=CLOCK.now())
    await house.begin()
    call = await decided(house.switch.offer(1, "four", "+4930123"))
    assert call.refused is not None
    assert call.refused.code == "inactive_account"


async def test_a_call_and_a_transfer_do_not_spend_the_same_cent(house: House) -> None:
    """While a call holds 8 cents of reseller three's 50, only 42 can be handed down; then the rest."""
    chain = grow(house)
    await house.begin()
    call = await decided(house.switch.offer(1, "four", "+4930123"))
    assert await held(house, chain) == [20_000, 40_000, 80_000, 160_000]

    async def hand_down(micros: int, operation: str) -> int:
        done = await moves.transfer(
            house.engine, house.credit, chain.three, chain.four, micros, operation=operation, actor="three", clock=CLOCK
        )
        return done.done.amount_micros

    before = await house.balance(chain.three)
    with pytest.raises(Refused, match="lacks"):
        await hand_down(before - 79_999, "t1")
    assert await house.balance(chain.three) == before
    assert await hand_down(before - 80_000, "t2") == before - 80_000
    house.switch.end(call)
    await house.record(call)
    assert await hand_down(80_000, "t3") == 80_000
    assert await house.balance(chain.three) == 0
    await house.audit()


def test_a_reseller_is_never_charged_by_its_own_tariff(tmp_path: Path) -> None:
    """Whatever its name: a tariff of three's own cannot be given to three, nor to two above it."""
    engine = open_store(f"sqlite:///{tmp_path / 'a.db'}")
    migrate(engine)
    now = CLOCK.now()
    with work(engine) as session:
        tree.add_operator(session, name="op", currency="EUR", actor="test", now=now)
        one = tree.add_account(session, name="one", kind=AccountKind.RESELLER, actor="test", now=now)
        tree.add_account(session, name="two", kind=AccountKind.RESELLER, parent="one", actor="test", now=now)
        session.add(own := Tariff(name="ones", currency="EUR"))
        session.flush()
        session.add(TariffOwner(tariff_id=id_of(own), account_id=id_of(one)))
    for account_id, allowed in ((2, False), (3, True)):
        try:
            with work(engine) as session:
                change_account(session, account_id, Changes(tariff="ones"), actor="test", now=now)
        except NotFound:
            assert not allowed
        else:
            assert allowed
    engine.dispose()
