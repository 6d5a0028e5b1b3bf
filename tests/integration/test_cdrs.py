"""Call records: one each, with charges that equal the postings, whatever is told twice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from time import perf_counter

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from billing.cdrs import EndedCall, Settled, explain, find_cdr, list_cdrs, reprice, settle
from billing.errors import BillingError, IdUsedAgain, LedgerBroken, NotFound
from billing.ledger import Applied
from billing.models import Cdr, Charge, LedgerTransaction, OutboxRow, Posting, Wallet
from billing.store import reading, work
from tests.integration.tree import NOW, Tree, balance, carls_call, charge, cleos_call, ended, plant

# RATE for 31 s: 0.05 + 60 s at 0.001
COST = 110_000


def _settle(engine: Engine, *calls: EndedCall) -> Settled:
    with work(engine) as session:
        return settle(session, calls, now=NOW)


def _rows(engine: Engine) -> list[object]:
    with reading(engine) as session:
        tables = (Cdr, Charge, LedgerTransaction, Posting, OutboxRow, Wallet)
        return [row.model_dump() for table in tables for row in session.exec(select(table)).all()]


def test_a_call_is_recorded_charged_and_posted(engine: Engine) -> None:
    """The record, the charge of each payer and the postings are written together and say the same."""
    tree = plant(engine)
    done = _settle(engine, cleos_call(tree, "sw:1", 31))
    assert done == Settled(
        written=("sw:1",),
        known=(),
        applied=(
            Applied(tree.cleo_wallet, 1, -COST, "sw:1"),
            Applied(tree.ray_wallet, 1, COST),
            Applied(tree.ray_wallet, 2, -COST, "sw:1"),
        ),
    )
    wallets = (tree.cleo_wallet, tree.ray_wallet, tree.income)
    assert [balance(engine, wallet) for wallet in wallets] == [-COST, 0, COST]
    with reading(engine) as session:
        record, charges = find_cdr(session, "sw:1")
        assert (record.account_id, record.cost_micros, record.currency) == (tree.cleo, COST, "EUR")
        assert (record.disposition, record.talk_ms, record.answered_at) == ("answered", 31_000, NOW)
        assert record.ended_at == NOW + timedelta(seconds=31)
        assert [(c.level, c.account_id, c.amount_micros, c.billed_s) for c in charges] == [
            (0, tree.cleo, COST, 60),
            (1, tree.ray, COST, 60),
        ]
        written = session.exec(select(LedgerTransaction)).one()
        assert (written.id, written.operation, written.kind) == (record.transaction_id, "call:sw:1", "call")
        assert [reprice(c) for c in charges] == [COST, COST]


def test_a_call_told_twice_is_one_record(engine: Engine) -> None:
    """A known call changes nothing, even when told with other numbers; its postings are returned again."""
    tree = plant(engine)
    first = _settle(engine, carls_call(tree, "sw:1", 31), carls_call(tree, "sw:1", 90))
    assert first.written == ("sw:1",)
    assert first.applied == (Applied(tree.carl_wallet, 1, -COST, "sw:1"),)
    before = _rows(engine)
    again = _settle(engine, carls_call(tree, "sw:1", 90))
    assert again == Settled(written=(), known=("sw:1",), applied=first.applied)
    assert _rows(engine) == before
    mixed = _settle(engine, carls_call(tree, "sw:0", 31), carls_call(tree, "sw:1", 31))
    assert (mixed.written, mixed.known) == (("sw:0",), ("sw:1",))
    assert mixed.applied == (*first.applied, Applied(tree.carl_wallet, 2, -COST, "sw:0"))


def test_an_id_used_again_by_another_call_is_an_error(engine: Engine) -> None:
    """Left as a known call it would have talked for nothing; one that overlaps its record is the same, told twice."""
    tree = plant(engine)
    _settle(engine, carls_call(tree, "sw:1", 31))
    before = _rows(engine)
    second = carls_call(tree, "sw:1", 31)
    overlapping = replace(second, offered_at=NOW + timedelta(seconds=30))
    assert _settle(engine, overlapping).known == ("sw:1",)
    later = NOW + timedelta(hours=2)
    another = replace(second, offered_at=later, answered_at=later, ended_at=later + timedelta(seconds=31))
    with pytest.raises(IdUsedAgain):
        _settle(engine, carls_call(tree, "sw:0", 31), another)
    assert _rows(engine) == before


def test_known_chains_are_told_again_with_their_holds(engine: Engine) -> None:
    """Told again, each leg names the hold it replaces just as the first time."""
    tree = plant(engine)
    first = _settle(engine, cleos_call(tree, "sw:1", 31))
    assert sorted(_settle(engine, cleos_call(tree, "sw:1", 31)).applied, key=repr) == sorted(first.applied, key=repr)


def test_a_call_that_costs_nothing_has_a_record_and_no_posting(engine: Engine) -> None:
    """Refused, busy and free calls have their one record; the ledger does not hear of them."""
    tree = plant(engine)
    free = charge(tree.carl, tree.carl_wallet, tree.income, 31, amount_micros=0)
    done = _settle(engine, ended("sw:1", None, reason="unknown_account"), ended("sw:2", tree.carl, free, seconds=31))
    assert (done.written, done.applied) == (("sw:1", "sw:2"), ())
    with reading(engine) as session:
        assert find_cdr(session, "sw:1")[0].transaction_id is None
        assert [c.amount_micros for c in find_cdr(session, "sw:2")[1]] == [0]
        assert session.exec(select(LedgerTransaction)).all() == []
        with pytest.raises(NotFound):
            find_cdr(session, "sw:3")


def test_hostile_text_is_stored_as_text(engine: Engine) -> None:
    """Control characters, lone surrogates and floods from a caller never stop a record nor reach beyond it."""
    tree = plant(engine)
    caller = "a\x00b\r\nEvent: Hangup\ud800\u2028'\"<script>${EVIL}" + "x" * 500
    _settle(engine, carls_call(tree, "sw:1", 31, caller=caller, destination="d" * 999, cause=2**40, sip_status=-1))
    with reading(engine) as session:
        record = find_cdr(session, "sw:1")[0]
        assert record.caller.startswith("a\ufffdb\ufffd\ufffdEvent: Hangup\ufffd\u2028'\"<script>${EVIL}x")
        assert (len(record.caller), len(record.destination)) == (200, 100)
        assert (record.cause, record.sip_status) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"call_id": ""},
        {"call_id": "x" * 201},
        {"call_id": "a\nb"},
        {"ended_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the point
    ],
)
def test_what_no_record_can_hold_is_refused_at_once(change: dict[str, object]) -> None:
    """Such a call is never made, so it cannot stop a batch."""
    with pytest.raises(ValueError, match=r"call id|zone"):
        ended(**{"call_id": "sw:1", "account_id": None, **change})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 or more"):
        ended("sw:1", 1, charge(1, 1, 2, 31, amount_micros=-1), seconds=31)


def _poisoned(tree: Tree) -> list[tuple[type[BillingError], EndedCall]]:
    dollars = charge(tree.carl, tree.carl_wallet, tree.income, 31, currency="USD")
    nowhere = charge(tree.carl, 999, tree.income, 31)
    return [
        (LedgerBroken, ended("sw:2", tree.carl, dollars, seconds=31)),
        (NotFound, ended("sw:2", tree.carl, nowhere, seconds=31)),
    ]


@pytest.mark.parametrize("case", range(2))
def test_a_batch_is_written_whole_or_not_at_all(engine: Engine, case: int) -> None:
    """One impossible call undoes its batch; the others settle without it."""
    tree = plant(engine)
    error, poison = _poisoned(tree)[case]
    before = _rows(engine)
    with pytest.raises(error), work(engine) as session:
        settle(session, [carls_call(tree, "sw:1", 31), poison], now=NOW)
    assert _rows(engine) == before
    assert _settle(engine, carls_call(tree, "sw:1", 31)).written == ("sw:1",)


def test_concurrent_settling_writes_each_call_once(engine: Engine) -> None:
    """Several that settle overlapping batches at once write each call once, charge it once, and never deadlock."""
    tree = plant(engine)

    def batch(number: int) -> Settled:
        calls = [
            (cleos_call if n % 2 else carls_call)(tree, f"sw:{n:02}", 31) for n in range(number * 5, number * 5 + 20)
        ]
        return _settle(engine, *(calls if number % 2 else calls[::-1]))

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(batch, range(6)))
    written = [call_id for each in done for call_id in each.written]
    assert sorted(written) == [f"sw:{n:02}" for n in range(45)]
    assert all(len(each.written) + len(each.known) == 20 for each in done)
    assert balance(engine, tree.cleo_wallet) == -22 * COST
    assert balance(engine, tree.carl_wallet) == -23 * COST
    assert balance(engine, tree.ray_wallet) == 0
    # A known call's postings are told again, whoever wrote them.
    for each in done:
        paid = {one.call_id for one in each.applied if one.amount_micros < 0}
        assert paid == {*each.written, *each.known}


def test_records_are_listed_newest_first(engine: Engine) -> None:
    """A page goes on exactly behind the last record seen, also among records of the same moment."""
    tree = plant(engine)
    _settle(engine, *(carls_call(tree, f"sw:{n}", n // 2 + 1) for n in range(6)), cleos_call(tree, "sw:x", 1))
    with reading(engine) as session:
        seen: list[str] = []
        before = None
        while page := list_cdrs(session, account_id=tree.carl, before=before, most=2):
            seen += [record.call_id for record in page]
            before = (page[-1].ended_at, page[-1].call_id)
        assert seen == ["sw:5", "sw:4", "sw:3", "sw:2", "sw:1", "sw:0"]
        assert [record.call_id for record in list_cdrs(session, most=3)] == ["sw:5", "sw:4", "sw:3"]
        assert len(list_cdrs(session)) == 7


def test_the_journal_gives_back_what_it_was_given() -> None:
    """A call survives JSON, its times as the same moments."""
    east = timezone(timedelta(hours=5))
    call = ended("sw:1", 7, charge(7, 1, 2, 31), seconds=31, offered_at=NOW.astimezone(east), estimated=True)
    again = EndedCall.from_json(json.loads(json.dumps(call.to_json())))
    assert again == call
    refused = ended("sw:2", None)
    assert EndedCall.from_json(json.loads(json.dumps(refused.to_json()))) == refused


def test_a_charge_is_explained(engine: Engine) -> None:
    """A customer reads by which rate, for how much talk, and how the total came about."""
    tree = plant(engine)
    _settle(engine, carls_call(tree, "sw:1", 31))
    with reading(engine) as session:
        assert explain(session.exec(select(Charge).where(col(Charge.call_id) == "sw:1")).one()) == [
            "Tariff retail, version 3, prefix 4930 (Berlin).",
            "31 s of talk, billed as 60 s.",
            "connect fee: 0.05 EUR",
            "60 s at 0.06 per 60 s, in increments of 30 s: 0.06 EUR",
            "Total, rounded half up to 4 decimals: 0.11 EUR",
        ]


def test_hundreds_of_calls_settle_in_one_go(engine: Engine) -> None:
    """A batch costs few statements: far above a thousand calls in a second, even on a busy machine."""
    tree = plant(engine)
    calls = [cleos_call(tree, f"sw:{n}", 31) for n in range(500)]
    started = perf_counter()
    assert len(_settle(engine, *calls).written) == 500
    assert perf_counter() - started < 5
