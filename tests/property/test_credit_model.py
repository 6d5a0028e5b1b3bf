"""The credit scripts against a plain Python model: any order of operations, retries and lost data included."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, cast

import pytest
from fakeredis import FakeAsyncRedis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from billing.credit.client import reply
from billing.credit.store import (
    AccountState,
    ApplyCode,
    CreditStore,
    Held,
    HoldCode,
    NotHeld,
    Share,
    WalletState,
    connect,
)
from billing.errors import TooLarge
from tests.credit_fixtures import LARGEST

T = TypeVar("T")
NOW_MS = 1_800_000_000_000
OWNERS = {1: 1, 2: 2, 3: 2}
"""Wallet → account: the second account has two wallets."""

calls = st.sampled_from([f"s:{n}" for n in range(8)])
wallets = st.sampled_from(sorted(OWNERS))
# Small amounts on small balances meet the edges; a few are at the edge of doubles.
amounts = st.sampled_from([*range(8)] * 4 + [LARGEST // 2, LARGEST - 1, LARGEST, LARGEST + 1])
limits = st.sampled_from([None, None, 0, 1, 1, 2])
share_lists = st.lists(st.tuples(wallets, amounts), max_size=3)


@dataclass
class ModelHold:
    """A hold: what it takes of each wallet, whose channels it counts in, whether it waits for postings only."""

    amounts: dict[int, int]
    accounts: set[int]
    finished: bool = False
    charged: set[int] = field(default_factory=set)


@dataclass
class ModelWallet:
    """A wallet as Redis should have it."""

    balance: int
    seq: int
    credit: int


class Model:
    """What the scripts promise, without any cleverness."""

    def __init__(self) -> None:
        self.wallets: dict[int, ModelWallet] = {}
        self.max_calls: dict[int, int | None] = {}
        self.holds: dict[str, ModelHold] = {}
        self.ended: set[str] = set()

    def held(self, wallet_id: int) -> int:
        """The sum of all shares of a wallet."""
        return sum(hold.amounts.get(wallet_id, 0) for hold in self.holds.values())

    def channels(self, account_id: int) -> int:
        """How many unfinished holds count in an account."""
        return sum(account_id in hold.accounts and not hold.finished for hold in self.holds.values())

    def available(self, wallet_id: int, own: int) -> int:
        """What a call that holds `own` may hold of a wallet."""
        if wallet_id not in self.wallets:
            return 0
        wallet = self.wallets[wallet_id]
        exact = wallet.balance + wallet.credit - self.held(wallet_id) + own
        return max(-LARGEST, min(LARGEST, exact))

    def hold(self, call_id: str, wanted: list[Share], *, admits: bool) -> tuple[HoldCode, int] | None:
        """Admit or extend; None where the hold stands."""
        hold = self.holds.get(call_id)
        if call_id in self.ended or (hold and hold.finished):
            return HoldCode.ENDED, 0
        if hold and admits:
            return None
        if not hold and not admits:
            return HoldCode.NO_HOLD, 0
        refusal = self._refusal(hold or ModelHold({}, set()), wanted, admits=admits)
        if refusal is not None:
            return refusal
        hold = self.holds.setdefault(call_id, ModelHold({}, set()))
        if admits:
            hold.accounts = {share.account_id for share in wanted}
        for wallet_id, need in total(wanted).items():
            hold.amounts[wallet_id] = max(need, hold.amounts.get(wallet_id, 0))
        return None

    def _refusal(self, hold: ModelHold, wanted: list[Share], *, admits: bool) -> tuple[HoldCode, int] | None:
        for level, share in enumerate(wanted):
            if share.amount_micros > LARGEST:
                return HoldCode.TOO_LARGE, level
        for level, share in enumerate(wanted):
            if share.wallet_id not in self.wallets or (admits and share.account_id not in self.max_calls):
                return HoldCode.UNKNOWN_WALLET, level
        if admits:
            for level, share in enumerate(wanted):
                most = self.max_calls[share.account_id]
                if most is not None and self.channels(share.account_id) >= most:
                    return HoldCode.TOO_MANY_CALLS, level
        return self._without_money(hold, wanted)

    def _without_money(self, hold: ModelHold, wanted: list[Share]) -> tuple[HoldCode, int] | None:
        needs: Counter[int] = Counter()
        for level, share in enumerate(wanted):
            wallet_id, own = share.wallet_id, hold.amounts.get(share.wallet_id, 0)
            needs[wallet_id] += share.amount_micros
            if needs[wallet_id] <= own:
                continue
            if self.held(wallet_id) - own + needs[wallet_id] > LARGEST:
                return HoldCode.TOO_LARGE, level
            if needs[wallet_id] > self.available(wallet_id, own):
                return HoldCode.NO_MONEY, level
        return None

    def finish(self, call_id: str, costs: list[Share]) -> bool | None:
        """Trim, or hold what is owed where nobody has ended a call without a hold; None where it would be too large."""
        first = call_id not in self.ended
        self.ended.add(call_id)
        hold = self.holds.get(call_id)
        owed = hold is None and first
        if owed:
            hold = ModelHold({}, set())
        if hold is None or hold.finished:
            return False
        after = {wallet_id: cost for wallet_id, cost in total(costs).items() if wallet_id not in hold.charged}
        for wallet_id, cost in after.items():
            if self.held(wallet_id) - hold.amounts.get(wallet_id, 0) + cost > LARGEST:
                return None
        hold.amounts = {wallet_id: cost for wallet_id, cost in after.items() if cost > 0}
        hold.finished = True
        if hold.amounts:
            self.holds[call_id] = hold
        elif not owed:
            del self.holds[call_id]
        return bool(hold.amounts) or not owed

    def owe(self, call_id: str, costs: list[Share]) -> bool | None:
        """Hold what is owed where nothing is known of the call."""
        return False if call_id in self.ended or call_id in self.holds else self.finish(call_id, costs)

    def release(self, call_id: str) -> bool:
        """Give all back."""
        self.ended.add(call_id)
        hold = self.holds.get(call_id)
        if hold is None or hold.finished:
            return False
        del self.holds[call_id]
        return True

    def apply(self, wallet_id: int, seq: int, amount: int, call_id: str | None) -> ApplyCode:
        """Add a posting and drop its share."""
        wallet = self.wallets.get(wallet_id)
        if wallet is None:
            return ApplyCode.UNKNOWN_WALLET
        if seq > wallet.seq + 1:
            return ApplyCode.GAP
        code = ApplyCode.SEEN
        if seq == wallet.seq + 1:
            if abs(wallet.balance + amount) > LARGEST:
                return ApplyCode.TOO_LARGE
            wallet.balance, wallet.seq, code = wallet.balance + amount, seq, ApplyCode.APPLIED
        hold = self.holds.get(call_id or "")
        if call_id and hold and wallet_id in hold.amounts:
            del hold.amounts[wallet_id]
            hold.charged.add(wallet_id)
            self.ended.add(call_id)
            if not hold.amounts:
                del self.holds[call_id]
        return code


def total(shares: list[Share]) -> dict[int, int]:
    """Sum shares of the same wallet."""
    sums: Counter[int] = Counter()
    for share in shares:
        sums[share.wallet_id] += share.amount_micros
    return dict(sums)


def as_shares(pairs: list[tuple[int, int]]) -> list[Share]:
    """Make shares of (wallet, amount)."""
    return [Share(wallet_id, OWNERS[wallet_id], amount) for wallet_id, amount in pairs]


class CreditMachine(RuleBasedStateMachine):
    """Does the same to the model and to Redis, and compares the answers and all that is kept."""

    def __init__(self, url: str | None) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis: Redis = self.run(self._open(url))
        self.credit = CreditStore(self.redis)
        self.model = Model()
        self.sql: dict[int, list[tuple[int, str | None]]] = {wallet_id: [] for wallet_id in OWNERS}

    async def _open(self, url: str | None) -> Redis:
        client: Redis = FakeAsyncRedis(decode_responses=True) if url is None else connect(url)
        await client.flushall()
        return client

    def run(self, answer: Awaitable[T]) -> T:
        """Run to the end."""
        return self.runner.get_loop().run_until_complete(answer)

    def teardown(self) -> None:
        """Close the connection."""
        self.run(self.redis.aclose())
        self.runner.close()

    @initialize(balances=st.lists(st.integers(0, 12) | st.just(LARGEST), min_size=3, max_size=3), most=limits)
    def fill(self, balances: list[int], most: int | None) -> None:
        """Begin with money, or most of what follows is refused."""
        for wallet_id, balance in zip(OWNERS, balances, strict=True):
            self.post(wallet_id, balance, None)
            self.sync_wallet(wallet_id, 0, 0)
        for account_id in (1, 2):
            self.sync_account(account_id, most)

    @rule(wallet_id=wallets, credit=st.integers(-4, 8), known=st.integers(0, 3))
    def sync_wallet(self, wallet_id: int, credit: int, known: int) -> None:
        """Set a wallet from what SQL knows, or knew some postings ago."""
        postings = self.sql[wallet_id][: max(0, len(self.sql[wallet_id]) - known)]
        balance, seq = sum(amount for amount, _ in postings), len(postings)
        now = self.model.wallets.get(wallet_id)
        behind = now is None or now.seq <= seq
        if behind:
            self.model.wallets[wallet_id] = ModelWallet(balance, seq, credit)
        assert self.run(self.credit.sync_wallet(WalletState(wallet_id, balance, seq, credit))) == behind

    @rule(account_id=st.sampled_from([1, 2]), most=limits)
    def sync_account(self, account_id: int, most: int | None) -> None:
        """Set an account's limit."""
        self.model.max_calls[account_id] = most
        self.run(self.credit.sync_account(AccountState(account_id, "active", most, None)))

    @rule(wanted=st.lists(st.tuples(calls, share_lists), min_size=1, max_size=4))
    def hold(self, wanted: list[tuple[str, list[tuple[int, int]]]]) -> None:
        """Admit calls, each told twice."""
        for call_id, pairs in wanted:
            self._hold(call_id, as_shares(pairs), admits=True)

    @rule(data=st.data(), pairs=share_lists)
    def extend(self, data: st.DataObject, pairs: list[tuple[int, int]]) -> None:
        """Extend a call, most often one that has a hold, told twice."""
        call_id = data.draw(st.sampled_from([*sorted(self.model.holds), "s:0"]))
        self._hold(call_id, as_shares(pairs), admits=False)

    def _hold(self, call_id: str, wanted: list[Share], *, admits: bool) -> None:
        for _ in range(2):
            hold = self.model.holds.get(call_id, ModelHold({}, set()))
            owns = {wallet_id: hold.amounts.get(wallet_id, 0) for wallet_id in OWNERS}
            available = tuple(self.model.available(share.wallet_id, owns[share.wallet_id]) for share in wanted)
            refusal = self.model.hold(call_id, wanted, admits=admits)
            operation = self.credit.hold if admits else self.credit.extend
            answer = self.run(operation(call_id, wanted, now_ms=NOW_MS, deadline_ms=NOW_MS + 9, facts="{}"))
            assert answer == (Held() if refusal is None else NotHeld(refusal[0], refusal[1], available))
            if refusal is None:
                hold = self.model.holds[call_id]
                for wallet_id, amount in hold.amounts.items():
                    assert amount == owns[wallet_id] or self.model.available(wallet_id, 0) >= 0

    @precondition(lambda self: self.model.holds)
    @rule(data=st.data(), wallet_id=wallets, amount=st.integers(-8, 0))
    def charge(self, data: st.DataObject, wallet_id: int, amount: int) -> None:
        """SQL charges a call that is held, and Redis is told at once."""
        call_id = data.draw(st.sampled_from(sorted(self.model.holds)))
        self.post(wallet_id, amount, call_id)
        self._tell(wallet_id, len(self.sql[wallet_id]))

    @rule(call_id=calls, pairs=share_lists)
    def finish(self, call_id: str, pairs: list[tuple[int, int]]) -> None:
        """End a call at a cost, told twice."""
        for _ in range(2):
            expected = self.model.finish(call_id, as_shares(pairs))
            try:
                answer: bool | None = self.run(self.credit.finish(call_id, as_shares(pairs), now_ms=NOW_MS))
            except TooLarge:
                answer = None
            assert answer == expected

    @rule(call_id=calls, pairs=share_lists)
    def owe(self, call_id: str, pairs: list[tuple[int, int]]) -> None:
        """Hold what a call cost whose hold was lost, told twice."""
        for _ in range(2):
            expected = self.model.owe(call_id, as_shares(pairs))
            try:
                answer: bool | None = self.run(self.credit.owe(call_id, as_shares(pairs), now_ms=NOW_MS))
            except TooLarge:
                answer = None
            assert answer == expected

    @rule(call_id=calls)
    def release(self, call_id: str) -> None:
        """End a call for nothing, told twice."""
        for _ in range(2):
            assert self.run(self.credit.release(call_id, now_ms=NOW_MS)) == self.model.release(call_id)

    @rule(wallet_id=wallets, amount=st.integers(-8, 12) | st.just(LARGEST), call_id=st.none() | calls)
    def post(self, wallet_id: int, amount: int, call_id: str | None) -> None:
        """SQL takes a posting; Redis is told at once, or later, or never."""
        if abs(sum(known for known, _ in self.sql[wallet_id]) + amount) <= LARGEST:
            self.sql[wallet_id].append((amount, call_id))

    @precondition(lambda self: any(self.sql.values()))
    @rule(data=st.data())
    def tell(self, data: st.DataObject) -> None:
        """Tell any posting, in any order, twice."""
        wallet_id = data.draw(st.sampled_from([at for at, postings in self.sql.items() if postings]))
        self._tell(wallet_id, data.draw(st.integers(1, len(self.sql[wallet_id]))))

    def _tell(self, wallet_id: int, seq: int) -> None:
        amount, call_id = self.sql[wallet_id][seq - 1]
        for _ in range(2):
            expected = self.model.apply(wallet_id, seq, amount, call_id)
            assert self.run(self.credit.apply(wallet_id, seq, amount, call_id=call_id)) is expected

    @rule(luck=st.integers(0, 9))
    def lose(self, luck: int) -> None:
        """Redis loses all it had, but not what SQL knows; now and then."""
        if luck:
            return
        self.run(self.redis.flushall())
        self.model = Model()

    @invariant()
    def redis_keeps_what_the_model_keeps(self) -> None:
        """Held = the sum of the open shares, never negative; channels = the calls that are up; nothing else is left."""
        holds = self.run(self.credit.holds())
        assert {hold.call_id for hold in holds} == set(self.model.holds)
        for hold in holds:
            expected = self.model.holds[hold.call_id]
            assert {share.wallet_id: share.amount_micros for share in hold.shares} == expected.amounts
            assert hold.finished == expected.finished
        for wallet_id in OWNERS:
            in_holds = sum(
                share.amount_micros for hold in holds for share in hold.shares if share.wallet_id == wallet_id
            )
            kept = self.run(reply(self.redis.hget(f"{{callctl}}:w:{wallet_id}", "held")))
            assert int(kept or 0) == in_holds == self.model.held(wallet_id)
            view, wallet = self.run(self.credit.wallet(wallet_id)), self.model.wallets.get(wallet_id)
            assert (view is None) == (wallet is None)
            if view and wallet:
                assert (view.balance_micros, view.seq) == (wallet.balance, wallet.seq)
                assert view.credit_limit_micros == wallet.credit
        for account_id in (1, 2):
            assert self.run(self.credit.calls_of(account_id)) == self.model.channels(account_id)


@pytest.fixture(params=["fakeredis", "server"])
def machine_url(request: pytest.FixtureRequest) -> str | None:
    """None for fakeredis, or a real server's address."""
    return str(request.getfixturevalue("server_url")) if request.param == "server" else None


def test_redis_does_what_the_model_does(machine_url: str | None) -> None:
    """After every operation, in any order, Redis and the model answer and keep the same."""
    examples, steps = (40, 30) if machine_url is None else (25, 30)
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", partial(CreditMachine, machine_url)),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
