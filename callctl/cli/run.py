"""`callctl up | controller | web`: what runs until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
import typer
from sqlalchemy.engine import Engine

from billing.credit.store import CreditStore
from billing.events.addresses import networks_of
from billing.events.mails import Mailer
from billing.events.office import PostOffice
from billing.events.webhooks import Poster
from billing.fraud.guard import FraudGuard
from billing.housekeeping import Housekeeping
from billing.ports import Clock, Ids
from billing.settings import Settings
from callctl.app import credit_link, make_standby, own_files_only, serving_credit
from callctl.cli.logs import log_to_stderr
from callctl.cli.panel import serving_panel
from callctl.cli.shell import Failed, Shell, shell_of
from callctl.controller import end_tasks
from callctl.standby import Standby

log = structlog.get_logger(__name__)


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the command line."""
    app.command("up")(up)
    app.command("controller")(controller)
    app.command("web")(web)


def up(ctx: typer.Context) -> None:
    """Run everything in one process: the controller, the panel, the embedded credit store where one is configured."""
    run(shell_of(ctx), control=True, panel=True)


def controller(ctx: typer.Context) -> None:
    """Run the controller alone. A second one for the same switches waits, and takes over where the first is gone."""
    run(shell_of(ctx), control=True, panel=False)


def web(ctx: typer.Context) -> None:
    """Run the panel alone."""
    run(shell_of(ctx), control=False, panel=True)


def run(shell: Shell, *, control: bool, panel: bool) -> None:
    """Run until SIGINT or SIGTERM. Calls go on up to the deadlines they have on their switch."""
    settings = shell.settings()
    if control and not (settings.asterisk or settings.freeswitch):
        raise Failed(f"no switch is configured: add an [[asterisk]] or a [[freeswitch]] section to {shell.config}")
    log_to_stderr(debug=shell.debug)
    own_files_only()
    on_fast_loop(serve(shell, settings, control=control, panel=panel))


def on_fast_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end on uvloop."""
    import uvloop  # noqa: PLC0415 - commands that run no loop need not wait for it

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


async def serve(shell: Shell, settings: Settings, *, control: bool, panel: bool) -> None:
    """Start the parts in order, wait for a signal, stop them in the opposite order."""
    engine = shell.engine(settings)
    async with AsyncExitStack() as stack:
        stack.callback(engine.dispose)
        stop = stack.enter_context(SignalWatch()).stop
        url = stack.enter_context(serving_credit(settings.credit))
        link = await stack.enter_async_context(credit_link(settings.credit, url=url))
        if control:
            made = make_standby(settings, engine, link, clock=shell.clock, ids=shell.ids)
            await stack.enter_async_context(controlling(made))
            await stack.enter_async_context(guarding(FraudGuard(engine, link.credit, link.live, clock=shell.clock)))
            log.info("controller_started", switches=made.lease.switches, leads=made.lease.leads())
        if panel:
            await stack.enter_async_context(telling(engine, settings, clock=shell.clock, ids=shell.ids))
            serving = serving_panel(engine, link, settings, clock=shell.clock, ids=shell.ids)
            address = await stack.enter_async_context(serving)
            log.info("panel_started", url=address)
        await stack.enter_async_context(keeping_house(engine, link.credit, settings, clock=shell.clock))
        await stop.wait()
        log.info("stopping")


@asynccontextmanager
async def controlling(controller: Standby) -> AsyncIterator[Standby]:
    """Run a controller for as long as the context lasts."""
    try:
        await controller.start()
        yield controller
    finally:
        await controller.stop()


@asynccontextmanager
async def guarding(guard: FraudGuard) -> AsyncIterator[None]:
    """Watch for fraud for as long as the context lasts."""
    task = asyncio.create_task(guard.run(), name="fraud guard")
    try:
        yield
    finally:
        await end_tasks([task])


@asynccontextmanager
async def telling(engine: Engine, settings: Settings, *, clock: Clock, ids: Ids) -> AsyncIterator[None]:
    """Tell listeners of what happens for as long as the context lasts."""
    poster = Poster(allowed=networks_of(settings.webhooks.allow))
    office = PostOffice(engine, poster, Mailer(settings.mail), clock=clock, ids=ids)
    task = asyncio.create_task(office.run(), name="post office")
    try:
        yield
    finally:
        await end_tasks([task])
        await poster.close()


@asynccontextmanager
async def keeping_house(
    engine: Engine, credit: CreditStore, settings: Settings, *, clock: Clock
) -> AsyncIterator[None]:
    """Do what has to be done now and then for as long as the context lasts."""
    task = asyncio.create_task(Housekeeping(engine, credit, settings.books, clock).run(), name="housekeeping")
    try:
        yield
    finally:
        await end_tasks([task])


class SignalWatch:
    """Sets `stop` at the first SIGINT or SIGTERM; a second one ends the process as signals do."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> SignalWatch:
        """Listen."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._heard)
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop listening."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.remove_signal_handler(number)

    def _heard(self) -> None:
        if self.stop.is_set():
            self.__exit__()
        self.stop.set()
