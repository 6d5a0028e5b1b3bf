"""Accounts on the panel: what can be changed, what is refused, what a statement shows."""

from __future__ import annotations

import pytest

from billing.models import Account, AuditRow, Identity
from tests.web.conftest import Visitor
from tests.web.world import HOSTILE

ANNA = 3
SETTINGS = f"/accounts/{ANNA}/settings"
WHOLE = {
    "name": "Anna's Bakery",
    "timezone": "Europe/Berlin",
    "language": "de",
    "billing_mode": "prepaid",
    "credit_limit": "",
    "tariff": "",
    "max_calls": "7",
    "max_cps": "",
    "max_day": "30",
    "max_call": "5.50",
    "low_balance": "3",
    "clear_balance": "",
    "barred": "0190\n0900",
    "allowed": "49, 43; 41",
    "hours": "mon-fri 08:00-18:00\n",
}


def _kept(owner: Visitor) -> list[str]:
    tables = (Account, Identity, AuditRow)
    return [str(row.model_dump()) for table in tables for row in owner.world.rows(table)]


def test_settings_are_saved_audited_and_live_at_once(owner: Visitor) -> None:
    """What was typed is what is kept and shown, the live store has it at once, and the audit log says who did it."""
    answer = owner.submit(SETTINGS, **WHOLE)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/accounts/{ANNA}")
    anna = next(row for row in owner.world.rows(Account) if row.id == ANNA)
    assert (anna.timezone, anna.language, anna.max_calls, anna.max_cps) == ("Europe/Berlin", "de", 7, None)
    assert (anna.max_day_micros, anna.max_call_micros, anna.low_balance_micros) == (30_000_000, 5_500_000, 3_000_000)
    assert (anna.barred, anna.allowed, anna.hours) == (
        ["0190", "0900"],
        ["49", "43", "41"],
        ["mon-fri 08:00-18:00"],
    )
    assert [row.actor for row in owner.world.rows(AuditRow) if row.action == "account.set"] == ["owner"]
    assert owner.run(lambda: owner.world.redis.hget(f"{{callctl}}:a:{ANNA}", "max_day")) == "30000000"
    page = owner.get(f"/accounts/{ANNA}").text
    assert "30.00 EUR" in page
    assert "0.00 of it spent or held today" in page
    form = owner.get(SETTINGS).text
    assert 'value="5.50"' in form
    before = _kept(owner)
    owner.submit(SETTINGS, **WHOLE)
    assert "Nothing was different." in owner.get(f"/accounts/{ANNA}").text
    assert _kept(owner) == before


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "Copper & Sons", "there is an account"),
        ("timezone", "Mars/Olympus", "no time zone"),
        ("max_calls", "many", "Calls at once: expected a whole number"),
        ("max_day", "1,000.00", "Cost of a day:"),
        ("max_call", "1e30", "Cost of a call:"),
        ("credit_limit", "5", "prepaid account has no credit limit"),
        ("billing_mode", "free", "Choose when"),
        ("tariff", "nothing", "there is no tariff"),
        ("hours", "late", "hours are written"),
        ("allowed", HOSTILE, "digits only"),
    ],
)
def test_a_wrong_field_changes_nothing_and_comes_back_as_typed(
    owner: Visitor, field: str, value: str, says: str
) -> None:
    """The form says what is wrong and keeps what was typed; nothing is stored, not even the right fields."""
    before = _kept(owner)
    answer = owner.submit(SETTINGS, **{**WHOLE, field: value})
    assert answer.status_code == 422
    assert says in answer.text
    assert 'value="7"' in answer.text or field == "max_calls"
    assert HOSTILE not in answer.text
    assert _kept(owner) == before


def test_identities_come_and_go(owner: Visitor) -> None:
    """One that is taken is refused with whose it is not; one that is taken away is free again."""
    answer = owner.submit(f"/accounts/{ANNA}/identities", kind="source_address", value="192.0.2.7/24")
    assert answer.status_code == 303
    assert "192.0.2.0/24" in owner.get(SETTINGS).text
    before = _kept(owner)
    taken = owner.submit(f"/accounts/{ANNA}/identities", kind="account_code", value="copper")
    assert taken.status_code == 422
    assert "belongs to an account already" in taken.text
    assert owner.submit(f"/accounts/{ANNA}/identities", kind="shoe_size", value="42").status_code == 400
    assert owner.submit(f"/accounts/{ANNA}/identities/free", kind="account_code", value="copper").status_code == 404
    assert _kept(owner) == before
    assert owner.submit(f"/accounts/{ANNA}/identities/free", kind="account_code", value="anna").status_code == 303
    freed = [row.value for row in owner.world.rows(Identity) if row.freed_at is not None]
    assert freed == ["anna"]


def test_an_account_is_made_and_closed(owner: Visitor) -> None:
    """Made under a reseller it is on its page; closed, it is there still. One with money is not closed."""
    made = owner.submit("/accounts/new", parent="2", name="Eve's Flowers", kind="customer", code="eve", tariff="")
    assert made.status_code == 303, made.text
    place = made.headers["location"]
    assert "Eve&#39;s Flowers" in owner.get("/accounts/2").text
    again = owner.submit("/accounts/new", parent="2", name="Eve's Flowers", kind="customer")
    assert again.status_code == 422
    assert owner.submit(f"{place}/close").status_code == 303
    assert "closed" in owner.get(place).text
    assert "Save" not in owner.get(f"{place}/settings").text
    before = _kept(owner)
    owner.submit(f"/accounts/{ANNA}/close")
    assert "is left" in owner.get(SETTINGS).text
    assert _kept(owner) == before


def test_accounts_are_found_by_a_part_of_their_name(owner: Visitor) -> None:
    """One match goes straight to its page, several are listed, none says so."""
    assert owner.get("/accounts", params={"q": "delt"}).headers["location"] == "/accounts/5"
    listed = owner.get("/accounts", params={"q": "er"}).text
    assert "Anna" in listed
    assert "Copper" in listed
    assert owner.get("/accounts", params={"q": "%"}).status_code == 404


def test_a_statement_adds_up_and_is_a_file_too(owner: Visitor) -> None:
    """The month of the first top-up: nothing before, 25 after; the file has the same. A wrong month is refused."""
    page = owner.get(f"/accounts/{ANNA}/statement", params={"month": "2026-10"})
    assert page.status_code == 200
    assert "25.00" in page.text
    file = owner.get(f"/accounts/{ANNA}/statement.csv", params={"month": "2026-10"})
    assert file.headers["content-disposition"] == 'attachment; filename="statement-3-2026-10.csv"'
    lines = file.text.splitlines()
    assert (len(lines), lines[-1].rpartition(",")[2]) == (4, "25.00")
    assert owner.get(f"/accounts/{ANNA}/statement", params={"month": "2026-13"}).status_code == 409
    assert owner.get("/accounts/999/statement").status_code == 404


def test_an_account_is_moved_by_the_operator_alone(visitor: Visitor) -> None:
    """From Bluebird to the operator and not under a customer; a reseller moves nothing, not even its own."""
    visitor.log_in("blue")
    before = [str(row.model_dump()) for row in visitor.world.rows(Account)]
    assert "Under</label>" not in visitor.get("/accounts/3/settings").text
    assert visitor.submit("/accounts/3/move", under="1").status_code == 403
    visitor.cookies.clear()
    visitor.log_in()
    assert "Under</label>" in visitor.get("/accounts/3/settings").text
    answer = visitor.submit("/accounts/3/move", under="5")
    assert answer.status_code == 422
    assert "is a customer" in answer.text
    assert visitor.submit("/accounts/3/move", under="99").status_code == 422
    assert [str(row.model_dump()) for row in visitor.world.rows(Account)] == before
    assert visitor.submit("/accounts/3/move", under="1").status_code == 303
    assert "hangs under Northwind Telecom now" in visitor.get("/accounts/3").text
    visitor.cookies.clear()
    visitor.log_in("blue")
    assert visitor.get("/accounts/3").status_code == 404
