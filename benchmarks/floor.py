"""The least that asking before routing can cost: a switch that stops each call, and is told to go on, no more.

The dialplan has a call wait: on Asterisk in `AGI(agi:async)`, and a client over AMI sends it on at once; on FreeSWITCH
in `socket`, where it is asked for one variable and let go. No account, no money, no variable, no deadline, no note:
what a controller costs above this is what it does; what is below it, no controller of this kind can save.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from callctl.switches.freeswitch_asks import BACKLOG, FIRST
from tests.switches.real.lab import Lab

AMI_WAITS = b"Event: AsyncAGIStart\r\n"
AMI_CHANNEL = re.compile(rb"\r\nUniqueid: ([0-9.]+)\r\n")
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
    async def asked(calls: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        answers.write(FIRST)
        await calls.readuntil(b"\n\n")
        answers.close()

    async with await asyncio.start_server(asked, "127.0.0.1", backlog=BACKLOG) as server:
        port = server.sockets[0].getsockname()[1]
        writer.write(f"auth {lab.login.secret}\n\napi global_setvar floor_at=127.0.0.1:{port}\n\n".encode())
        while await reader.read(MOST_FRAME):
            pass
