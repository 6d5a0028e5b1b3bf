"""Alerts and the fraud guard in the panel: seen, cleared, lifted; rules made and ended."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing.accounts import set_status
from billing.alerts import raise_alert
from billing.models import Account, AccountStatus, Alert, AuditRow, FraudKind, FraudRule
from billing.store import work
from tests.web.conftest import Visitor
from tests.web.world import HOSTILE, NOON

DELTA = 5


def _raise(owner: Visitor, kind: str, *, minutes: int = 0, account_id: int | None = DELTA, message: str = "m") -> int:
    with work(owner.world.engine) as session:
        made = raise_alert(
            session,
            kind=kind,
            subject=f"{kind}:{minutes}",
            message=message,
            account_id=account_id,
            facts={"blocked": True},
            now=NOON + timedelta(minutes=minutes),
        )
    assert made is not None
    return made


def test_what_stands_is_shown_and_cleared(owner: Visitor) -> None:
    """Newest first, hostile text escaped; a cleared one is kept under Over, with who did it."""
    assert "Nothing to look at" in owner.get("/alerts").text
    number = _raise(owner, "balance.low", message=HOSTILE)
    page = owner.get("/alerts").text
    assert "&lt;script&gt;" in page
    assert "Delta Logistics" in page
    assert owner.submit(f"/alerts/{number}/clear").status_code == 303
    assert "Nothing to look at" in owner.get("/alerts").text
    over = owner.get("/alerts?over=true").text
    assert "balance.low" in over
    assert "owner" in over
    owner.submit(f"/alerts/{number}/clear")
    assert "cleared before" in owner.get("/alerts").text
    assert owner.submit("/alerts/99/clear").status_code == 404


def test_there_is_a_page_for_older_alerts(owner: Visitor) -> None:
    """Fifty a page; a place that is none is not found."""
    for n in range(60):
        _raise(owner, "books.broken", minutes=n, account_id=None)
    first = owner.get("/alerts").text
    assert first.count("books.broken") == 50
    onward = first.partition('href="/alerts?before=')[2].partition('"')[0]
    assert owner.get(f"/alerts?before={onward}").text.count("books.broken") == 10
    for place in ("x", "2026-01-01T00:00:00,1", "2026-01-01T00:00:00+00:00,x"):
        assert owner.get("/alerts", params={"before": place}).status_code == 404


def test_one_button_lifts_what_the_guard_did(owner: Visitor) -> None:
    """The alerts are over, the account calls again, in SQL and in the live store."""
    _raise(owner, "fraud.spend_hour")
    _raise(owner, "fraud.new_country")
    other = _raise(owner, "balance.low")
    with work(owner.world.engine) as session:
        set_status(session, DELTA, AccountStatus.BLOCKED, actor="fraud guard", now=NOON)
    assert "Lift" in owner.get("/alerts").text
    answer = owner.submit(f"/fraud/lift/{DELTA}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts")
    assert "2 alerts cleared" in owner.get("/alerts").text
    assert [alert.id for alert in owner.world.rows(Alert) if alert.cleared_at is None] == [other]
    (account,) = [row for row in owner.world.rows(Account) if row.id == DELTA]
    assert account.status is AccountStatus.ACTIVE
    assert owner.run(lambda: owner.world.redis.hget(f"{{callctl}}:a:{DELTA}", "status")) == "active"
    assert owner.submit("/fraud/lift/999").status_code == 404


def test_a_rule_is_made_and_ended(owner: Visitor) -> None:
    """In words on the page, in the audit log, for the account that was named."""
    assert "Nothing is guarded" in owner.get("/fraud").text
    answer = owner.submit(
        "/fraud", kind="spend_hour", action="block", account="Delta Logistics", limit="50.00", prefixes="881, 25261"
    )
    assert answer.status_code == 303
    (rule,) = owner.world.rows(FraudRule)
    assert (rule.account_id, rule.kind, rule.limit_micros) == (DELTA, FraudKind.SPEND_HOUR, 50_000_000)
    assert rule.prefixes == ["881", "25261"]
    page = owner.get("/fraud").text
    assert "more than 50.00 an hour (881, 25261)" in page
    assert owner.submit(f"/fraud/{rule.id}/end").status_code == 303
    assert "Nothing is guarded" in owner.get("/fraud").text
    actions = [row.action for row in owner.world.rows(AuditRow) if row.action.startswith("fraud.")]
    assert actions == ["fraud.rule.add", "fraud.rule.end"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "spend_hour", "action": "block"}, "needs a limit"),
        ({"kind": "spend_hour", "action": "block", "limit": "1,000.00"}, "amount"),
        ({"kind": "spend_hour", "action": "block", "limit": "NaN"}, "amount"),
        ({"kind": "spend_hour", "action": "refuse", "limit": "5"}, "only a rule on destinations"),
        ({"kind": "short_calls", "action": "warn", "calls": "many"}, "whole number"),
        ({"kind": "short_calls", "action": "warn", "calls": "9" * 300}, "from 1 to"),
        ({"kind": "moon", "action": "warn"}, "what is looked at"),
        ({"kind": "destination", "action": "warn", "prefixes": "4x"}, "digits"),
        ({"kind": "new_country", "action": "warn", "account": HOSTILE}, "no account"),
    ],
)
def test_what_is_no_rule_is_said_and_makes_none(owner: Visitor, fields: dict[str, str], sentence: str) -> None:
    """The form comes back with what was typed."""
    sent = {"calls": "5", "within_s": "60", "shorter_s": "5"} if fields["kind"] == "short_calls" else {}
    answer = owner.submit("/fraud", **(sent | fields))
    assert answer.status_code == 422
    assert sentence in answer.text
    assert "<script>alert" not in answer.text
    assert owner.world.rows(FraudRule) == []
