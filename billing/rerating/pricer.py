"""Price past charges at other rates: plain tariffs in columns, accounts with prices of their own one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from billing.catalogue import Catalogue, Party, TariffBook
from billing.cdrs import talk_facts
from billing.charges import mosts_ms, used_ms
from billing.models import Cdr, Charge
from billing.plans.lookup import NoExchange, find_price, looks_at_months
from rating.bulk import BARRED, NO_RATE, TOO_LARGE, BulkBook, call_columns
from rating.bundles import pay
from rating.errors import AmountError, RatingError
from rating.late import pl
from rating.prefixes import RateMap
from rating.pricing import charged
from rating.tariff import Rate
from rating.terms import terms_of

NO_TARIFF, NO_EXCHANGE, SPECIAL, UNREADABLE = "no_tariff", "no_exchange", "special", "unreadable"
WHY = {
    NO_TARIFF: "the tariff is not there any more",
    NO_RATE: "the tariff has no rate for the number at that time",
    BARRED: "the tariff bars the number",
    TOO_LARGE: "the price would be too large to keep",
    NO_EXCHANGE: "the tariff has another currency, and no exchange rate is known for that time",
    SPECIAL: "priced with something a re-rating cannot repeat, such as other seconds of a bundle or a month",
    UNREADABLE: "the stored facts cannot be read",
}
"""Why a charge has no other price."""
_KNOWN = {
    *("tariff", "tariff_id", "version", "rate", "billable_s", "billable_ms", "answered_at", "plan"),
    *("bundles", "flat", "counts"),
}
"""What a charge may say of itself for its price to follow from tariff, plan, talk and itself alone."""


@dataclass(frozen=True, slots=True)
class Repriced:
    """What a charge would cost, and the facts that price it again."""

    amount_micros: int
    billed_s: int
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A charge to be priced by `book`. `facts` are those it stands by."""

    place: int
    cdr: Cdr
    book: TariffBook
    facts: dict[str, Any]

    @property
    def keeps(self) -> dict[str, Any]:
        """What the call took of bundles and of its month: it stays taken, and its price is beside it."""
        return {key: self.facts[key] for key in ("flat", "counts", "bundles") if self.facts.get(key)}

    @property
    def plan(self) -> dict[str, Any]:
        """What the charge keeps of the plan it was priced by."""
        return self.facts.get("plan") or {}


class Pricer:
    """Prices at the rates of a catalogue, as the controller would have."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._in_bulk: dict[int, BulkBook] = {}
        self._facts: dict[int, dict[int, dict[str, Any]]] = {}

    def price(
        self, rows: Sequence[tuple[Cdr, Charge]], to_tariff_id: int | None
    ) -> tuple[list[Repriced | str], dict[int, int]]:
        """Return for each charge its new price, or a word of `WHY`; and the versions of the tariffs that were used."""
        told: list[Repriced | str] = [""] * len(rows)
        plain: defaultdict[int, list[_Asked]] = defaultdict(list)
        used: dict[int, int] = {}
        for place, (cdr, charge) in enumerate(rows):
            found = self._book_of(charge, to_tariff_id)
            if isinstance(found, str):
                told[place] = found
                continue
            used[found.id] = found.version
            asked = _Asked(place, cdr, found, charge.facts)
            party = self.catalogue.parties.get(charge.account_id)
            if party is None or party.currency != charge.currency:
                told[place] = UNREADABLE
            elif _asks_another_month(asked, party):
                told[place] = SPECIAL
            elif _is_plain(party, found) and not asked.keeps and "tier" not in asked.plan:
                plain[found.id].append(asked)
            else:
                told[place] = self._one(asked, replace(party, tariff_id=found.id))
        for tariff_id, together in plain.items():
            for asked, price in zip(together, self._many(tariff_id, together), strict=True):
                told[asked.place] = price
        return told, used

    def _book_of(self, charge: Charge, to_tariff_id: int | None) -> TariffBook | str:
        facts = charge.facts
        if not isinstance(facts, dict) or not isinstance(facts.get("tariff_id"), int):
            return UNREADABLE
        if not isinstance(facts.get("plan", {}), dict):
            return UNREADABLE
        if not set(facts) <= _KNOWN:
            return SPECIAL
        book = self.catalogue.tariffs.get(facts["tariff_id"] if to_tariff_id is None else to_tariff_id)
        return NO_TARIFF if book is None else book

    def _one(self, asked: _Asked, party: Party) -> Repriced | str:
        cdr = asked.cdr
        found = find_price(self.catalogue, party, dialled(cdr), cdr.offered_at, past=asked.plan)
        if found is None:
            return NO_RATE
        if isinstance(found, NoExchange):
            return NO_EXCHANGE
        if found.rate.barred:
            return BARRED
        try:
            prices = charged(found.rate, cdr.billable_ms, cdr.answered_at)
            if "flat" in asked.keeps or "bundles" in asked.keeps:
                paid = pay(found.rate, prices[1], mosts_ms(asked.facts), cdr.answered_at)
                if paid.uses_ms != used_ms(asked.facts):
                    return SPECIAL
                prices = paid.micros, prices[1], paid.billed_ms
        except AmountError:
            return TOO_LARGE
        return _repriced(asked, found.rate, prices, found.plan)

    def _many(self, tariff_id: int, together: list[_Asked]) -> list[Repriced | str]:
        bulk = self._in_bulk.get(tariff_id)
        if bulk is None:
            rates = self.catalogue.tariffs[tariff_id].rates
            assert isinstance(rates, RateMap)  # noqa: S101 - a catalogue in memory has them
            bulk = self._in_bulk[tariff_id] = BulkBook(rates)
        cdrs = [asked.cdr for asked in together]
        calls = pl.DataFrame(
            {
                "number": [dialled(cdr) for cdr in cdrs],
                "offered_at": [cdr.offered_at for cdr in cdrs],
                "answered_at": [cdr.answered_at for cdr in cdrs],
                "talk_ms": [cdr.billable_ms if cdr.answered_at else 0 for cdr in cdrs],
            },
            call_columns(),
        )
        told: list[Repriced | str] = []
        known = self._facts.setdefault(tariff_id, {})
        priced = bulk.price(calls).frame
        for asked, (place, cost_micros, priced_ms, billed_ms, why) in zip(together, priced.iter_rows(), strict=True):
            rate = None if place is None else bulk.rates[place]
            if rate is None or why:
                told.append(why)
                continue
            # Most calls share few rates, and writing one down takes longer than pricing a call.
            facts = known[place] if place in known else known.setdefault(place, rate.facts())
            told.append(_repriced(asked, rate, (cost_micros, priced_ms, billed_ms), rate_facts=facts))
        return told


def _is_plain(party: Party, book: TariffBook) -> bool:
    """Return whether the tariff's own rates are all that this account pays by."""
    return party.plan is None and book.sales is None and book.currency == party.currency


def _asks_another_month(asked: _Asked, party: Party) -> bool:
    """Return whether the price would depend on what was used by then in a month that the charge says nothing of.

    So with a tariff other than its own that has a plan for the number, or lacks the one it had; and with a rate that
    was the account's own, or free, where a plan would have counted beside another one.
    """
    number, of_party = dialled(asked.cdr), party.plan.volumes if party.plan else ()
    had = [one["plan_id"] for one in (asked.plan.get("tier"), asked.facts.get("flat")) if one]
    if asked.book.id != asked.facts["tariff_id"]:
        if any(volume.reach(number) >= 0 for volume in asked.book.volumes):
            return True
        return bool(set(had) - {volume.id for volume in of_party})
    if had or not looks_at_months(party, asked.book, number):
        return False
    try:
        return bool(asked.plan.get("own")) or terms_of(Rate.from_facts(asked.facts["rate"])).free
    except (KeyError, RatingError):
        return True


def dialled(cdr: Cdr) -> str:
    """Return the number that was called, as tariffs know it."""
    return cdr.callee.removeprefix("+")


def _repriced(
    asked: _Asked,
    rate: Rate,
    prices: tuple[int, int, int],
    plan: dict[str, Any] | None = None,
    *,
    rate_facts: dict[str, Any] | None = None,
) -> Repriced:
    cost_micros, priced_ms, billed_ms = prices
    facts = {
        "tariff": asked.book.name,
        "tariff_id": asked.book.id,
        "version": asked.book.version,
        "rate": rate_facts or rate.facts(),
        **talk_facts(rate, priced_ms, asked.cdr.answered_at or asked.cdr.offered_at),
        **({"plan": plan} if plan else {}),
        **asked.keeps,
    }
    return Repriced(cost_micros, -(-billed_ms // 1000), facts)
