"""The gevent side of the ESL link: greenswitch in a thread with a hub of its own.

Everything here runs in that thread, except `Hub.send`, `Hub.disconnect` and `Hub.stop`. What it has to say it posts.
"""

from __future__ import annotations

import contextlib
import json
import socket as system_socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gevent
import orjson
from gevent import socket
from gevent.event import AsyncResult, Event
from greenswitch.esl import ESLProtocol, InboundESL

MAX_HEADERS = 64 * 1024
MAX_EVENT = 4 * 1024 * 1024
MAX_REPLY = 128 * 1024 * 1024
"""A list of all calls of a big switch is one reply."""
HEADERS_END = b"\n\n"
READ = 256 * 1024
WRITE = 64 * 1024
AWAKE_S = 10.0
"""How long after the last event the switch is kept awake."""
MARKER = 0
"""The number of no command."""


@dataclass(frozen=True, slots=True)
class EslEvent:
    """An event. Header names as FreeSWITCH writes them; headers that are lists are left out."""

    name: str
    headers: dict[str, str]

    def get(self, header: str) -> str:
        """Return the header's text, or "" where it is missing."""
        return self.headers.get(header, "")


@dataclass(frozen=True, slots=True)
class Came:
    """An event came."""

    event: EslEvent


@dataclass(frozen=True, slots=True)
class Answered:
    """A command was answered."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Stood:
    """A connection is up."""

    generation: int


@dataclass(frozen=True, slots=True)
class Broke:
    """A connection that was up is no more; `why` "closed" where nobody did wrong."""

    why: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An attempt to connect failed."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The switch does not want us."""

    why: str


Message = Came | Answered | Stood | Broke | Unreachable | Refused


class BadFrame(Exception):
    """What came is no ESL, or no end of it is in sight: nothing after it can be trusted."""


class NotWanted(Exception):
    """Wrong password, or an address that may not connect."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame: its headers in lower case, and its body."""

    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Its Content-Type."""
        return self.headers.get("content-type", "")


class Frames:
    """Bytes to frames, within bounds."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._headers: dict[str, str] | None = None
        self._scanned = 0
        self._length = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are whole now. Raises `BadFrame`."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        if self._headers is None:
            end = self._buffer.find(HEADERS_END, max(0, self._scanned - 1))
            self._scanned = len(self._buffer)
            if max(end, 0) > MAX_HEADERS or (end < 0 and len(self._buffer) > MAX_HEADERS):
                raise BadFrame("headers without an end")
            if end < 0:
                return None
            self._headers = parse_headers(bytes(self._buffer[:end]))
            self._length = body_length(self._headers)
            del self._buffer[: end + len(HEADERS_END)]
        if len(self._buffer) < self._length:
            return None
        with memoryview(self._buffer) as all_of_it:  # of a list of many megabytes, one copy and not two
            frame = Frame(self._headers, bytes(all_of_it[: self._length]))
        del self._buffer[: self._length]
        self._headers, self._scanned = None, 0
        return frame


def parse_headers(data: bytes) -> dict[str, str]:
    """Read a frame's headers. Raises `BadFrame` for a line that is none, a header twice, or no Content-Type."""
    headers: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").strip("\n").split("\n"):
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or key in headers:
            raise BadFrame("a line that is no header, or a header twice")
        headers[key] = value.strip(" \r")
    if "content-type" not in headers:
        raise BadFrame("a frame without a type")
    return headers


def body_length(headers: dict[str, str]) -> int:
    """Return how long a frame's body is. Raises `BadFrame`."""
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_REPLY))):
        raise BadFrame("a length that is none")
    length = int(text)
    if length > (MAX_REPLY if headers["content-type"] == "api/response" else MAX_EVENT):
        raise BadFrame("a body too long")
    return length


def parse_event(body: bytes) -> EslEvent | None:
    """Read an event in JSON; None: it is none. Bytes of callers that are no UTF-8 become U+FFFD."""
    fields: Any = None
    try:
        fields = orjson.loads(body)
    except ValueError:
        # orjson is strict: bytes that are no UTF-8, or half a surrogate, in some caller's name must not lose an end.
        with contextlib.suppress(ValueError, RecursionError):
            fields = json.loads(body.decode("utf-8", "replace"), strict=False)
    if not isinstance(fields, dict):
        return None
    headers = {name: value for name, value in fields.items() if isinstance(value, str)}
    name = headers.get("Event-Name", "")
    return EslEvent(name, headers) if name else None


class Wire(InboundESL):  # type: ignore[misc]  # greenswitch has no types
    """One connection. greenswitch's own reader, parser and waiting are replaced; its FIFO of commands is kept."""

    def __init__(self, hub: Hub) -> None:
        ESLProtocol.__init__(self)
        self.hub = hub
        self.sock: Any = None
        self.closed = Event()
        self.why = "closed"
        self.rejected = ""
        self.marker = ""
        """Answers are thrown away until this comes back: the count of who waits for which was lost."""

    def connect(self) -> None:
        """Connect and log in. Raises `OSError`, `NotWanted`, `BadFrame`."""
        hub = self.hub
        self.sock = socket.create_connection((hub.host, hub.port), timeout=hub.timeout_s)
        self.sock.settimeout(None)
        self.sock.setsockopt(system_socket.IPPROTO_TCP, system_socket.TCP_NODELAY, 1)
        self.connected = True
        self._receive_events_greenlet = gevent.spawn(self.receive_events)
        if not self._auth_request_event.wait(hub.timeout_s):
            raise OSError("it does not answer as a FreeSWITCH event socket")
        self._must_stand()
        self.authenticate()
        for command in hub.setup:
            reply = self.ask(command)
            if reply.startswith(("-ERR", "-USAGE")) and reply.strip() != "-ERR no reply":
                raise OSError(f"it does not accept `{command}`: {reply.strip()[:200]}")

    def authenticate(self) -> None:
        """Log in. Raises `NotWanted`, `OSError`."""
        if not self.ask(f"auth {self.hub.password}").startswith("+OK"):
            raise NotWanted("it refuses the password")

    def ask(self, command: str) -> str:
        """Send and wait, before the link is told as up. Raises `OSError`, `BadFrame`, `NotWanted`."""
        self._must_stand()
        result: Any = AsyncResult()
        self._commands_sent.append(result)
        self.sock.sendall(f"{command}\n\n".encode())
        gevent.wait([result, self.closed], timeout=self.hub.timeout_s, count=1)
        if not result.ready():
            self._must_stand()
            raise OSError("no answer in time")
        text: str = result.get()
        return text

    def _must_stand(self) -> None:
        if self.rejected:
            raise NotWanted(self.rejected)
        if self.closed.is_set():
            raise OSError("it closed the connection" if self.why == "closed" else self.why)

    def receive_events(self) -> None:
        """Read until the end."""
        frames = Frames()
        try:
            while data := self.sock.recv(READ):
                for frame in frames.feed(data):
                    self.handle_frame(frame)
        except BadFrame as bad:
            self.close(str(bad))
        except OSError:
            pass
        self.close("closed")

    def handle_frame(self, frame: Frame) -> None:
        """Give a frame to who waits for it. Raises `BadFrame`."""
        match frame.kind:
            case "text/event-json":
                event = parse_event(frame.body)
                if event is None:
                    raise BadFrame("an event that is no JSON")
                self.hub.stirred()
                if not self.hub.post(Came(event)):
                    self.close("too many events")
            case "api/response":
                self._answered(frame.body.decode("utf-8", "replace"))
            case "command/reply":
                self._answered(frame.headers.get("reply-text", ""))
            case "auth/request":
                self._auth_request_event.set()
            case "text/disconnect-notice":
                self.close("closed")
            case "text/rude-rejection":
                self.rejected = "it does not let our address in"
                self.close("closed")
            case _:
                raise BadFrame("a frame of a kind nobody asked for")

    def count_anew(self, marker: str) -> bytes:
        """Forget who waits for an answer; return the command whose answer is the first to count again."""
        self._commands_sent.clear()
        self.marker = marker
        return f"api echo {marker}\n\n".encode()

    def _answered(self, text: str) -> None:
        if self.marker:
            if text.strip() == self.marker:
                self.marker = ""
            return
        if not self._commands_sent:
            raise BadFrame("an answer to no command")
        waiting = self._commands_sent.pop(0) if isinstance(self._commands_sent, list) else self._commands_sent.popleft()
        if isinstance(waiting, int):
            self.hub.post(Answered(waiting, text))
        else:
            waiting.set(text)

    def close(self, why: str) -> None:
        """Break the connection now; it may be dead, so nothing is waited for."""
        if self.closed.is_set():
            return
        self.why = why
        self.connected = False
        self._run = False
        self.closed.set()
        self._auth_request_event.set()
        self.hub.look_up()
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.close()


class Hub:
    """Keeps one connection up, in its thread."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        password: str,
        setup: Sequence[str],
        post: Callable[[Message], bool],
        chance: Callable[[], float],
        timeout_s: float,
        retry_s: tuple[float, float],
        nudge_s: float,
    ) -> None:
        self.host, self.port, self.password, self.setup = host, port, password, setup
        self.post, self._chance = post, chance
        self.timeout_s, self._retry_s, self._nudge_s = timeout_s, retry_s, nudge_s
        self._outbox: deque[tuple[int, int, bytes]] = deque()
        self._wake: Any = None
        self._woken: Any = None
        self._stopping = False
        self._break = ""
        self._generation = 0
        self._awake_until = 0.0
        self._nudges: Any = None
        self._nudged: Any = None
        """The socket to nudge; None while it is in the middle of a command."""

    # ---- from asyncio's thread

    def send(self, generation: int, number: int, command: str) -> None:
        """Send a command over the connection of this generation, and over no other."""
        self._outbox.append((generation, number, f"{command}\n\n".encode()))
        self._ring()

    def count_anew(self, generation: int, marker: str) -> None:
        """An answer did not come: what comes now may be the answer to anything, up to that of a marker."""
        self._outbox.append((generation, MARKER, marker.encode()))
        self._ring()

    def disconnect(self, why: str) -> None:
        """Break the connection that stands."""
        self._break = why
        self._ring()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._ring()

    def _ring(self) -> None:
        wake = self._wake
        if wake is not None:
            wake.send_ignoring_arg(None)

    # ---- in the thread

    def run(self) -> None:
        """Connect, and again, until stopped."""
        hub = gevent.get_hub()
        self._woken = Event()
        self._wake = hub.loop.async_()
        self._wake.start(self._woken.set)
        # A bare timer of the loop: a greenlet that is woken as often costs the controller a hundredth of a core.
        self._nudges = hub.loop.timer(self._nudge_s, self._nudge_s)
        failed = 0
        try:
            while not self._stopping:
                failed = 0 if self._live() else failed + 1
                pause_s, most_s = self._retry_s
                self._sleep(min(most_s, pause_s * 2 ** min(failed, 10)) * (0.5 + 0.5 * self._chance()))
        finally:
            wake, self._wake = self._wake, None
            for watcher in (wake, self._nudges):
                watcher.stop()
                watcher.close()
            hub.destroy(destroy_loop=True)

    def _sleep(self, seconds: float) -> None:
        with gevent.Timeout(seconds, False):
            while not self._stopping:
                self._woken.wait()
                self._woken.clear()

    def _live(self) -> bool:
        """Keep one connection until it breaks; tell whether it ever stood."""
        wire = Wire(self)
        try:
            wire.connect()
        except NotWanted as why:
            self.post(Refused(f"FreeSWITCH at {self.host}:{self.port}: {why}"))
            wire.close("closed")
            return False
        except OSError as why:
            self.post(Unreachable(f"{self.host}:{self.port}: {why}"))
            wire.close("closed")
            return False
        self._generation += 1
        self._break = ""
        wire._commands_sent = deque(wire._commands_sent)  # a list's pop(0) is slow where thousands wait  # noqa: SLF001
        self.post(Stood(self._generation))
        try:
            self._write(wire)
        except OSError:
            wire.close("closed")
        finally:
            self._nudged = None
        self.post(Broke(wire.why))
        return True

    def look_up(self) -> None:
        """Have the writer look what there is to do."""
        self._woken.set()

    def stirred(self) -> None:
        """An event came: while calls come and go, the switch is kept awake."""
        self._awake_until = gevent.get_hub().loop.now() + AWAKE_S
        if not self._nudges.active:
            self._nudges.start(self._nudge)

    def _nudge(self) -> None:
        """Send a line feed between commands: it wakes FreeSWITCH's listener, which else polls."""
        if gevent.get_hub().loop.now() >= self._awake_until:
            self._nudges.stop()
        elif self._nudged is not None:
            # As it is: gevent's own send would wait where there is no room, and that costs nothing to miss.
            with contextlib.suppress(OSError):
                self._nudged.send(b"\n")

    def _write(self, wire: Wire) -> None:
        """Send what is asked for."""
        while not self._stopping and not wire.closed.is_set():
            if self._break:
                wire.close(self._break)
                return
            batch = bytearray()
            while self._outbox and len(batch) < WRITE:
                generation, number, data = self._outbox.popleft()
                if generation != self._generation:
                    continue
                if number == MARKER:
                    batch += wire.count_anew(data.decode())
                else:
                    wire._commands_sent.append(number)  # noqa: SLF001 - greenswitch's own FIFO
                    batch += data
            if batch:
                self._nudged = None
                self._send_all(wire, batch)
            if self._outbox:
                continue
            self._nudged = wire.sock._sock  # noqa: SLF001
            self._woken.wait()
            self._woken.clear()
        self._nudged = None
        if self._stopping and not wire.closed.is_set():
            with contextlib.suppress(OSError), gevent.Timeout(0.2, False):
                wire.sock.sendall(b"exit\n\n")
            wire.close("closed")

    def _send_all(self, wire: Wire, data: bytearray) -> None:
        """Send, at once where there is room, which is nearly always. Raises `OSError`."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            sent = wire.sock._sock.send(data)  # noqa: SLF001
        if sent < len(data):
            with gevent.Timeout(self.timeout_s, OSError("it takes no more")):
                wire.sock.sendall(data[sent:])
