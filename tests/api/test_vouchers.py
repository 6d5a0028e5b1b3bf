"""Statements and vouchers over the API: what adds up, what is told once, what is somebody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from billing.models import AuditRow, Posting, Voucher, VoucherBatch
from tests.api.conftest import ANNA, BLUEBIRD, COPPER, DELTA, OPERATOR, Program

BATCHES = "/voucher-batches"


def kept(program: Program) -> list[int]:
    """Return what a refused request must leave as it is."""
    return [len(program.world.rows(table)) for table in (VoucherBatch, Voucher, Posting, AuditRow)]


def make(program: Program, number: int = 2, worth: str = "10.00", **more: Any) -> dict[str, Any]:
    """Make a batch, or fail the test."""
    answer = program.post(BATCHES, {"name": "summer", "number": number, "worth": worth, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_a_resellers_voucher_is_redeemed_out_of_its_own_wallet(reseller: Program) -> None:
    """10.00 for Anna are 10.00 less for Bluebird, once, however often the code is sent; the codes are told once."""
    world = reseller.world
    batch = make(reseller)
    assert (batch["issuer_id"], batch["worth"], batch["redeemed"], len(batch["codes"])) == (BLUEBIRD, "10.00", 0, 2)
    code = batch["codes"][0]
    first = reseller.post(f"/accounts/{ANNA}/vouchers", {"code": code.lower().replace("-", " ")})
    assert (first.status_code, first.json()) == (
        200,
        {
            "account_id": ANNA,
            "worth": "10.00",
            "currency": "EUR",
            "batch": "summer",
            "balance": "35.00",
            "replayed": False,
        },
    )
    again = reseller.post(f"/accounts/{ANNA}/vouchers", {"code": code})
    assert (again.json()["replayed"], again.json()["balance"]) == (True, None)
    other = reseller.post(f"/accounts/{COPPER}/vouchers", {"code": code})
    assert (other.status_code, other.json()["code"]) == (409, "refused")
    assert (world.balance("Anna's Bakery"), world.balance("Bluebird Voice")) == (35_000_000, 465_000_000)
    told = reseller.get(f"{BATCHES}/{batch['id']}").json()
    assert (told["redeemed"], "codes" in told) == (1, False)
    listed = reseller.get(f"{BATCHES}/{batch['id']}/vouchers", params={"most": 1}).json()
    assert [(one["state"], one["redeemed_by"]) for one in listed["items"]] == [("used", "Anna's Bakery")]
    rest = reseller.get(f"{BATCHES}/{batch['id']}/vouchers", params={"after": listed["next"]}).json()
    assert [(one["state"], one["ends_in"]) for one in rest["items"]] == [("open", batch["codes"][1][-4:])]


def test_many_at_once_redeem_once(reseller: Program) -> None:
    """Sixteen copies of a request in the same moment: one adds the money, the others are told that it is done."""
    (code,) = make(reseller, 1)["codes"]
    with ThreadPoolExecutor(8) as pool:
        path = f"/accounts/{ANNA}/vouchers"
        answered = list(pool.map(lambda _: reseller.post(path, {"code": code}), range(16)))
    assert {answer.status_code for answer in answered} == {200}
    assert sorted(answer.json()["replayed"] for answer in answered) == [False] + [True] * 15
    assert reseller.world.balance("Anna's Bakery") == 35_000_000


def test_somebody_elses_vouchers_do_not_exist(reseller: Program, owner: Program) -> None:
    """The operator's batch is no batch to a reseller, its code no code to a reseller's customer; nothing changes."""
    batch = make(owner)
    assert batch["issuer_id"] == OPERATOR
    mine = make(reseller)
    before = kept(reseller)
    for path in (f"{BATCHES}/{batch['id']}", f"{BATCHES}/{batch['id']}/vouchers"):
        assert reseller.get(path).status_code == 404
    assert reseller.post(f"{BATCHES}/{batch['id']}/cancellation", {}).status_code == 404
    wrong = reseller.post(f"/accounts/{ANNA}/vouchers", {"code": batch["codes"][0]})
    assert (wrong.status_code, wrong.json()["detail"]) == (409, "there is no such voucher")
    assert reseller.post(f"/accounts/{DELTA}/vouchers", {"code": mine["codes"][0]}).status_code == 404
    assert kept(reseller) == before
    assert [one["id"] for one in reseller.get(BATCHES).json()["items"]] == [mine["id"]]
    assert [one["id"] for one in owner.get(BATCHES).json()["items"]] == [mine["id"], batch["id"]]
    assert owner.post(f"{BATCHES}/{batch['id']}/cancellation", {}).json()["cancelled"] == 2
    gone = owner.post(f"/accounts/{DELTA}/vouchers", {"code": batch["codes"][0]})
    assert (gone.status_code, gone.json()["detail"]) == (409, "this voucher is cancelled")


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 0},
        {"number": 10_001},
        {"number": "many"},
        {"worth": "0"},
        {"worth": "1,000.00"},
        {"worth": 5},
        {"worth": "1.1234567"},
        {"name": ""},
        {"currency": "euro"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "soon"},
        {"colour": "red"},
    ],
)
def test_a_wrong_batch_makes_nothing(reseller: Program, wrong: dict[str, Any]) -> None:
    """Each is a 4xx with a code, and no voucher is made."""
    before = kept(reseller)
    answer = reseller.post(BATCHES, {"name": "x", "number": 2, "worth": "5", **wrong})
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"]
    assert kept(reseller) == before


def test_a_statement_adds_up_page_by_page(reseller: Program) -> None:
    """Opening, lines and closing of the month; a stranger's statement does not exist, the operator has none."""
    for number in range(3):
        assert reseller.post(f"/accounts/{ANNA}/topups", {"amount": "1"}, once=f"k{number}").status_code == 201
    first = reseller.get(f"/accounts/{ANNA}/statement", params={"month": "2026-11", "most": 2}).json()
    assert (first["opening"], first["closing"], first["sums"]) == (
        "25.00",
        "28.00",
        [{"kind": "transfer", "lines": 3, "amount": "3.00"}],
    )
    assert [line["balance"] for line in first["items"]] == ["26.00", "27.00"]
    page = {"month": "2026-11", "after": first["next"]}
    rest = reseller.get(f"/accounts/{ANNA}/statement", params=page).json()
    assert ([line["balance"] for line in rest["items"]], rest["next"]) == (["28.00"], None)
    assert reseller.get(f"/accounts/{ANNA}/statement").json()["month"] == "2026-11"
    assert reseller.get(f"/accounts/{DELTA}/statement").status_code == 404
    for month in ("2026-13", "1900-01", "9999-12", "x"):
        assert reseller.get(f"/accounts/{ANNA}/statement", params={"month": month}).status_code in {409, 422}
    assert reseller.get(f"/accounts/{ANNA}/statement", params={"after": "x"}).json()["code"] == "cursor_invalid"


def test_a_changed_account_keeps_its_limit_for_the_day_in_the_live_store(owner: Program) -> None:
    """A change over the API brings every limit to the live store at once, and takes none away that it does not name."""
    world = owner.world
    for body, kept_limit in (({"max_day": "7.50"}, "7500000"), ({"max_calls": 2}, "7500000"), ({"max_day": None}, "")):
        answer = owner.ask("PATCH", f"/accounts/{ANNA}", json=body, headers={"if-match": "*"})
        assert answer.status_code == 200, answer.text
        told = owner.run(lambda: world.redis.hget(f"{{callctl}}:a:{ANNA}", "max_day"))
        assert told == kept_limit
