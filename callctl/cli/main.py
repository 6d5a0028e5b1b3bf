"""The command `callctl`: its groups, the options common to all, and how errors are told."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError
from typer.core import TyperGroup

from billing.errors import BillingError
from callctl.cli import (
    account_move,
    accounts,
    books,
    bundles,
    calls,
    carriers,
    cdrs,
    commissions,
    demo,
    doctor,
    exchange,
    fraud,
    init,
    keys,
    listeners,
    pins,
    plans,
    rates,
    reconcile,
    rerate,
    run,
    statements,
    tariff_owners,
    topup,
    users,
    volumes,
    vouchers,
)
from callctl.cli.logs import log_as_a_command
from callctl.cli.output import visible
from callctl.cli.shell import Failed, Shell
from callctl.journal import JournalBroken
from rating.errors import RatingError

EXPECTED = (BillingError, RatingError, JournalBroken, Failed, OSError)
"""What can go wrong in a day's work: told in a sentence. Anything else is a defect of callctl."""


def hoist(args: Sequence[str]) -> list[str]:
    """Move --config and --debug before the command, so that they may stand anywhere up to a `--`."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word in {"-c", "--config"}:
            value = next(words, None)
            if value is None:  # last of all, it is told that its argument is missing
                return [*front, word]
            front += [word, value]
        elif word == "--debug" or word.startswith("--config="):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


def sentence(error: BaseException) -> str:
    """Say what went wrong: a line for each thing."""
    match error:
        case SQLAlchemyError():
            cause = getattr(error, "orig", None) or error
            text = f"the store does not do it: {cause}"
        case OSError() if error.strerror:
            text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        case _:
            text = str(error) or type(error).__name__
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


class PlainGroup(TyperGroup):
    """Tells every error as one sentence on standard error: status 2 for usage, 1 for failure, 130 for Ctrl-C."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with the status."""
        words = hoist(sys.argv[1:] if args is None else args)
        debug = "--debug" in words
        try:
            result = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra)
        except typer.Abort:
            tell("stopped")
            result = 1
        except typer.TyperException as error:
            # usage errors and the like carry their own status (2); an empty command line shows the help instead
            if (context := getattr(error, "ctx", None)) is not None and not words:
                typer.echo(context.get_help())
            else:
                tell(error.format_message())
            result = error.exit_code
        except (*EXPECTED, SQLAlchemyError) as error:
            if debug:
                raise
            tell(sentence(error))
            result = 1
        except Exception as error:
            if debug:
                raise
            tell(f"unexpected {type(error).__name__}: {sentence(error)} (--debug shows where)")
            result = 1
        status = result if isinstance(result, int) else 0
        if standalone_mode:
            sys.exit(status)
        return status


def tell(text: str) -> None:
    """Print an error for a person: a line each, where several things are wrong at once."""
    console = Console(stderr=True, highlight=False)
    for line in text.splitlines():
        console.print(Text.assemble(("callctl: ", "bold red"), visible(line)), soft_wrap=True)


app = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Control the calls of your switches and bill them. Money is held before the phone rings.",
)


@app.callback()
def common(
    ctx: typer.Context,
    config: Annotated[
        Path, typer.Option("-c", "--config", envvar="CALLCTL_CONFIG", help="The settings file.", show_default=True)
    ] = Path("callctl.toml"),
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Remember the options common to all commands."""
    if not isinstance(ctx.obj, Shell):  # a test may hand in one with its own clock and ids
        ctx.obj = Shell()
    ctx.obj.config = config
    ctx.obj.debug = debug or os.environ.get("CALLCTL_DEBUG") == "1"
    log_as_a_command(debug=ctx.obj.debug)


for part in (
    init,
    run,
    demo,
    accounts,
    account_move,
    statements,
    keys,
    users,
    pins,
    topup,
    vouchers,
    commissions,
    tariff_owners,
    rates,
    plans,
    exchange,
    carriers,
    bundles,
    volumes,
    calls,
    cdrs,
    rerate,
    books,
    reconcile,
    listeners,
    fraud,
    doctor,
):
    part.add_to(app)


if __name__ == "__main__":
    app()
