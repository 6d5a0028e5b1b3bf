"""`callctl fraud …`: the guard's rules, its list of ranges, what it found, and lifting that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from billing import outbox
from billing.accounts import find_account
from billing.alerts import list_alerts
from billing.chart import operator_id
from billing.errors import CreditUnavailable
from billing.fraud.ranges import read_ranges
from billing.fraud.rules import (
    ALERTS,
    Wanted,
    add_rule,
    count_ranges,
    end_rule,
    facts_of,
    lift,
    list_rules,
    replace_ranges,
)
from billing.fraud.words import when
from billing.models.fraud import FraudAction, FraudKind
from billing.store import work
from callctl.app import credit_link
from callctl.cli.output import JsonOption, count, moment, people, print_json, row, say, table, warn
from callctl.cli.shell import Failed, shell_of
from rating.money import parse_amount

fraud = typer.Typer(no_args_is_help=True, help="The fraud guard: warns, blocks, ends or refuses calls.")
rules = typer.Typer(no_args_is_help=True, help="What the guard looks at.")
ranges = typer.Typer(no_args_is_help=True, help="The list of premium-rate and revenue-share ranges.")
fraud.add_typer(rules, name="rule")
fraud.add_typer(ranges, name="ranges")
MOST_FILE = 50 * 1024 * 1024


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(fraud, name="fraud")


@rules.command("add")
def add(
    ctx: typer.Context,
    kind: Annotated[FraudKind, typer.Argument(help="What is looked at.")],
    *,
    action: Annotated[FraudAction, typer.Option(help="warn; block the account; end its calls too; refuse the call.")],
    account: Annotated[str, typer.Option(help="It and all below it; without one, everybody.")] = "",
    prefix: Annotated[list[str] | None, typer.Option(help="Only these destinations; may repeat.")] = None,
    risky: Annotated[bool, typer.Option("--risky", help="Only premium-rate and revenue-share numbers.")] = False,
    limit: Annotated[str | None, typer.Option(help="spend_hour, spend_day: more than this amount.")] = None,
    calls: Annotated[int | None, typer.Option(help="short_calls: so many …")] = None,
    within_s: Annotated[int | None, typer.Option(help="… within so many seconds …")] = None,
    shorter_s: Annotated[int | None, typer.Option(help="… each shorter than so many seconds.")] = None,
    hours: Annotated[
        list[str] | None, typer.Option(help='outside_hours: the usual ones, "mon-fri 08:00-18:00"; may repeat.')
    ] = None,
    learn_days: Annotated[
        int | None, typer.Option(help="new_country: an account's first days, in which no country is new.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a rule."""
    shell = shell_of(ctx)
    wanted = Wanted(
        kind=kind,
        action=action,
        prefixes=tuple(prefix or ()),
        risky=risky,
        limit_micros=None if limit is None else parse_amount(limit),
        calls=calls,
        within_s=within_s,
        shorter_s=shorter_s,
        hours=tuple(hours or ()),
        learn_days=learn_days,
    )
    with shell.work() as session:
        owner = find_account(session, account).id if account else operator_id(session)
        made = add_rule(session, owner, wanted, actor=shell.actor, now=shell.clock.now())
    if as_json:
        print_json({"id": made})
    else:
        say(f"Rule {made} holds.")


@rules.command("list")
def list_all(
    ctx: typer.Context,
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Also rules that have ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the rules."""
    with shell_of(ctx).reading() as session:
        found = list_rules(session, ended=ended)
        names = {rule.account_id: find_account(session, str(rule.account_id)).name for rule in found}
        known = count_ranges(session)
    if as_json:
        print_json([facts_of(rule) | {"account": names[rule.account_id]} for rule in found])
        return
    if not found:
        say("No rules: nothing is guarded. See `callctl fraud rule add --help`.")
        return
    made = table("no.", "for", "looks at", "when", "then", right=("no.",))
    for rule in found:
        row(made, (rule.id, names[rule.account_id], rule.kind.value.replace("_", " "), when(rule), rule.action.value))
    people().print(made)
    say(f"The list of risky ranges has {count(known, 'range')}.", style="dim")


@rules.command("end")
def end(ctx: typer.Context, number: Annotated[int, typer.Argument(help="The rule's number.")]) -> None:
    """End a rule; what it did stands until it is lifted."""
    shell = shell_of(ctx)
    with shell.work() as session:
        ended = end_rule(session, number, actor=shell.actor, now=shell.clock.now())
    say(f"Rule {number} holds no more." if ended else f"Rule {number} had ended before.")


@ranges.command("import")
def import_ranges(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV: prefix, and perhaps what it is, in each line.")],
) -> None:
    """Replace the list with a file's; a line that is none changes nothing."""
    shell = shell_of(ctx)
    if file.stat().st_size > MOST_FILE:
        raise Failed(f"{file} is larger than {MOST_FILE // 1024 // 1024} MB")
    with shell.work() as session:
        known = replace_ranges(session, read_ranges(file.read_bytes()), actor=shell.actor, now=shell.clock.now())
    say(f"The list has {count(known, 'range')} now.")


@fraud.command("status")
def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show what the guard found and nobody has lifted yet."""
    with shell_of(ctx).reading() as session:
        found = [alert for alert in list_alerts(session, standing=True, most=1000) if alert.kind.startswith(ALERTS)]
    if as_json:
        print_json(
            [
                {
                    "id": alert.id,
                    "account_id": alert.account_id,
                    "kind": alert.kind,
                    "message": alert.message,
                    "raised_at": moment(alert.raised_at),
                    **alert.facts,
                }
                for alert in found
            ]
        )
        return
    if not found:
        say("Nothing stands.")
        return
    made = table("since", "what", "done", "account", right=("account",))
    for alert in found:
        row(made, (moment(alert.raised_at), alert.message, alert.facts.get("action", ""), alert.account_id))
    people().print(made)
    say("Look into it, then: callctl fraud lift ACCOUNT", style="dim")


@fraud.command("lift")
def lift_account(ctx: typer.Context, account: Annotated[str, typer.Argument(help="Its name or number.")]) -> None:
    """Clear an account's alerts and let it call again; what was before counts no more."""
    shell = shell_of(ctx)
    settings = shell.settings()
    engine = shell.engine(settings)

    async def tell(account_id: int) -> None:
        async with credit_link(settings.credit) as link:
            await outbox.tell_accounts(engine, link.credit, [account_id], clock=shell.clock)

    try:
        with work(engine) as session:
            found = find_account(session, account)
            cleared = lift(session, found.id, actor=shell.actor, now=shell.clock.now())
        say(f"{found.name}: {count(cleared, 'alert')} cleared." if cleared else f"{found.name}: nothing stood.")
        try:
            asyncio.run(tell(found.id))
        except CreditUnavailable:
            warn("The live credit store does not answer; the controller brings it along.")
    finally:
        engine.dispose()
