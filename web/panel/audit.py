"""The audit log: who changed what, before and after."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import col, select
from starlette.responses import Response

from billing.models import AuditRow
from billing.store import reading
from rating.money import format_amount
from web.context import panel_of
from web.pages import show
from web.security.sessions import Principal, may

router = APIRouter(include_in_schema=False)

PAGE = 50
MOST_ID = 2**53


@router.get("/audit")
async def audit_page(
    request: Request,
    principal: Annotated[Principal, Depends(may("audit:read"))],
    *,
    actor: str = "",
    action: str = "",
    subject: str = "",
    before: Annotated[int, Query(ge=0, le=MOST_ID)] = 0,
) -> Response:
    """Show a page of changes, newest first."""
    panel = panel_of(request)
    filters = {"actor": actor.strip()[:100], "action": action.strip()[:60], "subject": subject.strip()[:200]}

    def read() -> list[AuditRow]:
        asked = select(AuditRow).order_by(col(AuditRow.id).desc()).limit(PAGE + 1)
        for name, value in filters.items():
            if value:
                asked = asked.where(col(getattr(AuditRow, name)) == value)
        if before:
            asked = asked.where(col(AuditRow.id) < before)
        with reading(panel.engine) as session:
            return list(session.exec(asked))

    found = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "audit.html",
        rows=[(row, differences(row)) for row in found[:PAGE]],
        filters=filters,
        filtered=any(filters.values()),
        older=found[PAGE - 1].id if len(found) > PAGE else None,
        newest=before > 0,
    )


def differences(row: AuditRow) -> list[tuple[str, str, str]]:
    """Return (name, what was, what is) in words, name by name; what stayed the same or says nothing is left out."""
    was, now_is = row.before or {}, row.after or {}
    told = []
    for name in dict.fromkeys([*was, *now_is]):
        before, after = _words(name, was.get(name)), _words(name, now_is.get(name))
        if before != after:
            told.append((name.removesuffix("_micros"), before, after))
    return told


def _words(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_micros"):
            return format_amount(value)
        case list():
            return ", ".join(str(one) for one in value)
        case dict():
            return ", ".join(f"{key} {one}" for key, one in value.items())
        case _:
            return str(value)
