"""Versions of a tariff over the API: listed, written out as a deck, and the last import taken back, once."""

from __future__ import annotations

from billing.models import TariffVersion
from tests.api.conftest import Program
from tests.api.store_state import differences, state_of
from tests.api.test_resources import DECK, error, send


def test_an_import_is_listed_written_out_and_taken_back(owner: Program, reseller: Program) -> None:
    """What comes out goes in again; an undo is one version, however often it is sent; a stale one is refused."""
    number = owner.post("/tariffs", {"name": "retail", "currency": "EUR"}).json()["id"]
    path = f"/tariffs/{number}"
    for version, deck in ((1, DECK), (2, DECK + "33,France,0,0.10\n")):
        query = f"tariff_id={number}&confirm=true&version={version}"
        assert send(owner, query, deck, headers={"idempotency-key": f"deck{version}"}).status_code == 200
    told = owner.get(f"{path}/versions").json()["items"]
    assert [(one["version"], one["rates"], one["undoes"]) for one in told] == [(3, 3, None), (2, 2, None)]
    first = owner.get(f"{path}/versions?most=1").json()
    assert [one["version"] for one in owner.get(f"{path}/versions?after={first['next']}").json()["items"]] == [2]
    file = owner.get(f"{path}/rates.csv").text
    assert [line.split(",")[0] for line in file.splitlines()[1:]] == ["33", "49", "4915"]
    assert len(owner.get(f"{path}/rates.csv?version=2").text.splitlines()) == 3
    assert send(owner, f"tariff_id={number}", file).json()["counts"].get("unchanged") == 3
    before = state_of(owner)
    assert error(owner.get(f"{path}/rates.csv?version=9")) == (404, "not_found")
    assert error(owner.post(f"{path}/undo", {"version": 3})) == (400, "idempotency_key_missing")
    assert error(reseller.post(f"{path}/undo", {"version": 3}, once="x")) == (404, "not_found")
    assert differences(before, state_of(owner)) == []
    assert error(owner.post(f"{path}/undo", {"version": 2}, once="stale")) == (409, "conflict")
    done = owner.post(f"{path}/undo", {"version": 3}, once="undo")
    assert (done.status_code, done.json()["version"], done.json()["rates"]) == (200, 4, 2)
    assert owner.post(f"{path}/undo", {"version": 3}, once="undo").json() == done.json()
    assert [row.undoes for row in owner.world.rows(TariffVersion)] == [None, None, 3]
    assert "33" not in [line.split(",")[0] for line in owner.get(f"{path}/rates.csv").text.splitlines()]
