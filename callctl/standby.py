"""One of several controllers leads; the others wait to take over. Who starts second waits, without being told to.

Only the leader connects to the switches. When its lease is not renewed in time the next one takes it, adopts what
lives, and settles what ended. One that was frozen finds out before it says a word, stops, and waits in its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import structlog

from billing.credit.lease import Lease
from billing.errors import CreditUnavailable
from callctl.controller import Controller, end_tasks
from callctl.journal import JournalBroken
from callctl.leftovers import Leftovers
from callctl.owed import Owed

log = structlog.get_logger(__name__)

SEEK_S = 0.5
"""How often the lease is asked for, by who has it and by who wants it."""
CLOSE_S = 2.0
"""How long the journal may take to be closed before we lead without what is still in it."""


def name_of_this_process() -> str:
    """Return what a token begins with: the host, the process, and in which world its number means something."""
    return f"{socket.gethostname()}-{os.getpid()}-{_world()}"


def _world() -> str:
    """Return what all processes that see the same process numbers share; "" where that cannot be known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        world = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
    return hashlib.sha256(world.encode()).hexdigest()[:12]


def is_dead(token: str) -> bool:
    """Return whether the process of a token is known to be gone: one of this machine, whose number nobody has."""
    parts = token.rsplit("-", 3)
    if len(parts) != 4 or not parts[1].isdecimal() or not parts[2] or parts[2] != _world():  # noqa: PLR2004
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


async def to_the_end(work: Coroutine[None, None, None]) -> None:
    """Carry work out whatever is cancelled meanwhile; the cancellation takes effect afterwards.

    A controller that is told to end while it stops would leave its loops running, and one of them may not end any more.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


class Standby:
    """`make` makes a controller that acts while `lease.leads()`; `controller` is there while we lead.

    `leftovers` are settled while we wait.
    """

    def __init__(self, lease: Lease, make: Callable[[], Controller], leftovers: Leftovers) -> None:
        self.lease, self._make, self._leftovers = lease, make, leftovers
        self.controller: Controller | None = None
        self._task: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._first = asyncio.Event()
        self._waits = self._stopping = False

    @property
    def settling(self) -> bool:
        """Return whether our journal is still looked through, while we wait."""
        return self._settling is not None and not self._settling.done()

    async def start(self) -> None:
        """Begin to seek; return when it is known for the first time whether we lead or wait."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="standby")
        waiting = asyncio.get_running_loop().create_task(self._first.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Stop leading or waiting; who waits need not wait any longer."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        await self._leave_journal()
        if self._waits or not self.lease.taken:
            # Or the leader would be careful for ten minutes, for fear that we take over.
            with contextlib.suppress(CreditUnavailable):
                await self.lease.leave()

    async def _run(self) -> None:
        while not self._stopping:  # a client of Redis may take a cancellation for its own time-out, and swallow it
            try:
                leads = await self.lease.seek()
            except CreditUnavailable as error:
                if not self._waits:
                    log.warning("lease_not_answered", error=str(error))
            else:
                if not leads and is_dead(self.lease.holder):
                    # Its supervisor started us in its place: nobody has to wait for a lease that nobody has.
                    with contextlib.suppress(CreditUnavailable):
                        await self.lease.leave_for(self.lease.holder)
                        leads = await self.lease.seek()
                if self._stopping:
                    break
                if leads:
                    self._waits = False
                    await self._leave_journal()
                    await self._lead()
                elif not self._waits:
                    log.info("controller_waits", switches=self.lease.switches, leader=self.lease.holder)
                    self._settling = asyncio.get_running_loop().create_task(self._settle(), name="leftovers")
                self._waits = not leads
            self._first.set()
            if not self._stopping:
                await asyncio.sleep(SEEK_S)

    async def _lead(self) -> None:
        log.info("controller_leads", switches=self.lease.switches, token=self.lease.token)
        controller = self._make()
        keeping = asyncio.get_running_loop().create_task(self._keep())
        tasks = [keeping]
        try:
            await controller.start()
            self.controller = controller
            self._first.set()
            if not self._stopping:
                # Not awaited itself: a cancellation of ours would go to it, and could be swallowed there.
                await asyncio.wait({keeping})
                keeping.result()
                log.warning("leadership_lost", switches=self.lease.switches, leader=self.lease.holder)
                # To stop takes a while, and who leads now knows nothing of what we have not brought to SQL.
                self.lease.credit.runs.forget()  # or Redis, started again, would not be asked
                owed = Owed(controller.credit, controller.clock).keep_looking(controller.settler.not_settled)
                tasks.append(asyncio.get_running_loop().create_task(owed))
        except JournalBroken as error:
            log.error("journal_broken", error=str(error))  # noqa: TRY400 - the sentence says it all
            if not self._first.is_set():
                raise
        finally:
            self.controller = None
            await to_the_end(self._give_up(controller, tasks))

    async def _give_up(self, controller: Controller, tasks: Sequence[asyncio.Task[None]]) -> None:
        await controller.stop()
        await end_tasks(tasks)  # what it asks must not come after we have left
        self.lease.credit.runs.forget()
        with contextlib.suppress(CreditUnavailable):
            await self.lease.leave()

    async def _settle(self) -> None:
        try:
            await self._leftovers.settle()
        except Exception:
            # What it could not do is done by who leads next; waiting must go on.
            log.exception("leftovers_broken")

    async def _leave_journal(self) -> None:
        """Let go of the journal: the controller that leads opens it itself."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait({self._settling}, timeout=CLOSE_S)
            self._settling = None

    async def _keep(self) -> None:
        """Return when the lease is another's. A live store that is away does not end it."""
        while not self.lease.taken:
            await asyncio.sleep(SEEK_S)
            if self.lease.taken:
                return  # to take it again is for the next term: this controller does not know what happened meanwhile
            with contextlib.suppress(CreditUnavailable):
                await self.lease.seek()
