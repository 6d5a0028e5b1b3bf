"""Searching records: each way finds what reading all of them would find, page by page, newest first."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import search
from billing.cdrs import settle
from billing.models import Cdr, Charge
from billing.search import CdrFilter, search_cdrs
from billing.store import reading, work
from tests.integration.tree import NOW, Tree, carls_call, cleos_call, ended, plant

NUMBERS = ("4930111", "4930222", "4915333", "100%_x", "1", "")


@pytest.fixture
def tree(engine: Engine) -> Tree:
    """60 records of cleo (over ray), carl and nobody, over ten days, some at the same moment."""
    made = plant(engine)
    calls = []
    for n, (who, caller, callee) in enumerate(product("cab", NUMBERS[:5], NUMBERS[:4])):
        changes: dict[str, Any] = {
            "caller": caller,
            "callee": callee,
            "ended_at": NOW + timedelta(hours=n // 2 * 8),
            "switch": f"s{n % 3}",
            "destination": ("Berlin", "Paris")[n % 2],
        }
        if who == "c":
            calls.append(cleos_call(made, f"x:{n}", 31, **changes))
        elif who == "a":
            calls.append(carls_call(made, f"x:{n}", 31, **changes))
        else:
            calls.append(ended(f"x:{n}", None, disposition="refused", **changes))
    with work(engine) as session:
        settle(session, calls, now=NOW)
    return made


def _slowly(engine: Engine, wanted: CdrFilter) -> list[str]:
    """Read everything and look at each record."""
    ids = set(wanted.account_ids or ()) | ({wanted.account_id} if wanted.account_id else set())
    since = wanted.day or wanted.since
    until = wanted.day + timedelta(days=1) if wanted.day else wanted.until
    with reading(engine) as session:
        payers: dict[str, set[int | None]] = {}
        for charge in session.exec(select(Charge)):
            payers.setdefault(charge.call_id, set()).add(charge.account_id)
        found = [
            record
            for record in session.exec(select(Cdr)).all()
            if (not ids or ids & (payers.get(record.call_id, set()) | {record.account_id}))
            and (
                wanted.number in (record.caller, record.callee)
                if wanted.exact
                else any(n.startswith(wanted.number) for n in (record.caller, record.callee))
            )
            and wanted.disposition in ("", record.disposition)
            and wanted.destination in ("", record.destination)
            and wanted.switch in ("", record.switch)
            and (since is None or record.ended_at >= since)
            and (until is None or record.ended_at < until)
        ]
    found.sort(key=lambda record: (record.ended_at, record.call_id), reverse=True)
    return [record.call_id for record in found]


@pytest.mark.parametrize("few", [8, 0])
def test_every_way_finds_what_reading_everything_finds(
    engine: Engine, tree: Tree, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Account, subtree, number, outcome, destination, switch, time; pages of any size; payers each alone or at once."""
    monkeypatch.setattr(search, "FEW_PAYERS", few)
    accounts = [{}, {"account_id": tree.ray}, {"account_id": tree.carl}, {"account_ids": [tree.ray, tree.cleo]}]
    numbers = [{}, {"number": "4"}, {"number": "49301"}, {"number": "100%"}, {"number": "4930111", "exact": True}]
    others = [
        {},
        {"disposition": "refused"},
        {"destination": "Paris", "switch": "s1"},
        {"day": NOW + timedelta(days=1)},
        {"since": NOW + timedelta(days=2), "until": NOW + timedelta(days=5)},
    ]
    for account, number, other in product(accounts, numbers, others):
        wanted = CdrFilter(**account, **number, **other)  # type: ignore[arg-type]
        paged: list[str] = []
        before = None
        with reading(engine) as session:
            while page := search_cdrs(session, wanted, before=before, most=7):
                paged += [record.call_id for record in page]
                before = (page[-1].ended_at, page[-1].call_id)
        assert paged == _slowly(engine, wanted), wanted


def test_an_account_outside_the_subtree_is_not_found(engine: Engine, tree: Tree) -> None:
    """Both given, an account counts only if it is one of those that may be seen."""
    with reading(engine) as session:
        assert search_cdrs(session, CdrFilter(account_id=tree.carl, account_ids=[tree.ray, tree.cleo])) == []
        assert search_cdrs(session, CdrFilter(account_ids=[])) == []
        assert search_cdrs(session, CdrFilter(account_id=tree.cleo, account_ids=[tree.ray, tree.cleo]), most=1)


def test_each_way_has_its_index(engine: Engine) -> None:
    """The database knows an index for each way, so that no search needs the whole table."""
    with reading(engine) as session:
        if engine.dialect.name == "sqlite":
            asked = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('cdr', 'charge')"
        else:
            asked = "SELECT indexname FROM pg_indexes WHERE tablename IN ('cdr', 'charge')"
        names = set(session.execute(text(asked)).scalars())
    assert {
        "ix_cdr_account_ended",
        "ix_cdr_callee",
        "ix_cdr_caller",
        "ix_cdr_destination_ended",
        "ix_cdr_disposition_ended",
        "ix_cdr_ended",
        "ix_cdr_switch_ended",
        "ix_charge_account_ended",
    } <= names
