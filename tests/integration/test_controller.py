"""The controller with a switch in memory, a real Redis-compatible server and SQLite: calls, money, crashes, links."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Engine

from billing import accounts, books, outbox, tariffs, topups
from billing.cdrs import find_cdr, list_cdrs
from billing.credit.embedded import EmbeddedServer, start_embedded
from billing.credit.live import HangupRequest, LiveCalls
from billing.credit.store import CreditStore, connect
from billing.models import AccountKind, Cdr, IdentityKind
from billing.ports import SystemClock, SystemIds
from billing.settings import ControlSettings, PinSettings
from billing.store import migrate, open_store, reading, work
from callctl.controller import Controller, end_tasks
from callctl.journal import Journal
from callctl.settler import Settler
from callctl.switches.base import CallAnswered, CallEnded, Direction, Outcome, Refusal
from rating.tariff import Rate, Rounding, RoundingMode, Step
from tests.fakes import FakeCall, FakeSwitch

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    running = start_embedded(tmp_path_factory.mktemp("v"))
    yield running
    running.stop()


@dataclass(slots=True)
class House:
    """Everything a call needs, and what a test wants to know afterwards."""

    engine: Engine
    credit: CreditStore
    live: LiveCalls
    journal_path: Path
    settings: ControlSettings
    switch: FakeSwitch
    controller: Controller | None = None
    seen: list[str] = field(default_factory=list)
    redis: Any = None
    pins: PinSettings = field(default_factory=PinSettings)

    async def lose_redis(self) -> None:
        """Lose everything in one moment, as a server does: a wallet is not gone while its hold is still there."""
        await self.redis.delete(*await self.redis.keys(f"{self.credit._base[:-1]}*"))

    def account(
        self, code: str, money: str = "0", *, parent: str | None = None, tariff: str = "retail", **more: Any
    ) -> int:
        now = CLOCK.now()
        with work(self.engine) as session:
            account = accounts.add_account(
                session,
                name=f"customer {code}",
                kind=more.pop("kind", AccountKind.CUSTOMER),
                parent=parent,
                tariff=tariff,
                identities=more.pop("identities", [(IdentityKind.ACCOUNT_CODE, code)]),
                actor="test",
                now=now,
                **more,
            )
            account_id = account.id
            assert account_id is not None
        if Decimal(money):
            self.put_money(account_id, money)
        return account_id

    def put_money(self, account_id: int, money: str) -> topups.TopUp:
        with work(self.engine) as session:
            return topups.top_up(
                session,
                account_id,
                int(Decimal(money) * 1_000_000),
                operation=SystemIds().new("topup"),
                actor="test",
                now=CLOCK.now(),
            )

    async def top_up(self, account_id: int, money: str) -> None:
        done = await asyncio.to_thread(self.put_money, account_id, money)
        await outbox.apply_now(self.engine, self.credit, done.applied, clock=CLOCK)

    async def begin(self) -> Controller:
        self.controller = Controller(
            [self.switch],
            self.engine,
            self.credit,
            self.live,
            Journal(self.journal_path),
            self.settings,
            clock=CLOCK,
            ids=SystemIds(),
            pins=self.pins,
            listener=lambda news: self.seen.append(f"{news.kind}:{news.detail}"),
        )
        await self.controller.start()
        return self.controller

    async def kill(self) -> None:
        """End the controller as SIGKILL would: nothing is put away, the journal stays as it is."""
        assert self.controller
        self.switch._tell = None
        self.controller.alarms.stop()
        await end_tasks([*self.controller._loops, *self.controller._tasks])
        await self.controller.journal.close()
        self.controller = None

    async def record(self, call: FakeCall) -> Cdr:
        """Return the record of a call, as soon as SQL has it."""
        for _ in range(300):
            with reading(self.engine) as session:
                found = [cdr for cdr in list_cdrs(session) if cdr.call_id == call.offer.call_id]
            if found:
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0.02)
        raise AssertionError(f"no record of {call.offer.call_id}")

    async def balance(self, account_id: int) -> int:
        with reading(self.engine) as session:
            return accounts.find_account(session, str(account_id)).balance_micros

    async def audit(self) -> None:
        """The books balance, Redis says the same, and nothing is held any more."""
        for _ in range(100):
            if not await self.credit.holds():
                break
            await asyncio.sleep(0.05)
        with reading(self.engine) as session:
            report = books.check_store(session)
            held, findings = await books.check_credit(session, self.credit)
        assert report.findings == ()
        assert findings == ()
        assert held == 0


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        yield built


@asynccontextmanager
async def build(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    engine = open_store(f"sqlite:///{tmp_path / 'callctl.db'}")
    migrate(engine)
    now = CLOCK.now()
    rounding = Rounding(RoundingMode.HALF_UP, 6)
    rates = [
        Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.60"), 60, 1),), rounding),
        Rate("4999", "Nowhere", Decimal(0), (Step(0, Decimal(1), 60, 1),), rounding, barred=True),
        Rate("33", "France", Decimal(0), (Step(0, Decimal("0.60"), 60, 60),), rounding),
    ]
    with work(engine) as session:
        accounts.add_operator(session, name="operator", currency="EUR", actor="test", now=now)
        for name in ("retail", "wholesale"):
            tariffs.add_tariff(session, name=name, currency="EUR", rounding=rounding, actor="test", now=now)
            tariffs.import_rates(session, name, rates, actor="test", now=now)
    redis = connect(server.url, timeout_s=2)
    prefix = tmp_path.name
    built = House(
        engine,
        CreditStore(redis, prefix=prefix),
        LiveCalls(redis, prefix=prefix),
        tmp_path / "journal.db",
        ControlSettings(slice_s=2, renew_before_s=1.0, last_try_s=0.4, ring_s=5, resync_s=1.0),
        FakeSwitch(),
        redis=redis,
    )
    try:
        yield built
    finally:
        if built.controller:
            await built.controller.stop()
        await redis.aclose()
        engine.dispose()


async def decided(call: FakeCall) -> FakeCall:
    await asyncio.wait_for(call.decided.wait(), 8)
    return call


async def test_a_call_is_admitted_talked_and_charged(house: House) -> None:
    """From offer to record: held before it rings, priced by the switch's times, charged once, nothing left held."""
    customer = house.account("100", "5")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "+4930123"))
    assert call.admitted
    assert call.grant_s == 2
    (hold,) = await house.credit.holds()
    assert hold.shares[0].amount_micros == 20_000
    house.switch.answer(call)
    await asyncio.sleep(1.3)
    house.switch.end(call)
    record = await house.record(call)
    assert (record.disposition, record.callee, record.destination) == ("answered", "4930123", "Germany")
    assert record.cost_micros == 20_000
    assert await house.balance(customer) == 4_980_000
    await house.audit()
    assert house.switch.forgotten == [call.offer.call_id]


@pytest.mark.parametrize(
    ("code", "callee", "reason", "status"),
    [
        ("nobody", "4930123", "unknown_account", 403),
        ("", "4930123", "unknown_account", 403),
        ("100", "4999123", "barred_destination", 403),
        ("100", "7495123", "no_rate", 404),
        ("100", "4930123", "no_money", 402),
        ("100", "", "no_rate", 404),
    ],
)
async def test_a_refused_call_has_its_status_and_its_record_and_nothing_else(
    house: House, code: str, callee: str, reason: str, status: int
) -> None:
    """Every refusal is told to the caller, recorded once, and moves no money."""
    house.account("100", "0")
    await house.begin()
    call = await decided(house.switch.offer(1, code, callee))
    assert call.refused
    assert (call.refused.code, call.refused.sip_status) == (reason, status)
    record = await house.record(call)
    assert (record.disposition, record.reason, record.sip_status) == ("refused", reason, status)
    assert record.cost_micros == 0
    await house.audit()


async def test_ten_calls_at_once_on_money_for_three(house: House) -> None:
    """Exactly three are admitted; the wallet ends at zero, never below."""
    customer = house.account("100", "1.80")
    await house.begin()
    calls = [house.switch.offer(n, "100", "33123") for n in range(10)]
    await asyncio.gather(*[decided(call) for call in calls])
    admitted = [call for call in calls if call.admitted]
    assert len(admitted) == 3
    for call in admitted:
        house.switch.answer(call)
    await asyncio.sleep(0.2)
    for call in admitted:
        house.switch.end(call)
    for call in calls:
        await house.record(call)
    assert await house.balance(customer) == 0
    await house.audit()


async def test_too_many_calls_of_one_account(house: House) -> None:
    """The limit of simultaneous calls holds, and frees up again with the end of a call."""
    house.account("100", "5", max_calls=1)
    await house.begin()
    first = await decided(house.switch.offer(1, "100", "4930"))
    second = await decided(house.switch.offer(2, "100", "4930"))
    assert second.refused
    assert second.refused.code == "too_many_calls"
    house.switch.end(first, dial_status="busy")
    assert (await house.record(first)).disposition == "busy"
    third = await decided(house.switch.offer(3, "100", "4930"))
    assert third.admitted
    house.switch.end(third, dial_status="cancelled")
    await house.record(third)
    await house.audit()


async def test_credit_that_runs_out_ends_the_call_at_its_second(house: House) -> None:
    """0.05 at 0.60 a minute are five seconds: cut there, charged to the cent, with the reason on the record."""
    customer = house.account("100", "0.05")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.wait_for(call.over.wait(), 8)
    record = await house.record(call)
    assert 4.9 <= record.talk_ms / 1000 <= 5.3
    assert (record.cost_micros, record.reason, record.billable_ms) == (50_000, "credit_exhausted", 5_000)
    assert await house.balance(customer) == 0
    assert house.controller
    assert house.controller.stats.cut_at_zero == 1
    await house.audit()


async def test_a_top_up_extends_a_live_call(house: House) -> None:
    """Money that comes while people talk is talk time at once."""
    customer = house.account("100", "0.03")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.sleep(1.5)
    await house.top_up(customer, "0.04")
    await asyncio.wait_for(call.over.wait(), 10)
    record = await house.record(call)
    assert (record.cost_micros, record.reason) == (70_000, "credit_exhausted")
    assert house.controller
    assert house.controller.stats.extended_by_topup >= 1
    assert await house.balance(customer) == 0
    await house.audit()


async def test_every_level_of_a_chain_pays(house: House) -> None:
    """The customer pays its reseller, the reseller pays the operator, at its own tariff, in one transaction."""
    reseller = house.account("r", "3", kind=AccountKind.RESELLER, tariff="wholesale", identities=[])
    customer = house.account("100", "0", parent="customer r")
    await house.begin()
    await house.top_up(customer, "1")
    assert await house.balance(reseller) == 2_000_000
    call = await decided(house.switch.offer(1, "100", "33123"))
    assert {share.account_id for hold in await house.credit.holds() for share in hold.shares} == {reseller, customer}
    house.switch.answer(call)
    await asyncio.sleep(0.1)
    house.switch.end(call)
    await house.record(call)
    assert await house.balance(customer) == 400_000
    assert await house.balance(reseller) == 2_000_000
    with reading(house.engine) as session:
        _, charges = find_cdr(session, call.offer.call_id)
    assert [charge.amount_micros for charge in charges] == [600_000, 600_000]
    await house.audit()


async def test_a_reseller_without_money_stops_its_customers(house: House) -> None:
    """All levels or none: the customer's money alone does not admit the call, and nothing stays held."""
    house.account("r", "0", kind=AccountKind.RESELLER, tariff="wholesale", identities=[], credit_limit_micros=0)
    reseller = 2
    customer = house.account("100", "0", parent="customer r", credit_limit_micros=5_000_000)
    assert customer != reseller
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "33123"))
    assert call.refused
    assert call.refused.code == "no_money"
    await house.record(call)
    await house.audit()


async def test_an_inbound_call_is_paid_by_the_account_of_its_number(house: House) -> None:
    """A DID names the payer; the account code of the trunk does not matter."""
    customer = house.account("100", "5", identities=[(IdentityKind.DID, "49800100")])
    await house.begin()
    call = await decided(house.switch.offer(1, "trunk", "+49800100", Direction.INBOUND))
    assert call.admitted
    house.switch.answer(call)
    await asyncio.sleep(0.1)
    house.switch.end(call)
    assert (await house.record(call)).account_id == customer
    await house.audit()


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
async def test_a_switch_may_live_in_another_time(house: House, ahead_s: float) -> None:
    """Its clock is an hour off: calls are renewed when their time is really over, and billed by its own times."""

    class Elsewhere(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(seconds=ahead_s)

    house.switch.clock, house.switch.ahead_s = Elsewhere(), ahead_s
    customer = house.account("100", "5")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    house.switch.answer(call)
    await asyncio.sleep(2.6)  # longer than its first slice
    assert call.ended_at is None
    house.switch.end(call)
    record = await house.record(call)
    ended_at = house.switch.calls[record.call_id].ended_at
    assert (record.answered_at, record.ended_at) == (call.answered_at, ended_at)
    assert 2_550 < record.talk_ms < 3_500
    assert record.billable_ms == record.talk_ms
    assert await house.balance(customer) == 5_000_000 - (record.talk_ms + 999) // 1000 * 10_000
    await house.audit()


async def test_a_refusal_is_on_the_disk_before_it_is_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that dies right after it said no leaves the record of it."""
    await house.begin()
    written: list[int] = []
    told = house.switch.refuse

    async def refuse(call_id: str, refusal: Refusal) -> Outcome:
        with sqlite3.connect(house.journal_path) as journal:
            written.append(journal.execute("SELECT count(*) FROM ended WHERE call_id = ?", (call_id,)).fetchone()[0])
        return await told(call_id, refusal)

    monkeypatch.setattr(Settler, "_settle_some", _later)
    monkeypatch.setattr(house.switch, "refuse", refuse)
    house.account("100", "0")
    await asyncio.sleep(1.1)  # until the catalogue knows it
    await decided(house.switch.offer(1, "nobody", "4930123"))
    await decided(house.switch.offer(2, "100", "4930123"))
    assert written == [1, 1]


async def _later(_settler: Settler) -> bool:
    return False


async def test_a_refusal_nobody_heard_is_told_by_the_next_controller(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written down, then the controller died: the call is not decided anew, and has one record."""
    await house.begin()
    monkeypatch.setattr(house.switch, "refuse", _unheard)
    call = house.switch.offer(1, "100", "4930123")  # nobody has this code yet
    record = await house.record(call)
    await house.kill()
    monkeypatch.undo()
    house.account("100", "5")
    await house.begin()
    await decided(call)
    assert call.refused is not None
    assert call.refused.code == record.reason == "unknown_account"
    assert not call.admitted
    await house.audit()


async def _unheard(_call_id: str, _refusal: Refusal) -> Outcome:
    return Outcome.UNKNOWN


async def test_no_time_is_bought_while_the_switch_cannot_be_told(house: House) -> None:
    """The link is down when a call would be renewed: nothing more is held; when it is mended, the call goes on."""
    house.account("100", "5")
    house.settings = ControlSettings(slice_s=4, renew_before_s=2.0, last_try_s=0.4, ring_s=5, resync_s=1.0)
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    house.switch.answer(call)
    await asyncio.sleep(0.2)
    house.switch.cut()
    await asyncio.sleep(2.2)
    (hold,) = await house.credit.holds()
    assert hold.shares[0].amount_micros == 40_000
    house.switch.mend()
    await asyncio.sleep(2.2)
    assert call.ended_at is None
    house.switch.end(call)
    await house.record(call)
    await house.audit()


async def test_an_administrator_hangs_up(house: House) -> None:
    """The request goes through Redis; the record says who ended the call."""
    house.account("100", "5")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.sleep(0.4)
    (shown,) = await house.live.list()
    assert (shown.call_id, shown.state) == (call.offer.call_id, "talking")
    await house.live.ask_hangup(HangupRequest(call.offer.call_id, "owner", "test"))
    await asyncio.wait_for(call.over.wait(), 5)
    assert (await house.record(call)).reason == "hung_up_by_admin"
    await asyncio.sleep(0.5)
    assert await house.live.list() == []
    await house.audit()


async def test_a_stopped_controller_leaves_no_ended_call_on_the_board(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board is written now and then; what ended between the last time and the stop is taken off it all the same."""
    house.account("100", "5")
    controller = await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.sleep(0.4)
    assert len(await house.live.list()) == 1
    monkeypatch.setattr("callctl.board.EVERY_S", 60)
    await asyncio.sleep(0.3)
    house.switch.end(call)
    await house.record(call)
    await controller.stop()
    house.controller = None
    assert await house.live.list() == []
    await house.audit()


async def test_a_killed_controller_comes_back_and_bills_once(house: House) -> None:
    """Calls up when it died are adopted; one that ended meanwhile is billed from the switch's own note."""
    customer = house.account("100", "5")
    await house.begin()
    lives, ends = [await decided(house.switch.offer(n, "100", "4930")) for n in (1, 2)]
    house.switch.answer(lives)
    house.switch.answer(ends)
    await asyncio.sleep(0.3)
    await house.kill()
    await asyncio.sleep(0.3)
    house.switch.end(ends)
    await asyncio.sleep(0.2)
    controller = await house.begin()
    record = await house.record(ends)
    assert (record.cost_micros, record.estimated) == (10_000, False)
    assert lives.offer.call_id in controller.calls
    await asyncio.sleep(1.5)
    assert not lives.ended_at, "an adopted call is renewed"
    house.switch.end(lives)
    billed = await house.record(lives)
    assert billed.cost_micros == -(-billed.talk_ms // 1000) * 10_000
    assert await house.balance(customer) == 5_000_000 - record.cost_micros - billed.cost_micros
    await house.audit()


async def test_an_end_nobody_saw_and_nobody_noted_is_estimated(house: House) -> None:
    """Without the switch's note the call is charged to its last paid second, and marked as an estimate."""
    house.account("100", "5")
    house.switch.keeps_records = False
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.sleep(0.3)
    await house.kill()
    house.switch.end(call)
    await asyncio.sleep(0.2)
    await house.begin()
    record = await house.record(call)
    assert record.estimated
    assert record.talk_ms <= 2_000
    await house.audit()


async def test_calls_that_end_while_the_link_is_cut_are_billed_exactly(house: House) -> None:
    """A broken link is not "no calls": nothing is settled until the switch can be asked, then by its own note."""
    house.account("100", "5")
    await house.begin()
    gone, lives = [await decided(house.switch.offer(n, "100", "4930")) for n in (1, 2)]
    house.switch.answer(gone)
    house.switch.answer(lives)
    await asyncio.sleep(0.2)
    house.switch.cut()
    await asyncio.sleep(0.5)
    house.switch.end(gone)
    await asyncio.sleep(0.5)
    with reading(house.engine) as session:
        assert list_cdrs(session) == []
    house.switch.mend()
    record = await house.record(gone)
    assert (record.cost_micros, record.estimated) == (10_000, False)
    house.switch.end(lives)
    await house.record(lives)
    await house.audit()


async def test_a_call_past_its_grant_that_nobody_saw_end_is_settled(house: House) -> None:
    """Our own timers, which go on past the grant, do not make a vanished call look alive."""
    house.account("100", "0.02")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    await asyncio.sleep(0.2)
    house.switch.cut()
    house.switch.end(call)
    await asyncio.sleep(4.0)
    house.switch.mend()
    record = await house.record(call)
    assert (record.cost_micros, record.estimated) == (10_000, False)
    await house.audit()


async def test_doubled_events_make_one_record(house: House) -> None:
    """Everything told twice, the end three times: one call, one charge."""
    customer = house.account("100", "5")
    await house.begin()
    call = house.switch.offer(1, "100", "33123")
    house.switch.say(call.offer)
    await decided(call)
    house.switch.answer(call)
    assert call.answered_at
    house.switch.say(CallAnswered(call.offer.call_id, call.answered_at))
    await asyncio.sleep(0.1)
    house.switch.end(call)
    assert call.ended_at
    for _ in range(2):
        house.switch.say(CallEnded(call.offer.call_id, call.ended_at, 16))
    house.switch.say(call.offer)
    await house.record(call)
    await asyncio.sleep(0.2)
    assert await house.balance(customer) == 4_400_000
    assert house.controller
    assert house.controller.stats.ended == 1
    await house.audit()


async def test_an_answer_told_again_sets_the_limit_again(house: House) -> None:
    """A leg that changed hands by a transfer may have lost its limit: the same end is set once more."""
    house.account("100", "0.02")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930"))
    house.switch.answer(call)
    assert call.answered_at
    await asyncio.sleep(0.5)
    house.switch._limit(call, None)
    house.switch.say(CallAnswered(call.offer.call_id, call.answered_at))
    await asyncio.sleep(0.2)
    assert call.limits[-1] == pytest.approx(1.5, abs=0.2)
    await asyncio.wait_for(call.over.wait(), 5)
    assert (await house.record(call)).cost_micros == 20_000
    await house.audit()


async def test_a_redis_that_lost_everything_is_rebuilt_before_new_calls(house: House) -> None:
    """Wallets come back from SQL, holds from the live calls; nobody can spend the same money meanwhile."""
    customer = house.account("100", "0.60")
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "33123"))
    house.switch.answer(call)
    await asyncio.sleep(0.2)
    await house.lose_redis()
    await asyncio.sleep(2.0)
    second = await decided(house.switch.offer(2, "100", "33123"))
    assert second.refused
    assert second.refused.code == "no_money"
    house.switch.end(call)
    await house.record(call)
    await house.record(second)
    assert await house.balance(customer) == 0
    await house.audit()


async def test_a_dead_controllers_grace_is_only_what_the_money_could_pay(house: House) -> None:
    """With a grace of 3 s the switch's limit is 2 + 3 s for who can pay it, and no more than paid for who cannot."""
    house.settings = house.settings.model_copy(update={"controller_loss_grace_s": 3.0})
    house.account("100", "5")
    house.account("200", "0.03")
    await house.begin()
    rich, poor = [await decided(house.switch.offer(n, code, "4930")) for n, code in ((1, "100"), (2, "200"))]
    assert (rich.grant_s, poor.grant_s) == (5, 3)
    for call in (rich, poor):
        house.switch.end(call, dial_status="busy")
        await house.record(call)
    await house.audit()
