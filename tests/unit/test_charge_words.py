"""A charge is priced again, and explained, from its facts alone: old ones and new ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from billing.cdrs import explain, reprice, talk_facts, talk_of
from billing.models import Charge
from rating.errors import TariffError
from rating.tariff import Rate

RATE: dict[str, Any] = {
    "v": 1,
    "prefix": "49",
    "destination": "Germany",
    "connect_fee": "0.05",
    "steps": [{"from_s": 0, "price": "0.60", "per_s": 60, "increment_s": 1}],
    "rounding": {"mode": "half_up", "decimals": 4},
    "barred": False,
}
EVERY_DAY = [1, 2, 3, 4, 5, 6, 7]
BANDS: dict[str, Any] = {
    **RATE,
    "v": 2,
    "steps": [],
    "timezone": "Europe/Berlin",
    "free_s": 5,
    "bands": [
        {"days": EVERY_DAY, "from": "06:00", "to": "18:00", "steps": RATE["steps"], "name": "day"},
        {
            "days": EVERY_DAY,
            "from": "18:00",
            "to": "06:00",
            "steps": [{"from_s": 0, "price": "0.30", "per_s": 60, "increment_s": 1}],
        },
    ],
}
ANSWERED = datetime(2026, 1, 5, 16, 59, 50, tzinfo=UTC)


def charge(rate: dict[str, Any], amount_micros: int, **talk: Any) -> Charge:
    facts = {"tariff": "retail", "tariff_id": 1, "version": 3, "rate": rate, **talk}
    return Charge(
        call_id="a:1", level=0, account_id=1, wallet_id=1, to_wallet_id=2, amount_micros=amount_micros,
        currency="EUR", billed_s=0, facts=facts, ended_at=ANSWERED,
    )  # fmt: skip


def test_a_charge_of_the_first_version_prices_as_it_did() -> None:
    """Its facts know whole seconds and no time of day."""
    old = charge(RATE, 660_000, billable_s=61)
    assert reprice(old) == 660_000
    assert explain(old) == [
        "Tariff retail, version 3, prefix 49 (Germany).",
        "61 s of talk, billed as 61 s.",
        "connect fee: 0.05 EUR",
        "61 s at 0.6 per 60 s, in increments of 1 s: 0.61 EUR",
        "Total, rounded half up to 4 decimals: 0.66 EUR",
    ]


def test_a_charge_with_bands_says_when_it_was_answered_and_what_held() -> None:
    """Five seconds free, five of the day, sixty of the evening."""
    banded = charge(BANDS, 400_000, billable_s=70, answered_at=ANSWERED.isoformat())
    assert reprice(banded) == 400_000
    assert explain(banded) == [
        "Tariff retail, version 3, prefix 49 (Germany).",
        "Answered on Monday 2026-01-05 at 17:59:50, time of Europe/Berlin.",
        "70 s of talk, billed as 70 s.",
        "connect fee: 0.05 EUR",
        "5 s at no charge, as the first 5 s are free: 0 EUR",
        "5 s at 0.6 per 60 s, in increments of 1 s (day): 0.05 EUR",
        "60 s at 0.3 per 60 s, in increments of 1 s (every day 18:00–06:00): 0.3 EUR",
        "Total, rounded half up to 4 decimals: 0.40 EUR",
    ]


def test_bands_without_the_time_of_the_answer_have_no_price() -> None:
    """Better no price than a wrong one."""
    with pytest.raises(TariffError, match="time of the answer"):
        reprice(charge(BANDS, 400_000, billable_s=70))


@pytest.mark.parametrize(
    ("rate", "priced_ms", "talk"),
    [
        (RATE, 61_000, {"billable_s": 61}),
        (RATE, 61_001, {"billable_ms": 61_001}),
        (BANDS, 61_000, {"billable_s": 61, "answered_at": "2026-01-05T16:59:50+00:00"}),
    ],
)
def test_the_talk_of_a_charge_is_kept_exactly(rate: dict[str, Any], priced_ms: int, talk: dict[str, Any]) -> None:
    """Milliseconds where there are some, the answer where it matters."""
    assert talk_facts(Rate.from_facts(rate), priced_ms, ANSWERED) == talk
    assert talk_of(talk) == (priced_ms, ANSWERED if "answered_at" in talk else None)


def test_a_minimum_is_said_of_the_money_that_a_bundle_leaves() -> None:
    """61 s would cost 0.66; 30 s are the bundle's; 31 s and the connect fee are 0.36, and 0.14 are missing to 0.50."""
    bundle = {"name": "Europe", "wallet_id": 3, "most_ms": 30_000, "used_ms": 30_000}
    bounded = charge({**RATE, "v": 2, "min_charge": "0.50"}, 500_000, billable_s=61, bundles=[bundle])
    assert reprice(bounded) == 500_000
    assert explain(bounded)[2:] == [
        "connect fee: 0.05 EUR",
        "61 s at 0.6 per 60 s, in increments of 1 s: 0.61 EUR",
        "30 s are paid by the bundle Europe.",
        "What is left for the money: 0.36 EUR",
        "the minimum charge adds: 0.14 EUR",
        "Total, rounded half up to 4 decimals: 0.50 EUR",
    ]
    cheap = charge({**RATE, "v": 2, "max_charge": "0.30"}, 300_000, billable_s=61, bundles=[bundle])
    assert reprice(cheap) == 300_000
    assert explain(cheap)[-3:] == [
        "What is left for the money: 0.36 EUR",
        "the maximum charge takes off: -0.06 EUR",
        "Total, rounded half up to 4 decimals: 0.30 EUR",
    ]
