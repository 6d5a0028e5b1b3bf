"""Moving an account in the tree: who pays from then on, what stays, and what is refused without a trace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing import commissions
from billing.account_changes import change_account, close_account
from billing.account_tree import KEEP, move_account, places_for
from billing.accounts import add_account, find_account, set_status
from billing.blocks import blocker_of, may_lift
from billing.books import check_store
from billing.catalogue import load_catalogue
from billing.cdrs import settle
from billing.errors import BillingError, NotFound, Refused
from billing.models import (
    Account,
    AccountKind,
    AccountStatus,
    AuditRow,
    Cdr,
    Charge,
    CommissionOf,
    Posting,
    ResellerBlock,
)
from billing.statements import month_of, statement
from billing.store import again, reading, work
from billing.tariff_owners import own_tariff
from billing.tariffs import add_tariff
from billing.topups import top_up
from rating.tariff import Rounding
from tests.integration.tree import EURO, NOW, balance, cleos_call, plant


def _move(engine: Engine, account_id: int, to_id: int, tariff: str | None = KEEP) -> bool:
    return again(engine, lambda session: move_account(session, account_id, to_id, tariff=tariff, actor="olga", now=NOW))


def _kept(engine: Engine, *tables: Any) -> list[str]:
    with reading(engine) as session:
        return [str(row.model_dump()) for table in tables for row in session.exec(select(table)).all()]


def _reseller(engine: Engine, name: str, **more: Any) -> int:
    with work(engine) as session:
        made = add_account(session, name=name, kind=AccountKind.RESELLER, actor="test", now=NOW, **more)
        return made.id or 0


def test_from_now_on_another_pays_and_the_past_stays(engine: Engine) -> None:
    """Cleo moves from ray to sue: past calls stay, one that was offered before ends with ray, new ones go by sue."""
    tree = plant(engine)
    sue = _reseller(engine, "sue")
    for account_id in (tree.ray, tree.cleo):
        with work(engine) as session:
            top_up(session, account_id, EURO, operation=f"t{account_id}", actor="admin", now=NOW)
    with work(engine) as session:
        settle(session, [cleos_call(tree, "before", 60)], now=NOW)
    past = _kept(engine, Cdr, Charge, Posting)
    assert _move(engine, tree.cleo, sue)
    assert _kept(engine, Cdr, Charge, Posting) == past
    with reading(engine) as session:
        assert find_account(session, "cleo").parent == "sue"
        party = load_catalogue(session).parties[tree.cleo]
        assert party.to_wallet_id == find_account(session, "sue").wallet_id
        (row,) = session.exec(select(AuditRow).where(AuditRow.action == "account.move")).all()
        assert (row.before, row.after) == (
            {"parent_id": tree.ray, "tariff_id": None},
            {"parent_id": sue, "tariff_id": None},
        )
    ray = balance(engine, tree.ray_wallet)
    with work(engine) as session:
        # It was up while cleo moved: its levels are those of its offer.
        settle(session, [cleos_call(tree, "live", 60)], now=NOW)
        period = month_of("2026-03", "UTC")
        told = statement(session, tree.ray, period)
        assert {one.kind: one.lines for one in told.sums}["call"] == 4
        assert check_store(session).findings == ()
    assert balance(engine, tree.ray_wallet) == ray
    assert not _move(engine, tree.cleo, sue)


def test_what_cannot_hang_there_is_refused(engine: Engine) -> None:
    """Under itself, under a customer, in another currency, at a closed place, with a commission: nothing changes."""
    tree = plant(engine)
    below = _reseller(engine, "below", parent="ray")
    dollars = _reseller(engine, "dollars", currency="USD")
    closed = _reseller(engine, "closed")
    with work(engine) as session:
        close_account(session, closed, actor="test", now=NOW)
    with work(engine) as session:
        ppm = commissions.read_percent("10")
        commissions.set_commission(session, tree.carl, CommissionOf.REVENUE, ppm, actor="admin", now=NOW)
    before = _kept(engine, Account, AuditRow)
    cases: list[tuple[int, int, type[BillingError], str]] = [
        (tree.ray, below, Refused, "under itself"),
        (tree.ray, tree.ray, Refused, "under itself"),
        (tree.cleo, tree.carl, Refused, "is a customer"),
        (tree.cleo, dollars, Refused, "has USD"),
        (tree.cleo, closed, Refused, "is closed"),
        (closed, tree.ray, Refused, "is closed"),
        (tree.operator, tree.ray, Refused, "root of the tree"),
        (tree.carl, tree.ray, Refused, "earns a commission"),
        (tree.cleo, 999, NotFound, "no account"),
        (999, tree.ray, NotFound, "no account"),
    ]
    for account_id, to_id, error, says in cases:
        with pytest.raises(error, match=says):
            _move(engine, account_id, to_id)
    assert _kept(engine, Account, AuditRow) == before
    with reading(engine) as session:
        assert [name for _, name in places_for(session, tree.ray)] == ["op"]
        assert [name for _, name in places_for(session, tree.cleo)] == ["op", "below", "ray"]
        assert places_for(session, tree.operator) == []


def test_a_tariff_of_who_stands_above_no_more_does_not_stay(engine: Engine) -> None:
    """Cleo is charged by ray's own tariff: it moves only with another one, or with none."""
    tree = plant(engine)
    sue = _reseller(engine, "sue")
    with work(engine) as session:
        for name in ("rays", "house"):
            add_tariff(session, name=name, currency="EUR", rounding=Rounding(), actor="test", now=NOW)
        own_tariff(session, "rays", tree.ray, actor="test", now=NOW)
        change_account(session, tree.cleo, {"tariff": "rays"}, actor="test", now=NOW)
    before = _kept(engine, Account, AuditRow)
    for tariff in (KEEP, "rays"):
        with pytest.raises(BillingError, match="rays"):
            _move(engine, tree.cleo, sue, tariff)
    assert _kept(engine, Account, AuditRow) == before
    assert _move(engine, tree.cleo, sue, "house")
    with reading(engine) as session:
        assert find_account(session, "cleo").tariff == "house"


def test_two_moves_at_once_make_no_circle(engine: Engine) -> None:
    """Ray under sue and sue under ray in the same instant: one moves, the other is refused."""
    tree = plant(engine)
    sue = _reseller(engine, "sue")

    def move(pair: tuple[int, int]) -> str:
        try:
            return str(_move(engine, *pair))
        except Refused as why:
            return "refused" if "under itself" in str(why) else str(why)

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(move, [(tree.ray, sue), (sue, tree.ray)]))
    assert answers == ["True", "refused"]


def test_a_block_of_who_stands_above_no_more_is_the_operators(engine: Engine) -> None:
    """Ray blocked cleo; under sue the operator lifts it, not ray and not sue."""
    tree = plant(engine)
    sue = _reseller(engine, "sue")
    with work(engine) as session:
        set_status(session, tree.cleo, AccountStatus.BLOCKED, by=tree.ray, actor="ray", now=NOW)
    _move(engine, tree.cleo, sue)
    assert _kept(engine, ResellerBlock) == []
    with reading(engine) as session:
        assert blocker_of(session, tree.cleo) is None
        assert [may_lift(session, tree.cleo, by) for by in (tree.ray, sue, None)] == [False, False, True]
