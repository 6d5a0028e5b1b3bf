"""`callctl rates export | versions | undo`: rates as a file that imports again, and the history of a tariff."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from billing.decks.exports import ExportFormat, export_csv, export_xlsx, read_version
from billing.decks.imports import find_tariff
from billing.decks.parts import undo_in_parts
from billing.decks.versions import list_versions
from callctl.cli.deck_import import progress
from callctl.cli.output import JsonOption, count, moment, people, print_json, row, say, table
from callctl.cli.shell import Failed, shell_of


def add_to(rates: typer.Typer) -> None:
    """Hang the commands below `callctl rates`."""
    rates.command("export")(export)
    rates.command("versions")(versions)
    rates.command("undo")(undo)


def export(
    ctx: typer.Context,
    tariff: Annotated[str, typer.Argument(help="The tariff's name.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", dir_okay=False, help="Standard output if not given."),
    ] = None,
    file_format: Annotated[
        ExportFormat | None, typer.Option("--format", help="By the file's name if not given, or else csv.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="An older version.")] = None,
) -> None:
    """Write the rates of a tariff as a deck; importing it gives the same rates."""
    shell = shell_of(ctx)
    named_xlsx = output is not None and output.suffix.lower() == ".xlsx"
    wanted = file_format or (ExportFormat.XLSX if named_xlsx else ExportFormat.CSV)
    with shell.reading() as session:
        rows, terms = read_version(session, find_tariff(session, tariff), version)
    if wanted is ExportFormat.XLSX:
        if output is None:
            raise typer.BadParameter("a workbook needs a file: --output rates.xlsx")
        _write(output, iter([export_xlsx(rows, terms)]))
    else:
        with progress(quiet=output is None) as bar:
            writing = bar.add_task("writing", total=rows.height)
            pages = export_csv(rows, terms, progress=lambda done: bar.update(writing, completed=done))
            _write(output, (page.encode() for page in pages))
    if output is not None:
        say(f"Wrote {count(rows.height, 'rate')} of tariff {tariff} to {output}.")


def _write(output: Path | None, pages: Iterator[bytes]) -> None:
    if output is None:
        for page in pages:
            sys.stdout.buffer.write(page)
        sys.stdout.flush()
        return
    # Whole or not at all: half a deck would import as a tariff without the rest.
    part = output.with_name(f".{output.name}.part")
    try:
        with part.open("wb") as file:
            for page in pages:
                file.write(page)
            file.flush()
            os.fsync(file.fileno())
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


def versions(
    ctx: typer.Context,
    tariff: Annotated[str, typer.Argument(help="The tariff's name.")],
    *,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List what made the versions of a tariff: who, when, from what file, and what changed."""
    with shell_of(ctx).reading() as session:
        found = find_tariff(session, tariff)
        facts: list[dict[str, Any]] = [
            {
                "version": made.version,
                "kind": made.kind.value,
                "file": made.file,
                "actor": made.actor,
                "at": moment(made.made_at),
                "effective_at": moment(made.effective_at),
                "undoes": made.undoes,
                "rates": made.rates,
                "counts": made.counts,
            }
            for made in list_versions(session, found, most=most)
        ]
        current = found.version
    if as_json:
        print_json({"tariff": tariff, "version": current, "versions": facts})
        return
    if not facts:
        say(f"Tariff {tariff} is at version {current}; nothing has been imported since versions are kept.")
        return
    made_of = table("version", "made by", "at", "how", "file", "from", "rates", "changes", right=("version", "rates"))
    for each in facts:
        how = f"undo of {each['undoes']}" if each["undoes"] else each["kind"]
        told = {kind: number for kind, number in each["counts"].items() if number and kind != "unchanged"}
        changes = ", ".join(f"{number} {kind}" for kind, number in told.items())
        row(
            made_of,
            (
                each["version"],
                each["actor"],
                each["at"],
                how,
                each["file"],
                each["effective_at"],
                each["rates"],
                changes or "none",
            ),
        )
    people().print(made_of)


def undo(
    ctx: typer.Context,
    tariff: Annotated[str, typer.Argument(help="The tariff's name.")],
    *,
    expected: Annotated[
        int | None, typer.Option("--version", min=1, help="Only if the tariff is at this version still.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take back the last import; one that was scheduled never happens. Undo again to go back further."""
    shell = shell_of(ctx)
    if not yes and not as_json:
        if not sys.stdin.isatty():
            raise Failed("undo asks before it changes rates: say --yes")
        if not typer.confirm(f"Take back the last import of tariff {tariff}?", err=True):
            raise Failed("nothing was changed")
    with shell.store() as engine:
        done = undo_in_parts(
            engine,
            tariff,
            operation=shell.ids.new("undo"),
            actor=shell.actor,
            clock=shell.clock,
            expected_version=expected,
        )
    if as_json:
        print_json({"tariff": tariff, "version": done.version, "rates": done.rates, "counts": done.counts})
        return
    say(
        f"Tariff {tariff} is at version {done.version}, with the rates of the version before the import: "
        f"{count(done.rates, 'rate')}."
    )
