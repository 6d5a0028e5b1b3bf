"""`callctl tariff add | rename | list`; what hangs below `callctl rates`."""

from __future__ import annotations

from typing import Annotated

import typer

from billing.decks.imports import find_tariff
from billing.models import id_of
from billing.tariffs import add_tariff, list_tariffs, rename_tariff
from callctl.cli import deck_export, deck_import
from callctl.cli.output import JsonOption, people, print_json, row, say, table
from callctl.cli.quote import quote
from callctl.cli.shell import shell_of
from rating.tariff import Rounding, RoundingMode

tariffs = typer.Typer(no_args_is_help=True, help="What calls cost.")
rates = typer.Typer(no_args_is_help=True, help="The rates of a tariff.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the command line."""
    app.add_typer(tariffs, name="tariff")
    app.add_typer(rates, name="rates")
    for part in (deck_import, deck_export):
        part.add_to(rates)
    app.command("quote")(quote)


@tariffs.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, unique.")],
    *,
    currency: Annotated[str, typer.Option(help="Three letters, such as EUR.")] = "EUR",
    rounding: Annotated[RoundingMode, typer.Option(help="How a total is rounded, once.")] = RoundingMode.HALF_UP,
    decimals: Annotated[int, typer.Option(min=0, max=6, help="To how many decimals.")] = 4,
    as_json: JsonOption = False,
) -> None:
    """Make an empty tariff; `callctl rates import` fills it."""
    shell = shell_of(ctx)
    with shell.work() as session:
        tariff = add_tariff(
            session,
            name=name,
            currency=currency,
            rounding=Rounding(rounding, decimals),
            actor=shell.actor,
            now=shell.clock.now(),
        )
        facts = {"name": tariff.name, "currency": tariff.currency, "version": tariff.version}
    if as_json:
        print_json(facts)
    else:
        say(f"Added tariff {facts['name']} in {facts['currency']}. Fill it: callctl rates import FILE --tariff {name}")


@tariffs.command("rename")
def rename(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    new: Annotated[str, typer.Argument(help="Its new name, unique.")],
) -> None:
    """Give a tariff another name. Whoever is charged by it stays so; past charges keep the old name."""
    shell = shell_of(ctx)
    with shell.work() as session:
        tariff_id = id_of(find_tariff(session, name))
        rename_tariff(session, tariff_id, new, actor=shell.actor, now=shell.clock.now())
    say(f"Tariff {name} is called {new} now.")


@tariffs.command("list")
def list_all(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the tariffs."""
    with shell_of(ctx).reading() as session:
        found = [
            {
                "name": tariff.name,
                "currency": tariff.currency,
                "version": tariff.version,
                "rates": count,
                "rounding": f"{tariff.rounding_mode} to {tariff.rounding_decimals} decimals",
            }
            for tariff, count in list_tariffs(session)
        ]
    if as_json:
        print_json(found)
        return
    made = table("name", "currency", "version", "rates", "rounding", right=("version", "rates"))
    for facts in found:
        row(made, list(facts.values()))
    people().print(made)
