"""What a controller must know to admit a call without asking SQL: accounts, identities, tariffs, rates.

An immutable snapshot in memory with a version; a controller loads it anew when the version in SQL has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from billing.decks.rows import terms_by_id, version_rows
from billing.errors import LedgerBroken
from billing.fraud.judge import NOTHING, Rule
from billing.fraud.numbers import Prefixes
from billing.limits import networks_of, read_hours
from billing.models import (
    Account,
    AccountKind,
    AccountStatus,
    Identity,
    IdentityKind,
    Meta,
    Tariff,
    Wallet,
    WalletKind,
    id_of,
)
from billing.models.fraud import FraudAction, FraudRule, RiskyRange
from billing.plans.margins import Least
from billing.plans.reading import (
    Carried,
    Exchanges,
    Plan,
    Rates,
    Sale,
    any_least,
    read_exchanges,
    read_least,
    read_plans,
    read_routes,
    read_sales,
)
from billing.plans.volumes import Usage, Volume, any_volumes, read_usage, read_volumes
from rating.decks.deck import rate_map
from rating.parts import Rounding, RoundingMode, When
from rating.prefixes import PrefixMap, RateMap

MOST_LEVELS = 32
"""A chain of payers is never longer; a longer one is a circle."""
NO_ROUNDING = Rounding()
NO_ROUTES: PrefixMap[Carried] = PrefixMap({})
VERSION_KEY = "catalogue"
"""The row of `meta` that counts changes."""


@dataclass(frozen=True, slots=True)
class Party:
    """One account in a chain of payers, whatever its status.

    `to_wallet_id`: who gets its money (the parent's wallet, or the operator's income).
    """

    account_id: int
    name: str
    kind: AccountKind
    status: AccountStatus
    wallet_id: int
    to_wallet_id: int
    currency: str
    tariff_id: int | None
    credit_limit_micros: int
    max_calls: int | None
    max_cps: int | None
    barred: tuple[str, ...]
    allowed: tuple[str, ...] = ()
    """Where it may call to; empty: wherever it has a rate."""
    hours: tuple[When, ...] = ()
    """When its calls may begin, on its own clock; empty: at any time."""
    timezone: str = "UTC"
    max_call_micros: int | None = None
    max_day_micros: int | None = None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class TariffBook:
    """A tariff ready to use. `sales`: what it sells at the prices of other tariffs, marked up."""

    id: int
    name: str
    version: int
    currency: str
    rates: Rates
    rounding: Rounding = NO_ROUNDING
    sales: PrefixMap[Sale] | None = None
    least: Least | None = None
    """What a call sold in it must earn."""
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of the fraud guard that refuse single calls, by the account they hold for and below."""

    rules: Mapping[int, tuple[Rule, ...]] = field(default_factory=dict)
    ranges: Prefixes = NOTHING


NO_GUARD = Guard()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The snapshot.

    `chains` maps an identity to its payers: the payer first, then its resellers, without the operator.
    """

    version: int
    chains: Mapping[tuple[IdentityKind, str], tuple[Party, ...]] = field(repr=False)
    tariffs: Mapping[int, TariffBook] = field(repr=False)
    parties: Mapping[int, Party] = field(repr=False)
    networks: tuple[tuple[int, int], ...] = ()
    """The (IP version, length) of the source addresses that name a payer, the longest first."""
    parents: Mapping[int, int] = field(default_factory=dict, repr=False)
    exchanges: Exchanges = field(default_factory=dict, repr=False)
    routes: PrefixMap[Carried] = field(default=NO_ROUTES, repr=False)
    usage: Usage = field(default_factory=dict, repr=False)
    """What was used of volume plans, as it was last read."""

    must_earn: bool = True
    """Whether an account or a tariff says what its calls must earn."""
    counts: bool = False
    """Whether there is a plan that looks at what was used."""

    guard: Guard = NO_GUARD

    def guarded(self, chain: Sequence[Party], number: str) -> bool:
        """Return whether the fraud guard lets nobody of this chain call there."""
        if not self.guard.rules:
            return False
        accounts = [*(party.account_id for party in chain), self.parents.get(chain[-1].account_id, 0)]
        return any(
            rule.holds_in(accounts) and rule.looks_at(number, self.guard.ranges)
            for account_id in accounts
            for rule in self.guard.rules.get(account_id, ())
        )

    def payers(self, account_id: int) -> tuple[Party, ...]:
        """Return who pays for an account's calls, the account first; nobody where there is no such account."""
        return _chain(account_id, self.parties, self.parents)

    def chain(self, kind: IdentityKind, value: str) -> tuple[Party, ...] | None:
        """Return who pays for calls that carry this identity; an address is the smallest network's that holds it."""
        if kind is IdentityKind.SOURCE_ADDRESS:
            known = (self.chains.get((kind, network)) for network in networks_of(value, self.networks))
            return next((chain for chain in known if chain is not None), None)
        return self.chains.get((kind, value))


def load_catalogue(
    session: Session,
    previous: Catalogue | None = None,
    *,
    rates: Callable[[Session, Tariff], Rates] | None = None,
    pins: bool = False,
) -> Catalogue:
    """Read everything; the tariffs that have not changed since `previous` are taken from there.

    `rates` says where those of a tariff are found, if not in memory; `pins`, whether a PIN names a payer here.
    The version is read first: what changes meanwhile is at worst read early, and loaded again with the next version.
    """
    version = catalogue_version(session)
    parties, parents = _parties(session)
    chains: dict[tuple[IdentityKind, str], tuple[Party, ...]] = {}
    for identity in session.exec(select(Identity).where(col(Identity.freed_at).is_(None))):
        chain = _chain(identity.account_id, parties, parents)
        if chain and (pins or identity.kind is not IdentityKind.PIN):
            chains[identity.kind, identity.value] = chain
    known = previous.tariffs if previous else {}
    return Catalogue(
        version=version,
        chains=chains,
        tariffs=_tariffs(session, known, rates),
        parties=parties,
        networks=_networks(chains),
        parents=parents,
        exchanges=read_exchanges(session),
        routes=read_routes(session),
        usage=read_usage(session),
        must_earn=any_least(session),
        counts=any_volumes(session),
        guard=_guard(session),
    )


def _guard(session: Session) -> Guard:
    rules: dict[int, tuple[Rule, ...]] = {}
    asked = select(FraudRule).where(FraudRule.action == FraudAction.REFUSE, col(FraudRule.ended_at).is_(None))
    for row in session.exec(asked.order_by(col(FraudRule.id))):
        rules[row.account_id] = (*rules.get(row.account_id, ()), Rule.of(row))
    if not any(rule.risky for of_account in rules.values() for rule in of_account):
        return Guard(rules)
    return Guard(rules, Prefixes.of(list(session.exec(select(RiskyRange.prefix)))))


def catalogue_version(session: Session) -> int:
    """Return the version in SQL, cheaply."""
    return session.exec(select(Meta.value).where(Meta.key == VERSION_KEY)).one()


def bump_catalogue(session: Session) -> None:
    """Say that something a controller must know has changed. Called by every change of accounts and tariffs."""
    session.execute(update(Meta).where(col(Meta.key) == VERSION_KEY).values(value=Meta.value + 1))


def _parties(session: Session) -> tuple[dict[int, Party], dict[int, int]]:
    """Return every account with a money wallet, and each one's parent; the operator is in neither."""
    money = {
        account_id: wallet_id or 0
        for account_id, wallet_id in session.exec(
            select(Wallet.account_id, Wallet.id).where(Wallet.kind == WalletKind.MONEY)
        )
    }
    income = {
        (account_id, currency): wallet_id or 0
        for account_id, currency, wallet_id in session.exec(
            select(Wallet.account_id, Wallet.currency, Wallet.id).where(Wallet.kind == WalletKind.INCOME)
        )
    }
    plans = read_plans(session)
    parties: dict[int, Party] = {}
    parents: dict[int, int] = {}
    for row in session.exec(select(Account).where(Account.kind != AccountKind.OPERATOR)):
        account_id, parent_id = id_of(row), row.parent_id
        if parent_id is None or account_id not in money:
            continue
        parents[account_id] = parent_id
        parties[account_id] = Party(
            account_id=account_id,
            name=row.name,
            kind=row.kind,
            status=row.status,
            wallet_id=money[account_id],
            to_wallet_id=money[parent_id] if parent_id in money else income[parent_id, row.currency],
            currency=row.currency,
            tariff_id=row.tariff_id,
            credit_limit_micros=row.credit_limit_micros,
            max_calls=row.max_calls,
            max_cps=row.max_cps,
            barred=tuple(row.barred),
            allowed=tuple(row.allowed),
            hours=read_hours(row.hours),
            timezone=row.timezone,
            max_call_micros=row.max_call_micros,
            max_day_micros=row.max_day_micros,
            plan=plans.get(account_id),
        )
    return parties, parents


def _networks(chains: Mapping[tuple[IdentityKind, str], Any]) -> tuple[tuple[int, int], ...]:
    found = {ip_network(value) for kind, value in chains if kind is IdentityKind.SOURCE_ADDRESS}
    return tuple(sorted({(network.version, network.prefixlen) for network in found}, key=lambda one: (-one[1], one[0])))


def _chain(account_id: int, parties: Mapping[int, Party], parents: Mapping[int, int]) -> tuple[Party, ...]:
    chain: list[Party] = []
    at = account_id
    while at in parties:
        chain.append(parties[at])
        if len(chain) > MOST_LEVELS:
            raise LedgerBroken(f"the accounts above account {account_id} do not end: {[one.name for one in chain]}")
        at = parents[at]
    return tuple(chain)


def _tariffs(
    session: Session, known: Mapping[int, TariffBook], rates: Callable[[Session, Tariff], Rates] | None
) -> dict[int, TariffBook]:
    tariffs: dict[int, TariffBook] = {}
    sales, leasts = read_sales(session), read_least(session)
    volumes = read_volumes(session)[1]
    for row in session.exec(select(Tariff)):
        tariff_id, book = id_of(row), known.get(id_of(row))
        if book is not None and book.name != row.name and rates is None:
            book = replace(book, name=row.name)  # a new name alone: there may be a million rates
        if book is None or (book.version, book.name, book.currency) != (row.version, row.name, row.currency):
            rounding = Rounding(RoundingMode(row.rounding_mode), row.rounding_decimals)
            found = rates(session, row) if rates else _rates(session, tariff_id)
            sold = sales.get(tariff_id)
            book = TariffBook(tariff_id, row.name, row.version, row.currency, found, rounding, sold)
        around = leasts.get(tariff_id), tuple(volumes.get(tariff_id, ()))
        if (book.least, book.volumes) != around:
            book = replace(book, least=around[0], volumes=around[1])
        tariffs[tariff_id] = book
    return tariffs


def _rates(session: Session, tariff_id: int) -> RateMap:
    """Read the rates of a tariff, scheduled ones included: there may be a million.

    Many prefixes have the same terms; these are read and checked once.
    """
    rows = version_rows(session, tariff_id)
    return rate_map(rows, terms_by_id(session, rows["terms"].unique().to_list()))
