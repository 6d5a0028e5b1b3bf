"""What an account pays for a number: its own rate or its tariff's, marked up, less its discount. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.catalogue import Party, TariffBook
from billing.plans.reading import text
from rating.plans import marked_up, scaled
from rating.tariff import Rate

MOST_DERIVED = 8
"""A tariff is derived from one that is derived … no deeper; a deeper one is a circle."""


@dataclass(frozen=True, slots=True)
class Priced:
    """What prices a call, and how it came about: `plan` is kept with the charge, None where the tariff says it all."""

    rate: Rate
    plan: dict[str, Any] | None = None


def find_price(books: Mapping[int, TariffBook], party: Party, number: str, at: datetime) -> Priced | None:
    """Return what the party pays for a number; None where neither it nor its tariff has a rate.

    The longest prefix wins. Of the same prefix an own rate wins over the tariff's, and a tariff's own rate over one
    that it derives. A discount is for what the tariff says, not for own rates.
    """
    book, plan = books.get(party.tariff_id or 0), party.plan
    listed = find_listed(books, book, number, at) if book else None
    if plan is None:
        return listed
    own = plan.rates.longest(number, at) if plan.rates else None
    if own is not None and (listed is None or len(own.prefix) >= len(listed.rate.prefix)):
        return Priced(own, {"own": True})
    discount = plan.discounts.longest(number) if plan.discounts else None
    if listed is None or discount is None or listed.rate.barred:
        return listed
    said = {"discount": {"percent": text(discount.percent), "prefix": discount.prefix}, "listed": listed.rate.facts()}
    return Priced(scaled(listed.rate, discount.factor), {**(listed.plan or {}), **said})


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
