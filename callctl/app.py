"""Composition: from settings to the parts that run. The command line and the demo build the same system from here."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr
from redis.asyncio import Redis
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError

from billing.credit.embedded import EmbeddedServer, start_embedded
from billing.credit.lease import Lease
from billing.credit.live import LiveCalls
from billing.credit.runs import Runs
from billing.credit.store import CreditStore, connect
from billing.errors import CreditUnavailable
from billing.ports import Clock, Ids
from billing.settings import CreditSettings, Settings, SettingsError, load_settings
from billing.store import open_store
from callctl.controller import Controller
from callctl.journal import Journal
from callctl.leftovers import Leftovers
from callctl.news import Listener
from callctl.standby import Standby, name_of_this_process
from callctl.switches.asterisk import AsteriskSwitch
from callctl.switches.base import Switch
from callctl.switches.freeswitch import FreeSwitch

EMBEDDED = "embedded"
URL_FILE = "url"
"""In the embedded server's folder: where the running server listens, for the commands of other processes."""


@dataclass(frozen=True, slots=True)
class CreditLink:
    """A connection to the live credit store, and what is done over it."""

    redis: Redis
    credit: CreditStore
    live: LiveCalls


def read_settings(path: Path) -> Settings:
    """Read the settings; relative paths in them are meant from the folder of the file. Raises `SettingsError`."""
    return rooted(load_settings(path), path.absolute().parent)


def rooted(settings: Settings, folder: Path) -> Settings:
    """Return the settings with every relative path made absolute, so that the working folder does not matter."""
    url = store_url(settings)
    store = settings.store
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        moved = url.set(database=str(folder / url.database)).render_as_string(hide_password=False)
        store = store.model_copy(update={"url": SecretStr(moved)})
    return settings.model_copy(
        update={
            "store": store,
            "credit": settings.credit.model_copy(update={"folder": folder / settings.credit.folder}),
            "control": settings.control.model_copy(update={"journal": folder / settings.control.journal}),
            "vouchers": settings.vouchers.model_copy(update={"key_file": folder / settings.vouchers.key_file}),
        }
    )


def store_url(settings: Settings) -> URL:
    """Return the address of the SQL store. Raises `SettingsError`, which does not repeat it: it may hold a password."""
    try:
        url = make_url(settings.store.url.get_secret_value())
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise SettingsError("store.url: expected sqlite:///… or postgresql+psycopg://…, found something else")
    return url


def open_engine(settings: Settings) -> Engine:
    """Open the SQL store; the folder of an SQLite file is made, for its owner only. Raises `SettingsError`."""
    url = store_url(settings)
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        make_folder_of(Path(url.database))
    return open_store(settings.store.url.get_secret_value())


@contextmanager
def serving_credit(settings: CreditSettings) -> Iterator[str]:
    """Run the embedded credit server where the settings ask for one; yield the URL of the live credit store."""
    if (url := settings.url.get_secret_value()) != EMBEDDED:
        yield url
        return
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    server: EmbeddedServer = start_embedded(settings.folder)
    try:
        # The note stays: another process may use the server still, and a stale one leads to a plain "does not answer".
        fresh = settings.folder / f"{URL_FILE}.new"
        fresh.touch(mode=0o600)
        fresh.write_text(server.url)
        fresh.replace(settings.folder / URL_FILE)
        yield server.url
    finally:
        server.stop()


def credit_url(settings: CreditSettings) -> str:
    """Return where the live credit store listens. Raises `CreditUnavailable` where the embedded one does not run."""
    if (url := settings.url.get_secret_value()) != EMBEDDED:
        return url
    try:
        return (settings.folder / URL_FILE).read_text()
    except OSError as error:
        raise CreditUnavailable("the embedded credit store is not running: `callctl up` starts it") from error


@asynccontextmanager
async def credit_link(settings: CreditSettings, *, url: str | None = None) -> AsyncIterator[CreditLink]:
    """Connect to the live credit store at `url` (default: what the settings say) and close the connection afterwards.

    Raises `CreditUnavailable` where there is nothing to connect to; whether the server answers shows at the first use.
    """
    runs = Runs()
    redis = connect(url or credit_url(settings), settings.timeout_s, runs=runs)
    try:
        credit = CreditStore(redis, prefix=settings.prefix, runs=runs)
        yield CreditLink(redis, credit, LiveCalls(redis, prefix=settings.prefix))
    finally:
        await redis.aclose()


def make_folder_of(path: Path) -> Path:
    """Make the folder of a file, for its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def own_files_only() -> None:
    """Files made from now on (store, journal, settings) are their owner's alone."""
    os.umask(0o077)


def make_switches(settings: Settings, *, clock: Clock, ids: Ids) -> list[Switch]:
    """Make the adapter of each switch in the settings."""
    asterisks = [AsteriskSwitch(asterisk, clock=clock, ids=ids) for asterisk in settings.asterisk]
    return [*asterisks, *(FreeSwitch(freeswitch, clock=clock, ids=ids) for freeswitch in settings.freeswitch)]


def make_standby(
    settings: Settings,
    engine: Engine,
    link: CreditLink,
    *,
    clock: Clock,
    ids: Ids,
    listener: Listener | None = None,
) -> Standby:
    """Put together what leads where nobody else does, and waits otherwise: a controller that starts second."""
    names = [*(one.name for one in settings.asterisk), *(one.name for one in settings.freeswitch)]
    prefix = settings.credit.prefix
    # A store of its own: what the panel asks of the same process is not the controller's word.
    credit = CreditStore(link.redis, prefix=prefix, runs=link.credit.runs)
    token = ids.new(name_of_this_process())
    lease = Lease(link.redis, credit, names, prefix=prefix, token=token, clock=clock)
    own = replace(link, credit=credit)
    return Standby(
        lease,
        lambda: make_controller(
            settings,
            engine,
            own,
            clock=clock,
            ids=ids,
            listener=listener,
            leads=lease.leads,
            lost=lambda: lease.taken,
            others=lambda: lease.met,
        ),
        Leftovers(engine, credit, lambda: make_journal(settings), clock),
    )


def make_journal(settings: Settings) -> Journal:
    """Make the journal of the settings; it is opened by who uses it."""
    return Journal(make_folder_of(settings.control.journal))


def make_controller(
    settings: Settings,
    engine: Engine,
    link: CreditLink,
    *,
    clock: Clock,
    ids: Ids,
    listener: Listener | None = None,
    leads: Callable[[], bool] = lambda: True,
    lost: Callable[[], bool] = lambda: False,
    others: Callable[[], bool] = lambda: False,
) -> Controller:
    """Put the controller together, with the switches and the journal of the settings."""
    return Controller(
        make_switches(settings, clock=clock, ids=ids),
        engine,
        link.credit,
        link.live,
        make_journal(settings),
        settings.control,
        clock=clock,
        ids=ids,
        listener=listener,
        leads=leads,
        lost=lost,
        others=others,
        pins=settings.pins,
    )
