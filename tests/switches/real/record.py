"""Records transcripts from a real switch: python -m tests.switches.real.record freeswitch|asterisk [call]."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from billing.ports import SystemClock, SystemIds
from callctl.switches.base import LinkUp
from tests.switches.asterisk.lab import AsteriskLab
from tests.switches.freeswitch.lab import FreeswitchLab
from tests.switches.labs import Told
from tests.switches.real.lab import DETOUR, REPOSITORY, Lab, free_port
from tests.switches.real.scenarios import Carrier, answerer, caller, number
from tests.switches.real.sipp import Sipp
from tests.switches.real.ua import Telephone
from tests.switches.test_transcripts import adapter
from tests.switches.transcript import DRIVES, FOLDER, FRAMES, Line, save

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "caller-hangs-up": (number("49", Carrier.ANSWERS), {"hold_ms": 700}),
    "callee-hangs-up": (number("49", Carrier.HANGS_UP, tenths=5), {}),
    "busy": (number("49", Carrier.BUSY), {}),
    "cancelled": (number("49", Carrier.RINGS_FOR_EVER), {"cancel_ms": 300}),
    "limit": (number("49", Carrier.ANSWERS), {}),
    "refused": (number("49", Carrier.ANSWERS), {}),
    "transfer": (
        number("49", Carrier.ANSWERS),
        {"refer_to": number("44", Carrier.HANGS_UP, tenths=10), "refer_ms": 600},
    ),
    "detour": (DETOUR + number("49", Carrier.ANSWERS), {"hold_ms": 700}),
}
JOINED = "joined"
"""A telephone joins its two calls; that is not in SIPp's power."""


class Recorder:
    """A wire between adapter and switch that keeps every frame."""

    def __init__(self, kind: str, target: int) -> None:
        self.kind, self.target = kind, target
        self.lines: list[Line] = []
        self.port = 0
        self._begun = time.monotonic()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry both ways until either side ends."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        if not self.lines:
            self._begun = time.monotonic()
        await asyncio.gather(
            self._carry(reader, far_writer, by_switch=False), self._carry(far_reader, writer, by_switch=True)
        )

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, by_switch: bool) -> None:
        heard = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                heard += data
                ms = int((time.monotonic() - self._begun) * 1000)
                # Kept before it is passed on: no answer can stand before its command.
                self.lines += [Line(by_switch, ms, text) for text in FRAMES[self.kind](heard, by_switch=by_switch)]
                target.write(data)
        target.close()


def scrubbed(line: Line, lab: Lab) -> Line:
    """Return the line without this machine's names and folders."""
    text = line.text
    for own, name in ((str(lab.folder), "/lab"), (str(REPOSITORY), "/callctl"), (socket.gethostname(), "switch")):
        text = text.replace(own, name)
    head, end, body = text.partition("\n\n")
    if line.by_switch and "Content-Length" in head:
        text = re.sub(r"(?m)^Content-Length: \d+", f"Content-Length: {len(body.encode())}", head) + end + body
    return Line(line.by_switch, line.ms, text)


async def _call(lab: Lab, sipp: Sipp, name: str) -> None:
    called, how = CALLS[name]
    host = lab.endpoint(0).host
    local = (host, free_port(socket.SOCK_DGRAM, host))
    await sipp.call(caller(called, **how), local=local, remote=lab.sip, limit_s=15)


async def _join_two(lab: Lab) -> None:
    """Call one, half a second later another who talks 1.5 s, and leave them to each other."""
    telephone = await Telephone((lab.endpoint(0).host, 5060), lab.sip).open()
    try:
        first = await telephone.call(number("49", Carrier.ANSWERS))
        await asyncio.sleep(0.5)
        await telephone.attended_transfer(first, await telephone.call(number("49", Carrier.HANGS_UP, tenths=15)))
        await asyncio.sleep(2)
    finally:
        telephone.close()


async def record(kind: str, lab: Lab, name: str, sipp: Sipp) -> None:
    """Record one call."""
    recorder = Recorder(kind, lab.control_port)
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    switch, told = adapter(kind, port, lab.login, clock=SystemClock(), ids=SystemIds()), Told()
    await switch.start(told)
    await told.wait(LinkUp)
    calling = asyncio.create_task(_join_two(lab) if name == JOINED else _call(lab, sipp, name))
    await DRIVES[name](switch, told)
    await calling
    for event in told.events:
        print(name, event)  # noqa: T201 - whoever records looks at what was told
    await switch.stop()
    server.close()
    save(FOLDER / kind / f"{name}.jsonl", [scrubbed(line, lab) for line in recorder.lines])


async def main(kind: str, only: str = "") -> None:
    """Record every call that is replayed, or one."""
    with tempfile.TemporaryDirectory(prefix="callctl-record-") as folder:
        lab: Lab = AsteriskLab(Path(folder)) if kind == "asterisk" else FreeswitchLab(Path(folder))
        lab.start()
        try:
            sipp = Sipp(lab.folder / "sipp")
            async with sipp.carrier(answerer(lab.trunk), local=(lab.carrier_host, 5060)):
                for name in [only] if only else [*CALLS, JOINED]:
                    await record(kind, lab, name, sipp)
        finally:
            lab.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
