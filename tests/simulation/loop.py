"""An event loop whose time is virtual and whose every choice comes from a seed.

Time jumps to the next timer. What is ready at the same moment runs in a drawn order. Work for threads runs in the loop
itself, at a drawn later moment. Whatever runs belongs to an owner (a controller, the panel, the world): an owner can be
killed, as by SIGKILL, and from then on not one more step of it runs, no `finally` either; or frozen, as by SIGSTOP, and
what it missed comes all at once when it is let go on.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
Job = Callable[[], Any]

WORLD = "world"
OWNER: contextvars.ContextVar[str] = contextvars.ContextVar("owner", default=WORLD)
"""Who a step belongs to; tasks and timers inherit it."""


MOST_STEPS = 200_000
"""Turns of the loop without the time moving on by a second: somebody runs in circles."""


class Stuck(Exception):
    """Nothing is scheduled any more, or time stands still: a wait that never ends."""


class _NoWaiting(selectors.BaseSelector):
    """Asks no kernel: moves the clock by the time it was told to wait."""

    def __init__(self, move: Callable[[float], None]) -> None:
        self._move = move
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._keys[fileobj] = key = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing is scheduled any more")
        if timeout > 0:
            self._move(timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`run_job` decides what becomes of work for a thread; `broken` collects what nobody caught."""

    def __init__(self, order: Random) -> None:
        self._now_s = 0.0
        self._turns, self._turns_since_s = 0, 0.0
        self._order = order
        self._dead: set[str] = set()
        self._frozen: dict[str, list[asyncio.Handle]] = {}
        """owner → the steps that were ready, and the timers that were set"""
        self._tasks: list[asyncio.Task[Any]] = []
        self.broken: list[str] = []
        self.run_job: Callable[[str, Executor | None, Job, asyncio.Future[Any]], None] = _run_at_once
        super().__init__(_NoWaiting(self._move))
        self.set_task_factory(self._make_task)  # type: ignore[arg-type] # typeshed leaves out what it is given
        self.set_exception_handler(self._caught)

    def time(self) -> float:
        return self._now_s

    def _move(self, by_s: float) -> None:
        self._now_s += by_s

    def _run_once(self) -> None:
        self._turns += 1
        if self._turns > MOST_STEPS:
            if self._now_s - self._turns_since_s < 1.0:
                raise Stuck("everybody runs in circles")
            self._turns, self._turns_since_s = 0, self._now_s
        ready: Any = self._ready  # type: ignore[attr-defined] # the loop's own queue of handles
        if len(ready) > 1 or self._dead or self._frozen:
            handles = [handle for handle in ready if not self._is_dead(handle._context) and not self._put_aside(handle)]
            self._order.shuffle(handles)
            ready.clear()
            ready.extend(handles)
        super()._run_once()  # type: ignore[misc] # private, and the one place where all steps pass

    def call_at(  # type: ignore[override] # the loop's own signature needs a newer Python to be written
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = super().call_at(when, callback, *args, context=context)
        if self._is_dead(timer._context):  # type: ignore[attr-defined]
            timer.cancel()
        return timer

    def run_in_executor(  # type: ignore[override] # likewise
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        self.run_job(OWNER.get(), executor, lambda: func(*args), future)
        return future

    def kill(self, owner: str) -> None:
        """End everything an owner does, between two steps."""
        self._dead.add(owner)
        self._frozen.pop(owner, None)
        for timer in list(self._scheduled):  # type: ignore[attr-defined]
            if self._is_dead(timer._context):
                timer.cancel()

    def freeze(self, owner: str) -> None:
        """Let an owner do nothing more, until it is thawed."""
        scheduled: Any = self._scheduled  # type: ignore[attr-defined] # the loop's own heap of timers
        aside = [timer for timer in scheduled if timer._context.get(OWNER, WORLD) == owner]
        self._frozen[owner] = list(aside)
        scheduled[:] = [timer for timer in scheduled if timer._context.get(OWNER, WORLD) != owner]
        heapq.heapify(scheduled)

    def thaw(self, owner: str) -> None:
        """Let a frozen owner go on: what it missed comes now."""
        for handle in self._frozen.pop(owner, ()):
            if isinstance(handle, asyncio.TimerHandle):
                heapq.heappush(self._scheduled, handle)  # type: ignore[attr-defined]
            else:
                self._ready.append(handle)  # type: ignore[attr-defined]

    def is_frozen(self, owner: str) -> bool:
        """Return whether an owner is frozen."""
        return owner in self._frozen

    def is_dead(self, owner: str) -> bool:
        """Return whether an owner was killed."""
        return owner in self._dead

    def later(self, delay_s: float, act: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Do something in the world's name, whoever asks for it."""
        return self.call_later(delay_s, act, *args, context=_WORLDS_CONTEXT)

    def forget(self) -> None:
        """Let go of what the dead left, without a word about it."""
        for task in self._tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def _is_dead(self, context: contextvars.Context | None) -> bool:
        return context is not None and context.get(OWNER, WORLD) in self._dead

    def _put_aside(self, handle: asyncio.Handle) -> bool:
        kept = self._frozen.get(handle._context.get(OWNER, WORLD)) if self._frozen else None  # type: ignore[attr-defined]
        if kept is None:
            return False
        kept.append(handle)
        return True

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **more: Any) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(work, loop=loop, **more)
        # Kept: a task that is collected runs its `finally` blocks, and the dead must not.
        self._tasks.append(task)
        return task

    def _caught(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.broken.append(f"{context.get('message')}: {context.get('exception')!r}")


_WORLDS_CONTEXT = contextvars.Context()


def _run_at_once(_owner: str, _executor: Executor | None, job: Job, future: asyncio.Future[Any]) -> None:
    future.set_result(job())


@contextmanager
def acting_as(owner: str) -> Iterator[None]:
    """Let what is begun inside belong to this owner."""
    token = OWNER.set(owner)
    try:
        yield
    finally:
        OWNER.reset(token)
