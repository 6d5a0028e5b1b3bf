"""`callctl commission set | list | pay`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer
from sqlalchemy.engine import Engine

from billing import commission_moves, commissions
from billing.accounts import find_account
from billing.commissions import Earned, PaidOut
from billing.errors import CreditUnavailable, Refused
from billing.models import CommissionOf
from billing.settings import CreditSettings
from billing.store import reading, work
from billing.topups import is_paid_by_operator
from callctl.app import credit_link
from callctl.cli.output import JsonOption, count, people, print_json, row, say, table, warn
from callctl.cli.shell import Failed, Shell, shell_of
from rating.money import format_amount

group = typer.Typer(no_args_is_help=True, help="What resellers and agents earn of what they bring in.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(group, name="commission")


@group.command("set")
def change(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    percent: Annotated[str, typer.Argument(help='How much of a hundred, such as "12.5"; none takes it away.')],
    *,
    of: Annotated[CommissionOf, typer.Option(help="Of what.")] = CommissionOf.REVENUE,
) -> None:
    """Give an account a commission, paid by whoever stands right above it; or take it away."""
    shell = shell_of(ctx)
    with shell.work() as session:
        found = find_account(session, account)
        ppm = 0 if percent == "none" else commissions.read_percent(percent)
        basis = of if ppm else None
        commissions.set_commission(session, found.id, basis, ppm, actor=shell.actor, now=shell.clock.now())
    said = f"earns {percent} % of the {of.value}" if ppm else "earns no commission"
    say(f"{found.name} {said}.")


@group.command("list")
def list_all(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List who earns a commission."""
    with shell_of(ctx).reading() as session:
        found = commissions.list_commissions(session)
    if as_json:
        print_json([{"account": one.account, "percent": one.percent, "of": one.basis.value} for one in found])
        return
    if not found:
        say("Nobody earns a commission. Give one: callctl commission set ACCOUNT 10", style="dim")
        return
    made = table("account", "percent", "of", right=("percent",))
    for one in found:
        row(made, (one.account, one.percent, one.basis.value))
    people().print(made)


@group.command("pay")
def pay(
    ctx: typer.Context,
    month: Annotated[str, typer.Argument(help="A month that is over, such as 2026-10.")],
    account: Annotated[str | None, typer.Argument(help="Only this account; without one, everybody.")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would be.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Book the commissions of a month, once, however often this is called."""
    shell = shell_of(ctx)
    settings = shell.settings()
    engine = shell.engine(settings)
    told: list[dict[str, Any]] = []
    wrong: list[str] = []
    try:
        with reading(engine) as session:
            only = find_account(session, account).id if account else None
            wanted = [one for one in commissions.list_commissions(session) if only in {None, one.account_id}]
            if only is not None and not wanted:
                raise Failed(f"{account} earns no commission")
            would = {one.account_id: commissions.earned(session, one.account_id, month) for one in wanted}

        if dry_run:
            told = [_facts(one.account, one.currency, would[one.account_id]) for one in wanted]
        else:
            for one in wanted:
                try:
                    done = asyncio.run(_book(shell, settings.credit, engine, one.account_id, month))
                except Refused as error:
                    wrong.append(f"{one.account}: {error}")
                else:
                    told.append(_facts(one.account, one.currency, done))
    finally:
        engine.dispose()
    for line in wrong:
        warn(line)
    if as_json:
        print_json(told)
    else:
        _tell(told, month, dry_run=dry_run)
    if wrong:
        raise Failed(f"{count(len(wrong), 'commission')} could not be booked; the others are")


async def _book(shell: Shell, credit: CreditSettings, engine: Engine, account_id: int, month: str) -> PaidOut:
    """Book one, also while the credit store is away where the operator pays: then it is told later."""
    try:
        async with credit_link(credit) as link:
            done, _ = await commission_moves.pay(
                engine, link.credit, account_id, month, actor=shell.actor, clock=shell.clock
            )
            return done
    except CreditUnavailable:
        with work(engine) as session:
            if not is_paid_by_operator(session, account_id):
                raise
            return commissions.pay_commission(session, account_id, month, actor=shell.actor, now=shell.clock.now())


def _tell(told: list[dict[str, Any]], month: str, *, dry_run: bool) -> None:
    if not told:
        say(f"No commission for {month}.", style="dim")
        return
    made = table(
        "account", "of", "corrected earlier", "commission", "", right=("of", "corrected earlier", "commission")
    )
    for one in told:
        state = "would be booked" if dry_run else "booked before" if one["replayed"] else "booked"
        row(made, (one["account"], one["base"], one["earlier"], f"{one['amount']} {one['currency']}", state))
    people().print(made)


def _facts(account: str, currency: str, done: PaidOut | Earned) -> dict[str, Any]:
    return {
        "account": account,
        "base": format_amount(done.base_micros),
        "earlier": format_amount(done.earlier_micros),
        "amount": format_amount(done.amount_micros),
        "currency": currency,
        "replayed": done.replayed if isinstance(done, PaidOut) else False,
    }
