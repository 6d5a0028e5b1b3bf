"""Who pays for an offered call, and at what rate: decided from the catalogue alone, without I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from billing.catalogue import Catalogue, Party
from billing.credit.store import Share
from billing.models import AccountStatus, IdentityKind
from callctl import refusals
from callctl.switches.base import CallOffered, Direction, Refusal
from rating.pricing import afford, cost
from rating.tariff import Rate


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

    def facts(self) -> dict[str, Any]:
        """Return the level as JSON."""
        return {
            "account_id": self.account_id,
            "account": self.account,
            "wallet_id": self.wallet_id,
            "to_wallet_id": self.to_wallet_id,
            "currency": self.currency,
            "tariff": self.tariff,
            "tariff_id": self.tariff_id,
            "version": self.version,
            "rate": self.rate.facts(),
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Level:
        """Read what `facts` wrote."""
        return cls(**{**facts, "rate": Rate.from_facts(facts["rate"])})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call costs at every level, the payer first. Grants and holds are worked out here, purely."""

    levels: tuple[Level, ...]
    _facts: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    def facts(self) -> str:
        """Return the levels as JSON text; made once, since every hold of the call carries it."""
        if not self._facts:
            self._facts.append(json.dumps([level.facts() for level in self.levels], separators=(",", ":")))
        return self._facts[0]

    def shares(self, seconds: int) -> tuple[Share, ...]:
        """Return what must be held at each level for `seconds` of talk."""
        return tuple(Share(level.wallet_id, level.account_id, cost(level.rate, seconds)[0]) for level in self.levels)

    def whole(self, seconds: int) -> int:
        """Return the talk time that the price of `seconds` pays for: to the end of the shortest increment begun."""
        return min(cost(level.rate, seconds)[1] for level in self.levels)

    def affordable(self, available: tuple[int, ...], most_s: int) -> int:
        """Return how many seconds, at most `most_s`, every level can pay with these micro-units."""
        return min(afford(level.rate, funds, most_s) for level, funds in zip(self.levels, available, strict=True))


@dataclass(frozen=True, slots=True)
class Refused:
    """The call is not admitted; `account_id` where the payer is known."""

    refusal: Refusal
    account_id: int | None = None
    destination: str = ""


def dialled(number: str) -> str:
    """Return a number as tariffs know it: international digits without the plus."""
    return number.removeprefix("+")


def decide(catalogue: Catalogue, offer: CallOffered) -> Terms | Refused:
    """Find who pays and at what rates, or why not. Money and limits are the credit store's to check."""
    if offer.direction is Direction.INBOUND:
        chain = catalogue.chain(IdentityKind.DID, dialled(offer.callee))
    else:
        chain = catalogue.chain(IdentityKind.ACCOUNT_CODE, offer.account_code) if offer.account_code else None
    if not chain:
        return Refused(refusals.UNKNOWN_ACCOUNT)
    payer = chain[0].account_id
    if any(party.status is not AccountStatus.ACTIVE for party in chain):
        return Refused(refusals.INACTIVE_ACCOUNT, payer)
    number = dialled(offer.callee)
    if any(number.startswith(dialled(prefix)) for party in chain for prefix in party.barred):
        return Refused(refusals.BARRED, payer)
    levels = []
    for party in chain:
        level = _level(catalogue, party, number)
        if isinstance(level, Refusal):
            return Refused(level, payer)
        if level.rate.barred:
            return Refused(refusals.BARRED, payer, level.rate.destination)
        levels.append(level)
    return Terms(tuple(levels))


def _level(catalogue: Catalogue, party: Party, number: str) -> Level | Refusal:
    book = catalogue.tariffs.get(party.tariff_id) if party.tariff_id is not None else None
    rate = book.rates.longest(number) if book else None
    if book is None or rate is None:
        return refusals.NO_RATE
    if book.currency != party.currency:
        return refusals.WRONG_CURRENCY
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
    )
