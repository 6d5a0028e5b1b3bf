"""The screens of the panel, in the order of the side bar. On a phone the first four are at the thumb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

OWNERS = "audit:write"
"""What an owner alone may."""


class Allowed(Protocol):
    """Somebody who may do some things."""

    def may(self, scope: str) -> bool:
        """Return whether this is one of them."""

    @property
    def sees_all(self) -> bool:
        """Whether they see the whole tree."""

    @property
    def sells(self) -> bool:
        """Whether they may have customers: all but a customer's people."""


@dataclass(frozen=True, slots=True)
class Screen:
    """A place in the side bar; all addresses that begin with `path` belong to it.

    `scope` is what one must be allowed to do to see it; `whole` where it is for administrators only, `sells` where
    it is for those who have customers; `own_label` is its name for a customer, who sees one account.
    """

    path: str
    label: str
    icon: str
    scope: str = OWNERS
    whole: bool = False
    sells: bool = False
    own_label: str = ""

    def label_for(self, principal: Allowed) -> str:
        """Return what the screen is called for somebody."""
        return self.own_label if self.own_label and not principal.sells else self.label

    def holds(self, path: str) -> bool:
        """Return whether an address belongs to this screen."""
        return path == self.path or (self.path != "/" and path.startswith(self.path))


GROUPS: tuple[tuple[str, tuple[Screen, ...]], ...] = (
    (
        "",
        (
            Screen("/", "Overview", "layout-dashboard", "books:read"),
            Screen("/live", "Live calls", "phone-call", "calls:read"),
            Screen("/accounts", "Accounts", "users", "accounts:read", own_label="My account"),
            Screen("/cdrs", "Call records", "list-details", "cdrs:read"),
        ),
    ),
    (
        "Prices",
        (
            Screen("/tariffs", "Tariffs", "tag", "tariffs:read", own_label="What calls cost"),
            Screen("/carriers", "Carriers", "route", "tariffs:read", whole=True),
            Screen("/exchange", "Exchange rates", "arrows-exchange", "tariffs:read", whole=True),
            Screen("/reratings", "Re-rating", "refresh", "cdrs:read", whole=True),
        ),
    ),
    (
        "Money",
        (
            Screen("/vouchers", "Vouchers", "ticket", "vouchers:read"),
            Screen("/commissions", "Commissions", "percentage", "money:read", sells=True),
            Screen("/books", "Books", "scale", "books:read", whole=True),
        ),
    ),
    (
        "System",
        (
            Screen("/alerts", "Alerts", "bell", "alerts:read"),
            Screen("/fraud", "Fraud guard", "shield-half", "alerts:read", sells=True),
            Screen("/notifications", "Notifications", "send", "webhooks:read"),
            Screen("/people", "People", "user-shield", "users:read"),
            Screen("/keys", "API keys", "key", "keys:read"),
            Screen("/audit", "Audit log", "history", "audit:read"),
        ),
    ),
)
"""Each group with its name; an empty one is not shown."""


def groups_for(principal: Allowed) -> list[tuple[str, list[Screen]]]:
    """Return the groups with the screens that a person may see."""

    def sees(screen: Screen) -> bool:
        parts = (principal.sees_all or not screen.whole) and (principal.sells or not screen.sells)
        return parts and principal.may(screen.scope)

    seen = [(name, [screen for screen in screens if sees(screen)]) for name, screens in GROUPS]
    return [(name, screens) for name, screens in seen if screens]
