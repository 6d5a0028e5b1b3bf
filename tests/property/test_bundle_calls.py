"""Many calls on one bundle and one wallet, in any order of holds, answers and ends: neither is ever overspent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from fakeredis import FakeAsyncRedis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.cdrs import EndedCall
from billing.charges import reprice
from billing.credit.store import AccountState, CreditStore, Share, WalletState
from callctl import call as machine
from callctl.call import Call, HoldReplied, Input, Policy, Stage, Tick, step
from callctl.switches.base import CallAnswered, CallEnded, CallOffered, Direction
from callctl.terms import Level, LevelBundle, Terms
from rating.tariff import Rate, Rounding, RoundingMode, Step

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
POLICY = Policy(slice_s=30, renew_before_s=10, last_try_s=1, ring_s=60, warn_before_s=0)
MONEY, FIRST, SECOND = 10, 71, 72
WALLETS = {MONEY: "money", FIRST: "bundle", SECOND: "bundle"}
RATES = [
    Rate("49", "", Decimal("0.01"), (Step(0, Decimal("0.6"), 60, 7),), Rounding(RoundingMode.UP, 4)),
    Rate("49", "", Decimal(0), (Step(0, Decimal("0.6"), 60, 20), Step(45, Decimal("1.2"), 60, 1)), Rounding()),
]


@dataclass
class Street:
    """Calls of one account: each effect is carried out when its turn is drawn, so that calls come in between."""

    credit: CreditStore
    rate: Rate
    now_s: float = 0.0
    calls: dict[int, Call] = field(default_factory=dict)
    effects: dict[int, list[machine.Effect]] = field(default_factory=dict)
    balances: dict[int, int] = field(default_factory=dict)
    seqs: dict[int, int] = field(default_factory=dict)
    ended: list[EndedCall] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.now_s)

    async def open(self, balances: dict[int, int]) -> None:
        await self.credit.sync_account(AccountState(1, "active", None, None))
        for wallet_id, balance in balances.items():
            await self.credit.sync_wallet(WalletState(wallet_id, balance, 0, 0))
        self.balances, self.seqs = dict(balances), dict.fromkeys(balances, 0)

    def give(self, number: int, given_input: Input) -> None:
        call = self.calls[number]
        effects = step(call, given_input, mono=1000 + self.now_s, now=self.now, policy=POLICY)
        self.effects.setdefault(number, []).extend(effects)

    def offer(self, number: int) -> None:
        if number in self.calls:
            return
        bundles = (LevelBundle("first", FIRST, 9), LevelBundle("second", SECOND, 9))
        level = Level(1, "a", MONEY, 1, "EUR", "retail", 1, 1, self.rate, bundles=bundles, caps_ms=(0, 0))
        call_id = f"a:{number}"
        self.calls[number] = Call(
            call_id, "a", Direction.OUTBOUND, "100", "1", "49", self.now, Terms((level,)).at(self.now)
        )
        self.give(number, CallOffered(call_id, self.now, Direction.OUTBOUND, "100", "1", "49"))

    async def carry_out(self, number: int) -> None:
        """Do the next effect of a call."""
        waiting = self.effects.get(number)
        if not waiting:
            return
        effect = waiting.pop(0)
        call, now_ms = self.calls[number], int(self.now_s * 1000) + 1_000_000
        match effect:
            case machine.Hold():
                reply = await self.credit.hold(
                    call.call_id, effect.shares, now_ms=now_ms, deadline_ms=now_ms + 60_000, facts=call.facts()
                )
                self.give(number, HoldReplied(reply))
            case machine.Extend():
                reply = await self.credit.extend(
                    call.call_id, effect.shares, now_ms=now_ms, deadline_ms=now_ms + 60_000, facts=call.facts()
                )
                self.give(number, HoldReplied(reply))
            case machine.Finish():
                await self.settle(effect.ended, now_ms)
            case _:
                pass

    async def settle(self, ended: EndedCall, now_ms: int) -> None:
        shares = [Share(*share) for charge in ended.charges for share in charge.shares()]
        if any(share.amount_micros for share in shares):
            await self.credit.finish(ended.call_id, shares, now_ms=now_ms)
        else:
            await self.credit.release(ended.call_id, now_ms=now_ms)
        for share in shares:
            if share.amount_micros:
                await self.post(share.wallet_id, -share.amount_micros, ended.call_id)
        self.ended.append(ended)

    async def post(self, wallet_id: int, amount: int, call_id: str | None = None) -> None:
        self.seqs[wallet_id] += 1
        self.balances[wallet_id] += amount
        await self.credit.apply(wallet_id, self.seqs[wallet_id], amount, call_id=call_id)

    def end(self, number: int) -> None:
        """End a call where it is, but no later than its switch would: at the limit that its grant sets."""
        call = self.calls.get(number)
        if call is None:
            return
        at_s = self.now_s
        if call.answered_at is not None:
            at_s = min(at_s, (call.answered_at - START).total_seconds() + call.granted_s)
        self.effects[number] = [one for one in self.effects.get(number, []) if isinstance(one, machine.Finish)]
        self.give(number, CallEnded(call.call_id, START + timedelta(seconds=at_s), 16))

    async def act(self, what: str, number: int, amount: int) -> None:
        """Do one thing that may happen next."""
        call = self.calls.get(number)
        match what:
            case "on" if call is None:
                self.offer(number)
            case "on" if self.effects.get(number):
                await self.carry_out(number)
            case "on" if call is not None and call.stage is Stage.RINGING:
                self.give(number, CallAnswered(call.call_id, self.now))
            case "on" if call is not None and call.wake_mono is not None:
                # To the moment at which it wants to be looked at: time goes on for all.
                self.now_s = max(self.now_s, call.wake_mono - 1000)
                call.wake_mono = 1000 + self.now_s
                self.give(number, Tick())
            case "wait":
                self.now_s += amount
            case "end":
                self.end(number)
            case "top up":
                await self.post((MONEY, FIRST, SECOND)[number % 3], amount * 100_000)

    async def check(self) -> None:
        for wallet_id in WALLETS:
            view = await self.credit.wallet(wallet_id)
            assert view is not None
            assert view.balance_micros == self.balances[wallet_id]
            assert view.balance_micros >= 0, f"wallet {wallet_id} is at {view.balance_micros}"
            assert view.available_micros >= 0, f"of wallet {wallet_id} more is held than there is"


actions = st.lists(
    st.tuples(
        st.sampled_from(["on"] * 12 + ["wait", "end", "top up"]),
        st.integers(0, 2),
        st.sampled_from([1, 5, 13]),
    ),
    min_size=25,
    max_size=80,
)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(RATES), st.integers(0, 900_000), st.integers(0, 120), st.integers(0, 120), actions)
def test_no_interleaving_overspends(
    rate: Rate, money: int, first_s: int, second_s: int, acts: list[tuple[str, int, int]]
) -> None:
    """Balances and what is available never fall below zero, and each charge is what its facts say again."""

    async def play() -> None:
        street = Street(CreditStore(FakeAsyncRedis(decode_responses=True)), rate)
        await street.open({MONEY: money, FIRST: first_s * 1_000_000, SECOND: second_s * 1_000_000})
        for act, number, amount in acts:
            await street.act(act, number, amount)
            await street.check()
        for number in street.calls:
            street.end(number)
            while street.effects[number]:
                await street.carry_out(number)
        await street.check()
        for ended in street.ended:
            for charge in ended.charges:
                assert reprice(charge) == charge.amount_micros
        for wallet_id in WALLETS:
            view = await street.credit.wallet(wallet_id)
            assert view is not None
            assert view.held_micros == 0

    asyncio.run(play())
