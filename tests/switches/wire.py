"""A bare AMI client for tests: sends lines, reads messages, believes everything."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Wire:
    """One connection. A message is its lines; `of` makes a dict of it (the last of a repeated header wins)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self.banner = ""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.banner = (await self._reader.readline()).decode()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def send(self, text: str | bytes) -> None:
        """Write raw text; lines may end with a bare newline."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self._writer.write(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))

    def action(self, name: str, **headers: str) -> None:
        """Write one action."""
        self.send("".join(f"{key}: {value}\n" for key, value in {"Action": name, **headers}.items()) + "\n")

    async def message(self) -> dict[str, str]:
        """Read the next message; raises `asyncio.IncompleteReadError` at the end of the stream."""
        async with asyncio.timeout(5):
            block = await self._reader.readuntil(b"\r\n\r\n")
        return of(block.decode("utf-8", "surrogateescape"))

    async def ask(self, name: str, **headers: str) -> dict[str, str]:
        """Send an action and read until its response."""
        self.action(name, **headers)
        return await self.until("Response")

    async def until(self, header: str, value: str = "") -> dict[str, str]:
        """Read until a message has this header (and value)."""
        while True:
            message = await self.message()
            if header in message and value in {"", message[header]}:
                return message

    async def rows(self, name: str, **headers: str) -> list[dict[str, str]]:
        """Send an action that answers with a list; return its events without the last."""
        begin = await self.ask(name, **headers)
        assert begin["EventList"] == "start", begin
        rows = []
        while (row := await self.message()).get("EventList") != "Complete":
            rows.append(row)
        assert row["ListItems"] == str(len(rows))
        return rows

    async def login(self, name: str = "callctl", secret: str = "simulated", events: str = "on") -> dict[str, str]:
        """Log in plainly."""
        return await self.ask("Login", Username=name, Secret=secret, Events=events, ActionID="login-1")

    async def ended(self) -> bool:
        """Whether the other side closes now."""
        async with asyncio.timeout(5):
            return await self._reader.read(1) == b""


def of(block: str) -> dict[str, str]:
    """Read header lines; `Variable: a=b` becomes "Variable a": "b"."""
    message: dict[str, str] = {}
    for line in block.strip("\r\n").split("\r\n"):
        key, _, value = line.partition(": ")
        if key == "Variable" and "=" in value:
            key, _, value = f"Variable {value}".partition("=")
        message[key.removesuffix(":")] = value
    return message
