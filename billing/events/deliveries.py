"""Deliveries: each event to each listener, until it was heard or three days are over.

    event ─spread─▶ deliveries (waiting) ─claim─▶ told ─▶ done, or later again, or dead after the last try

Several processes may do this at once: a claim is a short lease, and what a lapsed one brings back counts for nothing.
So a listener may hear an event twice, with the same id, and never not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, update
from sqlmodel import Session, col, select

from billing import audit
from billing.chart import operator_id
from billing.errors import NotFound, Refused
from billing.models import Channel, Delivery, DeliveryState, Event, Listener, ListenerKind
from billing.store import insert_or_skip
from billing.subtree import ancestors

RETRIES_S = (5, 60, 300, 1800, 7200, 18_000, 36_000, 50_400, 57_600, 86_400)
"""Seconds from one try to the next: eleven tries in a little over three days."""
CLAIM = timedelta(seconds=60)
"""How long a claim holds: longer than any post or mail may take."""
AT_ONCE_EACH = 4
"""Deliveries under way to one listener: a slow one must not hold up the others."""
KEPT = timedelta(days=30)
SPREAD_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery to be made now. `event_id` names the message: the same at every try."""

    id: int
    claim: str
    attempts: int
    listener_id: int
    channel: Channel
    address: str
    secret: str
    language: str
    event_id: int
    kind: str
    happened_at: datetime
    account_id: int | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """How a try went. `gone`: whoever answers there wants no more of it, ever."""

    ok: bool
    answer: str
    gone: bool = False


def anything_due(session: Session, now: datetime) -> bool:
    """Return whether there is something to spread or to tell: cheap, and asked all the time."""
    unspread = select(Event.id).where(col(Event.spread_at).is_(None)).limit(1)
    due = select(Delivery.id).where(*_due(now)).limit(1)
    return session.exec(unspread).first() is not None or session.exec(due).first() is not None


def spread(session: Session, *, now: datetime, most: int = SPREAD_AT_ONCE) -> int:
    """Make out the deliveries of new events; return how many events that were."""
    fresh = select(Event).where(col(Event.spread_at).is_(None)).order_by(col(Event.id)).limit(most)
    events = session.exec(fresh.with_for_update(skip_locked=True)).all()
    listeners = _listeners(session, {event.kind for event in events})
    lines: dict[int | None, tuple[int, ...]] = {}
    rows = []
    for event in events:
        if event.account_id not in lines:
            lines[event.account_id] = _line(session, event.account_id)
        line = lines[event.account_id]
        for listener in listeners.get(event.kind, ()):
            own = listener.account_id == (line[0] if line else None)
            if own or (listener.subtree and listener.account_id in line):
                rows.append(_row(event, listener, now))
        event.spread_at = now
    session.flush()
    insert_or_skip(session, Delivery, rows, "id")
    return len(events)


def claim(session: Session, token: str, *, now: datetime, most: int = 32) -> list[Due]:
    """Take deliveries that are due, a few for each listener, for as long as `CLAIM`."""
    in_turn = func.row_number().over(
        partition_by=col(Delivery.listener_id), order_by=(col(Delivery.next_at), col(Delivery.id))
    )
    waiting = (
        select(Delivery.id, in_turn.label("turn"))
        .where(Delivery.state == DeliveryState.WAITING, col(Delivery.next_at) <= now, _told())
        .subquery()
    )
    first = select(waiting.c.id).where(waiting.c.turn <= AT_ONCE_EACH)
    chosen = select(Delivery).where(*_due(now), col(Delivery.id).in_(first))
    ordered = chosen.order_by(col(Delivery.next_at), col(Delivery.id)).limit(most)
    found = session.exec(ordered.with_for_update(skip_locked=True)).all()
    for delivery in found:
        delivery.claim, delivery.claimed_until = token, now + CLAIM
    session.flush()
    asked = (
        select(Delivery, Event, Listener)
        .join(Event, col(Event.id) == col(Delivery.event_id))
        .join(Listener, col(Listener.id) == col(Delivery.listener_id))
        .where(col(Delivery.id).in_([delivery.id for delivery in found]))
        .order_by(col(Delivery.next_at), col(Delivery.id))
    )
    return [_as_due(delivery, event, listener) for delivery, event, listener in session.exec(asked)]


def settle_delivery(session: Session, due: Due, result: Result, *, now: datetime) -> bool:
    """Write down how a try went. False where the claim had lapsed: then it counts for nothing.

    Returns normally for the last try that failed: the delivery is dead, and `list_deliveries` shows why.
    """
    found = session.exec(
        select(Delivery).where(Delivery.id == due.id, Delivery.claim == due.claim).with_for_update()
    ).one_or_none()
    if found is None or found.state is not DeliveryState.WAITING:
        return False
    found.attempts, found.last_at, found.answer = found.attempts + 1, now, result.answer[:300]
    found.claim, found.claimed_until = "", None
    if result.ok:
        found.state = DeliveryState.DONE
    elif result.gone or found.attempts > len(RETRIES_S):
        found.state = DeliveryState.DEAD
    else:
        found.next_at = now + timedelta(seconds=_spaced(found.attempts, due.id))
    session.flush()
    return True


def resend(session: Session, delivery_id: int, *, actor: str, now: datetime) -> None:
    """Tell it again from the start, done or dead. Raises `NotFound`; `Refused` where its listener has ended."""
    found = session.exec(select(Delivery).where(Delivery.id == delivery_id).with_for_update()).one_or_none()
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id}")
    ended = session.exec(select(Listener.ended_at).where(Listener.id == found.listener_id)).one()
    if ended is not None:
        raise Refused("its listener has ended")
    before = {"state": found.state.value, "attempts": found.attempts, "answer": found.answer}
    found.state, found.attempts, found.next_at = DeliveryState.WAITING, 0, now
    found.claim, found.claimed_until = "", None
    session.flush()
    audit.record(
        session, actor=actor, action="delivery.resend", subject=f"delivery:{delivery_id}", before=before, now=now
    )


def list_deliveries(
    session: Session,
    *,
    listener_id: int | None = None,
    state: DeliveryState | None = None,
    before_id: int | None = None,
    most: int = 100,
) -> list[tuple[Delivery, Event]]:
    """Return deliveries with their events, newest first."""
    asked = select(Delivery, Event).join(Event, col(Event.id) == col(Delivery.event_id))
    if listener_id is not None:
        asked = asked.where(Delivery.listener_id == listener_id)
    if state is not None:
        asked = asked.where(Delivery.state == state)
    if before_id is not None:
        asked = asked.where(col(Delivery.id) < before_id)
    return list(session.exec(asked.order_by(col(Delivery.id).desc()).limit(most)).all())


def find_delivery(session: Session, delivery_id: int) -> tuple[Delivery, Event]:
    """Return one delivery with its event. Raises `NotFound`."""
    asked = select(Delivery, Event).join(Event, col(Event.id) == col(Delivery.event_id))
    found = session.exec(asked.where(Delivery.id == delivery_id)).one_or_none()
    if found is None:
        raise NotFound(f"there is no delivery {delivery_id}")
    return found


def count_dead(session: Session) -> int:
    """Return how many deliveries were given up and wait for a person."""
    asked = (
        select(func.count())
        .select_from(Delivery)
        .join(Listener, col(Listener.id) == col(Delivery.listener_id))
        .where(Delivery.state == DeliveryState.DEAD, col(Listener.ended_at).is_(None))
    )
    return session.exec(asked).one()


def sweep(session: Session, *, now: datetime, most: int = 1000) -> int:
    """Forget events that are older than `KEPT` and wait for nothing; return how many."""
    waits = select(Delivery.event_id).where(Delivery.state == DeliveryState.WAITING)
    old = (
        select(Event.id)
        .where(
            col(Event.happened_at) < now - KEPT,
            col(Event.spread_at).is_not(None),
            col(Event.id).not_in(waits),
        )
        .limit(most)
    )
    ids = list(session.exec(old).all())
    session.execute(delete(Delivery).where(col(Delivery.event_id).in_(ids)))
    session.execute(delete(Event).where(col(Event.id).in_(ids)))
    return len(ids)


def end_waiting(session: Session, listener_id: int) -> int:
    """Give up what waits for a listener that has ended; return how many that was."""
    ended = (
        update(Delivery)
        .where(col(Delivery.listener_id) == listener_id, col(Delivery.state) == DeliveryState.WAITING)
        .values(state=DeliveryState.DEAD, answer="the listener has ended", claim="", claimed_until=None)
    )
    return int(session.execute(ended).rowcount)  # type: ignore[attr-defined] # an UPDATE's result has it


def _due(now: datetime) -> tuple[Any, ...]:
    free = or_(col(Delivery.claimed_until).is_(None), col(Delivery.claimed_until) < now)
    return (and_(col(Delivery.state) == DeliveryState.WAITING, col(Delivery.next_at) <= now, free, _told()),)


def _told() -> ColumnElement[bool]:
    """Listeners that are off are few: what waits for them is left out, until they are on again."""
    return col(Delivery.listener_id).not_in(select(Listener.id).where(col(Listener.paused_at).is_not(None)))


def _spaced(attempts: int, delivery_id: int) -> int:
    """Return the wait after so many tries, a tenth longer or shorter, so that not all come back at once."""
    wait_s = RETRIES_S[attempts - 1]
    return wait_s + wait_s * (delivery_id % 21 - 10) // 100


def _listeners(session: Session, kinds: Iterable[str]) -> dict[str, list[Listener]]:
    asked = (
        select(ListenerKind.kind, Listener)
        .join(Listener, col(Listener.id) == col(ListenerKind.listener_id))
        .where(
            col(ListenerKind.kind).in_(list(kinds)),
            col(Listener.ended_at).is_(None),
            col(Listener.paused_at).is_(None),
        )
        .order_by(col(Listener.id))
    )
    found: dict[str, list[Listener]] = {}
    for kind, listener in session.exec(asked):
        found.setdefault(kind, []).append(listener)
    return found


def _line(session: Session, account_id: int | None) -> tuple[int, ...]:
    """Return an account and all above it; what concerns no account concerns the operator."""
    return (operator_id(session),) if account_id is None else tuple(ancestors(session, account_id))


def _row(event: Event, listener: Listener, now: datetime) -> dict[str, Any]:
    return {
        "event_id": event.id,
        "listener_id": listener.id,
        "state": DeliveryState.WAITING,
        "attempts": 0,
        "next_at": now,
        "claim": "",
        "claimed_until": None,
        "last_at": None,
        "answer": "",
    }


def _as_due(delivery: Delivery, event: Event, listener: Listener) -> Due:
    return Due(
        id=delivery.id or 0,
        claim=delivery.claim,
        attempts=delivery.attempts,
        listener_id=delivery.listener_id,
        channel=listener.channel,
        address=listener.address,
        secret=listener.secret,
        language=listener.language,
        event_id=delivery.event_id,
        kind=event.kind,
        happened_at=event.happened_at,
        account_id=event.account_id,
        data=event.data,
    )
