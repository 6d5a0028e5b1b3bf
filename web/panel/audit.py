"""The audit log: who changed what, before and after."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import col, select
from starlette.responses import Response

from billing.models import AuditRow, Tariff
from billing.store import reading
from rating.money import format_amount
from web.context import panel_of
from web.pages import show
from web.queries import account_names
from web.render import utc
from web.security.sessions import Principal, may

router = APIRouter(include_in_schema=False)

PAGE = 50
OF_ACCOUNTS = {
    "account_id": "account",
    "parent_id": "under",
    "issuer_id": "issuer",
    "owner": "owner",
    "blocked_by": "blocked by",
}
"""Names that stand for an account by its number, and what they are called for people."""
OF_TARIFFS = {"tariff_id": "tariff", "from_tariff_id": "sold from"}
"""The same for tariffs."""
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9]{2}:[0-9]{2})$")
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

    def read() -> tuple[list[AuditRow], dict[int, str], dict[int | None, str]]:
        asked = select(AuditRow).order_by(col(AuditRow.id).desc()).limit(PAGE + 1)
        for name, value in filters.items():
            if value:
                asked = asked.where(col(getattr(AuditRow, name)) == value)
        if before:
            asked = asked.where(col(AuditRow.id) < before)
        with reading(panel.engine) as session:
            found = list(session.exec(asked))
            names = account_names(session, [number for row in found for number in _accounts(row)])
            return found, names, dict(session.exec(select(Tariff.id, Tariff.name)).all())

    found, names, tariffs = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "audit.html",
        rows=[(row, _account_of(row), differences(row, names, tariffs)) for row in found[:PAGE]],
        names=names,
        tariffs={f"tariff:{number}": name for number, name in tariffs.items()},
        filters=filters,
        filtered=any(filters.values()),
        older=found[PAGE - 1].id if len(found) > PAGE else None,
        newest=before > 0,
    )


def _account_of(row: AuditRow) -> int | None:
    """Return the account that a line is about."""
    kind, _, number = row.subject.partition(":")
    return int(number) if kind == "account" and number.isdigit() and len(number) <= len(str(MOST_ID)) else None


def _accounts(row: AuditRow) -> list[int | None]:
    """Return all accounts that a line speaks of, by number."""
    told = [facts.get(name) for facts in (row.before or {}, row.after or {}) for name in facts if name in OF_ACCOUNTS]
    return [_account_of(row), *(number for number in told if type(number) is int)]


def differences(
    row: AuditRow, names: Mapping[int, str], tariffs: Mapping[int | None, str]
) -> list[tuple[str, str, str]]:
    """Return (name, what was, what is) in words, name by name; what stayed the same or says nothing is left out.

    Accounts and tariffs are told by name, where `names` and `tariffs` have them.
    """
    was, now_is = row.before or {}, row.after or {}
    told = []
    for name in dict.fromkeys([*was, *now_is]):
        values = [facts.get(name) for facts in (was, now_is)]
        if name in OF_ACCOUNTS:
            values = [names.get(value, value) if type(value) is int else value for value in values]
        elif name in OF_TARIFFS:
            values = [tariffs.get(value, value) if type(value) is int else value for value in values]
        before, after = (_words(name, value) for value in values)
        if before != after:
            called = OF_ACCOUNTS.get(name) or OF_TARIFFS.get(name) or name.removesuffix("_micros")
            told.append((called, before, after))
    return told


def _words(name: str, value: Any) -> str:
    match value:
        case None:
            told = ""
        case bool():
            told = "yes" if value else "no"
        case int() if name.endswith("_micros"):
            told = format_amount(value)
        case list():
            parted = "; " if any(isinstance(one, dict) for one in value) else ", "
            told = parted.join(_words("", one) for one in value)
        case dict():
            told = ", ".join(f"{key} {_words(key, one)}" for key, one in value.items())
        case str() if _MOMENT.match(value):
            told = _moment(value)
        case _:
            told = str(value)
    return told


def _moment(text: str) -> str:
    try:
        return utc(datetime.fromisoformat(text))
    except ValueError:
        return text
