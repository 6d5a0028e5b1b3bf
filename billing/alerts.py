"""Alerts: what a person should know of, raised once while it stands, cleared by what made it or by a person.

`kind` says what it is ("books.broken", "balance.low", "fraud.spend_hour"), `subject` what it is about ("account:7").
While one stands, raising it again changes nothing; once cleared, the next is a new row, so the table is a history.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import Session, col, select

from billing import audit
from billing.errors import NotFound
from billing.events.emit import emit_alert
from billing.models import Alert
from billing.store import insert_or_skip

MOST_MESSAGE = 500


def raise_alert(
    session: Session,
    *,
    kind: str,
    subject: str,
    message: str,
    account_id: int | None = None,
    facts: dict[str, Any] | None = None,
    now: datetime,
) -> int | None:
    """Raise an alert and return its id; None where the same one stands already (of two at once, one raises it)."""
    row = {
        "kind": kind,
        "account_id": account_id,
        "subject": subject[:200],
        "message": message[:MOST_MESSAGE],
        "facts": facts or {},
        "raised_at": now,
        "cleared_at": None,
        "cleared_by": None,
    }
    session.flush()
    written = insert_or_skip(session, Alert, [row], "id")
    if not written:
        return None
    alert_id = int(written[0])
    _tell(session, session.exec(select(Alert).where(Alert.id == alert_id)).one(), now=now)
    return alert_id


def clear_alert(session: Session, *, kind: str, subject: str, actor: str, now: datetime) -> bool:
    """What the alert told of is over. False where none stood."""
    stands = select(Alert).where(Alert.kind == kind, Alert.subject == subject[:200], col(Alert.cleared_at).is_(None))
    found = session.exec(stands.with_for_update()).one_or_none()
    if found is None:
        return False
    found.cleared_at, found.cleared_by = now, actor[:100]
    session.flush()
    _tell(session, found, cleared=True, now=now)
    return True


def dismiss_alert(session: Session, alert_id: int, *, actor: str, now: datetime) -> bool:
    """Clear an alert by hand; False where it was cleared before. Raises `NotFound`.

    It lifts nothing that the alert came with: a blocked account is unblocked by whoever has the right to.
    """
    found = session.exec(select(Alert).where(Alert.id == alert_id).with_for_update()).one_or_none()
    if found is None:
        raise NotFound(f"there is no alert {alert_id}")
    if found.cleared_at is not None:
        return False
    found.cleared_at, found.cleared_by = now, actor[:100]
    audit.record(
        session,
        actor=actor,
        action="alert.clear",
        subject=f"alert:{alert_id}",
        before={"kind": found.kind, "subject": found.subject, "message": found.message},
        after={"cleared_at": now.isoformat()},
        now=now,
    )
    session.flush()
    return True


def list_alerts(
    session: Session,
    *,
    standing: bool | None = None,
    kind: str | None = None,
    account_ids: Collection[int] | None = None,
    before: tuple[datetime, int] | None = None,
    most: int = 100,
) -> list[Alert]:
    """Return alerts, newest first. `account_ids`: of these accounts; `before`: (raised_at, id) of the last seen."""
    rules: list[ColumnElement[bool]] = []
    if standing is not None:
        rules.append(col(Alert.cleared_at).is_(None) if standing else col(Alert.cleared_at).is_not(None))
    if kind is not None:
        rules.append(col(Alert.kind) == kind)
    if account_ids is not None:
        rules.append(col(Alert.account_id).in_(list(account_ids)))
    if before is not None:
        raised_at, alert_id = before
        older = and_(col(Alert.raised_at) == raised_at, col(Alert.id) < alert_id)
        rules.append(and_(col(Alert.raised_at) <= raised_at, or_(col(Alert.raised_at) < raised_at, older)))
    newest = select(Alert).where(*rules).order_by(col(Alert.raised_at).desc(), col(Alert.id).desc()).limit(most)
    return list(session.exec(newest).all())


def _tell(session: Session, alert: Alert, *, cleared: bool = False, now: datetime) -> None:
    emit_alert(
        session,
        alert.id or 0,
        alert.kind,
        account_id=alert.account_id,
        subject=alert.subject,
        message=alert.message,
        facts=alert.facts,
        cleared=cleared,
        now=now,
    )
