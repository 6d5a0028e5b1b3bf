"""`callctl account add | set | show | list | close`."""

from __future__ import annotations

from typing import Annotated

import typer

from billing import account_changes
from billing.accounts import add_account, find_account, set_status
from billing.models import AccountKind, AccountStatus, IdentityKind
from billing.subtree import list_within
from callctl.cli import account_options as options
from callctl.cli.account_options import changes_of, facts, read_amount, read_identities, read_list, read_number, words
from callctl.cli.output import JsonOption, money, people, print_json, row, say, table
from callctl.cli.shell import shell_of
from rating.money import parse_amount

accounts = typer.Typer(no_args_is_help=True, help="Who pays: resellers and customers.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(accounts, name="account")


@accounts.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, unique.")],
    *,
    kind: Annotated[AccountKind, typer.Option(help="reseller or customer.")] = AccountKind.CUSTOMER,
    parent: Annotated[str | None, typer.Option(help="The reseller it belongs to; without one, the operator.")] = None,
    tariff: Annotated[str | None, typer.Option(help="What its calls cost.")] = None,
    currency: Annotated[str | None, typer.Option(help="Only directly under the operator; else as above it.")] = None,
    mode: options.Mode = None,
    credit_limit: options.Credit = "0",
    timezone: options.Zone = None,
    language: options.Language = None,
    brand: options.Brand = "",
    max_calls: options.Calls = None,
    max_cps: options.Cps = None,
    max_day: options.Day = None,
    max_call: options.Call = None,
    code: Annotated[list[str] | None, typer.Option(help="An account code the switch sets; may repeat.")] = None,
    did: Annotated[list[str] | None, typer.Option(help="A number whose inbound calls it pays; may repeat.")] = None,
    identity: options.Identities = None,
    bar: options.Bar = None,
    allow: options.Allow = None,
    hours: options.Hours = None,
    low_balance: options.Low = None,
    clear_balance: options.Clear = None,
    as_json: JsonOption = False,
) -> None:
    """Add an account. What is not given of currency, time zone and language is as above it."""
    if kind is AccountKind.OPERATOR:
        raise typer.BadParameter("there is one operator, made by `callctl init`", param_hint="--kind")
    shell = shell_of(ctx)
    identities = [(IdentityKind.ACCOUNT_CODE, value) for value in code or ()]
    identities += [(IdentityKind.DID, value) for value in did or ()]
    identities += read_identities(identity, "--identity")
    with shell.work() as session:
        made = add_account(
            session,
            name=name,
            kind=kind,
            parent=parent,
            tariff=tariff,
            currency=currency,
            credit_limit_micros=parse_amount(credit_limit or "0"),
            billing_mode=mode,
            timezone=timezone,
            language=language,
            brand=brand or "",
            max_calls=read_number(max_calls, "--max-calls"),
            max_cps=read_number(max_cps, "--max-cps"),
            max_day_micros=read_amount(max_day),
            max_call_micros=read_amount(max_call),
            barred=read_list(bar),
            allowed=read_list(allow),
            hours=read_list(hours),
            low_balance_micros=read_amount(low_balance),
            clear_balance_micros=read_amount(clear_balance),
            identities=identities,
            actor=shell.actor,
            now=shell.clock.now(),
        )
        session.flush()
        account = find_account(session, str(made.id))
    if as_json:
        print_json(facts(account))
    else:
        say(f"Added {account.kind.value} {account.name}, number {account.id}.")


@accounts.command("set")
def change(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    *,
    name: Annotated[str | None, typer.Option(help="A new name, unique.")] = None,
    status: Annotated[AccountStatus | None, typer.Option(help="active, blocked or parked.")] = None,
    tariff: Annotated[str | None, typer.Option(help="What its calls cost.", metavar="NAME|none")] = None,
    mode: options.Mode = None,
    credit_limit: options.Credit = None,
    timezone: options.Zone = None,
    language: options.Language = None,
    brand: options.Brand = None,
    max_calls: options.Calls = None,
    max_cps: options.Cps = None,
    max_day: options.Day = None,
    max_call: options.Call = None,
    bar: options.Bar = None,
    allow: options.Allow = None,
    hours: options.Hours = None,
    low_balance: options.Low = None,
    clear_balance: options.Clear = None,
    identity: options.Identities = None,
    free: Annotated[
        list[str] | None, typer.Option(help="An identity to take away; may repeat.", metavar="KIND:VALUE")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is named and leave the rest. "none" takes a limit away, and empties a list of prefixes or hours."""
    shell = shell_of(ctx)
    changes = changes_of(
        name=name,
        tariff=tariff,
        billing_mode=mode,
        credit_limit=credit_limit,
        timezone=timezone,
        language=language,
        brand=brand,
        max_calls=max_calls,
        max_cps=max_cps,
        max_day=max_day,
        max_call=max_call,
        barred=bar,
        allowed=allow,
        hours=hours,
        low_balance=low_balance,
        clear_balance=clear_balance,
    )
    new, gone = read_identities(identity, "--identity"), read_identities(free, "--free")
    now, actor = shell.clock.now(), shell.actor
    with shell.work() as session:
        before = find_account(session, account)
        if changes:
            account_changes.change_account(session, before.id, changes, actor=actor, now=now)
        for kind, value in gone:
            account_changes.free_identity(session, before.id, kind, value, actor=actor, now=now)
        if new:
            account_changes.add_identities(session, before.id, new, actor=actor, now=now)
        if status is not None:
            set_status(session, before.id, status, actor=actor, now=now)
        session.flush()
        after = find_account(session, str(before.id))
    if as_json:
        print_json(facts(after))
    elif after == before:
        say(f"{after.name} was so already; nothing was changed.")
    else:
        say(f"Changed {after.name}. A controller that runs knows within a second; live calls keep what they hold.")


@accounts.command("close")
def close(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    as_json: JsonOption = False,
) -> None:
    """Close an account for good: its identities are free again, its history stays. Its balance must be 0."""
    shell = shell_of(ctx)
    with shell.work() as session:
        found = find_account(session, account)
        account_changes.close_account(session, found.id, actor=shell.actor, now=shell.clock.now())
        session.flush()
        closed = find_account(session, str(found.id))
    if as_json:
        print_json(facts(closed))
    else:
        say(f"Closed {closed.name}. Its records stay; calls that are up go on to their end.")


@accounts.command("show")
def show(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    as_json: JsonOption = False,
) -> None:
    """Show an account."""
    with shell_of(ctx).reading() as session:
        found = find_account(session, account)
    if as_json:
        print_json(facts(found))
        return
    made = table("", "", title=f"{found.kind.value.capitalize()} {found.name}")
    made.show_header = False
    for label, value in words(found):
        row(made, (label, "–" if value in {None, ""} else value))
    people().print(made)


@accounts.command("list")
def list_all(
    ctx: typer.Context,
    search: Annotated[str, typer.Argument(help="Part of a name, or the beginning of an identity.")] = "",
    *,
    under: Annotated[str | None, typer.Option(help="Only this account and those under it.")] = None,
    kind: Annotated[AccountKind | None, typer.Option(help="Only these.")] = None,
    status: Annotated[AccountStatus | None, typer.Option(help="Only these.")] = None,
    after: Annotated[int, typer.Option(help="Begin after this account number.")] = 0,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List accounts in order of their number."""
    with shell_of(ctx).reading() as session:
        root = find_account(session, under).id if under else None
        found = list_within(session, root, q=search, kind=kind, status=status, after_id=after, most=most)
    if as_json:
        print_json([facts(account) for account in found])
        return
    if not found:
        say("No account matches." if search or under or kind or status else "There are no accounts.", style="dim")
        return
    made = table("no.", "name", "kind", "under", "status", "tariff", "balance", right=("no.", "balance"))
    for account in found:
        row(
            made,
            (
                account.id,
                account.name,
                account.kind.value,
                account.parent,
                account.status.value,
                account.tariff,
                money(account.balance_micros, account.currency),
            ),
        )
    people().print(made)
    if len(found) == most:
        say(f"More may follow: --after {found[-1].id}", style="dim")
