"""What a reseller's and a customer's people have of their own: tariffs, vouchers, alerts, brand, blocks, settings."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from billing import accounts
from billing.account_changes import change_account
from billing.alerts import raise_alert
from billing.fraud import rules
from billing.fraud.rules import Wanted
from billing.models import (
    Account,
    AccountStatus,
    Alert,
    AuditRow,
    BrandHost,
    DeckUpload,
    FraudAction,
    FraudKind,
    FraudRule,
    Posting,
    ResellerBlock,
    Tariff,
    TariffOwner,
    Voucher,
    VoucherBatch,
)
from billing.settings import Settings
from billing.store import reading, work
from billing.tariff_owners import own_tariff
from billing.tariffs import add_tariff, import_rates
from rating.tariff import Rounding
from tests.web.conftest import Visitor
from tests.web.world import NOON, RATE, World, add_record
from web.app import create_app

OPERATOR, BLUEBIRD, ANNA, COPPER, DELTA = 1, 2, 3, 4, 5
CODE = re.compile(r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}")
DECK = "prefix,destination,price\n49,Germany,0.02\n44,Britain,0.03\n"
BOUGHT, FOREIGN = 1, 2
"""The tariff that Bluebird is charged by, and one that it has nothing to do with."""


@pytest.fixture
def app(world: World, tmp_path: Path) -> FastAPI:
    """The app with a key for vouchers of this test's own."""
    settings = Settings.model_validate({"vouchers": {"key_file": str(tmp_path / "voucher.key")}})
    return create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)


@pytest.fixture
def blue(visitor: Visitor) -> Visitor:
    """Somebody of the reseller Bluebird Voice, who is charged by the operator's tariff Wholesale."""
    with work(visitor.world.engine) as session:
        for name in ("Wholesale", "Secret"):
            add_tariff(session, name=name, currency="EUR", rounding=Rounding(), actor="test", now=NOON)
            import_rates(session, name, [RATE], actor="olga of the operator", now=NOON)
        change_account(session, BLUEBIRD, {"tariff": "Wholesale"}, actor="test", now=NOON)
    visitor.log_in("blue")
    return visitor


def kept(visitor: Visitor) -> list[str]:
    """Return all that a refused request must not move."""
    tables = (Account, Tariff, TariffOwner, DeckUpload, VoucherBatch, Voucher, Alert, Posting, AuditRow, BrandHost)
    return [str(row.model_dump()) for table in tables for row in visitor.world.rows(table)]


def status_of(visitor: Visitor, account_id: int) -> AccountStatus:
    """Return the status of an account."""
    (found,) = (AccountStatus(row.status) for row in visitor.world.rows(Account) if row.id == account_id)
    return found


def upload(visitor: Visitor, tariff_id: int) -> Any:
    """Send a deck for a tariff."""
    return visitor.post(
        "/tariffs/upload",
        data={"csrf": visitor.token(), "tariff": str(tariff_id)},
        files={"file": ("deck.csv", DECK.encode(), "text/csv")},
    )


def test_a_reseller_makes_and_fills_a_tariff_of_its_own(blue: Visitor) -> None:
    """It is the reseller's, in its currency, filled from a deck, and can be given to a customer."""
    made = blue.submit("/tariffs", name="Blue retail", currency="EUR", mode="half_up", decimals="4")
    assert made.headers["location"] == "/tariffs/3"
    assert [(row.tariff_id, row.account_id) for row in blue.world.rows(TariffOwner)] == [(3, BLUEBIRD)]
    look = upload(blue, 3)
    page = blue.get(look.headers["location"]).text
    action = re.search(r'<form method="post" action="(/tariffs/3/import/[^"]+\?[^"]*)"', page)
    assert action is not None
    fields = dict(re.findall(r'<input type="hidden" name="(operation|version|csrf)" value="([^"]*)"', page))
    assert blue.post(html.unescape(action[1]), data=fields).headers["location"] == "/tariffs/3"
    assert "2 added" in blue.get("/tariffs/3").text
    assert "Blue retail" in blue.get(f"/accounts/{ANNA}/settings").text
    assert blue.submit(f"/accounts/{ANNA}/settings", tariff="Blue retail").status_code == 303
    assert blue.submit("/tariffs/3/undo", version="2").status_code == 303


def test_a_tariff_in_another_currency_is_not_a_resellers(blue: Visitor) -> None:
    """What is refused leaves no tariff behind, not even an empty one of nobody."""
    before = kept(blue)
    wrong = blue.submit("/tariffs", name="Dollars", currency="USD", mode="half_up", decimals="4")
    assert wrong.status_code == 422
    assert "is in USD" in wrong.text
    assert kept(blue) == before


def test_a_reseller_sees_what_it_pays_and_changes_none_of_it(blue: Visitor) -> None:
    """The tariff it is charged by is there to look at, without its history; foreign ones are as good as none."""
    listed = blue.get("/tariffs").text
    assert "Wholesale" in listed
    assert "Secret" not in listed
    page = blue.get(f"/tariffs/{BOUGHT}?number=442071838750").text
    assert "1.12" in page
    for not_shown in ("olga of the operator", "Import rates", "Undo"):
        assert not_shown not in page
    assert blue.get(f"/tariffs/{BOUGHT}/export?kind=csv").status_code == 200
    before = kept(blue)
    assert blue.get(f"/tariffs/{BOUGHT}/export?kind=csv&version=1").status_code == 403
    assert blue.get(f"/tariffs/{BOUGHT}/import").status_code == 403
    assert upload(blue, BOUGHT).status_code == 403
    assert blue.submit(f"/tariffs/{BOUGHT}/undo", version="2").status_code == 403
    for path in (f"/tariffs/{FOREIGN}", f"/tariffs/{FOREIGN}/import", f"/tariffs/{FOREIGN}/export", "/tariffs/99"):
        assert blue.get(path).status_code == 404, path
    assert upload(blue, FOREIGN).status_code == 404
    assert blue.submit(f"/tariffs/{FOREIGN}/undo", version="2").status_code == 404
    assert kept(blue) == before


def test_a_reseller_counts_its_own_accounts_only(blue: Visitor) -> None:
    """How many others are charged by the operator's tariff is not shown."""
    with work(blue.world.engine) as session:
        change_account(session, DELTA, {"tariff": "Wholesale"}, actor="test", now=NOON)
    assert re.search(r'data-label="Accounts"[^>]*>1<', blue.get("/tariffs").text)


def test_a_customer_sees_its_prices_alone(blue: Visitor) -> None:
    """A customer may ask what a call costs and changes nothing."""
    with work(blue.world.engine) as session:
        add_tariff(session, name="Blue retail", currency="EUR", rounding=Rounding(), actor="test", now=NOON)
        own_tariff(session, "Blue retail", BLUEBIRD, actor="test", now=NOON)
        import_rates(session, "Blue retail", [RATE], actor="test", now=NOON)
        change_account(session, ANNA, {"tariff": "Blue retail"}, actor="test", now=NOON)
    blue.cookies.clear()
    blue.log_in("anna")
    shown = blue.get("/tariffs")
    assert (shown.status_code, shown.headers["location"]) == (303, "/tariffs/3")  # its only one, at once
    page = blue.get("/tariffs/3").text
    assert "Blue retail" in page
    assert "Wholesale" not in page
    assert "Add a tariff" not in page
    assert "1.12" in blue.get("/tariffs/3?number=442071838750").text
    before = kept(blue)
    assert blue.submit("/tariffs", name="Mine", currency="EUR", mode="half_up", decimals="4").status_code == 403
    assert blue.get("/tariffs/3/import").status_code == 403
    assert blue.get(f"/tariffs/{BOUGHT}").status_code == 404
    assert kept(blue) == before


def test_a_resellers_vouchers_are_its_own_money(blue: Visitor) -> None:
    """It issues them whoever the form names; its customer redeems one by itself, and the reseller pays for it."""
    made = blue.submit("/vouchers", name="Blue summer", number="2", worth="10.00", issuer=str(OPERATOR))
    codes = sorted(set(CODE.findall(made.text)))
    assert [(row.issuer_id, row.name) for row in blue.world.rows(VoucherBatch)] == [(BLUEBIRD, "Blue summer")]
    assert "Blue summer" in blue.get("/vouchers").text
    assert "Issuer</label>" not in blue.get("/vouchers").text
    blue.cookies.clear()
    blue.log_in("anna")
    assert "Redeem" in blue.get(f"/accounts/{ANNA}").text
    assert blue.get("/vouchers").status_code == 403
    assert blue.submit(f"/accounts/{ANNA}/voucher", code=codes[0]).status_code == 303
    assert "10.00 EUR added" in blue.get(f"/accounts/{ANNA}").text
    assert blue.world.balance("Anna's Bakery") == 35_000_000
    assert blue.world.balance("Bluebird Voice") == 465_000_000
    before = kept(blue)
    assert blue.submit(f"/accounts/{COPPER}/voucher", code=codes[1]).status_code == 404
    assert kept(blue) == before


def test_somebody_elses_batch_is_not_there(blue: Visitor) -> None:
    """The operator's batches are neither listed nor found nor cancelled; nor is a stranger topped up by a code."""
    blue.cookies.clear()
    blue.log_in()
    code = CODE.findall(blue.submit("/vouchers", name="House", number="1", worth="5").text)[0]
    blue.cookies.clear()
    blue.log_in("blue")
    assert "House" not in blue.get("/vouchers").text
    before = kept(blue)
    assert blue.get("/vouchers/1").status_code == 404
    assert blue.submit("/vouchers/1/cancel").status_code == 404
    assert blue.submit(f"/accounts/{DELTA}/voucher", code=code).status_code == 404
    assert blue.submit(f"/accounts/{BLUEBIRD}/voucher", code=code).status_code == 403
    assert kept(blue) == before


def test_a_reseller_sees_and_clears_the_alerts_of_its_subtree(blue: Visitor) -> None:
    """A low balance of its customer, not a stranger's; what the operator's guard did is not its to lift."""
    with work(blue.world.engine) as session:
        for account_id, kind, text in (
            (ANNA, "balance.low", "Anna is low"),
            (COPPER, "fraud.spend_hour", "Copper spends"),
            (DELTA, "balance.low", "Delta is low"),
            (None, "books.broken", "The books"),
        ):
            subject = f"account:{account_id}"
            raise_alert(session, kind=kind, subject=subject, message=text, account_id=account_id, now=NOON)
    page = blue.get("/alerts").text
    assert "Anna is low" in page
    assert "Copper spends" in page
    assert "Delta is low" not in page
    assert "The books" not in page
    numbers = {alert.message: alert.id for alert in blue.world.rows(Alert)}
    before = kept(blue)
    assert blue.submit(f"/alerts/{numbers['Copper spends']}/clear").status_code == 403
    assert blue.submit(f"/fraud/lift/{COPPER}").status_code == 403
    for text in ("Delta is low", "The books"):
        assert blue.submit(f"/alerts/{numbers[text]}/clear").status_code == 404
    assert kept(blue) == before
    assert blue.submit(f"/alerts/{numbers['Anna is low']}/clear").status_code == 303
    assert "Anna is low" not in blue.get("/alerts").text


def test_a_reseller_guards_its_own(blue: Visitor) -> None:
    """It makes and ends rules for its accounts, sees those made for them from above, and no list of ranges."""
    with work(blue.world.engine) as session:
        wanted = Wanted(FraudKind.SPEND_DAY, FraudAction.WARN, limit_micros=90_000_000)
        theirs = rules.add_rule(session, ANNA, wanted, actor="olga", now=NOON)
        rules.add_rule(session, DELTA, wanted, actor="olga", now=NOON)
    made = blue.submit("/fraud", kind="spend_hour", action="block", limit="20.00")
    assert made.status_code == 303
    page = blue.get("/fraud").text
    assert ("more than 20.00 an hour" in page, "more than 90.00 a day" in page) == (True, True)
    assert ("from above" in page, "Delta" in page, "/fraud/ranges" in page) == (True, False, False)
    own = next(row for row in blue.world.rows(FraudRule) if row.by_account_id == BLUEBIRD)
    assert own.account_id == BLUEBIRD
    before = kept(blue)
    assert blue.submit(f"/fraud/{theirs}/end").status_code == 403
    assert blue.submit(f"/fraud/{theirs + 1}/end").status_code == 404
    refused = blue.submit("/fraud", kind="spend_hour", action="warn", limit="1", account="Delta Logistics")
    assert (refused.status_code, "no account" in refused.text) == (422, True)
    assert blue.submit("/fraud/ranges", ranges="88213").status_code == 403
    assert kept(blue) == before
    with work(blue.world.engine) as session:
        accounts.set_status(session, COPPER, AccountStatus.BLOCKED, by=BLUEBIRD, actor="fraud guard", now=NOON)
        facts = {"rule": own.id, "blocked": True}
        for kind, subject in (("fraud.spend_hour", "a"), ("fraud.spend_hour", "b")):
            told = facts if subject == "a" else {"rule": theirs}
            raise_alert(session, kind=kind, subject=subject, message=subject, account_id=COPPER, facts=told, now=NOON)
    page = blue.get("/alerts").text
    assert (page.count("Lift</button>"), page.count("who stands above you lifts it")) == (1, 1)
    assert blue.submit(f"/fraud/lift/{COPPER}").status_code == 303
    (account,) = [row for row in blue.world.rows(Account) if row.id == COPPER]
    assert account.status is AccountStatus.ACTIVE
    assert [row.subject for row in blue.world.rows(Alert) if row.cleared_at is None] == ["b"]
    assert blue.submit(f"/fraud/lift/{COPPER}").status_code == 403
    assert blue.submit(f"/fraud/lift/{DELTA}").status_code == 404
    assert blue.submit(f"/fraud/{own.id}/end").status_code == 303


def test_who_blocked_decides_who_lifts(blue: Visitor) -> None:
    """A reseller lifts its own block, never the operator's; the operator's takes the place of a reseller's."""
    at = f"/accounts/{ANNA}/status"
    assert blue.submit(at, status="blocked").status_code == 303
    assert [(row.account_id, row.by_account_id) for row in blue.world.rows(ResellerBlock)] == [(ANNA, BLUEBIRD)]
    assert blue.submit(at, status="active").status_code == 303
    assert blue.world.rows(ResellerBlock) == []
    blue.submit(at, status="blocked")
    with work(blue.world.engine) as session:
        accounts.set_status(session, ANNA, AccountStatus.BLOCKED, actor="olga", now=NOON)
    assert blue.world.rows(ResellerBlock) == []
    before = kept(blue)
    assert "Unblock" not in blue.get(f"/accounts/{ANNA}").text
    assert blue.submit(at, status="active").status_code == 403
    assert blue.submit(at, status="blocked").status_code == 303
    assert (kept(blue), status_of(blue, ANNA)) == (before, AccountStatus.BLOCKED)
    blue.cookies.clear()
    blue.log_in()
    assert blue.submit(at, status="active").status_code == 303
    assert status_of(blue, ANNA) is AccountStatus.ACTIVE


def test_the_brand_stands_where_its_people_look(blue: Visitor) -> None:
    """On every page of the reseller and of its customers, and on the login page under the reseller's host name."""
    with work(blue.world.engine) as session:
        change_account(session, BLUEBIRD, {"brand": "Blue <b>Bird</b>"}, actor="test", now=NOON)
    shown = "Blue &lt;b&gt;Bird&lt;/b&gt;"
    for login in ("blue", "anna"):
        blue.cookies.clear()
        blue.log_in(login)
        page = blue.get("/accounts").text
        assert f'<bdi class="brand-name">{shown}</bdi>' in page
        assert f"{shown}</title>" in page
    blue.cookies.clear()
    blue.log_in()
    assert '<bdi class="brand-name">callctl</bdi>' in blue.get("/accounts").text
    at = f"/accounts/{BLUEBIRD}/hosts"
    assert blue.submit(at, hosts="Panel.Bluebird.example, calls.blue.example").status_code == 303
    assert [row.host for row in blue.world.rows(BrandHost)] == ["calls.blue.example", "panel.bluebird.example"]
    blue.cookies.clear()
    for host, brand in (
        ("panel.bluebird.example", shown),
        ("PANEL.bluebird.example:8443", shown),
        ("other.example", "callctl"),
        ("panel.bluebird.example'--", "callctl"),
    ):
        page = blue.get("/login", headers={"host": host}).text
        assert f'<bdi class="brand-name">{brand}</bdi>' in page, host


def test_a_host_name_is_one_accounts(blue: Visitor) -> None:
    """What is no host name, or another's, or is asked for by the reseller itself, changes nothing."""
    before = kept(blue)
    assert blue.submit(f"/accounts/{BLUEBIRD}/hosts", hosts="evil.example").status_code == 403
    blue.cookies.clear()
    blue.log_in()
    for account_id, hosts, says in (
        (BLUEBIRD, "https://blue.example/", "is no host name"),
        (BLUEBIRD, "localhost", "is no host name"),
        (BLUEBIRD, "a.example," * 300 + "b..example", "is no host name"),
        (ANNA, "anna.example", "is a customer"),
    ):
        answer = blue.submit(f"/accounts/{account_id}/hosts", hosts=hosts)
        assert answer.status_code == 422, hosts
        if account_id != ANNA:
            assert says in answer.text
    assert [row for row in kept(blue) if "last_used" not in row] == before


def test_a_reseller_sets_what_is_its_own_to_set(blue: Visitor) -> None:
    """Brand, clock, language and threshold; not its credit, its tariff or its limits."""
    page = blue.get(f"/accounts/{BLUEBIRD}/settings").text
    assert 'name="credit_limit"' not in page
    own = {"brand": "Blue", "timezone": "Europe/Berlin", "language": "de", "low_balance": "20", "clear_balance": ""}
    assert blue.submit(f"/accounts/{BLUEBIRD}/settings", **own).status_code == 303
    with reading(blue.world.engine) as session:
        view = accounts.find_account(session, str(BLUEBIRD))
    assert (view.brand, view.timezone, view.low_balance_micros) == ("Blue", "Europe/Berlin", 20_000_000)
    before = kept(blue)
    for field, value in (("credit_limit", "1000"), ("max_day", ""), ("tariff", ""), ("name", "Other")):
        assert blue.submit(f"/accounts/{BLUEBIRD}/settings", **{field: value}).status_code == 403
    assert kept(blue) == before


def test_a_reseller_gives_and_books_commissions_of_its_own(blue: Visitor) -> None:
    """10 % of Anna's 1.23 of November, out of Bluebird's money, once; a stranger's account does not exist."""
    with work(blue.world.engine) as session:
        add_record(session, blue.world, 1, "Anna's Bakery")
    assert "Nobody earns a commission" in blue.get("/commissions").text
    assert blue.submit("/commissions", account="Anna's Bakery", percent="10", of="revenue").status_code == 303
    page = blue.get("/commissions?month=2026-11").text
    assert "0.123" in page
    assert "Delta" not in page
    blue.world.clock.move(10 * 86_400)
    blue.log_in("blue")
    before = blue.world.balance("Bluebird Voice")
    for says in ("1 commission of 2026-11 booked", "booked before"):
        answer = blue.submit("/commissions/pay", month="2026-11")
        assert says in blue.get(answer.headers["location"]).text
    assert blue.world.balance("Anna's Bakery") == 25_123_000
    assert blue.world.balance("Bluebird Voice") == before - 123_000
    kept_before = kept(blue)
    for fields, says in (
        ({"account": "Delta Logistics", "percent": "10"}, "there is no account"),
        ({"account": "Bluebird Voice", "percent": "10"}, ""),
        ({"account": "Anna's Bakery", "percent": "101"}, "up to 100 percent"),
        ({"account": "Anna's Bakery", "percent": "much"}, "up to 100 percent"),
    ):
        answer = blue.submit("/commissions", of="revenue", **fields)
        assert answer.status_code in {403, 422}, fields
        assert says in answer.text
    assert blue.submit(f"/commissions/{DELTA}/end").status_code == 404
    assert kept(blue) == kept_before
    assert blue.submit(f"/commissions/{ANNA}/end").status_code == 303
    assert "Nobody earns a commission" in blue.get("/commissions").text


def test_a_customer_comes_to_its_account(blue: Visitor) -> None:
    """A customer's first page is its own account, under names that fit; it sees no screen for those who sell."""
    blue.cookies.clear()
    blue.log_in("anna")
    assert blue.get("/").headers["location"] == f"/accounts/{ANNA}"
    page = blue.get(f"/accounts/{ANNA}").text
    assert "My account" in page
    assert "What calls cost" in page
    for screen in ('href="/vouchers"', 'href="/commissions"', 'href="/fraud"', "/settings", "New account"):
        assert screen not in page, screen
