"""The API on both kinds of store: searches, pages, money once, statements, files, and requests of every kind."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from sqlalchemy.engine import Engine
from starlette.testclient import TestClient

from billing import books, outbox
from billing.access import CEILINGS, SCOPES
from billing.models import AccountKind, LedgerTransaction
from billing.settings import ApiSettings, Settings, VoucherSettings
from billing.store import reading, work
from tests.api.conftest import ANNA, BLUEBIRD, COPPER, DELTA, OPERATOR, Program, make_key
from tests.api.test_fuzz import fuzz
from tests.integration.conftest import empty
from tests.web.world import EURO, World, add_record, furnish
from web.app import create_app

LARGEST = 2**53 - 1
NUMBERED = [
    *(f"/{kind}/{{}}" for kind in ("accounts", "transactions", "users", "tariffs", "webhooks", "deliveries", "alerts")),
    *(
        f"/{kind}/{{}}"
        for kind in ("mail-addresses", "voucher-batches", "fraud/rules", "volume-plans", "carriers", "reratings")
    ),
    *(f"/{kind}?after={{}}" for kind in ("accounts", "users", "fraud/rules", "exchange-rates", "commissions")),
    "/cdrs?account={}",
    "/transactions?after={}&account=3",
]
"""Where a number can stand."""


@pytest.fixture
def world(engine: Engine) -> World:
    """The company in this store, with an archive of forty calls."""
    furnish(engine)
    world = World(engine, FakeAsyncRedis(server=FakeServer(), decode_responses=True))
    with work(engine) as session:
        for number in range(1, 41):
            account = "Anna's Bakery" if number % 4 else "Delta Logistics"
            callee = "442071838750" if number % 2 else "33123456"
            add_record(session, world, number, account, callee=callee, cost_micros=0, currency="")
    return world


@pytest.fixture
def client(world: World, tmp_path: Path) -> Iterator[TestClient]:
    """The app on it."""
    settings = Settings(
        api=ApiSettings(per_s=1e6, burst=10**6), vouchers=VoucherSettings(key_file=tmp_path / "voucher.key")
    )
    app = create_app(world.engine, world.credit, world.live, clock=world.clock, ids=world.ids, settings=settings)
    with TestClient(app, follow_redirects=False, raise_server_exceptions=False) as client:
        assert client.portal is not None
        client.portal.call(lambda: outbox.sync_all(world.engine, world.credit))
        yield client


@pytest.fixture
def owner(client: TestClient, world: World) -> Program:
    """A key of the operator with every scope."""
    return Program(client, make_key(world, OPERATOR, SCOPES), world)


@pytest.fixture
def reseller(client: TestClient, world: World) -> Program:
    """A key of the reseller with all that it may have."""
    return Program(client, make_key(world, BLUEBIRD, sorted(CEILINGS[AccountKind.RESELLER])), world)


def all_of(program: Program, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return a list from its first page to its last."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = program.get(path, params={**query, **({"after": after} if after else {})})
        assert page.status_code == 200, page.text
        found += page.json()["items"]
        after = page.json()["next"]
        if after is None:
            return found


def test_pages_give_everything_once_and_in_order(owner: Program, reseller: Program) -> None:
    """Pages of seven are the whole list: records newest first, accounts by number; of a part of the tree its part."""
    records = all_of(owner, "/cdrs", most=7)
    assert [one["call_id"] for one in records] == [f"pbx:{number:06}" for number in range(1, 41)]
    assert len(all_of(reseller, "/cdrs", most=7)) == 30
    assert [one["id"] for one in all_of(owner, "/accounts", most=2)] == [1, 2, 3, 4, 5]
    assert [one["id"] for one in all_of(reseller, "/accounts", most=2)] == [BLUEBIRD, ANNA, COPPER]


def test_a_search_finds_what_begins_so(owner: Program, reseller: Program) -> None:
    """By number, destination, how it ended, when, whose; characters of a pattern are just characters."""
    assert len(all_of(owner, "/cdrs", number="4420718", most=500)) == 20
    assert len(all_of(reseller, "/cdrs", number="33123456", most=500)) == 10
    since = (owner.world.clock.now() - timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    assert len(all_of(owner, "/cdrs", **{"from": since})) == 10
    assert all_of(owner, "/cdrs", number="4420718_") == []
    assert all_of(owner, "/cdrs", disposition="refused") == []
    assert [one["id"] for one in all_of(owner, "/accounts", q="anna")] == [ANNA]
    assert all_of(owner, "/accounts", q="%") == []


def test_a_top_up_is_done_once_however_often_it_is_sent(reseller: Program) -> None:
    """Eight at the same instant under one key: one transaction, and the books balance."""
    path, body = f"/accounts/{ANNA}/topups", {"amount": "12.5"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: reseller.post(path, body, once="one"), range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"still_running"}
    assert reseller.post(path, body, once="one").json()["balance"] == "37.50"
    assert reseller.post(path, {"amount": "13"}, once="one").status_code == 422
    world = reseller.world
    assert world.balance("Anna's Bakery") == 37_500_000
    assert world.balance("Bluebird Voice") == 500 * EURO - 25 * EURO - 12_500_000
    assert len([row for row in world.rows(LedgerTransaction) if row.operation == "topup:api:2:one"]) == 1
    with reading(world.engine) as session:
        assert books.check_store(session).findings == ()


def test_a_statement_adds_up_in_pages_and_as_a_file(reseller: Program) -> None:
    """Opening balance and all lines make the closing balance; the file says the same."""
    for number in range(5):
        reseller.post(f"/accounts/{ANNA}/topups", {"amount": "1.000001"}, once=f"t{number}")
    path = f"/accounts/{ANNA}/statement"
    whole = reseller.get(f"{path}?month=2026-11").json()
    assert (whole["opening"], whole["closing"], len(whole["items"])) == ("25.00", "30.000005", 5)
    lines = all_of(reseller, path, month="2026-11", most=2)
    assert [line["balance"] for line in lines][-1] == "30.000005"
    assert lines == whole["items"]
    file = list(csv.reader(io.StringIO(reseller.get(f"{path}.csv?month=2026-11").text)))
    assert [line[-1] for line in file[1:]] == ["25.00", *[line["balance"] for line in lines], "30.000005"]
    assert len(all_of(reseller, "/transactions", account=ANNA, most=2)) == 6


def test_files_hold_what_the_search_finds(owner: Program) -> None:
    """CSV and Parquet: every record once, with its own types."""
    lines = list(csv.DictReader(io.StringIO(owner.get(f"/cdrs.csv?account={DELTA}").text)))
    assert [line["call_id"] for line in lines] == [f"pbx:{number:06}" for number in range(4, 41, 4)]
    frame = pl.read_parquet(io.BytesIO(owner.get("/cdrs.parquet").content))
    assert (frame.height, frame["cost"].dtype) == (40, pl.Decimal(18, 6))
    assert frame["call_id"].n_unique() == 40


def test_the_largest_number_is_just_a_number(owner: Program) -> None:
    """No store breaks over an id that it has not: an empty page or 404; one more than that is none."""
    for path in NUMBERED:
        assert owner.get(path.format(LARGEST)).status_code in {200, 404}, path
        assert owner.get(path.format(LARGEST + 1)).status_code in {400, 422}, path


@pytest.mark.parametrize("caller", ["owner", "reseller"])
def test_no_request_breaks_postgresql(caller: str, postgresql_engine: Engine) -> None:
    """What a store takes amiss is the store's own: whatever is sent, no fault, and books that balance."""
    empty(postgresql_engine)
    furnish(postgresql_engine)
    redis = FakeAsyncRedis(server=FakeServer(), decode_responses=True)
    fuzz(World(postgresql_engine, redis), caller, examples=1)
