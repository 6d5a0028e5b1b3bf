"""Bulk prices and single prices are the same to the last digit, for any rate and any call.

`make test` prices 100,000 random calls; `CALLCTL_BULK_CALLS=5000000 CALLCTL_BULK_SEED=7` asks for more, and others.
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from rating.bulk import BARRED, NO_RATE, TOO_LARGE, BulkBook, call_columns
from rating.errors import AmountError, TariffError
from rating.parts import Rounding, RoundingMode, Step
from rating.prefixes import RateMap
from rating.pricing import charged
from rating.tariff import Rate
from tests.random_rates import Call, call, rates

CALLS = int(os.environ.get("CALLCTL_BULK_CALLS", "100000"))
SEED = int(os.environ.get("CALLCTL_BULK_SEED", "1"))
BOOKS = 20
Row = tuple[Rate | None, int | None, int | None, int | None, str | None]


def one_by_one(book: list[Rate], calls: list[Call]) -> list[Row]:
    """Price calls by the scalar engine alone."""
    found = RateMap(book)
    rows: list[Row] = []
    for number, offered_at, answered_at, talk_ms in calls:
        rate = found.longest(number, offered_at)
        if rate is None:
            rows.append((None, None, None, None, NO_RATE))
        elif rate.barred:
            rows.append((rate, None, None, None, BARRED))
        else:
            try:
                rows.append((rate, *charged(rate, talk_ms, answered_at), None))
            except AmountError:
                rows.append((rate, None, None, None, TOO_LARGE))
    return rows


def in_bulk(book: list[Rate], calls: list[Call]) -> tuple[list[Row], int]:
    """Price calls in columns; return also how many the scalar engine had to price."""
    bulk = BulkBook(book)
    priced = bulk.price(pl.DataFrame(calls, call_columns(), orient="row"))
    rows: list[Row] = [
        (None if place is None else bulk.rates[place], *prices) for place, *prices in priced.frame.iter_rows()
    ]
    return rows, priced.scalar


def test_a_hundred_thousand_random_calls_cost_the_same() -> None:
    """Any steps, fees, bands, bounds, surcharges, roundings, durations, dates and zones, on days the clock changes."""
    chance = random.Random(SEED)
    priced = left = 0
    for _ in range(BOOKS):
        book = rates(chance, 60)
        calls = [call(chance) for _ in range(CALLS // BOOKS)]
        rows, scalar = in_bulk(book, calls)
        for asked, single, bulk in zip(calls, one_by_one(book, calls), rows, strict=True):
            assert bulk == single, (SEED, asked)
        priced, left = priced + len(calls), left + scalar
    assert priced == CALLS
    # Tariffs that end calls, amounts with 18 decimals, calls of days: drawn far more often than anybody sells them.
    assert left < priced // 4, left


def test_an_empty_frame_and_an_empty_book() -> None:
    """Nothing to price is priced, and without rates there is no price."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert in_bulk([], []) == ([], 0)
    assert in_bulk([], [("49", noon, noon, 1000)]) == ([(None, None, None, None, NO_RATE)], 0)
    assert in_bulk(rates(random.Random(2), 20), []) == ([], 0)


def plain(prefix: str, price: str, decimals: int = 4) -> Rate:
    return Rate(prefix, "", Decimal(0), (Step(0, Decimal(price), 1, 1),), Rounding(RoundingMode.HALF_EVEN, decimals))


def test_prefixes_of_any_text() -> None:
    """Whatever stands behind the digits of a prefix, or before any digit, the longest prefix holds."""
    book = [plain(prefix, "1") for prefix in ("4", "49", "499", "4999", "490", "9", "99", "0", "4" * 32)]
    texts = ["", "4", "49", "4:", "49:", "499:", "49a", "4999999", "49 0", "49\u0660", "*49", "99", "+49", "\U0001f600",
             "4" * 31, "4" * 32, "4" * 40, "490", "4900", "48", "5", ":", "/", "9", "9a"]  # fmt: skip
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    calls: list[Call] = [(text, noon, noon, 1000) for text in texts]
    assert in_bulk(book, calls)[0] == one_by_one(book, calls)


@pytest.mark.parametrize("price", ["999999999.999999999999999999", "1000000000", "0.000000000000000001", "92233720.36"])
def test_amounts_beyond_64_bits_are_priced_all_the_same(price: str) -> None:
    """At the edge of what a column and an amount can hold, second by second, bulk says what the scalar engine says."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    book = [plain("1", price, 0), plain("2", price, 6), plain("3", price, 3)]
    talks = (1, 2, 9, 10, 97, 98, 99, 100, 9_007, 9_008, 2**31, 31_622_400, 2**40)
    calls: list[Call] = [(number, noon, noon, talk * 1000) for number in ("1", "2", "3") for talk in talks]
    rows, _ = in_bulk(book, calls)
    assert rows == one_by_one(book, calls)
    assert {row[4] for row in rows} <= {None, TOO_LARGE}


def test_a_prefix_with_two_rates_from_one_time_is_refused() -> None:
    """As in a map of rates: which of them holds is nowhere said."""
    with pytest.raises(TariffError, match="two rates without a date"):
        BulkBook([plain("49", "1"), plain("49", "2")])
