"""`callctl books`: every invariant of the money, checked."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from billing.books import BooksReport, Finding, check_credit, check_store
from billing.errors import CreditUnavailable
from billing.store import reading
from callctl.app import credit_link
from callctl.cli import trial_balances
from callctl.cli.output import JsonOption, count, people, print_json, row, say, table, warn
from callctl.cli.shell import Failed, Shell, shell_of


def add_to(app: typer.Typer) -> None:
    """Hang this command into the command line."""
    app.command("books")(books)


def books(
    ctx: typer.Context,
    store_only: Annotated[bool, typer.Option("--store-only", help="Leave out the live credit store.")] = False,
    trial: Annotated[
        bool, typer.Option("--trial-balance", help="Print what each ledger account adds up to instead.")
    ] = False,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The trial balance as it was: 2026-03-31 or 2026-03-31T18:00Z.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every invariant of the money; status 1 where one does not hold."""
    if trial or at is not None:
        trial_balances.show(shell_of(ctx), at, as_json=as_json)
        return
    report, holds, credit_asked = asyncio.run(check(shell_of(ctx), store_only=store_only))
    if as_json:
        print_json({
            "transactions": report.transactions,
            "postings": report.postings,
            "wallets": report.wallets,
            "cdrs": report.cdrs,
            "holds": holds,
            "credit_checked": credit_asked,
            "findings": [{"invariant": found.invariant, "what": found.what} for found in report.findings],
        })  # fmt: skip
    else:
        say(
            f"{report.transactions} transactions, {report.postings} postings, {report.wallets} wallets, "
            f"{report.cdrs} call records, {holds} open holds looked at."
        )
        if report.findings:
            made = table("invariant", "what is wrong", right=("invariant",))
            for found in report.findings:
                row(made, (found.invariant, found.what))
            people().print(made)
    if report.findings:
        raise Failed(f"the books do not balance: {count(len(report.findings), 'finding')}")
    if not credit_asked and not store_only:
        raise Failed("the store balances, but the live credit store could not be asked")
    if not as_json:
        say("The books balance.", style="green")


async def check(shell: Shell, *, store_only: bool) -> tuple[BooksReport, int, bool]:
    """Check SQL, then Redis against it; return the report, the open holds, and whether Redis was asked."""
    settings = shell.settings()
    engine = shell.engine(settings)
    try:
        with reading(engine) as session:
            report = check_store(session)
        if store_only:
            return report, report.holds, False
        try:
            async with credit_link(settings.credit) as link:
                with reading(engine) as session:
                    holds, found = await check_credit(session, link.credit)
        except CreditUnavailable as error:
            warn(str(error))
            return report, report.holds, False
        return with_findings(report, holds, found), holds, True
    finally:
        engine.dispose()


def with_findings(report: BooksReport, holds: int, found: tuple[Finding, ...]) -> BooksReport:
    """Return one report of both checks."""
    return BooksReport(
        transactions=report.transactions,
        postings=report.postings,
        wallets=report.wallets,
        cdrs=report.cdrs,
        holds=holds,
        findings=(*report.findings, *found),
    )
