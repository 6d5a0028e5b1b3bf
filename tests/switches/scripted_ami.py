"""A tiny AMI server for tests: it answers what the test has scripted and says whatever bytes it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Fields = dict[str, str]
Answer = Callable[[Fields], "str | AsyncIterator[str] | None"]


def success(action: Fields, *lines: str) -> str:
    return "\r\n".join(["Response: Success", f"ActionID: {action['ActionID']}", *lines]) + "\r\n\r\n"


def error(action: Fields, message: str) -> str:
    return f"Response: Error\r\nActionID: {action['ActionID']}\r\nMessage: {message}\r\n\r\n"


def unknown(action: Fields) -> str:
    return error(action, "Invalid/unknown command")


def listed(action: Fields, *items: str, complete: str = "StatusComplete", count: int | None = None) -> str:
    """Answer with a list; an item is its header lines without ActionID."""
    action_id = f"ActionID: {action['ActionID']}\r\n"
    body = "".join(f"{item}{action_id}\r\n" for item in items)
    number = len(items) if count is None else count
    end = f"Event: {complete}\r\n{action_id}EventList: Complete\r\nListItems: {number}\r\n\r\n"
    return success(action, "EventList: start", "Message: will follow") + body + end


async def slowly(text: str, *, pause_s: float, most: int = 1_000) -> AsyncIterator[str]:
    """Say frame by frame with pauses, and after so many frames nothing any more."""
    for frame in text.split("\r\n\r\n")[:-1][:most]:
        yield f"{frame}\r\n\r\n"
        await asyncio.sleep(pause_s)
    while text.count("\r\n\r\n") > most:  # noqa: ASYNC110 - it waits for nothing, until it is cancelled
        await asyncio.sleep(pause_s)


class ScriptedAmi:
    """Answers Login and Ping by itself; everything else by `answers[action]`, which may return None to keep silent, or
    what is said bit by bit: as with Asterisk's thread for a session, one thing comes after the other.
    """

    def __init__(self) -> None:
        self.port = 0
        self.got: list[Fields] = []
        self.answers: dict[str, Answer] = {"Login": success, "Ping": lambda a: success(a, "Ping: Pong")}
        self.banner = b"Asterisk Call Manager/11.0.0\r\n"
        self.logins = 0
        self.opened: list[asyncio.StreamWriter] = []
        self.writers: list[asyncio.StreamWriter] = []
        """Of those who want events."""
        self.logged_in = asyncio.Event()

    def actions(self, name: str) -> list[Fields]:
        return [action for action in self.got if action["Action"] == name]

    def say(self, data: bytes | str) -> None:
        self.writers[-1].write(data.encode("latin-1") if isinstance(data, str) else data)

    def event(self, name: str, **headers: str) -> None:
        self.say("\r\n".join([f"Event: {name}", *(f"{key}: {value}" for key, value in headers.items())]) + "\r\n\r\n")

    def cut(self) -> None:
        self.logged_in.clear()
        self.writers[-1].transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened.append(writer)
        writer.write(self.banner)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip()
                action = dict(line.split(": ", 1) for line in frame.split("\r\n"))
                self.got.append(action)
                answer = self.answers.get(action["Action"], unknown)(action)
                if isinstance(answer, str):
                    writer.write(answer.encode("latin-1"))
                elif answer is not None:  # what comes slowly holds up what was asked behind it
                    async for part in answer:
                        writer.write(part.encode("latin-1"))
                if action["Action"] == "Login" and action["Events"] == "on":
                    self.writers.append(writer)
                    self.logins += 1
                    self.logged_in.set()
        writer.close()


@asynccontextmanager
async def scripted_ami() -> AsyncIterator[ScriptedAmi]:
    ami = ScriptedAmi()
    server = await asyncio.start_server(ami.serve, "127.0.0.1", 0)
    ami.port = server.sockets[0].getsockname()[1]
    try:
        yield ami
    finally:
        server.close()
        for writer in ami.opened:
            writer.transport.abort()


async def until(true: Callable[[], object], *, within_s: float = 3.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for has no event to tell it by
            await asyncio.sleep(0.005)
