"""`callctl bundle give | list`: seconds of talk that an account has before its money is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from sqlalchemy.engine import Engine

from billing import outbox
from billing.errors import CreditUnavailable
from billing.ledger import Applied
from billing.plans.bundles import give_bundle, list_bundles
from billing.store import work
from callctl.app import credit_link
from callctl.cli.output import JsonOption, moment, people, print_json, row, say, span, table, warn
from callctl.cli.quote import read_time
from callctl.cli.shell import Shell, shell_of
from rating.money import MICROS

bundles = typer.Typer(no_args_is_help=True, help="Bundles of minutes.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(bundles, name="bundle")


@bundles.command("give")
def give(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    *,
    minutes: Annotated[int, typer.Option(min=1, help="How many minutes.")],
    prefix: Annotated[list[str] | None, typer.Option(help="For numbers that begin so; may repeat.")] = None,
    name: Annotated[str, typer.Option(help="What it is called on the bill.")] = "",
    priority: Annotated[int, typer.Option(help="Of several, the lowest is used first.")] = 0,
    expires: Annotated[str, typer.Option(metavar="ISO", help="Until when, with its zone; for ever if not given.")] = "",
    operation: Annotated[str, typer.Option("--id", help="Your own id: with it, it is done once.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Give an account minutes that its calls use up before its money."""
    shell = shell_of(ctx)
    until = read_time(expires) if expires else None
    engine = shell.engine(shell.settings())
    called = name or f"{minutes} minutes"
    try:
        with work(engine) as session:
            made = give_bundle(
                session,
                account,
                name=called,
                seconds=minutes * 60,
                prefixes=prefix or [""],
                priority=priority,
                expires_at=until,
                operation=operation or shell.ids.new("bundle"),
                actor=shell.actor,
                now=shell.clock.now(),
            )
        told = asyncio.run(_tell(shell, engine, made.applied))
    finally:
        engine.dispose()
    if as_json:
        print_json({**made.facts, "replayed": made.replayed, "told": told})
        return
    say(f"{account} had this bundle already." if made.replayed else f"{account} has the bundle {called}.")
    if not told:
        warn("The live credit store does not answer: calls use it a moment after it does.")


async def _tell(shell: Shell, engine: Engine, applied: Sequence[Applied]) -> bool:
    if not applied:
        return True
    try:
        async with credit_link(shell.settings().credit) as link:
            await outbox.apply_now(engine, link.credit, applied, clock=shell.clock)
    except CreditUnavailable:
        return False
    return True


@bundles.command("list")
def list_all(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    as_json: JsonOption = False,
) -> None:
    """List an account's bundles in the order in which they are used. What is left counts calls that are settled."""
    with shell_of(ctx).reading() as session:
        found = list_bundles(session, account)
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "prefixes": list(one.prefixes),
                    "priority": one.priority,
                    "expires_at": moment(one.expires_at),
                    "expired": one.expired_at is not None,
                    "seconds_left": one.left_micros // MICROS,
                }
                for one in found
            ]
        )
        return
    if not found:
        say(f"{account} has no bundles: its calls are paid in money.")
        return
    made = table("bundle", "numbers that begin with", "left", "until (UTC)", right=("left",))
    for one in found:
        prefixes = ", ".join(prefix or "(all)" for prefix in one.prefixes)
        until = "expired" if one.expired_at else moment(one.expires_at) or "for ever"
        row(made, (one.name, prefixes, span(one.left_micros // MICROS), until))
    people().print(made)
