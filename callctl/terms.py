"""What a call costs at every level of its chain, fixed at the offer: holds, grants and charges come from here. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from billing.cdrs import EndedCharge, EndedCost, EndedUse, talk_facts
from billing.credit.store import Days, Share
from billing.limits import day_of
from callctl.costs import Carriage
from rating.bundles import Paid, pay
from rating.bundles import afford as afford_with
from rating.money import MOST_MICROS
from rating.pricing import afford, band_changes, billable_ms, closing, cost, cost_ms, longest
from rating.tariff import Rate
from rating.terms import terms_of

MICROS_OF_MS = 1000
"""A wallet in seconds counts micro-units of them."""


@dataclass(frozen=True, slots=True)
class LevelBundle:
    """Seconds that are used up before the money of a level; none are taken from `expires_at` on."""

    name: str
    wallet_id: int
    to_wallet_id: int
    expires_at: datetime | None = None

    def facts(self) -> dict[str, Any]:
        """Return it as JSON."""
        told = {"name": self.name, "wallet_id": self.wallet_id, "to_wallet_id": self.to_wallet_id}
        return {**told, "expires_at": self.expires_at.isoformat() if self.expires_at else None}

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> LevelBundle:
        """Read what `facts` wrote."""
        expires_at = facts["expires_at"]
        return cls(**{**facts, "expires_at": datetime.fromisoformat(expires_at) if expires_at else None})

    def open_at(self, now: datetime) -> bool:
        """Return whether seconds may be taken from it now."""
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class Level:
    """One account of the chain and the rate it pays, fixed at the offer."""

    account_id: int
    account: str
    wallet_id: int
    to_wallet_id: int
    currency: str
    tariff: str
    tariff_id: int
    version: int
    rate: Rate
    most_micros: int | None = None
    """What the account may spend on one call."""
    plan: dict[str, Any] | None = None
    """How the rate came about, where the tariff alone does not say it: kept with the charge."""
    bundles: tuple[LevelBundle, ...] = ()
    caps_ms: tuple[int, ...] = ()
    """How much of each bundle the call may use: what it holds of it, or asks for."""
    flat: dict[str, Any] | None = None
    """The flat rate that comes before bundles and money, with what was left of its fair use at the offer."""
    day_zone: str = ""
    """The clock of an account that limits what its calls may cost in a day."""

    def facts(self) -> dict[str, Any]:
        """Return the level as JSON."""
        return {
            **({"plan": self.plan} if self.plan else {}),
            "account_id": self.account_id,
            "account": self.account,
            "wallet_id": self.wallet_id,
            "to_wallet_id": self.to_wallet_id,
            "currency": self.currency,
            "tariff": self.tariff,
            "tariff_id": self.tariff_id,
            "version": self.version,
            "rate": self.rate.facts(),
            **({} if self.most_micros is None else {"most_micros": self.most_micros}),
            **({"day_zone": self.day_zone} if self.day_zone else {}),
            **({"flat": self.flat} if self.flat else {}),
            **(
                {"bundles": [bundle.facts() for bundle in self.bundles], "caps_ms": self.caps_ms}
                if self.bundles
                else {}
            ),
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Level:
        """Read what `facts` wrote."""
        bundles = tuple(LevelBundle.from_facts(bundle) for bundle in facts.get("bundles", ()))
        caps_ms = tuple(facts.get("caps_ms", ()))
        return cls(**{**facts, "rate": Rate.from_facts(facts["rate"]), "bundles": bundles, "caps_ms": caps_ms})

    def wallets(self) -> tuple[int, ...]:
        """Return the wallets that pay: the money, then the bundles in the order in which they are used."""
        return (self.wallet_id, *(bundle.wallet_id for bundle in self.bundles))

    @property
    def split(self) -> bool:
        """Whether something pays before the money."""
        return bool(self.bundles) or self.flat is not None

    @property
    def mosts_ms(self) -> tuple[int, ...]:
        """How much of the flat rate, if there is one, and of each bundle the call may use."""
        return self.caps_ms if self.flat is None else (self.flat["left_ms"], *self.caps_ms)

    def paid(self, seconds: int, at: datetime | None) -> Paid:
        """Price so much talk in the flat rate, bundles and money."""
        return pay(self.rate, seconds * 1000, self.mosts_ms, at)

    def afford(self, funds_micros: int, most_s: int, at: datetime | None) -> int:
        """Return how many seconds, at most `most_s`, the bundles and this money pay for."""
        if not self.split:
            return afford(self.rate, funds_micros, most_s, at)
        return afford_with(self.rate, funds_micros, self.mosts_ms, most_s, at)

    def longest(self, most_s: int, at: datetime | None) -> int:
        """Return how long, at most `most_s`, the tariff lets the call last."""
        if not self.split:
            return longest(self.rate, most_s, at)
        return self.afford(MOST_MICROS, most_s, at) if terms_of(self.rate).ends else most_s


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call costs at every level, the payer first. Grants and holds are worked out here, purely.

    `moments`: when the call was answered; until then, the times at which it may be answered, and the dearest of them
    counts. Empty where the time changes no price.
    """

    levels: tuple[Level, ...]
    moments: tuple[datetime, ...] = ()
    carriage: Carriage | None = None
    """Who carries the call, and what it charges the operator."""
    bundled: bool = field(default=False, init=False, repr=False, compare=False)
    """Whether at a level something pays before the money."""
    _facts: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look once at what is asked at every step of every call."""
        for level in self.levels:
            if level.bundles or level.flat is not None:
                object.__setattr__(self, "bundled", True)

    def facts(self) -> str:
        """Return the levels as JSON text; made once, since every hold of the call carries it.

        Calls of an account to one destination share it: it is the longest text that is kept of a call.
        """
        if not self._facts:
            text = json.dumps([level.facts() for level in self.levels], separators=(",", ":"))
            object.__setattr__(self, "_facts", sys.intern(text))
        return self._facts

    @property
    def timed(self) -> bool:
        """Whether the time of the answer changes the price at any level."""
        return any(level.rate.bands for level in self.levels)

    def at(self, *moments: datetime) -> Terms:
        """Return the terms of a call that was, or may be, answered at these times."""
        return replace(self, moments=moments) if self.timed and moments != self.moments else self

    def ringing(self, offered_at: datetime, ring_s: int) -> Terms:
        """Return the terms of a call that may be answered at any time while it rings, in whatever band.

        Times at which a level is closed are left out: a call answered then is not charged, and ends.
        """
        if not self.timed:
            return self
        last = offered_at + timedelta(seconds=ring_s)
        changes = {moment for level in self.levels for moment in band_changes(level.rate, offered_at, last)}
        after = [moment for moment in sorted({*changes, last}) if moment > offered_at and self.closed(moment) is None]
        return self.at(offered_at, *after)

    def closed(self, at: datetime) -> Level | None:
        """Return the first level that lets no call go on at this time."""
        return next((level for level in self.levels if closing(level.rate, at, 1) is not None), None)

    def shares(self, seconds: int) -> tuple[Share, ...]:
        """Return what must be held at each level for `seconds` of talk: the money, then of each of its bundles."""
        if self.bundled:
            return tuple(share for level in self.levels for share in self._shares(level, seconds))
        return tuple(
            Share(level.wallet_id, level.account_id, max(cost(level.rate, seconds, at)[0] for at in self._times()))
            for level in self.levels
        )

    def whole(self, seconds: int) -> int:
        """Return the talk time that the price of `seconds` pays for: to the end of the shortest increment begun.

        No more than the tariffs let a call last.
        """
        paid_s = min(int(cost_ms(level.rate, seconds * 1000, at)[1]) // 1000 for level, at in self._each())
        return self.longest(max(paid_s, seconds))

    def longest(self, most_s: int) -> int:
        """Return how long all the money there is lets the call last, up to `most_s`, answered at the first moment.

        That is as long as the tariffs and the accounts' limits for the cost of one call let it.
        """
        at = self._times()[0]
        most_s = min(level.longest(most_s, at) for level in self.levels)
        return self._within_limits(most_s) if self.capped else most_s

    @property
    def capped(self) -> bool:
        """Whether an account limits what one call may cost."""
        return any(level.most_micros is not None for level in self.levels)

    @property
    def limited(self) -> bool:
        """Whether an account limits what a call or a day may cost: not its money alone says how long a call lasts."""
        return any(level.most_micros is not None or level.day_zone for level in self.levels)

    def days(self, now: datetime) -> Days:
        """Return what day it is for each wallet whose account limits what a day may cost."""
        return {level.wallet_id: day_of(level.day_zone, now) for level in self.levels if level.day_zone}

    def _within_limits(self, most_s: int) -> int:
        return min(
            level.afford(level.most_micros, most_s, at) for level, at in self._each() if level.most_micros is not None
        )

    def affordable(self, available: tuple[int, ...], most_s: int) -> int:
        """Return how many seconds, at most `most_s`, every level can pay with these micro-units, one of each share.

        Bundles pay for what the call holds of them, whatever else is in them.
        """
        moneys = self._moneys(available) if self.bundled else available
        return min(
            level.afford(funds, most_s, at)
            for level, funds in zip(self.levels, moneys, strict=True)
            for at in self._times()
        )

    # -- bundles -------------------------------------------------------------------------------------------------------

    def ask(self, seconds: int, granted_s: int, now: datetime) -> Terms:
        """Return the terms under which to ask for `seconds` first: the first bundle that is open pays for all of it."""
        if not self.bundled:
            return self
        return self._grown(seconds, granted_s, now, None)

    def within(self, available: tuple[int, ...], most_s: int, granted_s: int, now: datetime) -> tuple[int, Terms]:
        """Return how many seconds these micro-units pay for, and the terms under which they do.

        Once an increment is paid in money, all that follow are: what the call holds of its bundles stays, and no more
        is taken of them, so that each hold splits the call as the one before it did, and as the charge will.
        """
        if not self.bundled:
            return self.affordable(available, most_s), self
        terms = self._grown(most_s, granted_s, now, available)
        able = terms.affordable(available, most_s)
        return able, terms.fixed(able)

    def _grown(self, seconds: int, granted_s: int, now: datetime, available: tuple[int, ...] | None) -> Terms:
        levels: list[Level] = []
        place = 0
        for level in self.levels:
            funds = None if available is None else available[place + 1 : place + 1 + len(level.bundles)]
            place += 1 + len(level.bundles)
            levels.append(self._grow(level, seconds, now, funds) if self._all_bundled(level, granted_s) else level)
        return replace(self, levels=tuple(levels)).fixed(seconds)

    def _grow(self, level: Level, seconds: int, now: datetime, funds: tuple[int, ...] | None) -> Level:
        """Let bundles pay for all of `seconds`, as far as there are `funds` (micro-units of seconds) in each."""
        reach_s = _beyond_free(level, seconds)
        needs_ms = max(level.paid(reach_s, at).billed_ms for at in self._times())
        caps: list[int] = []
        first = True
        for number, bundle in enumerate(level.bundles):
            if not bundle.open_at(now):
                caps.append(level.caps_ms[number])
            elif funds is not None:
                caps.append(min(needs_ms, max(funds[number], 0) // MICROS_OF_MS))
            else:
                caps.append(needs_ms if first else 0)
                first = False
        return replace(level, caps_ms=tuple(caps))

    def _all_bundled(self, level: Level, granted_s: int) -> bool:
        """Return whether no increment of what is granted was paid in money: more of the bundles may be used then."""
        if not level.bundles or granted_s <= 0:
            return bool(level.bundles)
        free_ms = level.rate.conditions.free_s * 1000
        paid = (level.paid(granted_s, at) for at in self._times())
        return all(free_ms + sum(one.uses_ms) >= one.billed_ms for one in paid)

    def fixed(self, seconds: int) -> Terms:
        """Let the call use no more of its bundles than `seconds` need: what is held for them."""
        return replace(
            self,
            levels=tuple(
                replace(level, caps_ms=self._uses_ms(level, seconds)) if level.bundles else level
                for level in self.levels
            ),
        )

    def _uses_ms(self, level: Level, seconds: int) -> tuple[int, ...]:
        first = len(level.mosts_ms) - len(level.bundles)
        reach_s = _beyond_free(level, seconds)
        paid = [level.paid(reach_s, at).uses_ms[first:] for at in self._times()]
        return tuple(max(uses) for uses in zip(*paid, strict=True))

    def _shares(self, level: Level, seconds: int) -> Iterator[Share]:
        money = max(level.paid(seconds, at).micros for at in self._times())
        yield Share(level.wallet_id, level.account_id, money)
        for bundle, used_ms in zip(level.bundles, self._uses_ms(level, seconds), strict=True):
            yield Share(bundle.wallet_id, level.account_id, used_ms * MICROS_OF_MS)

    def _moneys(self, available: tuple[int, ...]) -> tuple[int, ...]:
        moneys: list[int] = []
        place = 0
        for level in self.levels:
            moneys.append(available[place])
            place += 1 + len(level.bundles)
        return tuple(moneys)

    def charges(self, talk_ms: int, answered_at: datetime) -> tuple[EndedCharge, ...]:
        """Price a call that is over, once and exactly, at every level."""
        return tuple(_charge(level, talk_ms, answered_at) for level in self.levels)

    def cost(self, talk_ms: int, answered_at: datetime) -> EndedCost | None:
        """Return what the carrier charges for a call that is over; None where that is not known."""
        return self.carriage.cost(talk_ms, answered_at) if self.carriage else None

    def _times(self) -> tuple[datetime | None, ...]:
        return self.moments or (None,)

    def _each(self) -> Iterator[tuple[Level, datetime | None]]:
        return ((level, at) for level in self.levels for at in self._times())


def _beyond_free(level: Level, seconds: int) -> int:
    """Return how far the bundles must reach for so much talk: to the increment after the free seconds, or further.

    Free seconds use nothing, but whether a minimum charge is due for them depends on who would pay for what follows. So
    a call that is not beyond them holds that increment.
    """
    return max(seconds, level.rate.conditions.free_s + 1) if level.rate.conditions.free_s and seconds > 0 else seconds


def _charge(level: Level, talk_ms: int, answered_at: datetime) -> EndedCharge:
    """Charge a level; what was talked beyond the time at which its tariff ends a call is not charged."""
    priced_ms = billable_ms(level.rate, talk_ms)
    priced_ms = min(priced_ms, level.longest(-(-priced_ms // 1000), answered_at) * 1000)
    flat_ms = 0
    if level.split:
        amount, uses_ms, billed_ms = pay(level.rate, priced_ms, level.mosts_ms, answered_at)
        if level.flat is not None:
            flat_ms, *rest_ms = uses_ms
            uses_ms = tuple(rest_ms)
    else:
        (amount, billed_ms), uses_ms = cost_ms(level.rate, priced_ms, answered_at), ()
    bundles = tuple(zip(level.bundles, level.caps_ms, uses_ms, strict=True)) if level.bundles else ()
    facts = {
        "tariff": level.tariff,
        "tariff_id": level.tariff_id,
        "version": level.version,
        "rate": level.rate.facts(),
        **talk_facts(level.rate, priced_ms, answered_at),
        **({"plan": level.plan} if level.plan else {}),
    }
    if level.flat is not None:
        facts["flat"] = {**level.flat, "used_ms": flat_ms}
    counts = _counts(level, flat_ms, billed_ms)
    if counts:
        facts["counts"] = counts
    if any(level.caps_ms):
        facts["bundles"] = [
            {"name": bundle.name, "wallet_id": bundle.wallet_id, "most_ms": cap_ms, "used_ms": used_ms}
            for bundle, cap_ms, used_ms in bundles
        ]
    return EndedCharge(
        level.account_id,
        level.wallet_id,
        level.to_wallet_id,
        amount,
        level.currency,
        -(-billed_ms // 1000),
        facts,
        tuple(EndedUse(bundle.wallet_id, bundle.to_wallet_id, used * MICROS_OF_MS) for bundle, _, used in bundles),
    )


def _counts(level: Level, flat_ms: int, billed_ms: int) -> list[tuple[int, str, int]]:
    """Return what a charge counts in volume plans: plan, month, milliseconds."""
    counts: list[tuple[int, str, int]] = []
    if level.flat is not None and flat_ms:
        counts.append((level.flat["plan_id"], level.flat["month"], flat_ms))
    tier = (level.plan or {}).get("tier")
    if tier and billed_ms:
        counts.append((tier["plan_id"], tier["month"], billed_ms))
    return counts
