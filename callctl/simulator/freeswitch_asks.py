"""A channel of the simulated FreeSWITCH that waits in `socket`: it connects, does what it is told, and goes on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import cast

from callctl.simulator.freeswitch_channels import Board, Channel

ASK_AT = re.compile(r"127\.0\.0\.1:[0-9]{1,5}")
ASK_S = 12
"""As the dialplan's: a controller that hangs has so long."""
MOST = 64 * 1024


class Asking(asyncio.Protocol):
    """From the connection to its end, which `over` is told, unless the channel has left before."""

    def __init__(self, board: Board, channel: Channel, over: Callable[[], None]) -> None:
        self.board = board
        self.channel = channel
        self._over: Callable[[], None] | None = over
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._commands = 0
        self._begun: asyncio.Task[None] | None = None

    def begin(self, where: str) -> None:
        """Connect; who is not there is not asked."""
        self._begun = self.board.loop.create_task(self._connect(where))

    async def _connect(self, where: str) -> None:
        host, _, port = where.partition(":")
        try:
            await self.board.loop.create_connection(lambda: self, host, int(port))
        except OSError:
            self._end()

    def leave(self) -> None:
        """The channel goes elsewhere; what was answered still arrives."""
        self._over = None
        if self._transport is not None:
            self.board.loop.call_soon(self._transport.close)

    def then(self, goes_on: Callable[[], None]) -> None:
        """Where the channel was sent it goes when this is over: `socket` does not look whether it is wanted."""
        self._over = goes_on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say nothing: the other side begins."""
        self._transport = cast("asyncio.Transport", transport)
        if self._over is None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The dialplan goes on."""
        self._transport = None
        self._end()

    def _end(self) -> None:
        over, self._over = self._over, None
        if over is not None:
            over()

    def data_received(self, data: bytes) -> None:
        """Carry out commands, each as it comes; the first is not answered."""
        self._buffer += data
        while b"\n\n" in self._buffer and self._over is not None:
            line, _, self._buffer = self._buffer.partition(b"\n\n")
            self._commands += 1
            answer = self._answer(line.decode("utf-8", "replace"))
            if self._transport is not None and self._commands > 1:
                self._transport.write(answer.encode())
        if len(self._buffer) > MOST and self._transport is not None:
            self._transport.abort()

    def _answer(self, command: str) -> str:
        word, _, rest = command.partition(" ")
        if word == "getvar":
            return f"Content-Type: command/reply\nReply-Text: {self.channel.read(rest) or ''}\n\n"
        if word == "api":
            name, _, argument = rest.partition(" ")
            said = self.board.api(name, argument)
            said = f"-ERR {name} command not found!\n" if said is None else said
            return f"Content-Type: api/response\nContent-Length: {len(said.encode())}\n\n{said}"
        return "Content-Type: command/reply\nReply-Text: -ERR command not found\n\n"
