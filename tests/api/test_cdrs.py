"""Records over the API: who sees which, searched, paged, explained, streamed."""

from __future__ import annotations

import csv
import io
import tracemalloc
from datetime import timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from billing.models import Cdr
from billing.search import CdrFilter
from billing.store import work
from tests.api.conftest import ANNA, BLUEBIRD, COPPER, DELTA, Program
from tests.web.world import HOSTILE, NOON, World, add_record, refused
from web.api import exports


def fill(world: World) -> None:
    """Write a small archive: three calls of Anna, one of Copper, one of Delta, one of nobody."""
    with work(world.engine) as session:
        add_record(session, world, 1, "Anna's Bakery")
        add_record(session, world, 2, "Anna's Bakery", callee="33123456", destination="France")
        add_record(session, world, 3, "Delta Logistics")
        refused(session, world, 4, "no_money")
        refused(session, world, 5, "unknown_account", account=None)
        add_record(session, world, 6, "Anna's Bakery", caller="+4930777")


def ids(answer: Any) -> list[str]:
    """Return the calls of a page."""
    assert answer.status_code == 200, answer.text
    return [item["call_id"] for item in answer.json()["items"]]


def calls(*numbers: int) -> list[str]:
    """Return call ids."""
    return [f"pbx:{number:06}" for number in numbers]


def test_everybody_sees_the_calls_of_their_subtree(owner: Program, reseller: Program, customer: Program) -> None:
    """The operator all, those of nobody too; a reseller its customers'; a customer its own."""
    fill(owner.world)
    assert ids(owner.get("/cdrs")) == calls(1, 2, 3, 4, 5, 6)
    assert ids(reseller.get("/cdrs")) == calls(1, 2, 4, 6)
    assert ids(customer.get("/cdrs")) == calls(1, 2, 6)
    assert ids(owner.get(f"/cdrs?account={BLUEBIRD}")) == calls(1, 2, 4, 6)
    assert ids(reseller.get(f"/cdrs?account={COPPER}")) == calls(4)
    for program, account in ((reseller, DELTA), (customer, COPPER), (customer, BLUEBIRD)):
        assert program.get(f"/cdrs?account={account}").status_code == 404
    assert owner.get("/cdrs/pbx:000003").status_code == 200
    for program, call_id in ((reseller, "pbx:000003"), (reseller, "pbx:000005"), (customer, "pbx:000004")):
        missing = program.get("/cdrs/pbx:none")
        foreign = program.get(f"/cdrs/{call_id}")
        assert foreign.status_code == missing.status_code == 404
        assert foreign.text.replace(call_id, "pbx:none") == missing.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("number=33", (2,)),
        ("number=%2B4930777", (6,)),
        ("number=4420", (1, 3, 4, 5, 6)),
        ("destination=France", (2,)),
        ("disposition=refused", (4, 5)),
        ("from=2026-11-23T11:57:00Z", (1, 2, 3)),
        ("until=2026-11-23T11:57:00Z", (4, 5, 6)),
        ("from=2026-11-23T12:55:00%2B01:00&until=2026-11-23T11:57:00Z&disposition=refused", (4, 5)),
        ("number=44&account=3", (1, 6)),
        ("number=_", ()),
    ],
)
def test_records_are_found_by_what_is_asked(owner: Program, query: str, found: tuple[int, ...]) -> None:
    """Beginning of a number, destination, outcome, times with a zone; a wild card is a character like any other."""
    fill(owner.world)
    assert ids(owner.get(f"/cdrs?{query}")) == calls(*found)


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-11-23T12:00:00",
        "from=0001-01-01T00:00:00%2B14:00",
        "disposition=odd",
        "number=%25",
        "number=%00",
        "after=x",
        "after=MjAyNg==",
        "account=x",
    ],
)
def test_a_question_that_makes_no_sense_is_refused(owner: Program, query: str) -> None:
    """Times without a zone, odd outcomes, cursors of somebody's making: a 4xx with a code."""
    answer = owner.get(f"/cdrs?{query}")
    assert (answer.status_code, answer.json()["code"]) in {(422, "invalid"), (400, "cursor_invalid")}, answer.text


def test_pages_follow_each_other_without_gaps(owner: Program, reseller: Program) -> None:
    """Cursors lead through all records once, those of the same moment too; a new record changes nothing."""
    with work(owner.world.engine) as session:
        for number in range(1, 8):
            cdr = add_record(session, owner.world, number, "Anna's Bakery", cost_micros=0, currency="")
            cdr.ended_at = NOON - timedelta(minutes=number // 3)
            session.add(cdr)
    for program in (owner, reseller):
        seen: list[str] = []
        following = ""
        while True:
            page = program.get("/cdrs", params={"most": "2", "after": following})
            seen += ids(page)
            if page.json()["next"] is None:
                break
            following = page.json()["next"]
            if len(seen) == 2 and program is owner:
                with work(owner.world.engine) as session:
                    add_record(session, owner.world, -5, "Delta Logistics", cost_micros=0, currency="")
        assert sorted(seen) == calls(*range(1, 8))
        assert len(seen) == 7


def test_a_record_says_why_it_costs_that(owner: Program, customer: Program) -> None:
    """The charges in one's sight come with the words that explain them; amounts are texts."""
    fill(owner.world)
    record = customer.get("/cdrs/pbx:000001").json()
    assert (record["cost"], record["currency"], record["account"]) == ("1.23", "EUR", "Anna's Bakery")
    assert record["ended_at"] == "2026-11-23T11:59:00Z"
    (charge,) = record["charges"]
    assert (charge["account_id"], charge["amount"]) == (ANNA, "1.23")
    assert charge["explanation"][0].startswith("Tariff Retail, version 3")


def test_csv_is_harmless_in_a_spreadsheet_and_exact(owner: Program, reseller: Program) -> None:
    """A header and a line for each record in sight, amounts to the last digit; a formula of a caller's is a text."""
    fill(owner.world)
    with work(owner.world.engine) as session:
        add_record(session, owner.world, 7, "Anna's Bakery", caller="=cmd|' /C calc'!A0", cost_micros=1, callee=HOSTILE)
    answer = reseller.get("/cdrs.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "cdrs.csv" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["call_id"] for row in rows] == calls(1, 2, 4, 6, 7)
    assert [row["cost"] for row in rows] == ["1.23", "1.23", "0.00", "1.23", "0.000001"]
    assert rows[4]["caller"] == "'=cmd|' /C calc'!A0"
    assert rows[4]["callee"] == HOSTILE
    assert rows[3]["caller"] == "+4930777"
    assert rows[0]["ended_at"] == "2026-11-23T11:59:00.000Z"
    assert rows[2]["answered_at"] == ""
    empty = reseller.get("/cdrs.csv?destination=Nowhere").text
    assert empty.count("\n") == 1


def test_parquet_keeps_amounts_and_times(owner: Program) -> None:
    """Decimals with six places and moments in UTC; nothing found is a file with columns and no rows."""
    fill(owner.world)
    answer = owner.get("/cdrs.parquet?disposition=answered")
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    table = pl.read_parquet(io.BytesIO(answer.content))
    assert table["call_id"].to_list() == calls(1, 2, 3, 6)
    assert table["cost"].to_list() == [Decimal("1.230000")] * 4
    assert table["ended_at"][0] == NOON - timedelta(minutes=1)
    empty = pl.read_parquet(io.BytesIO(owner.get("/cdrs.parquet?destination=Nowhere").content))
    assert (empty.height, empty.schema) == (0, table.schema)


def test_an_export_is_read_in_bounded_memory(owner: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the records take no more memory: pages come and go, and the writer waits for its reader."""
    monkeypatch.setattr(exports.pages, "__kwdefaults__", {"page": 100})

    def add(first: int, last: int) -> None:
        with work(owner.world.engine) as session:
            for number in range(first, last):
                session.add(
                    Cdr(
                        call_id=f"pbx:{number:08}", switch="pbx", account_id=ANNA, direction="outbound",
                        caller="1" * 100, callee="2" * 100, disposition="busy", offered_at=NOON, ended_at=NOON,
                    )
                )  # fmt: skip

    def peak() -> int:
        tracemalloc.start()
        read = sum(len(page) for page in exports.pages(owner.world.engine, CdrFilter()))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert read
        return top

    add(0, 400)
    few = peak()
    add(400, 4000)
    assert peak() < few * 2
    assert len(owner.get("/cdrs.csv").text.splitlines()) == 4001
    pipe = exports.Pipe()
    for _ in range(exports.CHUNKS):
        pipe.write(b"x")
    monkeypatch.setattr(exports, "STUCK_S", 0.5)
    with pytest.raises(exports.Gone):
        pipe.write(b"one more than the reader has room for")


def test_an_export_that_breaks_is_no_short_file(owner: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store fails half-way the stream is cut off, so that nobody takes the half for the whole."""
    fill(owner.world)

    def broken(*_: object) -> Any:
        yield []
        raise LookupError("the store is gone")

    monkeypatch.setattr("web.api.exports.pages", broken)
    owner.client._transport.raise_server_exceptions = True  # type: ignore[attr-defined]
    with pytest.raises(exports.Broken):
        owner.get("/cdrs.csv")
