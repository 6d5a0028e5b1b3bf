"""`callctl books`: every invariant of the money, checked."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from billing.accounts import find_account
from billing.credit.store import CreditStore
from billing.errors import CreditUnavailable
from billing.models import BooksRun
from billing.nightly import check_books, last_run, lift
from billing.outbox import tell_accounts
from billing.store import reading, work
from callctl.app import credit_link
from callctl.cli import trial_balances
from callctl.cli.output import JsonOption, count, moment, people, print_json, row, say, stderr, table, warn
from callctl.cli.shell import Failed, Shell, shell_of


def add_to(app: typer.Typer) -> None:
    """Hang this command into the command line."""
    app.command("books")(books)


def books(
    ctx: typer.Context,
    *,
    store_only: Annotated[bool, typer.Option("--store-only", help="Leave out the live credit store.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Check only what is new since the last check.")] = False,
    last: Annotated[bool, typer.Option("--last", help="Show what the last check found instead.")] = False,
    lift: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Let a parked account call again, and clear its alert.")
    ] = None,
    trial: Annotated[
        bool, typer.Option("--trial-balance", help="Print what each ledger account adds up to instead.")
    ] = False,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The trial balance as it was: 2026-03-31 or 2026-03-31T18:00Z.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every invariant of the money; status 1 where one does not hold. Accounts that it names are parked."""
    shell = shell_of(ctx)
    if trial or at is not None:
        trial_balances.show(shell, at, as_json=as_json)
    elif lift is not None:
        asyncio.run(lift_account(shell, lift))
    else:
        run = find_last(shell) if last else asyncio.run(check(shell, store_only=store_only, new=new, quiet=as_json))
        tell(run, store_only=store_only, as_json=as_json)


async def check(shell: Shell, *, store_only: bool, new: bool, quiet: bool) -> BooksRun:
    """Check SQL, then Redis against it; park what is broken, and record it."""
    settings = shell.settings()
    engine = shell.engine(settings)
    made = Progress(TextColumn("checking"), BarColumn(), TaskProgressColumn(), console=stderr(), transient=True)
    try:
        with made if not quiet and stderr().is_terminal else nullcontext():
            task = made.add_task("", total=None)

            async def ask(credit: CreditStore | None) -> BooksRun | None:
                return await check_books(
                    engine,
                    credit,
                    everything=not new,
                    actor=shell.actor,
                    clock=shell.clock,
                    on_progress=lambda done, of: made.update(task, completed=done, total=of),
                )

            try:
                if store_only:
                    run = await ask(None)
                else:
                    async with credit_link(settings.credit) as link:
                        run = await ask(link.credit)
            except CreditUnavailable as error:
                warn(str(error))
                run = await ask(None)
    finally:
        engine.dispose()
    if run is None:  # only a check that is due at a moment is left to another process
        raise Failed("another check is running")
    return run


def find_last(shell: Shell) -> BooksRun:
    """Return the newest check that has ended. Raises `Failed` before the first."""
    engine = shell.engine(shell.settings())
    try:
        with reading(engine) as session:
            run = last_run(session)
    finally:
        engine.dispose()
    if run is None:
        raise Failed("the books have not been checked yet: `callctl books` does it now")
    return run


def tell(run: BooksRun, *, store_only: bool, as_json: bool) -> None:
    """Print what a check found. Raises `Failed` where the books do not balance."""
    if as_json:
        print_json({
            "started_at": moment(run.started_at),
            "ended_at": moment(run.ended_at),
            "everything": run.everything,
            "transactions": run.transactions,
            "wallets": run.wallets,
            "cdrs": run.cdrs,
            "holds": run.holds,
            "credit_checked": run.credit_asked,
            "findings": run.findings,
        })  # fmt: skip
    else:
        what = "everything" if run.everything else "what was new"
        say(
            f"{moment(run.started_at)}, {what}: {run.transactions} transactions, {run.wallets} wallets, "
            f"{run.cdrs} call records, {run.holds} open holds looked at."
        )
        if run.findings:
            made = table("invariant", "what is wrong", "accounts parked", right=("invariant",))
            for found in run.findings:
                row(made, (found["invariant"], found["what"], ", ".join(map(str, found["accounts"]))))
            people().print(made)
    if run.findings:
        raise Failed(f"the books do not balance: {count(len(run.findings), 'finding')}")
    if not run.credit_asked and not store_only:
        raise Failed("the store balances, but the live credit store could not be asked")
    if not as_json:
        say("The books balance.", style="green")


async def lift_account(shell: Shell, name: str) -> None:
    """Let a parked account call again, and tell the live credit store."""
    settings = shell.settings()
    engine = shell.engine(settings)
    try:
        with work(engine) as session:
            found = find_account(session, name)
            lifted = lift(session, found.id, actor=shell.actor, now=shell.clock.now())
        if not lifted:
            say(f"{found.name} is not parked; nothing was changed.")
            return
        try:
            async with credit_link(settings.credit) as link:
                await tell_accounts(engine, link.credit, [found.id], clock=shell.clock)
        except CreditUnavailable as error:
            warn(f"The controller will hear of it when it can reach the credit store ({error}).")
        say(f"{found.name} may call again; its alert is cleared.")
    finally:
        engine.dispose()
