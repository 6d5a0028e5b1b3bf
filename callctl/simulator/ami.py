"""Asterisk's manager interface over TCP: banner, login, actions and their answers, events and who wants them.

Owns sockets, framing and rights. What an action does is the owner's business: it gives a table of `Answer`s. Words
are those of Asterisk 22. Text is UTF-8 with `surrogateescape`, so any byte passes through as it came.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import cast

from billing.ports import Clock
from callctl.simulator.ami_filters import EventFilter
from callctl.simulator.faults import Faults
from callctl.simulator.teller import WRITE_S, Teller

BANNER = b"Asterisk Call Manager/11.0.0\r\n"
LINE_MAX = 1024  # as manager.c's inbuf: a longer line is refused
LINES_MAX = 128

ALL_CLASSES = frozenset({
    "system", "call", "log", "verbose", "agent", "user", "config", "command", "dtmf", "reporting", "cdr", "dialplan",
    "originate", "agi", "cc", "aoc", "test", "security", "message",
})  # fmt: skip
WITHOUT_LOGIN = frozenset({"login", "logoff", "challenge"})


@dataclass(frozen=True, slots=True)
class AmiUser:
    """A section of manager.conf. `filters` are `MatchCriteria`, such as "action(include),name(Hangup)"."""

    name: str
    secret: str
    read: frozenset[str] = ALL_CLASSES
    write: frozenset[str] = ALL_CLASSES
    filters: tuple[str, ...] = ()


class Request:
    """One action as it came: header names are case-insensitive and may repeat."""

    __slots__ = ("headers",)

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        self.headers = headers

    def get(self, name: str) -> str:
        """Return the first value of a header, "" where missing."""
        wanted = name.lower()
        for key, value in self.headers:
            if key == wanted:
                return value
        return ""

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        wanted = name.lower()
        return [value for key, value in self.headers if key == wanted]


@dataclass(frozen=True, slots=True)
class Answer:
    """How an action is answered, and which write class (any one of them) it asks for."""

    act: Callable[[Session, Request], None]
    needs: frozenset[str] = frozenset()


_ROW_NAMES = {"CoreShowChannels": "CoreShowChannel", "DBGet": "DBGetResponse", "DBGetTree": "DBGetTreeResponse"}


class Session(Teller):
    """One client's connection. As with Asterisk's thread for it, one thing is done after the other.

    While a list is told, what the client asks waits, and so do its events; a client that reads slowly holds it up.
    """

    def __init__(self, server: AmiServer) -> None:
        super().__init__(server)
        self.server = server
        self.user: AmiUser | None = None
        self.reads: frozenset[str] = frozenset()
        self._filters: list[EventFilter] = []
        self._wants: dict[tuple[str, str], bool] = {}
        self._buffer = b""
        self._challenge = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast("asyncio.Transport", transport)  # what create_server gives
        if self.server.cut:
            self.transport.abort()
            return
        self.server.sessions.add(self)
        self.transport.write(BANNER)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget the client."""
        self.lost()
        self.server.sessions.discard(self)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into actions."""
        if self.server.silent or self.telling:
            self._buffer += data
            return
        buffer = (self._buffer + data).replace(b"\r\n", b"\n")
        held_back = buffer.endswith(b"\r")  # perhaps half a line end
        *blocks, rest = buffer.split(b"\n\n")
        self._buffer = rest
        for number, block in enumerate(blocks):
            self._block(block)
            if self.transport is None:
                return
            if self.telling:
                self._buffer = b"\n\n".join([*blocks[number + 1 :], rest])
                return
        if not held_back and len(rest) - rest.rfind(b"\n") > LINE_MAX:
            self._buffer = b""
            self.write("Response: Error\r\nMessage: Failed to parse action: line too long\r\n\r\n")

    def _block(self, block: bytes) -> None:
        lines = block.decode("utf-8", "surrogateescape").strip("\n").split("\n")
        if lines == [""]:
            return
        headers: list[tuple[str, str]] = []
        for line in lines:
            if len(line) > LINE_MAX or len(lines) > LINES_MAX:
                self.write("Response: Error\r\nMessage: Failed to parse action: too long\r\n\r\n")
                return
            key, colon, value = line.partition(":")
            if colon:
                headers.append((key.strip().lower(), value.strip()))
        self.server.answer(self, Request(headers))

    def thaw(self) -> None:
        """What was stuck on the link arrives, in both directions."""
        self.go_on()
        self.data_received(b"")

    # --- answers

    def ok(self, request: Request, message: str, more: str = "") -> None:
        """Answer Success; `more` is ready header lines."""
        said = f"Message: {message}\r\n" if message else ""
        self.write(f"Response: Success\r\n{_echo(request)}{said}{more}\r\n")

    def error(self, request: Request, message: str) -> None:
        """Answer Error."""
        self.write(f"Response: Error\r\n{_echo(request)}Message: {message}\r\n\r\n")

    def rows(
        self,
        request: Request,
        message: str,
        event: str,
        rows: Iterable[str],
        *,
        echo_first: bool = False,
        items: bool = False,
    ) -> None:
        """Answer with a list: a start, one event per row (ready header lines), and `<event>Complete`.

        `items`: the count is told under this second name too.
        """
        echo = _echo(request)
        name = _ROW_NAMES.get(event, event)

        def parts() -> Iterator[str]:
            yield f"Response: Success\r\n{echo}EventList: start\r\nMessage: {message}\r\n\r\n"
            count = 0
            for row in rows:
                count += 1
                yield f"Event: {name}\r\n{echo}{row}\r\n" if echo_first else f"Event: {name}\r\n{row}{echo}\r\n"
            more = f"Items: {count}\r\n" if items else ""
            yield f"Event: {event}Complete\r\n{echo}EventList: Complete\r\nListItems: {count}\r\n{more}\r\n"

        self.tell(part.encode("utf-8", "surrogateescape") for part in parts())

    # --- events

    def want(self, classes: str) -> None:
        """Set the event mask: on, off, or a list of classes; never more than the user may read."""
        allowed = self.user.read if self.user else frozenset()
        words = {word.strip().lower() for word in classes.split(",")}
        if words & {"on", "true", "yes", "all", "1", "-1"} or words == {""}:
            self.reads = allowed
        elif words & {"off", "false", "no", "none", "0"}:
            self.reads = frozenset()
        else:
            self.reads = allowed & words
        self._wants.clear()

    def add_filter(self, new: EventFilter) -> None:
        """See less from now on."""
        self._filters.append(new)
        self._wants.clear()

    def wants(self, event: str, privilege: str, text: str) -> bool:
        """Whether this client gets the event. Remembered by name while no filter looks at the text."""
        known = self._wants.get((event, privilege))
        if known is not None:
            return known
        by_name = all(each.pattern is None for each in self._filters)
        answer = privilege in self.reads and self._passes(event, text)
        if by_name:
            self._wants[event, privilege] = answer
        return answer

    def _passes(self, event: str, text: str) -> bool:
        includes = [each for each in self._filters if each.include]
        if includes and not any(each.matches(event, text) for each in includes):
            return False
        return not any(each.matches(event, text) for each in self._filters if not each.include)

    # --- who are you

    def challenge(self) -> str:
        """Return a fresh challenge for an MD5 login."""
        self._challenge = str(self.server.rng.randrange(10**8, 10**9))
        return self._challenge

    def knows_secret(self, user: AmiUser, request: Request) -> bool:
        """Whether the request proves the user's secret."""
        if request.get("AuthType").lower() == "md5":
            text = (self._challenge + user.secret).encode()
            wanted = hashlib.md5(text, usedforsecurity=False).hexdigest()  # what AMI's challenge is made of
            return bool(self._challenge) and hmac.compare_digest(wanted, request.get("Key").lower())
        return hmac.compare_digest(
            user.secret.encode("utf-8", "surrogateescape"), request.get("Secret").encode("utf-8", "surrogateescape")
        )


class AmiServer:
    """Listens, keeps the sessions, hands actions to `answers` and events to whoever may and wants to read them."""

    def __init__(
        self, *, clock: Clock, rng: Random, users: tuple[AmiUser, ...], answers: Mapping[str, Answer], faults: Faults
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.faults = faults
        self.users = {user.name: user for user in users}
        self.sessions: set[Session] = set()
        self.loop: asyncio.AbstractEventLoop
        self.port = 0
        self.cut = False  # whoever connects is thrown out at once
        self.silent = False  # the link stands, but everything on it waits
        self.write_s = WRITE_S  # manager-callctl.conf's writetimeout
        self.booted_at = clock.now()
        self.events_sent = 0
        self.unknown_actions = 0
        self._listener: asyncio.Server | None = None
        self._answers: dict[str, Answer] = {
            "login": Answer(self._login),
            "challenge": Answer(self._challenge),
            "logoff": Answer(self._logoff),
            "ping": Answer(self._ping),
            "events": Answer(self._events),
            "filter": Answer(self._filter, frozenset({"system"})),
            **{name.lower(): answer for name, answer in answers.items()},
        }

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
            if session.user is not None:
                session.write_bytes(data)

    def publish(self, event: str, privilege: str, body: str) -> None:
        """Send an event to each client that may and wants to read it. `body` is header lines, each with its CRLF."""
        if not self.sessions:
            return
        text = f"Event: {event}\r\nPrivilege: {privilege},all\r\nTimestamp: {stamp(self.clock)}\r\n{body}\r\n"
        orders = self.faults.events.get(event)
        for delay_s in orders.pop(0) if orders else (0.0,):
            if delay_s:
                self.loop.call_later(delay_s, self._deliver, event, privilege, text)
            else:
                self._deliver(event, privilege, text)

    def _deliver(self, event: str, privilege: str, text: str) -> None:
        data = text.encode("utf-8", "surrogateescape")
        for session in self.sessions:
            if session.wants(event, privilege, text):
                self.events_sent += 1
                session.write_bytes(data)

    def allowed(self, user: AmiUser) -> list[str]:
        """Return the actions that a user may take, in lower case."""
        return [name for name, answer in self._answers.items() if not answer.needs or answer.needs & user.write]

    def answer(self, session: Session, request: Request) -> None:
        """Carry out one action."""
        name = request.get("Action").lower()
        orders = self.faults.answers.get(name)
        if orders:
            fault = orders.pop(0)
            if fault is not None:
                session.error(request, fault)
            return
        answer = self._answers.get(name)
        if not name:
            session.error(request, "Missing action in request")
        elif session.user is None and name not in WITHOUT_LOGIN:
            session.error(request, "Permission denied")
        elif answer is None:
            self.unknown_actions += 1
            hint = "Use Action: ListCommands to show available commands."
            session.error(request, f"Invalid/unknown command: {request.get('Action')}. {hint}")
        elif answer.needs and not (session.user and answer.needs & session.user.write):
            session.error(request, "Permission denied")
        else:
            answer.act(session, request)

    # --- the actions that belong to the interface itself

    def _login(self, session: Session, request: Request) -> None:
        user = self.users.get(request.get("Username"))
        if session.user is not None:
            session.ok(request, "Already logged in")
        elif user is None or not session.knows_secret(user, request):
            session.error(request, "Authentication failed")
            session.close()
        else:
            session.user = user
            session.want(request.get("Events") or "on")
            for criteria in user.filters:
                session.add_filter(EventFilter.parse(criteria))
            session.ok(request, "Authentication accepted")
            if "system" in session.reads:  # written past the filters, as action_login does
                up_s = int((self.clock.now() - self.booted_at).total_seconds())
                session.write(
                    f"Event: FullyBooted\r\nPrivilege: system,all\r\nTimestamp: {stamp(self.clock)}\r\n"
                    f"Uptime: {up_s}\r\nLastReload: {up_s}\r\nStatus: Fully Booted\r\n\r\n"
                )

    def _challenge(self, session: Session, request: Request) -> None:
        if request.get("AuthType").lower() != "md5":
            session.error(request, "Must specify AuthType")
        else:
            session.ok(request, "", f"Challenge: {session.challenge()}\r\n")

    def _logoff(self, session: Session, request: Request) -> None:
        session.write(f"Response: Goodbye\r\n{_echo(request)}Message: Thanks for all the fish.\r\n\r\n")
        session.close()

    def _ping(self, session: Session, request: Request) -> None:
        session.ok(request, "", f"Ping: Pong\r\nTimestamp: {stamp(self.clock)}\r\n")

    def _events(self, session: Session, request: Request) -> None:
        session.want(request.get("EventMask"))
        session.ok(request, "", f"Events: {'On' if session.reads else 'Off'}\r\n")

    def _filter(self, session: Session, request: Request) -> None:
        criteria, text = request.get("MatchCriteria"), request.get("Filter")
        if request.get("Operation").lower() != "add" or not (criteria or text):
            session.error(request, "Filter format is invalid")
            return
        try:
            session.add_filter(EventFilter.parse(criteria, text))
        except re.error:
            session.error(request, "Filter format is invalid")
        else:
            session.ok(request, "Filter added successfully")


def stamp(clock: Clock) -> str:
    """Return the switch's time as AMI writes it: seconds since the epoch with six decimals."""
    now = clock.now()
    return f"{int(now.timestamp())}.{now.microsecond:06d}"


def _echo(request: Request) -> str:
    action_id = request.get("ActionID")
    return f"ActionID: {action_id}\r\n" if action_id else ""
