"""What a real switch and the adapter said to each other, in frames, and a server that says the switch's part again.

A line is JSON: `from` (switch or controller), `ms` since the connection, `text` of one frame. A command is answered as
it was recorded; an event is said once the controller has given every order that it had given before it then.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from callctl.switches.base import CallEnded, CallOffered, LinkUp, Refusal, Switch
from tests.switches.labs import Told

FOLDER = Path(__file__).parents[1] / "data" / "transcripts"
_ASKS = re.compile(
    r"auth |exit\b|api (strmicroepoch|echo|show|hash_dump|hash select|uuid_exists|status|version)|"
    r"Action: (Ping|Status|CoreShowChannels|DBGet|GetVar|Command|CoreStatus|CoreSettings)\b",
    re.IGNORECASE,
)
_APART = re.compile(r"^Events: off", re.MULTILINE)
_ANSWER = re.compile(r"Content-Type: (api/response|command/reply)\n")
_ACTION_ID = re.compile(r"^ActionID: ([^\r\n]*)", re.MULTILINE)
_CHANGES = re.compile(r"\d{10,}|\+\d+|^ActionID: [^\r\n]*\r\n", re.MULTILINE)
"""Of a command: times and numbers that are not the same twice."""


@dataclass(frozen=True, slots=True)
class Line:
    """One frame."""

    by_switch: bool
    ms: int
    text: str


def load(path: Path) -> list[Line]:
    """Read a transcript."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Line(row["from"] == "switch", row["ms"], row["text"]) for row in rows]


def save(path: Path, lines: Iterable[Line]) -> None:
    """Write a transcript."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"from": "switch" if one.by_switch else "controller", "ms": one.ms, "text": one.text} for one in lines]
    path.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))


# ---- frames


def esl_frames(heard: bytearray, *, by_switch: bool) -> list[str]:
    """Take the complete frames off what was heard; the line feeds between commands say nothing."""
    frames: list[str] = []
    while True:
        while not by_switch and heard[:1] == b"\n":
            del heard[0]
        head, end, _ = bytes(heard).partition(b"\n\n")
        length = re.search(rb"^Content-Length: (\d+)$", head, re.MULTILINE) if by_switch else None
        size = len(head) + 2 + (int(length[1]) if length else 0)
        if not end or len(heard) < size:
            return frames
        frames.append(bytes(heard[:size]).decode())
        del heard[:size]


def ami_frames(heard: bytearray, *, by_switch: bool) -> list[str]:
    """Take the complete frames off what was heard; the greeting is one line."""
    frames: list[str] = []
    while True:
        end = b"\r\n" if by_switch and heard.startswith(b"Asterisk Call Manager") else b"\r\n\r\n"
        head, found, _ = bytes(heard).partition(end)
        if not found:
            return frames
        frames.append((head + found).decode())
        del heard[: len(head) + len(found)]


FRAMES = {"freeswitch": esl_frames, "asterisk": ami_frames}


# ---- the switch's part


@dataclass
class Tape:
    """Plays the switch of a transcript to one adapter."""

    kind: str
    lines: list[Line]
    port: int = 0
    unexpected: list[str] = field(default_factory=list)
    _greeting: str = ""
    _answers: dict[str, deque[list[str]]] = field(default_factory=dict)
    _events: list[tuple[int, str]] = field(default_factory=list)
    _orders: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        """Sort the switch's frames into the greeting, answers, and events with the number of orders before each."""
        waiting: deque[list[str]] = deque()
        numbered: dict[str, list[str]] = {}
        orders = 0
        for line in self.lines:
            if not line.by_switch:
                answer: list[str] = []
                self._answers.setdefault(_shape(line.text), deque()).append(answer)
                waiting.append(answer)
                numbered[_action_id(line.text)] = answer
                orders += _orders(line.text)
            elif self._greeting in {"", line.text}:
                self._greeting = line.text
            elif self.kind == "asterisk" and _action_id(line.text) in numbered:
                numbered[_action_id(line.text)].append(line.text)
            elif _ANSWER.match(line.text):
                waiting.popleft().append(line.text)
            elif "disconnect-notice" not in line.text[:80]:
                self._events.append((orders, line.text))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say the switch's part to one connection."""
        writer.write(self._greeting.encode())
        telling = asyncio.create_task(self._tell(writer))
        heard = bytearray()
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1 << 16):
                heard += chunk
                for command in FRAMES[self.kind](heard, by_switch=False):
                    writer.write(self._answer(command).encode())
                    async with self._news:
                        self._orders += _orders(command)
                        self._news.notify_all()
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        writer.close()

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        for orders, text in self._events:
            async with self._news:
                while self._orders < orders:
                    await self._news.wait()
            writer.write(text.encode())

    def _answer(self, command: str) -> str:
        known = self._answers.get(_shape(command))
        if not known:
            self.unexpected.append(command)
            return ""
        answer = known.popleft() if len(known) > 1 else known[0]
        return "".join(_ACTION_ID.sub(f"ActionID: {_action_id(command)}", text) for text in answer)


def _shape(command: str) -> str:
    """Return what is the same whenever a command is given. A list has a login of its own, which is answered as any."""
    return _CHANGES.sub("#", _APART.sub("Events: on", command))


def _orders(command: str) -> bool:
    """Whether a command changes something."""
    return not (_ASKS.search(command) or _APART.search(command))


def _action_id(text: str) -> str:
    found = _ACTION_ID.search(text)
    return found[1] if found else ""


@asynccontextmanager
async def played(kind: str, path: Path) -> AsyncIterator[Tape]:
    """Serve a transcript on a port."""
    tape = Tape(kind, load(path))
    server = await asyncio.start_server(tape.serve, "127.0.0.1", 0)
    tape.port = server.sockets[0].getsockname()[1]
    try:
        yield tape
    finally:
        server.close()


# ---- the controller's part, the same before the real switch and before its transcript


async def _first(switch: Switch, told: Told, grant_s: float | None) -> CallOffered:
    await told.wait(LinkUp)
    offer = await told.wait(CallOffered)
    await switch.admit(offer.call_id, grant_s=grant_s, ring_s=20)
    return offer


async def _admitted(switch: Switch, told: Told) -> None:
    offer = await _first(switch, told, 60.0)
    await told.wait(CallEnded, offer.call_id)


async def _limited(switch: Switch, told: Told) -> None:
    offer = await _first(switch, told, 1.5)
    await told.wait(CallEnded, offer.call_id)


async def _refused(switch: Switch, told: Told) -> None:
    await told.wait(LinkUp)
    offer = await told.wait(CallOffered)
    await switch.refuse(offer.call_id, Refusal("no_money", 402, 0))
    await told.wait(CallEnded, offer.call_id)


async def _transferred(switch: Switch, told: Told) -> None:
    first = await _first(switch, told, 60.0)
    second = await told.wait(CallOffered, count=2)
    await switch.admit(second.call_id, grant_s=60.0, ring_s=20)
    await told.wait(CallEnded, second.call_id)
    await told.wait(CallEnded, first.call_id)


async def _joined(switch: Switch, told: Told) -> None:
    first = await _first(switch, told, 60.0)
    second = await told.wait(CallOffered, count=2)
    await switch.admit(second.call_id, grant_s=60.0, ring_s=20)
    for offer in (second, first):
        await told.wait(CallEnded, offer.call_id)


DRIVES: dict[str, Callable[[Switch, Told], Awaitable[None]]] = {
    "caller-hangs-up": _admitted,
    "callee-hangs-up": _admitted,
    "busy": _admitted,
    "cancelled": _admitted,
    "limit": _limited,
    "refused": _refused,
    "transfer": _transferred,
    "joined": _joined,
    "detour": _admitted,
}
