"""What an account pays for a number: its own rate or its tariff's, marked up, less its discount, converted. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.catalogue import Catalogue, Party, TariffBook
from billing.plans.reading import find_exchange, text
from billing.plans.volumes import Volume, best
from rating.plans import ONE, less, marked_up, scaled, times
from rating.tariff import Rate
from rating.volumes import month_of, tier_of

MOST_DERIVED = 8
"""A tariff is derived from one that is derived … no deeper; a deeper one is a circle."""


@dataclass(frozen=True, slots=True)
class Priced:
    """What prices a call, and how it came about: `plan` is kept with the charge, None where the tariff says it all."""

    rate: Rate
    plan: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NoExchange:
    """The tariff is in a currency that nobody has said the worth of."""

    from_currency: str
    to_currency: str


def find_price(
    catalogue: Catalogue, party: Party, number: str, at: datetime, *, past: Mapping[str, Any] | None = None
) -> Priced | NoExchange | None:
    """Return what the party pays for a number, in its currency; None where neither it nor its tariff has a rate.

    `past`: the plan that a charge of the past kept. It has the tier of its offer, and none if it had none: what was
    used in its month by then cannot be asked for any more.

    The longest prefix wins. Of the same prefix an own rate wins over the tariff's, and a tariff's own rate over one
    that it derives. A discount is for what the tariff says, not for own rates, which are in the party's currency.
    """
    book, plan = catalogue.tariffs.get(party.tariff_id or 0), party.plan
    listed = find_listed(catalogue.tariffs, book, number, at) if book else None
    own = plan.rates.longest(number, at) if plan and plan.rates else None
    if own is not None and (listed is None or len(own.prefix) >= len(listed.rate.prefix)):
        return Priced(own, {"own": True})
    if book is None or listed is None or listed.rate.barred:
        return listed
    said: dict[str, Any] = {}
    factor = ONE
    discount = plan.discounts.longest(number) if plan and plan.discounts else None
    if discount is not None:
        said["discount"] = {"percent": text(discount.percent), "prefix": discount.prefix}
        factor = discount.factor
    tier = _tier(catalogue, party, book, number, at) if past is None else past.get("tier")
    if tier is not None:
        said["tier"] = tier
        factor = times(factor, less(Decimal(tier["percent"])))
    if book.currency != party.currency:
        exchange = find_exchange(catalogue.exchanges, book.currency, party.currency, at)
        if exchange is None:
            return NoExchange(book.currency, party.currency)
        said["exchange"] = exchange.facts()
        factor = times(factor, exchange.value)
    if not said:
        return listed
    plan_facts = {**(listed.plan or {}), **said, "listed": listed.rate.facts()}
    return Priced(scaled(listed.rate, factor), plan_facts)


def looks_at_months(party: Party, book: TariffBook, number: str) -> bool:
    """Return whether a price or a flat rate for a number depends on what was used in a month."""
    return best(_volumes(party, book), number) is not None


def _volumes(party: Party, book: TariffBook | None) -> list[Volume]:
    """Return the plans of a party, then those of its tariff: of prefixes as long the party's own counts."""
    return [*(party.plan.volumes if party.plan else ()), *(book.volumes if book else ())]


def _tier(catalogue: Catalogue, party: Party, book: TariffBook, number: str, at: datetime) -> dict[str, Any] | None:
    """Return the tier of a party now, as a charge keeps it."""
    plan = best([volume for volume in _volumes(party, book) if volume.tiers], number)
    if plan is None:
        return None
    month = month_of(plan.timezone, at)
    used_ms = catalogue.usage.get((plan.id, party.account_id, month), 0)
    tier = tier_of(plan.tiers, used_ms)
    told = {"plan_id": plan.id, "name": plan.name, "month": month, "used_ms": used_ms}
    return {**told, "from_s": tier.from_s, "percent": text(tier.percent)}


def find_flat(catalogue: Catalogue, party: Party, number: str, at: datetime) -> dict[str, Any] | None:
    """Return the flat rate that a call falls under, with what is left of its fair use, as a charge keeps it."""
    book = catalogue.tariffs.get(party.tariff_id or 0)
    plan = best([volume for volume in _volumes(party, book) if volume.fair_ms], number)
    if plan is None:
        return None
    month = month_of(plan.timezone, at)
    used_ms = catalogue.usage.get((plan.id, party.account_id, month), 0)
    told = {"plan_id": plan.id, "name": plan.name, "month": month, "fair_ms": plan.fair_ms}
    return {**told, "left_ms": max(plan.fair_ms - used_ms, 0)}


def find_listed(
    books: Mapping[int, TariffBook], book: TariffBook, number: str, at: datetime, deep: int = 0
) -> Priced | None:
    """Return what a tariff lists for a number, in the tariff's own currency."""
    own = book.rates.longest(number, at)
    sale = book.sales.longest(number) if book.sales else None
    source = books.get(sale.from_tariff_id) if sale else None
    base = find_listed(books, source, number, at, deep + 1) if source and deep < MOST_DERIVED else None
    if sale is None or source is None or base is None or (own and len(own.prefix) >= len(base.rate.prefix)):
        return Priced(own) if own else None
    said = {"from": source.name, "from_version": source.version, **sale.facts()}
    return Priced(marked_up(base.rate, sale.markup, book.rounding), {"markup": said})
