"""`callctl topup`: money into a wallet, in SQL first, then in the live credit store."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import typer
from sqlalchemy.engine import Engine

from billing import moves
from billing.accounts import find_account
from billing.errors import CreditUnavailable
from billing.settings import CreditSettings
from billing.store import reading, work
from billing.topups import TopUp, is_paid_by_operator, top_up
from callctl.app import credit_link
from callctl.cli.output import JsonOption, money, print_json, say, warn
from callctl.cli.shell import Shell, shell_of
from rating.money import format_amount, parse_amount


def add_to(app: typer.Typer) -> None:
    """Hang this command into the command line."""
    app.command("topup")(topup)


def topup(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    amount: Annotated[str, typer.Argument(help='A plain decimal such as "12.50", in the account\'s currency.')],
    *,
    operation: Annotated[
        str | None,
        typer.Option("--id", metavar="OPERATION", help="Your own id of this top-up: done once, however often told."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the statement.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Add money to an account; live calls of it get longer at once."""
    shell = shell_of(ctx)
    settings = shell.settings()
    engine = shell.engine(settings)
    micros = parse_amount(amount)
    chosen = operation or shell.ids.new("topup")
    try:
        with reading(engine) as session:
            found = find_account(session, account)
        order = Ask(found.id, micros, chosen, shell.actor, reason)
        done, live = asyncio.run(book(shell, settings.credit, engine, order))
    finally:
        engine.dispose()
    if not live:
        warn("The money is booked. Live calls will see it when the controller can reach the credit store.")
    live = live and not done.replayed
    tell(done, account=found.name, currency=found.currency, live=live, as_json=as_json)


@dataclass(frozen=True, slots=True)
class Ask:
    """The top-up that is asked for."""

    account_id: int
    amount_micros: int
    operation: str
    actor: str
    reason: str


async def book(shell: Shell, credit: CreditSettings, engine: Engine, ask: Ask) -> tuple[TopUp, bool]:
    """Book the money; return what was done, and whether the live credit store knows.

    A top-up from the operator's cash needs no credit store. One out of a reseller's money does: it alone knows what
    calls hold of that. Raises `CreditUnavailable` then.
    """
    try:
        async with credit_link(credit) as link:
            moved = await moves.pay_in(
                engine,
                link.credit,
                ask.account_id,
                ask.amount_micros,
                operation=ask.operation,
                actor=ask.actor,
                reason=ask.reason,
                clock=shell.clock,
            )
            return moved.done, moved.live
    except CreditUnavailable:
        with work(engine) as session:
            if not is_paid_by_operator(session, ask.account_id):
                raise
            done = top_up(
                session,
                ask.account_id,
                ask.amount_micros,
                operation=ask.operation,
                actor=ask.actor,
                reason=ask.reason,
                now=shell.clock.now(),
            )
            return done, False


def tell(done: TopUp, *, account: str, currency: str, live: bool, as_json: bool) -> None:
    """Say what was done; the id is printed so that the caller can ask again without paying twice."""
    if as_json:
        print_json({
            "operation": done.operation,
            "account": account,
            "amount": format_amount(done.amount_micros),
            "balance": format_amount(done.balance_micros),
            "currency": currency,
            "replayed": done.replayed,
            "live": live,
        })  # fmt: skip
        return
    again = " (done before: nothing was changed)" if done.replayed else ""
    say(f"{account} topped up by {money(done.amount_micros, currency)}{again}; operation {done.operation}.")
    say(f"Balance: {money(done.balance_micros, currency)}.")
