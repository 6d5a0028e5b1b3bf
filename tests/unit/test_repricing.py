"""What a past charge would cost: the pure part of re-rating, without a store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from billing.catalogue import Catalogue, Party, TariffBook
from billing.models import AccountKind, AccountStatus, Cdr, Charge
from billing.rerating.pricer import NO_TARIFF, SPECIAL, UNREADABLE, Pricer, Repriced
from rating.prefixes import RateMap
from rating.tariff import Rate, Rounding, Step

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OLD = Rate("49", "", Decimal(0), (Step(0, Decimal("0.60"), 60, 30),), Rounding())
NEW = Rate("49", "", Decimal(0), (Step(0, Decimal("0.30"), 60, 30),), Rounding())
MINUTES = Rate("49", "", Decimal(0), (Step(0, Decimal("0.30"), 60, 60),), Rounding())


def pricer(rate: Rate) -> Pricer:
    party = Party(1, "carl", AccountKind.CUSTOMER, AccountStatus.ACTIVE, 1, 2, "EUR", 1, 0, None, None, ())
    book = TariffBook(1, "retail", 2, "EUR", RateMap([rate]))
    return Pricer(Catalogue(version=1, chains={}, tariffs={1: book}, parties={1: party}))


def row(seconds: int, **more: Any) -> tuple[Cdr, Charge]:
    """Return a call of so many seconds, charged by the old rate."""
    cdr = Cdr(
        call_id="sw:1", switch="sw", account_id=1, direction="outbound", callee="+4930", disposition="answered",
        offered_at=AT, answered_at=AT, ended_at=AT + timedelta(seconds=seconds), billable_ms=seconds * 1000,
    )  # fmt: skip
    facts = {"tariff": "retail", "tariff_id": 1, "version": 1, "rate": OLD.facts(), "billable_s": seconds, **more}
    charge = Charge(
        call_id="sw:1", level=0, account_id=1, wallet_id=1, to_wallet_id=2, amount_micros=0, currency="EUR", billed_s=0,
        ended_at=cdr.ended_at, facts=facts,
    )  # fmt: skip
    return cdr, charge


def one(rate: Rate, seconds: int, **more: Any) -> Repriced | str:
    (told,), _ = pricer(rate).price([row(seconds, **more)], None)
    return told


BUNDLE = {"name": "minutes", "wallet_id": 7, "most_ms": 60_000, "used_ms": 60_000}


def test_seconds_of_a_bundle_stay_and_the_money_beside_them_is_priced_again() -> None:
    """100 s are 120 billed: 60 of the bundle, 60 for money at 0.30; the bundle's part is told again."""
    told = one(NEW, 100, bundles=[BUNDLE])
    assert isinstance(told, Repriced)
    assert (told.amount_micros, told.billed_s, told.facts["bundles"]) == (300_000, 120, [BUNDLE])


def test_where_the_bundle_would_give_other_seconds_the_charge_stays() -> None:
    """30 s were 30 of the bundle; in begun minutes they would be 60: that is not a correction of money alone."""
    assert one(MINUTES, 30, bundles=[BUNDLE | {"used_ms": 30_000}]) == SPECIAL


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"surprise": 1}, SPECIAL),
        ({"tariff_id": "retail"}, UNREADABLE),
        ({"tariff_id": 9}, NO_TARIFF),
    ],
)
def test_what_cannot_be_repeated_is_named(more: dict[str, Any], why: str) -> None:
    """Facts that nobody knows, or that name no tariff, are never guessed at."""
    assert one(NEW, 30, **more) == why


def test_many_charges_together_keep_their_order() -> None:
    """Priced in columns, one by one, or not at all: each answer stands in its place."""
    rows = [row(30), row(60, surprise=1), row(90, bundles=[BUNDLE | {"most_ms": 0, "used_ms": 0}]), row(120)]
    told, used = pricer(NEW).price(rows, None)
    assert [price.amount_micros if isinstance(price, Repriced) else price for price in told] == [
        150_000, SPECIAL, 450_000, 600_000,
    ]  # fmt: skip
    assert used == {1: 2}
