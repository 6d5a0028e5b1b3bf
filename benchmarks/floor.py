"""The least that asking before routing can cost: a switch that stops each call, and is told to go on, no more.

The dialplan has a call wait (`AGI(agi:async)`, `park`), and a client over AMI or the Event Socket sends it on at once.
No account, no money, no variable, no deadline, no note: what a controller costs above this is what it does; what is
below it, no controller of this kind can save.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.switches.real.lab import Lab

AMI_WAITS = b"Event: AsyncAGIStart\r\n"
AMI_CHANNEL = re.compile(rb"\r\nUniqueid: ([0-9.]+)\r\n")
ESL_CHANNEL = re.compile(rb'"Unique-ID":"([0-9a-f-]{36})"')
ESL_LENGTH = re.compile(rb"Content-Length: ([0-9]+)\n")
MOST_FRAME = 1 << 20


@asynccontextmanager
async def sending_on(kind: str, lab: Lab) -> AsyncIterator[None]:
    """Send every call on that waits, for as long as the context lasts."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lab.control_port, limit=MOST_FRAME)
    client = _over_ami if kind == "asterisk" else _over_esl
    task = asyncio.create_task(client(lab, reader, writer))
    try:
        await asyncio.sleep(0.2)  # logged in
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        writer.close()
        await asyncio.gather(task, return_exceptions=True)


async def _over_ami(lab: Lab, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    login = f"Action: Login\r\nUsername: {lab.login.username}\r\nSecret: {lab.login.secret}\r\nEvents: on\r\n\r\n"
    await reader.readline()
    writer.write(login.encode())
    while True:
        frame = await reader.readuntil(b"\r\n\r\n")
        channel = AMI_CHANNEL.search(frame)
        if frame.startswith(AMI_WAITS) and channel:
            where = b"Context: floor-dial\r\nExten: go\r\nPriority: 1\r\n\r\n"
            writer.write(b"Action: Redirect\r\nChannel: " + channel[1] + b"\r\n" + where)


async def _over_esl(lab: Lab, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(f"auth {lab.login.secret}\n\nevent json CHANNEL_PARK\n\n".encode())
    while True:
        head = await reader.readuntil(b"\n\n")
        length = ESL_LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        channel = ESL_CHANNEL.search(body)
        if b"text/event-json" in head and channel:
            writer.write(b"api uuid_transfer " + channel[1] + b" go XML floor-dial\n\n")
