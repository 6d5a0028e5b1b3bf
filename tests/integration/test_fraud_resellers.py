"""Rules of resellers: for their own accounts, beside those of the operator, which they never loosen."""

from __future__ import annotations

import pytest
from fakeredis import FakeAsyncRedis
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import outbox
from billing.accounts import add_account, set_status
from billing.blocks import blocker_of, may_lift
from billing.catalogue import load_catalogue
from billing.cdrs import settle
from billing.errors import Refused
from billing.fraud.rules import MOST_OF_RESELLER, Wanted, add_rule, end_rule, is_of, list_rules
from billing.models import Account, AccountKind, AccountStatus
from billing.models.fraud import FraudAction, FraudKind, FraudRule
from billing.store import reading, work
from tests.integration.test_fraud import MINUTE, Stage
from tests.integration.tree import EURO, NOW, cleos_call, plant

HOUR = FraudKind.SPEND_HOUR
BLOCK = FraudAction.BLOCK


@pytest.fixture
async def stage(engine: Engine) -> Stage:
    """Everybody active, nobody guarded."""
    made = Stage(engine, plant(engine), FakeAsyncRedis(decode_responses=True))
    await outbox.sync_all(engine, made.credit)
    return made


def blocker(stage: Stage) -> int | None:
    """Return who has blocked cleo."""
    with reading(stage.engine) as session:
        return blocker_of(session, stage.tree.cleo)


async def test_a_resellers_rule_blocks_as_the_reseller(stage: Stage) -> None:
    """For its own accounts alone; it lifts itself what its rule did, and what was before counts no more."""
    tree = stage.tree
    stage.rule(HOUR, BLOCK, on=tree.ray, by=tree.ray, limit_micros=10 * EURO)
    await stage.calls(held=20 * EURO, account=tree.carl)
    assert await stage.guard.once() == []
    call = await stage.calls(held=11 * EURO, account=tree.cleo)
    (found,) = await stage.guard.once()
    assert (found.account_id, found.broken.rule.by) == (tree.cleo, tree.ray)
    assert (stage.status(tree.cleo), blocker(stage)) == (AccountStatus.BLOCKED, tree.ray)
    await stage.live.remove(call.call_id)
    stage.at += MINUTE
    assert stage.lift(tree.cleo, by=tree.ray) == 1
    assert (stage.alerts(), stage.status(tree.cleo)) == ([], AccountStatus.ACTIVE)
    assert await stage.guard.once() == []


async def test_what_the_operators_rule_did_stands(stage: Stage) -> None:
    """Where both are broken the block is the operator's, whichever was seen first; only the operator lifts it."""
    tree = stage.tree
    stage.rule(HOUR, BLOCK, on=tree.ray, by=tree.ray, limit_micros=10 * EURO)
    await stage.calls(held=11 * EURO, account=tree.cleo)
    assert len(await stage.guard.once()) == 1
    assert blocker(stage) == tree.ray
    stage.rule(HOUR, BLOCK, limit_micros=5 * EURO)
    assert len(await stage.guard.once()) == 1
    assert (stage.status(tree.cleo), blocker(stage)) == (AccountStatus.BLOCKED, None)
    stage.at += MINUTE
    assert stage.lift(tree.cleo, by=tree.ray) == 1
    assert (len(stage.alerts()), stage.status(tree.cleo)) == (1, AccountStatus.BLOCKED)
    assert stage.lift(tree.cleo, by=tree.ray) == 0
    assert stage.status(tree.cleo) is AccountStatus.BLOCKED
    assert stage.lift(tree.cleo) == 1
    assert (stage.alerts(), stage.status(tree.cleo)) == ([], AccountStatus.ACTIVE)


async def test_a_resellers_block_is_no_way_around_the_operators_rule(stage: Stage) -> None:
    """Who blocks by hand before the operator's rule is broken does not lift the block after it."""
    tree = stage.tree
    stage.rule(HOUR, BLOCK, limit_micros=5 * EURO)
    with work(stage.engine) as session:
        set_status(session, tree.cleo, AccountStatus.BLOCKED, by=tree.ray, actor="ray", now=NOW)
    await stage.calls(held=11 * EURO, account=tree.cleo)
    assert len(await stage.guard.once()) == 1
    with reading(stage.engine) as session:
        assert not may_lift(session, tree.cleo, tree.ray)


async def test_a_resellers_lift_says_nothing_of_the_operators_rules(stage: Stage) -> None:
    """What was spent before it counts for the operator's rule, and no more for the reseller's own."""
    tree = stage.tree
    with work(stage.engine) as session:
        settle(session, [cleos_call(tree, "sw:1", 600, ended_at=NOW)], now=NOW)
    stage.at += MINUTE
    assert stage.lift(tree.cleo, by=tree.ray) == 0
    mine = stage.rule(HOUR, on=tree.ray, by=tree.ray, limit_micros=1)
    theirs = stage.rule(HOUR, limit_micros=1)
    (found,) = await stage.guard.once()
    assert found.broken.rule.id == theirs != mine
    stage.at += MINUTE
    stage.lift(tree.cleo)
    assert await stage.new_guard().once() == []


async def test_a_rule_does_not_follow_who_leaves_its_maker(stage: Stage) -> None:
    """An account that goes to another reseller is judged by its rules, and no more by those of the one before."""
    tree = stage.tree
    stage.rule(FraudKind.DESTINATION, BLOCK, on=tree.cleo, by=tree.ray, prefixes=("49",))
    stage.rule(FraudKind.DESTINATION, FraudAction.REFUSE, on=tree.cleo, by=tree.ray, prefixes=("44",))
    with reading(stage.engine) as session:
        before = load_catalogue(session)
    assert before.guarded(before.payers(tree.cleo), "442071838750")
    with work(stage.engine) as session:
        rita = add_account(session, name="rita", kind=AccountKind.RESELLER, actor="test", now=NOW)
        session.exec(select(Account).where(Account.id == tree.cleo)).one().parent_id = rita.id
    await stage.calls("4930123456", account=tree.cleo)
    assert await stage.guard.once() == []
    with reading(stage.engine) as session:
        after = load_catalogue(session)
    assert not after.guarded(after.payers(tree.cleo), "442071838750")


def test_a_rule_is_its_makers_and_of_who_stands_above(stage: Stage) -> None:
    """To end and to lift: the operator all, a reseller its own and those of resellers below it."""
    tree = stage.tree
    with work(stage.engine) as session:
        rita = add_account(session, name="rita", kind=AccountKind.RESELLER, parent="ray", actor="test", now=NOW)
        below = rita.id or 0
        assert [is_of(session, maker, None) for maker in (None, tree.ray, below)] == [True] * 3
        assert [is_of(session, maker, tree.ray) for maker in (None, tree.ray, below)] == [False, True, True]
        assert [is_of(session, maker, below) for maker in (None, tree.ray, below)] == [False, False, True]


def test_a_reseller_has_so_many_rules(stage: Stage) -> None:
    """Each counts its own: one that has them all takes none from the operator; an ended one makes room."""
    tree = stage.tree
    for _ in range(MOST_OF_RESELLER):
        made = stage.rule(HOUR, on=tree.ray, by=tree.ray, limit_micros=1)
    wanted = Wanted(HOUR, FraudAction.WARN, limit_micros=1)
    with pytest.raises(Refused), work(stage.engine) as session:
        add_rule(session, tree.ray, wanted, by=tree.ray, actor="t", now=NOW)
    with reading(stage.engine) as session:
        assert len(session.exec(select(FraudRule)).all()) == MOST_OF_RESELLER
    stage.rule(HOUR, limit_micros=1)
    with work(stage.engine) as session:
        end_rule(session, made, actor="t", now=NOW)
    stage.rule(HOUR, on=tree.ray, by=tree.ray, limit_micros=1)
    with reading(stage.engine) as session:
        assert len(list_rules(session)) == MOST_OF_RESELLER + 1
