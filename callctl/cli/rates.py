"""`callctl tariff add | list`, `callctl rates import`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlmodel import Session

from billing.errors import NotFound
from billing.tariffs import Imported, add_tariff, import_rates, list_tariffs
from callctl.cli.output import JsonOption, count, people, print_json, row, say, table, warn
from callctl.cli.quote import quote
from callctl.cli.shell import Failed, shell_of
from rating.deck import BadRow, Deck, read_deck
from rating.tariff import Rounding, RoundingMode

SHOWN_BAD_ROWS = 50

tariffs = typer.Typer(no_args_is_help=True, help="What calls cost.")
rates = typer.Typer(no_args_is_help=True, help="The rates of a tariff.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the command line."""
    app.add_typer(tariffs, name="tariff")
    app.add_typer(rates, name="rates")
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


@rates.command("import")
def import_deck(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A deck in CSV.")],
    *,
    tariff: Annotated[str, typer.Option(help="Whose rates these are; all of its rates are replaced.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read and check the file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a deck: every row, or none and a list of the bad ones."""
    shell = shell_of(ctx)
    with shell.reading() as session:
        rounding = rounding_of(session, tariff)
    done: Imported | None = None
    with progress(quiet=as_json) as bar:
        reading = bar.add_task("reading", total=None)
        deck = read(file, rounding, lambda rows: bar.update(reading, completed=rows))
        bar.update(reading, total=len(deck.rates), completed=len(deck.rates))
        if not deck.bad and not dry_run:
            storing = bar.add_task("storing", total=len(deck.rates))
            with shell.work() as session:
                done = import_rates(
                    session,
                    tariff,
                    deck.rates,
                    actor=shell.actor,
                    now=shell.clock.now(),
                    progress=lambda rows: bar.update(storing, completed=rows),
                )
    if deck.bad:
        tell_bad(file, deck.bad, as_json=as_json)
        raise Failed(f"{count(len(deck.bad), 'row')} of {file} cannot be read: nothing was imported")
    tell_import(done, tariff=tariff, rows=len(deck.rates), as_json=as_json)


def rounding_of(session: Session, name: str) -> Rounding:
    """Return how a tariff rounds. Raises `NotFound`."""
    for found, _ in list_tariffs(session):
        if found.name == name:
            return Rounding(RoundingMode(found.rounding_mode), found.rounding_decimals)
    raise NotFound(f"there is no tariff {name}: `callctl tariff add` makes one")


def read(file: Path, rounding: Rounding, progress: Callable[[int], None]) -> Deck:
    """Read a deck."""
    with file.open(encoding="utf-8", newline="") as text:
        return read_deck(text, rounding=rounding, progress=progress)


def progress(*, quiet: bool) -> Progress:
    """Return a progress display on standard error, so that standard output holds the result alone."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )


def tell_bad(file: Path, bad: tuple[BadRow, ...], *, as_json: bool) -> None:
    """List the rows that cannot be read."""
    if as_json:
        print_json({
            "imported": False,
            "bad": [{"line": found.line, "column": found.column, "reason": found.reason} for found in bad],
        })  # fmt: skip
        return
    made = table("line", "column", "reason", title=str(file), right=("line",))
    for found in bad[:SHOWN_BAD_ROWS]:
        row(made, (found.line, found.column, found.reason))
    people().print(made)
    if len(bad) > SHOWN_BAD_ROWS:
        warn(f"… and {len(bad) - SHOWN_BAD_ROWS} more; --json lists them all.")


def tell_import(done: Imported | None, *, tariff: str, rows: int, as_json: bool) -> None:
    """Say what an import changed."""
    if as_json:
        changed = (
            {}
            if done is None
            else {
                "version": done.version,
                "added": done.added,
                "removed": done.removed,
                "changed": done.changed,
                "unchanged": done.unchanged,
            }
        )
        print_json({"imported": done is not None, "tariff": tariff, "rows": rows, "bad": [], **changed})
    elif done is None:
        say(f"The file can be read: {count(rows, 'row')}. Nothing was imported (--dry-run).")
    else:
        say(
            f"Tariff {done.tariff} is at version {done.version}: {done.added} prefixes added, {done.changed} changed, "
            f"{done.removed} removed, {done.unchanged} as before."
        )
