"""The audit log: who changed what, before and after. Written in the same transaction as the change; never edited."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlmodel import Session

from billing.models import AuditRow


def record(
    session: Session,
    *,
    actor: str,
    action: str,
    subject: str,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    now: datetime,
) -> None:
    """Add one row. `action` is a thing and a verb ("account.add"), `subject` names the row changed ("account:7")."""
    session.add(AuditRow(at=now, actor=actor[:100], action=action, subject=subject[:200], before=before, after=after))
