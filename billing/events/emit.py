"""Events are written where things happen, in the same unit of work: either both are there or neither.

Nothing is written of what nobody listens for, so a store without listeners pays one small look for each batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from billing.events.kinds import EventKind, kind_of_alert
from billing.models.events import Event, Listener, ListenerKind
from billing.models.tables import Account
from billing.store import insert_or_skip

MOST_KEY = 250


def wanted(session: Session, kind: EventKind) -> bool:
    """Return whether anybody listens for this."""
    asked = (
        select(ListenerKind.listener_id)
        .join(Listener, col(Listener.id) == col(ListenerKind.listener_id))
        .where(ListenerKind.kind == kind.value, col(Listener.ended_at).is_(None), col(Listener.paused_at).is_(None))
        .limit(1)
    )
    return session.exec(asked).first() is not None


def emit(
    session: Session,
    kind: EventKind,
    happened: Iterable[tuple[str, int | None, dict[str, Any]]],
    *,
    now: datetime,
) -> None:
    """Write events of a kind: (key, account id, data) of each. A key that has been told before is left out.

    `data` is what listeners receive, as JSON: amounts as decimal strings, times RFC 3339.
    """
    if not wanted(session, kind):
        return
    rows = [
        {
            "key": f"{kind.value}:{key}"[:MOST_KEY],
            "kind": kind.value,
            "account_id": account_id,
            "data": data,
            "happened_at": now,
            "spread_at": None,
        }
        for key, account_id, data in happened
    ]
    insert_or_skip(session, Event, rows, "id")


def emit_alert(
    session: Session,
    alert_id: int,
    kind: str,
    *,
    account_id: int | None,
    subject: str,
    message: str,
    facts: dict[str, Any],
    cleared: bool = False,
    now: datetime,
) -> None:
    """Tell of an alert that was raised, or is over, where its kind is told at all."""
    told = kind_of_alert(kind, cleared=cleared)
    if told is not None and wanted(session, told):
        data = {
            "alert": kind,
            "subject": subject,
            "message": message,
            "account": account_facts(session, account_id),
            "facts": facts,
        }
        emit(session, told, [(str(alert_id), account_id, data)], now=now)


def account_facts(session: Session, account_id: int | None) -> dict[str, Any] | None:
    """Return how events name an account."""
    if account_id is None:
        return None
    name = session.exec(select(Account.name).where(Account.id == account_id)).one_or_none()
    return {"id": account_id, "name": name}
