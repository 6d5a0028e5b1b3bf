"""`callctl account add | show | list`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from billing.accounts import AccountView, add_account, find_account, list_accounts
from billing.models import AccountKind, IdentityKind
from callctl.cli.output import JsonOption, moment, money, people, print_json, row, say, table
from callctl.cli.shell import shell_of
from rating.money import format_amount, parse_amount

accounts = typer.Typer(no_args_is_help=True, help="Who pays: resellers and customers.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(accounts, name="account")


def facts(account: AccountView) -> dict[str, Any]:
    """Return an account for programs: amounts as decimal strings."""
    return {
        "id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "status": account.status.value,
        "parent": account.parent,
        "currency": account.currency,
        "tariff": account.tariff,
        "balance": format_amount(account.balance_micros),
        "credit_limit": format_amount(account.credit_limit_micros),
        "max_calls": account.max_calls,
        "max_cps": account.max_cps,
        "barred": list(account.barred),
        "identities": [{"kind": kind.value, "value": value} for kind, value in account.identities],
        "created_at": moment(account.created_at),
    }


@accounts.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, unique.")],
    *,
    kind: Annotated[AccountKind, typer.Option(help="reseller or customer.")] = AccountKind.CUSTOMER,
    parent: Annotated[str | None, typer.Option(help="The reseller it belongs to; without one, the operator.")] = None,
    tariff: Annotated[str | None, typer.Option(help="What its calls cost.")] = None,
    credit_limit: Annotated[str, typer.Option(help="How far its balance may fall below zero.")] = "0",
    max_calls: Annotated[int | None, typer.Option(min=0, help="Calls at once.")] = None,
    max_cps: Annotated[int | None, typer.Option(min=1, help="New calls a second.")] = None,
    code: Annotated[list[str] | None, typer.Option(help="An account code the switch sets; may repeat.")] = None,
    did: Annotated[list[str] | None, typer.Option(help="A number whose inbound calls it pays; may repeat.")] = None,
    bar: Annotated[list[str] | None, typer.Option(help="A prefix it must not call; may repeat.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add an account."""
    if kind is AccountKind.OPERATOR:
        raise typer.BadParameter("there is one operator, made by `callctl init`", param_hint="--kind")
    shell = shell_of(ctx)
    identities = [(IdentityKind.ACCOUNT_CODE, value) for value in code or ()]
    identities += [(IdentityKind.DID, value) for value in did or ()]
    with shell.work() as session:
        made = add_account(
            session,
            name=name,
            kind=kind,
            parent=parent,
            tariff=tariff,
            credit_limit_micros=parse_amount(credit_limit),
            max_calls=max_calls,
            max_cps=max_cps,
            barred=bar or (),
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
    for label, value in (
        ("number", found.id),
        ("status", found.status.value),
        ("under", found.parent),
        ("balance", money(found.balance_micros, found.currency)),
        ("credit limit", money(found.credit_limit_micros, found.currency)),
        ("tariff", found.tariff),
        ("calls at once", found.max_calls),
        ("new calls a second", found.max_cps),
        ("barred prefixes", ", ".join(found.barred)),
        ("known by", ", ".join(f"{kind.value} {value}" for kind, value in found.identities)),
        ("since", moment(found.created_at)),
    ):
        row(made, (label, "–" if value in {None, ""} else value))
    people().print(made)


@accounts.command("list")
def list_all(
    ctx: typer.Context,
    after: Annotated[int, typer.Option(help="Begin after this account number.")] = 0,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List accounts in order of their number."""
    with shell_of(ctx).reading() as session:
        found = list_accounts(session, after_id=after, most=most)
    if as_json:
        print_json([facts(account) for account in found])
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
