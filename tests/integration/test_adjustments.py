"""Corrections by hand: undone once, refused beyond the money, remembered, audited."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Engine
from sqlmodel import col, select

from billing.adjustments import Adjustment, Reversal, adjust, reverse_once
from billing.books import check_store
from billing.cdrs import settle
from billing.errors import BillingError, NotFound, OtherBody, Refused, TooLarge
from billing.ledger import Applied, Entry, post
from billing.models import Account, AccountStatus, AuditRow, LedgerTransaction, OutboxRow, Posting, Wallet, WalletKind
from billing.store import Remembered, reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, Tree, balance, carls_call, plant


def _funded(engine: Engine) -> Tree:
    """Carl has 10 EUR by transaction 1."""
    tree = plant(engine)
    with work(engine) as session:
        top_up(session, tree.carl, 10 * EURO, operation="t1", actor="admin", now=NOW)
    return tree


def _reverse(
    engine: Engine, transaction_id: int, operation: str, *, beyond: bool = False, actor: str = "eva"
) -> Reversal:
    with work(engine) as session:
        return reverse_once(
            session, transaction_id, operation=operation, actor=actor, reason="mistake", beyond=beyond, now=NOW
        )


def _adjust(engine: Engine, account_id: int, amount: int, operation: str, *, beyond: bool = False) -> Adjustment:
    with work(engine) as session:
        return adjust(
            session, account_id, amount, operation=operation, actor="eva", reason="goodwill", beyond=beyond, now=NOW
        )


def _money(engine: Engine) -> list[object]:
    with reading(engine) as session:
        tables = (LedgerTransaction, Posting, OutboxRow, Wallet, AuditRow)
        return [row.model_dump() for table in tables for row in session.exec(select(table)).all()]


def test_a_reversal_is_the_mirror_image(engine: Engine) -> None:
    """Undoing a top-up takes the money back to cash, names what it undoes, and says who and why."""
    tree = _funded(engine)
    done = _reverse(engine, 1, "r1")
    assert done == Reversal("r1", 2, 1, replayed=False, applied=(Applied(tree.carl_wallet, 2, -10 * EURO),))
    assert (balance(engine, tree.carl_wallet), balance(engine, tree.cash)) == (0, 0)
    with reading(engine) as session:
        written = session.exec(select(LedgerTransaction).where(LedgerTransaction.id == 2)).one()
        assert (written.kind, written.actor, written.reason, written.reverses_id) == ("reversal", "eva", "mistake", 1)
        row = session.exec(select(AuditRow).where(AuditRow.action == "transaction.reverse")).one()
        assert (row.subject, row.actor) == ("transaction:1", "eva")
        assert row.before == {"operation": "topup:t1", "kind": "topup"}
        assert check_store(session).findings == ()


def test_a_reversal_is_done_once(engine: Engine) -> None:
    """The same operation answers the same; another one for the same transaction is refused, and nothing moves."""
    _funded(engine)
    first = _reverse(engine, 1, "r1")
    before = _money(engine)
    again = _reverse(engine, 1, "r1", actor="somebody else")
    assert (again.transaction_id, again.replayed, again.applied) == (first.transaction_id, True, ())
    for _ in range(2):
        with pytest.raises(Remembered, match="has been reversed already"):
            _reverse(engine, 1, "r2")
    with pytest.raises(Remembered, match="itself a reversal"):
        _reverse(engine, 2, "r3")
    with pytest.raises(OtherBody):
        _reverse(engine, 2, "r1")
    with pytest.raises(NotFound):
        _reverse(engine, 99, "r4")
    assert _money(engine) == before


def test_a_reversal_takes_no_money_that_is_spent(engine: Engine) -> None:
    """Money that calls have spent cannot be taken back, unless the books must follow a payment charged back."""
    tree = _funded(engine)
    with work(engine) as session:
        settle(session, [carls_call(tree, "sw:1", 60)], now=NOW)
    left = balance(engine, tree.carl_wallet)
    before = _money(engine)
    with pytest.raises(Remembered, match=r"'carl' lacks 0\.11 EUR"):
        _reverse(engine, 1, "r1")
    assert _money(engine) == before
    _reverse(engine, 1, "r2", beyond=True)
    assert balance(engine, tree.carl_wallet) == left - 10 * EURO


def test_of_many_reversals_at_once_one_is_done(engine: Engine) -> None:
    """Eight people undo the same transaction at the same moment: one does, seven are refused."""
    tree = _funded(engine)

    def try_it(number: int) -> str:
        try:
            return f"{_reverse(engine, 1, f'r{number}').transaction_id}"
        except BillingError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        said = sorted(pool.map(try_it, range(8)))
    assert said == ["2", *["refused"] * 7]
    assert balance(engine, tree.carl_wallet) == 0


def test_an_adjustment_gives_and_takes(engine: Engine) -> None:
    """Money given comes from the ledger account of adjustments, money taken goes there; each has a reason."""
    tree = _funded(engine)
    given = _adjust(engine, tree.carl, 2 * EURO, "a1")
    assert (given.amount_micros, given.balance_micros, given.replayed) == (2 * EURO, 12 * EURO, False)
    assert given.applied == (Applied(tree.carl_wallet, 2, 2 * EURO),)
    taken = _adjust(engine, tree.carl, -5 * EURO, "a2")
    assert taken.balance_micros == 7 * EURO
    with reading(engine) as session:
        wallet = session.exec(select(Wallet).where(Wallet.kind == WalletKind.ADJUSTMENT)).one()
    assert balance(engine, wallet.id or 0) == 3 * EURO
    before = _money(engine)
    again = _adjust(engine, tree.carl, -5 * EURO, "a2")
    assert (again.balance_micros, again.replayed, again.applied) == (7 * EURO, True, ())
    assert _money(engine) == before


def test_what_no_adjustment_may_do(engine: Engine) -> None:
    """Nothing, too much, without a reason, more than is there, or to a closed account: refused, nothing changed."""
    tree = _funded(engine)
    before = _money(engine)
    for amount, error in ((0, Refused), (2**53, TooLarge), (-11 * EURO, Remembered)):
        with pytest.raises(error):
            _adjust(engine, tree.carl, amount, f"a{amount}")
    with pytest.raises(NotFound):
        _adjust(engine, 99, 1, "a99")
    with pytest.raises(NotFound):
        _adjust(engine, tree.operator, 1, "a-op")
    for reason in ("", " ", "x" * 501, "a\nb"):
        with pytest.raises(Refused), work(engine) as session:
            adjust(session, tree.carl, 1, operation="a1", actor="eva", reason=reason, now=NOW)
    assert _money(engine) == before
    with work(engine) as session:
        # Closed while it had money, as no door of ours lets it be.
        session.execute(update(Account).where(col(Account.id) == tree.carl).values(status=AccountStatus.CLOSED))
    before = _money(engine)
    with pytest.raises(Remembered, match="closed"):
        _adjust(engine, tree.carl, 1, "a1")
    assert _money(engine) == before
    assert _adjust(engine, tree.carl, -11 * EURO, "a2", beyond=True).balance_micros == -EURO


def test_any_transaction_can_be_undone(engine: Engine) -> None:
    """One without a live wallet, a carrier's bill, is undone as well, and once."""
    tree = plant(engine)
    with work(engine) as session:
        entries = [Entry(tree.income, 3 * EURO), Entry(tree.cash, -3 * EURO)]
        post(session, entries, operation="bill", kind="bill", actor="eva", now=NOW)
    assert _reverse(engine, 1, "r1").applied == ()
    with pytest.raises(Remembered, match="already"):
        _reverse(engine, 1, "r2")
    assert (balance(engine, tree.income), balance(engine, tree.cash)) == (0, 0)
