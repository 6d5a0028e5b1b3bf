"""`callctl account move`: another place in the tree."""

from __future__ import annotations

from typing import Annotated

import typer

from billing.account_tree import KEEP, move_account
from billing.accounts import find_account
from callctl.cli.accounts import accounts
from callctl.cli.output import say
from callctl.cli.shell import shell_of


def add_to(app: typer.Typer) -> None:  # noqa: ARG001 - it hangs into the group of accounts
    """Hang this command into the command line."""
    accounts.command("move")(move)


def move(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number; all accounts below it go with it.")],
    under: Annotated[str, typer.Option(help="The reseller it is to hang under, or the operator.")],
    tariff: Annotated[
        str | None, typer.Option(help="What it is charged by from then on, or none; else what it has now.")
    ] = None,
) -> None:
    """Hang an account under another: calls offered from now on are paid there. The past stays with who paid."""
    shell = shell_of(ctx)
    wanted = KEEP if tariff is None else None if tariff == "none" else tariff
    with shell.work() as session:
        found, above = find_account(session, account), find_account(session, under)
        moved = move_account(session, found.id, above.id, tariff=wanted, actor=shell.actor, now=shell.clock.now())
    if moved:
        say(f"{found.name} hangs under {above.name} now. Calls that are up keep who pays for them.")
    else:
        say(f"{found.name} hung under {above.name} already; nothing was changed.")
