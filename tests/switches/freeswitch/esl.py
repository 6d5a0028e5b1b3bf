"""The tests' own ears and mouth on the Event Socket: what FreeSWITCH says to a client that filters nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

LISTED_TRIES = 4
"""FreeSWITCH lists its tasks from a table that it writes some tenths of a second later."""
HEARD = "CHANNEL_EXECUTE CHANNEL_ANSWER CHANNEL_HANGUP_COMPLETE"
WAITS = frozenset({"socket", "park"})
"""What an offer waits in: the one where it asks for itself, the other where nobody answers that."""


@dataclass(slots=True)
class Observer:
    """What one client hears, in order."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    heard: list[dict[str, Any]] = field(default_factory=list)
    _answers: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of this name."""
        return [event for event in self.heard if event["Event-Name"] == name]

    def offers(self) -> int:
        """Return how many offers to a controller were heard."""
        executed = (event for event in self.events("CHANNEL_EXECUTE") if event.get("Application") in WAITS)
        return len({event.get("variable_callctl_key") for event in executed})

    def ends(self, key: str) -> int:
        """Return how many channels of a call were heard to end."""
        ended = self.events("CHANNEL_HANGUP_COMPLETE")
        return sum(key in {event.get("Unique-ID"), event.get("variable_callctl_leg")} for event in ended)

    async def ask(self, command: str) -> str:
        """Send a command and return its answer."""
        async with self._asking, asyncio.timeout(10):
            self.writer.write(f"{command}\n\n".encode())
            await self.writer.drain()
            return await self._answers.get()

    async def notes(self) -> dict[str, list[str]]:
        """Return the switch's notes of answered legs that have not ended: the call's key and the note's parts."""
        notes = {}
        for line in (await self.ask("api hash_dump db callctl")).splitlines():
            _, _, rest = line.partition("D/callctl_leg_")
            key, _, text = rest.partition("/")
            if key and "|ended|" not in text and len(text.split("|")) == 7:
                notes[key] = text.split("|")
        return notes

    async def limits(self, account_code: str) -> dict[str, float]:
        """Return the seconds to the first deadline of each leg an account pays, by the number dialled; 0: none."""
        for _ in range(LISTED_TRIES):
            limits = await self._listed_limits(account_code)
            if all(limits.values()):
                break
            await asyncio.sleep(0.1)
        return limits

    async def _listed_limits(self, account_code: str) -> dict[str, float]:
        notes = await self.notes()
        rows = json.loads(await self.ask("api show tasks as json")).get("rows", [])
        limits = {}
        for leg, _, account, _, callee, *_ in notes.values():
            ends = [int(row["task_runtime"]) for row in rows if row["task_group"].partition("~")[0] == leg]
            if account == account_code:
                limits[callee] = min(ends, default=0.0) and min(ends) - time.time()  # noqa: TID251 - the switch's clock
        return limits

    async def legs(self, key: str) -> list[str]:
        """Return the leg of a call, where that is not the channel it was offered on."""
        return [note[0] for known, note in (await self.notes()).items() if known == key and note[0] != key]

    async def until_silent(self, timeout_s: float = 10) -> None:
        """Wait until FreeSWITCH has no channel."""
        async with asyncio.timeout(timeout_s):
            while not (await self.ask("api show channels count")).strip().startswith("0 total"):  # noqa: ASYNC110 - asked
                await asyncio.sleep(0.05)

    async def hang_up_all(self) -> None:
        """End every channel."""
        await self.ask("api hupall")

    async def listen(self) -> None:
        """Take in what comes, until the link ends."""
        while True:
            head, body = await self._message()
            kind = head.get("Content-Type")
            if kind == "text/event-json":
                self.heard.append(json.loads(body))
            elif kind in {"api/response", "command/reply"}:
                self._answers.put_nowait(body or head.get("Reply-Text", ""))

    async def _message(self) -> tuple[dict[str, str], str]:
        head = {}
        while line := (await self.reader.readline()).decode(errors="replace").rstrip("\n"):
            name, _, text = line.partition(": ")
            head[name] = text
        if self.reader.at_eof():
            raise EOFError
        body = await self.reader.readexactly(int(head.get("Content-Length", 0)))
        return head, body.decode(errors="replace")


@asynccontextmanager
async def observing(port: int, password: str) -> AsyncIterator[Observer]:
    """Log in and listen."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    observer = Observer(reader, writer)
    listening = asyncio.create_task(observer.listen())
    try:
        answer = await observer.ask(f"auth {password}")
        if not answer.startswith("+OK"):
            raise AssertionError(f"the Event Socket refused the password: {answer}")
        await observer.ask(f"event json {HEARD}")
        yield observer
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        writer.close()
