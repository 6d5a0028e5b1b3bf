"""Prices in columns, worked by hand: each kind of rate, what goes to the scalar engine, and how far columns reach."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

import rating.bulk
import rating.bulk_walk
from rating.bulk import BARRED, NO_RATE, TOO_LARGE, BulkBook, call_columns
from rating.bulk_find import RateFinder
from rating.bulk_tables import LARGEST, MOST_PARTS, REACH_MS, TableMaker, safe_ms
from rating.errors import TariffError
from rating.parts import (
    Band,
    BandsAt,
    Conditions,
    Durations,
    Outside,
    Rounding,
    RoundingMode,
    Step,
    Surcharge,
    ThenWhat,
    When,
)
from rating.prefixes import RateMap
from rating.pricing import charged
from rating.tariff import Rate
from rating.terms import terms_of

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)  # a Monday
FOUR = Rounding(RoundingMode.HALF_UP, 4)
SECONDS = (Step(0, Decimal("0.6"), 60, 1),)
COLUMNS = {"rate": pl.Int64, "cost_micros": pl.Int64, "priced_ms": pl.Int64, "billed_ms": pl.Int64, "why": pl.String}
Call = tuple[str | None, datetime, datetime | None, int]


def rate(prefix: str, steps: tuple[Step, ...] = SECONDS, fee: str = "0", **said: Any) -> Rate:
    """Return a rate; conditions by their names."""
    own = {
        name: said.pop(name) for name in ("bands", "barred", "rounding", "effective_at", "expires_at") if name in said
    }
    return replace(Rate(prefix, "", Decimal(fee), steps, FOUR, conditions=Conditions(**said)), **own)


def priced(book: list[Rate], *calls: Call) -> tuple[list[tuple[Any, ...]], int]:
    """Price calls; return their rows and how many the scalar engine priced."""
    made = BulkBook(book).price(pl.DataFrame(list(calls), call_columns(), orient="row"))
    assert dict(made.frame.schema) == COLUMNS
    return made.frame.rows(), made.scalar


def call(number: str | None, talk_ms: int, answered_at: datetime | None = NOON) -> Call:
    return number, NOON, answered_at, talk_ms


# -- prices ------------------------------------------------------------------------------------------------------------


def test_calls_without_bands_and_bounds() -> None:
    """0.05 and 0.60 a minute: 31 s cost 0.36, 30.001 s as much; no talk costs nothing, not even the fee."""
    calls = [
        call("4930", 31_000),
        call("49", 30_001),
        call("49", 0),
        call("49", 0, None),
        call("49", -5),
        call("49", 1),
    ]
    assert priced([rate("49", fee="0.05")], *calls) == (
        [
            (0, 360_000, 31_000, 31_000, None), (0, 360_000, 31_000, 31_000, None), (0, 0, 0, 0, None),
            (0, 0, 0, 0, None), (0, 0, 0, 0, None), (0, 60_000, 1_000, 1_000, None),
        ],
        0,
    )  # fmt: skip


def test_the_columns_of_calls() -> None:
    """Numbers as texts, times in UTC down to the microsecond, talk in milliseconds."""
    time = pl.Datetime("us", "UTC")
    columns = {"number": pl.String, "offered_at": time, "answered_at": time, "talk_ms": pl.Int64}
    assert call_columns() == columns
    # A clock that went backwards is no talk.
    assert priced([rate("49", fee="0.05")], call("49", -5_000)) == ([(0, 0, 0, 0, None)], 0)


def test_a_barred_rate_among_plain_ones() -> None:
    """It is no quicker way to a price."""
    book = [rate("44", barred=True), rate("49")]
    rows, scalar = priced(book, call("44", 1_000), call("49", 1_000))
    assert (rows, scalar) == ([(0, None, None, None, BARRED), (1, 10_000, 1_000, 1_000, None)], 0)


def test_calls_without_a_price() -> None:
    """No rate, barred, or dearer than any amount: said in a word, and a barred rate is named."""
    book = [rate("49"), rate("44", barred=True), rate("1", (Step(0, Decimal(10**9), 1, 1),))]
    calls = [
        call("49", 1_000),
        call("44", 1_000),
        call("33", 1_000),
        call(None, 1_000),
        call("1", 9_000),
        call("1", 10_000),
    ]
    rows, scalar = priced(book, *calls)
    assert rows == [
        (0, 10_000, 1_000, 1_000, None),
        (1, None, None, None, BARRED),
        (None, None, None, None, NO_RATE),
        (None, None, None, None, NO_RATE),
        (2, 9 * 10**15, 9_000, 9_000, None),
        (2, None, None, None, TOO_LARGE),
    ]
    assert scalar == 1
    assert (BARRED, NO_RATE, TOO_LARGE) == ("barred", "no_rate", "too_large")
    assert priced([], *calls[:2]) == ([(None, None, None, None, NO_RATE)] * 2, 0)
    assert priced(book) == ([], 0)


@pytest.mark.parametrize(
    ("durations", "priced_ms", "cost"),
    [
        (Durations.UP, [1_000, 1_000, 1_000, 2_000, 2_000], [10_000, 10_000, 10_000, 20_000, 20_000]),
        (Durations.NEAREST, [0, 0, 1_000, 1_000, 2_000], [0, 0, 10_000, 10_000, 20_000]),
        (Durations.DOWN, [0, 0, 0, 1_000, 1_000], [0, 0, 0, 10_000, 10_000]),
        (Durations.EXACT, [1, 499, 500, 1_001, 1_500], [10_000, 10_000, 10_000, 20_000, 20_000]),
    ],
)
def test_milliseconds_become_the_time_that_is_priced(
    durations: Durations, priced_ms: list[int], cost: list[int]
) -> None:
    """As the tariff says, at 0.01 a second begun."""
    rows, _ = priced(
        [rate("49", durations=durations)], *(call("49", talk_ms) for talk_ms in (1, 499, 500, 1_001, 1_500))
    )
    assert ([row[2] for row in rows], [row[1] for row in rows]) == (priced_ms, cost)


@pytest.mark.parametrize(
    ("mode", "costs"),
    [
        (RoundingMode.UP, [1, 2, 2, 3]), (RoundingMode.DOWN, [0, 1, 2, 2]),
        (RoundingMode.HALF_UP, [1, 2, 2, 3]), (RoundingMode.HALF_EVEN, [0, 2, 2, 2]),
    ],
)  # fmt: skip
def test_totals_are_rounded_once(mode: RoundingMode, costs: list[int]) -> None:
    """Half a micro-unit a second: 1 and 5 s are ties, 3 s a tie after 1; 4 s exactly 2."""
    steps = (Step(0, Decimal("0.0000005"), 1, 1),)
    book = [rate("49", steps, rounding=Rounding(mode, 6))]
    rows, _ = priced(book, *(call("49", talk_s * 1000) for talk_s in (1, 3, 4, 5)))
    assert [row[1] for row in rows] == costs


def test_steps_and_their_fees() -> None:
    """0.30 for the first minute, then a fee of 0.05 and 0.01 for each 10 s."""
    steps = (Step(0, Decimal("0.30"), 60, 60), Step(60, Decimal("0.06"), 60, 10, Decimal("0.05")))
    rows, scalar = priced(
        [rate("49", steps), rate("44")], *(call("49", s * 1000) for s in (1, 60, 61, 70, 71)), call("44", 60_000)
    )
    assert [(row[1], row[3]) for row in rows] == [
        (300_000, 60_000), (300_000, 60_000), (360_000, 70_000), (360_000, 70_000), (370_000, 80_000),
        (600_000, 60_000),
    ]  # fmt: skip
    assert scalar == 0


def test_bounds_surcharges_and_free_time() -> None:
    """At 0.01 a second, each of what a tariff may say, beside a rate that says nothing."""
    book = [
        rate("1", free_s=10), rate("2", free_below_s=6), rate("3", min_charge=Decimal("0.5")),
        rate("4", max_charge=Decimal("0.2")),
        rate("5", surcharges=(Surcharge(20, Decimal("0.07"), 10), Surcharge(35, Decimal("0.5")))),
        rate("6", surcharges=(Surcharge(5, Decimal(1)),)), rate("7"),
    ]  # fmt: skip
    asked = [
        ("1", 10),
        ("1", 11),
        ("2", 5),
        ("2", 6),
        ("3", 0),
        ("3", 1),
        ("3", 51),
        ("4", 20),
        ("4", 21),
        ("5", 19),
        ("5", 20),
        ("5", 29),
        ("5", 30),
        ("5", 35),
        ("6", 4),
        ("6", 5),
        ("6", 500),
        ("7", 5),
    ]
    rows, scalar = priced(book, *(call(number, talk_s * 1000) for number, talk_s in asked))
    assert [(row[1], row[3]) for row in rows] == [
        (0, 10_000),
        (10_000, 11_000),
        (0, 0),
        (60_000, 6_000),
        (0, 0),
        (500_000, 1_000),
        (510_000, 51_000),
        (200_000, 20_000),
        (200_000, 21_000),
        (190_000, 19_000),
        (270_000, 20_000),
        (360_000, 29_000),
        (440_000, 30_000),
        (990_000, 35_000),
        (40_000, 4_000),
        (1_050_000, 5_000),
        (6_000_000, 500_000),
        (50_000, 5_000),
    ]
    assert scalar == 0


def test_a_millisecond_of_talk_has_its_bounds() -> None:
    """Where milliseconds are priced as they are."""
    book = [rate("49", durations=Durations.EXACT, min_charge=Decimal("0.5"))]
    assert priced(book, call("49", 1), call("49", 0)) == ([(0, 500_000, 1, 1_000, None), (0, 0, 0, 0, None)], 0)


DAY = Band(When(from_s=21_600, to_s=79_200), (Step(0, Decimal("0.60"), 60, 60),), Decimal("0.02"))
NIGHT = Band(When(from_s=79_200, to_s=21_600), (Step(0, Decimal("0.06"), 60, 60),))


def test_bands_change_during_a_call() -> None:
    """From 22:00 to 06:00 0.06 a minute, else 0.60; the fee is that of the answer's band."""
    for bands_at, costs in ((BandsAt.EACH_INCREMENT, [680_000, 710_000]), (BandsAt.START, [1_220_000, 170_000])):
        book = [rate("49", (), "0.05", bands=(DAY, NIGHT), bands_at=bands_at), rate("44", min_charge=Decimal("0.5"))]
        late, early = datetime(2026, 1, 5, 21, 59, tzinfo=UTC), datetime(2026, 1, 5, 5, 59, tzinfo=UTC)
        rows, scalar = priced(book, call("49", 120_000, late), call("49", 120_000, early), call("44", 1_000))
        assert [row[1] for row in rows] == [*costs, 500_000]
        assert ([row[3] for row in rows], scalar) == ([120_000, 120_000, 1_000], 0)


def test_each_tariff_has_its_own_clock() -> None:
    """At 21:30 in London it is night in Berlin."""
    night = replace(NIGHT, connect_fee=Decimal(0))
    book = [rate("44", (), bands=(DAY, night)), rate("49", (), bands=(DAY, night), timezone="Europe/Berlin")]
    at = datetime(2026, 1, 5, 21, 30, tzinfo=UTC)
    rows, scalar = priced(book, call("44", 60_000, at), call("49", 60_000, at))
    assert ([row[1] for row in rows], scalar) == ([620_000, 60_000], 0)
    # A minute by day and one at night, on each of two days in one frame.
    late = [datetime(2026, 1, day, 21, 59, tzinfo=UTC) for day in (5, 20, 5)]
    assert [row[1] for row in priced(book, *(call("44", 120_000, at) for at in late))[0]] == [680_000] * 3


def test_steps_and_bands_together() -> None:
    """Each increment is priced by the step of its band, and each fee of a step is paid once in a band."""
    # 0.01 a second at first, from 60 s on 0.02 a second and once 0.50; at night a tenth of it.
    day = replace(DAY, steps=(*SECONDS, Step(60, Decimal("1.20"), 60, 1, Decimal("0.50"))), connect_fee=None)
    night = replace(NIGHT, steps=(Step(0, Decimal("0.06"), 60, 1), Step(60, Decimal("0.12"), 60, 1, Decimal("0.05"))))
    book = [rate("49", (), bands=(day, night))]
    at = datetime(2026, 1, 5, 21, 59, 50, tzinfo=UTC)
    # 10 s by day, 50 s of the first step at night, 10 s of the second and its fee: 0.10 + 0.05 + 0.02 + 0.05.
    # From 21:58:20: 60 s at 0.01, 40 s at 0.02 and 0.50, then 20 s at 0.002; the night's fee was reached by day.
    before = at - timedelta(seconds=90)
    rows, scalar = priced(book, call("49", 70_000, at), call("49", 120_000, before))
    assert ([row[1] for row in rows], scalar) == ([220_000, 600_000 + 800_000 + 500_000 + 40_000], 0)
    assert [charged(book[0], 70_000, at)[0], charged(book[0], 120_000, before)[0]] == [220_000, 1_940_000]


def test_a_millisecond_into_an_increment_of_another_band_bills_it_whole() -> None:
    """A second by day at 0.01, then 1.001 s at night, two seconds at 0.001."""
    night = replace(NIGHT, steps=(Step(0, Decimal("0.06"), 60, 1),))
    bands = (replace(DAY, steps=SECONDS, connect_fee=None), night)
    book = [rate("49", (), bands=bands, durations=Durations.EXACT)]
    rows, scalar = priced(book, call("49", 2_001, datetime(2026, 1, 5, 21, 59, 59, tzinfo=UTC)))
    assert (rows, scalar) == ([(0, 12_000, 2_001, 3_000, None)], 0)


def test_the_fees_of_all_steps_that_were_reached_add_up() -> None:
    """Three by day, 0.07 in all, and 30 s at 0.01; then 15 s at night at 0.001."""
    steps = tuple(
        Step(at_s, Decimal("0.6"), 60, 1, Decimal(fee)) for at_s, fee in ((0, "0.01"), (10, "0.02"), (20, "0.04"))
    )
    night = replace(NIGHT, steps=(Step(0, Decimal("0.06"), 60, 1),))
    book = [rate("49", (), bands=(replace(DAY, steps=steps, connect_fee=None), night))]
    rows, scalar = priced(book, call("49", 45_000, datetime(2026, 1, 5, 21, 59, 30, tzinfo=UTC)))
    assert ([row[1] for row in rows], scalar) == ([385_000], 0)


def test_steps_outside_all_bands() -> None:
    """The rate's own hold there, with its own fee; free seconds come before the steps of any band."""
    book = [rate("49", SECONDS, "0.05", bands=(DAY,), outside=Outside.BASE, free_s=30)]
    at = datetime(2026, 1, 5, 5, 59, 0, tzinfo=UTC)
    # 30 s free, 30 s at 0.01, then a minute by day at 0.60.
    rows, scalar = priced(book, call("49", 61_000, at), call("49", 60_000, at), call("49", 30_000, at))
    assert rows == [
        (0, 950_000, 61_000, 120_000, None), (0, 350_000, 60_000, 60_000, None), (0, 50_000, 30_000, 30_000, None),
    ]  # fmt: skip
    assert scalar == 0


# -- what the scalar engine prices -------------------------------------------------------------------------------------


def test_what_columns_cannot_say_is_priced_one_by_one() -> None:
    """Tariffs that end calls, calls of more than a day through bands, and those whose answer is not known."""
    book = [
        rate("1", max_charge=Decimal("0.05"), max_charge_then=ThenWhat.DISCONNECT),
        rate("2", (), bands=(DAY, replace(NIGHT, connect_fee=Decimal(0)))),
        rate("3"),
    ]
    day_ms = 86_400_000
    calls = [call("1", 9_000), call("2", day_ms), call("2", day_ms + 1), call("3", day_ms + 1), call("2", 0, None)]
    rows, scalar = priced(book, *calls)
    # A day from noon: 16 hours at 0.60 a minute, 8 hours at 0.06, and 0.02 for the answer.
    day = 16 * 60 * 600_000 + 8 * 60 * 60_000 + 20_000
    assert rows == [
        (0, 50_000, 5_000, 5_000, None),
        (1, day, day_ms, day_ms, None),
        (1, day + 600_000, day_ms + 1_000, day_ms + 60_000, None),
        (2, 864_010_000, day_ms + 1_000, day_ms + 1_000, None),
        (1, 0, 0, 0, None),
    ]
    assert scalar == 3
    before = datetime(1969, 12, 31, 12, tzinfo=UTC)
    assert priced(book, call("2", 60_000, before)) == ([(1, 620_000, 60_000, 60_000, None)], 1)
    assert priced(book, call("2", 60_000, datetime(1970, 1, 1, tzinfo=UTC)))[1] == 0


def test_calls_through_too_many_parts_are_priced_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many parts are walked, and not one more; the others keep their places."""
    monkeypatch.setattr(rating.bulk_walk, "MOST_PARTS", 2)
    bands = tuple(
        Band(When(from_s=hour * 3600, to_s=hour * 3600 + 3600), (Step(0, Decimal(hour), 3600, 60),))
        for hour in range(24)
    )
    book = [rate("49", (), bands=bands)]
    calls = [call("49", hours * 3_600_000) for hours in (1, 4, 2, 3, 1)]
    rows, scalar = priced(book, *calls)
    assert [row[1] for row in rows] == [12_000_000, 54_000_000, 25_000_000, 39_000_000, 12_000_000]
    assert (scalar, MOST_PARTS) == (2, 200)


def test_large_frames_are_priced_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call once, in its order, and the calls of the scalar engine counted over all pieces."""
    monkeypatch.setattr(rating.bulk, "AT_A_TIME", 2)
    book = [rate("1", max_charge=Decimal("0.05"), max_charge_then=ThenWhat.DISCONNECT), rate("2")]
    calls = [call("1", 1_000), call("2", 2_000), call("2", 3_000), call("1", 4_000), call("2", 5_000)]
    rows, scalar = priced(book, *calls)
    assert ([row[1] for row in rows], scalar) == ([10_000, 20_000, 30_000, 40_000, 50_000], 2)


# -- how far columns reach ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "safe"),
    [
        (rate("1"), REACH_MS - 1),
        # No amount is larger than 9,007,199,254.740991: nine increments of a thousand million, none of sixty.
        (rate("1", (Step(0, Decimal(10**9), 1, 1),), rounding=Rounding()), 9_000),
        (rate("1", (Step(0, Decimal(10**9), 1, 60),), rounding=Rounding()), -1),
        (rate("1", (Step(0, Decimal(10**9), 1, 9),), rounding=Rounding()), 9_000),
        # In parts of 10^-18 a second costs 999,999,999,999,999,999 of them: 2^62 hold four.
        (rate("1", (Step(0, Decimal("0.999999999999999999"), 1, 1),), rounding=Rounding(RoundingMode.UP, 6)), 4_000),
        # What ends calls is for the scalar engine.
        (rate("1", max_charge=Decimal(1), max_charge_then=ThenWhat.DISCONNECT), -1),
        (rate("1", max_charge=Decimal(1)), REACH_MS - 1),
        (rate("1", (), bands=(DAY,), outside=Outside.CLOSED), -1),
        # A million a second: 9007 increments. Through bands 200 parts may each bill one more.
        (rate("1", (), bands=(replace(DAY, connect_fee=None, steps=(Step(0, Decimal(10**6), 1, 1),)),
                              replace(NIGHT, steps=(Step(0, Decimal(10**5), 1, 2),))),
              rounding=Rounding(), bands_at=BandsAt.START), 9_007_000),
        (rate("1", (), bands=(replace(DAY, connect_fee=None, steps=(Step(0, Decimal(10**6), 1, 1),)),
                              replace(NIGHT, steps=(Step(0, Decimal(10**5), 1, 2),))),
              rounding=Rounding()), 8_807_999),
        # With the dearest fee of an answer, 100 million, and all fees of steps, 200 million: 300 increments fewer.
        (rate("1", (Step(0, Decimal(10**6), 1, 1, Decimal(10**8)),), str(10**8),
              bands=(replace(DAY, connect_fee=None, steps=(Step(0, Decimal(10**5), 1, 1, Decimal(10**8)),)),),
              outside=Outside.BASE, rounding=Rounding()), 8_507_999),
        # A thousand million after 60 s and every 60 s: the ninth at 540 s; one more is thought of for every begun 60 s.
        (rate("1", (Step(0, Decimal(0), 1, 1),), surcharges=(Surcharge(60, Decimal(10**9), 60),), rounding=Rounding()),
         539_999),
        (rate("1", (Step(0, Decimal(0), 1, 1),), surcharges=(Surcharge(60, Decimal(10**9)),), rounding=Rounding()),
         REACH_MS - 1),
    ],
)  # fmt: skip
def test_up_to_which_talk_columns_are_exact(of: Rate, safe: int) -> None:
    """The longest, in milliseconds, with which nothing on the way to its price is too large; -1 where none is."""
    assert safe_ms(terms_of(of)) == safe


def test_rates_that_say_the_same_share_a_row() -> None:
    """Prefix, name and dates are no part of what a call costs; whoever is no rate is refused."""
    maker = TableMaker()
    base = rate("49")
    shared = base.under("44", "x")
    assert [maker.number(one) for one in (base, shared, rate("1"), rate("1", fee="1"), replace(base, prefix="7"))] == [
        0, 0, 0, 1, 0,
    ]  # fmt: skip
    terms_of(base)
    assert maker.number(base.under("2", "")) == 0
    with pytest.raises(TariffError):
        maker.number(rate("1", ()))
    tables = maker.tables()
    assert (tables.terms.height, tables.stepped, tables.surcharges, tables.calendars) == (2, False, (), ())


def test_the_tables_of_a_rate_with_steps_and_bands() -> None:
    """Ladders one after the other, the one outside all bands first; what is too large is cut at the largest number."""
    maker = TableMaker()
    maker.number(rate("1", max_charge=Decimal("0.5"), free_below_s=3, min_charge=Decimal("0.1")))
    night = replace(NIGHT, steps=(*SECONDS, Step(60, Decimal(0), 60, 60, Decimal(1))))
    maker.number(rate("2", SECONDS, "1", bands=(DAY, night), outside=Outside.BASE, free_s=7))
    maker.number(rate("3", (), bands=(DAY, NIGHT), surcharges=(Surcharge(9, Decimal(1), 3), Surcharge(10, Decimal(2)))))
    tables = maker.tables()
    columns = ("ladder", "of_bands", "calendar", "plain", "changing", "free_ms", "free_below_ms", "least", "most")
    assert tables.terms.select(columns).rows() == [
        (0, -1, 0, 0, 0, 0, 3_000, 1_000, 5_000),
        (1, 0, 0, 0, 1, 7_000, 0, 0, LARGEST),
        (4, 3, 0, 0, 1, 0, 0, 0, LARGEST),
    ]
    # Base, day and night of the second; none, day and night of the third; both have the same times.
    assert tables.ladders.to_list() == [1, 2, 3, -1, 4, 5]
    assert len(tables.calendars) == 1
    assert tables.rungs.select("key", "begin", "until").rows()[3:5] == [
        (3 * REACH_MS + 7_000, 7_000, 67_000),
        (3 * REACH_MS + 67_000, 67_000, LARGEST),
    ]
    assert tables.rungs["ladder"].to_list() == [0, 1, 2, 3, 3, 4, 5]
    assert [due.select("after", "every").rows() for due in tables.surcharges] == [
        [(LARGEST, LARGEST), (LARGEST, LARGEST), (9_000, 3_000)],
        [(LARGEST, LARGEST), (LARGEST, LARGEST), (10_000, LARGEST)],
    ]
    assert tables.stepped


# -- which rate --------------------------------------------------------------------------------------------------------


def places(book: list[Rate], numbers: list[str], at: datetime = NOON) -> list[int]:
    """Return the place of each number's rate, which must be the one that a map of rates finds."""
    times = pl.Series([at] * len(numbers), dtype=pl.Datetime("us", "UTC"))
    found = RateFinder(book).find(pl.Series(numbers, dtype=pl.String), times).to_list()
    map_of = RateMap(book)
    assert [book[place] if place >= 0 else None for place in found] == [
        map_of.longest(number, at) for number in numbers
    ]
    return found


def test_the_longest_prefix_of_any_length() -> None:
    """As integers up to 18 digits, as texts beyond; signs, spaces, zeros and letters are no digits of a prefix."""
    texts = ["", "4", "49", "4:", "49:", "49a", "4999", "49 0", "+49", " 49", "049", "0", "00", "1", "5", "9", "99",
             "4" * 17, "4" * 18, "4" * 19, "4" * 20, "9" * 18, "9" * 19, "48" + "9" * 16, "5" + "0" * 17]  # fmt: skip
    short = [rate(prefix) for prefix in ("4", "49", "499", "0", "99", "00")]
    assert places(short, texts)[:9] == [-1, 0, 1, 0, 1, 1, 2, 1, -1]
    for longest in (18, 19):
        places([*short, rate("4" * longest), rate("9" * longest)], texts)
    assert places([rate(""), *short], ["", "x", "4", "7"]) == [0, 0, 1, 0]
    assert places([rate("")], ["", "49"]) == [0, 0]
    assert places([], ["49"]) == [-1]


def test_of_two_rates_in_force_the_later_holds() -> None:
    """In whichever order they come."""
    later = rate("45", effective_at=NOON)
    for book, before, after in (([rate("45"), later], 0, 1), ([later, rate("45")], 1, 0)):
        assert places(book, ["45"], NOON - timedelta(hours=1)) == [before]
        assert places(book, ["45"], NOON) == [after]
    two = [rate("45", effective_at=NOON - timedelta(hours=1)), later]
    assert (places(two, ["45"], NOON), places(two[::-1], ["45"], NOON)) == ([1], [0])


def test_the_rate_in_force_at_the_offer() -> None:
    """From its beginning until before its end; where none of a prefix is in force, the next shorter one."""
    one, two, three = (NOON + timedelta(hours=hours) for hours in (1, 2, 3))
    book = [
        rate("4"), rate("49", expires_at=one), rate("49", effective_at=two, expires_at=three),
        rate("491", effective_at=one, expires_at=two), rate("44", effective_at=two), rate("44"),
        rate("5", effective_at=one), rate("59", effective_at=three),
    ]  # fmt: skip
    numbers = ["4", "49", "491", "44", "5", "59", "7"]
    us = timedelta(microseconds=1)
    for at, found in (
        (NOON, [0, 1, 1, 5, -1, -1, -1]), (one - us, [0, 1, 1, 5, -1, -1, -1]), (one, [0, 0, 3, 5, 6, 6, -1]),
        (two - us, [0, 0, 3, 5, 6, 6, -1]), (two, [0, 2, 2, 4, 6, 6, -1]), (three - us, [0, 2, 2, 4, 6, 6, -1]),
        (three, [0, 0, 0, 4, 6, 7, -1]), (three + timedelta(days=9), [0, 0, 0, 4, 6, 7, -1]),
    ):  # fmt: skip
        assert places(book, numbers, at) == found
    with pytest.raises(TariffError, match="two rates"):
        RateFinder([rate("49"), rate("49")])
