"""The books balance after any order of top-ups, calls, reversals and replays, refused ones included."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy.engine import Engine
from sqlmodel import Session, col, select

from billing.books import check_store
from billing.cdrs import EndedCall, Settled, settle
from billing.errors import BillingError, Conflict, OtherBody, Refused, TooLarge
from billing.ledger import reverse
from billing.models import LedgerTransaction, OutboxRow
from billing.store import Remembered, migrate, open_store, reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, Tree, balance_in, carls_call, cleos_call, ended, plant

CALLS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["cleo", "carl", "refused"]), st.integers(0, 7200)),
    min_size=1,
    max_size=6,
)
ALMOST_FULL = 2**52
AMOUNTS = st.one_of(st.integers(-1, 5 * EURO), st.sampled_from([2**53, 2**53 - 1]))


class Shop(RuleBasedStateMachine):
    """A store, and a model of it: what each operation answered first, which calls are recorded, each balance."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="callctl-books-")
        self.engine: Engine = open_store(f"sqlite:///{Path(self.folder.name) / 'callctl.db'}")
        migrate(self.engine)
        self.tree: Tree = plant(self.engine, ray_credit=EURO)
        self.answers: dict[str, tuple[tuple[int, int], object]] = {}
        self.recorded: dict[str, EndedCall] = {}
        self.balances = {self.tree.ray_wallet: 0, self.tree.cleo_wallet: 0, self.tree.carl_wallet: 0}

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    def _do(self, change: Callable[[Session], object]) -> object:
        """Do it in one unit of work; an error's kind is the answer."""
        try:
            with work(self.engine) as session:
                return change(session)
        except BillingError as error:
            return type(error)

    @initialize()
    def fund(self) -> None:
        """Begin with some money."""
        self.top_up("fund", "ray", 5 * EURO)

    @rule(operation=st.sampled_from("abcdef"), who=st.sampled_from(["ray", "cleo", "carl"]), amount=AMOUNTS)
    def top_up(self, operation: str, who: str, amount: int) -> None:
        """A top-up does what it should once, and answers the same for ever."""
        account_id, wallet_id = getattr(self.tree, who), getattr(self.tree, f"{who}_wallet")
        answer = self._do(
            lambda session: (
                top_up(session, account_id, amount, operation=operation, actor="test", now=NOW).balance_micros
            )
        )
        if amount < 1:
            assert answer is Refused
            return
        if amount >= 2**53:
            assert answer is TooLarge
            return
        body = (account_id, amount)
        if operation in self.answers:
            before, said = self.answers[operation]
            assert answer == (said if before == body else OtherBody)
            return
        ray = self.tree.ray_wallet
        if who == "cleo" and self.balances[ray] + EURO < amount:
            assert answer is Remembered
        elif self.balances[wallet_id] + amount >= 2**53:
            assert answer is TooLarge
        else:
            self.balances[wallet_id] += amount
            self.balances[ray] -= amount if who == "cleo" else 0
            assert answer == self.balances[wallet_id]
        if answer is not TooLarge:
            self.answers[operation] = (body, answer)

    @rule(calls=CALLS)
    def settle(self, calls: list[tuple[int, str, int]]) -> None:
        """Calls are recorded once, the first telling of a batch or of the store wins."""
        made = [self._call(f"sw:{number}", who, seconds) for number, who, seconds in calls]
        done = self._do(lambda session: settle(session, made, now=NOW))
        if done is TooLarge:
            # The reseller's wallet is too full to be paid: the whole batch is refused, and nothing changed.
            assert max(map(abs, self.balances.values())) >= ALMOST_FULL
            return
        assert isinstance(done, Settled)
        fresh: dict[str, EndedCall] = {}
        for call in made:
            if call.call_id not in self.recorded:
                fresh.setdefault(call.call_id, call)
        assert set(done.written) == set(fresh)
        assert set(done.known) == {call.call_id for call in made} - set(fresh)
        self.recorded |= fresh
        for call in fresh.values():
            for charge in call.charges:
                self.balances[charge.wallet_id] -= charge.amount_micros
                if charge.to_wallet_id in self.balances:
                    self.balances[charge.to_wallet_id] += charge.amount_micros
        told = {one.call_id for one in done.applied if one.call_id}
        assert told == {
            call.call_id for call in made if any(charge.amount_micros for charge in self.recorded[call.call_id].charges)
        }

    @precondition(lambda self: self.answers or self.recorded)
    @rule(data=st.data())
    def reverse(self, data: st.DataObject) -> None:
        """Any transaction can be reversed, once; a reversal cannot."""
        with reading(self.engine) as session:
            ids = [transaction_id or 0 for transaction_id in session.exec(select(LedgerTransaction.id)).all()]
        transaction_id = data.draw(st.sampled_from(ids))
        with reading(self.engine) as session:
            target = session.get(LedgerTransaction, transaction_id)
            assert target
            again = target.reverses_id is not None
            by = select(LedgerTransaction.id).where(LedgerTransaction.reverses_id == transaction_id)
            again = again or session.exec(by).first() is not None
        answer = self._do(
            lambda session: (
                reverse(
                    session, transaction_id, operation=f"undo:{transaction_id}", actor="test", reason="", now=NOW
                ).reverses_id
            )
        )
        # Giving back what was taken can pass the bound, where a wallet is that full: refused then, and nothing changed.
        full = answer is TooLarge and max(map(abs, self.balances.values())) >= ALMOST_FULL
        assert full or answer == (Conflict if again else transaction_id)
        with reading(self.engine) as session:
            self.balances = {wallet_id: balance_in(session, wallet_id) for wallet_id in self.balances}

    @invariant()
    def books_balance(self) -> None:
        """After each step the books are clean and every balance is what the model says."""
        with reading(self.engine) as session:
            assert check_store(session).findings == ()
            assert {wallet_id: balance_in(session, wallet_id) for wallet_id in self.balances} == self.balances

    @invariant()
    def redis_could_follow(self) -> None:
        """Whoever applies the outbox in order arrives at the balances in SQL."""
        sums = dict.fromkeys(self.balances, 0)
        with reading(self.engine) as session:
            for row in session.exec(select(OutboxRow).order_by(col(OutboxRow.wallet_id), col(OutboxRow.seq))):
                sums[row.wallet_id] += row.amount_micros
                assert abs(sums[row.wallet_id]) < 2**53
        assert sums == self.balances

    def _call(self, call_id: str, who: str, seconds: int) -> EndedCall:
        match who:
            case "cleo":
                return cleos_call(self.tree, call_id, seconds)
            case "carl":
                return carls_call(self.tree, call_id, seconds)
            case _:
                return ended(call_id, self.tree.carl, disposition="refused", reason="no_money")


TestShop = Shop.TestCase
TestShop.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
