"""Top-ups: once per operation, never beyond a reseller's own money, refusals remembered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing.account_changes import close_account
from billing.accounts import set_status
from billing.errors import BillingError, NotFound, OtherBody, Refused, TooLarge
from billing.ledger import Applied
from billing.models import AccountStatus, AuditRow, LedgerTransaction, Operation, OutboxRow, Posting, Wallet
from billing.store import reading, work
from billing.topups import TopUp, top_up
from tests.integration.tree import EURO, NOW, balance, plant


def _top_up(engine: Engine, account_id: int, amount: int, operation: str, *, actor: str = "admin") -> TopUp:
    with work(engine) as session:
        return top_up(session, account_id, amount, operation=operation, actor=actor, reason="paid", now=NOW)


def _money(engine: Engine) -> list[object]:
    with reading(engine) as session:
        tables = (LedgerTransaction, Posting, OutboxRow, Wallet, AuditRow)
        return [row.model_dump() for table in tables for row in session.exec(select(table)).all()]


def test_a_top_up_comes_from_cash(engine: Engine) -> None:
    """Money paid to the operator: the wallet goes up, cash goes down by the same, and one audit row tells it."""
    tree = plant(engine)
    done = _top_up(engine, tree.carl, 5 * EURO, "t1")
    applied = (Applied(tree.carl_wallet, 1, 5 * EURO),)
    assert done == TopUp("t1", tree.carl, tree.carl_wallet, 5 * EURO, 5 * EURO, replayed=False, applied=applied)
    assert (balance(engine, tree.carl_wallet), balance(engine, tree.cash)) == (5 * EURO, -5 * EURO)
    with reading(engine) as session:
        written = session.exec(select(LedgerTransaction)).one()
        assert (written.operation, written.kind, written.actor, written.reason) == (
            "topup:t1",
            "topup",
            "admin",
            "paid",
        )
        row = session.exec(select(AuditRow).where(AuditRow.action == "topup.add")).one()
        assert (row.subject, row.before) == (f"account:{tree.carl}", {"balance_micros": 0})
        assert row.after
        assert row.after["balance_micros"] == 5 * EURO


def test_the_same_operation_is_done_once(engine: Engine) -> None:
    """Sent again, even by another person, a top-up answers what it answered and moves nothing."""
    tree = plant(engine)
    first = _top_up(engine, tree.carl, 5 * EURO, "t1")
    _top_up(engine, tree.carl, 2 * EURO, "t2")
    before = _money(engine)
    again = _top_up(engine, tree.carl, 5 * EURO, "t1", actor="somebody else")
    assert again == TopUp("t1", tree.carl, tree.carl_wallet, 5 * EURO, first.balance_micros, replayed=True, applied=())
    assert _money(engine) == before


def test_the_same_operation_with_another_body_is_an_error(engine: Engine) -> None:
    """Another amount or account under a used operation id is refused and moves nothing."""
    tree = plant(engine)
    _top_up(engine, tree.carl, 5 * EURO, "t1")
    before = _money(engine)
    for account_id, amount in ((tree.carl, 6 * EURO), (tree.ray, 5 * EURO)):
        with pytest.raises(OtherBody):
            _top_up(engine, account_id, amount, "t1")
    assert _money(engine) == before


def test_a_reseller_pays_for_its_customers(engine: Engine) -> None:
    """Under a reseller the money comes out of its wallet, down to its credit limit and not a cent further."""
    tree = plant(engine, ray_credit=3 * EURO)
    _top_up(engine, tree.ray, 4 * EURO, "t1")
    done = _top_up(engine, tree.cleo, 7 * EURO, "t2")
    assert done.applied == (Applied(tree.ray_wallet, 2, -7 * EURO), Applied(tree.cleo_wallet, 1, 7 * EURO))
    assert (balance(engine, tree.ray_wallet), balance(engine, tree.cleo_wallet)) == (-3 * EURO, 7 * EURO)
    before = _money(engine)
    with pytest.raises(Refused, match=r"lacks 0\.000001 EUR"):
        _top_up(engine, tree.cleo, 1, "t3")
    assert _money(engine) == before


def test_a_refusal_is_remembered(engine: Engine) -> None:
    """What was refused stays refused under its id, though the money has come meanwhile; a new id succeeds."""
    tree = plant(engine)
    with pytest.raises(Refused) as first:
        _top_up(engine, tree.cleo, EURO, "t1")
    _top_up(engine, tree.ray, 10 * EURO, "t2")
    before = _money(engine)
    with pytest.raises(Refused) as again:
        _top_up(engine, tree.cleo, EURO, "t1")
    assert str(again.value) == str(first.value)
    with pytest.raises(OtherBody):
        _top_up(engine, tree.cleo, 2 * EURO, "t1")
    assert _money(engine) == before
    assert _top_up(engine, tree.cleo, EURO, "t3").balance_micros == EURO


def test_a_closed_account_takes_no_money(engine: Engine) -> None:
    """A closed account is refused; a blocked one may pay to be active again."""
    tree = plant(engine)
    with work(engine) as session:
        close_account(session, tree.carl, actor="admin", now=NOW)
        set_status(session, tree.ray, AccountStatus.BLOCKED, actor="admin", now=NOW)
    before = _money(engine)
    with pytest.raises(Refused, match="closed"):
        _top_up(engine, tree.carl, EURO, "t1")
    assert _money(engine) == before
    assert _top_up(engine, tree.ray, EURO, "t2").balance_micros == EURO


@pytest.mark.parametrize(
    ("account_id", "amount", "operation", "error"),
    [
        (4, 0, "t", Refused),
        (4, -1, "t", Refused),
        (4, 2**53, "t", TooLarge),
        (4, 2**53 - 1, "t", TooLarge),  # with the cent that is there
        (4, 1, "", Refused),
        (4, 1, "x" * 151, Refused),
        (4, 1, "a\x00b", Refused),
        (999, 1, "t", NotFound),
        (1, 1, "t", Refused),
    ],
)
def test_what_is_wrong_by_itself_leaves_nothing(
    engine: Engine, account_id: int, amount: int, operation: str, error: type[BillingError]
) -> None:
    """Such a request moves nothing and is not remembered, even if the caller goes on and commits."""
    tree = plant(engine)
    assert tree.carl == 4
    _top_up(engine, tree.carl, 1, "first")
    before = _money(engine)
    with work(engine) as session, pytest.raises(error):
        top_up(session, account_id, amount, operation=operation, actor="admin", now=NOW)
    assert _money(engine) == before
    with reading(engine) as session:
        assert session.exec(select(Operation.id)).all() == ["first"]


def test_concurrent_identical_top_ups_apply_once(engine: Engine) -> None:
    """Of requests that come at the same time with one id, one moves the money and the others replay its answer."""
    tree = plant(engine)

    def one(_: int) -> TopUp:
        return _top_up(engine, tree.carl, EURO, "same")

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(one, range(6)))
    assert sorted(each.replayed for each in done) == [False] + [True] * 5
    assert {each.balance_micros for each in done} == {EURO}
    assert balance(engine, tree.carl_wallet) == EURO


def test_concurrent_top_ups_never_overdraw_a_reseller(engine: Engine) -> None:
    """Ten transfers at once out of money for three: exactly three succeed."""
    tree = plant(engine)
    _top_up(engine, tree.ray, 3 * EURO, "fund")

    def one(number: int) -> bool:
        try:
            _top_up(engine, tree.cleo, EURO, f"t{number}")
        except Refused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(10))) == 3
    assert (balance(engine, tree.ray_wallet), balance(engine, tree.cleo_wallet)) == (0, 3 * EURO)
