"""A small company for tests of the panel: accounts, records, people, with a clock and ids that tests foresee."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing import accounts, topups, users
from billing.credit.live import LiveCalls, LiveCallView
from billing.credit.store import CreditStore
from billing.models import AccountKind, Cdr, CdrKey, Charge, IdentityKind, Wallet, WalletKind, id_of
from billing.ports import to_ms
from billing.store import migrate, open_store, work
from rating.tariff import Rate, Rounding, Step

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PASSWORD = "correct horse battery"
ONE_TIME = "first-and-only-once"
HOSTILE = "<script>alert(1)</script>\"' onload=x\u2028\u202etxt.exe ${7*7} {{7*7}}"
EURO = 1_000_000


@dataclass
class MovingClock:
    """A clock that stands still until a test moves it."""

    at: datetime = NOON
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


@dataclass
class CountedIds:
    """Ids in order."""

    given: int = 0

    def new(self, kind: str) -> str:
        self.given += 1
        return f"{kind}-{self.given:012}"

    def secret(self) -> str:
        self.given += 1
        return f"secret-{self.given:057}"


@dataclass
class World:
    """The company's stores."""

    engine: Engine
    redis: Redis
    clock: MovingClock = field(default_factory=MovingClock)
    ids: CountedIds = field(default_factory=CountedIds)

    @property
    def credit(self) -> CreditStore:
        return CreditStore(self.redis)

    @property
    def live(self) -> LiveCalls:
        return LiveCalls(self.redis, clock=self.clock)

    def account_id(self, name: str) -> int:
        with work(self.engine) as session:
            return accounts.find_account(session, name).id

    def wallet_id(self, name: str) -> int:
        with work(self.engine) as session:
            return accounts.find_account(session, name).wallet_id

    def balance(self, name: str) -> int:
        with work(self.engine) as session:
            return accounts.find_account(session, name).balance_micros

    def rows(self, table: Any) -> Sequence[Any]:
        with work(self.engine) as session:
            found = session.exec(select(table)).all()
            session.expunge_all()
            return found

    def call(self, number: int, account: str = "Anna's Bakery", **changes: Any) -> LiveCallView:
        now_ms = to_ms(self.clock.now())
        facts: dict[str, Any] = {
            "call_id": f"pbx:1763892000.{number}",
            "switch": "pbx",
            "account_id": self.account_id(account),
            "account": account,
            "direction": "outbound",
            "caller": "4930123456",
            "callee": "442071838750",
            "destination": "United Kingdom",
            "state": "talking",
            "offered_ms": now_ms - 70_000 - number,
            "answered_ms": now_ms - 65_000,
            "limit_ms": now_ms + 95_000,
            "held_micros": 1_250_000,
            "currency": "EUR",
        }
        return LiveCallView(**(facts | changes))


def open_world(made: Path, folder: Path, redis: Redis) -> World:
    """Open a copy of the company that `make_world` made."""
    shutil.copy(made, folder / "panel.db")
    return World(open_store(f"sqlite:///{folder / 'panel.db'}"), redis)


def make_world(folder: Path) -> Path:
    """Make the company: an operator, a reseller with two customers, a customer of its own, and an owner."""
    path = folder / "made.db"
    engine = open_store(f"sqlite:///{path}")
    migrate(engine)
    furnish(engine)
    engine.dispose()
    whole = folder / "whole.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(whole),))
    return whole


def furnish(engine: Engine) -> None:
    """Write the company into an empty store with the newest schema."""
    now = NOON - timedelta(days=30)
    with work(engine) as session:
        accounts.add_operator(session, name="Northwind Telecom", currency="EUR", actor="test", now=now)
        accounts.add_account(session, name="Bluebird Voice", kind=AccountKind.RESELLER, actor="test", now=now)
        for name, parent, code in (
            ("Anna's Bakery", "Bluebird Voice", "anna"),
            ("Copper & Sons", "Bluebird Voice", "copper"),
            ("Delta Logistics", None, "delta"),
        ):
            accounts.add_account(
                session,
                name=name,
                kind=AccountKind.CUSTOMER,
                parent=parent,
                max_calls=4,
                barred=("900",) if code == "delta" else (),
                identities=((IdentityKind.ACCOUNT_CODE, code),),
                actor="test",
                now=now,
            )
        users.add_user(session, login="owner", password=PASSWORD, role="owner", one_time=False, now=now)
        users.add_user(session, login="new", password=ONE_TIME, role="owner", one_time=True, now=now)
        users.add_user(session, login="guest", password=PASSWORD, role="read_only", one_time=False, now=now)
        for login, role, name in (("blue", "reseller", "Bluebird Voice"), ("anna", "customer", "Anna's Bakery")):
            account_id = accounts.find_account(session, name).id
            users.add_user(
                session, login=login, password=PASSWORD, role=role, account_id=account_id, one_time=False, now=now
            )
    for name, euros in (("Bluebird Voice", 500), ("Anna's Bakery", 25), ("Delta Logistics", 80)):
        with work(engine) as session:
            account_id = accounts.find_account(session, name).id
            topups.top_up(session, account_id, euros * EURO, operation=f"seed:{name}", actor="test", now=now)


def add_record(
    session: Session,
    world: World,
    number: int,
    account: str | None,
    *,
    charge_facts: dict[str, Any] | None = None,
    **changes: Any,
) -> Cdr:
    """Write a record straight into the tables, with one charge into the operator's income where it cost something."""
    account_id = None if account is None else accounts.find_account(session, account).id
    ended = world.clock.now() - timedelta(minutes=number)
    facts: dict[str, Any] = {
        "call_id": f"pbx:{number:06}",
        "switch": "pbx",
        "account_id": account_id,
        "direction": "outbound",
        "caller": "4930123456",
        "callee": "442071838750",
        "destination": "United Kingdom",
        "disposition": "answered",
        "offered_at": ended - timedelta(seconds=75),
        "answered_at": ended - timedelta(seconds=61),
        "ended_at": ended,
        "talk_ms": 61_000,
        "billable_ms": 61_000,
        "cause": 16,
        "hung_up_by": "caller",
        "cost_micros": 1_230_000,
        "currency": "EUR",
    }
    cdr = Cdr(**(facts | changes))
    session.add_all([cdr, CdrKey(call_id=cdr.call_id, ended_at=cdr.ended_at)])
    session.flush()
    if cdr.cost_micros and account_id is not None:
        wallet = session.exec(select(Wallet).where(col(Wallet.account_id) == account_id)).one()
        income = session.exec(select(Wallet).where(col(Wallet.kind) == WalletKind.INCOME)).one()
        session.add(
            Charge(
                call_id=cdr.call_id,
                level=0,
                account_id=account_id,
                wallet_id=id_of(wallet),
                to_wallet_id=id_of(income),
                amount_micros=cdr.cost_micros,
                currency="EUR",
                billed_s=66,
                facts=charge_facts or FACTS,
                ended_at=cdr.ended_at,
            )
        )
        session.flush()
    return cdr


RATE = Rate("44", "United Kingdom", Decimal("0.02"), (Step(0, Decimal("1.10"), 60, 6),), Rounding())
FACTS = {"tariff": "Retail", "tariff_id": 1, "version": 3, "billable_s": 61, "rate": RATE.facts()}


def refused(session: Session, world: World, number: int, reason: str, account: str | None = "Copper & Sons") -> Cdr:
    """Write the record of a refused call."""
    return add_record(
        session,
        world,
        number,
        account,
        disposition="refused",
        reason=reason,
        answered_at=None,
        talk_ms=0,
        billable_ms=0,
        cost_micros=0,
        currency="",
        sip_status=402,
        cause=21,
        hung_up_by="switch",
    )
