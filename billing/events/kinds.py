"""What can happen, in the names that listeners subscribe to and receive."""

from __future__ import annotations

from enum import StrEnum


class EventKind(StrEnum):
    """The kinds of events. What each one's `data` holds is in docs/webhooks.md."""

    CALL_ENDED = "call.ended"
    BALANCE_LOW = "balance.low"
    BALANCE_CLEARED = "balance.cleared"
    TOPUP_CREATED = "topup.created"
    ACCOUNT_BLOCKED = "account.blocked"
    FRAUD_ALERT = "fraud.alert"
    BOOKS_BROKEN = "books.broken"


MEANINGS = {
    EventKind.CALL_ENDED: "a call has its record",
    EventKind.BALANCE_LOW: "a balance fell below the account's threshold",
    EventKind.BALANCE_CLEARED: "a balance that was low is well again",
    EventKind.TOPUP_CREATED: "money came into a wallet",
    EventKind.ACCOUNT_BLOCKED: "an account can make no new calls",
    EventKind.FRAUD_ALERT: "a rule of the fraud guard was broken, or PINs are being guessed",
    EventKind.BOOKS_BROKEN: "an invariant of the books does not hold",
}


def kind_of_alert(kind: str, *, cleared: bool) -> EventKind | None:
    """Return as what an alert is told, None where it is not."""
    match kind.partition(".")[0], cleared:
        case "balance", False if kind == EventKind.BALANCE_LOW:
            return EventKind.BALANCE_LOW
        case "balance", True if kind == EventKind.BALANCE_LOW:
            return EventKind.BALANCE_CLEARED
        case "fraud" | "pins", False:
            return EventKind.FRAUD_ALERT
        case "books", False:
            return EventKind.BOOKS_BROKEN
        case _:
            return None
