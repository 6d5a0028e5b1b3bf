"""`callctl quote`: what a call would cost, and why. Nothing is touched."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlmodel import Session

from billing.plans.lookup import find_listed
from billing.plans.store import catalogue_in_store
from billing.tariffs import find_rate
from callctl.admission import dialled
from callctl.cli.output import JsonOption, money, people, print_json, row, say, table
from callctl.cli.quote_account import quote_account
from callctl.cli.shell import Failed, shell_of
from rating.faults import MOST_SECONDS
from rating.money import format_amount
from rating.pricing import Price, billable_ms, closing, local_time, longest, price_ms, seconds_of
from rating.quotes import answer
from rating.tariff import Rate

MOST_LINE = 1_000_000
"""Characters of a question; a tariff of a hundred bands needs a tenth of it."""


def quote(
    ctx: typer.Context,
    *,
    tariff: Annotated[str, typer.Option(help="The tariff's name.")] = "",
    account: Annotated[str, typer.Option(help="Who would call: its tariff, own rates and discounts count.")] = "",
    to: Annotated[str, typer.Option(metavar="NUMBER", help="The number called, with country code.")] = "",
    seconds: Annotated[int | None, typer.Option(min=0, max=MOST_SECONDS, help="The talk time.")] = None,
    at: Annotated[str, typer.Option(metavar="ISO", help="When it is answered, with its zone; now if not given.")] = "",
    batch: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answer the questions of a file, a JSON object a line with its own tariff; - is standard input.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Price a call without touching anything, and say why it costs that."""
    if batch is not None:
        if tariff or account or to or at or seconds is not None:
            raise typer.BadParameter("--batch stands alone: its questions bring their tariffs")
        _answer_all(batch)
        return
    if bool(tariff) == bool(account) or not to or seconds is None:
        raise typer.BadParameter("give --tariff, --to and --seconds, or --batch; --account may stand for --tariff")
    if account:
        quote_account(ctx, account, to, seconds, read_time(at) if at else None, as_json=as_json)
        return
    _quote(ctx, tariff, to, seconds, at, as_json=as_json)


def _quote(ctx: typer.Context, tariff: str, to: str, seconds: int, at: str, *, as_json: bool) -> None:
    shell = shell_of(ctx)
    answered_at = read_time(at) if at else shell.clock.now()
    with shell.reading() as session:
        currency, rate = _listed(session, tariff, dialled(to), answered_at)
    if rate is None:
        raise Failed(f"tariff {tariff} has no rate for {to}")
    if rate.barred:
        raise Failed(f"tariff {tariff} bars calls to {to} ({rate.destination}, prefix {rate.prefix})")
    talk_ms = billable_ms(rate, seconds * 1000)
    closes_at = closing(rate, answered_at, talk_ms)
    if closes_at is not None:
        raise Failed(f"tariff {tariff} is closed for {to} on {closes_at:%A %Y-%m-%d at %H:%M:%S}")
    priced = price_ms(rate, talk_ms, at=answered_at)
    whole_s = -(-talk_ms // 1000)
    lasts_s = longest(rate, whole_s, answered_at)
    ends_s = lasts_s if lasts_s < whole_s else None
    if as_json:
        cut = {} if ends_s is None else {"ends_after_seconds": ends_s}
        print_json({**_facts(rate, priced, currency, answered_at), **cut})
        return
    _tell(rate, priced, currency, f"{seconds} s to {to}", answered_at)
    if ends_s is not None:
        say(f"Beyond the highest charge calls are cut: a real one ends after {ends_s} s, and is charged for those.")


def _listed(session: Session, tariff: str, number: str, at: datetime) -> tuple[str, Rate | None]:
    """Return what a tariff lists, what it derives from others included, and its currency. Raises `NotFound`."""
    find_rate(session, tariff, "")  # there is such a tariff, or an error
    books = catalogue_in_store(session).tariffs
    book = next(book for book in books.values() if book.name == tariff)
    priced = find_listed(books, book, number, at)
    return book.currency, priced.rate if priced else None


def _facts(rate: Rate, priced: Price, currency: str, answered_at: datetime) -> dict[str, Any]:
    return {
        "cost": format_amount(priced.cost_micros, decimals=0),
        "billed_seconds": _number(seconds_of(priced.billed_ms)),
        "currency": currency,
        "prefix": rate.prefix,
        "destination": rate.destination,
        "answered_at": local_time(rate, answered_at).isoformat(),
        "rounding": rate.rounding.mode.value,
        "decimals": rate.rounding.decimals,
        "steps": [
            {"what": line.what, "seconds": _number(line.seconds), "amount": line.amount} for line in priced.lines
        ],
    }


def _tell(rate: Rate, priced: Price, currency: str, what: str, answered_at: datetime) -> None:
    say(
        f"{what} ({rate.destination}, prefix {rate.prefix}) cost {money(priced.cost_micros, currency)}; "
        f"{seconds_of(priced.billed_ms)} s are billed."
    )
    if rate.bands:
        local = local_time(rate, answered_at)
        say(f"Answered on {local:%A %Y-%m-%d at %H:%M:%S}, time of {rate.conditions.timezone}.")
    made = table("why", "seconds", currency, right=("seconds", currency))
    for line in priced.lines:
        row(made, (line.what, line.seconds or None, line.amount))
    rounding = f"total, rounded {rate.rounding.mode.value.replace('_', ' ')} to {rate.rounding.decimals} decimals"
    row(made, (rounding, None, format_amount(priced.cost_micros)), style="bold")
    people().print(made)


def read_time(text: str) -> datetime:
    """Read a time with its zone, as --at gives it."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"--at: expected a time such as 2027-01-31T12:00:00+01:00, found {text!r}") from error
    if at.tzinfo is None:
        raise typer.BadParameter("--at: expected a time with its zone, such as 2027-01-31T12:00:00+01:00 or …Z")
    return at


# -- many questions ----------------------------------------------------------------------------------------------------


def _answer_all(file: Path) -> None:
    if str(file) == "-":
        _answer_lines(sys.stdin)
        return
    # Not asked of typer, which looks for a file of the name "-" as well.
    if not file.is_file():
        raise typer.BadParameter(f"file {str(file)!r} does not exist", param_hint="--batch")
    with file.open(encoding="utf-8-sig") as lines:
        try:
            _answer_lines(lines)
        except UnicodeDecodeError as error:
            raise Failed(f"{file} is not UTF-8") from error


def _answer_lines(lines: Iterable[str]) -> None:
    for number, line in enumerate(lines, 1):
        if not line.isspace():
            sys.stdout.write(json.dumps(_answer(number, line), default=_number) + "\n")


def _answer(number: int, line: str) -> dict[str, Any]:
    if len(line) > MOST_LINE:
        return {"id": None, "error": f"line {number}: at most {MOST_LINE} characters"}
    try:
        question = json.loads(line, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError):
        return {"id": None, "error": f"line {number}: not JSON"}
    return answer(question)


def _number(value: int | Decimal) -> int | float:
    """Return seconds as a number of JSON; a length of time is no money."""
    return value if isinstance(value, int) else float(value)
