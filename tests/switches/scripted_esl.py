"""A tiny ESL server for tests: it answers what the test has scripted and says whatever bytes it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answer = Callable[[str], "str | None"]
AUTH = b"Content-Type: auth/request\n\n"


def frame(kind: str, body: str = "", **headers: str) -> bytes:
    """Return a frame; `body` gives it a Content-Length."""
    data = body.encode()
    lines = [f"Content-Type: {kind}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if data:
        lines.append(f"Content-Length: {len(data)}")
    return "\n".join(lines).encode() + b"\n\n" + data


def event(name: str, **headers: object) -> bytes:
    """Return an event in JSON."""
    fields = {"Event-Name": name, **{key.replace("__", "-"): value for key, value in headers.items()}}
    return frame("text/event-json", json.dumps(fields))


class ScriptedEsl:
    """Answers auth, filter, event and the time by itself; every other `api` by `answers[first word]`, None: silence."""

    def __init__(self) -> None:
        self.port = 0
        self.got: list[str] = []
        self.answers: dict[str, Answer] = {
            "strmicroepoch": lambda _: "1795000000000000",
            "echo": lambda rest: rest.partition(" ")[2],
            "hash": lambda _: "+OK\n",
            "hash_dump": lambda _: "D/callctl_alive/yes\n",
            "show": lambda _: '{"row_count": 0}\n',
        }
        self.password = "s3cret"
        self.greeting = AUTH
        self.nudges = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.ready = asyncio.Event()

    def asked(self, word: str) -> list[str]:
        """Return the api commands that begin so, in order."""
        return [command.removeprefix("api ") for command in self.got if command.startswith(f"api {word}")]

    def say(self, data: bytes) -> None:
        self.writers[-1].write(data)

    def cut(self) -> None:
        self.ready.clear()
        self.writers[-1].transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What is said goes to the last: not to a connection made for a list beside the one that wants events.
        self.writers.insert(-1 if self.ready.is_set() else len(self.writers), writer)
        writer.write(self.greeting)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                line = (await reader.readuntil(b"\n")).decode().rstrip("\n")
                if not line:
                    self.nudges += 1
                    continue
                assert await reader.readuntil(b"\n") == b"\n"
                self.got.append(line)
                if line.startswith("event"):
                    self.writers.sort(key=lambda one: one is writer)
                answer = self.answered(line)
                if answer is not None:
                    writer.write(answer)
        writer.close()

    def answered(self, line: str) -> bytes | None:
        word, _, rest = line.partition(" ")
        match word:
            case "auth":
                good = rest == self.password
                return frame("command/reply", Reply_Text="+OK accepted" if good else "-ERR invalid")
            case "filter" | "event":
                if word == "event":
                    self.ready.set()
                return frame("command/reply", Reply_Text="+OK")
            case "api":
                name = rest.partition(" ")[0]
                answer = self.answers.get(name)
                text = answer(rest) if answer else f"-ERR {name} Command not found!\n"
                return None if text is None else frame("api/response", text)
        return frame("command/reply", Reply_Text="-ERR command not found")


@asynccontextmanager
async def scripted_esl() -> AsyncIterator[ScriptedEsl]:
    esl = ScriptedEsl()
    server = await asyncio.start_server(esl.serve, "127.0.0.1", 0)
    esl.port = server.sockets[0].getsockname()[1]
    try:
        yield esl
    finally:
        server.close()
        for writer in esl.writers:
            writer.transport.abort()
