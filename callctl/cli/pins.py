"""`callctl pin add | list | take`: what callers type so that an account pays."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from billing import account_changes, pins
from billing.accounts import find_account
from billing.models import IdentityKind
from billing.pins import LEAST_DIGITS, MOST_DIGITS
from callctl.cli.account_options import pin_facts
from callctl.cli.output import JsonOption, moment, people, print_json, row, say, table
from callctl.cli.shell import shell_of

commands = typer.Typer(no_args_is_help=True, help="PINs of calling cards: what callers type so that an account pays.")
AccountArgument = Annotated[str, typer.Argument(help="The account's name or number.")]


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(commands, name="pin")


@commands.command("add")
def add(
    ctx: typer.Context,
    account: AccountArgument,
    *,
    digits: Annotated[
        int | None,
        typer.Option(min=LEAST_DIGITS, max=MOST_DIGITS, help="How many digits; else what callctl.toml says."),
    ] = None,
    choose: Annotated[
        bool, typer.Option("--choose", help="Ask for a PIN of your choice (or read it from standard input).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a PIN. It is shown once, now.

    A PIN of your choice is never an option's value: the command line is seen by others and kept by the shell.
    """
    if choose and digits is not None:
        raise typer.BadParameter("a PIN of your choice has the digits that it has", param_hint="--digits")
    shell = shell_of(ctx)
    settings = shell.settings().pins
    wished = _asked() if choose else None
    with shell.work() as session:
        found = find_account(session, account)
        made = pins.make_pin(
            session,
            found.id,
            secret=settings.secret.get_secret_value(),
            ids=shell.ids,
            wished=wished,
            digits=digits or settings.digits,
            actor=shell.actor,
            now=shell.clock.now(),
        )
    if as_json:
        print_json({"account": found.name, "number": made.number, "made_at": moment(made.made_at), "pin": made.pin})
        return
    say(f"PIN no. {made.number} of {found.name}, shown only now:")
    people().print(f"\n    {pins.spaced(made.pin)}\n", markup=False)


@commands.command("list")
def list_all(ctx: typer.Context, account: AccountArgument, as_json: JsonOption = False) -> None:
    """List an account's PINs: their numbers and when they were made. Nobody has the PINs themselves any more."""
    with shell_of(ctx).reading() as session:
        found = find_account(session, account)
    if as_json:
        print_json(pin_facts(found))
        return
    if not found.pins:
        say(f"{found.name} has no PIN.", style="dim")
        return
    made = table("no.", "made", right=("no.",))
    for number, made_at in found.pins:
        row(made, (number, moment(made_at)))
    people().print(made)


@commands.command("take")
def take(
    ctx: typer.Context,
    account: AccountArgument,
    number: Annotated[str, typer.Argument(help="The PIN's number in the list, not the PIN.")],
    as_json: JsonOption = False,
) -> None:
    """Take a PIN away: from now on nobody calls with it."""
    shell = shell_of(ctx)
    with shell.work() as session:
        found = find_account(session, account)
        account_changes.free_identity(
            session, found.id, IdentityKind.PIN, number, actor=shell.actor, now=shell.clock.now()
        )
        session.flush()
        after = find_account(session, str(found.id))
    if as_json:
        print_json(pin_facts(after))
    else:
        say(f"PIN no. {number} of {after.name} is gone. Calls that are up go on.")


def _asked() -> str:
    if sys.stdin.isatty():
        wished: str = typer.prompt("The PIN", hide_input=True, confirmation_prompt=True)
        return wished
    return sys.stdin.readline().strip()
