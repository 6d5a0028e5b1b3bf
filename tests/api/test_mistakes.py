"""Mistakes that others have made, ruled out over the whole API: amounts as text, and looking that changes something."""

from __future__ import annotations

import csv
import io

from fastapi import FastAPI

from billing.store import work
from tests.api import strangers
from tests.api.conftest import ANNA, BLUEBIRD, PREFIX, Program
from tests.api.routes import operations
from tests.api.store_state import differences, state_of
from tests.api.test_id_walk import path_ids
from tests.web.world import EURO, add_record

LARGE = "1234567.890123"


def test_large_and_small_amounts_keep_every_digit(owner: Program) -> None:
    """A million and a micro-unit come back as they went in, in JSON and in files: no separator, exponent or float."""
    path = f"/accounts/{BLUEBIRD}"
    for number, text in enumerate((LARGE, "0.000001")):
        assert owner.post(f"{path}/topups", {"amount": text}, once=f"a{number}").json()["amount"] == text
    assert owner.world.balance("Bluebird Voice") == 475 * EURO + 1_234_567_890_123 + 1
    assert owner.get(f"{path}/balance").json()["balance"] == "1235042.890124"
    told = owner.get(f"{path}/statement?month=2026-11").json()
    assert [line["amount"] for line in told["items"]] == [LARGE, "0.000001"]
    lines = list(csv.reader(io.StringIO(owner.get(f"{path}/statement.csv?month=2026-11").text)))
    assert [line[-1] for line in lines[1:]] == ["475.00", "1235042.890123", "1235042.890124", "1235042.890124"]
    moved = owner.post("/transfers", {"from_account_id": BLUEBIRD, "to_account_id": ANNA, "amount": LARGE}, once="b")
    assert (moved.status_code, moved.json()["amount"]) == (201, LARGE)
    assert owner.world.balance("Anna's Bakery") == 25 * EURO + 1_234_567_890_123


def test_a_call_that_costs_millions_keeps_every_digit(owner: Program) -> None:
    """No thousands separator and no float in the price of one call, in JSON and in files."""
    with work(owner.world.engine) as session:
        add_record(session, owner.world, 1, "Anna's Bakery", cost_micros=1_234_567_890_123)
    assert owner.get("/cdrs").json()["items"][0]["cost"] == LARGE
    assert owner.get("/cdrs/pbx:000001").json()["cost"] == LARGE
    (line,) = csv.DictReader(io.StringIO(owner.get("/cdrs.csv").text))
    assert line["cost"] == LARGE


def test_looking_changes_nothing(app: FastAPI, owner: Program) -> None:
    """Every address that is read by a link leaves both stores as they were: nothing is hung up, paid or ended by it."""
    ids = strangers.make_strangers(owner)
    assert owner.get("/me").status_code == 200
    before = state_of(owner)
    looked = 0
    for operation in operations(app):
        if operation.method == "GET":
            values = {name: ids[kind] for kind, name in path_ids(operation)}
            answer = owner.ask("GET", operation.address(**values))
            assert answer.status_code < 500, (operation.name, answer.text)
            looked += answer.status_code == 200
    assert looked > 40
    assert differences(before, state_of(owner)) == []


def test_what_acts_is_no_link(app: FastAPI, owner: Program) -> None:
    """Where something is done, a GET is 405, or a list or a thing to look at: never the deed."""
    acting = {one.path for one in operations(app) if one.method != "GET"}
    reading = {one.path for one in operations(app) if one.method == "GET"}
    assert {"/calls/{call_id}/hangup", "/accounts/{account_id}/hangup", "/transfers"} <= acting - reading
    before = state_of(owner)
    for operation in operations(app):
        if operation.path in acting - reading:
            answer = owner.ask("GET", operation.address())
            # A deed below a list of parts may read like the name of a part: then there is none of that name.
            assert answer.status_code in {404, 405, 422}, (operation.name, answer.text)
    assert differences(before, state_of(owner)) == []


def test_no_balance_is_shown_without_a_key(app: FastAPI, owner: Program) -> None:
    """Without a key nothing of the API answers but its own description."""
    for operation in operations(app):
        answer = owner.client.request(operation.method, PREFIX + operation.address())
        assert (answer.status_code, answer.json()["code"]) == (401, "key_missing"), operation.name
