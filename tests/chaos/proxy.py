"""A line that can be broken: passes bytes between a port of ours and a server; stalls, or cuts, when told to."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Self

CHUNK = 65_536


class Line:
    """`to` is (host, port), or the path of a Unix socket. `port` is where clients come in."""

    def __init__(self, name: str, to: tuple[str, int] | Path) -> None:
        self.name, self._to = name, to
        self.port = 0
        self.passed_bytes = 0
        self._open = asyncio.Event()
        self._open.set()
        self._cut = False
        self._server: asyncio.Server | None = None
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        """Listen on a port of our own."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Cut it for good."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def stall(self) -> None:
        """Let no byte through; nobody is told."""
        self._open.clear()

    def cut(self) -> None:
        """Reset every connection, and every new one."""
        self._cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """All is well again; what was stalled arrives."""
        self._cut = False
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            if self._cut:
                return
            if isinstance(self._to, Path):
                back, there = await asyncio.open_unix_connection(str(self._to))
            else:
                back, there = await asyncio.open_connection(*self._to)
            self._writers.add(there)
            pumps = [asyncio.create_task(self._pump(reader, there)), asyncio.create_task(self._pump(back, writer))]
            self._pumps.update(pumps)
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pumps.difference_update(pumps)
        except OSError:
            pass  # nobody listens there now
        finally:
            for one in (writer, there):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._open.wait()
                self.passed_bytes += len(data)
                writer.write(data)
                await writer.drain()
