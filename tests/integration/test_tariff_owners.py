"""Whose tariff it is: a reseller's prices are for those under it, and nobody prices himself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import Session, select

from billing.account_changes import Changes, change_account
from billing.accounts import find_account
from billing.errors import BillingError, NotFound, Refused
from billing.models import AuditRow, Tariff, TariffOwner
from billing.store import reading, work
from billing.tariff_owners import find_owned, own_tariff, owners
from tests.integration.tree import NOW, Tree, plant


def _plant(engine: Engine) -> Tree:
    tree = plant(engine)
    with work(engine) as session:
        session.add_all([Tariff(name=name, currency="EUR") for name in ("retail", "wholesale", "plain")])
        session.add(Tariff(name="dollars", currency="USD"))
    with work(engine) as session:
        change_account(session, tree.cleo, Changes(tariff="retail"), actor="admin", now=NOW)
        change_account(session, tree.ray, Changes(tariff="wholesale"), actor="admin", now=NOW)
    return tree


def _own(engine: Engine, name: str, account_id: int | None, **more: Any) -> None:
    with work(engine) as session:
        own_tariff(session, name, account_id, actor="admin", now=NOW, **more)


def test_a_resellers_tariff_is_for_those_under_it(engine: Engine) -> None:
    """Given to ray, it still prices cleo under him, and can be given to nobody else; given back, to anybody."""
    tree = _plant(engine)
    _own(engine, "retail", tree.ray)
    with reading(engine) as session:
        assert owners(session) == {"retail": "ray"}
        assert find_account(session, "cleo").tariff == "retail"
        assert find_owned(session, "retail", tree.ray).name == "retail"
        assert find_owned(session, "plain", None).name == "plain"
        for foreign in ("plain", "wholesale", "nothing"):
            with pytest.raises(NotFound, match=f"there is no tariff '{foreign}'"):
                find_owned(session, foreign, tree.ray)
    for account_id in (tree.ray, tree.carl):
        with pytest.raises(NotFound), work(engine) as session:
            change_account(session, account_id, Changes(tariff="retail"), actor="admin", now=NOW)
    _own(engine, "retail", None)
    with work(engine) as session:
        change_account(session, tree.carl, Changes(tariff="retail"), actor="admin", now=NOW)
    with reading(engine) as session:
        told = session.exec(select(AuditRow.before, AuditRow.after).where(AuditRow.action == "tariff.own")).all()
        assert [tuple(row) for row in told] == [
            ({"owner": None}, {"owner": tree.ray}),
            ({"owner": tree.ray}, {"owner": None}),
        ]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda session, tree: own_tariff(session, "nothing", tree.ray, actor="a", now=NOW), NotFound),
        (lambda session, tree: own_tariff(session, "plain", tree.carl + 999, actor="a", now=NOW), NotFound),
        (lambda session, tree: own_tariff(session, "plain", tree.carl, actor="a", now=NOW), Refused),
        (lambda session, tree: own_tariff(session, "plain", tree.operator, actor="a", now=NOW), Refused),
        (lambda session, tree: own_tariff(session, "wholesale", tree.ray, actor="a", now=NOW), Refused),
        (lambda session, tree: own_tariff(session, "dollars", tree.ray, actor="a", now=NOW), Refused),
        (lambda session, tree: own_tariff(session, "plain", tree.ray, within=tree.ray, actor="a", now=NOW), NotFound),
    ],
)
def test_what_is_refused_changes_nothing(
    engine: Engine, change: Callable[[Session, Tree], object], error: type[BillingError]
) -> None:
    """A tariff that prices the reseller itself, another currency, no reseller, a foreign tariff."""
    tree = _plant(engine)
    with reading(engine) as session:
        before = len(session.exec(select(AuditRow)).all())
    with pytest.raises(error), work(engine) as session:
        change(session, tree)
    with reading(engine) as session:
        assert session.exec(select(TariffOwner)).all() == []
        assert len(session.exec(select(AuditRow)).all()) == before
