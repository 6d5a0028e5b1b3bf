"""The screens: what they show, what their buttons do, and what they say when something does not answer."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from fakeredis import FakeServer

from billing.credit.live import HangupRequest
from billing.models import AuditRow, OutboxRow, Posting
from billing.store import work
from tests.web.conftest import Visitor
from tests.web.world import EURO, HOSTILE, NOON, add_record, refused
from web.render import showable

ANNA = 3
DELTA = 5


def operation_of(page: str) -> str:
    """Return the top-up id that a page's form carries."""
    found = re.search(r'name="operation" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def next_hangup(visitor: Visitor) -> HangupRequest:
    """Return the first hang-up a controller would hear."""

    async def hear() -> HangupRequest:
        return await anext(visitor.world.live.hangups())

    return visitor.run(hear)


def audits(visitor: Visitor, action: str) -> list[AuditRow]:
    """Return what was written down under an action."""
    return [row for row in visitor.world.rows(AuditRow) if row.action == action]


# -- live calls


def test_live_calls_show_who_what_and_how_long(owner: Visitor) -> None:
    """A call's row says account, numbers, talk, remaining time on the server's clock, held money."""
    assert "No calls right now" in owner.get("/live").text
    owner.run(lambda: owner.world.live.put(owner.world.call(1)))
    board = owner.get("/live/board", headers={"hx-request": "true"}).text
    for text in ("Anna&#39;s Bakery", "4930123456", "442071838750", ">1:05<", ">1:35<", "1.25", "Hang up", "talking"):
        assert text in board
    assert "<html" not in board
    now_ms = int(NOON.timestamp() * 1000)
    assert f'data-now-ms="{now_ms}"' in board
    assert f'data-until-ms="{now_ms + 95_000}"' in board


def test_a_hang_up_is_asked_for_and_written_down(owner: Visitor) -> None:
    """The button tells the controller which call, and the audit log who and what it was."""
    call = owner.world.call(1)
    owner.run(lambda: owner.world.live.put(call))
    answer = owner.submit("/live/hangup", at="/live", call_id=call.call_id)
    assert (answer.status_code, answer.headers["location"]) == (303, "/live")
    assert next_hangup(owner) == HangupRequest(call.call_id, "owner", "panel")
    (row,) = audits(owner, "call.hangup")
    assert (row.actor, row.subject) == ("owner", call.call_id)
    assert row.before is not None
    assert row.before["callee"] == "442071838750"
    assert "Hang-up asked for" in owner.get("/live").text
    assert "Hang-up asked for" not in owner.get("/live").text, "a message is said once"


@pytest.mark.parametrize(("call_id", "status"), [("pbx:gone", 303), ("*account:3", 400), ("", 400), ("x" * 201, 400)])
def test_a_hang_up_of_nothing_asks_for_nothing(owner: Visitor, call_id: str, status: int) -> None:
    """A call that is over, or a name for many calls, reaches no controller and no audit log."""
    assert owner.submit("/live/hangup", call_id=call_id).status_code == status
    assert audits(owner, "call.hangup") == []
    assert owner.run(lambda: owner.world.redis.keys("*hangups*")) == []


def test_every_call_of_an_account_can_be_ended(owner: Visitor) -> None:
    """One button on the account's page asks for all of them."""
    owner.run(lambda: owner.world.live.put(owner.world.call(1)))
    assert "Hang up all" in owner.get(f"/accounts/{ANNA}").text
    owner.submit(f"/accounts/{ANNA}/hangup")
    assert next_hangup(owner).call_id == f"*account:{ANNA}"
    assert audits(owner, "call.hangup")[0].subject == f"*account:{ANNA}"


# -- accounts


def test_accounts_stand_as_a_tree_with_their_money(owner: Visitor) -> None:
    """Children follow their parent one step in, with the balance of SQL and the live available money."""
    page = owner.get("/accounts").text
    names = ["Northwind Telecom", "Bluebird Voice", "Anna&#39;s Bakery", "Copper &amp; Sons", "Delta Logistics"]
    assert re.findall(r"<bdi>([^<]+)</bdi></a>", page) == names
    assert re.findall(r"depth-(\d)", page) == ["0", "1", "2", "2", "1"]
    assert "475.00" in page
    assert owner.get("/accounts?q=Delta+Logistics").headers["location"] == "/accounts/5"
    missing = owner.get("/accounts?q=Nobody")
    assert (missing.status_code, "No such account" in missing.text) == (404, True)


def test_very_many_accounts_come_in_pages(owner: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a tree's size the list is flat, in order of number, with a way on and an end."""
    monkeypatch.setattr("web.panel.accounts.TREE_MOST", 2)
    monkeypatch.setattr("web.panel.accounts.PAGE", 3)
    first = owner.get("/accounts").text
    assert "Bluebird Voice" in first
    assert "Delta Logistics" not in first
    second = owner.get("/accounts?after=3").text
    assert "Delta Logistics" in second
    assert "/accounts?after=" not in second


def test_a_top_up_is_booked_once_and_reaches_the_live_store_at_once(owner: Visitor) -> None:
    """The form's own id makes sending it twice one top-up; the live store knows before the answer goes out."""
    operation = operation_of(owner.get(f"/accounts/{ANNA}").text)
    answer = owner.submit(f"/accounts/{ANNA}/topup", operation=operation, amount=" 12.50 ", reason="cash")
    assert answer.headers["location"] == f"/accounts/{ANNA}"
    assert owner.world.balance("Anna's Bakery") == 37_500_000
    wallet = owner.run(lambda: owner.world.credit.wallet(owner.world.wallet_id("Anna's Bakery")))
    assert wallet is not None
    assert wallet.balance_micros == 37_500_000
    assert "12.50 added. The balance is 37.50" in owner.get(f"/accounts/{ANNA}").text

    postings = len(owner.world.rows(Posting))
    owner.submit(f"/accounts/{ANNA}/topup", operation=operation, amount="12.50", reason="cash")
    assert "Nothing was added again" in owner.get(f"/accounts/{ANNA}").text
    other = owner.submit(f"/accounts/{ANNA}/topup", operation=operation, amount="99", reason="cash")
    assert other.status_code == 409
    assert owner.world.balance("Anna's Bakery") == 37_500_000
    assert len(owner.world.rows(Posting)) == postings


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"amount": "1e3"}, 422),
        ({"amount": "-5"}, 422),
        ({"amount": "0"}, 422),
        ({"amount": ""}, 422),
        ({"amount": "1,000"}, 422),
        ({"amount": "9" * 20}, 422),
        ({"amount": "NaN"}, 422),
        ({"amount": "9000000000"}, 409),
        ({"amount": "5", "operation": "x"}, 400),
        ({"amount": "5", "operation": "a b c d e f g h"}, 400),
        ({"amount": "476"}, 409),
    ],
)
def test_a_bad_top_up_changes_nothing(owner: Visitor, fields: dict[str, str], status: int) -> None:
    """What is no amount, or more than the reseller above has, is refused in a sentence, and nobody's money moves."""
    postings, waiting = len(owner.world.rows(Posting)), owner.world.rows(OutboxRow)
    answer = owner.submit(f"/accounts/{ANNA}/topup", **{"operation": "topup-12345678", "reason": "", **fields})
    assert answer.status_code == status
    assert 'role="alert"' in answer.text or status == 400
    assert owner.world.balance("Anna's Bakery") == 25_000_000
    assert owner.world.balance("Bluebird Voice") == 475_000_000
    assert len(owner.world.rows(Posting)) == postings
    assert owner.world.rows(OutboxRow) == waiting


def test_a_top_up_of_nobody_or_of_the_operator_is_refused(owner: Visitor) -> None:
    """There is no such page, and the operator has no wallet to fill."""
    fields = {"operation": "topup-12345678", "amount": "5"}
    postings = len(owner.world.rows(Posting))
    assert owner.submit("/accounts/999/topup", **fields).status_code == 404
    assert owner.submit("/accounts/1/topup", **fields).status_code == 409
    assert len(owner.world.rows(Posting)) == postings


def test_a_blocked_account_is_blocked_in_the_live_store_too(owner: Visitor) -> None:
    """Block and unblock are audited and reach the live store at once; any other status is no button of this page."""
    key = "{callctl}:a:3"
    for status in ("blocked", "active"):
        assert owner.submit(f"/accounts/{ANNA}/status", status=status).status_code == 303
        assert owner.run(lambda: owner.world.redis.hget(key, "status")) == status
    assert [row.after for row in audits(owner, "account.status")] == [{"status": "blocked"}, {"status": "active"}]
    assert owner.submit(f"/accounts/{ANNA}/status", status="closed").status_code == 400
    assert owner.submit("/accounts/1/status", status="blocked").status_code == 409
    assert len(audits(owner, "account.status")) == 2


# -- records


def test_records_come_in_pages_without_a_gap_or_a_double(owner: Visitor) -> None:
    """Walking from newest to oldest by the page's own link shows each record once, even those that ended together."""
    with work(owner.world.engine) as session:
        for number in range(130):
            add_record(session, owner.world, number, "Anna's Bakery", ended_at=NOON - timedelta(minutes=number // 3))
    seen: list[str] = []
    path = "/cdrs"
    for _ in range(4):
        page = owner.get(path).text
        seen += re.findall(r'href="/cdrs/record\?id=([^"]+)"', page)
        link = re.search(r'rel="next" href="([^"]+)"', page)
        if link is None:
            break
        path = link[1].replace("&amp;", "&")
    assert len(seen) == len(set(seen)) == 130


def test_records_are_found(owner: Visitor) -> None:
    """By account, beginning of a number, outcome and day; what a number holds is never a pattern."""
    with work(owner.world.engine) as session:
        add_record(session, owner.world, 1, "Anna's Bakery")
        add_record(session, owner.world, 2, "Delta Logistics", caller="100%", callee="4412")
        refused(session, owner.world, 3, "no_money")
        refused(session, owner.world, 4, "unknown_account", None)
        add_record(session, owner.world, 5, "Anna's Bakery", ended_at=NOON - timedelta(days=2))

    def found(query: str) -> list[str]:
        return re.findall(r"record\?id=pbx%3A0*(\d+)", owner.get(f"/cdrs?{query}").text.replace("pbx:", "pbx%3A"))

    assert found("") == ["1", "2", "3", "4", "5"]
    assert found("account=Anna%27s+Bakery") == ["1", "5"]
    assert found("account=5") == ["2"]
    assert found("number=441") == ["2"]
    assert found("number=100%25") == ["2"]
    assert found("number=%25") == []
    assert found("number=_") == []
    assert found("disposition=refused") == ["3", "4"]
    assert found("day=2026-11-21") == ["5"]
    assert "No such account" in owner.get("/cdrs?account=Nobody").text


@pytest.mark.parametrize(
    "query", ["before=x", "before=2026-11-23|a", "day=yesterday", "disposition=x", "before=2026-11-23T00:00:00Z"]
)
def test_a_made_up_address_is_a_plain_400(owner: Visitor, query: str) -> None:
    """Cursors and filters that no page of ours made are refused."""
    assert owner.get(f"/cdrs?{query}").status_code == 400


def test_a_record_says_why_it_costs_that(owner: Visitor) -> None:
    """The price, each charge with its reasons, the times in UTC."""
    with work(owner.world.engine) as session:
        cdr = add_record(session, owner.world, 1, "Anna's Bakery")
        none = refused(session, owner.world, 2, "no_money")
    page = owner.get(f"/cdrs/record?id={cdr.call_id}").text
    for text in ("1.23", "Retail", "prefix 44", "connect fee", "66 s billed", "2026-11-23 11:59:00 UTC"):
        assert text in page
    nothing = owner.get(f"/cdrs/record?id={none.call_id}").text
    assert "Nothing was charged" in nothing
    assert "no money" in nothing
    assert owner.get("/cdrs/record?id=pbx:none").status_code == 404
    assert owner.get("/cdrs/record").status_code == 404


def test_a_record_with_broken_facts_is_still_shown(owner: Visitor) -> None:
    """What a charge stored may be damaged; its record says so instead of breaking."""
    with work(owner.world.engine) as session:
        cdr = add_record(session, owner.world, 1, "Anna's Bakery", charge_facts={"tariff": "?"})
    answer = owner.get(f"/cdrs/record?id={cdr.call_id}")
    assert answer.status_code == 200
    assert "cannot be read" in answer.text


# -- overview


def test_the_overview_counts_today(owner: Visitor) -> None:
    """Calls now, revenue and refusals since midnight UTC, and how the controllers are."""
    now_ms = int(NOON.timestamp() * 1000)
    with work(owner.world.engine) as session:
        add_record(session, owner.world, 1, "Delta Logistics")
        add_record(session, owner.world, 2, "Delta Logistics", ended_at=NOON - timedelta(hours=12, seconds=1))
        refused(session, owner.world, 3, "no_money")
        refused(session, owner.world, 4, "no_money")
    owner.run(lambda: owner.world.live.put(owner.world.call(1)))
    owner.run(lambda: owner.world.live.beat("pbx", "connected", now_ms=now_ms - 2000))
    owner.run(lambda: owner.world.live.beat("old", "connected", now_ms=now_ms - 60_000))
    page = owner.get("/overview/figures").text
    assert '<p class="figure-value number" id="calls-now">1</p>' in page
    assert "1 talking, 0 ringing" in page
    assert "1.23" in page
    assert "2.46" not in page
    assert "of 3 offered" in page
    assert "100 % of admitted" in page
    assert "no money" in page
    assert "connected" in page
    assert "no controller" in page
    assert "since 2026-11-23 00:00:00 UTC" in page


def test_the_books_can_be_checked(owner: Visitor) -> None:
    """The button says that they balance, or which rule is broken and how."""
    balanced = owner.submit("/overview/books", at="/")
    assert "The books balance" in balanced.text
    with work(owner.world.engine) as session:
        add_record(session, owner.world, 1, "Anna's Bakery")
    broken = owner.post("/overview/books", headers={"hx-request": "true", "x-csrf-token": owner.token()})
    assert "do not balance" in broken.text
    assert "rule 5" in broken.text
    assert "<html" not in broken.text


# -- hostile text, and parts that do not answer


def test_text_from_a_call_stays_text(owner: Visitor) -> None:
    """Scripts, quotes, line separators and direction marks in numbers and names never become anything else."""
    world = owner.world
    with work(world.engine) as session:
        cdr = add_record(session, world, 1, "Anna's Bakery", caller=HOSTILE, callee=HOSTILE, destination=HOSTILE[:100])
        call_id = cdr.call_id
    hostile = replace(world.call(1), caller=HOSTILE, callee=HOSTILE, account=HOSTILE, call_id=HOSTILE)
    owner.run(lambda: world.live.put(hostile))
    owner.run(lambda: world.live.beat(HOSTILE, HOSTILE, now_ms=0))
    for path in ("/live", "/live/board", f"/accounts/{ANNA}", "/cdrs", f"/cdrs/record?id={call_id}", "/"):
        page = owner.get(path).text
        assert "alert(1)" in page or path == "/", path
        assert "<script>alert" not in page
        assert "\u2028" not in page
        assert "\u202e" not in page
        assert "49" not in page.replace("4930123456", "") or "{{7*7}}" in page
    for path in ("/cdrs", "/cdrs/record", "/accounts"):
        echoed = owner.get(path, params={"account": HOSTILE, "number": HOSTILE, "q": HOSTILE, "id": HOSTILE}).text
        assert "<script>alert" not in echoed
        assert "\"' onload" not in echoed


def test_what_cannot_be_seen_is_shown_as_such() -> None:
    """Controls, zero-width and direction characters become U+FFFD; letters of every script stay."""
    assert showable("a\x00b\u200bc\u202ed\u2028e\x1b[31m") == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffd[31m"
    assert showable("Zoë Łukasz 東京 Ελλάδα 😀") == "Zoë Łukasz 東京 Ελλάδα 😀"


def test_without_the_live_store_the_pages_still_stand(owner: Visitor, redis_server: FakeServer) -> None:
    """Redis away: pages say so, paid-in money is booked and waits in the outbox, a hang-up is not pretended.

    A reseller's money does not move: what calls hold of it cannot be known.
    """
    redis_server.connected = False
    for path in ("/", "/live", "/accounts", f"/accounts/{ANNA}"):
        answer = owner.get(path)
        assert answer.status_code == 200
        assert "live store does not answer" in answer.text
    before = {row.id for row in owner.world.rows(OutboxRow)}
    answer = owner.submit(f"/accounts/{ANNA}/topup", operation="topup-12345678", amount="5")
    assert answer.status_code == 503
    assert "Nothing was booked" in answer.text
    assert {row.id for row in owner.world.rows(OutboxRow)} == before
    assert owner.world.balance("Anna's Bakery") == 25 * EURO
    owner.submit(f"/accounts/{DELTA}/topup", operation="topup-12345678", amount="5")
    assert owner.world.balance("Delta Logistics") == 85 * EURO
    assert "will learn this by itself" in owner.get(f"/accounts/{DELTA}").text
    fresh = [row for row in owner.world.rows(OutboxRow) if row.id not in before]
    assert fresh
    assert all(row.applied_at is None for row in fresh)
    owner.submit("/live/hangup", call_id="pbx:1")
    assert "cannot be asked" in owner.get("/live").text
    assert audits(owner, "call.hangup") == []


def test_without_the_store_the_answer_is_503(owner: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQL away: one plain page."""
    from sqlalchemy.exc import OperationalError

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT", {}, OSError("gone"))

    monkeypatch.setattr("billing.users.find_session", away)
    answer = owner.get("/live")
    assert answer.status_code == 503
    assert "The store does not answer" in answer.text
    assert "SELECT" not in answer.text
