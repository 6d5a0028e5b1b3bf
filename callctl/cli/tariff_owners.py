"""`callctl tariff own`: whose prices a tariff holds."""

from __future__ import annotations

from typing import Annotated

import typer

from billing.accounts import find_account
from billing.tariff_owners import own_tariff
from callctl.cli.output import say
from callctl.cli.rates import tariffs
from callctl.cli.shell import shell_of


def add_to(app: typer.Typer) -> None:  # noqa: ARG001 - it hangs into the group of tariffs
    """Hang this command into the command line."""
    tariffs.command("own")(own)


def own(
    ctx: typer.Context,
    tariff: Annotated[str, typer.Argument(help="Its name.")],
    reseller: Annotated[str, typer.Argument(help="Whose prices it holds; none gives it back to the operator.")],
) -> None:
    """Give a tariff to a reseller: only accounts under it can be charged by it, never the reseller itself."""
    shell = shell_of(ctx)
    with shell.work() as session:
        owner = None if reseller == "none" else find_account(session, reseller).id
        own_tariff(session, tariff, owner, actor=shell.actor, now=shell.clock.now())
    say(f"{tariff} belongs to {'the operator' if owner is None else reseller}.")
