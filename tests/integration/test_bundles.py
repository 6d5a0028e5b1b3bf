"""Bundles in the store and in live calls: given once, used before money, shared by calls at once, emptied in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import books, outbox
from billing.cdrs import find_cdr
from billing.charges import explain, reprice
from billing.credit.embedded import EmbeddedServer
from billing.errors import NotFound, OtherBody, Refused
from billing.models import SECONDS, Bundle, ChargeUse, Posting, Wallet, WalletKind
from billing.operations import Outcome
from billing.plans.bundles import LATER, expire_bundles, give_bundle, list_bundles
from billing.store import migrate, migrating, open_store, reading, work
from rating.errors import TariffError
from tests.integration.test_controller import CLOCK, House, build, decided, server
from tests.integration.tree import NOW, Tree, balance, plant

__all__ = ["server"]

HOUR = timedelta(hours=1)
MICROS = 1_000_000


def give(engine: Engine, operation: str = "one", account: str = "carl", *, now: datetime = NOW, **more: Any) -> Outcome:
    told: dict[str, Any] = {"name": "Europe", "seconds": 600, "prefixes": ["49", "33"], "actor": "test"} | more
    with work(engine) as session:
        return give_bundle(session, account, operation=operation, now=now, **told)


def test_a_bundle_is_given_once_and_sums_to_zero_in_seconds(engine: Engine) -> None:
    """600 s in the wallet, 600 less in what was given out; the same id again gives nothing, another body errs."""
    plant(engine)
    made = give(engine)
    again = give(engine)
    assert (made.replayed, again.replayed, again.applied) == (False, True, ())
    assert again.facts == made.facts
    with pytest.raises(OtherBody):
        give(engine, seconds=601)
    with reading(engine) as session:
        (bundle,) = list_bundles(session, "carl")
        assert (bundle.name, bundle.left_micros, bundle.prefixes) == ("Europe", 600 * MICROS, ("33", "49"))
        assert sum(session.exec(select(Posting.amount_micros).where(Posting.currency == SECONDS))) == 0
        assert books.check_store(session).findings == ()


def test_an_account_may_have_many_bundles_in_the_order_of_their_use(engine: Engine) -> None:
    """By priority, then by expiry; money wallets are still one for each currency."""
    tree = plant(engine)
    give(engine, "late", name="late", expires_at=NOW + 2 * HOUR)
    give(engine, "soon", name="soon", expires_at=NOW + HOUR)
    give(engine, "ever", name="ever")
    give(engine, "first", name="first", priority=-1)
    with reading(engine) as session:
        assert [bundle.name for bundle in list_bundles(session, "carl")] == ["first", "soon", "late", "ever"]
    with pytest.raises(Exception, match=r"(?i)unique"), work(engine) as session:
        session.add(Wallet(account_id=tree.carl, kind=WalletKind.MONEY, currency="EUR"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"seconds": 0}, Refused),
        ({"seconds": 2**53}, Refused),
        ({"name": ""}, Refused),
        ({"prefixes": []}, Refused),
        ({"prefixes": ["4x"]}, TariffError),
        ({"priority": 10**7}, Refused),
        ({"expires_at": NOW}, Refused),
        ({"account": "op"}, Refused),
        ({"account": "nobody"}, NotFound),
    ],
)
def test_what_is_no_bundle_is_refused_and_changes_nothing(
    engine: Engine, change: dict[str, Any], error: type[Exception]
) -> None:
    """Nothing is made: no wallet, no posting."""
    plant(engine)
    with pytest.raises(error):
        give(engine, **change)
    with reading(engine) as session:
        assert session.exec(select(Bundle)).all() == []
        assert session.exec(select(Posting)).all() == []
        assert session.exec(select(Wallet).where(Wallet.kind == WalletKind.BUNDLE)).all() == []


def test_a_store_with_money_in_it_takes_the_migration(tmp_path: Path) -> None:
    """SQLite builds the table of wallets anew: rows that point to them stay, and so do foreign keys; and back again."""
    engine = open_store(f"sqlite:///{tmp_path / 'old.db'}")
    migrate(engine)
    tree: Tree = plant(engine)
    with work(engine) as session:
        session.execute(text("INSERT INTO ledger_transaction VALUES (1, 'o', 'k', '', 'a', NULL, '2026-01-01')"))
        for wallet, amount in ((tree.carl_wallet, 5), (tree.cash, -5)):
            session.add(
                Posting(transaction_id=1, wallet_id=wallet, amount_micros=amount, currency="EUR", posted_at=NOW)
            )
    from alembic import command

    for revision in ("-1", "head", "-1", "head"):
        with migrating(engine) as config:
            (command.upgrade if revision == "head" else command.downgrade)(config, revision)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert (
            connection.exec_driver_sql("SELECT count(*) FROM posting p JOIN wallet w ON w.id = p.wallet_id").scalar()
            == 2
        )
    engine.dispose()


# -- live --------------------------------------------------------------------------------------------------------------


@dataclass
class LaterClock:
    """The clock, some time ahead."""

    ahead: timedelta

    def now(self) -> datetime:
        return CLOCK.now() + self.ahead

    def monotonic(self) -> float:
        return CLOCK.monotonic()


@pytest.fixture
async def house(tmp_path: Path, server: EmbeddedServer) -> AsyncIterator[House]:
    async with build(tmp_path, server) as built:
        yield built


def bundle_of(house: House, account: str, seconds: int, **more: Any) -> int:
    made = give(house.engine, f"{account} {more}", f"customer {account}", seconds=seconds, now=CLOCK.now(), **more)
    return int(made.facts["wallet_id"])


async def over(house: House, *calls: Any) -> list[Any]:
    await asyncio.gather(*(asyncio.wait_for(call.over.wait(), 15) for call in calls))
    return [await house.record(call) for call in calls]


async def test_a_call_uses_its_bundle_then_its_money(house: House) -> None:
    """Three seconds of the bundle, then two of money at 0.01: cut after five, charged 0.02 and three seconds."""
    customer = house.account("100", "0.02")
    wallet = bundle_of(house, "100", 3)
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    (hold,) = await house.credit.holds()
    assert [share.amount_micros for share in hold.shares] == [0, 2 * MICROS]
    house.switch.answer(call)
    (record,) = await over(house, call)
    assert (record.cost_micros, record.reason, record.billable_ms) == (20_000, "credit_exhausted", 5_000)
    with reading(house.engine) as session:
        _, (charge,) = find_cdr(session, call.offer.call_id)
        (use,) = session.exec(select(ChargeUse)).all()
        assert (use.amount_micros, use.wallet_id, reprice(charge)) == (3 * MICROS, wallet, 20_000)
    assert "3 s are paid by the bundle Europe." in explain(charge)
    assert (await house.balance(customer), balance(house.engine, wallet)) == (0, 0)
    await house.audit()


async def test_calls_at_once_share_a_bundle_and_never_overspend_it(house: House) -> None:
    """Three calls on seven seconds and no money: together they talk seven seconds, to the last one."""
    house.account("100", "0")
    wallet = bundle_of(house, "100", 7)
    await house.begin()
    calls = [await decided(house.switch.offer(number, "100", "4930123")) for number in range(1, 4)]
    assert [call.grant_s for call in calls] == [2, 2, 2]
    for call in calls:
        house.switch.answer(call)
    records = await over(house, *calls)
    assert sum(record.billable_ms for record in records) == 7_000
    assert {record.cost_micros for record in records} == {0}
    assert balance(house.engine, wallet) == 0
    await house.audit()


async def test_a_number_out_of_scope_leaves_the_bundle_alone(house: House) -> None:
    """A bundle for 33 does not pay for 49."""
    house.account("100", "1")
    wallet = bundle_of(house, "100", 600, prefixes=["33"])
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    house.switch.answer(call)
    await asyncio.sleep(0.2)
    house.switch.end(call)
    assert (await house.record(call)).cost_micros == 10_000
    assert balance(house.engine, wallet) == 600 * MICROS
    await house.audit()


async def test_a_killed_controller_comes_back_and_charges_the_same_split(house: House) -> None:
    """The split lies with the hold: a call adopted after a crash uses its seconds, then its money, once."""
    customer = house.account("100", "1")
    wallet = bundle_of(house, "100", 3)
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    house.switch.answer(call)
    await asyncio.sleep(1.6)
    await house.kill()
    await house.begin()
    await asyncio.sleep(3.0)
    house.switch.end(call)
    record = await house.record(call)
    billed = -(-record.talk_ms // 1000)
    assert billed > 3
    assert record.cost_micros == (billed - 3) * 10_000
    assert await house.balance(customer) == MICROS - record.cost_micros
    assert balance(house.engine, wallet) == 0
    await house.audit()


async def test_what_is_left_of_an_expired_bundle_is_breakage_but_not_what_a_call_holds(house: House) -> None:
    """Emptied only once no call holds of it, once, into breakage; before its time nothing is taken."""
    house.account("100", "0")
    wallet = bundle_of(house, "100", 600, expires_at=CLOCK.now() + HOUR)
    await house.begin()
    call = await decided(house.switch.offer(1, "100", "4930123"))
    house.switch.answer(call)
    after: Callable[[], Any] = lambda: expire_bundles(  # noqa: E731 - said four times
        house.engine, house.credit, clock=LaterClock(HOUR + LATER + timedelta(seconds=1))
    )
    assert await expire_bundles(house.engine, house.credit, clock=CLOCK) == 0
    assert await after() == 0, "a call holds of it"
    house.switch.end(call)
    record = await house.record(call)
    for _ in range(100):
        if not await house.credit.holds():
            break
        await asyncio.sleep(0.02)
    assert (await after(), await after()) == (1, 0)
    left = 600 * MICROS - record.billable_ms // 1000 * MICROS - (MICROS if record.billable_ms % 1000 else 0)
    assert balance(house.engine, wallet) == 0
    with reading(house.engine) as session:
        breakage = session.exec(select(Wallet.id).where(Wallet.kind == WalletKind.BREAKAGE)).one()
        assert list_bundles(session, "customer 100")[0].expired_at is not None
    assert balance(house.engine, breakage or 0) == left
    view = await house.credit.wallet(wallet)
    assert view
    assert view.balance_micros == 0
    await house.audit()


async def test_a_bundle_given_later_is_known_to_the_next_call(house: House) -> None:
    """Given while the controller runs: told to Redis at once, in the catalogue a moment later."""
    house.account("100", "0")
    await house.begin()
    refused = await decided(house.switch.offer(1, "100", "4930123"))
    assert refused.refused
    made = give(house.engine, "later", "customer 100", seconds=60, now=CLOCK.now())
    await outbox.apply_now(house.engine, house.credit, made.applied, clock=CLOCK)
    await asyncio.sleep(1.5)
    call = await decided(house.switch.offer(2, "100", "4930123"))
    assert call.admitted
    house.switch.end(call, dial_status="busy")
    await house.record(call)
    await house.record(refused)
    await house.audit()
