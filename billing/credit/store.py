"""Holds and wallets in Redis (or Valkey), each operation one Lua script. Amounts travel as strings of integers.

Keys, all under one hash tag so that a Cluster keeps them together (`{prefix}:`):
`w:<wallet>` hash balance, held, seq, credit · `a:<account>` hash status, max_calls, max_cps, calls, cps_s, cps_n ·
`h:<call>` hash of an open hold: w:<wallet> → amount, accounts, facts, state, deadline · `holds` zset call → deadline ms ·
`ended` zset call → ms, so that a late retry does not open a hold again · channel `wake`: wallet ids whose money grew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from redis.asyncio import Redis


class HoldCode(StrEnum):
    """Why a hold was not made."""

    NO_MONEY = "no_money"
    INACTIVE = "inactive"
    TOO_MANY_CALLS = "too_many_calls"
    TOO_FAST = "too_fast"
    UNKNOWN_WALLET = "unknown_wallet"
    """The wallet or account is not in Redis: sync it from SQL, then try again."""
    NO_HOLD = "no_hold"
    """An extension for a call that has no open hold."""
    ENDED = "ended"
    """The call is over: nothing may be held for it any more."""
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Share:
    """The part of one wallet in a call's hold: the whole amount held, not a difference."""

    wallet_id: int
    account_id: int
    amount_micros: int


@dataclass(frozen=True, slots=True)
class Held:
    """The hold stands (now, or since an earlier try)."""


@dataclass(frozen=True, slots=True)
class NotHeld:
    """Nothing was changed. `level` is the first share that failed; `available` per share counts what the call holds itself."""

    code: HoldCode
    level: int
    available: tuple[int, ...]


class ApplyCode(StrEnum):
    """What became of a posting."""

    APPLIED = "applied"
    SEEN = "seen"
    GAP = "gap"
    UNKNOWN_WALLET = "unknown_wallet"


@dataclass(frozen=True, slots=True)
class WalletState:
    """A wallet as SQL has it."""

    wallet_id: int
    balance_micros: int
    seq: int
    credit_limit_micros: int


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account's limits as SQL has them."""

    account_id: int
    status: str
    max_calls: int | None
    max_cps: int | None


@dataclass(frozen=True, slots=True)
class WalletView:
    """A wallet as Redis has it."""

    wallet_id: int
    balance_micros: int
    held_micros: int
    credit_limit_micros: int
    seq: int

    @property
    def available_micros(self) -> int:
        """Balance + credit limit − held."""
        return self.balance_micros + self.credit_limit_micros - self.held_micros


@dataclass(frozen=True, slots=True)
class OpenHold:
    """A hold as Redis has it; `finished` where it waits only for its posting. `facts` is the controller's own JSON."""

    call_id: str
    shares: tuple[Share, ...]
    deadline_ms: int
    finished: bool
    facts: str


class CreditStore:
    """The five scripts and what reads their keys. Every call has a time-out; an unreachable server is `CreditUnavailable`."""

    def __init__(self, redis: Redis, *, prefix: str = "callctl") -> None:
        raise NotImplementedError

    async def hold(
        self, call_id: str, shares: Sequence[Share], *, now_ms: int, deadline_ms: int, facts: str
    ) -> Held | NotHeld:
        """Admit: open a hold in every wallet or in none, counting the call against each account's limits."""
        raise NotImplementedError

    async def extend(
        self, call_id: str, shares: Sequence[Share], *, now_ms: int, deadline_ms: int, facts: str | None = None
    ) -> Held | NotHeld:
        """Raise an open hold to these amounts (never lowers one), move its deadline, replace its facts if given."""
        raise NotImplementedError

    async def finish(self, call_id: str, shares: Sequence[Share], *, now_ms: int) -> bool:
        """The call is over and costs exactly these amounts: trim (or raise) the hold to them and free its channel.

        Shares of 0 are dropped at once, the others wait for their posting. Returns False where there is no open hold (a
        retry, or lost data): nothing is changed then.
        """
        raise NotImplementedError

    async def release(self, call_id: str, *, now_ms: int) -> bool:
        """The call is over and costs nothing. False where there is no open hold."""
        raise NotImplementedError

    async def apply(self, wallet_id: int, seq: int, amount_micros: int, *, call_id: str | None = None) -> ApplyCode:
        """Apply a posting in order and drop the share of the hold it replaces. SEEN drops that share too."""
        raise NotImplementedError

    async def sync_wallet(self, state: WalletState) -> bool:
        """Set a wallet from SQL unless Redis is ahead; its held sum is kept. False where Redis was ahead."""
        raise NotImplementedError

    async def sync_account(self, state: AccountState) -> None:
        """Set an account's status and limits; its channel count is kept."""
        raise NotImplementedError

    async def wallet(self, wallet_id: int) -> WalletView | None:
        """Return one wallet."""
        raise NotImplementedError

    async def calls_of(self, account_id: int) -> int:
        """Return the number of channels an account has in use."""
        raise NotImplementedError

    async def find_hold(self, call_id: str) -> OpenHold | None:
        """Return one hold."""
        raise NotImplementedError

    async def holds(self) -> list[OpenHold]:
        """Return every open hold."""
        raise NotImplementedError

    async def overdue(self, now_ms: int, *, most: int = 1000) -> list[str]:
        """Return calls whose open, unfinished hold is past its deadline."""
        raise NotImplementedError

    async def wakes(self) -> AsyncIterator[int]:
        """Yield the ids of wallets whose available money grew, as it happens, until closed."""
        raise NotImplementedError
        yield 0

    async def ping(self) -> None:
        """Raise `CreditUnavailable` unless the server answers."""
        raise NotImplementedError

    async def durable(self) -> bool:
        """Return whether the server keeps its data over a restart (append-only file or snapshots)."""
        raise NotImplementedError

    async def empty(self) -> bool:
        """Return whether the store lacks our marker: a fresh server, or one that lost its data."""
        raise NotImplementedError
