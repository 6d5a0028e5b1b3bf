"""What a simulated switch says to a client: in order, a long list some rows at a time, as fast as the client reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from callctl.simulator.faults import Faults

WRITE_S = 5.0
"""Who takes nothing for so long is cut off."""
AT_A_TIME = 100
"""Rows of a list that are written in one go."""


class Line(Protocol):
    """The server that a session belongs to."""

    loop: asyncio.AbstractEventLoop
    faults: Faults
    silent: bool
    write_s: float


class Teller(asyncio.Protocol):
    """The writing half of a session."""

    def __init__(self, line: Line) -> None:
        self.transport: asyncio.Transport | None = None
        self._line = line
        self._out: list[bytes] = []
        self._told: Iterator[bytes] | None = None
        self._most: int | None = None
        self._afterwards: list[bytes] = []
        self._full = False
        self._written = self._taken = 0
        self._patience: asyncio.TimerHandle | None = None

    @property
    def telling(self) -> bool:
        """Whether a list is being told, which everything else waits for."""
        return self._told is not None

    def lost(self) -> None:
        """Say no more: nobody is there."""
        self.transport = self._told = None
        if self._patience is not None:
            self._patience.cancel()

    def close(self, *, abruptly: bool = False) -> None:
        """Say no more; let what is queued leave first unless `abruptly`."""
        if self.transport is None:
            return
        if abruptly:
            self._out.clear()
            self.transport.abort()
        else:
            self._flush()
            self.transport.close()

    # --- words

    def write(self, text: str) -> None:
        """Queue text; everything queued in one turn of the loop leaves in one write."""
        self.write_bytes(text.encode("utf-8", "surrogateescape"))

    def write_bytes(self, data: bytes) -> None:
        """Queue bytes as they are, behind a list that is being told."""
        if self._told is not None:
            self._afterwards.append(data)
        else:
            self._put(data)

    def tell(self, parts: Iterator[bytes]) -> None:
        """Write what may be long a few parts at a time; everything else on this session comes after it."""
        self._told, self._most = parts, self._line.faults.list_most
        self._tell_on()

    def go_on(self) -> None:
        """Write what waited."""
        self._flush()
        self._tell_on()

    def _tell_on(self) -> None:
        if self._told is None or self._full or self._line.silent or self.transport is None:
            return
        pause_s = self._line.faults.list_pause_s
        wanted = 1 if pause_s else AT_A_TIME
        parts = list(islice(self._told, wanted if self._most is None else min(wanted, self._most)))
        if parts:
            self._put(b"".join(parts))
        if self._most is not None:
            self._most -= len(parts)
            if self._most <= 0:
                return
        if len(parts) == wanted:
            self._line.loop.call_later(pause_s, self._tell_on)
            return
        self._told = None
        afterwards, self._afterwards = self._afterwards, []
        for data in afterwards:
            self._put(data)
        self._line.loop.call_soon(self.data_received, b"")  # what was asked meanwhile

    def _put(self, data: bytes) -> None:
        if not self._out:
            self._line.loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._line.silent:
            return
        out, self._out = self._out, []
        if self.transport is None:
            return
        data = b"".join(out)
        self._written += len(data)
        self.transport.write(data)

    # --- a slow reader

    def pause_writing(self) -> None:
        """Wait for a client that reads more slowly than it is told, but not for one that has stopped."""
        self._full = True
        self._taken = self._read_so_far()
        self._patience = self._line.loop.call_later(self._line.write_s, self._look_at_reader)

    def resume_writing(self) -> None:
        """Go on."""
        self._full = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._tell_on()

    def _read_so_far(self) -> int:
        return self._written - (self.transport.get_write_buffer_size() if self.transport else 0)

    def _look_at_reader(self) -> None:
        taken = self._read_so_far()
        if taken == self._taken:
            self.close(abruptly=True)
            return
        self._taken = taken
        self._patience = self._line.loop.call_later(self._line.write_s, self._look_at_reader)
