"""Who pays for an offered call, and at what rate: decided from the catalogue alone, without I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from billing.catalogue import Catalogue, Party
from billing.cdrs import EndedCharge, EndedCost, talk_facts
from billing.credit.store import Days, Share
from billing.limits import day_of, hours_allow
from billing.models import AccountStatus, IdentityKind
from billing.plans.lookup import NoExchange, find_price
from callctl import refusals
from callctl.costs import Carriage, earns_enough, find_carriage
from callctl.switches.base import CallOffered, Direction, Refusal
from rating.errors import RatingError
from rating.pricing import afford, band_changes, billable_ms, closing, cost, cost_ms, longest
from rating.tariff import Rate

RING_S = 90.0
"""How long a phone may ring, where nobody says otherwise."""
BY_WORD = {
    kind.value: kind for kind in (IdentityKind.SIP_USER, IdentityKind.SOURCE_ADDRESS, IdentityKind.CALLER_NUMBER)
}
"""The kinds of identity that a dialplan may name instead of an account code."""


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
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Level:
        """Read what `facts` wrote."""
        return cls(**{**facts, "rate": Rate.from_facts(facts["rate"])})


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
    _facts: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def facts(self) -> str:
        """Return the levels as JSON text; made once, since every hold of the call carries it."""
        if not self._facts:
            self._facts.append(json.dumps([level.facts() for level in self.levels], separators=(",", ":")))
        return self._facts[0]

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
        """Return what must be held at each level for `seconds` of talk."""
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
        most_s = min(longest(level.rate, most_s, at) for level in self.levels)
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
            afford(level.rate, level.most_micros, most_s, at)
            for level, at in self._each()
            if level.most_micros is not None
        )

    def affordable(self, available: tuple[int, ...], most_s: int) -> int:
        """Return how many seconds, at most `most_s`, every level can pay with these micro-units."""
        return min(
            afford(level.rate, funds, most_s, at)
            for level, funds in zip(self.levels, available, strict=True)
            for at in self._times()
        )

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


def _charge(level: Level, talk_ms: int, answered_at: datetime) -> EndedCharge:
    """Charge a level; what was talked beyond the time at which its tariff ends a call is not charged."""
    priced_ms = billable_ms(level.rate, talk_ms)
    priced_ms = min(priced_ms, longest(level.rate, -(-priced_ms // 1000), answered_at) * 1000)
    amount, billed_ms = cost_ms(level.rate, priced_ms, answered_at)
    facts = {
        "tariff": level.tariff,
        "tariff_id": level.tariff_id,
        "version": level.version,
        "rate": level.rate.facts(),
        **talk_facts(level.rate, priced_ms, answered_at),
        **({"plan": level.plan} if level.plan else {}),
    }
    return EndedCharge(
        level.account_id,
        level.wallet_id,
        level.to_wallet_id,
        amount,
        level.currency,
        -(-billed_ms // 1000),
        facts,
    )


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not admitted; `account_id` where the payer is known."""

    refusal: Refusal
    account_id: int | None = None
    destination: str = ""


def dialled(number: str) -> str:
    """Return a number as tariffs know it: international digits without the plus."""
    return number.removeprefix("+")


def payers(catalogue: Catalogue, offer: CallOffered) -> tuple[Party, ...] | None:
    """Return who pays for a call: the payer and those above it.

    An inbound call is paid by whose number was dialled. Else by what the switch's configuration says: an account code,
    or `kind:value` for another kind of identity. No account code has a colon, so neither is taken for the other.
    """
    if offer.direction is Direction.INBOUND:
        return catalogue.chain(IdentityKind.DID, dialled(offer.callee))
    kind, told, value = offer.account_code.partition(":")
    if not told:
        return catalogue.chain(IdentityKind.ACCOUNT_CODE, offer.account_code) if offer.account_code else None
    known = BY_WORD.get(kind)
    if known is None:
        return None
    return catalogue.chain(known, dialled(value) if known is IdentityKind.CALLER_NUMBER else value)


def decide(catalogue: Catalogue, offer: CallOffered, *, ring_s: float = RING_S) -> Terms | Refused:
    """Find who pays and at what rates, or why not. Money and limits are the credit store's to check."""
    chain = payers(catalogue, offer)
    if not chain:
        return Refused(refusals.UNKNOWN_ACCOUNT)
    payer = chain[0].account_id
    number = dialled(offer.callee)
    if (refusal := _refusal_of(chain, offer, number)) is not None:
        return Refused(refusal, payer)
    if offer.direction is Direction.OUTBOUND and catalogue.guarded(chain, number):
        return Refused(refusals.GUARDED, payer)
    return price_chain(catalogue, chain, number, offer.at, ring_s=ring_s, routed=offer.direction is Direction.OUTBOUND)


def price_chain(
    catalogue: Catalogue,
    chain: tuple[Party, ...],
    number: str,
    at: datetime,
    *,
    ring_s: float = RING_S,
    routed: bool = True,
) -> Terms | Refused:
    """Find the rates at which a chain of payers would call a number at this time, or why there are none.

    `routed`: a carrier is paid for the call; what it may be answered at within `ring_s` must earn enough then.
    """
    payer = chain[0].account_id
    levels = []
    for party in chain:
        level = _level(catalogue, party, number, at)
        if isinstance(level, Refusal):
            return Refused(level, payer)
        if level.rate.barred:
            return Refused(refusals.BARRED, payer, level.rate.destination)
        levels.append(level)
    carriage = None
    if routed:
        if len(catalogue.routes):
            carriage = find_carriage(catalogue, number, at, levels[-1].currency)
        rates = tuple(level.rate for level in levels)
        if not earns_enough(catalogue, chain, rates, carriage, offered_at=at, ring_s=ring_s):
            return Refused(refusals.NO_MARGIN, payer, levels[0].rate.destination)
    terms = Terms(tuple(levels), carriage=carriage).at(at)
    closed = terms.closed(at)
    return Refused(refusals.CLOSED, payer, closed.rate.destination) if closed else terms


def _refusal_of(chain: tuple[Party, ...], offer: CallOffered, number: str) -> Refusal | None:
    """Return why an account of the chain lets no such call begin, whatever it costs."""
    if any(party.status is not AccountStatus.ACTIVE for party in chain):
        return refusals.INACTIVE_ACCOUNT
    if any(number.startswith(dialled(prefix)) for party in chain for prefix in party.barred):
        return refusals.BARRED
    outbound = offer.direction is Direction.OUTBOUND
    if outbound and any(party.allowed and not number.startswith(party.allowed) for party in chain):
        return refusals.NOT_ALLOWED
    if any(party.hours and not hours_allow(party.hours, party.timezone, offer.at) for party in chain):
        return refusals.OUTSIDE_HOURS
    return None


def _level(catalogue: Catalogue, party: Party, number: str, at: datetime) -> Level | Refusal:
    book = catalogue.tariffs.get(party.tariff_id) if party.tariff_id is not None else None
    if book is None:
        return refusals.NO_RATE
    if party.plan is None and book.sales is None and book.currency == party.currency:
        # Most accounts have a tariff and nothing else: one search.
        rate, plan = book.rates.longest(number, at), None
    else:
        try:
            priced = find_price(catalogue, party, number, at)
        except RatingError:
            # Marked up or converted it would be dearer than any amount that can be kept.
            return refusals.NO_RATE
        if isinstance(priced, NoExchange):
            return refusals.WRONG_CURRENCY
        rate, plan = (priced.rate, priced.plan) if priced else (None, None)
    if rate is None:
        return refusals.NO_RATE
    return Level(
        account_id=party.account_id,
        account=party.name,
        wallet_id=party.wallet_id,
        to_wallet_id=party.to_wallet_id,
        currency=party.currency,
        tariff=book.name,
        tariff_id=book.id,
        version=book.version,
        rate=rate,
        most_micros=party.max_call_micros,
        plan=plan,
        day_zone="" if party.max_day_micros is None else party.timezone,
    )
