"""`callctl quote --account`: what a call of an account would cost everybody who pays for it, and why."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import typer
from sqlmodel import Session, col, select

from billing.accounts import find_account
from billing.cdrs import EndedCharge
from billing.charges import behind, explain, explain_cost
from billing.models import Wallet
from billing.plans.store import catalogue_in_store
from callctl.admission import Refused, dialled, price_chain
from callctl.cli.output import print_json, say
from callctl.cli.shell import Failed, shell_of
from callctl.terms import Terms
from rating.money import MOST_MICROS, format_amount


def quote_account(
    ctx: typer.Context, account: str, to: str, seconds: int, at: datetime | None, *, as_json: bool
) -> None:
    """Price a call as it would be priced if it were offered and answered at this time."""
    shell = shell_of(ctx)
    when = at or shell.clock.now()
    with shell.reading() as session:
        payer = find_account(session, account)
        catalogue = catalogue_in_store(session)
        chain = catalogue.payers(payer.id)
        if not chain:
            raise Failed(f"{payer.name} pays for no calls")
        terms = price_chain(catalogue, chain, dialled(to), when)
        if isinstance(terms, Refused):
            raise Failed(f"a call of {payer.name} to {to} would be refused: {terms.refusal.code}")
        terms = _with_bundles(session, terms, seconds, when)
    charges = terms.charges(seconds * 1000, when)
    cost = terms.cost(seconds * 1000, when)
    behind_cost = explain_cost(cost, charges) if cost else []
    if as_json:
        print_json({**_facts(terms, charges), "carrier": behind_cost})
        return
    for level, charge in zip(terms.levels, charges, strict=True):
        say(f"{level.account} pays {format_amount(charge.amount_micros)} {charge.currency}:", style="bold")
        for line in explain(charge):
            say(f"  {line}")
        for line in behind(charge):
            say(f"  (for the operator) {line}", style="dim")
    if behind_cost:
        say("For the operator:", style="bold")
        for line in behind_cost:
            say(f"  {line}")


def _with_bundles(session: Session, terms: Terms, seconds: int, when: datetime) -> Terms:
    """Let the bundles pay for what they have in the store: as if no call went on, and money were no limit."""
    wallets = {bundle.wallet_id for level in terms.levels for bundle in level.bundles}
    if not wallets:
        return terms
    found = session.exec(select(Wallet.id, Wallet.balance_micros).where(col(Wallet.id).in_(wallets)))
    left = dict(found.all())
    have = tuple(
        funds
        for level in terms.levels
        for funds in (MOST_MICROS, *(left.get(bundle.wallet_id, 0) for bundle in level.bundles))
    )
    return terms.within(have, seconds, 0, when)[1]


def _facts(terms: Terms, charges: tuple[EndedCharge, ...]) -> dict[str, Any]:
    payer, rate = charges[0], terms.levels[0].rate
    return {
        "cost": format_amount(payer.amount_micros, decimals=0),
        "billed_seconds": payer.billed_s,
        "currency": payer.currency,
        "prefix": rate.prefix,
        "destination": rate.destination,
        "levels": [
            {
                "account": level.account,
                "tariff": level.tariff,
                "cost": format_amount(charge.amount_micros, decimals=0),
                "currency": charge.currency,
                "why": explain(charge),
                "behind": behind(charge),
            }
            for level, charge in zip(terms.levels, charges, strict=True)
        ],
    }
