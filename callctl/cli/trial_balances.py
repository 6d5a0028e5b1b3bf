"""`callctl books --trial-balance`: what each ledger account adds up to, now or at a moment."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

import typer

from billing.chart import CHART
from billing.store import reading
from billing.trial_balance import Sheet, trial_balance
from callctl.cli.output import people, print_json, row, say, table
from callctl.cli.shell import Failed, Shell
from rating.money import format_amount

DAY_LENGTH = len("2026-03-31")


def show(shell: Shell, at: str | None, *, as_json: bool) -> None:
    """Print a table for each currency, debits left, credits right; status 1 where the two differ."""
    moment = None if at is None else read_moment(at)
    engine = shell.engine(shell.settings())
    try:
        with reading(engine) as session:
            sheets = trial_balance(session, at=moment)
    finally:
        engine.dispose()
    as_of = (moment or shell.clock.now()).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if as_json:
        print_json({"at": as_of, "currencies": [as_object(sheet) for sheet in sheets]})
    else:
        for sheet in sheets:
            _print(sheet, as_of)
        if not sheets:
            say(f"Nothing had been posted by {as_of}.")
    broken = [sheet.currency for sheet in sheets if not sheet.balances]
    if broken:
        raise Failed(f"debits and credits differ in {', '.join(broken)}")


def read_moment(text: str) -> datetime:
    """Read a time; without a zone it is UTC, a day alone means its end. Raises `typer.BadParameter`."""
    try:
        if len(text) == DAY_LENGTH:
            return datetime.combine(date.fromisoformat(text), time.max, UTC)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"not a time: {text!r}; write 2026-03-31 or 2026-03-31T18:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def as_object(sheet: Sheet) -> dict[str, Any]:
    """Return a trial balance with amounts as decimal text."""
    return {
        "currency": sheet.currency,
        "lines": [
            {
                "account": line.kind.value,
                "number": CHART[line.kind].number,
                "name": CHART[line.kind].name,
                "class": CHART[line.kind].of.value,
                "debits": format_amount(line.debits_micros),
                "credits": format_amount(line.credits_micros),
                "debit": format_amount(line.debit_micros),
                "credit": format_amount(line.credit_micros),
            }
            for line in sheet.lines
        ],
        "debit": format_amount(sheet.debit_micros),
        "credit": format_amount(sheet.credit_micros),
        "balances": sheet.balances,
    }


def _print(sheet: Sheet, as_of: str) -> None:
    title = f"Trial balance in {sheet.currency}, {as_of}"
    made = table("number", "account", "class", "debit", "credit", title=title, right=("number", "debit", "credit"))
    for line in sheet.lines:
        entry = CHART[line.kind]
        sides = [format_amount(side) if side else "" for side in (line.debit_micros, line.credit_micros)]
        row(made, (entry.number, entry.name, entry.of.value, *sides))
    made.add_section()
    row(made, ("", "Total", "", format_amount(sheet.debit_micros), format_amount(sheet.credit_micros)), style="bold")
    people().print(made)
