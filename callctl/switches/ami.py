"""The AMI link: one login to an Asterisk, kept up for ever, that believes no more of what it reads than it must.

It frames, bounds and matches what comes; it knows nothing of calls. panoramisk 1.4 is the protocol underneath; replaced
here is what it gets wrong: it decodes chunk by chunk, merges repeated headers, waits for ever, and sends unanswered
actions again after a reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
from panoramisk.ami_protocol import AMIProtocol

from billing.ports import Ids
from callctl.switches.ami_request import MAX_LINE, Lines, Reply, Request, action_ids, decoded, parse_frame
from callctl.switches.base import SwitchUnavailable
from callctl.switches.link import MOST_LOGGED, LinkDown, LinkRefused, LinkTimeout, Watchful

log = structlog.get_logger()

FRAME_END = b"\r\n\r\n"
BANNER = b"Asterisk Call Manager/"
MAX_FRAME = 1024 * 1024
MUCH = 128 * 1024
"""Bytes in one read: there is more where they came from."""
MAX_PENDING = 10_000
LIST_S = 60.0
"""How long a list may take in all, however steadily its items come."""


@dataclass(frozen=True, slots=True)
class AmiEvent:
    """An event: a hint, never a proof. Header names in lower case, each once; text decoded for display."""

    name: str
    headers: dict[str, str]

    def get(self, header: str) -> str:
        """Return the header's text, or "" where it is missing."""
        return self.headers.get(header, "")


def shown(data: bytes) -> str:
    """Return bytes as a log shows them."""
    return data[:MOST_LOGGED].decode("ascii", "backslashreplace")


class Framer(AMIProtocol):  # type: ignore[misc]  # panoramisk has no types
    """Bytes to frames, within bounds."""

    def __init__(self, link: AmiLink, lost: asyncio.Event) -> None:
        self.link = link
        self.lost = lost
        self.greeted = asyncio.Event()
        self.buffer = bytearray()
        self.scanned = 0
        self.skipping = False
        self.unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Cut frames out of what came; a flood without an end is thrown away up to its end."""
        self.buffer += data
        if not self.greeted.is_set():
            self._greet()
        while self.greeted.is_set():
            end = self.buffer.find(FRAME_END, max(0, self.scanned - len(FRAME_END)))
            if end < 0:
                break
            frame = bytes(self.buffer[:end])
            del self.buffer[: end + len(FRAME_END)]
            self.scanned = 0
            if self.skipping:
                self.skipping = False
                continue
            try:
                self.link.take(frame)
            except Exception:
                # One frame nobody foresaw must not take the link, and all calls with it, down.
                log.exception("ami_frame_failed")
                self.link.count_garbage("no AMI", sample=shown(frame))
        if len(data) >= MUCH and not self.transport.is_closing():
            # uvloop reads up to 32 times before anything else has its turn: a fifth of a second, of a long list.
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)
        self.scanned = len(self.buffer)
        if len(self.buffer) > MAX_FRAME:
            if not self.skipping:
                self.link.count_garbage("a frame without an end")
            self.skipping = True
            del self.buffer[: -len(FRAME_END)]
            self.scanned = 0

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _greet(self) -> None:
        line, end, rest = bytes(self.buffer).partition(b"\r\n")
        if not end and len(line) < MAX_LINE:
            return
        if not line.startswith(BANNER):
            self.link.count_garbage("no AMI", sample=shown(line))
            self.transport.abort()
            return
        self.buffer = bytearray(rest)
        self.greeted.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Say so, once; nothing is kept to be sent again."""
        self.closed = True
        self.lost.set()
        self.greeted.set()

    def send(self, data: bytes) -> None:
        """Write what is sent in this turn of the loop at its end, in one go."""
        if not self.unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self.unsent.append(data)

    def _flush(self) -> None:
        unsent, self.unsent = self.unsent, []
        if not self.transport.is_closing():
            self.transport.write(b"".join(unsent))

    def close(self) -> None:
        """Break the connection now; it may be dead, so nothing is waited for."""
        self.transport.abort()


class AmiLink(Watchful):
    """A login that is made again whenever it breaks. `on_event` must only note the event and return."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str,
        secret: str,
        ids: Ids,
        on_event: Callable[[AmiEvent], None],
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[], None] = lambda: None,
        on_time: Callable[[str, float], None] = lambda _text, _took_s: None,
        timeout_s: float = 2.0,
        list_s: float = LIST_S,
        ping_s: float = 3.0,
        retry_s: tuple[float, float] = (0.1, 5.0),
        events: str = "on",
    ) -> None:
        super().__init__("ami", host)
        self.port, self.username, self._secret = port, username, secret
        self._ids, self._on_event, self._on_up, self._on_down = ids, on_event, on_up, on_down
        self._on_time = on_time
        self._timeout_s, self._list_s, self._ping_s, self._retry_s = timeout_s, list_s, ping_s, retry_s
        self._events = events
        self.up = False
        self._pending: dict[str, Request] = {}
        self._protocol: Framer | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps_at = 0.0
        self._sent = 0
        self._listed = (0, 0.0)
        """The number of the action whose list came last, and when its last item did."""

    # ---- life

    def start(self) -> None:
        """Begin to connect; return at once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep(), name=f"ami {self.host}:{self.port}")

    async def stop(self) -> None:
        """Close the link for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self.disconnect()

    async def connect(self) -> None:
        """Connect and log in, once. Raises `LinkDown`, `LinkTimeout`, `LinkRefused`."""
        self._lost = asyncio.Event()
        lost, loop = self._lost, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, protocol = await loop.create_connection(lambda: Framer(self, lost), self.host, self.port)
                self._protocol = protocol
                await protocol.greeted.wait()
        except TimeoutError as late:
            self.disconnect()
            raise LinkTimeout(f"{self.host}:{self.port} does not answer as an Asterisk manager port") from late
        except OSError as broken:
            raise LinkDown(f"{self.host}:{self.port}: {broken}") from broken
        if lost.is_set():
            raise LinkDown(f"{self.host}:{self.port} is no Asterisk manager port, or it does not want us")
        fields = [("Username", self.username), ("Secret", self._secret), ("Events", self._events)]
        reply = await self.ask("Login", fields)
        if not reply.ok:
            self.disconnect()
            raise LinkRefused(
                f"Asterisk at {self.host}:{self.port} refused user {self.username}: {reply.get('message')}"
            )

    def disconnect(self) -> None:
        """Drop the connection; who waits is told `LinkDown`, and nothing is ever sent again."""
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.close()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            request.fail(LinkDown(f"the link broke before {request.name} was answered"))
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    async def _keep(self) -> None:
        pause_s, most_s = self._retry_s
        failed = 0
        while True:
            try:
                await self.connect()
            except SwitchUnavailable as why:
                self.disconnect()
                self.counters.failures += 1
                if failed == 0:
                    log.warning("ami_unreachable", why=str(why))
                failed += 1
                await asyncio.sleep(min(most_s, pause_s * 2 ** min(failed, 10)) * (0.5 + 0.5 * self._chance()))
                continue
            failed = 0
            self.up = True
            self.counters.connects += 1
            log.info("ami_up", host=self.host, port=self.port)
            self._on_up()
            try:
                await self._watch()
            finally:
                self.up = False
                self.disconnect()
                log.warning("ami_down", host=self.host, port=self.port)
                self._on_down()
            await asyncio.sleep(pause_s * self._chance())

    async def _watch(self) -> None:
        """Return when the link is dead: closed, or a ping unanswered."""
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._lost.wait(), self._ping_s)
            if not self._lost.is_set():
                try:
                    await self.ping()
                except SwitchUnavailable:
                    return

    async def ping(self) -> None:
        """Ask whether the switch lives; `on_time` is told what time it is there, and how long the answer took.

        Raises `SwitchUnavailable`.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        pong = await self.ask("Ping")
        self._on_time(pong.get("timestamp"), loop.time() - began_s)

    def _chance(self) -> float:
        return zlib.crc32(self._ids.secret().encode()) / 2**32

    # ---- out

    def send(
        self,
        name: str,
        fields: Iterable[tuple[str, str]] = (),
        *,
        tail: Sequence[str] = (),
        each: Callable[[Lines], None] | None = None,
    ) -> Request:
        """Send and return the request; several sent in a row are done in that order. Raises `LinkDown`.

        What is sent in one turn of the loop goes out together. A request has its time-out whether waited for or not.
        """
        request = Request(name, fields, action_id=self._ids.secret(), tail=tail, each=each)
        protocol = self._protocol
        if protocol is None or self._lost.is_set():
            raise LinkDown(f"no link to {self.host}:{self.port}")
        if len(self._pending) >= MAX_PENDING:
            raise LinkDown(f"{MAX_PENDING} actions wait for an answer already")
        self._pending[request.action_id] = request
        self._sent += 1
        request.number, request.sent_s = self._sent, asyncio.get_running_loop().time()
        due_s = request.sent_s + self._timeout_s
        if self._sweeper is None or due_s < self._sweeps_at:
            self._sweep_at(due_s)
        protocol.send(request.wire)
        return request

    async def answer(self, request: Request) -> Reply:
        """Wait for the reply. Raises `LinkTimeout`, `LinkDown`."""
        try:
            return await request.future
        finally:
            self._pending.pop(request.action_id, None)

    def _due_s(self, request: Request) -> float:
        """Return when a request's time is over.

        Asterisk does one thing after the other for a login. A list whose items come is not late however long it is,
        and what was asked behind it waits for its turn. There is a bound to both.
        """
        number, heard_s = self._listed
        heard_s = max(request.sent_s, heard_s if number <= request.number else 0.0)
        return min(heard_s + self._timeout_s, request.sent_s + self._list_s)

    def _sweep_at(self, when: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        # Not asked of the timer: one that is due at once has no time on uvloop.
        self._sweeps_at = when
        self._sweeper = asyncio.get_running_loop().call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Tell those whose time is over, with one timer for all: it is set for the oldest and rarely finds any."""
        self._sweeper = None
        now_s = asyncio.get_running_loop().time()
        for request in [request for request in self._pending.values() if self._due_s(request) <= now_s]:
            self.counters.timeouts += 1
            del self._pending[request.action_id]
            what = "no whole list" if request.count else "no answer"
            request.fail(LinkTimeout(f"{request.name}: {what} in {now_s - request.sent_s:.1f} s"))
        if self._pending:
            self._sweep_at(min(self._due_s(request) for request in self._pending.values()))

    async def ask(
        self,
        name: str,
        fields: Iterable[tuple[str, str]] = (),
        *,
        tail: Sequence[str] = (),
        each: Callable[[Lines], None] | None = None,
    ) -> Reply:
        """Send and wait for the reply. Raises `LinkTimeout`, `LinkDown`."""
        return await self.answer(self.send(name, fields, tail=tail, each=each))

    async def ask_apart(
        self,
        name: str,
        fields: Iterable[tuple[str, str]] = (),
        *,
        tail: Sequence[str] = (),
        each: Callable[[Lines], None] | None = None,
    ) -> Reply:
        """Ask for a long list over a login of its own, so that nothing else waits behind it.

        Where Asterisk allows a user one login only, it is asked over this one. Raises `LinkTimeout`, `LinkDown`.
        """
        apart = AmiLink(
            self.host,
            self.port,
            username=self.username,
            secret=self._secret,
            ids=self._ids,
            on_event=lambda _: None,
            timeout_s=self._timeout_s,
            list_s=self._list_s,
            events="off",
        )
        apart.counters, apart._seen = self.counters, self._seen
        try:
            await apart.connect()
            return await apart.ask(name, fields, tail=tail, each=each)
        except LinkRefused:
            return await self.ask(name, fields, tail=tail, each=each)
        finally:
            apart.disconnect()

    # ---- in

    def take(self, frame: bytes) -> None:
        """Give a frame to who waits for it, or tell it as an event."""
        text = frame.decode("latin-1")
        for action_id in action_ids(text):
            request = self._pending.get(action_id)
            if request is not None:
                reply = request.take(text)
                if request.count > 1:
                    self._listed = (request.number, asyncio.get_running_loop().time())
                if reply is not None and not request.future.done():
                    del self._pending[action_id]
                    request.future.set_result(reply)
                return
        lines, clean = parse_frame(text)
        if not clean:
            self.count_garbage("no AMI", sample=shown(frame))
        elif lines[0][0] == "Event":
            self._tell(lines)
        elif lines[0][0] == "Response":
            self.counters.late += 1
        else:
            self.count_garbage("no AMI", sample=shown(frame))

    def _tell(self, lines: Lines) -> None:
        self.counters.events += 1
        headers = {name.lower(): value if value.isascii() else decoded(value) for name, value in lines}
        if len(headers) != len(lines):
            seen: set[str] = set()
            for name, _ in lines:
                key = name.lower()
                if key in seen and "chanvariable" not in key:
                    self.count_hostile("a header twice", name=decoded(lines[0][1]), header=decoded(name))
                    return
                seen.add(key)
        self._on_event(AmiEvent(headers["event"], headers))
