"""Re-rating in portions: each request works on a run for a moment and says how far it has come; the next goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from weakref import WeakKeyDictionary

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.engine import Engine
from sqlmodel import Session

from billing.errors import NotFound
from billing.models import RerateRun, RunStatus
from billing.rerating.booking import Booked, Order, book_some
from billing.rerating.look import load_pricer, look_some
from billing.rerating.pricer import Pricer
from web.context import Panel

PORTION_S: Final = 1.5
"""How long one request works before it answers with the progress."""

_PRICERS: WeakKeyDictionary[Engine, tuple[str, Pricer]] = WeakKeyDictionary()
"""The rates of the run that was looked at last: reading them for each portion would cost more than the portion."""


@dataclass(frozen=True, slots=True)
class Portion:
    """What a moment's work did, in calls, and after which call to go on."""

    step: Booked
    done: int


async def look_for_a_moment(panel: Panel, run: RerateRun) -> None:
    """Price charges of a run until the portion is done or all have been looked at. Raises what `look_some` raises."""
    if run.status is not RunStatus.LOOKING:
        return
    began = panel.clock.monotonic()
    pricer = await run_in_threadpool(_pricer, panel.engine, run.operation)
    over = False
    while not over and panel.clock.monotonic() - began < PORTION_S:
        looked = await run_in_threadpool(look_some, panel.engine, run.operation, pricer, now=panel.clock.now())
        over = looked.over
    if over:
        _PRICERS.pop(panel.engine, None)


async def book_for_a_moment(panel: Panel, order: Order, after: str = "") -> Portion:
    """Book batches until the portion is done or nothing waits. Raises what `book_some` raises."""
    began = panel.clock.monotonic()
    done, live = 0, True
    while True:
        step = await book_some(panel.engine, panel.credit, order, after=after, clock=panel.clock)
        after, done, live = step.next_call, done + step.done, live and step.live
        if step.over or panel.clock.monotonic() - began >= PORTION_S:
            return Portion(replace(step, live=live), done)


def find_numbered(session: Session, number: int) -> RerateRun:
    """Return a run by its number. Raises `NotFound`."""
    run = session.get(RerateRun, number)
    if run is None:
        raise NotFound(f"There is no re-rating {number}.")
    return run


def _pricer(engine: Engine, operation: str) -> Pricer:
    kept = _PRICERS.get(engine)
    if kept is None or kept[0] != operation:
        kept = _PRICERS[engine] = operation, load_pricer(engine, operation)
    return kept[1]
