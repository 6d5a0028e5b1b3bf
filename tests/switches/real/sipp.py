"""SIPp runs: bounded, with every message kept, and read back as what was said and when."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_MESSAGE = re.compile(
    r"^-{20,} (\d{4}-\d\d-\d\d)\s+(\d\d:\d\d:\d\d\.\d+)\n\w+ message (sent|received).*?\n\n(.*?)(?=^-{20,} \d{4}-|\Z)",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Message:
    """A SIP message as SIPp saw it; `at` by this machine's clock."""

    at: datetime
    sent: bool
    text: str

    @property
    def first_line(self) -> str:
        """Return the request or status line."""
        return self.text.split("\n", 1)[0].strip()

    @property
    def status(self) -> int | None:
        """Return the status of a response."""
        return int(self.first_line.split()[1]) if self.first_line.startswith("SIP/2.0 ") else None

    @property
    def method(self) -> str:
        """Return the method of a request, "" for a response."""
        return "" if self.status is not None else self.first_line.split(" ", 1)[0]

    def header(self, name: str) -> str:
        """Return the first header of this name, "" without one."""
        found = re.search(rf"^{name}:[ \t]*(.*?)\s*$", self.text, re.MULTILINE | re.IGNORECASE)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Dialog:
    """The messages of one Call-ID, in order."""

    call_id: str
    messages: tuple[Message, ...]

    @property
    def final(self) -> int | None:
        """Return the final status of the INVITE."""
        for one in self.messages:
            if one.status is not None and one.status >= 200 and one.header("CSeq").endswith("INVITE"):
                return one.status
        return None

    @property
    def cause(self) -> int | None:
        """Return the Q.850 cause of the Reason header of the refusal or of the BYE."""
        for one in self.messages:
            found = re.search(r"cause=(\d+)", one.header("Reason"))
            if found:
                return int(found[1])
        return None

    def first(self, what: str | int, *, sent: bool | None = None) -> Message | None:
        """Return the first request of this method or response (to an INVITE) of this status."""
        for one in self.messages:
            if sent is not None and one.sent != sent:
                continue
            if one.method == what or (one.status == what and one.header("CSeq").endswith("INVITE")):
                return one
        return None

    @property
    def talk_s(self) -> float:
        """Return the seconds from the 200 to the BYE."""
        answer, bye = self.first(200), self.first("BYE")
        if answer is None or bye is None:
            raise AssertionError(f"the call was not answered and ended by a BYE:\n{self.story()}")
        return (bye.at - answer.at).total_seconds()

    @property
    def bye_sent(self) -> bool:
        """Return whether SIPp's own side ended the call."""
        bye = self.first("BYE")
        return bye is not None and bye.sent

    def story(self) -> str:
        """Return one line a message, for a failure's report."""
        return "\n".join(f"{one.at:%H:%M:%S.%f} {'→' if one.sent else '←'} {one.first_line}" for one in self.messages)


@dataclass(frozen=True, slots=True)
class SippRun:
    """What a run of SIPp did."""

    exit_status: int | None
    dialogs: tuple[Dialog, ...]
    errors: str
    answer_ms: tuple[float, ...] = ()
    """INVITE to 200 of each call, where messages are not kept."""

    @property
    def only(self) -> Dialog:
        """Return the one dialog of a run of one call."""
        if len(self.dialogs) != 1:
            raise AssertionError(f"{len(self.dialogs)} dialogs, SIPp said: {self.errors}")
        return self.dialogs[0]


class Sipp:
    """SIPp processes of one test, their files in one folder."""

    def __init__(self, folder: Path, *, messages: bool = True) -> None:
        self.folder = folder
        self.messages = messages
        self.runs = 0
        folder.mkdir(parents=True, exist_ok=True)

    async def call(
        self,
        scenario: str,
        *,
        local: tuple[str, int],
        remote: tuple[str, int],
        calls: int = 1,
        rate: int = 50,
        limit_s: float = 60.0,
    ) -> SippRun:
        """Run a caller's scenario to its end."""
        options = ["-m", str(calls), "-r", str(rate), "-l", str(calls)]
        base, process = await self._start("caller", scenario, local, options, remote)
        try:
            await asyncio.wait_for(process.wait(), limit_s)
        except TimeoutError:
            pass  # what was said until then is told; SIPp by itself waits for its calls to end
        finally:
            await _end(process)
        return _read(base, process.returncode)

    @asynccontextmanager
    async def carrier(self, scenario: str, *, local: tuple[str, int]) -> AsyncIterator[CarrierRun]:
        """Have a carrier listen."""
        base, process = await self._start("carrier", scenario, local, ["-timeout", "1200s"], None)
        try:
            await _until_bound(process, base, local)
            yield CarrierRun(base, process.pid)
        finally:
            await _end(process)

    async def _start(
        self, name: str, scenario: str, local: tuple[str, int], options: list[str], remote: tuple[str, int] | None
    ) -> tuple[Path, asyncio.subprocess.Process]:
        program = shutil.which("sipp")
        if program is None:
            raise RuntimeError("SIPp is not on PATH; on Debian: apt-get install sip-tester")
        self.runs += 1
        base = self.folder / f"{self.runs:02d}-{name}"
        base.with_suffix(".xml").write_text(scenario)
        command = [program, "-sf", str(base.with_suffix(".xml")), "-i", local[0], "-p", str(local[1]), "-nostdin"]
        command += ["-trace_err", "-error_file", f"{base}.errors"]
        command += (
            ["-trace_msg", "-message_file", f"{base}.messages"] if self.messages else ["-trace_rtt", "-rtt_freq", "20"]
        )
        command += ["-skip_rlimit", "-recv_timeout", "200000", *options]
        if remote is not None:
            command.append(f"{remote[0]}:{remote[1]}")
        with Path(f"{base}.screen").open("wb") as screen:  # noqa: ASYNC230 - made at once
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=screen, stderr=screen, cwd=self.folder
            )
        return base, process


@dataclass(frozen=True, slots=True)
class CarrierRun:
    """A carrier that listens; its dialogs can be read at any time."""

    base: Path
    pid: int

    def dialogs(self, called: str = "") -> tuple[Dialog, ...]:
        """Return the dialogs so far whose INVITE went to this number."""
        every = _read(self.base, 0).dialogs
        return tuple(one for one in every if not called or f"sip:{called}@" in one.messages[0].first_line)


async def _until_bound(process: asyncio.subprocess.Process, base: Path, local: tuple[str, int]) -> None:
    for _ in range(200):
        if process.returncode is not None:
            break
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(local)
            except OSError:
                return
        await asyncio.sleep(0.02)
    raise RuntimeError(f"SIPp does not listen on {local}: {_text(Path(f'{base}.errors'))}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _read(base: Path, exit_status: int | None) -> SippRun:
    text = _text(Path(f"{base}.messages"))
    dialogs: dict[str, list[Message]] = {}
    for day, moment, how, body in _MESSAGE.findall(text):
        # SIPp writes local time; the tests run it with TZ=UTC's clock of this machine.
        at = datetime.fromisoformat(f"{day} {moment[:15]}").astimezone(UTC)
        message = Message(at, how == "sent", body.replace("\r", ""))
        dialogs.setdefault(message.header("Call-ID"), []).append(message)
    errors = _text(Path(f"{base}.errors")) + _text(Path(f"{base}.screen"))[-2000:] * (not dialogs)
    told = tuple(Dialog(name, tuple(messages)) for name, messages in dialogs.items())
    times = [line.split(";") for path in base.parent.glob(f"{base.name}_*_rtt.csv") for line in _text(path).split("\n")]
    return SippRun(exit_status, told, errors, tuple(float(row[1]) for row in times if row[0][:1].isdigit()))


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace").replace("\r\n", "\n") if path.exists() else ""
