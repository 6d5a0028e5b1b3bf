"""`callctl user add | list | disable | enable | reset`: who logs in to the panel."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from billing import people
from billing.access import Role, operators_reach
from billing.accounts import find_account
from billing.people import Person
from callctl.cli.output import JsonOption, moment, print_json, row, say, table
from callctl.cli.output import people as console
from callctl.cli.shell import shell_of

commands = typer.Typer(no_args_is_help=True, help="People who log in to the panel.")
LoginArgument = Annotated[str, typer.Argument(help="The login.")]


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(commands, name="user")


def facts(person: Person) -> dict[str, Any]:
    """Return a person for programs."""
    return {
        "id": person.id,
        "login": person.login,
        "role": person.role,
        "account": person.account,
        "account_id": person.account_id,
        "must_change": person.must_change,
        "second_factor": person.second_factor,
        "created_at": moment(person.created_at),
        "disabled_at": moment(person.disabled_at),
    }


def tell(person: Person, password: str, *, as_json: bool) -> None:
    """Print a person with the password that works once."""
    if as_json:
        print_json({**facts(person), "one_time_password": password})
        return
    say(f"{person.login} ({person.role.replace('_', ' ')}) can log in with this one-time password, shown only now:")
    console().print(f"\n    {password}\n", markup=False)


@commands.command("add")
def add(
    ctx: typer.Context,
    login: LoginArgument,
    *,
    role: Annotated[Role, typer.Option(help="What they may do.")],
    account: Annotated[str, typer.Option(help="Whose people: for the roles reseller and customer.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Add a person; they choose a password at their first login."""
    shell = shell_of(ctx)
    with shell.work() as session:
        person, password = people.invite(
            session,
            operators_reach(session),
            login=login,
            role=role.value,
            account_id=find_account(session, account).id if account else None,
            actor=shell.actor,
            ids=shell.ids,
            now=shell.clock.now(),
        )
    tell(person, password, as_json=as_json)


@commands.command("list")
def list_all(
    ctx: typer.Context,
    after: Annotated[int, typer.Option(help="Begin after this number.")] = 0,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List people."""
    with shell_of(ctx).reading() as session:
        found = people.list_people(session, operators_reach(session), after_id=after, most=most)
    if as_json:
        print_json([facts(person) for person in found])
        return
    made = table("no.", "login", "role", "account", "second factor", "state", right=("no.",))
    for person in found:
        state = "disabled" if person.disabled_at else "not yet in" if person.must_change else "active"
        factor = "on" if person.second_factor else "off"
        row(made, (person.id, person.login, person.role, person.account, factor, state))
    console().print(made)


@commands.command("disable")
def disable(ctx: typer.Context, login: LoginArgument, as_json: JsonOption = False) -> None:
    """Let a person in no more; their sessions end at once."""
    _change(ctx, login, people.disable, "{} cannot log in any more.", as_json=as_json)


@commands.command("enable")
def enable(ctx: typer.Context, login: LoginArgument, as_json: JsonOption = False) -> None:
    """Let a person in again."""
    _change(ctx, login, people.enable, "{} may log in again.", as_json=as_json)


@commands.command("reset")
def reset(
    ctx: typer.Context,
    login: LoginArgument,
    *,
    second_factor: Annotated[
        bool, typer.Option("--second-factor", help="Take the second factor away too, for who lost their phone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give a person a new one-time password; their sessions end at once."""
    shell = shell_of(ctx)
    with shell.work() as session:
        reach, now = operators_reach(session), shell.clock.now()
        person = people.find_login(session, login)
        if second_factor:
            people.reset_second_factor(session, reach, person.id, actor=shell.actor, now=now)
        password = people.reset_password(session, reach, person.id, actor=shell.actor, ids=shell.ids, now=now)
        person = people.find_login(session, login)
    tell(person, password, as_json=as_json)


def _change(ctx: typer.Context, login: str, change: Any, said: str, *, as_json: bool) -> None:
    shell = shell_of(ctx)
    with shell.work() as session:
        found = people.find_login(session, login)
        person = change(session, operators_reach(session), found.id, actor=shell.actor, now=shell.clock.now())
    if as_json:
        print_json(facts(person))
    else:
        say(said.format(person.login))
