"""The records that switches post as calls end: kept to be compared, once each, for a while.

A post never charges anybody: it is another witness, beside the controller's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, col, select

from billing.models import SwitchCdr
from billing.reconcile.records import FORM, Leg
from billing.store import insert_or_skip

KEPT = timedelta(days=100)
"""A period of billing and a quarter's argument about it."""
PAGE = 500
FORGET_EVERY = 1000
"""One post in so many clears away what is too old."""


def keep(session: Session, switch: str, leg: Leg, *, now: datetime) -> bool:
    """Keep a posted record; False where it is there already, which is no error: switches post again."""
    row: dict[str, Any] = {
        "switch": switch,
        "uuid": leg.id,
        "call_key": leg.key,
        "controlled": leg.controlled,
        "rank": leg.rank,
        "direction": leg.direction,
        "account_code": leg.account_code,
        "caller": leg.caller,
        "callee": leg.callee,
        "started_at": leg.started_at,
        "answered_at": leg.answered_at,
        "ended_at": leg.ended_at,
        "talk_ms": leg.talk_ms,
        "cause": leg.cause,
        "forgeable": leg.source.endswith(FORM),
        "received_at": now,
    }
    written = insert_or_skip(session, SwitchCdr, [row], "id")
    if written and written[0] % FORGET_EVERY == 0:
        forget(session, before=now - KEPT)
    return bool(written)


def forget(session: Session, *, before: datetime) -> None:
    """Drop what was received before that time."""
    session.execute(delete(SwitchCdr).where(col(SwitchCdr.received_at) < before))


def posted(session: Session, switch: str, begin: datetime, end: datetime) -> Iterator[Leg]:
    """Yield what a switch posted of calls that ended in [begin, end), in pages."""
    after = (begin - timedelta(microseconds=1), 0)
    while True:
        later = (col(SwitchCdr.ended_at) > after[0]) | (
            (col(SwitchCdr.ended_at) == after[0]) & (col(SwitchCdr.id) > after[1])
        )
        asked = select(SwitchCdr).where(
            col(SwitchCdr.switch) == switch, col(SwitchCdr.ended_at) >= after[0], later, col(SwitchCdr.ended_at) < end
        )
        page = session.exec(asked.order_by(col(SwitchCdr.ended_at), col(SwitchCdr.id)).limit(PAGE)).all()
        session.expunge_all()
        if not page:
            return
        for row in page:
            yield _leg(row)
        after = (page[-1].ended_at, page[-1].id or 0)


def _leg(row: SwitchCdr) -> Leg:
    return Leg(
        id=row.uuid,
        base=row.call_key.partition("~")[0],
        key=row.call_key,
        leg=row.uuid,
        is_call=True,
        controlled=row.controlled,
        rank=row.rank,
        part_of=(),
        direction=row.direction,
        account_code=row.account_code,
        caller=row.caller,
        callee=row.callee,
        started_at=row.started_at,
        answered_at=row.answered_at,
        ended_at=row.ended_at,
        talk_ms=row.talk_ms,
        cause=row.cause,
        source="posted" + FORM if row.forgeable else "posted",
    )
