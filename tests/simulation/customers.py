"""The accounts of a seed: opened through the real ledger, paid into, and what the auditor is told of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.engine import Engine

from billing import accounts, tariffs, topups
from billing.models import AccountKind, IdentityKind
from billing.store import work
from tests.simulation.auditor import Payer
from tests.simulation.clock import START
from tests.simulation.options import Options


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
        self._open()

    def _open(self) -> None:
        options = self.options
        with work(self.engine) as session:
            accounts.add_operator(session, name="operator", currency="EUR", actor="sim", now=START)
            for name, rate in zip(("retail", "wholesale"), options.rates, strict=True):
                tariffs.add_tariff(session, name=name, currency="EUR", rounding=rate.rounding, actor="sim", now=START)
                tariffs.import_rates(session, name, [rate], actor="sim", now=START)
        for number in range(len(options.accounts)):
            self._add(number)
        for number, plan in enumerate(options.accounts):
            if plan.parent is None and plan.opening_micros:
                self.pay_in(self.ids[number], plan.opening_micros, "opening")
            elif plan.parent is not None and plan.opening_micros and not plan.code:
                most = options.accounts[plan.parent].opening_micros // 2
                self.pay_in(self.ids[number], min(plan.opening_micros, most), "o")

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
            chain, at = [Payer(account_id, wallet, options.rates[0])], plan.parent
            while at is not None:
                chain.append(Payer(self.ids[at], self.wallets[self.ids[at]], options.rates[1]))
                at = options.accounts[at].parent
            self.chains[plan.code] = tuple(chain)

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
        paid = dict.fromkeys(self.wallets.values(), 0)
        for operation, (account_id, amount) in self.asked.items():
            if store.execute("SELECT 1 FROM operation WHERE id = ?", (operation,)).fetchone():
                paid[self.wallets[account_id]] += amount
                if account_id in self.parents:
                    paid[self.wallets[self.parents[account_id]]] -= amount
        return paid
