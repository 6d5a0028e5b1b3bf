"""Channels of a FreeSWITCH that ask for themselves: one connection for each offer, of the application `socket`.

An offer that is told as an event reaches us when the Event Socket looks next, and `park` looks whether it is over every
20 ms; a channel that waits in `socket` goes on the moment it is told to. What a connection says is believed if it knows
the token that the switch was given over its authenticated link; whatever goes wrong here, the channel parks as if
nobody had been asked. docs/switches/freeswitch-wire.md has the words.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import deque
from collections.abc import Callable
from typing import cast

from billing.ports import Ids
from callctl.switches import freeswitch_wire as wire
from callctl.switches.link import LinkDown, LinkTimeout, Watchful

HERE = "127.0.0.1"
FIRST = b"x\n\ngetvar callctl_ask\n\n"
"""FreeSWITCH does not answer the first command, whatever it is, and the channel has no say before it."""
SET = "api global_setvar callctl_ask"
MOST = 16 * 1024
MOST_WAITING = 5_000
"""Channels that wait for an answer at once; more than these park."""
SILENT_S = 5.0
"""How long whoever has connected may take to say what it offers."""
PATIENCE_S = 8.0
"""How long a channel waits for us; then it parks, where it is found again. The switch would end it after 12 s."""
BACKLOG = 4096
"""Channels whose connection nobody has taken yet: with fewer, a controller that stands still would have them hang."""


class Ask(asyncio.Protocol):
    """A channel that waits. Commands are those of the Event Socket; once closed, its dialplan goes on."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._known = False
        self._timer: asyncio.TimerHandle | None = None
        self._answers: deque[asyncio.Future[str]] = deque()

    # ---- the channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask what it offers."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own kind is no subclass
        self._asks.waiting.add(self)
        if self._asks.listens() and len(self._asks.waiting) <= MOST_WAITING:
            self._transport.write(FIRST)
            self._timer = asyncio.get_running_loop().call_later(SILENT_S, self._odd, "silence")
        else:
            self.close()

    def data_received(self, data: bytes) -> None:
        """Take answers; what is no answer ends the connection."""
        self._buffer += data
        if len(self._buffer) > MOST:
            self._odd("too much")
            return
        while self._transport is not None:
            head, end, rest = self._buffer.partition(b"\n\n")
            if not end:
                return
            headers = dict(line.partition(": ")[::2] for line in head.decode("latin-1").split("\n"))
            length = headers.get("Content-Length", "0")
            if not (length.isdecimal() and length.isascii() and len(length) <= len(str(MOST))):
                self._odd("a length that is none")
                return
            if len(rest) < int(length):
                return
            body, self._buffer = rest[: int(length)], rest[int(length) :]
            self._take(headers, body.decode("latin-1"))

    def _take(self, headers: dict[str, str], body: str) -> None:
        match headers.get("Content-Type"):
            case "command/reply" if not self._known:
                self._known = True
                self._stop_timer()
                self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self.close)
                try:
                    self._asks.take(self, headers.get("Reply-Text", ""))
                except wire.HostileText as why:
                    self._odd(str(why))
            case "api/response" if self._answers:
                answer = self._answers.popleft()
                if not answer.done():
                    answer.set_result(body)
            case "text/disconnect-notice":
                pass
            case _:
                self._odd("no answer")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _odd(self, what: str) -> None:
        self._asks.count_hostile(what)
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell who waits for an answer."""
        self._transport = None
        self._stop_timer()
        self._asks.waiting.discard(self)
        while self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(LinkDown("the channel that asked is gone"))
                answer.exception()

    # ---- the controller

    @property
    def open(self) -> bool:
        """Whether the channel still waits here."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, command: str, timeout_s: float) -> str:
        """Carry out an `api` command on the switch. Raises `LinkDown`, `LinkTimeout`: it may have been done."""
        if self._transport is None or self._transport.is_closing():
            raise LinkDown("the channel that asked is gone")
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._transport.write(f"{command}\n\n".encode())
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as late:
            raise LinkTimeout(f"no answer in {timeout_s} s") from late

    def close(self) -> None:
        """Let the channel go on."""
        if self._transport is not None:
            self._transport.close()


class Asks(Watchful):
    """Where the channels of one FreeSWITCH ask. `here`: it is on this machine; `listens`: we would answer now.

    `on_ask` is told the connection, the offer's key and its facts.
    """

    def __init__(
        self, listens: Callable[[], bool], *, here: bool, ids: Ids, on_ask: Callable[[Ask, str, wire.Facts], None]
    ) -> None:
        super().__init__("asks", HERE)
        self.listens = listens
        self.waiting: set[Ask] = set()
        self._here = here
        self._on_ask = on_ask
        self._token = ids.secret()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen, on a port that is free, for a switch that is here. Raises `OSError`."""
        if self._here:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: Ask(self), HERE, 0, backlog=BACKLOG)

    def close(self) -> None:
        """Let all go on that wait."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for ask in list(self.waiting):
            ask.close()

    def here(self) -> tuple[str, ...]:
        """Return the commands that tell a switch where to ask, and the token; none where nobody listens."""
        if self._server is None:
            return ()
        return f"{SET}_token={self._token}", f"{SET}_at={self._where()}"

    def no_more(self) -> tuple[str, ...]:
        """Return the command that has a switch ask us no more; whom it asks by now in our place it goes on asking."""
        return () if self._server is None else (f"{SET}_at=={self._where()}",)

    def _where(self) -> str:
        return f"{HERE}:{self._server.sockets[0].getsockname()[1]}" if self._server else ""

    def take(self, ask: Ask, text: str) -> None:
        """Read `digest|key|direction|account|caller|callee`. Raises `HostileText`."""
        digest, _, rest = text.partition("|")
        key, _, facts = rest.partition("|")
        wire.split_key(key)
        # Not for secrecy's sake the best digest, but the one that every FreeSWITCH has.
        proof = hashlib.md5(f"{self._token}:{key}".encode(), usedforsecurity=False).hexdigest()
        if not hmac.compare_digest(proof.encode(), digest.encode()):
            # A switch that was given another token since: its channel parks, and is heard of by that.
            raise wire.HostileText("somebody who does not know the token")
        self._on_ask(ask, key, wire.facts_in(facts))
