"""`callctl reconcile`: the switch's own records beside the billed ones; `reconcile-undo` takes a settlement back."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy.engine import Engine

from billing.catalogue import Catalogue, load_catalogue
from billing.cdrs import EndedCall
from billing.errors import CreditUnavailable
from billing.outbox import apply_now, drain
from billing.reconcile.compare import Comparison, Finding, Kind, Scope, Worth
from billing.reconcile.posted import posted
from billing.reconcile.read import Format, Options, Reading, files_of, read_files
from billing.reconcile.records import SwitchCall
from billing.reconcile.scratch import Scratch
from billing.settings import Settings
from billing.store import reading
from callctl.app import credit_link
from callctl.cli.output import JsonOption, count, print_json, say, warn
from callctl.cli.reconcile_report import Outcome, facts, tell
from callctl.cli.shell import Failed, Shell, shell_of
from callctl.reconcile import Priced, price, settle_missing, undo

FRESH = timedelta(minutes=5)
"""What ended this lately may still be on its way to the store."""
POSTED_SPAN = timedelta(days=1)
MOST_SETTLED = 10_000
MOST_LIVE = 100_000


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the command line."""
    app.command("reconcile")(reconcile)
    app.command("reconcile-undo")(reconcile_undo)


def reconcile(
    ctx: typer.Context,
    switch: Annotated[str, typer.Argument(help="The switch's name in callctl's settings.")],
    paths: Annotated[list[Path] | None, typer.Argument(help="Files of records, or folders of them.")] = None,
    *,
    use_posted: Annotated[bool, typer.Option("--posted", help="Take what the switch has posted as well.")] = False,
    begin: Annotated[str | None, typer.Option("--from", help="Calls that ended at this time or later.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Calls that ended before this time.")] = None,
    form: Annotated[Format | None, typer.Option("--format", help="Of all files; else each is recognised.")] = None,
    zone: Annotated[str, typer.Option(help="The time zone of times that name none, such as Europe/Berlin.")] = "UTC",
    tolerance: Annotated[float, typer.Option(min=0, max=3600, help="Seconds that are no difference.")] = 1.0,
    outside: Annotated[bool, typer.Option("--outside", help="List calls that callctl was never asked about.")] = False,
    most: Annotated[int, typer.Option(min=1, help="How many differences to list; all are counted.")] = 200,
    settle: Annotated[bool, typer.Option("--settle-missing", help="Charge answered calls that are missing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Post it; else it is only shown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a switch's own call records with the billed ones; status 1 where they differ."""
    if not paths and not use_posted:
        raise typer.BadParameter("name files or folders, or use --posted", param_hint="PATHS")
    if yes and not settle:
        raise typer.BadParameter("--yes goes with --settle-missing", param_hint="--yes")
    shell = shell_of(ctx)
    zoned = zone_of(zone)
    settings = shell.settings()
    asked = Asked(
        switch=switch,
        files=files_of(paths or []),
        use_posted=use_posted,
        begin=moment_of(begin, zoned, "--from"),
        end=moment_of(end, zoned, "--to"),
        form=form,
        zone=zoned,
        tolerance_ms=round(tolerance * 1000),
        outside=outside,
        most=most,
        settle=settle,
        pins=bool(settings.pins.secret.get_secret_value()),
    )
    engine = shell.engine(settings)
    try:
        outcome, records = compare(shell, settings, engine, asked, quiet=as_json)
        if settle and yes:
            post(shell, settings, engine, outcome, records)
    finally:
        engine.dispose()
    if as_json:
        print_json(facts(outcome))
    else:
        tell(outcome)
    if outcome.left:
        raise Failed(f"{count(outcome.left, 'difference')} between {switch} and the billed records")


def reconcile_undo(
    ctx: typer.Context,
    call_id: Annotated[str, typer.Argument(help="A call that `callctl reconcile --settle-missing` settled.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only said what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Give back the money of a call that was settled by `callctl reconcile`."""
    shell = shell_of(ctx)
    if not yes:
        say(f"This would reverse the charges of {call_id}; its record stays. Nothing was done: add --yes.")
        return
    settings = shell.settings()
    engine = shell.engine(settings)
    try:
        transaction = undo(engine, call_id, actor=shell.actor, now=shell.clock.now())

        async def follow() -> None:
            async with credit_link(settings.credit) as link:
                while await drain(engine, link.credit, clock=shell.clock):
                    pass

        in_redis(follow)
    finally:
        engine.dispose()
    if as_json:
        print_json({"call_id": call_id, "reversed_by": transaction})
    else:
        say(f"The charges of {call_id} are reversed by transaction {transaction}.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asked for."""

    switch: str
    files: list[Path]
    use_posted: bool
    begin: datetime | None
    end: datetime | None
    form: Format | None
    zone: tzinfo
    tolerance_ms: int
    outside: bool
    most: int
    settle: bool
    pins: bool
    """Whether a PIN names a payer here."""


@dataclass(slots=True)
class Estimates:
    """What unbilled calls would cost, by today's catalogue, which is loaded when it is first needed."""

    engine: Engine
    switch: str
    pins: bool = False
    _catalogue: list[Catalogue] = field(default_factory=list)

    def price(self, call: SwitchCall) -> Priced | Worth:
        """Price a call, or say why not."""
        if not self._catalogue:
            with reading(self.engine) as session:
                self._catalogue.append(load_catalogue(session, pins=self.pins))
        return price(self.switch, call, self._catalogue[0])

    def __call__(self, call: SwitchCall) -> Worth:
        """Return only what it is worth."""
        priced = self.price(call)
        return priced.worth if isinstance(priced, Priced) else priced


def compare(
    shell: Shell, settings: Settings, engine: Engine, asked: Asked, *, quiet: bool
) -> tuple[Outcome, list[EndedCall]]:
    """Read, sort out and compare; return what was found, and the records that settling would make."""
    now = shell.clock.now()
    live = live_calls(settings, must=asked.settle)
    with tempfile.TemporaryDirectory(prefix="callctl-reconcile-") as folder:
        scratch = Scratch(Path(folder) / "scratch.db", tolerance_ms=asked.tolerance_ms)
        try:
            done = read_all(asked, scratch, quiet=quiet)
            begin, end = asked.begin, asked.end
            if asked.use_posted:
                since, until = begin or now - POSTED_SPAN, end or now
                with reading(engine) as session:
                    for leg in posted(session, asked.switch, since, until):
                        scratch.add(leg)
            scratch.merge()
            first, last = scratch.span() or (now, now)
            scope = Scope(
                switch=asked.switch,
                begin=begin or (min(first, now - POSTED_SPAN) if asked.use_posted and not asked.files else first),
                end=end or last + timedelta(seconds=1),
                fresh=now - FRESH,
                tolerance_ms=asked.tolerance_ms,
                outside=asked.outside,
                live=live,
            )
            return take(engine, scratch, scope, asked, done)
        finally:
            scratch.close()


def take(
    engine: Engine, scratch: Scratch, scope: Scope, asked: Asked, done: Reading
) -> tuple[Outcome, list[EndedCall]]:
    """Take the findings as they come: the first to be shown, the rest only counted, what can be settled priced."""
    estimates = Estimates(engine, asked.switch, pins=asked.pins)
    shown: list[Finding] = []
    records: list[EndedCall] = []
    with reading(engine) as session:
        comparison = Comparison(session, scratch, scope, estimates)
        for finding in comparison.findings():
            if len(shown) < asked.most:
                shown.append(finding)
            settles = asked.settle and finding.kind is Kind.MISSING and finding.call is not None
            if settles and finding.call is not None and len(records) < MOST_SETTLED:
                priced = estimates.price(finding.call)
                if isinstance(priced, Priced):
                    records.append(priced.record)
    outcome = Outcome(scope, done, scratch.repeated, comparison.counts, shown)
    if asked.settle:
        outcome.would_settle(records)
    return outcome, records


def read_all(asked: Asked, scratch: Scratch, *, quiet: bool) -> Reading:
    """Read every file, with a bar on standard error where somebody watches."""
    total = sum(path.stat().st_size for path in asked.files)
    console = Console(stderr=True)
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("reading", total=total)
        options = Options(form=asked.form, zone=asked.zone, on_bytes=lambda size: bar.advance(task, size))
        done = read_files(asked.files, scratch.add, options)
    if asked.files and not done.legs and done.broken_count:
        worst = done.broken[0]
        raise Failed(f"no record could be read; the first: {worst.file} line {worst.line}: {worst.why}")
    if done.skewed > done.legs // 2:
        warn("The records' times are hours from the times in their ids: is --zone missing (cdr.conf: usegmtime)?")
    return done


def post(shell: Shell, settings: Settings, engine: Engine, outcome: Outcome, records: list[EndedCall]) -> None:
    """Book what is missing, unless a controller still holds money for it."""

    async def held() -> set[str]:
        async with credit_link(settings.credit) as link:
            return {one.call_id for one in records if await link.credit.find_hold(one.call_id)}

    open_holds = asyncio.run(held())
    free = [record for record in records if record.call_id not in open_holds]
    written, applied = settle_missing(engine, free, actor=shell.actor, now=shell.clock.now())

    async def follow() -> None:
        async with credit_link(settings.credit) as link:
            await apply_now(engine, link.credit, applied, clock=shell.clock)

    if applied:
        in_redis(follow)
    outcome.did_settle([record for record in free if record.call_id in set(written)], held=len(open_holds))


def in_redis(follow: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Tell the live credit store; where it is away the controller does it later."""
    try:
        asyncio.run(follow())
    except CreditUnavailable as error:
        warn(f"It is booked. Live calls will see it when the controller can reach the credit store ({error}).")


def live_calls(settings: Settings, *, must: bool) -> frozenset[str]:
    """Return the calls that a controller has in its hands. Raises `Failed` where that must be known and is not."""

    async def ask() -> frozenset[str]:
        async with credit_link(settings.credit) as link:
            return frozenset(view.call_id for view in await link.live.list(most=MOST_LIVE))

    try:
        return asyncio.run(ask())
    except CreditUnavailable as error:
        if must:
            raise Failed(f"nothing is settled without knowing which calls are live: {error}") from error
        warn(f"Calls that are live may be listed as missing: {error}")
        return frozenset()


def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name."""
    try:
        return UTC if name.upper() == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(f"there is no time zone {name!r}", param_hint="--zone") from None


def moment_of(text: str | None, zone: tzinfo, option: str) -> datetime | None:
    """Read 2026-11-01 or 2026-11-01T12:00[+01:00]."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("a time such as 2026-11-01 or 2026-11-01T12:00", param_hint=option) from None
