"""Re-rating over the API: begun once, looked at in portions, posted, undone, dropped; the operator's alone."""

from __future__ import annotations

from typing import Any

import pytest

from billing.models import Correction, RerateRun
from billing.store import work
from tests.api.conftest import ANNA, DELTA, Program
from tests.api.store_state import differences, state_of
from tests.api.test_resources import error, send
from tests.api.test_topups import money
from tests.web.world import EURO, add_record

DECK = "prefix,destination,connect_fee,price,per_s,first_increment_s,increment_s\n44,United Kingdom,0.02,2.20,60,6,6\n"
RUN = {
    "since": "2026-11-01T00:00:00Z",
    "until": "2026-11-23T12:00:00Z",
    "account_id": ANNA,
    "reason": "wrong price for the United Kingdom",
}
"""A call of 61 s cost 0.02 and 66 s at 1.10 a minute, 1.23; at 2.20 a minute it costs 2.44."""


@pytest.fixture
def dearer(owner: Program) -> Program:
    """An operator whose tariff is dearer by now than when Anna called."""
    with work(owner.world.engine) as session:
        add_record(session, owner.world, 1, "Anna's Bakery")
    number = owner.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"]
    done = send(owner, f"tariff_id={number}&confirm=true&version=1", DECK, headers={"idempotency-key": "deck"})
    assert done.status_code == 200, done.text
    return owner


def begin(program: Program, once: str = "run", **changes: Any) -> Any:
    """Begin a run."""
    return program.post("/reratings", RUN | changes, once=once)


def test_a_run_is_previewed_posted_and_undone(dearer: Program) -> None:
    """The preview says 1.21 more and books nothing; posted it is taken, twice asked once; undone it is given back."""
    began = begin(dearer)
    assert (began.status_code, began.json()["going"], began.json()["charges"]) == (201, True, 1)
    assert begin(dearer).json() == began.json()
    path = f"/reratings/{began.json()['id']}"
    before = money(dearer)
    seen = dearer.post(f"{path}/preview").json()
    assert (seen["status"], seen["going"], seen["waiting"]) == ("previewed", False, 1)
    assert [(line["account"], line["more"]) for line in seen["accounts"]] == [("Anna's Bakery", "1.21")]
    assert [(one["before"], one["after"]) for one in seen["largest"]] == [("1.23", "2.44")]
    assert money(dearer) == before
    done = dearer.post(f"{path}/post").json()
    assert (done["status"], done["going"], done["done"], done["live"]) == ("posted", False, 1, True)
    assert dearer.world.balance("Anna's Bakery") == 25 * EURO - 1_210_000
    assert dearer.post(f"{path}/post").json()["done"] == 0
    assert dearer.world.balance("Anna's Bakery") == 25 * EURO - 1_210_000
    undone = dearer.post(f"{path}/undo").json()
    assert (undone["status"], undone["done"]) == ("undone", 1)
    assert dearer.world.balance("Anna's Bakery") == 25 * EURO
    told = dearer.get(path).json()
    assert (told["booked"], told["undone"], told["status"]) == (1, 1, "undone")
    assert [one["id"] for one in dearer.get("/reratings").json()["items"]] == [told["id"]]
    assert len(dearer.world.rows(Correction)) == 2


def test_a_record_says_what_it_costs_by_now_and_why(dearer: Program) -> None:
    """What was charged and its reason stay; beside them stands each correction with its own, and what it comes to."""
    (listed,) = dearer.get("/cdrs").json()["items"]
    record = f"/cdrs/{listed['call_id']}"
    (charge,) = dearer.get(record).json()["charges"]
    assert (charge["amount"], charge["amount_now"], charge["corrections"]) == ("1.23", "1.23", [])
    path = f"/reratings/{begin(dearer).json()['id']}"
    for step in ("preview", "post"):
        dearer.post(f"{path}/{step}")
    (after,) = dearer.get(record).json()["charges"]
    assert {key: after[key] for key in ("amount", "explanation")} == {
        key: charge[key] for key in ("amount", "explanation")
    }
    (made,) = after["corrections"]
    assert (after["amount_now"], made["before"], made["amount"], made["takes_back"]) == ("2.44", "1.23", "2.44", False)
    assert made["reason"] == RUN["reason"]
    assert "66 s at 2.2 per 60 s, in increments of 6 s: 2.42 EUR" in made["explanation"]
    dearer.post(f"{path}/undo")
    (undone,) = dearer.get(record).json()["charges"]
    assert undone["amount_now"] == "1.23"
    assert [(one["amount"], one["takes_back"]) for one in undone["corrections"]] == [("2.44", False), ("1.23", True)]


def test_what_is_wrong_with_a_run_changes_nothing(dearer: Program, reseller: Program) -> None:
    """No reason, a period that is not over, another body under the key, a step at the wrong time, somebody below."""
    path = f"/reratings/{begin(dearer).json()['id']}"
    before = state_of(dearer)
    assert error(begin(dearer, reason="another", once="run")) == (422, "other_body")
    assert error(begin(dearer, once="a", until="2026-11-24T00:00:00Z", reason="x" * 501)) == (422, "invalid")
    assert error(begin(dearer, once="b", account_id=999)) == (404, "not_found")
    assert error(begin(dearer, once="c", to_tariff="none")) == (404, "not_found")
    assert error(dearer.post(f"{path}/post")) == (409, "conflict")
    assert error(dearer.post(f"{path}/undo")) == (409, "conflict")
    assert error(dearer.get("/reratings/999")) == (404, "not_found")
    assert error(begin(reseller)) == (403, "scope_missing")
    assert error(reseller.get("/reratings")) == (403, "not_allowed")
    assert error(reseller.get(path)) == (404, "not_found")
    assert differences(before, state_of(dearer)) == []
    refused = begin(dearer, once="late", until="2026-11-24T00:00:00Z")
    assert error(refused) == (409, "refused")
    assert begin(dearer, once="late", until="2026-11-24T00:00:00Z").text == refused.text
    assert len(dearer.world.rows(RerateRun)) == 1


def test_a_run_that_booked_nothing_is_dropped(dearer: Program) -> None:
    """Dropped, it can neither be posted nor looked at further; a run of nobody's calls changes nothing."""
    path = f"/reratings/{begin(dearer, account_id=DELTA).json()['id']}"
    assert dearer.post(f"{path}/preview").json()["waiting"] == 0
    assert dearer.ask("DELETE", path).status_code == 204
    assert dearer.ask("DELETE", path).status_code == 204
    assert dearer.get(path).json()["status"] == "dropped"
    assert error(dearer.post(f"{path}/post")) == (409, "conflict")
