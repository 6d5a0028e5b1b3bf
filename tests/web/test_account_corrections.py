"""Corrections by hand on the panel: a booking undone once, money given and taken with a reason, and who may not."""

from __future__ import annotations

import pytest

from billing.models import AuditRow, LedgerTransaction, OutboxRow, Posting
from tests.web.conftest import Visitor

ANNA, DELTA, BLUEBIRD = 3, 5, 2
LINE = f"/accounts/{DELTA}/statement/1"
ADJUST = f"/accounts/{DELTA}/adjust"


def kept(visitor: Visitor) -> tuple[int, ...]:
    """Return what a refused correction must not move."""
    return tuple(len(visitor.world.rows(table)) for table in (LedgerTransaction, Posting, OutboxRow, AuditRow))


def test_a_booking_is_undone_once(owner: Visitor) -> None:
    """Delta's top-up of 80 is taken back by its mirror image; sent again nothing is booked; the line says so."""
    assert LINE in owner.get(f"/accounts/{DELTA}/statement?month=2026-11").text or owner.get(LINE).status_code == 200
    assert "Undo it" in owner.get(LINE).text
    form = {"operation": "undo-12345678", "reason": "bounced"}
    assert owner.submit(LINE, **form).status_code == 303
    assert owner.world.balance("Delta Logistics") == 0
    before = kept(owner)
    assert owner.submit(LINE, **form).status_code == 303
    assert "undone before" in owner.get(f"/accounts/{DELTA}/statement").text
    other = owner.submit(LINE, **(form | {"operation": "undo-87654321", "beyond": "yes"}))
    assert other.status_code == 422
    assert "has been reversed already" in other.text
    assert kept(owner)[:3] == before[:3]
    page = owner.get(LINE).text
    assert "undone" in page
    assert "Undo it" not in page


def test_money_is_given_and_taken_with_a_reason(owner: Visitor) -> None:
    """5 given and 3 taken; more than there is is refused, unless told to go beyond."""
    assert owner.get(ADJUST).status_code == 200
    for number, (way, text) in enumerate((("give", "5"), ("take", "3")), 1):
        form = {"operation": f"adjust-0000000{number}", "way": way, "amount": text, "reason": "goodwill"}
        assert owner.submit(ADJUST, **form).status_code == 303
    assert owner.world.balance("Delta Logistics") == 82_000_000
    take = {"operation": "adjust-00000003", "way": "take", "amount": "100", "reason": "charged back"}
    refused = owner.submit(ADJUST, **take)
    assert refused.status_code == 422
    assert owner.world.balance("Delta Logistics") == 82_000_000
    assert owner.submit(ADJUST, **(take | {"operation": "adjust-00000004", "beyond": "yes"})).status_code == 303
    assert owner.world.balance("Delta Logistics") == -18_000_000


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reason": ""}, "has a reason"),
        ({"amount": "0"}, "more than 0"),
        ({"amount": "-5"}, "more than 0"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1,000.00"}, "amount"),
    ],
)
def test_what_makes_no_sense_books_nothing(owner: Visitor, fields: dict[str, str], says: str) -> None:
    """It is said beside its field."""
    before = kept(owner)
    form = {"operation": "adjust-00000001", "way": "give", "amount": "5", "reason": "x", **fields}
    answer = owner.submit(ADJUST, **form)
    assert answer.status_code == 422
    assert says in answer.text
    assert "invalid-feedback" in answer.text
    assert kept(owner) == before


def test_corrections_are_the_operators(visitor: Visitor) -> None:
    """A reseller and a customer see their own bookings without who made them, and correct nothing."""
    for login, own in (("blue", BLUEBIRD), ("anna", ANNA)):
        visitor.cookies.clear()
        visitor.log_in(login)
        before = kept(visitor)
        page = visitor.get(f"/accounts/{own}/statement/1")
        assert page.status_code == 200
        assert "Undo it" not in page.text
        assert "<dt>By</dt>" not in page.text
        form = {"operation": "undo-12345678", "reason": "x", "amount": "5", "way": "give"}
        assert visitor.submit(f"/accounts/{own}/statement/1", **form).status_code == 403
        assert visitor.submit(f"/accounts/{own}/adjust", **form).status_code == 403
        assert visitor.get(LINE).status_code == 404
        assert visitor.get(f"/accounts/{own}/statement/99").status_code == 404
        assert kept(visitor) == before
