"""One account on an Asterisk and a FreeSWITCH at once: one wallet, one limit of calls, one controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import Engine

from billing import accounts, books, outbox, tariffs, topups
from billing.cdrs import list_cdrs
from billing.credit.embedded import EmbeddedServer, start_embedded
from billing.credit.live import LiveCalls
from billing.credit.store import CreditStore, connect
from billing.models import AccountKind, Cdr, IdentityKind
from billing.ports import SystemClock, SystemIds
from billing.settings import AsteriskSettings, ControlSettings, FreeswitchSettings
from billing.store import migrate, open_store, reading, work
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.simulator.asterisk import CONTROLLER, SimulatedAsterisk
from callctl.simulator.calls import SimulatedCall, SimulatedSwitch
from callctl.simulator.freeswitch import PASSWORD, SimulatedFreeswitch
from callctl.simulator.plans import CallPlan, Side
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.freeswitch import FreeSwitch
from rating.tariff import Rate, Rounding, RoundingMode, Step

CLOCK = SystemClock()
GERMANY, FRANCE = "4930123", "33123456"
"""A cent a second, by the second; and 60 cents a minute begun."""


@dataclass(slots=True)
class House:
    """Both switches, the controller before them, and the books behind."""

    engine: Engine
    credit: CreditStore
    controller: Controller
    asterisk: SimulatedAsterisk
    freeswitch: SimulatedFreeswitch
    calls: list[SimulatedCall] = field(default_factory=list)

    @property
    def both(self) -> tuple[SimulatedSwitch, SimulatedSwitch]:
        """The two switches."""
        return self.asterisk, self.freeswitch

    async def begin(self) -> None:
        """Let the controller look after both switches."""
        await self.controller.start()
        async with asyncio.timeout(10):
            while set(self.controller.watch.status.values()) != {"connected"}:  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.02)

    def account(self, code: str, money: str, **more: Any) -> int:
        """Add a customer whose telephones have this code, with that much money."""
        with work(self.engine) as session:
            identities = [(IdentityKind.ACCOUNT_CODE, code), *more.pop("identities", [])]
            account = accounts.add_account(
                session,
                name=code,
                kind=AccountKind.CUSTOMER,
                tariff="retail",
                identities=identities,
                actor="test",
                now=CLOCK.now(),
                **more,
            )
            assert account.id is not None
        self.put_money(account.id, money)
        return account.id

    def put_money(self, account_id: int, money: str) -> topups.TopUp:
        """Top up."""
        with work(self.engine) as session:
            return topups.top_up(
                session,
                account_id,
                int(Decimal(money) * 1_000_000),
                operation=SystemIds().new("topup"),
                actor="test",
                now=CLOCK.now(),
            )

    def place(self, switch: SimulatedSwitch, callee: str, *, code: str = "acme", **more: Any) -> SimulatedCall:
        """Let somebody call through one of the switches."""
        plan = CallPlan(code, "100", callee, **{"ring_s": 0.02, "talk_s": 30.0, **more})
        call = switch.place(plan)
        self.calls.append(call)
        return call

    async def decided(self) -> list[SimulatedCall]:
        """Wait until each call is admitted or refused; return those that are admitted."""
        async with asyncio.timeout(15):
            while any(call.facts.admitted_at is None and call.facts.refused_sip is None for call in self.calls):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return [call for call in self.calls if call.facts.admitted_at is not None]

    async def answered(self, *calls: SimulatedCall) -> None:
        """Wait until people talk."""
        async with asyncio.timeout(15):
            while any(call.facts.answered_at is None for call in calls):  # noqa: ASYNC110 - people tell nobody
                await asyncio.sleep(0.02)

    async def records(self) -> list[Cdr]:
        """Wait until each call has its record; return them. No call has two."""
        for call in self.calls:
            await asyncio.wait_for(call.over(), 20)
        for _ in range(300):
            with reading(self.engine) as session:
                found = list_cdrs(session, most=1000)
                session.expunge_all()
            if len(found) >= sum(len(call.attempts) for call in self.calls):
                break
            await asyncio.sleep(0.02)
        ids = [f"{name}:{call.call_id}" for name, call in self._named()]
        assert sorted(cdr.call_id for cdr in found) == sorted(ids)
        return list(found)

    def _named(self) -> Iterator[tuple[str, SimulatedCall]]:
        for call in self.calls:
            yield "asterisk" if call.floor is self.asterisk else "freeswitch", call

    def balance(self, account_id: int) -> int:
        """Return what an account owns, in micro-units."""
        with reading(self.engine) as session:
            return accounts.find_account(session, str(account_id)).balance_micros

    async def audit(self) -> None:
        """The books balance, Redis says the same, nothing is held any more, and no switch has a call or a deadline."""
        for _ in range(100):
            if not await self.credit.holds():
                break
            await asyncio.sleep(0.05)
        await outbox.drain(self.engine, self.credit, clock=CLOCK)
        with reading(self.engine) as session:
            report = books.check_store(session)
            held, findings = await books.check_credit(session, self.credit)
        assert (report.findings, findings, held) == ((), (), 0)
        assert (self.asterisk.channels, self.freeswitch.channels) == ({}, {})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    running = start_embedded(tmp_path_factory.mktemp("v"))
    yield running
    running.stop()


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    engine = stocked(tmp_path)
    redis = connect(server.url, timeout_s=2)
    credit, live = CreditStore(redis, prefix=tmp_path.name), LiveCalls(redis, prefix=tmp_path.name)
    async with (
        SimulatedAsterisk(clock=CLOCK, rng=Random(1)) as asterisk,
        SimulatedFreeswitch(clock=CLOCK, rng=Random(2), latency_s=0.02) as freeswitch,
    ):
        ami = AsteriskSettings(name="asterisk", port=asterisk.port, secret=SecretStr(CONTROLLER.secret))
        esl = FreeswitchSettings(name="freeswitch", port=freeswitch.port, password=SecretStr(PASSWORD))
        controller = Controller(
            [AsteriskSwitch(ami, clock=CLOCK, ids=SystemIds()), FreeSwitch(esl, clock=CLOCK, ids=SystemIds())],
            engine,
            credit,
            live,
            Journal(tmp_path / "journal.db"),
            ControlSettings(slice_s=2, renew_before_s=1.0, last_try_s=0.4, ring_s=5, resync_s=1.0),
            clock=CLOCK,
            ids=SystemIds(),
        )
        try:
            yield House(engine, credit, controller, asterisk, freeswitch)
        finally:
            await controller.stop()
            await redis.aclose()
            engine.dispose()


def stocked(folder: Path) -> Engine:
    """Return a store with an operator and a tariff."""
    engine = open_store(f"sqlite:///{folder / 'callctl.db'}")
    migrate(engine)
    rounding = Rounding(RoundingMode.HALF_UP, 6)
    rates = [
        Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.60"), 60, 1),), rounding),
        Rate("33", "France", Decimal(0), (Step(0, Decimal("0.60"), 60, 60),), rounding),
    ]
    with work(engine) as session:
        accounts.add_operator(session, name="operator", currency="EUR", actor="test", now=CLOCK.now())
        tariffs.add_tariff(session, name="retail", currency="EUR", rounding=rounding, actor="test", now=CLOCK.now())
        tariffs.import_rates(session, "retail", rates, actor="test", now=CLOCK.now())
    return engine


async def test_ten_calls_on_money_for_three_five_on_each(house: House) -> None:
    """Exactly three ring, whichever switch they are on; the wallet ends at zero, never below; ten records."""
    acme = house.account("acme", "1.80")
    await house.begin()
    for _ in range(5):
        for switch in house.both:
            house.place(switch, FRANCE, talk_s=0.2)
    admitted = await house.decided()
    assert len(admitted) == 3
    assert all(call.facts.refused_sip == 402 for call in house.calls if call not in admitted)
    records = await house.records()
    assert sorted(record.cost_micros for record in records) == [0] * 7 + [600_000] * 3
    assert {record.reason for record in records if not record.cost_micros} == {"no_money"}
    assert house.balance(acme) == 0
    await house.audit()


async def test_one_limit_of_calls_counts_both_switches(house: House) -> None:
    """Of ten calls at once three are admitted, the rest refused without a cent held; the limit is free again after."""
    acme = house.account("acme", "50", max_calls=3)
    await house.begin()
    for _ in range(5):
        for switch in house.both:
            house.place(switch, GERMANY)
    admitted = await house.decided()
    assert len(admitted) == 3
    assert len(await house.credit.holds()) == 3
    await house.answered(*admitted)
    for call in admitted:
        call.hang_up()
    records = await house.records()
    assert sorted(record.reason for record in records if record.disposition == "refused") == ["too_many_calls"] * 7
    again = [house.place(switch, GERMANY, talk_s=0.1) for switch in house.both]
    assert set(again) <= set(await house.decided())
    await house.records()
    spent = sum(record.cost_micros for record in await house.records())
    assert house.balance(acme) == 50_000_000 - spent
    await house.audit()


async def test_two_calls_share_a_wallet_to_the_last_cent(house: House) -> None:
    """A call on each switch lives on the same ten cents: both are cut, and together they cost ten cents."""
    acme = house.account("acme", "0.10")
    await house.begin()
    first, second = (house.place(switch, GERMANY) for switch in house.both)
    assert await house.decided() == [first, second]
    records = await house.records()
    assert {record.switch for record in records} == {"asterisk", "freeswitch"}
    assert {record.reason for record in records} == {"credit_exhausted"}
    assert sum(record.cost_micros for record in records) == 100_000
    assert house.balance(acme) == 0
    await house.audit()


async def test_a_top_up_makes_calls_on_both_longer(house: House) -> None:
    """Money that comes while people talk on both switches is talk time on both."""
    acme = house.account("acme", "0.06")
    await house.begin()
    calls = [house.place(switch, GERMANY) for switch in house.both]
    await house.answered(*calls)
    await asyncio.sleep(1.0)
    done = await asyncio.to_thread(house.put_money, acme, "0.08")
    await outbox.apply_now(house.engine, house.credit, done.applied, clock=CLOCK)
    records = await house.records()
    assert sum(record.cost_micros for record in records) == 140_000
    assert all(record.talk_ms > 3_500 for record in records)
    assert house.balance(acme) == 0
    await house.audit()


async def test_a_call_that_is_out_of_sight_keeps_its_money(house: House) -> None:
    """While the link to one switch is cut, the other goes on, and does not spend what the unseen call holds."""
    acme = house.account("acme", "1.20")
    await house.begin()
    [away] = [house.place(house.asterisk, FRANCE)]
    await house.answered(away)
    house.asterisk.cut_link(1.5)
    here = [house.place(house.freeswitch, FRANCE, talk_s=0.2) for _ in range(3)]
    admitted = await house.decided()
    assert len([call for call in here if call in admitted]) == 1
    assert not away.ended
    await asyncio.sleep(2.0)
    away.hang_up()
    records = await house.records()
    assert sorted(record.cost_micros for record in records) == [0, 0, 600_000, 600_000]
    assert house.balance(acme) == 0
    await house.audit()


@pytest.mark.parametrize("outward", ["asterisk", "freeswitch"])
async def test_a_call_from_one_switch_to_the_other_is_two_calls(house: House, outward: str) -> None:
    """Its way out is paid by the caller's account, its way in by the called one's, each once, on its own switch."""
    acme = house.account("acme", "5")
    bolt = house.account("bolt", "5", identities=[(IdentityKind.DID, GERMANY)])
    await house.begin()
    there, here = house.both if outward == "asterisk" else house.both[::-1]
    out = house.place(there, GERMANY, ring_s=0.6)
    async with asyncio.timeout(5):
        while out.attempts[0].leg is None:  # noqa: ASYNC110 - the trunk between them
            await asyncio.sleep(0.01)
    into = house.place(here, GERMANY, code="bolt", inbound=True, ring_s=0.1)
    await house.answered(out, into)
    await asyncio.sleep(0.3)
    into.hang_up(Side.CALLEE)
    out.hang_up(Side.CALLEE)
    records = {record.direction: record for record in await house.records()}
    assert (records["outbound"].account_id, records["inbound"].account_id) == (acme, bolt)
    assert records["outbound"].switch == outward != records["inbound"].switch
    assert [record.cost_micros for record in records.values()] == [10_000, 10_000]
    assert {record.hung_up_by for record in records.values()} == {"callee"}
    assert (house.balance(acme), house.balance(bolt)) == (4_990_000, 4_990_000)
    await house.audit()
