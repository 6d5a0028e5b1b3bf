"""The page of the books: what a check found, the trial balance of a day, and lifting what was parked."""

from __future__ import annotations

from sqlmodel import select

from billing.models import Account, AccountStatus, Alert
from billing.store import work
from tests.web.conftest import Visitor
from tests.web.world import add_record

ANNA = 3


def _anna(owner: Visitor) -> AccountStatus:
    account: Account = next(row for row in owner.world.rows(Account) if row.id == ANNA)
    return account.status


def test_the_page_shows_the_trial_balance_of_any_day(owner: Visitor) -> None:
    """580 EUR came in; the year before there was nothing."""
    page = owner.get("/books").text
    assert "Prepaid money" in page
    assert page.count("580.00") == 4
    assert "Not checked yet" in page
    assert "Nothing posted" in owner.get("/books", params={"at": "2020-01-01"}).text
    assert owner.get("/books", params={"at": "soon"}).status_code == 400


def test_what_a_check_finds_is_parked_and_lifted_on_the_page(owner: Visitor) -> None:
    """A record whose charge was never posted parks its account; one button lets it call again and clears the alert."""
    assert owner.submit("/books/check", scope="everything").status_code == 303
    assert "The books balance" in owner.get("/books").text
    with work(owner.world.engine) as session:
        add_record(session, owner.world, 1, "Anna's Bakery")
    owner.submit("/books/check", scope="new")
    page = owner.get("/books").text
    assert "Let it call again" in page
    assert "were never posted" in page
    assert _anna(owner) is AccountStatus.PARKED
    (alert,) = owner.world.rows(Alert)
    assert owner.submit("/books/lift", alert=str(alert.id)).status_code == 303
    assert _anna(owner) is AccountStatus.ACTIVE
    assert "Let it call again" not in owner.get("/books").text
    assert owner.submit("/books/lift", alert="99").status_code == 404
    with work(owner.world.engine) as session:
        (kept,) = session.exec(select(Alert)).all()
        assert kept.cleared_by == "owner"
