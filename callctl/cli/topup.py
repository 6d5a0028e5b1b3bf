"""`callctl topup`: money into a wallet, in SQL first, then in the live credit store."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from billing.accounts import find_account
from billing.errors import CreditUnavailable
from billing.outbox import apply_now
from billing.store import work
from billing.topups import TopUp, top_up
from callctl.app import credit_link
from callctl.cli.output import JsonOption, money, print_json, say, warn
from callctl.cli.shell import shell_of
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
        with work(engine) as session:
            found = find_account(session, account)
            done = top_up(
                session,
                found.id,
                micros,
                operation=chosen,
                actor=shell.actor,
                reason=reason,
                now=shell.clock.now(),
            )

        async def follow() -> None:
            async with credit_link(settings.credit) as link:
                await apply_now(engine, link.credit, done.applied, clock=shell.clock)

        live = not done.replayed
        try:
            if live:
                asyncio.run(follow())
        except CreditUnavailable as error:
            live = False
            warn(
                f"The money is booked. Live calls will see it when the controller can reach the credit store ({error})."
            )
    finally:
        engine.dispose()
    tell(done, account=found.name, currency=found.currency, live=live, as_json=as_json)


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
