"""Plans as the catalogue holds them: read from SQL, ready to be searched by prefix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlmodel import Session, col, select

from billing.models import (
    SECONDS,
    AccountDiscount,
    AccountRate,
    Bundle,
    Carrier,
    ExchangeRate,
    MinMargin,
    Route,
    Tariff,
    TariffMarkup,
    Wallet,
    WalletKind,
)
from billing.plans.margins import Least
from billing.plans.volumes import Volume, read_volumes
from rating.parts import RoundingMode
from rating.plans import MarkUp, less
from rating.prefixes import PrefixMap, RateMap
from rating.tariff import Rate

T = TypeVar("T")
FOR_EVER = datetime.max.replace(tzinfo=UTC)


class Rates(Protocol):
    """What finds the rate of a number: a map in memory, or the store itself."""

    def longest(self, number: str, at: datetime) -> Rate | None:
        """Return the rate of the longest prefix of `number` that is in force."""


@dataclass(frozen=True, slots=True)
class Sale:
    """A group of prefixes that a tariff sells at the prices of another one, marked up."""

    prefix: str
    from_tariff_id: int
    markup: MarkUp

    def facts(self) -> dict[str, Any]:
        """Return the mark-up as a charge keeps it."""
        markup = self.markup
        return {
            "prefix": self.prefix,
            "percent": text(markup.percent),
            "least_per_min": text(markup.least_per_min),
            "decimals": markup.decimals,
            "mode": markup.mode.value,
        }


@dataclass(frozen=True, slots=True)
class Discount:
    """So many percent off, for numbers that begin with `prefix`."""

    prefix: str
    percent: Decimal
    factor: Decimal


@dataclass(frozen=True, slots=True)
class Exchange:
    """One `from_currency` is `value` of `to_currency`, from `at` on, as `source` says."""

    from_currency: str
    to_currency: str
    value: Decimal
    source: str
    at: datetime

    def facts(self) -> dict[str, Any]:
        """Return it as a charge keeps it."""
        at = self.at.astimezone(UTC).isoformat()
        told = {"from": self.from_currency, "to": self.to_currency, "value": text(self.value)}
        return {**told, "source": self.source, "at": at}


Exchanges: TypeAlias = Mapping[tuple[str, str], tuple[Exchange, ...]]
"""The exchange rates of a pair of currencies, the latest first."""


@dataclass(frozen=True, slots=True)
class BundleOf:
    """Seconds that an account may talk to numbers that begin with one of `prefixes`, until `expires_at`."""

    name: str
    wallet_id: int
    to_wallet_id: int
    prefixes: tuple[str, ...]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one account has beside its tariff; None where it has nothing of the kind."""

    rates: RateMap | None = None
    discounts: PrefixMap[Discount] | None = None
    least: Least | None = None
    bundles: tuple[BundleOf, ...] = ()
    """In the order in which they are used."""
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True)
class Carried:
    """Who carries calls to numbers of a prefix, by which tariff, and where its cost is posted."""

    carrier_id: int
    carrier: str
    tariff_id: int
    wallet_id: int
    to_wallet_id: int


def text(number: Decimal) -> str:
    """Write a decimal without exponent and trailing zeros."""
    plain = f"{number:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def read_plans(session: Session) -> dict[int, Plan]:
    """Return the plan of each account that has one."""
    discounts = _by_owner(
        (row.account_id, Discount(row.prefix, Decimal(row.percent), less(Decimal(row.percent))))
        for row in session.exec(select(AccountDiscount))
    )
    rates = _by_owner((row.account_id, Rate.from_facts(row.facts)) for row in session.exec(select(AccountRate)))
    least = {row.account_id: _least(row) for row in session.exec(select(MinMargin)) if row.account_id is not None}
    bundles = _read_bundles(session)
    volumes = read_volumes(session)[0]
    return {
        account_id: Plan(
            rates=RateMap(rates[account_id]) if account_id in rates else None,
            discounts=PrefixMap((one.prefix, one) for one in discounts[account_id])
            if account_id in discounts
            else None,
            least=least.get(account_id),
            bundles=tuple(bundles.get(account_id, ())),
            volumes=tuple(volumes.get(account_id, ())),
        )
        for account_id in {*discounts, *rates, *least, *bundles, *volumes}
    }


def _read_bundles(session: Session) -> dict[int, list[BundleOf]]:
    """Return each account's bundles, in the order in which they are used."""
    minutes = select(Wallet.id).where(Wallet.kind == WalletKind.MINUTES, Wallet.currency == SECONDS)
    to_wallet_id = session.exec(minutes).first()
    if to_wallet_id is None:
        return {}
    rows = session.exec(select(Bundle).where(col(Bundle.expired_at).is_(None))).all()
    ordered = sorted(rows, key=lambda row: (row.priority, row.expires_at or FOR_EVER, row.id))
    return _by_owner(
        (row.account_id, BundleOf(row.name, row.wallet_id, to_wallet_id, tuple(row.prefixes), row.expires_at))
        for row in ordered
    )


def read_least(session: Session) -> dict[int, Least]:
    """Return what calls sold in a tariff must earn, of each tariff that says so."""
    return {row.tariff_id: _least(row) for row in session.exec(select(MinMargin)) if row.tariff_id is not None}


def any_least(session: Session) -> bool:
    """Return whether any account or tariff says what its calls must earn."""
    return session.exec(select(MinMargin.id).limit(1)).first() is not None


def _least(row: MinMargin) -> Least:
    return Least(
        Decimal(row.percent) if row.percent else None,
        Decimal(row.per_min) if row.per_min else None,
    )


def read_routes(session: Session) -> PrefixMap[Carried]:
    """Return who carries calls, by prefix. A carrier whose ledger accounts are not there yet carries nothing."""
    kinds = (WalletKind.CARRIER_COST, WalletKind.CARRIER_PAYABLE)
    ledger = {
        (kind, currency): wallet_id
        for kind, currency, wallet_id in session.exec(
            select(Wallet.kind, Wallet.currency, Wallet.id).where(col(Wallet.kind).in_(kinds))
        )
    }
    asked = (
        select(Route.prefix, Carrier, Tariff.currency)
        .join(Carrier, col(Route.carrier_id) == col(Carrier.id))
        .join(Tariff, col(Carrier.tariff_id) == col(Tariff.id))
    )
    found: list[tuple[str, Carried]] = []
    for prefix, carrier, currency in session.exec(asked):
        cost, payable = (ledger.get((kind, currency)) for kind in kinds)
        if cost is not None and payable is not None:
            carried = Carried(carrier.id or 0, carrier.name, carrier.tariff_id, cost, payable)
            found.append((prefix, carried))
    return PrefixMap(found)


def read_sales(session: Session) -> dict[int, PrefixMap[Sale]]:
    """Return the mark-ups of each tariff that is derived from others."""
    sales = _by_owner((row.tariff_id, sale_of(row)) for row in session.exec(select(TariffMarkup)))
    return {tariff_id: PrefixMap((sale.prefix, sale) for sale in found) for tariff_id, found in sales.items()}


def sale_of(row: TariffMarkup) -> Sale:
    """Read a row."""
    markup = MarkUp(Decimal(row.percent), Decimal(row.least_per_min), row.decimals, RoundingMode(row.mode))
    return Sale(row.prefix, row.from_tariff_id, markup)


def read_exchanges(session: Session) -> Exchanges:
    """Return every exchange rate."""
    found: defaultdict[tuple[str, str], list[Exchange]] = defaultdict(list)
    for row in session.exec(select(ExchangeRate).order_by(col(ExchangeRate.at).desc())):
        pair = (row.from_currency, row.to_currency)
        found[pair].append(Exchange(*pair, Decimal(row.value), row.source, row.at))
    return {pair: tuple(rates) for pair, rates in found.items()}


def find_exchange(exchanges: Exchanges, from_currency: str, to_currency: str, at: datetime) -> Exchange | None:
    """Return the exchange rate in force at a time; None where nobody has set one."""
    return next((one for one in exchanges.get((from_currency, to_currency), ()) if one.at <= at), None)


def _by_owner(pairs: Iterable[tuple[int, T]]) -> dict[int, list[T]]:
    found: defaultdict[int, list[T]] = defaultdict(list)
    for owner, one in pairs:
        found[owner].append(one)
    return found
