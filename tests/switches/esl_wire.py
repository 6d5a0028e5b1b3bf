"""A bare ESL client for tests: sends lines, reads frames, believes everything."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import unquote


@dataclass(frozen=True)
class Frame:
    """Headers in lower case, and the body."""

    headers: dict[str, str]
    body: str

    @property
    def kind(self) -> str:
        """Its Content-Type."""
        return self.headers["content-type"]

    @property
    def event(self) -> dict[str, str]:
        """The event in it, whatever the format; a body in "_body"."""
        if self.kind == "text/event-json":
            fields: dict[str, str] = json.loads(self.body)
            return fields
        head, _, body = self.body.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in head.split("\n"))
        return {name: unquote(value, errors="surrogateescape") for name, value in fields.items()} | {"_body": body}


class EslWire:
    """One connection. Events that come between answers are kept for `event`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._events: list[dict[str, str]] = []
        self.greeting: Frame

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.greeting = await self.frame()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def send(self, data: str | bytes) -> None:
        """Write raw text."""
        self._writer.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)

    async def frame(self) -> Frame:
        """Read the next frame; raises `asyncio.IncompleteReadError` at the end of the stream."""
        async with asyncio.timeout(5):
            head = await self._reader.readuntil(b"\n\n")
            lines = head.decode().strip("\n").split("\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Frame(headers, body.decode("utf-8", "surrogateescape"))

    async def ask(self, command: str, *headers: str) -> str:
        """Send a command and return its answer: the body, or Reply-Text."""
        self.send("\n".join((command, *headers)) + "\n\n")
        frame = await self.answer()
        return frame.body if frame.kind == "api/response" else frame.headers["reply-text"]

    async def answer(self) -> Frame:
        """Read until an answer."""
        while True:
            frame = await self.frame()
            if not frame.kind.startswith("text/event"):
                return frame
            self._events.append(frame.event)

    async def event(self, name: str = "") -> dict[str, str]:
        """Return the next event (of a name); others are dropped."""
        while True:
            event = self._events.pop(0) if self._events else None
            if event is None:
                frame = await self.frame()
                assert frame.kind.startswith("text/event"), frame
                event = frame.event
            if name in {"", event["Event-Name"]}:
                return event

    async def login(self, *commands: str, password: str = "simulated") -> None:
        """Log in and send what follows."""
        assert await self.ask(f"auth {password}") == "+OK accepted"
        for command in commands:
            assert (await self.ask(command)).startswith("+OK")

    async def ended(self) -> bool:
        """Whether the other side closes now."""
        async with asyncio.timeout(5):
            return await self._reader.read(1) == b""


async def admit(wire: EslWire, call_id: str, *, grant: str = "none", deadline: str = "none", ring: int = 30) -> str:
    """Admit an offered call as the adapter does."""
    uuid = call_id.partition("~")[0]
    ringing = f"call_timeout={ring};bridge_answer_timeout={ring}"
    variables = f"{ringing};callctl_grant={grant};callctl_deadline={deadline};callctl_admit={call_id}"
    assert await wire.ask(f"api uuid_setvar_multi {uuid} {variables}") == "+OK\n"
    return await wire.ask(f"api uuid_transfer {uuid} 4912345 XML callctl-dial")
