"""`callctl rates import`: what a file says is guessed, shown and confirmed, with what would change."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from billing.decks.imports import Imported, Order, Preview, find_tariff, preview, rounding_of
from billing.decks.parts import import_in_parts
from callctl.cli.output import JsonOption, count, moment, people, print_json, row, say, table, warn
from callctl.cli.shell import Failed, Shell, shell_of
from rating.bands import zone_of
from rating.decks.changes import Kind, Mode
from rating.decks.deck import BadRow, Deck
from rating.decks.deck import moment as instant
from rating.decks.guards import guard
from rating.decks.mapping import FIELDS, TITLES, Mapping, mapped
from rating.decks.reading import guess, read_deck, with_international
from rating.decks.sheet import MOST_BYTES, Sheet, open_sheet
from rating.errors import TariffError
from rating.money import format_amount

SHOWN_BAD_ROWS = 50
SHOWN_CHANGES = 20
_SAMPLE = 3
_NAMES = {
    Kind.ADDED: "added",
    Kind.REMOVED: "removed",
    Kind.DEARER: "dearer",
    Kind.CHEAPER: "cheaper",
    Kind.BARRED: "barred",
    Kind.UNBARRED: "no longer barred",
    Kind.OTHERWISE: "changed at the same price",
    Kind.RENAMED: "renamed",
    Kind.UNCHANGED: "as before",
}


def add_to(rates: typer.Typer) -> None:
    """Hang the command below `callctl rates`."""
    rates.command("import")(import_rates)


def import_rates(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A deck: CSV or XLSX.")],
    *,
    tariff: Annotated[str, typer.Option(help="Whose rates these are; all of its rates are replaced.")],
    merge: Annotated[bool, typer.Option("--merge", help="Add and change only what the file names.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the prefixes that the file names.")] = False,
    effective: Annotated[
        str, typer.Option(metavar="ISO", help="When it comes into force, with its zone; until then nothing changes.")
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Take what was guessed, without asking.")] = False,
    columns: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="What a column means; also by its number.")
    ] = None,
    format_name: Annotated[str, typer.Option("--format", help=f"Whose columns these are: {', '.join(FIELDS)}.")] = "",
    delimiter: Annotated[str, typer.Option(help="What stands between fields; found out if not given.")] = "",
    encoding: Annotated[str, typer.Option(help="The file's encoding; found out if not given.")] = "",
    header: Annotated[
        bool | None,
        typer.Option("--header/--no-header", help="Whether the first line names the columns; found out if not given."),
    ] = None,
    sheet: Annotated[str, typer.Option(help="The sheet of a workbook; the first with rates if not given.")] = "",
    decimal: Annotated[str, typer.Option(help="The decimal mark, . or , ; found out if not given.")] = "",
    zone: Annotated[str, typer.Option(help="The time zone of times that name none, such as Europe/Berlin.")] = "",
    errors: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the bad rows there, as CSV.")] = None,
    most: Annotated[int, typer.Option(min=0, max=1_000_000, help="How many changes to show.")] = SHOWN_CHANGES,
    as_json: JsonOption = False,
) -> None:
    """Import a deck: every row, or none and a list of the bad ones."""
    shell = shell_of(ctx)
    if merge and remove:
        raise typer.BadParameter("--merge and --remove cannot be had together")
    if decimal not in {"", ".", ","}:
        raise typer.BadParameter("--decimal is . or ,")
    mode = Mode.MERGE if merge else Mode.REMOVE if remove else Mode.REPLACE
    order = Order(mode, _time(effective) if effective else None)
    found = _open(file, encoding, delimiter, header=header, table=sheet, named=columns or [])
    mapping = _mapping(found, format_name, columns or [], decimal=decimal, zone=zone)
    with shell.reading() as session:
        known = find_tariff(session, tariff)
        rounding, currency = rounding_of(known), known.currency
    with progress(quiet=as_json) as bar:
        reading = bar.add_task("reading", total=found.frame.height)
        deck = read_deck(
            found,
            mapping,
            rounding=rounding,
            currency=currency,
            prices=mode is not Mode.REMOVE,
            progress=lambda rows: bar.update(reading, completed=rows),
        )
    if errors is not None:
        write_errors(errors, deck.bad)
    if deck.bad:
        if not as_json:
            tell_mapping(found, mapping, deck)
        tell_bad(file, deck.bad, as_json=as_json, errors=errors)
        raise Failed(f"{count(len(deck.bad), 'row')} of {file} cannot be read: nothing was imported")
    is_sure = mapping.is_exact and not (deck.notes or deck.skipped or found.notes)
    if dry_run or not (is_sure or yes):
        seen = _look(shell, tariff, deck, order)
        if not as_json:
            tell_mapping(found, mapping, deck)
            tell_preview(seen, most)
        if dry_run:
            if as_json:
                print_json(_preview_facts(seen, found, mapping, deck, most))
            else:
                say(f"The file can be read: {count(len(deck), 'row')}. Nothing was imported (--dry-run).")
            return
        _confirm(as_json=as_json)
        expected: int | None = seen.version
    else:
        expected = None
    done = _store(shell, tariff, deck, order, file=file.name, expected=expected, quiet=as_json)
    tell_import(done, order, rows=len(deck), as_json=as_json)


def _open(file: Path, encoding: str, delimiter: str, *, header: bool | None, table: str, named: Sequence[str]) -> Sheet:
    """Read a file. Whoever names columns by words of its first line has seen that it is a header."""
    data = _bytes(file)

    def read(header: bool | None) -> Sheet:
        mark = "\t" if delimiter == "\\t" else delimiter
        return open_sheet(data, name=file.name, encoding=encoding, delimiter=mark, header=header, table=table)

    found = read(header)
    if not named or header is not None or found.header_line:
        return found
    headed = read(True)
    names = {change.rpartition("=")[0].strip() for change in named}
    return headed if names & {*headed.columns} - {*found.columns} else found


def _bytes(file: Path) -> bytes:
    if file.stat().st_size > MOST_BYTES:
        raise Failed(f"{file}: a deck has at most {MOST_BYTES // 1024 // 1024} MB")
    return file.read_bytes()


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        expected = "--effective: expected a time such as 2027-01-31T00:00+01:00"
        raise typer.BadParameter(f"{expected}, not {text!r}") from error
    if at.tzinfo is None:
        raise typer.BadParameter("--effective: expected a time with its zone, such as 2027-01-31T00:00+01:00 or …Z")
    return at


def _mapping(sheet: Sheet, format_name: str, changes: Sequence[str], *, decimal: str, zone: str) -> Mapping:
    try:
        mapping = guess(sheet, format_name=format_name)
        if zone:
            zone_of(zone)
        if changes:
            mapping = with_international(sheet, mapped(mapping, sheet.columns, changes))
    except TariffError as error:
        raise typer.BadParameter(str(error)) from error
    return replace(mapping, decimal=decimal, zone=zone)


def _look(shell: Shell, tariff: str, deck: Deck, order: Order) -> Preview:
    with shell.reading() as session:
        return preview(session, find_tariff(session, tariff), deck, order, now=shell.clock.now())


def _store(
    shell: Shell, tariff: str, deck: Deck, order: Order, *, file: str, expected: int | None, quiet: bool
) -> Imported:
    with progress(quiet=quiet) as bar, shell.store() as engine:
        storing = bar.add_task("storing", total=len(deck))
        return import_in_parts(
            engine,
            tariff,
            deck,
            order,
            operation=shell.ids.new("import"),
            actor=shell.actor,
            clock=shell.clock,
            file=file,
            expected_version=expected,
            progress=lambda rows: bar.update(storing, completed=rows),
        )


def _confirm(*, as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise Failed(
            "what the columns mean was guessed, or cells were read as something else: look at it (--dry-run), "
            "change it (--map COLUMN=FIELD), and take it with --yes. Nothing was imported"
        )
    if not typer.confirm("Import this?", err=True):
        raise Failed("nothing was imported")


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


# -- what the file says ------------------------------------------------------------------------------------------------


def tell_mapping(sheet: Sheet, mapping: Mapping, deck: Deck) -> None:
    """Show how the file was read: what each column means, and what was understood in its cells."""
    kinds = {"xlsx": f"sheet {sheet.table!r} of a workbook", "cgrates": "a plan of CGRateS"}
    kind = kinds.get(sheet.kind, f"CSV, {sheet.encoding}")
    between = {"\t": "tabs"}.get(sheet.delimiter, sheet.delimiter)
    header = f"header on line {sheet.header_line}" if sheet.header_line else "no header"
    split = f", fields between {between}" if sheet.kind == "csv" else ""
    say(f"Read as {kind}{split}, {header}, in the format of {TITLES[mapping.format]}.")
    made = table("column", "means", "first cells")
    for number, (column, field) in enumerate(zip(sheet.columns, mapping.fields, strict=True)):
        first = sheet.frame[str(number)].head(_SAMPLE).to_list()
        row(made, (column, field or "– (left out)", ", ".join(first)[:60]))
    people().print(made)
    for note in deck.notes:
        rows = count(note.count, "row")
        warn(f"Understood: {note.what} ({rows}, first on line {note.line}): {note.found} is read as {note.means}.")
    for text in (*sheet.notes, *deck.skipped):
        warn(f"Note: {text}.")


def tell_bad(file: Path, bad: tuple[BadRow, ...], *, as_json: bool, errors: Path | None = None) -> None:
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
        where = f"{errors} lists them all." if errors else "--errors FILE writes them all, --json lists them."
        warn(f"… and {len(bad) - SHOWN_BAD_ROWS} more; {where}")


def write_errors(file: Path, bad: Sequence[BadRow]) -> None:
    """Write bad rows as CSV."""
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(("line", "column", "reason"))
        writer.writerows((found.line, guard(found.column), guard(found.reason)) for found in bad)


# -- what would change -------------------------------------------------------------------------------------------------


def tell_preview(seen: Preview, most: int) -> None:
    """Show what an import would change, the largest changes first."""
    at = instant(seen.moment_us)
    when = f" as of {moment(at)}" if seen.order.effective_at or seen.scheduled else ""
    say(f"Tariff {seen.tariff} would change from version {seen.version} to {seen.version + 1}{when}:")
    made = table("prefixes", "", right=("prefixes",))
    for kind, name in _NAMES.items():
        if seen.counts[kind.value]:
            row(made, (seen.counts[kind.value], name))
    people().print(made)
    if seen.absent:
        warn(f"{count(seen.absent, 'prefix')} of the file is not in the tariff.")
    shown = seen.changes.filter(seen.changes["kind"] != Kind.UNCHANGED.value).head(most)
    if not shown.height:
        return
    listed = table(
        "prefix", "destination", "change", "a minute", "was", "by", "%", right=("a minute", "was", "by", "%")
    )
    for facts in shown.iter_rows(named=True):
        row(
            listed,
            (
                facts["prefix"],
                facts["destination"],
                _NAMES[Kind(facts["kind"])],
                _price(facts["new"]),
                _price(facts["old"]),
                signed(facts["amount"]),
                percent(facts["permille"]),
            ),
        )
    people().print(listed)
    left = sum(seen.counts.values()) - seen.counts[Kind.UNCHANGED.value] - shown.height
    if left > 0:
        say(f"… and {count(left, 'change')} more; --most N shows them.")


def _price(micros: int | None) -> str | None:
    return None if micros is None else format_amount(micros)


def signed(micros: int | None) -> str | None:
    """Write a difference with its sign."""
    return None if not micros else ("+" if micros > 0 else "") + format_amount(micros)


def percent(permille: int | None) -> str | None:
    """Write thousandths as percent."""
    if not permille:
        return None
    sign = "+" if permille > 0 else "-"
    return f"{sign}{abs(permille) // 10}.{abs(permille) % 10}"


def _preview_facts(seen: Preview, sheet: Sheet, mapping: Mapping, deck: Deck, most: int) -> dict[str, Any]:
    return {
        "imported": False,
        "tariff": seen.tariff,
        "rows": len(deck),
        "bad": [],
        "from_version": seen.version,
        "as_of": moment(instant(seen.moment_us)),
        "format": mapping.format,
        "encoding": sheet.encoding,
        "delimiter": sheet.delimiter,
        "header_line": sheet.header_line,
        "columns": dict(zip(sheet.columns, mapping.fields, strict=True)),
        "notes": [
            {"what": note.what, "rows": note.count, "line": note.line, "found": note.found, "means": note.means}
            for note in deck.notes
        ],
        "left_out": [*sheet.notes, *deck.skipped],
        **seen.counts,
        "absent": seen.absent,
        "scheduled": seen.scheduled,
        "changes": [
            {
                "prefix": facts["prefix"],
                "destination": facts["destination"],
                "kind": facts["kind"],
                "minute": _price(facts["new"]),
                "was": _price(facts["old"]),
                "by": signed(facts["amount"]),
                "percent": percent(facts["permille"]),
            }
            for facts in seen.changes.filter(seen.changes["kind"] != Kind.UNCHANGED.value)
            .head(most)
            .iter_rows(named=True)
        ],
    }


def tell_import(done: Imported, order: Order, *, rows: int, as_json: bool) -> None:
    """Say what an import changed."""
    if as_json:
        print_json({
            "imported": True,
            "tariff": done.tariff,
            "rows": rows,
            "bad": [],
            "version": done.version,
            "added": done.added,
            "removed": done.removed,
            "changed": done.changed,
            "unchanged": done.unchanged,
            "counts": done.counts,
            "rates": done.rates,
        })  # fmt: skip
        return
    begins = order.effective_at.astimezone(UTC) if order.effective_at else None
    when = f" It comes into force on {moment(begins)}." if begins else ""
    say(
        f"Tariff {done.tariff} is at version {done.version}: {done.added} prefixes added, {done.changed} changed, "
        f"{done.removed} removed, {done.unchanged} as before.{when}"
    )
