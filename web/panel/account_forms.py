"""What a person types about an account: from a form into changes, and from an account into a form. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from starlette.datastructures import FormData

from billing.account_changes import Changes
from billing.accounts import AccountView
from billing.errors import Refused
from billing.models import BillingMode, IdentityKind
from rating.errors import AmountError
from rating.money import format_amount, parse_amount

TEXTS: Final = ("name", "timezone", "language", "brand")
COUNTS: Final = {"max_calls": "Calls at once", "max_cps": "New calls a second"}
AMOUNTS: Final = {
    "max_day": "Cost of a day",
    "max_call": "Cost of a call",
    "low_balance": "Low balance",
    "clear_balance": "Cleared at",
}
LISTS: Final = ("barred", "allowed", "hours")
MOST_FIELD: Final = 20_000
MODES: Final = {
    BillingMode.PREPAID: "Prepaid: pays before it calls",
    BillingMode.POSTPAID: "Postpaid: pays after a period, up to its credit limit",
    BillingMode.PAYG: "Pay as you go: topped up when little is left",
    BillingMode.FLAT: "Flat rate: a fee for a period",
}
KINDS: Final = {
    IdentityKind.ACCOUNT_CODE: "Account code",
    IdentityKind.SIP_USER: "SIP user",
    IdentityKind.SOURCE_ADDRESS: "Source address",
    IdentityKind.CALLER_NUMBER: "Caller's number",
    IdentityKind.DID: "Number dialled (inbound)",
    IdentityKind.PIN: "PIN",
}


def filled(account: AccountView) -> dict[str, str]:
    """Return the form of an account as it is."""
    form = {field: getattr(account, field) for field in TEXTS}
    form |= {field: _text(getattr(account, field)) for field in COUNTS}
    form |= {field: _amount(getattr(account, f"{field}_micros")) for field in AMOUNTS}
    form |= {field: "\n".join(getattr(account, field)) for field in LISTS}
    form |= {
        "billing_mode": account.billing_mode.value,
        "credit_limit": _amount(account.credit_limit_micros),
        "tariff": account.tariff or "",
    }
    return form


def typed(form: FormData) -> dict[str, str]:
    """Return what was typed, as text and no longer than anything we keep."""
    return {name: value[:MOST_FIELD] for name, value in form.multi_items() if isinstance(value, str)}


def changes_of(form: Mapping[str, str]) -> Changes:
    """Return a form as changes; an empty field is no limit. Raises `Refused` with what is wrong, in a sentence."""
    changes: dict[str, Any] = {field: form[field].strip() for field in TEXTS if field in form}
    changes |= {field: _count(form[field], label) for field, label in COUNTS.items() if field in form}
    changes |= {f"{field}_micros": _micros(form[field], label) for field, label in AMOUNTS.items() if field in form}
    changes |= {field: _lines(form[field]) for field in LISTS if field in form}
    if "credit_limit" in form:
        changes["credit_limit_micros"] = _micros(form["credit_limit"], "Credit limit") or 0
    if "tariff" in form:
        changes["tariff"] = form["tariff"].strip() or None
    if "billing_mode" in form:
        if form["billing_mode"] not in set(BillingMode):
            raise Refused("Choose when the account pays.")
        changes["billing_mode"] = BillingMode(form["billing_mode"])
    return cast("Changes", changes)


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _amount(micros: int | None) -> str:
    return "" if micros is None else format_amount(micros)


def _count(text: str, label: str) -> int | None:
    digits = text.strip()
    if not digits:
        return None
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):  # noqa: PLR2004 - more than any limit has
        raise Refused(f"{label}: expected a whole number, or nothing for no limit.")
    return int(digits)


def _micros(text: str, label: str) -> int | None:
    if not text.strip():
        return None
    try:
        return parse_amount(text.strip())
    except AmountError as error:
        raise Refused(f"{label}: {error}") from error


def _lines(text: str) -> list[str]:
    """Read one entry a line; commas and semicolons part them as well."""
    return [
        entry.strip() for line in text.replace(";", "\n").replace(",", "\n").splitlines() if (entry := line.strip())
    ]
