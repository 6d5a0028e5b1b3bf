"""The screens of the panel, in the order of the side bar. On a phone the first four are at the thumb."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Screen:
    """A place in the side bar; all addresses that begin with `path` belong to it."""

    path: str
    label: str
    icon: str

    def holds(self, path: str) -> bool:
        """Return whether an address belongs to this screen."""
        return path == self.path or (self.path != "/" and path.startswith(self.path))


GROUPS: tuple[tuple[str, tuple[Screen, ...]], ...] = (
    (
        "",
        (
            Screen("/", "Overview", "layout-dashboard"),
            Screen("/live", "Live calls", "phone-call"),
            Screen("/accounts", "Accounts", "users"),
            Screen("/cdrs", "Call records", "list-details"),
        ),
    ),
    (
        "Prices",
        (Screen("/tariffs", "Tariffs", "tag"),),
    ),
    (
        "Money",
        (Screen("/vouchers", "Vouchers", "receipt"), Screen("/books", "Books", "scale")),
    ),
    (
        "System",
        (
            Screen("/alerts", "Alerts", "bell"),
            Screen("/fraud", "Fraud guard", "shield-half"),
            Screen("/notifications", "Notifications", "send"),
        ),
    ),
)
"""Each group with its name; an empty one is not shown."""
