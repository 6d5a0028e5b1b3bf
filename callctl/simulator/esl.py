"""FreeSWITCH's event socket over TCP: login, commands and their answers, events, filters, and who wants what.

Owns sockets and framing, in the words of mod_event_socket. What an `api` command does is the owner's business
(`Exchange`). Text is UTF-8 with `surrogateescape`, so any byte passes through as it came.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Protocol, cast

from callctl.simulator.esl_commands import COMMANDS
from callctl.simulator.esl_events import Event, make_uuid, number, passes
from callctl.simulator.faults import Faults
from callctl.simulator.teller import WRITE_S, Teller

PACKET_MAX = 10 * 1024 * 1024
LONG = 64 * 1024
PART = 8 * 1024
LIST_PARTS = 8
"""Of a list that is told slowly."""
STUCK_S = 2.2
"""How long a command that `Faults.mute` means keeps its listener busy."""
GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
_END = re.compile(rb"\n\r?\n")


class Exchange(Protocol):
    """The switch behind the socket."""

    rng: Random

    def api(self, name: str, argument: str) -> str | None:
        """Carry out a command and return what it prints; None: there is no such command."""

    def exists(self, uuid: str) -> bool:
        """Whether this channel lives."""

    def message(self, uuid: str, headers: Mapping[str, str]) -> None:
        """Do what `sendmsg` asks of a channel."""

    def event(self, name: str, headers: Mapping[str, str], body: str = "") -> Event:
        """Return an event of the switch itself."""


class Session(Teller):
    """One client's connection, mod_event_socket's listener."""

    def __init__(self, server: EslServer) -> None:
        super().__init__(server)
        self.server = server
        self.authed = False
        self.running = True
        self.form = "plain"
        self.names: set[str] = set()
        self.subclasses: set[str] = set()
        self.filters: list[tuple[str, str]] = []
        self.log_level = -1
        self.follows = ""  # the uuid of `myevents`
        self.linger_s: float | None = None
        self._buffer = bytearray()
        self._queue: list[Event] = []
        self._tick: asyncio.TimerHandle | None = None
        self._stuck = False

    # --- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask who is there."""
        self.transport = cast("asyncio.Transport", transport)  # what create_server gives
        if self.server.cut:
            self.transport.abort()
            return
        self.server.sessions.add(self)
        if self.server.turns_away:
            text = "Access Denied, go away.\n"
            self.write(f"Content-Type: text/rude-rejection\nContent-Length: {len(text)}\n\n{text}")
            self.close()
            return
        self.write("Content-Type: auth/request\n\n")

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the client."""
        self.lost()
        self.running = False
        if self._tick is not None:
            self._tick.cancel()
        self.server.sessions.discard(self)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into commands."""
        self._buffer += data
        if self.server.silent or self._stuck or self.telling:
            return
        self._say_events()  # whatever comes wakes the listener
        while self.running and not self._stuck and not self.telling and (packet := self._packet()) is not None:
            self._obey(packet)
        if len(self._buffer) > PACKET_MAX:
            self.close()

    def _packet(self) -> tuple[str, dict[str, str], str] | None:
        """Return the next whole command: its line, its headers, its body."""
        skipped = (
            len(self._buffer) - len(self._buffer.lstrip(b"\r\n")) if self._buffer.startswith((b"\r", b"\n")) else 0
        )
        del self._buffer[:skipped]
        end = _END.search(self._buffer)
        if end is None:
            return None
        head = bytes(self._buffer[: end.start()]).replace(b"\r\n", b"\n")
        line, *lines = head.decode("utf-8", "surrogateescape").split("\n")
        headers = {}
        for each in lines:
            name, colon, value = each.partition(":")
            if colon:
                headers[name] = value.lstrip(" ")
        length = number(lowered(headers).get("content-length", "0"))
        if not 0 <= length <= PACKET_MAX:
            self.close()
            return None
        body = bytes(self._buffer[end.end() : end.end() + length])
        if len(body) < length:
            return None
        del self._buffer[: end.end() + length]
        return line, headers, body.decode("utf-8", "surrogateescape")

    def thaw(self) -> None:
        """What was stuck on the link arrives, in both directions."""
        self.go_on()
        self.data_received(b"")

    def close(self, *, abruptly: bool = False) -> None:
        """Say no more; let what is queued leave first unless `abruptly`."""
        self.running = False
        super().close(abruptly=abruptly)

    # --- events

    def wants(self, name: str, subclass: str = "") -> bool:
        """Whether this client asked for events of this name."""
        if "ALL" in self.names:
            return True
        return name in self.names and (name != "CUSTOM" or not subclass or subclass in self.subclasses)

    def hear(self, event: Event) -> None:
        """Queue an event that gets through the filters."""
        if self.filters and not passes(self.filters, event.headers):
            return
        if self.follows and event.headers.get("Unique-ID") != self.follows:
            return
        self.server.events_sent += 1
        if self.server.latency_s <= 0 and not self._stuck:
            self._say(event)
            return
        self._queue.append(event)
        if self._tick is None:
            loop = self.server.loop
            # the listener looks every `latency_s`, whenever the event came
            wait_s = self.server.latency_s - loop.time() % self.server.latency_s if self.server.latency_s else STUCK_S
            self._tick = loop.call_later(wait_s, self._say_events)

    def forget_events(self) -> None:
        """Nothing that waits is told any more."""
        self._queue.clear()

    def _say_events(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        if not self._stuck:
            queue, self._queue = self._queue, []
            for event in queue:
                self._say(event)

    def _say(self, event: Event) -> None:
        body = event.written(self.form)
        self.write_bytes(b"Content-Length: %d\nContent-Type: text/event-%s\n\n" % (len(body), self.form.encode()))
        self.write_bytes(body)

    def log(self, level: int, text: str) -> None:
        """Tell a line of the log to a client that wants it."""
        if level <= self.log_level:
            size = len(text.encode("utf-8", "surrogateescape"))
            self.write(
                f"Content-Type: log/data\nContent-Length: {size}\nLog-Level: {level}\nText-Channel: 3\n"
                f"Log-File: switch_channel.c\nLog-Func: switch_channel_set_name\nLog-Line: 1\nUser-Data: \n\n{text}"
            )

    def gone(self, uuid: str) -> None:
        """The channel whose events this client follows is over."""
        if not self.follows or uuid != self.follows:
            return
        notice = f"Content-Type: text/disconnect-notice\nControlled-Session-UUID: {uuid}\n"
        if self.linger_s is None:
            self.write(f"{notice}Content-Disposition: disconnect\nContent-Length: {len(GOODBYE)}\n\n{GOODBYE}")
            self.close()
        else:
            self.write(f"{notice}Content-Disposition: linger\nContent-Length: 0\n\n")
            self.server.loop.call_later(self.linger_s, self.close)

    # --- commands

    def _obey(self, packet: tuple[str, dict[str, str], str]) -> None:
        line, headers, body = packet
        word, _, rest = line.partition(" ")
        word = word.lower()
        name = rest.split(" ")[0].lower() if word in {"api", "bgapi"} else word
        orders = self.server.faults.answers.get(name)
        if orders:
            fault = orders.pop(0)
            if fault is None:
                self._stall(packet)
            elif word == "api":
                self._api_says(f"-ERR {fault}\n")
            else:
                self.reply(f"-ERR {fault}")
            return
        self._do(word, rest, headers, body)

    def _stall(self, packet: tuple[str, dict[str, str], str]) -> None:
        """Be busy with one command for a while; the ones behind it wait."""
        self._stuck = True

        def go_on() -> None:
            self._stuck = False
            line, headers, body = packet
            word, _, rest = line.partition(" ")
            if self.running:
                self._do(word.lower(), rest, headers, body)
                self.data_received(b"")

        self.server.loop.call_later(STUCK_S, go_on)

    def _do(self, word: str, rest: str, headers: Mapping[str, str], body: str) -> None:
        if word in {"exit", "..."}:
            self.reply("+OK bye")
            self.write(f"Content-Type: text/disconnect-notice\nContent-Length: {len(GOODBYE)}\n\n{GOODBYE}")
            self.close()
        elif not self.authed:
            self._login(word, rest)
        elif word == "api":
            name, _, argument = rest.strip().partition(" ")
            said = self.server.exchange.api(name, argument)
            self._api_says(f"-ERR {name} Command not found!\n" if said is None else said, listed=name == "show")
        elif word == "bgapi":
            self._background(rest, lowered(headers))
        else:
            command = COMMANDS.get(word)
            if command is None:
                self.server.unknown_commands += 1
                self.reply("-ERR command not found")
            else:
                command(self, rest, headers if word == "sendevent" else lowered(headers), body)

    def reply(self, text: str, *more: str) -> None:
        """Answer a command."""
        self.write("\n".join((f"Content-Type: command/reply\nReply-Text: {text}", *more)) + "\n\n")

    def _api_says(self, text: str, *, listed: bool = False) -> None:
        data = (text or "-ERR no reply\n").encode("utf-8", "surrogateescape")
        head = b"Content-Type: api/response\nContent-Length: %d\n\n" % len(data)
        faults = self.server.faults
        if listed and (faults.list_pause_s or faults.list_most is not None):
            self.tell(_parts(head + data, len(data) // LIST_PARTS + 1))
        elif len(data) > LONG:
            self.tell(_parts(head + data, PART))
        else:
            self.write_bytes(head + data)

    def _login(self, word: str, rest: str) -> None:
        if word != "auth":
            self.reply("-ERR command not found")
        elif hmac.compare_digest(rest.encode("utf-8", "surrogateescape"), self.server.password.encode()):
            self.authed = True
            self.reply("+OK accepted")
        else:
            self.reply("-ERR invalid")
            self.write(f"Content-Type: text/disconnect-notice\nContent-Length: {len(GOODBYE)}\n\n{GOODBYE}")
            self.close()

    def _background(self, rest: str, headers: Mapping[str, str]) -> None:
        exchange = self.server.exchange
        name, _, argument = rest.strip().partition(" ")
        job = headers.get("job-uuid") or make_uuid(exchange.rng)
        self.reply(f"+OK Job-UUID: {job}", f"Job-UUID: {job}")

        def run() -> None:
            said = exchange.api(name, argument)
            more = {"Job-UUID": job, "Job-Command": name, **({"Job-Command-Arg": argument} if argument else {})}
            body = f"-ERR {name} Command not found!\n" if said is None else said
            self.server.publish("BACKGROUND_JOB", lambda: exchange.event("BACKGROUND_JOB", more, body))

        self.server.loop.call_soon(run)


class EslServer:
    """Listens, keeps the sessions, hands commands to the exchange and events to whoever wants them."""

    def __init__(self, exchange: Exchange, *, password: str, faults: Faults, latency_s: float = 0.0) -> None:
        self.exchange = exchange
        self.password = password
        self.faults = faults
        self.latency_s = latency_s
        self.sessions: set[Session] = set()
        self.loop: asyncio.AbstractEventLoop
        self.port = 0
        self.cut = False  # whoever connects is thrown out at once
        self.silent = False  # the link stands, but everything on it waits
        self.write_s = WRITE_S
        self.turns_away = False  # the access list does not know anybody
        self.events_sent = 0
        self.unknown_commands = 0
        self._listener: asyncio.Server | None = None

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; `port` says where afterwards."""
        self.loop = asyncio.get_running_loop()
        self._listener = await self.loop.create_server(lambda: Session(self), host, port, backlog=64)
        self.port = self._listener.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Stop listening and cut every client off, mid-word."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.drop_all()

    def drop_all(self) -> None:
        """Cut every client off."""
        for session in tuple(self.sessions):
            session.close(abruptly=True)

    def thaw(self) -> None:
        """End a silence."""
        self.silent = False
        for session in tuple(self.sessions):
            session.thaw()

    def send_raw(self, data: bytes) -> None:
        """Write these very bytes to every client that has logged in, among the true events."""
        for session in self.sessions:
            if session.authed:
                session.write_bytes(data)

    def publish(self, name: str, make: Callable[[], Event]) -> None:
        """Tell an event to each client that wants it; it is made only if somebody does."""
        orders = self.faults.events.get(name)
        delays = orders.pop(0) if orders else (0.0,)
        if not any(session.wants(name) or "CUSTOM" in session.names for session in self.sessions):
            return
        event = make()
        for delay_s in delays:
            if delay_s:
                self.loop.call_later(delay_s, self._deliver, event)
            else:
                self._deliver(event)

    def _deliver(self, event: Event) -> None:
        for session in tuple(self.sessions):
            if session.wants(event.name, event.headers.get("Event-Subclass", "")):
                session.hear(event)

    def log(self, level: int, text: str) -> None:
        """Tell a line of the log."""
        for session in tuple(self.sessions):
            session.log(level, text)

    def gone(self, uuid: str) -> None:
        """A channel is over."""
        for session in tuple(self.sessions):
            session.gone(uuid)


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}
