"""`callctl demo`: a whole system with simulated traffic, shown in the terminal."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from billing.ports import to_ms
from callctl.app import own_files_only
from callctl.cli.logs import log_to
from callctl.cli.output import money, people, print_json, row, say, table, warn
from callctl.cli.panel import serving_panel
from callctl.cli.run import SignalWatch
from callctl.cli.shell import Failed, Shell, shell_of
from callctl.demo.feed import Item
from callctl.demo.screen import EXPLAINED, Scene, clock
from callctl.demo.show import PanelParts, Result, Show, remove, show, temporary_folder
from callctl.demo.world import CURRENCY, OWNER

REFRESH_S = 0.25
LOG_TAIL = 30
LEAST_S = 12
"""The scenes that show everything take about ten seconds."""


def add_to(app: typer.Typer) -> None:
    """Hang this command into the command line."""
    app.command("demo")(demo)


def demo(
    ctx: typer.Context,
    *,
    seconds: Annotated[int | None, typer.Option(min=LEAST_S, help="End after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="No screen; print one JSON object at the end.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The panel's port; the next free one is taken.")] = 8080,
    seed: Annotated[int, typer.Option(help="Another number, other traffic.")] = 1,
) -> None:
    """Show a whole system with two simulated switches; needs no settings and leaves nothing behind.

    Status 1 where the books do not balance at the end.
    """
    if as_json and seconds is None:
        seconds = 30
    shell = shell_of(ctx)
    own_files_only()
    folder = temporary_folder()
    try:
        with (folder / "demo.log").open("w") as log:
            log_to(log, debug=shell.debug)
            result = asyncio.run(perform(shell, folder, seconds=seconds, as_json=as_json, port=port, seed=seed))
        if not result.balances_ok:
            for line in (folder / "demo.log").read_text(errors="replace").splitlines()[-LOG_TAIL:]:
                warn(line)
        if as_json:
            print_json(result.facts())
        else:
            summary(result)
    finally:
        remove(folder)
    if not result.balances_ok:
        raise Failed("the books do not balance")


async def perform(shell: Shell, folder: Path, *, seconds: int | None, as_json: bool, port: int, seed: int) -> Result:
    """Run the show and show it, as far as there is somebody to look at it."""
    random = Random(seed)  # noqa: S311 - whom a demo calls is no secret, and must be repeatable

    def panel(parts: PanelParts) -> AbstractAsyncContextManager[str]:
        return serving_panel(parts.engine, parts.link, parts.settings, clock=parts.clock, ids=parts.ids, else_next=True)

    with SignalWatch() as watch:
        if not as_json:
            say(
                "Starting store, credit server, two simulated switches, controller and panel …",
                style="dim",
            )
        building = show(folder, panel, web_port=port, random=random, clock=shell.clock, ids=shell.ids)
        async with building as made:
            console = people()
            if as_json:
                return await made.play(watch.stop, seconds)
            if console.is_terminal:
                return await on_screen(console, made, watch.stop, seconds)
            introduce(made)
            made.feed.on_item = tell
            return await made.play(watch.stop, seconds)


async def on_screen(console: Console, made: Show, stop: asyncio.Event, seconds: int | None) -> Result:
    """Draw four times a second until the show is over."""
    playing = asyncio.create_task(made.play(stop, seconds), name="demo-play")
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        while not playing.done():
            live.update(scene(made), refresh=True)
            await asyncio.wait({playing}, timeout=REFRESH_S)
    return await playing


def scene(made: Show) -> Scene:
    """Return what is to be seen now."""
    return Scene(
        url=made.url,
        password=made.password,
        elapsed_s=made.elapsed_s,
        now_ms=to_ms(made.parts.clock.now()),
        calls=made.calls,
        wallets=made.wallets,
        feed=made.feed,
        closing=made.closing,
    )


def introduce(made: Show) -> None:
    """Say what will be seen, where there is no screen to draw on."""
    say(EXPLAINED)
    say(f"Panel: {made.url}  login {OWNER}  one-time password {made.password}")


def tell(item: Item) -> None:
    """Print a line of the feed."""
    say(f"{clock(item.at_s):>5}  {item.who}: {item.text}")


def summary(result: Result) -> None:
    """Say what the run came to, and whether the books balance."""
    made = table("", "", title="What happened", right=("",))
    made.show_header = False
    for label, value in (
        ("calls offered", result.calls_offered),
        ("admitted", result.admitted),
        ("refused", result.refused),
        ("cut at zero", result.cut_at_zero),
        ("extended by a top-up", result.extended_by_topup),
        ("call records", result.cdrs),
        ("charged", money(result.charged_micros, CURRENCY)),
        ("holds left", result.holds_left),
    ):
        row(made, (label, value))
    people().print(made)
    for finding in result.findings:
        say(finding, style="red")
    if result.balances_ok:
        people().print(Text("The books balance: every call has one record, every charge its postings.", style="green"))
    people().print("Next: callctl init, then the README's five steps to your own switch.", style="dim", markup=False)
