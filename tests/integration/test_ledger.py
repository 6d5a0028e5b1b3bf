"""The ledger: sums, numbers, locks, what is posted once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.engine import Engine
from sqlmodel import select

from billing.errors import BillingError, Conflict, LedgerBroken, NotFound, TooLarge
from billing.ledger import Applied, Draft, Entry, post, post_many, reverse
from billing.models import LedgerTransaction, OutboxRow, Posting, Wallet, WalletKind, id_of
from billing.store import reading, work
from tests.integration.tree import EURO, NOW, Tree, balance, plant

MOST = 2**53 - 1


def _post(engine: Engine, operation: str, *entries: Entry) -> tuple[LedgerTransaction, tuple[Applied, ...]]:
    with work(engine) as session:
        return post(session, entries, operation=operation, kind="test", actor="test", reason="why", now=NOW)


def _all_rows(engine: Engine) -> list[object]:
    with reading(engine) as session:
        tables = (LedgerTransaction, Posting, OutboxRow, Wallet)
        return [row.model_dump() for table in tables for row in session.exec(select(table)).all()]


def test_posting_moves_money_and_tells_the_outbox(engine: Engine) -> None:
    """A posting on a MONEY wallet changes its balance, has the next number, and waits in the outbox; cash has none."""
    tree = plant(engine)
    written, applied = _post(engine, "a", Entry(tree.cash, -5 * EURO), Entry(tree.carl_wallet, 5 * EURO))
    assert (written.operation, written.kind, written.reason, written.created_at) == ("a", "test", "why", NOW)
    assert applied == (Applied(tree.carl_wallet, 1, 5 * EURO),)
    _, applied = _post(engine, "b", Entry(tree.carl_wallet, -2 * EURO, "sw:1"), Entry(tree.income, 2 * EURO))
    assert applied == (Applied(tree.carl_wallet, 2, -2 * EURO, "sw:1"),)
    assert balance(engine, tree.carl_wallet) == 3 * EURO
    assert balance(engine, tree.cash) == -5 * EURO
    assert balance(engine, tree.income) == 2 * EURO
    with reading(engine) as session:
        rows = session.exec(select(OutboxRow).order_by(OutboxRow.seq)).all()  # type: ignore[arg-type]
        assert [(r.wallet_id, r.seq, r.amount_micros, r.call_id, r.applied_at) for r in rows] == [
            (tree.carl_wallet, 1, 5 * EURO, None, None),
            (tree.carl_wallet, 2, -2 * EURO, "sw:1", None),
        ]
        seqs = session.exec(select(Posting.seq).where(Posting.wallet_id == tree.income)).all()
        assert seqs == [None]


def test_a_batch_numbers_in_order(engine: Engine) -> None:
    """Transactions posted together number each wallet's postings in the order they were given, without a gap."""
    tree = plant(engine)
    drafts = [
        Draft(f"call:{n}", "call", (Entry(tree.cleo_wallet, -n, f"c{n}"), Entry(tree.ray_wallet, n)), "test")
        for n in (1, 2, 3)
    ]
    with work(engine) as session:
        held = session.get(Wallet, tree.cleo_wallet)
        assert held
        applied = post_many(session, drafts, now=NOW)
        assert (held.balance_micros, held.seq) == (-6, 3)
    assert applied == (
        Applied(tree.cleo_wallet, 1, -1, "c1"),
        Applied(tree.ray_wallet, 1, 1),
        Applied(tree.cleo_wallet, 2, -2, "c2"),
        Applied(tree.ray_wallet, 2, 2),
        Applied(tree.cleo_wallet, 3, -3, "c3"),
        Applied(tree.ray_wallet, 3, 3),
    )
    assert (balance(engine, tree.cleo_wallet), balance(engine, tree.ray_wallet)) == (-6, 6)


def _refused(tree: Tree) -> list[tuple[type[BillingError], tuple[Entry, ...]]]:
    carl, cash = tree.carl_wallet, tree.cash
    return [
        (LedgerBroken, ()),
        (LedgerBroken, (Entry(carl, 0), Entry(cash, 0))),
        (LedgerBroken, (Entry(carl, 5),)),
        (LedgerBroken, (Entry(carl, 5), Entry(cash, -4))),
        (TooLarge, (Entry(carl, MOST + 1), Entry(cash, -MOST - 1))),
        (TooLarge, (Entry(carl, MOST), Entry(cash, -MOST))),
        # The sum would fit, but Redis applies one posting after the other.
        (TooLarge, (Entry(carl, MOST), Entry(carl, -1), Entry(cash, -MOST), Entry(cash, 1))),
        (NotFound, (Entry(999, 5), Entry(cash, -5))),
    ]


@pytest.mark.parametrize("case", range(8))
def test_what_is_refused_changes_nothing(engine: Engine, case: int) -> None:
    """Postings that cannot be are refused before anything is written, even if the caller goes on and commits."""
    tree = plant(engine)
    _post(engine, "first", Entry(tree.cash, -1), Entry(tree.carl_wallet, 1))
    before = _all_rows(engine)
    error, entries = _refused(tree)[case]
    with work(engine) as session, pytest.raises(error):
        post(session, entries, operation="bad", kind="test", actor="test", now=NOW)
    assert _all_rows(engine) == before


def test_two_currencies_each_sum_to_zero(engine: Engine) -> None:
    """Five euros are no five dollars, though the numbers sum to zero."""
    tree = plant(engine)
    with work(engine) as session:
        dollars = Wallet(account_id=tree.operator, kind=WalletKind.CASH, currency="USD")
        session.add(dollars)
    before = _all_rows(engine)
    with pytest.raises(LedgerBroken):
        _post(engine, "x", Entry(dollars.id or 0, -5), Entry(tree.carl_wallet, 5))
    assert _all_rows(engine) == before


def test_an_operation_posts_once(engine: Engine) -> None:
    """The second posting of the same operation is a conflict and changes nothing, even if the caller commits."""
    tree = plant(engine)
    _post(engine, "same", Entry(tree.cash, -1), Entry(tree.carl_wallet, 1))
    before = _all_rows(engine)
    with work(engine) as session, pytest.raises(Conflict):
        post(
            session,
            [Entry(tree.cash, -7), Entry(tree.carl_wallet, 7)],
            operation="same",
            kind="test",
            actor="test",
            now=NOW,
        )
    assert _all_rows(engine) == before


def test_a_transaction_is_reversed_once(engine: Engine) -> None:
    """A reversal is the mirror image; a second one, or one of the reversal, is refused."""
    tree = plant(engine)
    written, _ = _post(engine, "a", Entry(tree.cash, -9), Entry(tree.carl_wallet, 9))
    with work(engine) as session:
        mirror = reverse(session, id_of(written), operation="undo", actor="admin", reason="mistake", now=NOW)
        assert (mirror.kind, mirror.reverses_id) == ("reversal", written.id)
    assert (balance(engine, tree.carl_wallet), balance(engine, tree.cash)) == (0, 0)
    before = _all_rows(engine)
    for transaction_id, error in ((id_of(written), Conflict), (id_of(mirror), Conflict), (999, NotFound)):
        with work(engine) as session, pytest.raises(error):
            reverse(session, transaction_id, operation="again", actor="admin", reason="", now=NOW)
    assert _all_rows(engine) == before


def test_concurrent_postings_lose_nothing(engine: Engine) -> None:
    """Threads that post on the same wallets in opposite orders neither block each other for ever nor lose a cent."""
    tree = plant(engine)

    def move(number: int) -> None:
        pair = (Entry(tree.cleo_wallet, -number), Entry(tree.carl_wallet, number))
        _post(engine, f"move:{number}", *(pair if number % 2 else pair[::-1]))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(1, 61)))
    assert balance(engine, tree.carl_wallet) == sum(range(1, 61))
    assert balance(engine, tree.cleo_wallet) == -sum(range(1, 61))
    with reading(engine) as session:
        seqs = session.exec(select(Posting.seq).where(Posting.wallet_id == tree.carl_wallet)).all()
        assert sorted(seq or 0 for seq in seqs) == list(range(1, 61))


def test_a_concurrent_operation_posts_once(engine: Engine) -> None:
    """Of several that post the same operation at once one succeeds, and the others hear `Conflict`."""
    tree = plant(engine)

    def one(_: int) -> str:
        try:
            _post(engine, "same", Entry(tree.cash, -1), Entry(tree.carl_wallet, 1))
        except Conflict:
            return "conflict"
        return "posted"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(4))) == ["conflict", "conflict", "conflict", "posted"]
    assert balance(engine, tree.carl_wallet) == 1
