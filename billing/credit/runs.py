"""Which run of the server we believe in. A server that was started again may lack its last writes.

Every restart and every fail-over breaks the connections, so each new one is greeted with a question: which run is this?
Until somebody has brought that run up to date and says so (`trust`), nothing else is asked over it. Owns no data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError


@dataclass(slots=True)
class Runs:
    """One for each process that must not miss a restart. `on_change` is told at once, and must not block."""

    trusted: str = ""
    """The run whose data we know; "" before the first."""
    seen: str = ""
    on_change: Callable[[], None] = lambda: None

    @property
    def changed(self) -> bool:
        """Whether the server is another than the one we trusted."""
        return self.seen != self.trusted

    def met(self, run_id: str) -> bool:
        """Note the run behind a new connection; False where nothing may be asked of it yet."""
        if run_id != self.seen:
            self.seen = run_id
            if self.trusted and self.changed:
                self.on_change()
        return not self.trusted or not self.changed

    def forget(self) -> None:
        """Believe in no run any more: whoever keeps no holds has nothing to miss."""
        self.trusted = ""
        self.on_change = lambda: None

    def trust(self) -> None:
        """Let the run that was seen last be asked: whoever says so brings it up to date first of all."""
        self.trusted = self.seen


async def greet(connection: Any, runs: Runs) -> None:
    """Do what a client does on a new connection, then find out whom it leads to. Raises `ConnectionError`."""
    await connection.on_connect()
    await connection.send_command("INFO", "server")
    try:
        said = await connection.read_response()
    except ResponseError:
        return  # a server that does not tell is taken for the same one; the marker is all there is then
    if not runs.met(run_id_of(said)):
        raise RedisConnectionError("the live credit store was started again: what it lacks is brought first")


def run_id_of(said: Any) -> str:
    """Return the run's id from what INFO said, parsed by the client or not; "" where it is not in it."""
    if isinstance(said, dict):
        return str(said.get("run_id", ""))
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name == "run_id"), "")
