"""`callctl volume tiers | flat | list | end`: plans that look at what was used in a calendar month."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from billing.plans import edit
from callctl.cli.output import JsonOption, people, print_json, row, say, table
from callctl.cli.plans import decimal
from callctl.cli.shell import shell_of
from rating.volumes import Tier

volumes = typer.Typer(no_args_is_help=True, help="Volume tiers and flat rates.")

_TIER = re.compile(r"([0-9]{1,9}):([0-9.]{1,12})", re.ASCII)
AccountOption = Annotated[str | None, typer.Option(help="Whose calls.")]
TariffOption = Annotated[str | None, typer.Option(help="Or: calls of all that buy in which tariff.")]
PrefixesOption = Annotated[list[str] | None, typer.Option("--prefix", help="Numbers that begin so; may repeat.")]
ZoneOption = Annotated[str, typer.Option(help="On whose clock a month begins, such as Europe/Berlin.")]


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(volumes, name="volume")


@volumes.command("tiers")
def tiers(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is called on the bill.")],
    *,
    tier: Annotated[list[str], typer.Option(metavar="MINUTES:PERCENT", help="From so many minutes on, so much less.")],
    account: AccountOption = None,
    tariff: TariffOption = None,
    prefix: PrefixesOption = None,
    timezone: ZoneOption = "UTC",
) -> None:
    """The more was talked in a month, the less a call costs: --tier 0:0 --tier 1000:5 --tier 5000:10."""
    read: list[Tier] = []
    for told in tier:
        match = _TIER.fullmatch(told)
        if match is None:
            raise typer.BadParameter(f"--tier: expected minutes and percent such as 1000:5, found {told[:40]!r}")
        read.append(Tier(int(match.group(1)) * 60, decimal(match.group(2), "--tier")))
    shell = shell_of(ctx)
    with shell.work() as session:
        plan_id = edit.set_volume(
            session,
            account=account,
            tariff=tariff,
            name=name,
            prefixes=prefix or [""],
            timezone=timezone,
            tiers=read,
            actor=shell.actor,
            now=shell.clock.now(),
        )
    say(f"Volume plan {plan_id}, {name}, holds for calls offered from now on.")


@volumes.command("flat")
def flat(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is called on the bill.")],
    *,
    fair_minutes: Annotated[int, typer.Option(min=1, help="The fair use of a month; what is beyond costs money.")],
    account: AccountOption = None,
    tariff: TariffOption = None,
    prefix: PrefixesOption = None,
    timezone: ZoneOption = "UTC",
) -> None:
    """Let calls cost nothing up to a fair use a month."""
    shell = shell_of(ctx)
    with shell.work() as session:
        plan_id = edit.set_volume(
            session,
            account=account,
            tariff=tariff,
            name=name,
            prefixes=prefix or [""],
            timezone=timezone,
            fair_s=fair_minutes * 60,
            actor=shell.actor,
            now=shell.clock.now(),
        )
    say(f"Volume plan {plan_id}, {name}, holds for calls offered from now on.")


@volumes.command("end")
def end(ctx: typer.Context, number: Annotated[int, typer.Argument(help="As `callctl volume list` prints it.")]) -> None:
    """End a plan: calls offered from now on do not fall under it."""
    shell = shell_of(ctx)
    with shell.work() as session:
        edit.end_volume(session, number, actor=shell.actor, now=shell.clock.now())
    say(f"Volume plan {number} has ended.")


@volumes.command("list")
def list_all(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the plans that hold."""
    with shell_of(ctx).reading() as session:
        found = [row.model_dump(mode="json", exclude={"ended"}) for row in edit.list_volumes(session)]
    if as_json:
        print_json(found)
        return
    if not found:
        say("There are none: what was used in a month changes no price.")
        return
    made = table("no.", "plan", "of", "numbers", "says", "zone", right=("no.",))
    for one in found:
        whose = f"account {one['account_id']}" if one["account_id"] else f"tariff {one['tariff_id']}"
        says = (
            ", ".join(f"from {tier['from_s'] // 60} min {tier['percent']} %" for tier in one["terms"])
            if one["kind"] == "tiers"
            else f"free up to {one['terms']['fair_s'] // 60} min"
        )
        numbers = ", ".join(prefix or "(all)" for prefix in one["prefixes"])
        row(made, (one["id"], one["name"], whose, numbers, says, one["timezone"]))
    people().print(made)
