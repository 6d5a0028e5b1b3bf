"""`callctl calls | hangup`: what is happening now, and ending it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from sqlalchemy.exc import SQLAlchemyError

from billing import audit
from billing.accounts import find_account
from billing.credit.live import HangupRequest, LiveCallView
from billing.ports import to_ms
from callctl.app import CreditLink, credit_link
from callctl.cli.output import (
    JsonOption,
    add_id_column,
    count,
    is_wide,
    money,
    people,
    print_json,
    row,
    say,
    span,
    table,
    warn,
)
from callctl.cli.shell import Failed, Shell, shell_of
from rating.money import format_amount

REFRESH_S = 1.0
STALE_MS = 15_000
"""A controller that has not been heard of for so long is taken for dead."""

AccountOption = Annotated[str | None, typer.Option(help="An account's name or number.")]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the command line."""
    app.command("calls")(calls)
    app.command("hangup")(hangup)


def calls(
    ctx: typer.Context,
    account: AccountOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and show every second anew.")] = False,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Show live calls."""
    if watch and as_json:
        raise typer.BadParameter("--watch is for people; leave out --json", param_hint="--watch")
    shell = shell_of(ctx)
    asyncio.run(show(shell, account, watch=watch, most=most, as_json=as_json))


async def show(shell: Shell, account: str | None, *, watch: bool, most: int, as_json: bool) -> None:
    """Show live calls once, or for as long as the terminal stays."""
    account_id = account_number(shell, account) if account else None
    async with credit_link(shell.settings().credit) as link:
        if as_json:
            print_json([facts(call) for call in await link.live.list(account_id=account_id, most=most)])
        elif not watch:
            people().print(await board(shell, link, account_id, most))
        else:
            with Live(console=people(), auto_refresh=False) as live:
                while True:
                    live.update(await board(shell, link, account_id, most), refresh=True)
                    await asyncio.sleep(REFRESH_S)


def account_number(shell: Shell, name: str) -> int:
    """Return the number of an account. Raises `NotFound`."""
    with shell.reading() as session:
        return find_account(session, name).id


async def board(shell: Shell, link: CreditLink, account_id: int | None, most: int) -> Table:
    """Return the table of live calls, with a word on every switch."""
    now_ms = to_ms(shell.clock.now())
    found = await link.live.list(account_id=account_id, most=most)
    made = calls_table(found, now_ms)
    beats = await link.live.beats()
    if not beats:
        made.caption = "No controller has been heard of: `callctl up` or `callctl controller` starts one."
    else:
        made.caption = " · ".join(
            f"{switch} {status if now_ms - at_ms < STALE_MS else f'not heard of for {(now_ms - at_ms) // 1000} s'}"
            for switch, (status, at_ms) in sorted(beats.items())
        )
    return made


def calls_table(found: Sequence[LiveCallView], now_ms: int) -> Table:
    """Return live calls as a table for people."""
    wide = is_wide()
    columns = ("account", "from", "to", "destination", "state", "talk", "left", "held")
    shown = [column for column in columns if wide or column not in {"from", "destination"}]
    made = table(*shown, right=("talk", "left", "held"), fold=False)
    made.title = count(len(found), "live call")
    add_id_column(made, "call", (call.call_id for call in found))
    for call in found:
        cells = {
            "account": call.account,
            "from": call.caller,
            "to": call.callee,
            "destination": call.destination,
            "state": call.state,
            "talk": "" if call.answered_ms is None else span((now_ms - call.answered_ms) / 1000),
            "left": "" if call.limit_ms is None else span((call.limit_ms - now_ms) / 1000),
            "held": money(call.held_micros, call.currency),
        }
        row(made, [*(cells[column] for column in shown), call.call_id])
    return made


def facts(call: LiveCallView) -> dict[str, Any]:
    """Return a live call for programs. Times are milliseconds since the epoch."""
    return {
        "call_id": call.call_id,
        "switch": call.switch,
        "account_id": call.account_id,
        "account": call.account,
        "direction": call.direction,
        "caller": call.caller,
        "callee": call.callee,
        "destination": call.destination,
        "state": call.state,
        "offered_ms": call.offered_ms,
        "answered_ms": call.answered_ms,
        "limit_ms": call.limit_ms,
        "held": format_amount(call.held_micros),
        "currency": call.currency,
    }


def hangup(
    ctx: typer.Context,
    call_id: Annotated[str | None, typer.Argument(help="As `callctl calls` prints it.")] = None,
    account: Annotated[str | None, typer.Option(help="End every call of this account instead.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "hung_up_by_admin",
    as_json: JsonOption = False,
) -> None:
    """Ask the controller to end a call, or all calls of an account."""
    if (call_id is None) == (account is None):
        raise typer.BadParameter("give either a CALL_ID or --account", param_hint="CALL_ID")
    shell = shell_of(ctx)
    asked = asyncio.run(ask(shell, call_id, account, reason))
    if as_json:
        print_json({"asked": asked})
    else:
        say(f"The controller was asked to end {count(asked, 'call')}.")


async def ask(shell: Shell, call_id: str | None, account: str | None, reason: str) -> int:
    """Ask for the end of calls; return how many are meant. Hanging up must not depend on SQL where a call is named."""
    account_id = account_number(shell, account) if account else None
    target, meant = call_id or f"*account:{account_id}", 1
    async with credit_link(shell.settings().credit) as link:
        if account_id is not None:
            meant = len(await link.live.list(account_id=account_id, most=10_000))
        await link.live.ask_hangup(HangupRequest(target, shell.actor, reason))
    write_down(shell, target, reason)
    return meant


def write_down(shell: Shell, target: str, reason: str) -> None:
    """Note who asked. After the asking: ending a call never waits for SQL, and does not fail with it."""
    try:
        with shell.work() as session:
            now = shell.clock.now()
            audit.record(
                session, actor=shell.actor, action="call.hangup", subject=target, after={"reason": reason}, now=now
            )
    except (SQLAlchemyError, Failed, OSError):
        warn("The controller was asked, but the store is away: the audit log does not have it.")
