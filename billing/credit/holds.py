"""What is asked of live credit, and what it answers: shares of a hold; wallets and accounts as Redis has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

Days: TypeAlias = Mapping[int, int]
"""For a wallet the number of the day it is on its account's own clock (`date.toordinal`)."""
NO_DAYS: Final[Days] = {}


class HoldCode(StrEnum):
    """Why a hold was not made."""

    NO_MONEY = "no_money"
    DAY_LIMIT = "day_limit"
    """The account's limit for what its calls may cost in a day would be passed."""
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
    """Nothing was changed. `level` is the first share that failed; `available` per share counts what the call holds
    itself, and is 0 for a wallet that Redis does not know.
    """

    code: HoldCode
    level: int
    available: tuple[int, ...]


class ApplyCode(StrEnum):
    """What became of a posting."""

    APPLIED = "applied"
    SEEN = "seen"
    GAP = "gap"
    UNKNOWN_WALLET = "unknown_wallet"
    TOO_LARGE = "too_large"
    """The balance could not be kept exactly: SQL should have refused it. Nothing was changed."""


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
    max_day_micros: int | None = None
    day: int = 0
    """The number of the account's day, and what its calls have cost in it: taken only where Redis does not know."""
    spent_micros: int = 0


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
