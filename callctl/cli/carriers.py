"""`callctl carrier set | route | margin | list`: who carries calls, at what cost, and what a call must earn."""

from __future__ import annotations

from typing import Annotated

import typer

from billing.plans.carriers import list_carriers, set_carrier, set_min_margin, set_route
from callctl.cli.output import JsonOption, people, print_json, row, say, table
from callctl.cli.plans import PrefixOption, RemoveOption, decimal
from callctl.cli.shell import shell_of

carriers = typer.Typer(no_args_is_help=True, help="Carriers, their cost, and the least margin.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(carriers, name="carrier")


@carriers.command("set")
def set_one(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    tariff: Annotated[str, typer.Option(help="What it charges.")],
) -> None:
    """Make a carrier, or let it charge by another tariff."""
    shell = shell_of(ctx)
    with shell.work() as session:
        set_carrier(session, name, tariff, actor=shell.actor, now=shell.clock.now())
    say(f"Carrier {name} charges by tariff {tariff}. Which calls go there: callctl carrier route {name}")


@carriers.command("route")
def route(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The carrier.")],
    *,
    prefix: PrefixOption = "",
    remove: RemoveOption = False,
) -> None:
    """Say which calls a carrier gets, so that their cost is known; the longest prefix counts."""
    shell = shell_of(ctx)
    with shell.work() as session:
        set_route(session, prefix, None if remove else name, actor=shell.actor, now=shell.clock.now())
    numbers = f"numbers that begin with {prefix}" if prefix else "all numbers"
    say(f"No carrier is named for {numbers} now." if remove else f"Calls to {numbers} cost what {name} charges.")


@carriers.command("margin")
def margin(
    ctx: typer.Context,
    *,
    account: Annotated[str | None, typer.Option(help="Whose calls must earn it.")] = None,
    tariff: Annotated[str | None, typer.Option(help="Or: calls sold in which tariff.")] = None,
    percent: Annotated[str | None, typer.Option(help="How many percent of the price.")] = None,
    per_min: Annotated[str | None, typer.Option(help="How much a minute.")] = None,
    remove: RemoveOption = False,
) -> None:
    """Refuse calls that would earn less, before they ring. What is not known to earn enough is refused, too."""
    if not remove and percent is None and per_min is None:
        raise typer.BadParameter("give --percent, --per-min, or --remove")
    shell = shell_of(ctx)
    with shell.work() as session:
        set_min_margin(
            session,
            account=account,
            tariff=tariff,
            percent=None if remove or percent is None else decimal(percent, "--percent"),
            per_min=None if remove or per_min is None else decimal(per_min, "--per-min"),
            actor=shell.actor,
            now=shell.clock.now(),
        )
        routes = any(carrier.prefixes for carrier in list_carriers(session))
    say(f"Calls of {account or tariff} need not earn anything now." if remove else f"Set for {account or tariff}.")
    if not routes and not remove:
        say("No carrier has a route yet, so no cost is known: such calls are refused until one has.", style="yellow")


@carriers.command("list")
def list_all(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the carriers."""
    with shell_of(ctx).reading() as session:
        found = list_carriers(session)
    if as_json:
        print_json(
            [
                {"name": one.name, "tariff": one.tariff, "currency": one.currency, "prefixes": list(one.prefixes)}
                for one in found
            ]
        )
        return
    if not found:
        say("There are none, so what calls cost you is not known: callctl carrier set NAME --tariff TARIFF")
        return
    made = table("carrier", "tariff", "currency", "numbers that begin with")
    for one in found:
        row(made, (one.name, one.tariff, one.currency, ", ".join(prefix or "(all)" for prefix in one.prefixes)))
    people().print(made)
