"""A tariff that changes, and calls priced before it did: what the tests of re-rating share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import outbox
from billing.books import check_credit, check_store
from billing.cdrs import EndedCall, settle
from billing.credit.store import CreditStore
from billing.models import Beyond, Charge, Correction, LedgerTransaction, OutboxRow, Posting, RerateRun, Wallet
from billing.rerating.booking import Booked, Order, book_all
from billing.rerating.look import load_pricer, look_some, start
from billing.rerating.report import Report, report
from billing.rerating.selection import select_charges
from billing.store import reading, work
from billing.tariffs import add_tariff, import_rates
from billing.topups import top_up
from rating.tariff import Rate, Rounding, RoundingMode, Step
from tests.integration.tree import EURO, NOW, RATE, Tree, carls_call, cleos_call, plant

LATER = NOW + timedelta(days=1)
NEW = Rate("4930", "Berlin", Decimal(0), (Step(0, Decimal("0.12"), 60, 1),), Rounding(RoundingMode.HALF_UP, 4))
"""12 cents a minute by the second, without a fee: 31 s cost 0.062 (0.11 before), 90 s cost 0.18 (0.14 before)."""


@dataclass
class StandingClock:
    """A clock that stands until it is moved."""

    at: datetime = LATER

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


@dataclass
class World:
    """The tree with money, a tariff `retail`, and three calls of half a minute and more."""

    engine: Engine
    credit: CreditStore
    tree: Tree
    clock: StandingClock

    def settle(self, *calls: EndedCall) -> None:
        with work(self.engine) as session:
            settle(session, list(calls), now=NOW)

    async def tell(self) -> None:
        """Bring Redis to where SQL is."""
        while await outbox.drain(self.engine, self.credit, clock=self.clock):
            pass

    def import_rates(self, rates: Iterable[Rate], tariff: str = "retail") -> None:
        with work(self.engine) as session:
            import_rates(session, tariff, list(rates), actor="test", now=NOW)

    def start(self, operation: str = "r1", *, beyond: Beyond = Beyond.SKIP, **wanted: Any) -> tuple[RerateRun, bool]:
        """Begin a run over all that ended until now."""
        with work(self.engine) as session:
            selection = select_charges(session, **{"since": NOW - timedelta(days=1), "until": LATER, **wanted})
            return start(
                session,
                selection,
                operation=operation,
                beyond=beyond,
                reason="new deck",
                actor="ann",
                now=self.clock.now(),
            )

    def look(self, operation: str = "r1", *, most: int = 2) -> None:
        """Look at all charges, a page at a time."""
        pricer = load_pricer(self.engine, operation)
        while not look_some(self.engine, operation, pricer, now=self.clock.now(), most=most).over:
            pass

    def preview(self, operation: str = "r1", **wanted: Any) -> Report:
        """Begin a run and look at everything."""
        self.start(operation, **wanted)
        self.look(operation)
        return self.report(operation)

    def report(self, operation: str = "r1") -> Report:
        with reading(self.engine) as session:
            return report(session, session.exec(select(RerateRun).where(RerateRun.operation == operation)).one())

    async def post(self, operation: str = "r1") -> Booked:
        return await book_all(self.engine, self.credit, Order(operation, "ann"), clock=self.clock)

    async def undo(self, operation: str = "r1") -> Booked:
        return await book_all(self.engine, self.credit, Order(operation, "ann", undo=True), clock=self.clock)

    def balances(self) -> dict[str, int]:
        """Return the balance of each live wallet in thousandths of a cent."""
        names = {self.tree.carl_wallet: "carl", self.tree.cleo_wallet: "cleo", self.tree.ray_wallet: "ray"}
        with reading(self.engine) as session:
            found = session.exec(select(Wallet.id, Wallet.balance_micros)).all()
        return {names[wallet_id]: balance for wallet_id, balance in found if wallet_id in names}

    def rows(self, table: Any) -> list[Any]:
        with reading(self.engine) as session:
            return list(session.exec(select(table).order_by(table.id)).all())

    def money(self) -> list[Any]:
        """Return all that books hold of money."""
        tables = (LedgerTransaction, Posting, OutboxRow, Charge, Correction)
        return [row.model_dump(exclude={"applied_at"}) for table in tables for row in self.rows(table)]

    async def clean(self) -> None:
        """Every invariant holds, in SQL and in Redis, and nothing is set aside any more."""
        await self.tell()
        with reading(self.engine) as session:
            assert check_store(session).findings == ()
            holds, findings = await check_credit(session, self.credit)
        assert (holds, findings) == (0, ())


async def found_world(engine: Engine, credit: CreditStore) -> World:
    """Make it: carl and cleo called Berlin, 31 s and 90 s; cleo pays ray, ray the operator."""
    tree = plant(engine)
    world = World(engine, credit, tree, StandingClock())
    with work(engine) as session:
        add_tariff(
            session, name="retail", currency="EUR", rounding=Rounding(RoundingMode.HALF_UP, 4), actor="test", now=NOW
        )
    world.import_rates([RATE])
    for account_id, euros in ((tree.ray, 2), (tree.cleo, 1), (tree.carl, 1)):
        with work(engine) as session:
            top_up(session, account_id, euros * EURO, operation=f"fund:{account_id}", actor="test", now=NOW)
    world.settle(carls_call(tree, "sw:1", 31), cleos_call(tree, "sw:2", 90), carls_call(tree, "sw:3", 90))
    await outbox.sync_all(engine, credit)
    await world.tell()
    return world


def to(call: EndedCall, callee: str, **changes: Any) -> EndedCall:
    """Return the call made to another number."""
    return replace(call, callee=callee, **changes)
