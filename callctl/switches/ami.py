"""The AMI link: one login to an Asterisk, kept up for ever, that believes no more of what it reads than it must.

It frames, bounds and matches what comes; it knows nothing of calls. panoramisk 1.4 is the protocol underneath; replaced
here is what it gets wrong: it decodes chunk by chunk, merges repeated headers, waits for ever, and sends unanswered
actions again after a reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog
from panoramisk.ami_protocol import AMIProtocol

from billing.ports import Ids
from callctl.switches.base import SwitchUnavailable
from callctl.switches.link import MOST_LOGGED, LinkDown, LinkRefused, LinkTimeout, Watchful

log = structlog.get_logger()

FRAME_END = b"\r\n\r\n"
BANNER = b"Asterisk Call Manager/"
MAX_LINE = 64 * 1024
MAX_FRAME = 1024 * 1024
MAX_ITEMS = 1_000_000
"""Items of one list; a list with more is not whole."""
MAX_PENDING = 10_000

Lines = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class AmiEvent:
    """An event: a hint, never a proof. Header names in lower case, each once; text decoded for display."""

    name: str
    headers: dict[str, str]

    def get(self, header: str) -> str:
        """Return the header's text, or "" where it is missing."""
        return self.headers.get(header, "")


@dataclass(frozen=True, slots=True)
class Reply:
    """What an action brought: `lines` of the response, and for a list its `items`, each as ordered header lines
    (where a tail was asked for, that tail alone). Items are kept as text: a list may be of a hundred thousand.

    Text is latin-1, one character per byte as it came: `decoded` for display, `identity` where it says who somebody is.
    """

    ok: bool
    lines: Lines
    texts: list[str] = field(default_factory=list)

    @property
    def items(self) -> Iterator[Lines]:
        """Return each item's lines, read one by one."""
        return (parse_frame(text)[0] for text in self.texts)

    def get(self, header: str) -> str:
        """Return a header of the response, or ""."""
        return next((value for name, value in self.lines if name.lower() == header), "")


def shown(data: bytes) -> str:
    """Return bytes as a log shows them."""
    return data[:MOST_LOGGED].decode("ascii", "backslashreplace")


def decoded(text: str) -> str:
    """Return latin-1 wire text as UTF-8 for people; bytes that are none become U+FFFD."""
    return text.encode("latin-1").decode("utf-8", "replace")


def identity(text: str) -> str:
    """Return latin-1 wire text as UTF-8, exactly. Raises `ValueError` for bytes that are none."""
    return text.encode("latin-1").decode("utf-8")


class Request:
    """An action on its way, and what has come back. With `tail`, its list items end with exactly these variables."""

    __slots__ = ("action_id", "deadline", "future", "items_so_far", "name", "response", "tail", "wire")

    def __init__(
        self, name: str, fields: Iterable[tuple[str, str]], *, action_id: str, tail: Sequence[str] = ()
    ) -> None:
        """Raises `ValueError` where a value could be read as more than a value."""
        headers = [("Action", name), ("ActionID", action_id), *fields]
        text = "".join([f"{key}: {value}\r\n" for key, value in headers])
        if text.count("\r") != len(headers) or text.count("\n") != len(headers) or "\0" in text:
            raise ValueError(f"AMI {name}: a header holds a line break or NUL")
        self.wire = f"{text}\r\n".encode()
        self.name = name
        self.action_id = action_id
        self.tail = tail
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.deadline = 0.0
        self.response: Lines | None = None
        self.items_so_far: list[str] = []

    def fail(self, why: SwitchUnavailable) -> None:
        """Tell who waits, if anybody does, that no answer will come."""
        if not self.future.done():
            self.future.set_exception(why)
            self.future.exception()

    def item(self, text: str) -> str:
        """Return the text of an item, or "" where it is none.

        With `tail` it is one by its last lines, which no caller's text can come after, and only those are returned.
        """
        if not self.tail:
            lines, _ = parse_frame(text)
            return text if lines[0][0] == "Event" and ("EventList", "Complete") not in lines else ""
        last = "\r\n".join(text.rsplit("\r\n", len(self.tail) + 1)[-len(self.tail) - 1 :])
        end, _ = parse_frame(last)
        names = [value.partition("=")[0] for name, value in end[:-1] if name == "Variable"]
        return last if names == list(self.tail) and end[-1][0] == "ActionID" else ""

    def take(self, text: str) -> Reply | None:
        """Add a frame; return the reply when it is whole."""
        if self.response is None:
            lines, _ = parse_frame(text)
            self.response = lines
            listed = ("EventList", "start") in lines
            ok = lines[0] in (("Response", "Success"), ("Response", "Goodbye"), ("Response", "Follows"))
            return None if ok and listed else Reply(ok, lines)
        item = self.item(text)
        if item:
            if len(self.items_so_far) < MAX_ITEMS:
                self.items_so_far.append(item)
            return None
        lines, _ = parse_frame(text)
        if ("EventList", "Complete") not in lines:
            return None
        counted = next((value for name, value in lines if name in ("ListItems", "Items")), "")
        whole = counted in ("", str(len(self.items_so_far)))
        return Reply(whole, self.response if whole else [("Message", "list not whole")], self.items_so_far)


def parse_frame(text: str) -> tuple[Lines, bool]:
    """Return a frame's lines in order, and whether each is a header of bearable length."""
    parts = [line.partition(":") for line in text.split("\r\n")]
    lines = [(name, value[1:] if value[:1] == " " else value) for name, _, value in parts]
    clean = "" not in [colon for _, colon, _ in parts]
    if clean and len(text) > MAX_LINE:
        clean = all(len(name) + 1 + len(value) <= MAX_LINE for name, _, value in parts)
    return lines, clean


def action_ids(text: str) -> Iterator[str]:
    """Yield the values of a frame's lines that are an ActionID."""
    at = text.find("ActionID:")
    while at >= 0:
        if at == 0 or text[at - 2 : at] == "\r\n":
            end = text.find("\r\n", at)
            yield text[at + len("ActionID:") : end if end >= 0 else None].removeprefix(" ")
        at = text.find("ActionID:", at + 1)


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
        self.scanned = len(self.buffer)
        if len(self.buffer) > MAX_FRAME:
            if not self.skipping:
                self.link.count_garbage("a frame without an end")
            self.skipping = True
            del self.buffer[: -len(FRAME_END)]
            self.scanned = 0

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
        ping_s: float = 3.0,
        retry_s: tuple[float, float] = (0.1, 5.0),
    ) -> None:
        super().__init__("ami", host)
        self.port, self.username, self._secret = port, username, secret
        self._ids, self._on_event, self._on_up, self._on_down = ids, on_event, on_up, on_down
        self._on_time = on_time
        self._timeout_s, self._ping_s, self._retry_s = timeout_s, ping_s, retry_s
        self.up = False
        self._pending: dict[str, Request] = {}
        self._protocol: Framer | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweeps_at = 0.0

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
        fields = [("Username", self.username), ("Secret", self._secret), ("Events", "on")]
        reply = await self.ask("Login", fields)
        if not reply.ok:
            self.disconnect()
            raise LinkRefused(
                f"Asterisk at {self.host}:{self.port} refused user {self.username}: {reply.get('message')}"
            )
        self.counters.connects += 1

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

    def send(self, name: str, fields: Iterable[tuple[str, str]] = (), *, tail: Sequence[str] = ()) -> Request:
        """Send and return the request; several sent in a row are done in that order. Raises `LinkDown`.

        What is sent in one turn of the loop goes out together. A request has its time-out whether waited for or not.
        """
        request = Request(name, fields, action_id=self._ids.secret(), tail=tail)
        protocol = self._protocol
        if protocol is None or self._lost.is_set():
            raise LinkDown(f"no link to {self.host}:{self.port}")
        if len(self._pending) >= MAX_PENDING:
            raise LinkDown(f"{MAX_PENDING} actions wait for an answer already")
        self._pending[request.action_id] = request
        loop = asyncio.get_running_loop()
        request.deadline = loop.time() + self._timeout_s
        if self._sweeper is None or request.deadline < self._sweeps_at:
            self._sweep_at(request.deadline)
        protocol.send(request.wire)
        return request

    async def answer(self, request: Request) -> Reply:
        """Wait for the reply. Raises `LinkTimeout`, `LinkDown`."""
        try:
            return await request.future
        finally:
            self._pending.pop(request.action_id, None)

    def _sweep_at(self, when: float) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        # Not asked of the timer: one that is due at once has no time on uvloop.
        self._sweeps_at = when
        self._sweeper = asyncio.get_running_loop().call_at(when, self._sweep)

    def _sweep(self) -> None:
        """Tell those whose time is over, with one timer for all: it is set for the oldest and rarely finds any."""
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for request in [request for request in self._pending.values() if request.deadline <= now]:
            self.counters.timeouts += 1
            del self._pending[request.action_id]
            request.fail(LinkTimeout(f"{request.name}: no answer in {self._timeout_s} s"))
        if self._pending:
            self._sweep_at(min(request.deadline for request in self._pending.values()))

    async def ask(self, name: str, fields: Iterable[tuple[str, str]] = (), *, tail: Sequence[str] = ()) -> Reply:
        """Send and wait for the reply. Raises `LinkTimeout`, `LinkDown`."""
        return await self.answer(self.send(name, fields, tail=tail))

    # ---- in

    def take(self, frame: bytes) -> None:
        """Give a frame to who waits for it, or tell it as an event."""
        text = frame.decode("latin-1")
        for action_id in action_ids(text):
            request = self._pending.get(action_id)
            if request is not None:
                reply = request.take(text)
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
