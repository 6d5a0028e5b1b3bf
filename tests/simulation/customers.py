"""The accounts of a seed: opened through the real ledger, paid into, and what the auditor is told of them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy.engine import Engine
from sqlmodel import Session

from billing import accounts, tariffs, topups
from billing.models import AccountKind, Cdr, Charge, IdentityKind
from billing.plans import carriers, exchange
from billing.plans.bundles import give_bundle
from billing.plans.edit import set_volume
from billing.store import work
from rating.tariff import Rate, Rounding, Step
from rating.volumes import Tier
from tests.simulation.auditor import Broken
from tests.simulation.clock import START
from tests.simulation.model import MICROS, Payer, exact, price
from tests.simulation.options import AccountPlan, Options


class Customers:
    """Whose money it is. `wallets`: account → wallet; `parents`: account → the reseller above it."""

    def __init__(self, options: Options, engine: Engine, now: Callable[[], datetime]) -> None:
        self.options, self.engine, self._now = options, engine, now
        self.wallets: dict[int, int] = {}
        self.parents: dict[int, int] = {}
        self.ids: list[int] = []
        self.credit: dict[int, int] = {}
        """wallet → credit limit"""
        self.chains: dict[str, tuple[Payer, ...]] = {}
        """account code → who pays"""
        self.asked: dict[str, tuple[int, int]] = {}
        """operation → account and amount of a top-up somebody asked for, once or more often"""
        self.given: dict[int, int] = {}
        """bundle's wallet → micro-units of its seconds"""
        self.flats: set[int] = set()
        self.tiers: set[int] = set()
        per_minute = options.trade.carrier_price
        steps = (Step(0, Decimal(per_minute or 0), 60, 1),)
        self.carried = Rate("49", "Germany", Decimal(0), steps, Rounding()) if per_minute else None
        """What the carrier of all calls charges, where there is one."""
        self._open()

    def _open(self) -> None:
        options = self.options
        trade = options.trade
        with work(self.engine) as session:
            accounts.add_operator(session, name="operator", currency="EUR", actor="sim", now=START)
            self._add_tariff(session, "retail", options.rates[0], "USD" if trade.worths else "EUR")
            self._add_tariff(session, "wholesale", options.rates[1], "EUR")
            for since_s, value in trade.worths:
                at, worth = START + timedelta(seconds=since_s), Decimal(value)
                exchange.set_exchange(session, "USD", "EUR", worth, source="sim", at=at, actor="sim", now=START)
            if self.carried is not None:
                self._add_tariff(session, "carrier", self.carried, "EUR")
                carriers.set_carrier(session, "carrier", "carrier", actor="sim", now=START)
                carriers.set_route(session, "49", "carrier", actor="sim", now=START)
            if trade.least_percent is not None:
                percent = Decimal(trade.least_percent)
                carriers.set_min_margin(session, tariff="retail", percent=percent, actor="sim", now=START)
        for number in range(len(options.accounts)):
            self._add(number)
        given: list[int] = []
        for account_id, plan in zip(self.ids, options.accounts, strict=True):
            # Half of what a reseller has goes on to the one below it.
            most = plan.opening_micros if plan.parent is None else given[plan.parent] // 2
            given.append(min(plan.opening_micros, most))
            if given[-1]:
                self.pay_in(account_id, given[-1], "opening")

    def _add_tariff(self, session: Session, name: str, rate: Rate, currency: str) -> None:
        tariffs.add_tariff(session, name=name, currency=currency, rounding=rate.rounding, actor="sim", now=START)
        tariffs.import_rates(session, name, [rate], actor="sim", now=START)

    def _add(self, number: int) -> None:
        plan, options = self.options.accounts[number], self.options
        parent = None if plan.parent is None else options.accounts[plan.parent].name
        with work(self.engine) as session:
            made = accounts.add_account(
                session,
                name=plan.name,
                kind=AccountKind.CUSTOMER if plan.code else AccountKind.RESELLER,
                parent=parent,
                tariff="retail" if plan.code else "wholesale",
                credit_limit_micros=plan.credit_limit_micros,
                max_calls=plan.max_calls,
                max_cps=plan.max_cps,
                max_call_micros=plan.around.most_call_micros,
                max_day_micros=plan.around.most_day_micros,
                identities=[(IdentityKind.ACCOUNT_CODE, plan.code)] if plan.code else [],
                actor="sim",
                now=START,
            )
            account_id = made.id or 0
            wallet = accounts.find_account(session, str(account_id)).wallet_id
        self.ids.append(account_id)
        self.wallets[account_id] = wallet
        self.credit[wallet] = plan.credit_limit_micros
        if plan.parent is not None:
            self.parents[account_id] = self.ids[plan.parent]
        if plan.code:
            chain, at = [self._payer(account_id, wallet, plan)], plan.parent
            while at is not None:
                chain.append(Payer(self.ids[at], self.wallets[self.ids[at]], options.rates[1]))
                at = options.accounts[at].parent
            self.chains[plan.code] = tuple(chain)

    def _payer(self, account_id: int, wallet_id: int, plan: AccountPlan) -> Payer:
        """Give a customer what stands around its prices."""
        around, bundles = plan.around, []
        with work(self.engine) as session:
            for priority, seconds in enumerate(around.bundles_s):
                given = give_bundle(
                    session,
                    plan.name,
                    name=f"bundle {priority}",
                    seconds=seconds,
                    prefixes=["49"],
                    priority=priority,
                    operation=f"bundle {account_id} {priority}",
                    actor="sim",
                    now=START,
                )
                bundles.append(int(given.facts["wallet_id"]))
                self.given[bundles[-1]] = seconds * MICROS
            told: dict[str, Any] = {
                "account": plan.name,
                "prefixes": ["49"],
                "timezone": "UTC",
                "actor": "sim",
                "now": START,
            }
            if around.flat_s:
                self.flats.add(set_volume(session, name="flat", fair_s=around.flat_s, **told))
            if around.tiers:
                tiers = [Tier(from_s, Decimal(percent)) for from_s, percent in around.tiers]
                self.tiers.add(set_volume(session, name="tiers", tiers=tiers, **told))
        self.credit.update(dict.fromkeys(bundles, 0))
        return Payer(
            account_id,
            wallet_id,
            self.options.rates[0],
            worths=tuple((START + timedelta(seconds=at), Fraction(text)) for at, text in self.options.trade.worths),
            tiers=tuple((from_s, 1 - Fraction(percent, 100)) for from_s, percent in around.tiers),
            bundles=tuple(bundles),
            flat_s=around.flat_s,
            most_micros=around.most_call_micros,
            most_day_micros=around.most_day_micros,
        )

    def check_plans(self, store: sqlite3.Connection, records: Sequence[tuple[Cdr, Sequence[Charge]]]) -> None:
        """Check what is counted in volume plans, what carriers get, and who earns too little. Raises `Broken`."""
        counted: Counter[tuple[int, int]] = Counter()
        for record, charges in records:
            for charge in charges:
                for plan_id, _, used_ms in charge.facts.get("counts", ()):
                    counted[plan_id, charge.account_id] += used_ms
            self._carried(store, record)
            if record.reason == "no_margin" and all(self._earns(record.account_id or 0)):
                raise Broken("margin", f"call {record.call_id} was refused, though it earns enough")
            if record.disposition == "answered" and not any(self._earns(record.account_id or 0)):
                raise Broken("margin", f"call {record.call_id} was let through, though it earns too little")
        kept = {
            (plan, account): ms
            for plan, account, ms in store.execute("SELECT plan_id, account_id, used_ms FROM month_usage")
        }
        if {key: used for key, used in kept.items() if used} != {key: used for key, used in counted.items() if used}:
            raise Broken("counted", f"the month has {kept}, the calls count {dict(counted)}")

    def _carried(self, store: sqlite3.Connection, record: Cdr) -> None:
        asked = store.execute("SELECT amount_micros FROM call_cost WHERE call_id = ?", (record.call_id,)).fetchone()
        due = price(self.carried, -(-record.talk_ms // 1000)) if self.carried and record.answered_at else None
        if (asked[0] if asked else None) != due:
            raise Broken("carrier", f"call {record.call_id} costs us {due}, {asked} is kept")

    def _earns(self, account_id: int) -> list[bool]:
        """Return for each tier a customer may be in whether its calls earn what they must, short and long ones."""
        least, chain = (
            self.options.trade.least_percent,
            [one for one in self.chains.values() if one[0].account_id == account_id],
        )
        if least is None or self.carried is None or not chain:
            return [True]
        bought = chain[0][1].rate if len(chain[0]) > 1 else self.carried
        found = []
        for pays in [part for _, part in chain[0][0].tiers] or [Fraction(1)]:
            incomes = {seconds: exact(chain[0][0].rate, seconds) * pays for seconds in (60, 3600)}
            short = (income - exact(bought, s) < income * Fraction(least, 100) for s, income in incomes.items())
            found.append(not any(short))
        return found

    def pay_in(self, account_id: int, amount_micros: int, operation: str) -> topups.TopUp | None:
        """Top up an account."""
        self.asked[f"{operation} {account_id}"] = (account_id, amount_micros)
        with work(self.engine) as session:
            return topups.top_up(
                session,
                account_id,
                amount_micros,
                operation=f"{operation} {account_id}",
                actor="sim",
                now=self._now(),
            )

    def paid_in(self, store: sqlite3.Connection) -> dict[int, int]:
        """Return what was put into each wallet: every operation that SQL knows counts once, however often asked for."""
        paid = {**dict.fromkeys(self.wallets.values(), 0), **self.given}
        for operation, (account_id, amount) in self.asked.items():
            if store.execute("SELECT 1 FROM operation WHERE id = ?", (operation,)).fetchone():
                paid[self.wallets[account_id]] += amount
                if account_id in self.parents:
                    paid[self.wallets[self.parents[account_id]]] -= amount
        return paid
