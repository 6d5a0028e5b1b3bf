"""`callctl statement`: what an account had, what came and went, what it has."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from sqlmodel import Session

from billing import statements
from billing.accounts import find_account
from billing.statement_csv import csv_lines
from billing.statements import Line, Period, Statement
from callctl.cli.output import JsonOption, moment, money, people, print_json, row, say, table
from callctl.cli.shell import shell_of
from rating.money import format_amount

SHOWN = 200


def add_to(app: typer.Typer) -> None:
    """Hang this command into the command line."""
    app.command("statement")(show)


def show(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    *,
    month: Annotated[str | None, typer.Option(help="A month such as 2026-11; without one, this month.")] = None,
    first: Annotated[str | None, typer.Option("--from", help="The first day, such as 2026-11-01.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="The last day, included.")] = None,
    to_csv: Annotated[
        Path | None, typer.Option("--csv", help="Write every line to this file; - for standard output.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show an account's statement: opening balance, lines, closing balance. Days are those of the account's clock."""
    shell = shell_of(ctx)
    with shell.reading() as session:
        found = find_account(session, account)
        if first or last:
            if month:
                raise typer.BadParameter("give a month, or the first and last day", param_hint="--month")
            period = statements.days_of(_day(first or last, "--from"), _day(last or first, "--to"), found.timezone)
        else:
            this = statements.this_month(shell.clock.now(), found.timezone)
            period = statements.month_of(month or this, found.timezone)
        told = statements.statement(session, found.id, period)
        if to_csv is not None:
            write_csv(session, told, to_csv)
        elif as_json:
            listed = [_facts(line) for line in statements.all_lines(session, found.id, period)]
            print_json({**facts(told), "lines": listed})
        else:
            tell(session, told, period)


def facts(told: Statement) -> dict[str, object]:
    """Return a statement's figures for programs."""
    return {
        "account": told.account,
        "currency": told.currency,
        "period": told.period.name,
        "from": moment(told.period.since),
        "until": moment(told.period.until),
        "opening": format_amount(told.opening_micros),
        "closing": format_amount(told.closing_micros),
        "sums": [
            {"kind": one.kind, "lines": one.lines, "amount": format_amount(one.amount_micros)} for one in told.sums
        ],
    }


def tell(session: Session, told: Statement, period: Period) -> None:
    """Print a statement for people: its figures, and its first lines."""
    made = table("time", "", "what", "amount", "balance", right=("amount", "balance"))
    row(made, (moment(period.since), "opening balance", "", "", money(told.opening_micros, told.currency)))
    shown = statements.lines(session, told.account_id, period, most=SHOWN)
    for line in shown:
        row(made, (moment(line.at), line.kind, line.what, money(line.amount_micros), money(line.balance_micros)))
    if len(shown) == SHOWN:
        row(made, ("", "…", "--csv writes all of them", "", ""))
    row(made, (moment(period.until), "closing balance", "", "", money(told.closing_micros, told.currency)))
    people().print(made)
    for one in told.sums:
        say(f"{one.kind}: {one.lines} lines, {money(one.amount_micros, told.currency)}", style="dim")
    if not told.sums:
        say(f"Nothing was booked in {period.name}.", style="dim")


def write_csv(session: Session, told: Statement, where: Path) -> None:
    """Write every line, with the opening and the closing balance as the first and the last."""
    if str(where) == "-":
        sys.stdout.writelines(csv_lines(session, told))
        return
    with where.open("w", encoding="utf-8", newline="") as file:
        file.writelines(csv_lines(session, told))
    say(f"Wrote the statement of {told.account} for {told.period.name} to {where}.")


def _facts(line: Line) -> dict[str, object]:
    return {
        "seq": line.seq,
        "at": moment(line.at),
        "kind": line.kind,
        "what": line.what,
        "reference": line.reference,
        "amount": format_amount(line.amount_micros),
        "balance": format_amount(line.balance_micros),
    }


def _day(text: str | None, option: str) -> date:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        raise typer.BadParameter(f"a day is written 2026-11-01, not {text!r}", param_hint=option) from None
