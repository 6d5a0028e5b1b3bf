"""The switch's calls beside the billed ones, and the settling of what is missing: exact, once, reversible."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Engine
from sqlmodel import col, func, select

from billing.books import check_store
from billing.catalogue import load_catalogue
from billing.cdrs import EndedCall, settle
from billing.errors import Conflict, NotFound
from billing.models import Account, AuditRow, Cdr, Identity, IdentityKind, Posting, SwitchCdr
from billing.reconcile.compare import Comparison, Counts, Finding, Kind, Scope, Worth
from billing.reconcile.posted import KEPT, forget, keep, posted
from billing.reconcile.records import Leg, SwitchCall
from billing.reconcile.scratch import Scratch
from billing.store import reading, work
from billing.tariffs import add_tariff, import_rates
from callctl.reconcile import Priced, price, settle_missing, undo
from tests.integration.tree import NOW, RATE, Tree, balance, carls_call, cleos_call, ended, plant

LATER = NOW + timedelta(hours=2)
DAY = Scope("sw", NOW - timedelta(hours=1), NOW + timedelta(days=1), fresh=LATER)
COST_31 = 110_000
COST_61 = 140_000


@pytest.fixture
def tree(engine: Engine) -> Tree:
    """Accounts without money."""
    return plant(engine)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    """An empty scratch place."""
    made = Scratch(tmp_path / "scratch.db")
    yield made
    made.close()


def leg(key: str, seconds: float, **changes: Any) -> Leg:
    """What a switch wrote of a call that was answered at noon."""
    answered = NOW if seconds else None
    made = Leg(
        id=f"id {key}",
        base=key.partition("~")[0],
        key=key,
        leg=key,
        is_call=True,
        controlled=True,
        rank=1,
        part_of=(),
        direction="outbound",
        account_code="carl",
        caller="100",
        callee="+49301234",
        started_at=NOW,
        answered_at=answered,
        ended_at=NOW + timedelta(seconds=seconds),
        talk_ms=round(seconds * 1000),
        cause=16,
        source="Master.csv:7",
    )
    return replace(made, **changes)


def worth(call: SwitchCall) -> Worth:
    """Say that every call is worth a cent."""
    return Worth(7, 10_000, "EUR") if call.answered_at else Worth(amount_micros=0)


def bill(engine: Engine, *calls: EndedCall) -> None:
    """Settle as the controller does."""
    with work(engine) as session:
        settle(session, calls, now=NOW)


def compare(engine: Engine, scratch: Scratch, *legs: Leg, scope: Scope = DAY) -> tuple[list[Finding], Counts]:
    """Compare what the switch wrote with what is billed."""
    for one in legs:
        scratch.add(one)
    scratch.merge()
    with reading(engine) as session:
        comparison = Comparison(session, scratch, scope, worth)
        return list(comparison.findings()), comparison.counts


def test_calls_that_agree_are_no_finding(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """A difference of the tolerance itself is none; unanswered calls agree too."""
    bill(engine, carls_call(tree, "sw:a", 31), carls_call(tree, "sw:b", 31), ended("sw:c", tree.carl))
    found, counts = compare(engine, scratch, leg("a", 31), leg("b", 32), leg("c", 0))
    assert found == []
    assert (counts.switch_calls, counts.billed_calls, counts.same) == (3, 3, 3)


def test_a_longer_or_shorter_call_is_priced_again_by_its_own_rate(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """More than a second apart is different; at stake is what the payer's own rate makes of the switch's length."""
    bill(engine, carls_call(tree, "sw:a", 31), carls_call(tree, "sw:b", 61), carls_call(tree, "sw:c", 31))
    found, counts = compare(engine, scratch, leg("a", 61), leg("b", 31), leg("c", 32.001))
    assert [(one.call_id, one.kind, one.stake_micros, one.switch_ms, one.billed_ms) for one in found] == [
        ("sw:a", Kind.DIFFERENT, COST_61 - COST_31, 61_000, 31_000),
        ("sw:b", Kind.DIFFERENT, COST_31 - COST_61, 31_000, 61_000),
        ("sw:c", Kind.DIFFERENT, 0, 32_001, 31_000),
    ]
    assert "30.0 s longer on the switch" in found[0].why
    assert counts.stakes == {"EUR": [30_000, 30_000]}


def test_a_tolerance_of_ones_own(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """What the operator tolerates is no difference."""
    bill(engine, carls_call(tree, "sw:a", 31))
    assert compare(engine, scratch, leg("a", 36), scope=replace(DAY, tolerance_ms=5000))[0] == []


def test_answered_on_one_side_only(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """A talk that was billed as refused is charged too little, a charge for a call that never was, too much."""
    bill(engine, ended("sw:a", tree.carl, disposition="refused", reason="no_money"), carls_call(tree, "sw:b", 31))
    found, _ = compare(engine, scratch, leg("a", 31), leg("b", 0))
    assert [(one.kind, one.stake_micros) for one in found] == [(Kind.DIFFERENT, 10_000), (Kind.DIFFERENT, -COST_31)]
    assert "no_money" in found[0].why


def test_missing_calls_unless_fresh_live_or_not_ours(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """Missing is what ended long enough ago, is not live, and went through callctl; the rest is counted apart."""
    assert tree.carl
    fresh = leg("new", 5, ended_at=LATER, answered_at=LATER, started_at=LATER)
    legs = [leg("a", 31), leg("busy", 0), leg("live", 31), fresh, leg("past", 31, controlled=False)]
    found, counts = compare(engine, scratch, *legs, scope=replace(DAY, live=frozenset({"sw:live"})))
    assert [(one.call_id, one.kind, one.stake_micros) for one in found] == [
        ("sw:a", Kind.MISSING, 10_000),
        ("sw:busy", Kind.MISSING, 0),
    ]
    assert (counts.pending, counts.outside) == (2, 1)


def test_calls_past_callctl_are_listed_when_asked_for(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """A call that was connected without asking callctl is shown as that."""
    assert tree.carl
    found, _ = compare(engine, scratch, leg("p", 31, controlled=False), scope=replace(DAY, outside=True))
    assert [(one.kind, one.why) for one in found] == [(Kind.OUTSIDE, "callctl was not asked")]


def test_billed_calls_that_the_switch_does_not_know(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """Billed in the period and unknown to the switch; another switch's, an unanswered and an older one are not."""
    old = {"answered_at": NOW - timedelta(days=2), "ended_at": NOW - timedelta(days=2)}
    bill(
        engine,
        carls_call(tree, "sw:a", 31),
        carls_call(tree, "other:a", 31, switch="other"),
        ended("sw:busy", tree.carl),
        carls_call(tree, "sw:old", 31, **old),
    )
    found, counts = compare(engine, scratch)
    assert [(one.call_id, one.kind, one.stake_micros) for one in found] == [("sw:a", Kind.UNKNOWN, -COST_31)]
    assert counts.billed_calls == 2


def test_one_talk_billed_under_two_numbers_is_doubled(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """The same channel, number and time billed twice, where the switch knows one call."""
    bill(engine, carls_call(tree, "sw:a", 31), carls_call(tree, "sw:a~2", 31))
    found, _ = compare(engine, scratch, leg("a", 31))
    assert [(one.call_id, one.kind, one.stake_micros) for one in found] == [("sw:a~2", Kind.DOUBLED, -COST_31)]
    assert "sw:a" in found[0].why


def test_two_records_of_the_switch_with_different_lengths(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """The switch contradicts itself: a person must look, nothing is computed."""
    bill(engine, carls_call(tree, "sw:a", 31))
    found, _ = compare(engine, scratch, leg("a", 31), leg("a", 61, id="other"))
    assert [(one.kind, one.stake_micros) for one in found] == [(Kind.DOUBLED, None)]


def test_more_calls_than_a_page(engine: Engine, tree: Tree, scratch: Scratch) -> None:
    """Pages do not lose or repeat calls."""
    bill(engine, *(carls_call(tree, f"sw:{n:04}", 31) for n in range(0, 1300, 2)))
    found, counts = compare(engine, scratch, *(leg(f"{n:04}", 31) for n in range(1, 1300, 2)))
    assert counts.kinds == {Kind.MISSING: 650, Kind.UNKNOWN: 650}
    assert len({one.call_id for one in found}) == 1300


# -- settling ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def priced(engine: Engine, tree: Tree) -> EndedCall:
    """A missing call of cleo's, priced with today's catalogue."""
    with work(engine) as session:
        tariff = add_tariff(session, name="retail", currency="EUR", rounding=RATE.rounding, actor="test", now=NOW)
        import_rates(session, "retail", [RATE], actor="test", now=NOW)
        payers = col(Account.id).in_([tree.cleo, tree.ray])
        session.execute(update(Account).where(payers).values(tariff_id=tariff.id))
        session.add(Identity(account_id=tree.cleo, kind=IdentityKind.ACCOUNT_CODE, value="cleo-1"))
    call = switch_call()
    with reading(engine) as session:
        made = price("sw", call, load_catalogue(session))
    assert isinstance(made, Priced)
    return made.record


def switch_call(**changes: Any) -> SwitchCall:
    """What the switch knows of a call of cleo's."""
    made = SwitchCall(
        key="m",
        controlled=True,
        direction="outbound",
        account_code="cleo-1",
        caller="100",
        callee="+49301234",
        offered_at=NOW,
        answered_at=NOW,
        ended_at=NOW + timedelta(seconds=31),
        talk_ms=31_000,
        cause=16,
        source="x",
    )
    return replace(made, **changes)


def test_a_missing_call_is_settled_once_at_every_level(engine: Engine, tree: Tree, priced: EndedCall) -> None:
    """The record says why it is there, payer and reseller are charged, the books balance; again changes nothing."""
    assert (priced.reason, priced.estimated, priced.talk_ms) == ("reconciled", False, 31_000)
    for expected in (["sw:m"], []):
        written, applied = settle_missing(engine, [priced, priced], actor="cli:test", now=LATER)
        assert written == expected
        moved = sorted((one.wallet_id, one.amount_micros) for one in applied)
        ray = [(tree.ray_wallet, -COST_31), (tree.ray_wallet, COST_31)]
        assert moved == sorted([(tree.cleo_wallet, -COST_31), *ray])
    assert [balance(engine, wallet) for wallet in (tree.cleo_wallet, tree.ray_wallet)] == [-COST_31, 0]
    with reading(engine) as session:
        assert check_store(session).findings == ()
        actions = session.exec(select(AuditRow.action).where(col(AuditRow.subject) == "call:sw:m")).all()
        assert actions == ["cdr.reconcile"]


def test_a_call_the_controller_settles_meanwhile_stays_as_it_is(engine: Engine, tree: Tree, priced: EndedCall) -> None:
    """Whoever comes first makes the record; the other changes nothing."""
    bill(engine, cleos_call(tree, "sw:m", 61))
    written, _ = settle_missing(engine, [priced], actor="cli:test", now=LATER)
    assert written == []
    assert balance(engine, tree.cleo_wallet) == -COST_61


def test_two_operators_at_once_settle_once(engine: Engine, tree: Tree, priced: EndedCall) -> None:
    """The same command on two terminals charges once."""
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: settle_missing(engine, [priced], actor="x", now=LATER)[0], range(4)))
    assert sorted(len(written) for written in done) == [0, 0, 0, 1]
    assert balance(engine, tree.cleo_wallet) == -COST_31


def test_a_settlement_is_undone_once(engine: Engine, tree: Tree, priced: EndedCall) -> None:
    """The money goes back along the chain, the record stays; a second undoing is refused and changes nothing."""
    settle_missing(engine, [priced], actor="x", now=LATER)
    undo(engine, "sw:m", actor="x", now=LATER)
    wallets = (tree.cleo_wallet, tree.ray_wallet, tree.income)
    assert [balance(engine, wallet) for wallet in wallets] == [0, 0, 0]
    with pytest.raises(Conflict):
        undo(engine, "sw:m", actor="x", now=LATER)
    with reading(engine) as session:
        assert session.get(Cdr, "sw:m") is not None
        assert session.exec(select(func.count()).select_from(Posting)).one() == 8
        assert check_store(session).findings == ()


def test_only_what_was_settled_here_is_undone_here(engine: Engine, tree: Tree) -> None:
    """A call that the controller billed, and one that is not there, are refused; no posting is made."""
    bill(engine, carls_call(tree, "sw:a", 31))
    with pytest.raises(Conflict, match="billed by the controller"):
        undo(engine, "sw:a", actor="x", now=LATER)
    with pytest.raises(NotFound):
        undo(engine, "sw:none", actor="x", now=LATER)
    assert balance(engine, tree.carl_wallet) == -COST_31


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"account_code": "nobody"}, "nobody here"),
        ({"callee": "+1555"}, "no rate"),
        ({"callee": ""}, "what number"),
        ({"source": "posted (form)"}, "forge"),
        ({"answered_at": None, "talk_ms": 0}, "never answered"),
    ],
)
def test_what_cannot_be_priced_says_why(engine: Engine, priced: EndedCall, changes: dict[str, Any], why: str) -> None:
    """No account, no rate, no number: nothing is invented."""
    assert priced.charges
    with reading(engine) as session:
        found = price("sw", switch_call(**changes), load_catalogue(session))
    assert isinstance(found, Worth)
    assert why in found.why


# -- what switches posted ----------------------------------------------------------------------------------------------


def test_a_post_is_kept_once(engine: Engine) -> None:
    """The same leg posted again is the same row, on either database; another switch's leg of that name is another."""
    one = leg("k", 31, id="uuid-1")
    with work(engine) as session:
        assert [keep(session, "sw", one, now=NOW), keep(session, "sw", one, now=NOW)] == [True, False]
        assert keep(session, "other", one, now=NOW)
    with reading(engine) as session:
        (read,) = posted(session, "sw", NOW, LATER)
        assert (read.id, read.key, read.talk_ms, read.answered_at, read.source) == (
            "uuid-1",
            "k",
            31_000,
            NOW,
            "posted",
        )
        assert list(posted(session, "sw", LATER, LATER + timedelta(days=1))) == []


def test_a_post_that_a_caller_could_forge_stays_marked(engine: Engine) -> None:
    """What came as a form is known as that when it is compared."""
    with work(engine) as session:
        keep(session, "sw", leg("k", 31, source="posted (form)"), now=NOW)
    with reading(engine) as session:
        assert [one.source for one in posted(session, "sw", NOW, LATER)] == ["posted (form)"]


def test_posts_are_read_in_pages_and_forgotten_in_time(engine: Engine) -> None:
    """More than a page comes whole; the thousandth post clears away what is older than the time of keeping."""
    with work(engine) as session:
        for number in range(1100):
            at = NOW + timedelta(seconds=number // 7)
            one = leg(f"k{number}", 5, id=f"u{number}", ended_at=at, started_at=NOW)
            keep(session, "sw", one, now=NOW if number % 2 else NOW - KEPT - timedelta(days=1))
    with reading(engine) as session:
        assert len({one.id for one in posted(session, "sw", NOW, LATER)}) == 600
    with work(engine) as session:
        forget(session, before=NOW - KEPT)
    with reading(engine) as session:
        assert session.exec(select(func.count()).select_from(SwitchCdr)).one() == 550
