"""The tests' own ears and mouth on AMI: everything Asterisk says to a user that may hear everything, byte for byte."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.switches.real.lab import Login

Event = list[tuple[str, str]]


def value(event: Event, name: str) -> str:
    """Return the first value of a header, "" without one."""
    return next((text for key, text in event if key.lower() == name.lower()), "")


@dataclass(slots=True)
class Observer:
    """What one AMI user hears. `heard` keeps every message in order, with doubled headers doubled."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: list[Event] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def events(self, name: str, **headers: str) -> list[Event]:
        """Return the events of this name with these headers."""
        return [
            event
            for event in list(self.heard)
            if value(event, "Event") == name and all(value(event, key) == text for key, text in headers.items())
        ]

    async def until(self, name: str, *, count: int = 1, timeout_s: float = 10, **headers: str) -> list[Event]:
        """Wait until that many such events have been heard."""
        async with asyncio.timeout(timeout_s), self.news:
            await self.news.wait_for(lambda: len(self.events(name, **headers)) >= count)
        return self.events(name, **headers)

    async def ask(self, action: str, **headers: str) -> list[Event]:
        """Send an action; return its response and the events of its list."""
        number, before = f"test-{next(self.numbers)}", len(self.heard)
        lines = [("Action", action), ("ActionID", number), *headers.items()]
        self.writer.write("".join(f"{key}: {text}\r\n" for key, text in lines).encode() + b"\r\n")
        await self.writer.drain()

        def mine() -> list[Event]:
            return [event for event in self.heard[before:] if value(event, "ActionID") == number]

        def complete() -> bool:
            answer = mine()
            if not answer or value(answer[0], "EventList").lower() != "start":
                return bool(answer)
            return value(answer[-1], "EventList").lower() in {"complete", "cancelled"}

        async with asyncio.timeout(10), self.news:
            await self.news.wait_for(complete)
        return mine()

    async def channels(self) -> list[Event]:
        """Return every channel Asterisk has now, with what the dialplan noted on it."""
        wanted = "CALLCTL_OFFER,CALLCTL_LEG,CALLCTL_ANSWERED,CHANNEL(accountcode),TIMEOUT(absolute)"
        answer = await self.ask("Status", Variables=wanted)
        return [event for event in answer if value(event, "Event") == "Status"]

    def offers(self) -> int:
        """Return how many offers to a controller were heard."""
        return len(self.events("AsyncAGIStart"))

    def ends(self, key: str) -> int:
        """Return how many channels of a call were heard to end."""
        return len(self.events("Hangup", Linkedid=key))

    async def limits(self, account_code: str) -> dict[str, float]:
        """Return what is left of the limit of each leg an account pays, by the number dialled."""
        legs = {}
        for event in await self.channels():
            noted = dict(text.split("=", 1) for name, text in event if name == "Variable")
            if noted["CHANNEL(accountcode)"] == account_code and noted["CALLCTL_LEG"] != "(null)":
                legs[noted["CALLCTL_LEG"].rpartition("|")[2]] = float(noted["TIMEOUT(absolute)"])
        return legs

    async def legs(self, key: str) -> list[str]:
        """Return the other channels of the call that was offered on this one."""
        channels = [event for event in await self.channels() if value(event, "Linkedid") == key]
        return [value(event, "Uniqueid") for event in channels if value(event, "Uniqueid") != key]

    async def hang_up_all(self) -> None:
        """End every channel."""
        for event in await self.channels():
            await self.ask("Hangup", Channel=value(event, "Uniqueid"), Cause="16")

    async def until_silent(self, timeout_s: float = 10) -> None:
        """Wait until Asterisk has no channel."""
        async with asyncio.timeout(timeout_s):
            while await self.channels():  # noqa: ASYNC110 - Asterisk is asked, nobody tells
                await asyncio.sleep(0.05)

    async def listen(self) -> None:
        """Take in what comes, until the link ends."""
        await self.reader.readline()
        while True:
            message: Event = []
            while (line := await self.reader.readline()).strip(b"\r\n"):
                name, _, text = line.decode(errors="replace").rstrip("\r\n").partition(":")
                message.append((name, text.strip()))
            if message:
                async with self.news:
                    self.heard.append(message)
                    self.news.notify_all()
            if not line:
                return


@asynccontextmanager
async def observing(port: int, login: Login) -> AsyncIterator[Observer]:
    """Log in as a user and listen."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    observer = Observer(reader, writer)
    listening = asyncio.create_task(observer.listen())
    try:
        answer = await observer.ask("Login", Username=login.username, Secret=login.secret)
        if value(answer[0], "Response") != "Success":
            raise AssertionError(f"AMI refused {login.username}: {answer}")
        yield observer
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.close()
