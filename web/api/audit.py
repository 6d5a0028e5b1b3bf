"""The audit log: who changed what, before and after."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import Field
from sqlalchemy import ColumnElement
from sqlmodel import col, select

from billing.models import AuditRow
from billing.store import reading
from web.api.auth import Asking
from web.api.routes import Cursor, PageSize, needs, number_of, resource
from web.api.shapes import Moment, Page, SentMoment, Shape
from web.context import panel_of

router = resource("audit")


class AuditShape(Shape):
    """One change. Amounts in `before` and `after` that end in `_micros` are millionths."""

    id: int
    at: Moment
    actor: str = Field(examples=["owner"])
    action: str = Field(examples=["account.set"])
    subject: str = Field(examples=["account:5"])
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@router.get("/audit", **needs("audit:read", "cursor_invalid"))
def list_audit(
    request: Request,
    caller: Asking,
    *,
    actor: Annotated[str, Query(max_length=100)] = "",
    action: Annotated[str, Query(max_length=60)] = "",
    subject: Annotated[str, Query(max_length=200)] = "",
    since: Annotated[SentMoment | None, Query(alias="from")] = None,
    until: SentMoment | None = None,
    after: Cursor = "",
    most: PageSize = 100,
) -> Page[AuditShape]:
    """List changes, newest first. For the operator's keys only."""
    rules: list[ColumnElement[bool]] = []
    for column, value in ((AuditRow.actor, actor), (AuditRow.action, action), (AuditRow.subject, subject)):
        if value:
            rules.append(col(column) == value)
    if since is not None:
        rules.append(col(AuditRow.at) >= since)
    if until is not None:
        rules.append(col(AuditRow.at) < until)
    if before := number_of(after):
        rules.append(col(AuditRow.id) < before)
    if not caller.reach.whole:
        rules.append(col(AuditRow.id) < 0)
    newest = select(AuditRow).where(*rules).order_by(col(AuditRow.id).desc()).limit(most + 1)
    with reading(panel_of(request).engine) as session:
        found = session.exec(newest).all()
    more = str(found[most - 1].id) if len(found) > most else None
    shapes = [AuditShape(**{name: getattr(row, name) for name in AuditShape.model_fields}) for row in found[:most]]
    return Page(items=shapes, next=more)
