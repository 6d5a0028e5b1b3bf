"""Alerts: one stands for each kind and subject, and what was is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing.alerts import clear_alert, dismiss_alert, list_alerts, raise_alert
from billing.errors import NotFound
from billing.models import AuditRow
from billing.store import reading, work
from tests.integration.tree import NOW, plant

MINUTE = timedelta(minutes=1)


def _raise(engine: Engine, subject: str = "account:2", *, kind: str = "balance.low", minutes: int = 0) -> int | None:
    with work(engine) as session:
        return raise_alert(
            session, kind=kind, subject=subject, message="low", facts={"balance": "0.10"}, now=NOW + minutes * MINUTE
        )


def test_an_alert_stands_once(engine: Engine) -> None:
    """Raised again it changes nothing; after it was cleared the next is a new row."""
    first = _raise(engine)
    assert first
    assert _raise(engine, minutes=1) is None
    other = _raise(engine, "account:3")
    assert _raise(engine, kind="balance.gone")
    with work(engine) as session:
        assert clear_alert(session, kind="balance.low", subject="account:2", actor="billing", now=NOW + MINUTE)
        assert not clear_alert(session, kind="balance.low", subject="account:2", actor="billing", now=NOW + MINUTE)
    second = _raise(engine, minutes=2)
    assert second
    with reading(engine) as session:
        standing = [alert.id for alert in list_alerts(session, standing=True, kind="balance.low")]
        assert standing == [second, other]
        (gone,) = list_alerts(session, standing=False)
        assert (gone.id, gone.cleared_at, gone.cleared_by, gone.facts) == (
            first,
            NOW + MINUTE,
            "billing",
            {"balance": "0.10"},
        )


def test_of_many_at_once_one_raises(engine: Engine) -> None:
    """Eight that find the same thing at the same moment raise one alert."""
    with ThreadPoolExecutor(8) as pool:
        raised = list(pool.map(lambda _: _raise(engine), range(8)))
    assert len([one for one in raised if one]) == 1


def test_a_person_clears_an_alert_once(engine: Engine) -> None:
    """Who cleared it is in the audit log; again it changes nothing, and what is not there cannot be cleared."""
    raised = _raise(engine) or 0
    with work(engine) as session:
        assert dismiss_alert(session, raised, actor="eva", now=NOW)
        assert not dismiss_alert(session, raised, actor="max", now=NOW + MINUTE)
        with pytest.raises(NotFound):
            dismiss_alert(session, 99, actor="eva", now=NOW)
    with reading(engine) as session:
        (row,) = session.exec(select(AuditRow).where(AuditRow.action == "alert.clear")).all()
        assert (row.actor, row.subject) == ("eva", f"alert:{raised}")
        assert list_alerts(session)[0].cleared_by == "eva"


def test_alerts_are_read_in_pages_and_by_account(engine: Engine) -> None:
    """Newest first, from where the last page ended; an account's alone."""
    tree = plant(engine)
    with work(engine) as session:
        for minute in range(5):
            account_id = tree.carl if minute % 2 else tree.ray
            subject = f"{minute}"
            raise_alert(
                session, kind="k", subject=subject, message="m", account_id=account_id, now=NOW + minute // 2 * MINUTE
            )
    with reading(engine) as session:
        first = list_alerts(session, most=2)
        rest = list_alerts(session, before=(first[-1].raised_at, first[-1].id or 0))
        assert [alert.subject for alert in (*first, *rest)] == ["4", "3", "2", "1", "0"]
        assert [alert.subject for alert in list_alerts(session, account_ids=[tree.carl])] == ["3", "1"]
        assert list_alerts(session, account_ids=[]) == []
