"""One thing of each kind that has an id, belonging to a customer of the operator: what nobody else may see or touch.

A route is walked by what stands before the id in its address (`/webhooks/{webhook_id}`), a query and a body by the
names of their members. A kind that is not named here fails the walk: say whose it is before it is served.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlmodel import col, select

from billing import keys, outbox, people, tariffs, users, vouchers
from billing.access import Role, operators_reach
from billing.alerts import raise_alert
from billing.commissions import set_commission
from billing.events import deliveries, listeners
from billing.events.kinds import EventKind
from billing.fraud import rules
from billing.fraud.rules import Wanted
from billing.models import Beyond, CommissionOf, Delivery, LedgerTransaction, Posting, Wallet
from billing.models.fraud import FraudAction, FraudKind
from billing.plans.carriers import set_carrier
from billing.plans.edit import set_discount, set_own_rate, set_volume
from billing.rerating.look import start
from billing.rerating.selection import select_charges
from billing.store import work
from rating.tariff import Rate, Rounding, Step
from tests.api.conftest import DELTA, Program
from tests.api.routes import PATHS
from tests.web.world import World, add_record

TARIFF = "delta special"
NUMBERS = PATHS["prefix"]
INSIDE = frozenset({"kind", "value", "prefix", "month"})
"""Parts of an address that are no ids: which part of a thing is meant, or a row of a list that is one for all."""
QUERIES = {"account": "accounts", "parent": "accounts", "tariff_id": "tariffs"}
"""Members of a query that are ids, and of what."""
NO_IDS = frozenset({
    "after", "most", "q", "at", "since", "from", "until", "month",
    "status", "kind", "standing", "ended", "state", "disposition", "direction",
    "number", "prefix", "destination", "actor", "action", "subject",
    "mode", "effective_at", "confirm", "version", "format", "from_currency", "to_currency",
})  # fmt: skip
"""Members of a query that are none."""
BODIES = {
    "account_id": "accounts",
    "from_account_id": "accounts",
    "to_account_id": "accounts",
    "parent_id": "accounts",
    "owner_id": "accounts",
    "tariff_id": "tariffs",
    "from_tariff_id": "tariffs",
    "tariff": "tariff names",
}
"""Members of a body that are ids or names, and of what."""
VALID = {"add_user": {"login": "new one", "role": "customer"}}
"""Bodies that are right from below the operator, where those of `routes.py` are not."""
INSTEAD = {"tariff_id": ("account_id",)}
"""What a body cannot say besides."""


def make_strangers(program: Program) -> dict[str, Any]:
    """Make one of each kind for the customer Delta Logistics or its operator; return their ids by kind."""
    world = program.world
    made: dict[str, Any] = {"accounts": DELTA, "tariff names": TARIFF}
    for make in (_people, _prices, _records, _events):
        made |= make(world)
    call = world.call(77, "Delta Logistics")
    program.run(lambda: world.live.put(call))
    program.run(lambda: outbox.sync_all(world.engine, world.credit))
    return made | {"calls": call.call_id}


def _people(world: World) -> dict[str, Any]:
    now = world.clock.now()
    with work(world.engine) as session:
        reach = operators_reach(session)
        key, _ = keys.add_key(
            session, account_id=DELTA, name="Delta's", scopes=["money:read"], actor="test", ids=world.ids, now=now
        )
        person, password = people.invite(
            session,
            reach,
            login="dora",
            role=Role.CUSTOMER.value,
            account_id=DELTA,
            actor="test",
            ids=world.ids,
            now=now,
        )
        logged_in = users.log_in(session, "dora", password, ids=world.ids, now=now)
        assert logged_in is not None
    return {"keys": key.public_id, "users": person.id, "sessions": logged_in[2].handle}


def _prices(world: World) -> dict[str, Any]:
    now = world.clock.now()
    with work(world.engine) as session:
        tariff = tariffs.add_tariff(session, name=TARIFF, currency="EUR", rounding=Rounding(), actor="test", now=now)
        set_commission(session, DELTA, CommissionOf.REVENUE, 50_000, actor="test", now=now)
        carrier = set_carrier(session, "Delta Carrier", TARIFF, actor="test", now=now)
        set_discount(session, str(DELTA), NUMBERS, Decimal(5), actor="test", now=now)
        own = Rate(NUMBERS, "satellite", Decimal(0), (Step(0, Decimal(3), 60, 1),), Rounding())
        set_own_rate(session, str(DELTA), own, actor="test", now=now)
        wanted = Wanted(kind=FraudKind.SPEND_DAY, action=FraudAction.WARN, limit_micros=50_000_000)
        rule = rules.add_rule(session, DELTA, wanted, actor="test", now=now)
        plan = set_volume(
            session,
            account="Delta Logistics",
            name="flat",
            prefixes=["49"],
            timezone="UTC",
            fair_s=600,
            actor="test",
            now=now,
        )
        run, _ = start(
            session,
            select_charges(session, since=now - timedelta(days=2), until=now),
            operation="strangers",
            beyond=Beyond.SKIP,
            reason="test",
            actor="test",
            now=now,
        )
        batch, _ = vouchers.make_batch(
            session,
            name="the operator's",
            face_micros=5_000_000,
            number=1,
            currency=None,
            expires_at=None,
            within=None,
            key=b"k" * 32,
            ids=world.ids,
            actor="test",
            now=now,
        )
        made = {"tariffs": tariff.id, "voucher-batches": batch.id, "rules": rule, "volume-plans": plan}
        return made | {"carriers": carrier.id, "reratings": run.id}


def _records(world: World) -> dict[str, Any]:
    with work(world.engine) as session:
        cdr = add_record(session, world, 77, "Delta Logistics", callee="4930777")
        asked = (
            select(LedgerTransaction.id)
            .join(Posting, col(Posting.transaction_id) == col(LedgerTransaction.id))
            .join(Wallet, col(Wallet.id) == col(Posting.wallet_id))
            .where(Wallet.account_id == DELTA)
        )
        return {"cdrs": cdr.call_id, "transactions": session.exec(asked).first()}


def _events(world: World) -> dict[str, Any]:
    now = world.clock.now()
    with work(world.engine) as session:
        hook, _ = listeners.add_webhook(
            session,
            account_id=DELTA,
            url="https://delta.example.com/x",
            kinds=[EventKind.BALANCE_LOW],
            ids=world.ids,
            actor="test",
            now=now,
        )
        mail = listeners.add_email(
            session,
            account_id=DELTA,
            address="delta@example.com",
            kinds=[EventKind.TOPUP_CREATED],
            actor="test",
            now=now,
        )
        alert = raise_alert(
            session,
            kind="balance.low",
            subject=f"account:{DELTA}",
            message="Delta Logistics is low",
            account_id=DELTA,
            now=now,
        )
        deliveries.spread(session, now=now)
        delivery = session.exec(select(Delivery.id).where(Delivery.listener_id == hook)).first()
    return {"webhooks": hook, "mail-addresses": mail, "alerts": alert, "deliveries": delivery}
