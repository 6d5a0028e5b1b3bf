"""The re-rating screens: preview, book, take back; what stops goes on; what makes no sense is told in the form."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from fakeredis import FakeServer

from billing import outbox
from billing.books import check_store
from billing.models import Correction, RerateRun
from billing.store import reading, work
from billing.tariffs import import_rates
from rating.tariff import Step
from tests.web.conftest import Visitor
from tests.web.rerating import NEW, talk

FORM = {"since": "2026-11-01", "until": "2026-11-23", "reason": "late deck", "beyond": "skip", "operation": "r1"}


@pytest.fixture
def desk(owner: Visitor) -> Visitor:
    """An owner; three calls were priced by yesterday's deck, and Redis knows."""
    talk(owner.world)
    owner.run(lambda: outbox.drain(owner.world.engine, owner.world.credit, clock=owner.world.clock))
    return owner


def begin(desk: Visitor, **changes: str) -> Any:
    return desk.submit("/reratings", at="/reratings", **{**FORM, **changes})


def go_on(desk: Visitor, page: str) -> str:
    """Ask for the next portion as the page does, until none goes on."""
    for _ in range(20):
        text = str(desk.get(page).text)
        if "go-on" not in text:
            return text
        assert desk.submit(f"{page}/go-on", at=page).status_code == 200
    raise AssertionError("it never ends")


def test_a_run_from_the_form_to_taking_it_back(desk: Visitor) -> None:
    """The page says who pays more and less, books it, shows it at the call, and takes it back."""
    before = {name: desk.world.balance(name) for name in ("Delta Logistics", "Anna's Bakery", "Bluebird Voice")}
    answer = begin(desk)
    assert (answer.status_code, answer.headers["location"]) == (303, "/reratings/1")
    text = go_on(desk, "/reratings/1")
    # Anna: 0.17 becomes 0.075, 0.41 becomes 0.375; Delta: 0.29 becomes 0.225.
    assert "Book 5 corrections" in text
    assert re.search(r"Anna&#39;s Bakery.*?<td data-label=\"Cheaper\"[^>]*>2<", text, re.DOTALL)
    assert "−0.195" in text
    assert desk.world.rows(Correction) == []

    assert desk.submit("/reratings/1/post", at="/reratings/1").status_code == 303
    text = go_on(desk, "/reratings/1")
    assert "Take back" in text
    assert desk.world.balance("Delta Logistics") == before["Delta Logistics"] + 65_000
    assert desk.world.balance("Anna's Bakery") == before["Anna's Bakery"] + 130_000
    record = desk.get("/cdrs/record?id=pbx:900001").text
    assert "late deck" in record
    assert "instead of 0.29" in record
    assert "90 s at 0.15 per 60 s" in record

    assert desk.submit("/reratings/1/undo", at="/reratings/1").status_code == 303
    assert "Everything is as it was" in go_on(desk, "/reratings/1")
    assert {name: desk.world.balance(name) for name in before} == before
    assert "taken back" in desk.get("/cdrs/record?id=pbx:900001").text
    assert "undone" in desk.get("/reratings").text
    with reading(desk.world.engine) as session:
        assert not [found for found in check_store(session).findings if "correction" in found.what.lower()]


def test_the_same_form_twice_begins_one_run(desk: Visitor) -> None:
    """Its id was minted with the page; sent again it shows the same run."""
    assert begin(desk).headers["location"] == begin(desk).headers["location"] == "/reratings/1"
    assert begin(desk, prefix="49").status_code == 422
    assert len(desk.world.rows(RerateRun)) == 1


def test_the_form_of_today_is_one_run_when_it_is_sent_again_later(desk: Visitor) -> None:
    """Today is meant as far as it has gone the first time: a second later it is the same run; another day is not."""
    today = desk.world.clock.now().date().isoformat()
    first = begin(desk, until=today)
    desk.world.clock.move(60)
    again = begin(desk, until=today)
    assert (again.status_code, again.headers["location"]) == (303, first.headers["location"])
    assert begin(desk, until="2026-11-22").status_code == 422
    assert len(desk.world.rows(RerateRun)) == 1


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"reason": " "}, 422, "needs a reason"),
        ({"account": "nobody"}, 422, "nobody"),
        ({"prefix": "+49"}, 422, "a prefix is"),
        ({"since": "2026-12-24", "until": "2026-12-24"}, 422, "ends after it begins"),
        ({"since": "soon"}, 400, ""),
        ({"beyond": "perhaps"}, 400, ""),
        ({"tariff": "none"}, 422, "there is no tariff"),
    ],
)
def test_a_form_that_makes_no_sense(desk: Visitor, changes: dict[str, str], status: int, says: str) -> None:
    """It is told with the form, which keeps what was written; no run is begun."""
    answer = begin(desk, **changes)
    assert answer.status_code == status
    assert says in answer.text
    assert desk.world.rows(RerateRun) == []


def test_a_dropped_preview_and_one_that_is_not_there(desk: Visitor) -> None:
    """A preview is dropped without a trace of money; an unknown number is not found; nothing is done by a link."""
    begin(desk)
    go_on(desk, "/reratings/1")
    assert desk.submit("/reratings/1/drop", at="/reratings/1").headers["location"] == "/reratings"
    assert desk.submit("/reratings/1/post", at="/reratings").headers["location"] == "/reratings/1"
    assert "it was dropped" in desk.get("/reratings/1").text
    assert desk.get("/reratings/99").status_code == 404
    assert desk.get("/reratings/1/post").status_code == 405
    assert desk.world.rows(Correction) == []


def test_without_the_live_store_no_money_is_taken(desk: Visitor, redis_server: FakeServer) -> None:
    """What takes money says so and stays a preview; later it is booked."""
    with work(desk.world.engine) as session:
        dearer = replace(NEW, steps=(Step(0, Decimal(3), 60, 1),))
        import_rates(session, "Retail", [dearer], actor="test", now=desk.world.clock.now())
    begin(desk)
    go_on(desk, "/reratings/1")
    redis_server.connected = False
    desk.submit("/reratings/1/post", at="/reratings/1")
    assert "no money can be set aside" in desk.get("/reratings/1").text
    assert desk.world.rows(Correction) == []
    redis_server.connected = True
    desk.submit("/reratings/1/post", at="/reratings/1")
    assert "Take back" in go_on(desk, "/reratings/1")
    assert len(desk.world.rows(Correction)) == 5


def test_without_the_live_store_money_is_given(desk: Visitor, redis_server: FakeServer) -> None:
    """It is booked, and the page says that live calls see it later."""
    begin(desk)
    go_on(desk, "/reratings/1")
    redis_server.connected = False
    desk.submit("/reratings/1/post", at="/reratings/1")
    assert "Live calls see it as soon as the live store answers" in desk.get("/reratings/1").text
    assert len(desk.world.rows(Correction)) == 5


def test_the_screens_are_for_owners(visitor: Visitor) -> None:
    """Who has no session is sent to the login, and a form without a token is refused."""
    assert visitor.get("/reratings").headers["location"].startswith("/login")
    visitor.log_in()
    assert visitor.post("/reratings", data=FORM).status_code == 403
    assert visitor.world.rows(RerateRun) == []
