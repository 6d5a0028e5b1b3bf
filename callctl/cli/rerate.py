"""`callctl rerate`: what past calls would cost at other rates, booked as corrections and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Annotated, Any

import typer
from rich.progress import Progress
from sqlalchemy.engine import Engine

from billing.errors import CreditUnavailable
from billing.models import Beyond, RerateRun, RunStatus
from billing.ports import Clock
from billing.rerating.booking import OUTCOMES, Booked, Order, book_all
from billing.rerating.look import Looked, drop, find_run, load_pricer, look_some, now_of, start
from billing.rerating.pricer import WHY
from billing.rerating.report import Report, in_words, list_runs, report
from billing.rerating.selection import select_charges
from billing.settings import Settings
from billing.store import reading, work
from callctl.app import credit_link
from callctl.cli.deck_import import progress
from callctl.cli.output import JsonOption, count, moment, people, print_json, row, say, table, warn
from callctl.cli.shell import Failed, shell_of
from rating.money import format_amount

rerate = typer.Typer(
    no_args_is_help=True,
    help="Price past calls again at other rates: preview it, book the differences as corrections, undo them.",
)
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `preview` and `list` print it.")]


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(rerate, name="rerate")


@rerate.command("preview")
def preview(
    ctx: typer.Context,
    *,
    since: Annotated[
        str, typer.Option(help="Calls that ended from this day or time on: 2027-01-31, or with a time and zone.")
    ],
    until: Annotated[str, typer.Option(help="Until before this day or time; now if not given.")] = "",
    account: Annotated[str, typer.Option(help="Only what this account pays (name or number).")] = "",
    subtree: Annotated[bool, typer.Option("--subtree", help="And what the accounts under it pay.")] = False,
    prefix: Annotated[str, typer.Option(help="Only calls to numbers that begin so.")] = "",
    tariff: Annotated[str, typer.Option(help="Only what was priced by this tariff.")] = "",
    version: Annotated[int | None, typer.Option(min=1, help="And by this version of it.")] = None,
    to_tariff: Annotated[
        str, typer.Option(help="Price by this tariff; each charge's own, as it is now, if not given.")
    ] = "",
    to_version: Annotated[int | None, typer.Option(min=1, help="As that tariff was in this version.")] = None,
    beyond: Annotated[
        Beyond,
        typer.Option(
            help="Where a credit does not reach for what is charged more: skip the call, or allow to go below."
        ),
    ] = Beyond.SKIP,
    reason: Annotated[str, typer.Option(help="Why, for the statement and the record of each call.")],
    operation: Annotated[
        str, typer.Option("--id", metavar="RUN", help="Your own id of this run: the same one is begun once.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what past calls would cost, and to whom it makes a difference. Books nothing."""
    shell = shell_of(ctx)
    now = shell.clock.now()
    chosen = operation or shell.ids.new("rerate")
    engine = shell.engine(shell.settings())
    try:
        with work(engine) as session:
            wanted = select_charges(
                session,
                since=read_time(since, "--since"),
                until=read_time(until, "--until") if until else now_of(session, chosen, now),
                account=account or None,
                subtree=subtree,
                prefix=prefix,
                tariff=tariff or None,
                version=version,
                to_tariff=to_tariff or None,
                to_version=to_version,
            )
            start(session, wanted, operation=chosen, beyond=beyond, reason=reason, actor=shell.actor, now=now)
        look_all(engine, chosen, shell.clock, quiet=as_json)
        tell(engine, chosen, as_json=as_json)
    finally:
        engine.dispose()


@rerate.command("show")
def show(ctx: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Show a run: what it would change, or has changed."""
    shell = shell_of(ctx)
    engine = shell.engine(shell.settings())
    try:
        tell(engine, run, as_json=as_json)
    finally:
        engine.dispose()


@rerate.command("list")
def list_all(
    ctx: typer.Context,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    with shell_of(ctx).reading() as session:
        listed = [run_facts(run) | {"about": in_words(session, run)} for run in list_runs(session, most=most)]
    if as_json:
        print_json(listed)
        return
    if not listed:
        say("Nothing has been re-rated yet. Begin with: callctl rerate preview --since DAY --reason TEXT")
        return
    made = table("run", "status", "charges", "begun (UTC)", "by", "reason", right=("charges",))
    for one in listed:
        begun = str(one["created_at"])[:16].replace("T", " ")
        row(made, (one["run"], one["status"], one["charges"], begun, one["actor"], one["reason"]))
    people().print(made)


@rerate.command("post")
def post(
    ctx: typer.Context,
    run: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Book a previewed run: a correction for each call. Told again it changes nothing; stopped, it goes on."""
    book(ctx, run, undo=False, yes=yes, as_json=as_json)


@rerate.command("undo")
def undo(
    ctx: typer.Context,
    run: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a booked run back, by reversals: each call costs again what it cost before."""
    book(ctx, run, undo=True, yes=yes, as_json=as_json)


@rerate.command("drop")
def drop_run(ctx: typer.Context, run: RunArgument) -> None:
    """Forget a run that has booked nothing."""
    shell = shell_of(ctx)
    with shell.work() as session:
        drop(session, run, actor=shell.actor, now=shell.clock.now())
    say(f"Dropped {run}. It had booked nothing.")


# -- doing it ----------------------------------------------------------------------------------------------------------


def look_all(engine: Engine, operation: str, clock: Clock, *, quiet: bool) -> None:
    """Look at every charge of a run, with a bar on standard error."""
    with reading(engine) as session:
        run = find_run(session, operation)
    if run.status is not RunStatus.LOOKING:
        return
    with progress(quiet=quiet) as bar:
        task = bar.add_task("reading rates", total=None)
        pricer = load_pricer(engine, operation)
        bar.update(task, description="pricing", total=run.charges)
        looked = Looked(run.looked, run.charges, over=False)
        while not looked.over:
            looked = look_some(engine, operation, pricer, now=clock.now())
            bar.update(task, completed=looked.looked)


def book(ctx: typer.Context, operation: str, *, undo: bool, yes: bool, as_json: bool) -> None:
    """Post or undo a run to its end, after asking."""
    shell = shell_of(ctx)
    settings = shell.settings()
    engine = shell.engine(settings)
    try:
        with reading(engine) as session:
            told = report(session, find_run(session, operation), most=0)
        charges = told.booked - told.undone if undo else told.waiting
        if charges and not yes and not as_json:
            net = ", ".join(signed(more - less, currency) for currency, (more, less) in sorted(told.totals.items()))
            what = "Take back" if undo else "Book"
            typer.confirm(f"{what} {count(charges, 'correction')} ({net or 'nothing'} for the payers)?", abort=True)
        order = Order(operation, shell.actor, undo=undo)
        with progress(quiet=as_json) as bar:
            done = asyncio.run(_book(engine, settings, order, shell.clock, bar))
        tell_booked(engine, order, done, as_json=as_json)
    finally:
        engine.dispose()


async def _book(engine: Engine, settings: Settings, order: Order, clock: Clock, bar: Progress) -> Booked:
    task = bar.add_task("undoing" if order.undo else "booking", total=None)
    advance: Callable[[int], None] = partial(_advance, bar, task)
    try:
        async with credit_link(settings.credit) as link:
            return await book_all(engine, link.credit, order, clock=clock, progress=advance)
    except CreditUnavailable as error:
        raise Failed(f"{error}. What is booked so far stays: run the same command again to go on") from error


def _advance(bar: Progress, task: Any, calls: int) -> None:
    bar.update(task, completed=calls)


def read_time(text: str, option: str) -> datetime:
    """Read a day as its first moment in UTC, or a time with its zone."""
    try:
        if len(text) == len("2027-01-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{option}: expected 2027-01-31 or 2027-01-31T12:00:00Z, found {text[:40]!r}"
        ) from error
    if at.tzinfo is None:
        raise typer.BadParameter(f"{option}: expected a time with its zone, such as {text}Z")
    return at


# -- words -------------------------------------------------------------------------------------------------------------


def run_facts(run: RerateRun) -> dict[str, Any]:
    """Return a run for programs."""
    return {
        "run": run.operation,
        "status": run.status.value,
        "selection": run.selection,
        "beyond": run.beyond.value,
        "reason": run.reason,
        "actor": run.actor,
        "created_at": moment(run.created_at),
        "charges": run.charges,
        "looked": run.looked,
        "unchanged": run.unchanged,
        "unpriced": run.unpriced,
        "versions": run.versions,
    }


def tell(engine: Engine, operation: str, *, as_json: bool) -> None:
    """Say what a run would change, or has changed."""
    with reading(engine) as session:
        found = find_run(session, operation)
        told, about = report(session, found), in_words(session, found)
    if as_json:
        print_json(facts(told))
        return
    run = told.run
    say(f"Re-rating {run.operation} ({run.status.value}): {about}.", style="bold")
    say(f"{count(run.looked, 'charge')} looked at, {run.unchanged} cost the same, {told.waiting} would change.")
    if told.booked:
        say(f"{count(told.booked, 'correction')} booked, {told.undone} of them undone.")
    for why, number in sorted(run.unpriced.items()):
        warn(f"{count(number, 'charge')} left as they are: {WHY.get(why, why)}.")
    for why, number in sorted(told.left_out.items()):
        warn(f"{count(number, 'charge')} left out: {OUTCOMES.get(why, why)}.")
    if told.accounts:
        tell_accounts(told)
        tell_largest(told)
    if run.status is RunStatus.PREVIEWED:
        say(
            f"Nothing is booked. To book it: callctl rerate post {run.operation}"
            if told.waiting
            else "There is nothing to book."
        )


def tell_accounts(told: Report) -> None:
    """Say who pays more or less."""
    right = ("dearer", "cheaper", "more", "less", "difference")
    made = table("account", "level", *right, title="By account", right=("level", *right))
    for line in told.accounts:
        row(
            made,
            (
                line.account,
                "payer" if line.level == 0 else line.level,
                line.dearer,
                line.cheaper,
                format_amount(line.more_micros),
                format_amount(line.less_micros),
                signed(line.net_micros, line.currency),
            ),
        )
    people().print(made)
    allowed = told.run.beyond is Beyond.ALLOW
    then = "it goes below its credit by that" if allowed else "calls it cannot pay are left out"
    for account, currency, lacks in sorted({(one.account, one.currency, one.lacks_micros) for one in told.accounts}):
        if lacks:
            warn(f"{account} lacks {format_amount(lacks)} {currency} for all of this: {then}.")


def tell_largest(told: Report) -> None:
    """Say which single charges change most."""
    made = table(
        "call", "to", "account", "was", "is", "difference", title="Largest changes", right=("was", "is", "difference")
    )
    for one in told.largest:
        where = f"{one.callee} ({one.destination})" if one.destination else one.callee
        was, now = format_amount(one.before_micros), format_amount(one.after_micros)
        row(
            made,
            (one.call_id, where, one.account, was, now, signed(one.after_micros - one.before_micros, one.currency)),
        )
    people().print(made)


def tell_booked(engine: Engine, order: Order, done: Booked, *, as_json: bool) -> None:
    """Say what was booked, and what was not."""
    with reading(engine) as session:
        told = report(session, find_run(session, order.operation), most=0)
    if as_json:
        calls = {"calls": done.done, "no_money": done.no_money, "changed": done.changed, "live": done.live}
        print_json(facts(told) | {"did": calls})
        return
    does = "taken back" if order.undo else "booked"
    say(f"{count(done.done, 'call')} {does}. {order.operation} is {told.run.status.value}.")
    if done.no_money:
        warn(f"{count(done.no_money, 'call')} left out: {OUTCOMES['no_money']}.")
    if done.changed:
        later = "a later re-rating has corrected them again: undo that first" if order.undo else OUTCOMES["changed"]
        warn(f"{count(done.changed, 'call')} left out: {later}.")
    if not done.live:
        warn("It is booked. Live calls will see it when the controller can reach the credit store.")


def facts(told: Report) -> dict[str, Any]:
    """Return a report for programs."""
    return run_facts(told.run) | {
        "waiting": told.waiting,
        "booked": told.booked,
        "undone": told.undone,
        "left_out": told.left_out,
        "totals": {
            currency: {"more": format_amount(more), "less": format_amount(less)}
            for currency, (more, less) in told.totals.items()
        },
        "accounts": [
            {
                "account": line.account,
                "account_id": line.account_id,
                "level": line.level,
                "currency": line.currency,
                "dearer": line.dearer,
                "cheaper": line.cheaper,
                "more": format_amount(line.more_micros),
                "less": format_amount(line.less_micros),
                "lacks": format_amount(line.lacks_micros),
            }
            for line in told.accounts
        ],
        "largest": [
            {
                "call_id": one.call_id,
                "callee": one.callee,
                "account": one.account,
                "level": one.level,
                "currency": one.currency,
                "before": format_amount(one.before_micros),
                "after": format_amount(one.after_micros),
            }
            for one in told.largest
        ],
    }


def signed(micros: int, currency: str) -> str:
    """Write a difference with its sign."""
    return f"{'+' if micros > 0 else ''}{format_amount(micros)} {currency}"
