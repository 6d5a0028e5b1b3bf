"""`callctl exchange set | list`: what a currency is worth in another, where tariff and wallet are not in the same."""

from __future__ import annotations

from typing import Annotated

import typer

from billing.plans.exchange import list_exchanges, set_exchange
from callctl.cli.output import JsonOption, moment, people, print_json, row, say, table
from callctl.cli.plans import decimal
from callctl.cli.quote import read_time
from callctl.cli.shell import shell_of

exchanges = typer.Typer(no_args_is_help=True, help="Exchange rates.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(exchanges, name="exchange")


@exchanges.command("set")
def set_rate(
    ctx: typer.Context,
    from_currency: Annotated[str, typer.Argument(metavar="FROM", help="The tariff's currency, such as USD.")],
    to_currency: Annotated[str, typer.Argument(metavar="TO", help="The wallet's currency, such as EUR.")],
    value: Annotated[str, typer.Argument(help="What one of the first is worth in the second, such as 0.92.")],
    *,
    source: Annotated[str, typer.Option(help="Who says so.")] = "operator",
    at: Annotated[str, typer.Option(metavar="ISO", help="From when on, with its zone; now if not given.")] = "",
) -> None:
    """Set an exchange rate. It holds for calls offered from then on; those offered before keep theirs."""
    shell = shell_of(ctx)
    now = shell.clock.now()
    since = read_time(at) if at else now
    worth = decimal(value, "VALUE")
    with shell.work() as session:
        new = set_exchange(
            session, from_currency, to_currency, worth, source=source, at=since, actor=shell.actor, now=now
        )
    before = "" if new else " (that was set before)"
    say(f"1 {from_currency} = {value} {to_currency} from {moment(since)} on{before}.")


@exchanges.command("list")
def list_all(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List exchange rates, the latest of each pair first."""
    with shell_of(ctx).reading() as session:
        found = [
            {
                "from": one.from_currency,
                "to": one.to_currency,
                "value": one.value,
                "source": one.source,
                "at": moment(one.at),
            }
            for one in list_exchanges(session)
        ]
    if as_json:
        print_json(found)
        return
    if not found:
        say("There are none: each account pays in the currency of its tariff.")
        return
    made = table("1", "is", "of", "from (UTC)", "source", right=("is",))
    for one in found:
        row(made, (one["from"], one["value"], one["to"], one["at"], one["source"]))
    people().print(made)
