"""Alerts: what a person should know of, while it stands and afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import Field
from sqlmodel import Session

from billing import alerts
from billing.access import Reach
from billing.errors import NotFound
from billing.fraud import rules
from billing.models import Alert
from billing.store import reading, work
from web.api.auth import Asking
from web.api.problems import Problem
from web.api.routes import MOST_ID, Cursor, PageSize, needs, resource
from web.api.shapes import Moment, Page, Shape
from web.context import panel_of

router = resource("alerts")

AlertId = Annotated[int, Path(ge=1, le=MOST_ID, examples=[17])]


class AlertShape(Shape):
    """An alert; it stands until `cleared_at`."""

    id: int = Field(examples=[17])
    kind: str = Field(examples=["balance.low"])
    account_id: int | None
    subject: str = Field(examples=["account:5"])
    message: str
    facts: dict[str, Any]
    raised_at: Moment
    cleared_at: Moment | None
    cleared_by: str | None


@router.get("/alerts", **needs("alerts:read", "cursor_invalid"))
def list_alerts(
    request: Request,
    caller: Asking,
    *,
    standing: Annotated[bool | None, Query(description="Only those that stand, or only those that are over.")] = None,
    kind: Annotated[str | None, Query(max_length=60)] = None,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[AlertShape]:
    """List the alerts of the accounts in your sight, newest first."""
    with reading(panel_of(request).engine) as session:
        found = alerts.list_alerts(
            session,
            standing=standing,
            kind=kind,
            account_ids=_ids(session, caller.reach),
            before=_read(after),
            most=most + 1,
        )
    last = found[most - 1] if len(found) > most else None
    more = None if last is None else f"{last.raised_at.astimezone(UTC).isoformat()}|{last.id}"
    return Page(items=[_shape(alert) for alert in found[:most]], next=more)


@router.get("/alerts/{alert_id}", **needs("alerts:read"))
def get_alert(request: Request, caller: Asking, alert_id: AlertId) -> AlertShape:
    """Return one alert, over or not."""
    with reading(panel_of(request).engine) as session:
        return _shape(_see(session, caller.reach, alert_id))


@router.post("/alerts/{alert_id}/dismissal", **needs("alerts:write", "not_allowed", changes=True))
def dismiss_alert(request: Request, caller: Asking, alert_id: AlertId) -> AlertShape:
    """Say that an alert is dealt with. It lifts nothing that the alert came with."""
    panel = panel_of(request)
    with work(panel.engine) as session:
        found = _see(session, caller.reach, alert_id)
        maker = rules.maker_of(session, found)
        if found.kind.startswith(rules.ALERTS) and not rules.is_of(session, maker, caller.reach.within):
            raise Problem("not_allowed", "What a rule of who stands above you did is lifted by them.")
        alerts.dismiss_alert(session, alert_id, actor=caller.actor, now=panel.clock.now())
        session.refresh(found)
        return _shape(found)


def _see(session: Session, reach: Reach, alert_id: int) -> Alert:
    """Return an alert of an account in sight. Raises `NotFound`."""
    found = session.get(Alert, alert_id)
    if found is None or not (reach.whole or (found.account_id is not None and reach.holds(session, found.account_id))):
        raise NotFound(f"there is no alert {alert_id}")
    return found


def _ids(session: Session, reach: Reach) -> list[int] | None:
    return None if reach.whole else list(session.execute(reach.ids()).scalars())


def _shape(alert: Alert) -> AlertShape:
    return AlertShape(**{name: getattr(alert, name) for name in AlertShape.model_fields})


def _read(cursor: str) -> tuple[datetime, int] | None:
    if not cursor:
        return None
    moment, _, number = cursor.partition("|")
    try:
        raised_at = datetime.fromisoformat(moment)
    except ValueError:
        raise Problem("cursor_invalid") from None
    if raised_at.tzinfo is None or not number.isascii() or not number.isdigit():
        raise Problem("cursor_invalid")
    return raised_at, int(number[:17])
