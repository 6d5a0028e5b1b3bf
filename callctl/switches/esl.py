"""The ESL link: one login to a FreeSWITCH, kept up for ever, that believes no more of what it reads than it must.

It frames, bounds and matches what comes; it knows nothing of calls. greenswitch 0.0.19 is the protocol underneath, in a
thread with a gevent hub of its own (`esl_hub.py`); between it and asyncio lie two bounded queues. Replaced is what it
gets wrong: it unquotes and splits what callers wrote, spins at the end of file, waits for ever and never reconnects.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from billing.ports import Ids
from callctl.switches.base import SwitchUnavailable
from callctl.switches.esl_hub import Answered, Broke, Came, EslEvent, Hub, Message, Refused, Stood, Unreachable
from callctl.switches.link import LinkDown, LinkRefused, LinkTimeout, Watchful

log = structlog.get_logger()

__all__ = ["EslEvent", "EslLink", "Request"]

MAX_PENDING = 20_000
LIST_S = 30.0
"""How long a list may take: FreeSWITCH makes all of it before it says the first word."""
JOIN_S = 5.0
BUSY_S = 0.05


@dataclass(slots=True)
class Request:
    """A command on its way."""

    number: int
    command: str
    future: asyncio.Future[str]


class EslLink(Watchful):
    """A login that is made again whenever it breaks. `on_event` must only note the event and return.

    `setup` are commands that each new connection begins with, before it is told as up.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        password: str,
        ids: Ids,
        on_event: Callable[[EslEvent], None],
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[], None] = lambda: None,
        on_ping: Callable[[str, float], None] = lambda _text, _took_s: None,
        setup: Iterable[str] = (),
        ping: str = "api strmicroepoch",
        timeout_s: float = 2.0,
        list_s: float = LIST_S,
        ping_s: float = 3.0,
        retry_s: tuple[float, float] = (0.1, 5.0),
        nudge_s: float = 0.008,
    ) -> None:
        super().__init__("esl", host)
        self.port = port
        self._on_event, self._on_up, self._on_down, self._on_ping = on_event, on_up, on_down, on_ping
        self._ping, self.timeout_s, self._ping_s = checked(ping), timeout_s, ping_s
        self._ids, self._list_s = ids, list_s
        self.up = False
        self._setup = [checked(command) for command in setup]
        self._hub = Hub(
            host,
            port,
            password=checked(password),
            setup=self._setup,
            post=self._post,
            chance=lambda: zlib.crc32(ids.secret().encode()) / 2**32,
            timeout_s=timeout_s,
            retry_s=retry_s,
            nudge_s=nudge_s,
        )
        self._inbox: deque[Message] = deque()
        self._scheduled = False
        self._pending: dict[int, Request] = {}
        self._numbers = 0
        self._generation = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._watch: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._unasked: set[int] = set()
        self._doubt = asyncio.Event()
        self._failed = 0
        self._quiet = False

    # ---- life

    def start(self) -> None:
        """Begin to connect; return at once."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._first = self._loop.create_future()
            name = f"esl {self.host}:{self.port}"
            self._thread = threading.Thread(target=self._hub.run, name=name, daemon=True)
            self._thread.start()

    async def connect(self) -> None:
        """Connect and wait how the first attempt goes, which is not logged. Raises `LinkDown`, `LinkRefused`."""
        self._quiet = True
        self.start()
        if self._first is not None:
            await asyncio.shield(self._first)

    async def stop(self) -> None:
        """Close the link for good."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._hub.stop()
            await asyncio.to_thread(thread.join, JOIN_S)
        self._drain()
        self._break()
        if self._first is not None and not self._first.done():
            self._first.cancel()

    # ---- out

    def send(self, command: str) -> Request:
        """Send now and return the request; several sent in a row are done in that order. Raises `LinkDown`.

        Raises `ValueError` for a command that could be read as more than one.
        """
        if not self.up or self._loop is None:
            raise LinkDown(f"no link to {self.host}:{self.port}")
        if len(self._pending) + len(self._unasked) >= MAX_PENDING:
            raise LinkDown(f"{MAX_PENDING} commands wait for an answer already")
        self._numbers += 1
        request = Request(self._numbers, checked(command), self._loop.create_future())
        self._pending[request.number] = request
        self._hub.send(self._generation, request.number, request.command)
        return request

    async def answer(self, request: Request) -> str:
        """Wait for the reply's text. Raises `LinkTimeout`, `LinkDown`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await request.future
        except TimeoutError as late:
            self.counters.timeouts += 1
            self._count_anew()
            words = " ".join(request.command.split(" ")[:2])
            raise LinkTimeout(f"{words}: no answer in {self.timeout_s} s") from late
        finally:
            self._pending.pop(request.number, None)

    def _count_anew(self) -> None:
        """ESL answers in order and says not what to: after one that is missing, all that wait get none."""
        self._fail_pending(LinkTimeout("an answer before this one is missing"))
        self._hub.count_anew(self._generation, self._ids.new("count"))
        self._doubt.set()

    async def ask(self, command: str) -> str:
        """Send and wait for the reply's text. Raises `LinkTimeout`, `LinkDown`."""
        return await self.answer(self.send(command))

    async def ask_apart(self, *commands: str) -> list[str]:
        """Ask for what may be long over a connection of its own, so that nothing else waits behind it.

        FreeSWITCH does one thing after the other for a connection. Raises `LinkTimeout`, `LinkDown`, `LinkRefused`.
        """
        apart = EslLink(
            self.host,
            self.port,
            password=self._hub.password,
            ids=self._ids,
            on_event=lambda _: None,
            ping=self._ping,
            timeout_s=self._list_s,
        )
        apart.counters, apart._seen = self.counters, self._seen
        try:
            async with asyncio.timeout(self.timeout_s):
                await apart.connect()
            requests = [apart.send(command) for command in commands]
            return [await apart.answer(request) for request in requests]
        except TimeoutError as late:
            raise LinkTimeout(f"{self.host}:{self.port} takes no second connection in {self.timeout_s} s") from late
        finally:
            await apart.stop()

    def forget(self, request: Request) -> None:
        """Nobody waits for this answer."""
        if self._pending.pop(request.number, None) is not None:
            self._unasked.add(request.number)
        request.future.cancel()

    # ---- in: the hub's thread posts, asyncio drains

    def _post(self, message: Message) -> bool:
        """Take a message from the hub's thread; False: there is no room, or nobody is there any more."""
        if len(self._inbox) >= MAX_PENDING * 2 and isinstance(message, Came):
            return False
        self._inbox.append(message)
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                return False
        return True

    def _drain(self) -> None:
        self._scheduled = False
        while self._inbox:
            message = self._inbox.popleft()
            try:
                self._take(message)
            except Exception:
                # One message nobody foresaw must not take the link, and all calls with it, down.
                log.exception("esl_message_failed", host=self.host)
                self.count_garbage("a message that failed")

    def _take(self, message: Message) -> None:
        match message:
            case Came(event=event):
                self.counters.events += 1
                self._on_event(event)
            case Answered(number=number, text=text):
                request = self._pending.pop(number, None)
                if request is None:
                    self.counters.late += number not in self._unasked
                    self._unasked.discard(number)
                elif not request.future.done():
                    request.future.set_result(text)
            case Stood(generation=generation):
                self._stood(generation)
            case Broke(why=why):
                self._broke(why)
            case Unreachable(why=why):
                self._unreachable(LinkDown(why))
            case Refused(why=why):
                self._unreachable(LinkRefused(why))

    def _stood(self, generation: int) -> None:
        self._generation, self._failed = generation, 0
        self.up = True
        if not self._quiet:
            self.counters.connects += 1
            log.info("esl_up", host=self.host, port=self.port)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        if self._thread is not None:
            self._watch = asyncio.get_running_loop().create_task(self._keep_asking(), name="esl ping")
        self._on_up()

    def _broke(self, why: str) -> None:
        if why != "closed":
            self.count_garbage(why)
        if self.up:
            if self._thread is not None and not self._quiet:
                log.warning("esl_down", host=self.host, port=self.port, why=why)
            self._break()
            self._on_down()

    def _unreachable(self, why: SwitchUnavailable) -> None:
        self.counters.failures += 1
        if self._failed == 0 and not self._quiet:
            log.warning("esl_unreachable", why=str(why))
        self._failed += 1
        if self._first is not None and not self._first.done():
            self._first.set_exception(why)
            self._first.exception()

    def _break(self) -> None:
        """Who waits is told `LinkDown`, and nothing is ever sent again."""
        self.up = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._fail_pending(LinkDown("the link broke before the answer"))

    def _fail_pending(self, why: SwitchUnavailable) -> None:
        self._unasked.clear()
        pending, self._pending = self._pending, {}
        for request in pending.values():
            if not request.future.done():
                request.future.set_exception(why)
                request.future.exception()

    async def _keep_asking(self) -> None:
        """Break a link that answers no more."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                self._on_ping(await self.ask(self._ping), loop.time() - began)
            except LinkTimeout:
                self._hub.disconnect("no answer")
                return
            except LinkDown:
                return
            self._doubt.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), self._ping_s)
            while self._pending and not self._doubt.is_set():  # noqa: ASYNC110 - a few looks, at each ping
                # What is under way shows as well whether the switch answers.
                await asyncio.sleep(BUSY_S)


def checked(command: str) -> str:
    """Return a command that is one line. Raises `ValueError` for one that holds a line break or NUL."""
    if any(char in "\r\n\0" for char in command):
        raise ValueError("an ESL command holds a line break or NUL")
    with contextlib.suppress(UnicodeEncodeError):
        command.encode()
        return command
    raise ValueError("an ESL command is no text")
