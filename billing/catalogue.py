"""What a controller must know to admit a call without asking SQL: accounts, identities, tariffs, rates.

An immutable snapshot in memory with a version; a controller loads it anew when the version in SQL has moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import update
from sqlmodel import Session, col, select

from billing.models import AccountKind, AccountStatus, IdentityKind, Meta
from rating.prefixes import PrefixMap
from rating.tariff import Rate

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


@dataclass(frozen=True, slots=True)
class TariffBook:
    """A tariff ready to use."""

    id: int
    name: str
    version: int
    currency: str
    rates: PrefixMap[Rate]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The snapshot.

    `chains` maps an identity to its payers: the payer first, then its resellers, without the operator.
    """

    version: int
    chains: Mapping[tuple[IdentityKind, str], tuple[Party, ...]] = field(repr=False)
    tariffs: Mapping[int, TariffBook] = field(repr=False)
    parties: Mapping[int, Party] = field(repr=False)

    def chain(self, kind: IdentityKind, value: str) -> tuple[Party, ...] | None:
        """Return who pays for calls that carry this identity."""
        return self.chains.get((kind, value))


def load_catalogue(session: Session) -> Catalogue:
    """Read everything."""
    raise NotImplementedError


def catalogue_version(session: Session) -> int:
    """Return the version in SQL, cheaply."""
    return session.exec(select(Meta.value).where(Meta.key == VERSION_KEY)).one()


def bump_catalogue(session: Session) -> None:
    """Say that something a controller must know has changed. Called by every change of accounts and tariffs."""
    session.execute(update(Meta).where(col(Meta.key) == VERSION_KEY).values(value=Meta.value + 1))
