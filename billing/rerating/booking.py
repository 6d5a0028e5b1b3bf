"""Book a run, and undo it: one transaction for each call, a batch of calls in each unit of work.

    set aside in Redis what the batch takes ─▶ SQL: transactions, corrections, outbox ─▶ Redis told

As for every movement of money (`billing.moves`): what is taken from a live wallet is set aside first, so that no call
spends it meanwhile. A batch that stopped anywhere is done again: what is booked is known by the run and the call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, update
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing import audit, outbox
from billing.credit.store import CreditStore, HoldCode, NotHeld
from billing.errors import Conflict, CreditUnavailable
from billing.ledger import Applied, Draft, Entry, Purse, lock_wallets, post_many, reserve_ids
from billing.models import Account, Beyond, Cdr, Correction, RerateChange, RerateRun, RunStatus, Wallet
from billing.moves import MARK, SET_ASIDE_MS
from billing.ports import Clock, to_ms
from billing.rerating.batches import Batch, Move, live_owners, moves_of, net, next_calls, shares_of, that_fit
from billing.rerating.corrections import last_corrections
from billing.rerating.look import find_run, locked_run
from billing.store import again, reading

BATCH = 200
"""Calls in one unit of work: others wait for the wallets no longer than that takes."""
SET_ASIDE_TRIES = 4
NO_MONEY, CHANGED, LEFT = "no_money", "changed", "left"
OUTCOMES = {
    NO_MONEY: "the wallet's credit does not reach",
    CHANGED: "something else has corrected the call since the preview",
    LEFT: "the run was undone before it was booked to the end",
}
"""Why a change was left out."""


@dataclass(frozen=True, slots=True)
class Booked:
    """What one step did, in calls. `next_call`: where to go on; `over`: nothing waits any more.

    `live`: the credit store knows of it; otherwise it is told as soon as it answers.
    """

    done: int = 0
    no_money: int = 0
    changed: int = 0
    next_call: str = ""
    over: bool = False
    live: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants which run posted, or undone."""

    operation: str
    actor: str
    undo: bool = False


async def book_some(engine: Engine, credit: CreditStore, order: Order, *, after: str = "", clock: Clock) -> Booked:
    """Post (or undo) the next calls of a run, beginning after the call `after`.

    Raises `Conflict` where the run is not in a state for it, and `CreditUnavailable` where money must be set aside and
    cannot be: then nothing of the batch was booked.
    """
    run, batch, owners = await asyncio.to_thread(_next, engine, order, after)
    if not batch:
        await asyncio.to_thread(again, engine, lambda session: _finish(session, order, clock.now()))
        return Booked(over=True)
    allowed, name = list(batch), None
    if run.beyond is Beyond.SKIP:
        name = f"{MARK}rerate:{run.id}:{'-' if order.undo else '+'}{next(iter(batch))}"
        allowed = await _set_aside(engine, credit, name, batch, owners, clock=clock)
    now = clock.now()
    unit = _Unit(order, tuple(batch), frozenset(allowed), name, now)
    try:
        step, applied = await asyncio.to_thread(again, engine, unit.book)
        await outbox.apply_now(engine, credit, applied, clock=clock)
    except CreditUnavailable:
        return replace(step, live=False)
    finally:
        if name is not None:
            await _release(credit, name, clock)
    return step


def _next(engine: Engine, order: Order, after: str) -> tuple[RerateRun, Batch, dict[int, int]]:
    with reading(engine) as session:
        run = find_run(session, order.operation)
        _check_status(run, undo=order.undo)
        calls = next_calls(session, run, undo=order.undo, after=after, most=BATCH)
        batch = moves_of(session, run, calls, undo=order.undo)
        return run, batch, live_owners(session, batch)


def _check_status(run: RerateRun, *, undo: bool) -> None:
    fit = {RunStatus.POSTING, RunStatus.POSTED, RunStatus.UNDOING, RunStatus.UNDONE} if undo else {
        RunStatus.PREVIEWED, RunStatus.POSTING, RunStatus.POSTED,
    }  # fmt: skip
    if run.status in fit:
        return
    does = "undone" if undo else "posted"
    why = {
        RunStatus.LOOKING: "its preview is not complete",
        RunStatus.PREVIEWED: "it has booked nothing",
        RunStatus.UNDOING: "it is being undone",
        RunStatus.UNDONE: "it has been undone; begin a new one",
        RunStatus.DROPPED: "it was dropped",
    }[run.status]
    raise Conflict(f"the re-rating {run.operation!r} cannot be {does}: {why}")


async def _set_aside(
    engine: Engine, credit: CreditStore, name: str, batch: Batch, owners: dict[int, int], *, clock: Clock
) -> list[str]:
    """Set aside what calls take, for as many calls as there is money; return those, and what takes nothing."""
    calls, synced = list(batch), False
    for _ in range(SET_ASIDE_TRIES):
        shares = shares_of(batch, calls, owners)
        if not shares:
            return calls
        now_ms = to_ms(clock.now())
        answer = await credit.reserve(name, shares, now_ms=now_ms, deadline_ms=now_ms + SET_ASIDE_MS)
        if not isinstance(answer, NotHeld):
            return calls
        if not synced:
            # It may not know a wallet yet, or not the newest money in it.
            await outbox.sync(engine, credit, [share.wallet_id for share in shares])
            synced = True
        elif answer.code is HoldCode.NO_MONEY:
            funds = {share.wallet_id: had for share, had in zip(shares, answer.available, strict=True)}
            calls = that_fit(batch, calls, funds)
        else:
            raise CreditUnavailable(f"the live credit store does not set the money aside: {answer.code.value}")
    # Others keep taking what was just there: for now, only what takes nothing.
    return [call_id for call_id in calls if not shares_of(batch, [call_id], owners)]


async def _release(credit: CreditStore, name: str, clock: Clock) -> None:
    try:
        await credit.release(name, now_ms=to_ms(clock.now()))
    except CreditUnavailable:
        return  # its deadline ends it


# -- one unit of work --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit of work: these calls, as far as money was set aside for them under `name`."""

    order: Order
    calls: tuple[str, ...]
    allowed: frozenset[str]
    name: str | None
    now: datetime

    def book(self, session: Session) -> tuple[Booked, tuple[Applied, ...]]:
        """Book what of these calls still waits, in the order of locks: the run, the records, the wallets."""
        undo = self.order.undo
        run = locked_run(session, self.order.operation)
        _check_status(run, undo=undo)
        _begin(session, run, self.order, self.now)
        # Two runs over the same calls go one after the other, whatever they would do to them.
        records = select(Cdr.call_id).where(col(Cdr.call_id).in_(self.calls)).order_by(col(Cdr.call_id))
        session.exec(records.with_for_update(key_share=True)).all()
        batch = moves_of(session, run, self.calls, undo=undo)
        last = last_corrections(session, self.calls)
        fits = {call_id for call_id, moves in batch.items() if all(_still_holds(move, last) for move in moves)}
        paid = fits & self.allowed
        if run.beyond is Beyond.SKIP:
            purses = lock_wallets(session, sorted({wallet for call_id in paid for wallet in net(batch[call_id])}))
            paid = set(that_fit(batch, [call_id for call_id in batch if call_id in paid], _funds(session, purses)))
        applied = self._post(session, run, {call_id: batch[call_id] for call_id in batch if call_id in paid})
        no_money, changed = fits - paid, set(batch) - fits
        if not undo:
            _mark(session, run, no_money, NO_MONEY)
            _mark(session, run, changed, CHANGED)
        step = Booked(done=len(paid), no_money=len(no_money), changed=len(changed), next_call=self.calls[-1])
        return step, applied

    def _post(self, session: Session, run: RerateRun, batch: Batch) -> tuple[Applied, ...]:
        if not batch:
            return ()
        ids = dict(zip(batch, reserve_ids(session, len(batch)), strict=True))
        drafts = [_draft(run, moves, ids[call_id], self.order.actor) for call_id, moves in batch.items()]
        applied = post_many(session, _naming(drafts, self.name), now=self.now)
        rows = [_correction(run, move, ids[call_id], self.now) for call_id, moves in batch.items() for move in moves]
        session.execute(insert(Correction.__table__), rows)  # type: ignore[attr-defined] # the table: rows in bulk
        booked = [move.row_id for moves in batch.values() for move in moves if move.reverses_id is None]
        if booked:
            session.execute(delete(RerateChange).where(col(RerateChange.id).in_(booked)))
        return applied


def _begin(session: Session, run: RerateRun, order: Order, now: datetime) -> None:
    status, over = (RunStatus.UNDOING, RunStatus.UNDONE) if order.undo else (RunStatus.POSTING, RunStatus.POSTED)
    if run.status in {status, over}:
        return
    action = "rerate.undo" if order.undo else "rerate.post"
    if order.undo:
        _mark(session, run, None, LEFT)
    audit.record(session, actor=order.actor, action=action, subject=f"rerate:{run.operation}", now=now)
    run.status, run.moved_at = status, now
    session.add(run)
    session.flush()


def _still_holds(move: Move, last: dict[tuple[str, int], Correction]) -> bool:
    found = last.get((move.call_id, move.level))
    return (None if found is None else found.id) == move.corrects_id


def _funds(session: Session, purses: dict[int, Purse]) -> dict[int, int]:
    """Return what each live wallet can give: its balance and its account's credit limit."""
    live = [wallet_id for wallet_id, purse in purses.items() if purse.live]
    asked = select(Wallet.id, Account.credit_limit_micros).join(Account).where(col(Wallet.id).in_(live))
    limits = dict(session.exec(asked).all())
    return {wallet_id: purses[wallet_id].balance_micros + limits[wallet_id] for wallet_id in live}


def _draft(run: RerateRun, moves: list[Move], transaction_id: int, actor: str) -> Draft:
    entries = tuple(entry for move in moves for entry in move.entries())
    if moves[0].reverses_id is None:
        return Draft(f"rerate:{run.id}:{moves[0].call_id}", "correction", entries, actor, run.reason, id=transaction_id)
    return Draft(
        f"unrate:{run.id}:{moves[0].call_id}",
        "reversal",
        entries,
        actor,
        run.reason,
        reverses_id=moves[0].reverses_id,
        id=transaction_id,
    )


def _naming(drafts: list[Draft], name: str | None) -> list[Draft]:
    """Let the last posting that takes from a wallet drop what was set aside: until then it is not available."""
    if name is None:
        return drafts
    named: set[int] = set()
    told: list[Draft] = []
    for draft in reversed(drafts):
        entries: list[Entry] = []
        for entry in reversed(draft.entries):
            takes = entry.amount_micros < 0 and entry.wallet_id not in named
            entries.append(replace(entry, call_id=name) if takes else entry)
            if takes:
                named.add(entry.wallet_id)
        told.append(replace(draft, entries=tuple(reversed(entries))))
    return told[::-1]


def _correction(run: RerateRun, move: Move, transaction_id: int, now: datetime) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "call_id": move.call_id,
        "level": move.level,
        "account_id": move.account_id,
        "wallet_id": move.wallet_id,
        "to_wallet_id": move.to_wallet_id,
        "currency": move.currency,
        "before_micros": move.before_micros,
        "after_micros": move.after_micros,
        "billed_s": move.billed_s,
        "facts": move.facts,
        "transaction_id": transaction_id,
        "undoes_id": None if move.reverses_id is None else move.row_id,
        "made_at": now,
    }


def _mark(session: Session, run: RerateRun, calls: set[str] | None, outcome: str) -> None:
    """Say why changes were left out; `calls` None: all that still wait."""
    waiting = update(RerateChange).where(col(RerateChange.run_id) == run.id, col(RerateChange.outcome) == "")
    if calls is None:
        session.execute(waiting.values(outcome=outcome))
    elif calls:
        session.execute(waiting.where(col(RerateChange.call_id).in_(calls)).values(outcome=outcome))


def _finish(session: Session, order: Order, now: datetime) -> None:
    """Close a run of which nothing waits. An undo that could not undo all leaves it posted: it can be tried again."""
    undo = order.undo
    run = locked_run(session, order.operation)
    _check_status(run, undo=undo)
    _begin(session, run, order, now)
    waits = bool(next_calls(session, run, undo=undo, after="", most=1))
    if waits and not undo:
        return
    over = RunStatus.UNDONE if undo and not waits else RunStatus.POSTED
    if run.status is over:
        return
    left_out = (
        select(RerateChange.outcome, func.count())
        .where(RerateChange.run_id == run.id)
        .group_by(col(RerateChange.outcome))
    )
    counts = dict(session.exec(left_out).all())
    run.status, run.moved_at = over, now
    session.add(run)
    audit.record(
        session,
        actor=order.actor,
        action="rerate.undone" if over is RunStatus.UNDONE else "rerate.posted",
        subject=f"rerate:{order.operation}",
        after={"left_out": counts},
        now=now,
    )


async def book_all(
    engine: Engine,
    credit: CreditStore,
    order: Order,
    *,
    clock: Clock,
    progress: Callable[[int], None] | None = None,
) -> Booked:
    """Post (or undo) a run to its end; `progress` is told the calls dealt with. Raises as `book_some` does."""
    total = Booked()
    while True:
        step = await book_some(engine, credit, order, after=total.next_call, clock=clock)
        total = Booked(
            done=total.done + step.done,
            no_money=total.no_money + step.no_money,
            changed=total.changed + step.changed,
            next_call=step.next_call,
            over=step.over,
            live=total.live and step.live,
        )
        if step.over:
            return total
        if progress is not None:
            progress(total.done + total.no_money + total.changed)
