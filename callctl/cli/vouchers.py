"""`callctl voucher batch | list | redeem | cancel`."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.engine import Engine

from billing import voucher_moves, vouchers
from billing.accounts import find_account
from billing.errors import CreditUnavailable
from billing.settings import Settings
from billing.store import reading, work
from billing.topups import is_paid_by_operator
from billing.voucher_key import read_key
from billing.voucher_sheet import sheet, sheet_csv
from billing.vouchers import BatchView, Redeemed, spaced
from callctl.app import credit_link
from callctl.cli.output import JsonOption, count, moment, money, people, print_json, row, say, table, warn
from callctl.cli.shell import Failed, Shell, shell_of
from rating.money import format_amount, parse_amount

group = typer.Typer(no_args_is_help=True, help="Codes worth money, once.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(group, name="voucher")


@group.command("batch")
def batch(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="How many vouchers.")],
    worth: Annotated[str, typer.Argument(help='What each is worth, such as "10.00".')],
    *,
    name: Annotated[str, typer.Option(help="What the batch is called; without one, the day and the worth.")] = "",
    issuer: Annotated[str | None, typer.Option(help="The reseller whose vouchers they are.")] = None,
    currency: Annotated[str | None, typer.Option(help="Without one, the issuer's.")] = None,
    expires: Annotated[str | None, typer.Option(help="The last day on which they are good, UTC.")] = None,
    sheet_to: Annotated[Path | None, typer.Option("--sheet", help="Write a page to print to this new file.")] = None,
    csv_to: Annotated[Path | None, typer.Option("--csv", help="Write the codes to this new file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make vouchers. Their codes are shown this once: callctl keeps only hashes of them."""
    shell = shell_of(ctx)
    settings = shell.settings()
    key = read_key(settings.vouchers.key_file, shell.ids)
    for path in (sheet_to, csv_to):
        if path is not None and path.exists():
            raise Failed(f"{path} is there already: codes are not written over anything")
    with shell.work() as session:
        of = find_account(session, issuer) if issuer else None
        made, codes = vouchers.make_batch(
            session,
            name=name or f"{shell.clock.now():%Y-%m-%d} {worth}",
            face_micros=parse_amount(worth),
            number=number,
            currency=currency,
            expires_at=_end_of(expires),
            issuer_id=of.id if of else None,
            key=key,
            ids=shell.ids,
            actor=shell.actor,
            now=shell.clock.now(),
        )
        brand = (of.brand if of else "") or made.issuer
    if sheet_to is not None:
        _write_private(sheet_to, sheet(made, codes, brand=brand))
    if csv_to is not None:
        _write_private(csv_to, sheet_csv(made, codes))
    if as_json:
        print_json({**facts(made), "codes": [spaced(code) for code in codes]})
        return
    if sheet_to is None and csv_to is None:
        sys.stdout.write("".join(f"{spaced(code)}\n" for code in codes))
    each = money(made.face_micros, made.currency)
    say(f"Batch {made.id}: {count(number, 'voucher')} of {each}. Their codes are not kept anywhere.", style="bold")


@group.command("list")
def list_all(
    ctx: typer.Context,
    number: Annotated[int | None, typer.Argument(help="A batch, to list its vouchers.")] = None,
    *,
    issuer: Annotated[str | None, typer.Option(help="Only this one's.")] = None,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List batches, or the vouchers of one: by the end of their codes."""
    shell = shell_of(ctx)
    with shell.reading() as session:
        if number is not None:
            found = vouchers.list_vouchers(session, number, now=shell.clock.now(), most=most)
            if as_json:
                print_json([
                    {"id": one.id, "ends_in": one.hint, "state": one.state, "redeemed_by": one.redeemed_by,
                     "redeemed_at": moment(one.redeemed_at)}
                    for one in found
                ])  # fmt: skip
                return
            made = table("no.", "code", "state", "redeemed by", "at", right=("no.",))
            for one in found:
                row(made, (one.id, f"…{one.hint}", one.state, one.redeemed_by, moment(one.redeemed_at)))
            people().print(made)
            return
        within = find_account(session, issuer).id if issuer else None
        batches = vouchers.list_batches(session, within=within, most=most)
    if as_json:
        print_json([facts(one) for one in batches])
        return
    if not batches:
        say("There are no vouchers. Make some: callctl voucher batch 100 10.00", style="dim")
        return
    shown = table(
        "no.", "name", "of", "worth", "vouchers", "redeemed", "until", right=("no.", "worth", "vouchers", "redeemed")
    )
    for each in batches:
        until = "cancelled" if each.cancelled_at else moment(each.expires_at) or "always"
        row(
            shown,
            (
                each.id,
                each.name,
                each.issuer,
                money(each.face_micros, each.currency),
                each.number,
                each.redeemed,
                until,
            ),
        )
    people().print(shown)


@group.command("redeem")
def redeem(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="The account that gets the money.")],
    code: Annotated[str | None, typer.Argument(help="The code; without it, it is asked for.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Redeem a voucher; live calls of the account get longer at once."""
    shell = shell_of(ctx)
    settings = shell.settings()
    typed = code or typer.prompt("Code", hide_input=True)
    engine = shell.engine(settings)

    try:
        with reading(engine) as session:
            found = find_account(session, account)
        done, live = asyncio.run(_redeem(shell, settings, engine, typed, found.id))
    finally:
        engine.dispose()
    if as_json:
        print_json({"account": account, "worth": format_amount(done.face_micros), "currency": done.currency,
                    "replayed": done.top_up is None, "live": live})  # fmt: skip
    elif done.top_up is None:
        say("This account has redeemed this voucher before; nothing was added again.")
    else:
        say(
            f"{money(done.face_micros, done.currency)} added."
            f" Balance: {money(done.top_up.balance_micros, done.currency)}."
        )
        if not live:
            warn("Live calls will see it when the credit store can be reached.")


async def _redeem(
    shell: Shell, settings: Settings, engine: Engine, code: str, account_id: int
) -> tuple[Redeemed, bool]:
    """Redeem, also while the credit store is away where the operator pays: then it is told later."""
    key, now = read_key(settings.vouchers.key_file, shell.ids), shell.clock.now()
    try:
        async with credit_link(settings.credit) as link:
            return await voucher_moves.redeem(
                engine, link.credit, code, account_id, key=key, actor=shell.actor, clock=shell.clock
            )
    except CreditUnavailable:
        with work(engine) as session:
            if not is_paid_by_operator(session, account_id):
                raise
            return vouchers.redeem(session, code, account_id, key=key, actor=shell.actor, now=now), False


@group.command("cancel")
def cancel(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The batch.")],
    *,
    code: Annotated[str | None, typer.Option(help="Only the voucher whose code ends in this.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel what is still open of a batch, or one voucher of it. What was redeemed stays."""
    shell = shell_of(ctx)
    with shell.work() as session:
        done = vouchers.cancel(session, number, hint=code, actor=shell.actor, now=shell.clock.now())
    if as_json:
        print_json({"batch": number, "cancelled": done})
    else:
        say(f"{count(done, 'voucher')} cancelled." if done else "Nothing was open any more.")


def facts(one: BatchView) -> dict[str, Any]:
    """Return a batch for programs."""
    return {
        "id": one.id,
        "name": one.name,
        "issuer": one.issuer,
        "worth": format_amount(one.face_micros),
        "currency": one.currency,
        "vouchers": one.number,
        "redeemed": one.redeemed,
        "expires_at": moment(one.expires_at),
        "cancelled_at": moment(one.cancelled_at),
        "created_at": moment(one.created_at),
    }


def _end_of(day: str | None) -> datetime | None:
    if day is None:
        return None
    try:
        return datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"a day is written 2026-12-31, not {day!r}", param_hint="--expires") from None


def _write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner can read: whoever reads a code has its money."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
