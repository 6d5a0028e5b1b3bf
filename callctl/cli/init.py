"""`callctl init`: the settings file, the store, the operator and the first owner. Safe to run again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlmodel import Session, select

from billing.accounts import add_operator
from billing.models import Account, AccountKind, User
from billing.store import migrate, migrations_missing, work
from billing.users import add_user
from callctl.app import make_folder_of, open_engine, own_files_only
from callctl.cli.init_switches import ASTERISK, FREESWITCH, no_switch, section_of
from callctl.cli.output import JsonOption, count, people, print_json, say
from callctl.cli.shell import Shell, shell_of

OWNER_ROLE = "owner"

HEAD = """\
# The settings of callctl. Every key can also be given as an environment variable: CALLCTL_SECTION__KEY,
# such as CALLCTL_STORE__URL. Relative paths begin at this file's folder. It holds secrets: keep it its owner's alone.

[store]
# Where the truth is kept. For production: postgresql+psycopg://user:password@host/callctl
url = "sqlite:///var/callctl.db"

[credit]
# Live credit. "embedded" runs a server of callctl's own (with `callctl up`); for production: redis://host:6379/0,
# a Redis or Valkey with an append-only file (appendonly yes).
url = "embedded"
folder = "var/credit"

[web]
# The panel. It speaks plain HTTP: leave it on loopback and put a TLS proxy in front of it.
host = "127.0.0.1"
port = 8080

[control]
# Ended calls are written here before anything else is done about them: a local disk, never a network share.
journal = "var/journal.db"
# Seconds of talk held at a time, and how long before their end the next ones are held.
slice_s = 60
renew_before_s = 20.0
# How much longer than paid for a call may go on while the controller is dead. 0: not a cent over.
controller_loss_grace_s = 0.0
"""


def add_to(app: typer.Typer) -> None:
    """Hang this command into the command line."""
    app.command("init")(init)


def init(
    ctx: typer.Context,
    *,
    asterisk_host: Annotated[str | None, typer.Option(help="Where your Asterisk is.")] = None,
    asterisk_port: Annotated[int, typer.Option(min=1, max=65535, help="Its AMI port.")] = 5038,
    asterisk_name: Annotated[str, typer.Option(help="What callctl calls it: a-z, 0-9, -.")] = "pbx1",
    ami_user: Annotated[str, typer.Option(help="The section of its manager.conf.")] = "callctl",
    freeswitch_host: Annotated[str | None, typer.Option(help="Where your FreeSWITCH is.")] = None,
    freeswitch_port: Annotated[int, typer.Option(min=1, max=65535, help="Its event socket's port.")] = 8021,
    freeswitch_name: Annotated[str, typer.Option(help="What callctl calls it: a-z, 0-9, -.")] = "fs1",
    operator: Annotated[str, typer.Option(help="Your own name, the root of all accounts.")] = "operator",
    currency: Annotated[str, typer.Option(help="Your currency.")] = "EUR",
    owner: Annotated[str, typer.Option(help="The login of the panel's owner.")] = "owner",
    force: Annotated[bool, typer.Option("--force", help="Write the settings file anew.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the settings file, the store, the operator account and an owner for the panel.

    The switch's secret is asked for, or taken from CALLCTL_AMI_SECRET (Asterisk) or CALLCTL_ESL_PASSWORD (FreeSWITCH);
    never from the command line, where others can see it.
    """
    shell = shell_of(ctx)
    own_files_only()
    written = force or not shell.config.exists()
    if written:
        asking = sys.stdin.isatty() and not as_json
        switches = section_of(
            ASTERISK,
            {"name": asterisk_name, "host": asterisk_host, "port": asterisk_port, "username": ami_user},
            asking=asking,
        ) + section_of(
            FREESWITCH,
            {"name": freeswitch_name, "host": freeswitch_host, "port": freeswitch_port},
            asking=asking,
        )
        write_privately(shell.config, HEAD + (switches or no_switch()))
    report = prepare(shell, operator=operator, currency=currency, owner=owner)
    report = {"settings": str(shell.config), "settings_written": written, **report}
    if as_json:
        print_json(report)
    else:
        tell(report)


def write_privately(path: Path, text: str) -> None:
    """Write a file for its owner only, whole or not at all."""
    make_folder_of(path)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def prepare(shell: Shell, *, operator: str, currency: str, owner: str) -> dict[str, Any]:
    """Bring the store up to date and make who is missing; what is there stays as it is."""
    engine = open_engine(shell.settings())
    try:
        missing = migrations_missing(engine)
        if missing:
            migrate(engine)
        with work(engine) as session:
            made = make_operator(session, shell, operator, currency)
            password = make_owner(session, shell, owner)
    finally:
        engine.dispose()
    return {"migrations": missing, "operator_made": made, "owner": owner, "one_time_password": password}


def make_operator(session: Session, shell: Shell, name: str, currency: str) -> bool:
    """Make the root of the account tree unless there is one."""
    if session.exec(select(Account.id).where(Account.kind == AccountKind.OPERATOR)).first() is not None:
        return False
    add_operator(session, name=name, currency=currency, actor=shell.actor, now=shell.clock.now())
    return True


def make_owner(session: Session, shell: Shell, login: str) -> str | None:
    """Make an owner of the panel unless this login exists; return the password that works once."""
    if session.exec(select(User.id).where(User.login == login)).first() is not None:
        return None
    password = shell.ids.secret()[:20]
    add_user(session, login=login, password=password, role=OWNER_ROLE, one_time=True, now=shell.clock.now())
    return password


def tell(report: dict[str, Any]) -> None:
    """Say what was made and what to do next. The password is printed here and never again."""
    say(f"Settings: {report['settings']} ({'written' if report['settings_written'] else 'kept as it was'}).")
    say(f"Store: {count(report['migrations'], 'migration')} run." if report["migrations"] else "Store: up to date.")
    if report["one_time_password"]:
        say(f"Panel: log in as {report['owner']} with this one-time password, shown only now:")
        people().print(f"\n    {report['one_time_password']}\n", markup=False)
    else:
        say(f"Panel: the login {report['owner']} exists (another one: callctl init --owner NAME).")
    say("Next: callctl doctor, then callctl up.")
