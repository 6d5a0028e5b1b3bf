"""`callctl doctor`: what is wrong, in the operator's terms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import typer
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from billing.errors import BillingError
from billing.settings import AsteriskSettings, FreeswitchSettings, Settings, SettingsError
from billing.store import migrations_missing
from callctl.app import EMBEDDED, credit_link, open_engine
from callctl.cli.output import JsonOption, count, people, print_json, table, visible
from callctl.cli.shell import Failed, Shell, shell_of
from callctl.switches import asterisk_doctor, freeswitch_doctor
from callctl.switches.asterisk_doctor import Finding

SWITCH_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `advice` says what to do where it is not well."""

    name: str
    well: bool
    found: str
    advice: str = ""


def add_to(app: typer.Typer) -> None:
    """Hang this command into the command line."""
    app.command("doctor")(doctor)


def doctor(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Look at every connection and say what is wrong; status 1 where something is."""
    shell = shell_of(ctx)
    checks = asyncio.run(examine(shell))
    if as_json:
        print_json([
            {"name": check.name, "well": check.well, "found": check.found, "advice": check.advice} for check in checks
        ])  # fmt: skip
    else:
        made = table("", "what", "found")
        for check in checks:
            mark = Text("ok", style="green") if check.well else Text("WRONG", style="bold red")
            found = check.found if check.well or not check.advice else f"{check.found}. {check.advice}"
            made.add_row(mark, Text(visible(check.name)), Text(visible(found)))
        people().print(made)
    if wrong := [check.name for check in checks if not check.well]:
        names = ", ".join(dict.fromkeys(wrong))
        raise Failed(f"{len(wrong)} of {count(len(checks), 'check')} found something wrong: {names}")


async def examine(shell: Shell) -> list[Check]:
    """Look at everything; one trouble does not hide the next."""
    try:
        settings = shell.settings()
    except (SettingsError, Failed) as error:
        return [Check("settings", False, str(error))]
    checks = [Check("settings", True, str(shell.config))]
    checks.append(await asyncio.to_thread(look_at_store, settings))
    checks.append(await look_at_credit(settings))
    checks += [check async for check in look_at_switches(shell, settings)]
    return checks


def look_at_store(settings: Settings) -> Check:
    """Say whether SQL can be reached and its schema is the newest."""
    try:
        engine = open_engine(settings)
        try:
            missing = migrations_missing(engine)
        finally:
            engine.dispose()
    except (SQLAlchemyError, BillingError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        return Check("store", False, "cannot be reached", " ".join(str(cause).split()))
    if missing:
        return Check("store", False, f"{count(missing, 'migration')} missing", "run `callctl init`")
    return Check("store", True, "reachable, its schema is the newest")


async def look_at_credit(settings: Settings) -> Check:
    """Say whether Redis answers and keeps its data."""
    name = "credit store"
    try:
        async with credit_link(settings.credit) as link:
            await link.credit.ping()
            if not await link.credit.durable():
                return Check(name, False, "answers, but keeps nothing over a restart", "set `appendonly yes` there")
            kind = "embedded" if settings.credit.url.get_secret_value() == EMBEDDED else "reachable"
            return Check(name, True, f"{kind}, keeps its data")
    except BillingError as error:
        return Check(name, False, str(error), "does it run, and is credit.url right?")


async def look_at_switches(shell: Shell, settings: Settings) -> AsyncIterator[Check]:
    """Say what is wrong between callctl and each switch, all switches at once."""
    switches: list[AsteriskSettings | FreeswitchSettings] = [*settings.asterisk, *settings.freeswitch]
    if not switches:
        help_ = f"add an [[asterisk]] or a [[freeswitch]] section to {shell.config}"
        yield Check("switches", False, "none is configured", help_)
    looks = await asyncio.gather(*(look_at_switch(shell, switch) for switch in switches))
    for switch, findings in zip(switches, looks, strict=True):
        for finding in findings:
            yield Check(f"switch {switch.name}", finding.ok, finding.what, "" if finding.ok else finding.help)


async def look_at_switch(shell: Shell, switch: AsteriskSettings | FreeswitchSettings) -> list[Finding]:
    """Ask one switch everything, within a time."""
    try:
        async with asyncio.timeout(SWITCH_TIMEOUT_S):
            if isinstance(switch, FreeswitchSettings):
                return await freeswitch_doctor.examine(switch, clock=shell.clock, ids=shell.ids)
            return await asterisk_doctor.examine(switch, clock=shell.clock, ids=shell.ids)
    except TimeoutError:
        return [Finding(ok=False, what=f"switch {switch.name} did not answer within {SWITCH_TIMEOUT_S:g} s")]
