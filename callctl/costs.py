"""What the carrier of a call will charge for it, fixed at the offer beside what its payers pay. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.catalogue import Catalogue, Party
from billing.cdrs import EndedCost, talk_facts
from billing.plans.lookup import find_listed
from billing.plans.margins import earns
from billing.plans.reading import find_exchange
from rating.plans import ONE
from rating.pricing import band_changes, billable_ms, cost_ms
from rating.tariff import Rate


@dataclass(frozen=True, slots=True)
class Carriage:
    """The carrier of a call and the rate it charges. `currency` is the carrier's.

    `exchange` is what turns its cost into the currency of those who pay, where that is another; None where it is the
    same, or where nobody has set one.
    """

    carrier_id: int
    carrier: str
    wallet_id: int
    to_wallet_id: int
    currency: str
    tariff: str
    tariff_id: int
    version: int
    rate: Rate
    exchange: dict[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**{name: getattr(self, name) for name in self.__slots__}, "rate": self.rate.facts()}

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Carriage:
        """Read what `facts` wrote."""
        return cls(**{**facts, "rate": Rate.from_facts(facts["rate"])})

    def worth(self, currency: str) -> Decimal | None:
        """Return what one of the carrier's currency is worth in another; None where nobody has set it."""
        if currency == self.currency:
            return ONE
        return Decimal(self.exchange["value"]) if self.exchange and self.exchange["to"] == currency else None

    def cost(self, talk_ms: int, answered_at: datetime) -> EndedCost:
        """Price a call that is over as the carrier will: all of its talk."""
        priced_ms = billable_ms(self.rate, talk_ms)
        amount, billed_ms = cost_ms(self.rate, priced_ms, answered_at)
        facts = {
            "carrier": self.carrier,
            "tariff": self.tariff,
            "tariff_id": self.tariff_id,
            "version": self.version,
            "rate": self.rate.facts(),
            **talk_facts(self.rate, priced_ms, answered_at),
            **({"exchange": self.exchange} if self.exchange else {}),
        }
        billed_s = -(-billed_ms // 1000)
        return EndedCost(self.carrier_id, self.wallet_id, self.to_wallet_id, amount, self.currency, billed_s, facts)


def find_carriage(catalogue: Catalogue, number: str, at: datetime, currency: str) -> Carriage | None:
    """Return who will carry a call and what it charges; None where there is no route, or its carrier has no rate."""
    carried = catalogue.routes.longest(number)
    book = catalogue.tariffs.get(carried.tariff_id) if carried else None
    listed = find_listed(catalogue.tariffs, book, number, at) if book else None
    if carried is None or book is None or listed is None or listed.rate.barred:
        return None
    exchange = None
    if book.currency != currency:
        exchange = find_exchange(catalogue.exchanges, book.currency, currency, at)
    return Carriage(
        carrier_id=carried.carrier_id,
        carrier=carried.carrier,
        wallet_id=carried.wallet_id,
        to_wallet_id=carried.to_wallet_id,
        currency=book.currency,
        tariff=book.name,
        tariff_id=book.id,
        version=book.version,
        rate=listed.rate,
        exchange=exchange.facts() if exchange else None,
    )


def earns_enough(
    catalogue: Catalogue,
    chain: tuple[Party, ...],
    rates: tuple[Rate, ...],
    carriage: Carriage | None,
    *,
    offered_at: datetime,
    ring_s: float,
) -> bool:
    """Return whether every level earns what it must, whenever the call may be answered while it rings.

    A level earns what it charges less what it pays: to the level above, or to the carrier. A cost that is not known, or
    not in the currency of the price, earns nothing that could be shown.
    """
    for place, (party, sold) in enumerate(zip(chain, rates, strict=True)):
        book = catalogue.tariffs.get(party.tariff_id or 0)
        leasts = [least for least in (party.plan and party.plan.least, book and book.least) if least]
        if not leasts:
            continue
        if place + 1 < len(rates):
            bought, worth = rates[place + 1], ONE
        else:
            known = carriage.worth(party.currency) if carriage else None
            if carriage is None or known is None:
                return False
            bought, worth = carriage.rate, known
        moments = _moments(sold, bought, offered_at, ring_s)
        if not all(earns(sold, bought, worth, least, at) for least in leasts for at in moments):
            return False
    return True


def _moments(sold: Rate, bought: Rate, offered_at: datetime, ring_s: float) -> list[datetime]:
    if not (sold.bands or bought.bands):
        return [offered_at]
    last = offered_at + timedelta(seconds=ring_s)
    changes = {moment for rate in (sold, bought) for moment in band_changes(rate, offered_at, last)}
    return [offered_at, *sorted(changes), last]
