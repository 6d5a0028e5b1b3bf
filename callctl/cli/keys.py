"""`callctl key add | list | revoke`: keys of the API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from billing import keys
from billing.access import SCOPES, operators_reach
from billing.accounts import find_account
from billing.keys import KeyView
from callctl.cli.output import JsonOption, moment, people, print_json, row, say, table
from callctl.cli.shell import shell_of

commands = typer.Typer(no_args_is_help=True, help="Keys of the API: what a program may do, and for whom.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(commands, name="key")


def facts(key: KeyView) -> dict[str, Any]:
    """Return a key for programs; its secret is nowhere."""
    return {
        "id": key.public_id,
        "name": key.name,
        "account": key.account,
        "account_id": key.account_id,
        "scopes": list(key.scopes),
        "allow_from": list(key.allow_from),
        "created_by": key.created_by,
        "created_at": moment(key.created_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
        "last_used_at": moment(key.last_used_at),
        "last_used_from": key.last_used_from or None,
    }


def state_of(key: KeyView, now: datetime) -> str:
    """Say in a word or two whether a key still opens anything."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    return "expired" if key.expires_at <= now else f"until {key.expires_at:%Y-%m-%d}"


@commands.command("add")
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for, as you will read it in lists.")],
    *,
    account: Annotated[
        str, typer.Option(help="For whom it acts: it sees this account and all below it. Without one, everything.")
    ] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="AREA:READ|WRITE", help="What it may do; may repeat. Writing includes reading."),
    ] = None,
    allow_from: Annotated[
        list[str] | None, typer.Option(metavar="NETWORK", help="From where it may be used; may repeat. Else anywhere.")
    ] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, max=3650, help="In how many days it ends.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown once, now."""
    shell = shell_of(ctx)
    if not scope:
        raise typer.BadParameter(f"name at least one of {', '.join(SCOPES)}", param_hint="--scope")
    now = shell.clock.now()
    with shell.work() as session:
        owner = find_account(session, account).id if account else operators_reach(session).account_id
        made, token = keys.add_key(
            session,
            account_id=owner,
            name=name,
            scopes=scope,
            allow_from=allow_from or (),
            expires_at=None if expires_days is None else now + timedelta(days=expires_days),
            actor=shell.actor,
            ids=shell.ids,
            now=now,
        )
    if as_json:
        print_json({**facts(made), "key": token})
        return
    say(f"Key {made.public_id} for {made.account}: {', '.join(made.scopes)}.")
    say("This is the key, shown only now:")
    people().print(f"\n    {token}\n", markup=False, soft_wrap=True)


@commands.command("list")
def list_all(
    ctx: typer.Context,
    after: Annotated[str, typer.Option(help="Begin after this key's id.")] = "",
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List keys: for whom, what they may do, when they were last used."""
    shell = shell_of(ctx)
    now = shell.clock.now()
    with shell.reading() as session:
        found = keys.list_keys(session, operators_reach(session), after=after, most=most)
    if as_json:
        print_json([facts(key) for key in found])
        return
    if not found:
        say("There are no keys. `callctl key add` makes one.", style="dim")
        return
    made = table("id", "name", "account", "scopes", "state", "last used")
    for key in found:
        used = moment(key.last_used_at) or "never"
        row(made, (key.public_id, key.name, key.account, " ".join(key.scopes), state_of(key, now), used))
    people().print(made)


@commands.command("revoke")
def revoke(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(help="Its id: the part before the dot.")],
    as_json: JsonOption = False,
) -> None:
    """End a key, at once and for good."""
    shell = shell_of(ctx)
    with shell.work() as session:
        # Who pastes the whole key by accident still means this one; its secret goes nowhere.
        public_id = key.partition(".")[0]
        ended = keys.revoke_key(session, operators_reach(session), public_id, actor=shell.actor, now=shell.clock.now())
    if as_json:
        print_json(facts(ended))
    else:
        say(f"Key {ended.public_id} ({ended.name}) is revoked.")
