"""What `callctl account add` and `set` take alike: the settings of an account, as options and back into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, cast

import typer

from billing.account_changes import Changes
from billing.accounts import AccountView
from billing.models import BillingMode, IdentityKind
from callctl.cli.output import moment, money
from rating.money import format_amount, parse_amount

NONE = "none"
"""Takes a limit away."""
KINDS = ", ".join(kind.value for kind in IdentityKind if kind is not IdentityKind.PIN)

Mode = Annotated[
    BillingMode | None,
    typer.Option("--mode", help="When it pays; without one, what the credit limit says: postpaid or prepaid."),
]
Credit = Annotated[str | None, typer.Option(help="How far its balance may fall below zero.")]
Zone = Annotated[str | None, typer.Option("--timezone", help="Its clock, such as Europe/Berlin: for hours and days.")]
Language = Annotated[str | None, typer.Option(help="The language of its announcements and letters, such as de.")]
Brand = Annotated[str | None, typer.Option(help="The name that a reseller's customers see.")]
Calls = Annotated[str | None, typer.Option(help="Calls at once.", metavar="N|none")]
Cps = Annotated[str | None, typer.Option(help="New calls a second.", metavar="N|none")]
Day = Annotated[
    str | None, typer.Option("--max-day", help="What its calls may cost in a day of its clock.", metavar="AMOUNT|none")
]
Call = Annotated[str | None, typer.Option("--max-call", help="What one call may cost.", metavar="AMOUNT|none")]
Bar = Annotated[list[str] | None, typer.Option(help="A prefix it must not call; may repeat.")]
Allow = Annotated[
    list[str] | None, typer.Option(help="A prefix it may call; with one, it may call nothing else; may repeat.")
]
Hours = Annotated[
    list[str] | None,
    typer.Option(help='When its calls may begin, such as "mon-fri 08:00-18:00"; may repeat.', metavar="HOURS"),
]
Low = Annotated[
    str | None,
    typer.Option("--low-balance", help="Raise an alert when less than this is left to spend.", metavar="AMOUNT|none"),
]
Clear = Annotated[
    str | None,
    typer.Option(
        "--clear-balance",
        help="The alert is over when this much is left; without one, a fifth above the other.",
        metavar="AMOUNT|none",
    ),
]
Identities = Annotated[
    list[str] | None,
    typer.Option("--identity", help=f"What a call carries that it pays: {KINDS}; may repeat.", metavar="KIND:VALUE"),
]


def read_identities(given: Sequence[str] | None, option: str) -> list[tuple[IdentityKind, str]]:
    """Read KIND:VALUE."""
    found = []
    for text in given or ():
        kind, told, value = text.partition(":")
        if not told or kind not in set(IdentityKind):
            raise typer.BadParameter(f"expected KIND:VALUE, a kind being one of {KINDS}", param_hint=option)
        if kind == IdentityKind.PIN and option == "--identity":
            raise typer.BadParameter("a PIN is made, and shown once, by `callctl pin add`", param_hint=option)
        found.append((IdentityKind(kind), value))
    return found


def read_number(text: str | None, option: str) -> int | None:
    """Read a number or "none"."""
    if text is None or text == NONE:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):  # noqa: PLR2004 - more digits than any limit has
        raise typer.BadParameter(f"expected a whole number or none, found {text!r}", param_hint=option)
    return int(text)


def read_amount(text: str | None) -> int | None:
    """Read an amount or "none"."""
    return None if text is None or text == NONE else parse_amount(text)


def read_list(given: Sequence[str] | None) -> list[str]:
    """Read a list; "none" alone empties it."""
    return [] if given is None or list(given) == [NONE] else list(given)


READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    **{field: (field, lambda value: value) for field in ("name", "billing_mode", "timezone", "language", "brand")},
    "tariff": ("tariff", lambda value: None if value == NONE else value),
    "credit_limit": ("credit_limit_micros", parse_amount),
    "max_calls": ("max_calls", partial(read_number, option="--max-calls")),
    "max_cps": ("max_cps", partial(read_number, option="--max-cps")),
    **{field: (f"{field}_micros", read_amount) for field in ("max_day", "max_call", "low_balance", "clear_balance")},
    **{field: (field, read_list) for field in ("barred", "allowed", "hours")},
}
"""For each option the field it changes, and how its text is read."""


def changes_of(**given: Any) -> Changes:
    """Return what was given as changes; what was not given is not changed."""
    changes = {READ[name][0]: READ[name][1](value) for name, value in given.items() if value is not None}
    return cast("Changes", changes)


def facts(account: AccountView) -> dict[str, Any]:
    """Return an account for programs: amounts as decimal strings."""

    def amount(micros: int | None) -> str | None:
        return None if micros is None else format_amount(micros)

    return {
        "id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "status": account.status.value,
        "parent": account.parent,
        "currency": account.currency,
        "tariff": account.tariff,
        "balance": format_amount(account.balance_micros),
        "credit_limit": format_amount(account.credit_limit_micros),
        "mode": account.billing_mode.value,
        "timezone": account.timezone,
        "language": account.language,
        "brand": account.brand,
        "max_calls": account.max_calls,
        "max_cps": account.max_cps,
        "max_day": amount(account.max_day_micros),
        "max_call": amount(account.max_call_micros),
        "barred": list(account.barred),
        "allowed": list(account.allowed),
        "hours": list(account.hours),
        "low_balance": amount(account.low_balance_micros),
        "clear_balance": amount(account.clear_balance_micros),
        "identities": [{"kind": kind.value, "value": value} for kind, value in account.identities],
        "pins": pin_facts(account),
        "created_at": moment(account.created_at),
    }


def pin_facts(account: AccountView) -> list[dict[str, Any]]:
    """Return an account's PINs for programs: what is left of them, their numbers."""
    return [{"number": number, "made_at": moment(made_at)} for number, made_at in account.pins]


def words(account: AccountView) -> list[tuple[str, object]]:
    """Return an account for people, a line for each thing."""

    def amount(micros: int | None) -> str | None:
        return None if micros is None else money(micros, account.currency)

    return [
        ("number", account.id),
        ("status", account.status.value),
        ("under", account.parent),
        ("balance", money(account.balance_micros, account.currency)),
        ("pays", account.billing_mode.value),
        ("credit limit", money(account.credit_limit_micros, account.currency)),
        ("tariff", account.tariff),
        ("brand", account.brand),
        ("time zone", account.timezone),
        ("language", account.language),
        ("calls at once", account.max_calls),
        ("new calls a second", account.max_cps),
        ("cost of a day", amount(account.max_day_micros)),
        ("cost of a call", amount(account.max_call_micros)),
        ("barred prefixes", ", ".join(account.barred)),
        ("allowed prefixes", ", ".join(account.allowed) or "all"),
        ("hours", "; ".join(account.hours) or "always"),
        ("low balance", amount(account.low_balance_micros)),
        ("cleared at", amount(account.clear_balance_micros)),
        ("known by", ", ".join(f"{kind.value} {value}" for kind, value in account.identities)),
        ("since", moment(account.created_at)),
    ]
