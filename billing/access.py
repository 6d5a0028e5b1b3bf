"""Who may do what: permissions by area, roles as named sets of them, and the part of the tree a principal reaches.

One vocabulary for people and programs: a role of the panel and the scopes of an API key are both sets of permissions
such as "money:write". To write in an area includes to read in it. Whatever a principal may do, it does to its own
account and what hangs below; everything else does not exist for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Select
from sqlmodel import Session, select

from billing.errors import NotFound, Refused
from billing.models import Account, AccountKind
from billing.subtree import ids_within, is_within

READ, WRITE = "read", "write"


class Area(StrEnum):
    """What a permission is about."""

    ACCOUNTS = "accounts"
    """Accounts, their identities and limits."""
    MONEY = "money"
    """Balances, holds, statements; top-ups and transfers."""
    CORRECTIONS = "corrections"
    """Adjustments and reversals: money that comes from nowhere else."""
    CALLS = "calls"
    """Live calls; ending them."""
    CDRS = "cdrs"
    """Records of calls; writing is corrections of them."""
    TARIFFS = "tariffs"
    """Tariffs, quotes; imports."""
    VOUCHERS = "vouchers"
    ALERTS = "alerts"
    """Fraud alerts and low balances; lifting them."""
    WEBHOOKS = "webhooks"
    BOOKS = "books"
    """The check of all money; parked accounts."""
    KEYS = "keys"
    USERS = "users"
    """People who log in, and their sessions."""
    AUDIT = "audit"


def _all(*areas: Area, may: str) -> frozenset[str]:
    return frozenset(f"{area.value}:{may}" for area in areas)


SCOPES: tuple[str, ...] = tuple(f"{area.value}:{may}" for area in Area for may in (READ, WRITE))
"""Every permission there is."""

RESELLER_AREAS = (
    Area.ACCOUNTS,
    Area.MONEY,
    Area.CALLS,
    Area.TARIFFS,
    Area.VOUCHERS,
    Area.ALERTS,
    Area.WEBHOOKS,
    Area.KEYS,
    Area.USERS,
)
CUSTOMER_AREAS = (Area.ACCOUNTS, Area.MONEY, Area.CALLS, Area.CDRS, Area.TARIFFS, Area.ALERTS)


class Role(StrEnum):
    """What a person is. The first four are administrators; the others belong to an account."""

    OWNER = "owner"
    BILLING = "billing"
    SUPPORT = "support"
    READ_ONLY = "read_only"
    RESELLER = "reseller"
    CUSTOMER = "customer"


ADMINISTRATORS = frozenset({Role.OWNER, Role.BILLING, Role.SUPPORT, Role.READ_ONLY})

ROLES: dict[Role, frozenset[str]] = {
    Role.OWNER: frozenset(SCOPES),
    Role.BILLING: _all(
        Area.ACCOUNTS, Area.MONEY, Area.CORRECTIONS, Area.CDRS, Area.TARIFFS, Area.VOUCHERS, Area.ALERTS, may=WRITE
    )
    | _all(Area.CALLS, Area.BOOKS, Area.WEBHOOKS, Area.AUDIT, may=READ),
    Role.SUPPORT: _all(Area.CALLS, Area.ALERTS, may=WRITE)
    | _all(Area.ACCOUNTS, Area.MONEY, Area.CDRS, Area.TARIFFS, Area.VOUCHERS, Area.BOOKS, may=READ),
    Role.READ_ONLY: _all(*Area, may=READ),
    Role.RESELLER: _all(*RESELLER_AREAS, may=WRITE) | _all(Area.CDRS, may=READ),
    Role.CUSTOMER: _all(*CUSTOMER_AREAS, may=READ) | _all(Area.CALLS, may=WRITE),
}

CEILINGS: dict[AccountKind, frozenset[str]] = {
    AccountKind.OPERATOR: ROLES[Role.OWNER],
    AccountKind.RESELLER: ROLES[Role.RESELLER],
    AccountKind.CUSTOMER: ROLES[Role.CUSTOMER],
}
"""What a key that acts for an account can be given at most."""


def covers(scopes: Collection[str], needed: str) -> bool:
    """Return whether these permissions include one. Writing includes reading."""
    area, _, may = needed.partition(":")
    return needed in scopes or (may == READ and f"{area}:{WRITE}" in scopes)


def covers_all(scopes: Collection[str], wanted: Iterable[str]) -> bool:
    """Return whether these permissions include all of those: nobody gives away what they have not."""
    return all(covers(scopes, one) for one in wanted)


def check_scopes(wanted: Iterable[str]) -> list[str]:
    """Return the permissions once each, in the order of `SCOPES`. Raises `Refused` for none, or an unknown one."""
    given = set(wanted)
    unknown = sorted(given - set(SCOPES))
    if unknown:
        raise Refused(f"there is no scope {unknown[0][:40]!r}; scopes are an area and read or write, as in money:read")
    if not given:
        raise Refused("a key without scopes could do nothing")
    return [scope for scope in SCOPES if scope in given]


@dataclass(frozen=True, slots=True)
class Reach:
    """The part of the tree that a principal sees: an account and all below it. `whole` where it is the operator's."""

    account_id: int
    kind: AccountKind

    @property
    def whole(self) -> bool:
        """Whether this is everything."""
        return self.kind is AccountKind.OPERATOR

    @property
    def within(self) -> int | None:
        """The root of the subtree as `billing.subtree` and its users take it; None is everything."""
        return None if self.whole else self.account_id

    def see(self, session: Session, account_id: int) -> Account:
        """Return an account in reach. Raises `NotFound`, the same for a foreign account as for none at all."""
        found = session.get(Account, account_id)
        if found is None or not is_within(session, self.within, account_id):
            raise NotFound(f"there is no account '{account_id}'")
        return found

    def see_below(self, session: Session, account_id: int) -> Account:
        """Return an account below one's own: what one may change. One's own is `Refused`, the rest `NotFound`."""
        found = self.see(session, account_id)
        if account_id == self.account_id:
            raise Refused("an account is changed by who stands above it")
        return found

    def holds(self, session: Session, account_id: int) -> bool:
        """Return whether an account that exists is in reach."""
        return is_within(session, self.within, account_id)

    def ids(self) -> Select[tuple[int]]:
        """Return a query of the ids in reach, for `IN`."""
        return ids_within(self.account_id)


def operators_reach(session: Session) -> Reach:
    """Return the whole tree. Raises `NotFound` before there is an operator."""
    found = session.exec(select(Account.id).where(Account.kind == AccountKind.OPERATOR)).first()
    if found is None:
        raise NotFound("there is no operator yet")
    return Reach(found, AccountKind.OPERATOR)


def reach_of(session: Session, account_id: int | None) -> Reach:
    """Return what an account's people and keys see; None is an administrator's, the whole. Raises `NotFound`."""
    if account_id is None:
        return operators_reach(session)
    found = session.exec(select(Account.kind).where(Account.id == account_id)).first()
    if found is None:
        raise NotFound(f"there is no account {account_id}")
    return Reach(account_id, AccountKind(found))


def role_of(word: str) -> Role | None:
    """Return the role of this name; a name that is none may do nothing."""
    return Role(word) if word in set(Role) else None
