"""`callctl plan …`: what is laid around tariffs: mark-ups, discounts, rates of one account alone."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

import typer

from billing.plans import edit
from callctl.cli.output import JsonOption, print_json, row, say, table
from callctl.cli.output import people as console
from callctl.cli.shell import shell_of
from rating.parts import Rounding, RoundingMode, Step
from rating.plans import MarkUp
from rating.tariff import Rate

plans = typer.Typer(no_args_is_help=True, help="Mark-ups, discounts, own rates.")

_NUMBER = re.compile(r"[0-9]{1,10}(\.[0-9]{1,18})?", re.ASCII)
PrefixOption = Annotated[str, typer.Option(help="Numbers that begin so; all numbers if not given.")]
RemoveOption = Annotated[bool, typer.Option("--remove", help="Take it away again.")]


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(plans, name="plan")


def decimal(text: str, option: str) -> Decimal:
    """Read a plain decimal."""
    if _NUMBER.fullmatch(text) is None:
        raise typer.BadParameter(f"{option}: expected a plain decimal such as 12.5, found {text[:40]!r}")
    return Decimal(text)


def _numbers(prefix: str) -> str:
    return f"numbers that begin with {prefix}" if prefix else "all numbers"


@plans.command("markup")
def markup(
    ctx: typer.Context,
    tariff: Annotated[str, typer.Argument(help="The tariff that is sold.")],
    *,
    source: Annotated[str, typer.Option("--from", metavar="TARIFF", help="Whose prices are marked up.")] = "",
    prefix: PrefixOption = "",
    percent: Annotated[str, typer.Option(help="How many percent dearer.")] = "0",
    least: Annotated[str, typer.Option(help="How much dearer a minute at least.")] = "0",
    decimals: Annotated[int, typer.Option(min=0, max=12, help="To how many decimals prices are brought.")] = 6,
    rounding: Annotated[RoundingMode, typer.Option(help="Which way.")] = RoundingMode.UP,
    remove: RemoveOption = False,
) -> None:
    """Sell in one tariff what another one lists, dearer: carrier + 20 %, at least 0.002 a minute."""
    shell = shell_of(ctx)
    if remove:
        with shell.work() as session:
            edit.remove_markup(session, tariff, prefix, actor=shell.actor, now=shell.clock.now())
        say(f"Tariff {tariff} derives {_numbers(prefix)} no more.")
        return
    if not source:
        raise typer.BadParameter("--from: give the tariff whose prices are marked up")
    wanted = MarkUp(decimal(percent, "--percent"), decimal(least, "--least"), decimals, rounding)
    with shell.work() as session:
        edit.set_markup(session, tariff, source, prefix, wanted, actor=shell.actor, now=shell.clock.now())
    floor = f", at least {least} a minute more" if wanted.least_per_min else ""
    say(f"Tariff {tariff} sells {_numbers(prefix)} at the prices of {source} plus {percent} %{floor}.")


@plans.command("discount")
def discount(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    *,
    percent: Annotated[str, typer.Option(help="How many percent less; 0 takes it away.")],
    prefix: PrefixOption = "",
) -> None:
    """Give an account a discount on what its tariff says."""
    shell = shell_of(ctx)
    off = decimal(percent, "--percent")
    with shell.work() as session:
        edit.set_discount(session, account, prefix, off, actor=shell.actor, now=shell.clock.now())
    say(f"{account} pays {percent} % less for {_numbers(prefix)}." if off else f"{account} has no such discount now.")


@plans.command("rate")
def own_rate(
    ctx: typer.Context,
    account: Annotated[str, typer.Argument(help="Its name or number.")],
    *,
    prefix: PrefixOption = "",
    price: Annotated[str, typer.Option(help="Price of a minute.")] = "",
    connect_fee: Annotated[str, typer.Option(help="Charged once a call.")] = "0",
    first: Annotated[int, typer.Option(min=1, help="The first increment, seconds.")] = 1,
    increment: Annotated[int, typer.Option(min=1, help="Every further increment, seconds.")] = 1,
    destination: Annotated[str, typer.Option(help="What the numbers are called.")] = "",
    remove: RemoveOption = False,
) -> None:
    """Give an account a rate of its own, in its own currency; of the same prefix it wins over the tariff's."""
    shell = shell_of(ctx)
    if remove:
        with shell.work() as session:
            edit.remove_own_rate(session, account, prefix, actor=shell.actor, now=shell.clock.now())
        say(f"{account} has no rate of its own for {_numbers(prefix)} now.")
        return
    if not price:
        raise typer.BadParameter("--price: give the price of a minute")
    minute = decimal(price, "--price")
    steps: tuple[Step, ...] = (Step(0, minute, 60, first),)
    if first != increment:
        steps += (Step(first, minute, 60, increment),)
    rate = Rate(prefix, destination, decimal(connect_fee, "--connect-fee"), steps, Rounding())
    with shell.work() as session:
        edit.set_own_rate(session, account, rate, actor=shell.actor, now=shell.clock.now())
    say(f"{account} pays {price} a minute for {_numbers(prefix)}.")


@plans.command("show")
def show(
    ctx: typer.Context,
    account: Annotated[str, typer.Option(help="What this account has of its own.")] = "",
    tariff: Annotated[str, typer.Option(help="From what this tariff is derived.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what is laid around a tariff, or what an account has of its own."""
    if bool(account) == bool(tariff):
        raise typer.BadParameter("give --account or --tariff")
    with shell_of(ctx).reading() as session:
        found: dict[str, Any] = (
            edit.list_plan(session, account) if account else {"markups": edit.list_markups(session, tariff)}
        )
    if as_json:
        print_json(found)
        return
    made = table("what", "prefix", "says")
    for one in found.get("markups", ()):
        least = f", at least {one['least_per_min']} a minute more" if one["least_per_min"] != "0" else ""
        row(made, ("mark-up", one["prefix"] or "all", f"{one['from']} + {one['percent']} %{least}"))
    for one in found.get("discounts", ()):
        row(made, ("discount", one["prefix"] or "all", f"{one['percent']} % less"))
    for one in found.get("rates", ()):
        steps = ", ".join(f"{step['price']} per {step['per_s']} s" for step in one["steps"])
        row(made, ("own rate", one["prefix"] or "all", steps))
    if made.row_count:
        console().print(made)
    else:
        say("Nothing: the tariff alone says what calls cost.")
