"""PINs over the API: made and told once, known by number, wished for, taken away."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from billing.catalogue import load_catalogue
from billing.models import AuditRow, IdentityKind
from billing.pins import digest_of
from billing.settings import Settings
from billing.store import reading
from tests.api.conftest import ANNA, COPPER, DELTA, OPERATOR, PINS, PREFIX, Program, make_key
from tests.api.store_state import rows_of
from web.app import create_app

WISH = "4071983362"
PATH = f"/accounts/{ANNA}/identities"


def error(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_pin_is_told_once_and_known_by_its_number(reseller: Program) -> None:
    """The answer that makes it has it; no list, no account, no table and no audit row has it again."""
    answer = reseller.post(PATH, {"kind": "pin"})
    assert answer.status_code == 201
    made = answer.json()
    assert len(made["pin"]) == 10
    known: dict[str, Any] = made["items"][-1]
    assert known == {"kind": "pin", "value": known["value"], "made_at": "2026-11-23T12:00:00Z"}
    assert reseller.get(PATH).json()["items"][-1] == known
    account = reseller.get(f"/accounts/{ANNA}").json()
    assert account["identities"][-1] == known
    everything = str([rows_of(reseller.world), reseller.get(PATH).text, account])
    assert made["pin"] not in everything
    with reading(reseller.world.engine) as session:
        chain = load_catalogue(session, pins=True).chain(
            IdentityKind.PIN, digest_of(PINS.secret.get_secret_value(), made["pin"])
        )
    assert chain is not None
    assert chain[0].account_id == ANNA
    assert reseller.ask("DELETE", f"{PATH}/pin/{known['value']}").status_code == 204
    assert error(reseller.ask("DELETE", f"{PATH}/pin/{known['value']}")) == (404, "not_found")


def test_a_pin_of_so_many_digits(reseller: Program) -> None:
    """8 to 20; a wish has the digits that it has, and nothing but a PIN has any."""
    assert len(reseller.post(PATH, {"kind": "pin", "digits": 14}).json()["pin"]) == 14
    before = rows_of(reseller.world)
    for body in (
        {"kind": "pin", "digits": 7},
        {"kind": "pin", "digits": 10, "value": WISH},
        {"kind": "account_code", "value": "x", "digits": 10},
        {"kind": "account_code"},
    ):
        assert error(reseller.post(PATH, body)) == (422, "invalid")
    assert rows_of(reseller.world) == before


def test_a_wish_that_is_taken_says_nothing_of_whose_it_is(owner: Program, reseller: Program) -> None:
    """The same sentence for an account of one's own and for a stranger's; a PIN that is none is not repeated."""
    assert owner.post(f"/accounts/{DELTA}/identities", {"kind": "pin", "value": WISH}).json()["pin"] == WISH
    for program, account in ((reseller, ANNA), (owner, DELTA), (owner, COPPER)):
        answer = program.post(f"/accounts/{account}/identities", {"kind": "pin", "value": WISH})
        assert answer.status_code == 409
        assert "cannot be had" in answer.json()["detail"]
        assert "Delta" not in answer.text
        assert WISH not in answer.text
    for wrong in ("12345", "12345678", "4071x83362", "9" * 99):
        answer = reseller.post(PATH, {"kind": "pin", "value": wrong})
        assert error(answer) == (409, "refused")
        assert wrong not in answer.text


def test_a_stranger_makes_no_pin(reseller: Program, customer: Program, reader: Program) -> None:
    """A foreign account is not there, one's own is the reseller's to change, and reading is not writing."""
    before = rows_of(reseller.world)
    assert error(reseller.post(f"/accounts/{DELTA}/identities", {"kind": "pin"})) == (404, "not_found")
    assert error(reseller.post(f"/accounts/{OPERATOR}/identities", {"kind": "pin"})) == (404, "not_found")
    assert error(customer.post(PATH, {"kind": "pin"})) == (403, "scope_missing")
    assert error(reader.post(PATH, {"kind": "pin"})) == (403, "scope_missing")
    new = {"name": "New", "identities": [{"kind": "pin", "value": WISH}]}
    assert error(reseller.post("/accounts", new)) == (409, "refused")
    assert rows_of(reseller.world) == before


def test_the_log_and_the_audit_say_no_pin(owner: Program, caplog: pytest.LogCaptureFixture) -> None:
    """Not even of a request that was refused."""
    with caplog.at_level(logging.DEBUG):
        owner.post(PATH, {"kind": "pin", "value": WISH})
        owner.post(PATH, {"kind": "pin", "value": WISH})
    told = caplog.text + str([row.model_dump() for row in owner.world.rows(AuditRow)])
    assert WISH not in told
    assert digest_of(PINS.secret.get_secret_value(), WISH) not in told


def test_without_a_secret_there_are_no_pins(owner: Program) -> None:
    """The sentence says which setting is missing."""
    world = owner.world
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=Settings())
    with TestClient(app) as client:
        headers = {"authorization": f"Bearer {make_key(world, OPERATOR, ['accounts:write'])}"}
        answer = client.post(PREFIX + PATH, json={"kind": "pin"}, headers=headers)
    assert error(answer) == (409, "refused")
    assert "[pins] secret" in answer.json()["detail"]
