"""What a deck changes: which rows end and which are new, what becomes dearer, and in which order it is shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from rating.decks.changes import COLUMNS, Mode, Terms, compare, in_force, moment_of, plan, worth
from rating.decks.deck import ALWAYS, NEVER, Deck, deck_columns, deck_of, instant_us, moment, rate_map, rates_of
from rating.decks.writing import columns_of, write_csv, write_rows
from rating.parts import Band, BandsAt, Conditions, Outside, Rounding, RoundingMode, Step, When
from rating.tariff import Rate

ROUNDING = Rounding(RoundingMode.UP, 4)
NOW = 1000
Row = tuple[str, str, int, int, int]


def row(prefix: str, terms: int = 0, since: int = ALWAYS, until: int = NEVER, name: str = "x") -> Row:
    """Return a row of a frame."""
    return prefix, name, terms, since, until


def frame(*rows: Row) -> pl.DataFrame:
    """Return rows as a frame, with a line for each as a deck has it."""
    kinds = {column: deck_columns()[column] for column in COLUMNS}
    return pl.DataFrame(list(rows), schema=kinds, orient="row").with_row_index("line")


def planned(current: list[Row], wanted: list[Row], mode: Mode, at_us: int | None = None) -> tuple[Any, Any, Any]:
    """Return the rows after, what ends, and what is new."""
    made = plan(frame(*current).select(COLUMNS), frame(*wanted), mode, now_us=NOW, at_us=at_us)
    return made.after.rows(), sorted(made.ended.rows()), sorted(made.new.rows())


OLD = [row("49"), row("44")]
DECK = [row("49", 1), row("33", 2)]

# -- the next version --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_us", [None, NOW, NOW - 1])
def test_a_deck_that_comes_into_force_at_once(at_us: int | None) -> None:
    """What it replaces or removes is not in the next version at all; a moment that has come is at once, too."""
    after = [row("33", 2), row("49", 1)]
    assert planned(OLD, DECK, Mode.REPLACE, at_us) == (after, [("44", ALWAYS), ("49", ALWAYS)], after)
    merged = [row("33", 2), row("44"), row("49", 1)]
    assert planned(OLD, DECK, Mode.MERGE, at_us) == (merged, [("49", ALWAYS)], after)
    assert planned(OLD, DECK, Mode.REMOVE, at_us) == ([row("44")], [("49", ALWAYS)], [])


def test_a_deck_that_comes_into_force_later() -> None:
    """Until then what held goes on, and ends at that moment; what is merged leaves the others alone."""
    after = [row("33", 2, 2000), row("44", 0, ALWAYS, 2000), row("49", 0, ALWAYS, 2000), row("49", 1, 2000)]
    assert planned(OLD, DECK, Mode.REPLACE, 2000) == (after, [("44", ALWAYS), ("49", ALWAYS)], after)
    merged = [row("33", 2, 2000), row("44"), row("49", 0, ALWAYS, 2000), row("49", 1, 2000)]
    new = [merged[0], merged[2], merged[3]]
    assert planned(OLD, DECK, Mode.MERGE, 2000) == (merged, [("49", ALWAYS)], new)
    removed = [row("44"), row("49", 0, ALWAYS, 2000)]
    assert planned(OLD, DECK, Mode.REMOVE, 2000) == (removed, [("49", ALWAYS)], [removed[1]])


def test_a_tariff_without_rates() -> None:
    """All of the deck is new, in order; there is nothing to remove."""
    after = [row("33", 2), row("49", 1)]
    for mode in (Mode.REPLACE, Mode.MERGE):
        assert planned([], DECK, mode) == (after, [], after)
        later = [row("33", 2, 2000), row("49", 1, 2000)]
        assert planned([], DECK, mode, 2000) == (later, [], later)
    assert planned([], DECK, Mode.REMOVE) == ([], [], [])


def test_rows_with_times_of_their_own() -> None:
    """The later of the two counts; a time that has come replaces what held before, one that has not ends it then."""
    later = [row("49", 0, ALWAYS, 1500), row("49", 1, 1500)]
    assert planned([row("49")], [row("49", 1, 1500)], Mode.MERGE) == (later, [("49", ALWAYS)], later)
    for since in (500, NOW):
        past = [row("49", 1, since)]
        assert planned([row("49")], past, Mode.MERGE) == (past, [("49", ALWAYS)], past)
    latest = [row("49", 0, ALWAYS, 3000), row("49", 1, 3000)]
    assert planned([row("49")], [row("49", 1, 3000)], Mode.MERGE, 2000) == (latest, [("49", ALWAYS)], latest)
    # Of two rows of a prefix the first ends what held.
    two = [row("49", 1, 1500, 1700), row("49", 2, 1700)]
    assert planned([row("49")], two, Mode.MERGE)[0] == [row("49", 0, ALWAYS, 1500), *two]


def test_what_was_scheduled_later_is_replaced() -> None:
    """And what ends before the deck begins ends as it did."""
    current = [row("49", 0, ALWAYS, 1500), row("49", 1, 1500, 3000), row("49", 2, 3000)]
    after = [current[0], row("49", 1, 1500, 2000), row("49", 3, 2000)]
    ended = [("49", 1500), ("49", 3000)]
    assert planned(current, [row("49", 3)], Mode.REPLACE, 2000) == (after, ended, after[1:])


def test_a_rate_that_goes_on_as_it_was_is_not_cut_in_two() -> None:
    """Neither an end nor a beginning; with another end it is one row that ends then."""
    both = planned([row("44"), row("49")], [row("44"), row("49", 1)], Mode.REPLACE, 2000)
    cut = [row("49", 0, ALWAYS, 2000), row("49", 1, 2000)]
    assert both == ([row("44"), *cut], [("49", ALWAYS)], cut)
    ends = [row("49", 0, ALWAYS, 5000)]
    assert planned([row("49")], [row("49", 0, ALWAYS, 5000)], Mode.REPLACE, 2000) == (ends, [("49", ALWAYS)], ends)
    # With another name, and where the old one ends before, it is another rate.
    named = [row("49", 0, ALWAYS, 2000), row("49", 0, 2000, name="y")]
    assert planned([row("49")], [row("49", name="y")], Mode.REPLACE, 2000)[0] == named
    gap = [row("49", 0, ALWAYS, 1500), row("49", 0, 2000)]
    assert planned([gap[0]], [row("49")], Mode.REPLACE, 2000) == (gap, [], [gap[1]])
    exact = [row("49", 0, ALWAYS, 2000), row("49", 0, 2000)]
    assert planned([exact[0]], [row("49")], Mode.REPLACE, 2000) == (exact, [], [exact[1]])


def test_the_moment_at_which_all_of_a_deck_is_in_force() -> None:
    """Now, or when it is to begin, or when its last row does."""
    assert moment_of(frame(row("49")), now_us=NOW) == NOW
    assert moment_of(frame(), now_us=NOW) == NOW
    assert moment_of(frame(), now_us=NOW, at_us=2000) == 2000
    assert moment_of(frame(row("49")), now_us=NOW, at_us=500) == NOW
    assert moment_of(frame(row("49", 0, 1500), row("44", 0, 3000)), now_us=NOW, at_us=2000) == 3000


def test_what_is_in_force() -> None:
    """From its beginning until before its end; of two that overlap the one that began later."""
    rows = [row("49", 0, ALWAYS, 2000), row("49", 1, 2000, 3000), row("44", 2, 1000), row("44", 3, 2500)]
    for at_us, terms in ((999, [0]), (1000, [0, 2]), (1999, [0, 2]), (2000, [1, 2]), (2500, [1, 3]), (3000, [3])):
        assert sorted(in_force(frame(*rows), at_us)["terms"].to_list()) == terms
    overlapping = frame(row("44", 3, 2500), row("44", 2, 1000))
    assert in_force(overlapping, 3000)["terms"].to_list() == [3]


# -- what becomes dearer -----------------------------------------------------------------------------------------------


def rate(steps: tuple[Step, ...], fee: str = "0", bands: tuple[Band, ...] = (), **said: Any) -> Rate:
    return Rate("", "", Decimal(fee), steps, ROUNDING, bands=bands, conditions=Conditions(**said))


def test_what_a_rate_is_compared_by() -> None:
    """Calls of 60, 1, 30, 61, 600 and 3600 s at 0.60 a minute in minutes, and a fee of 0.05; to six decimals."""
    minutes = (Step(0, Decimal("0.6"), 60, 60),)
    talks = (650_000, 650_000, 650_000, 1_250_000, 6_050_000, 36_050_000)
    assert worth(rate(minutes, "0.05")) == Terms(650_000, talks, barred=False)
    seconds = worth(rate((Step(0, Decimal("0.1"), 60, 1),)))
    # A second costs 0.0016667; 61 cost 0.1016667.
    assert seconds.minute_micros == 100_000
    assert seconds.talks == (100_000, 1_667, 50_000, 101_667, 1_000_000, 6_000_000)
    barred = Rate("", "", Decimal(0), minutes, ROUNDING, barred=True)
    assert worth(barred).barred
    free = worth(rate(minutes, free_s=60))
    assert free.talks == (0, 0, 0, 600_000, 5_400_000, 35_400_000)


def test_of_bands_the_dearest_counts() -> None:
    """Call by call: a band with a fee is dearer for short calls; the steps outside all bands are looked at, too."""
    day = Band(When(from_s=0, to_s=3600), (Step(0, Decimal("0.6"), 60, 1),), Decimal(0))
    night = Band(When(from_s=3600, to_s=7200), (Step(0, Decimal("0.06"), 60, 1),))
    said = {"timezone": "Europe/Berlin", "bands_at": BandsAt.START}
    base = (Step(0, Decimal("0.001"), 1, 3600),)
    of = rate(base, "0.2", (day, night), outside=Outside.BASE, **said)
    # 60 s: 0.60, 0.26, and 3.80 outside, where an hour is one increment at 3.60.
    assert worth(of).talks == (3_800_000, 3_800_000, 3_800_000, 3_800_000, 6_000_000, 36_000_000)
    closed = rate((), "0.2", (day, night), outside=Outside.CLOSED, **said)
    # 1 s: 0.01, and 0.201 with the fee of the rate; 30 s: 0.30 and 0.23.
    assert worth(closed).talks == (600_000, 201_000, 300_000, 610_000, 6_000_000, 36_000_000)


def terms(minute: int, *, hour: int | None = None, barred: bool = False) -> Terms:
    """Return terms whose longest call costs something else."""
    return Terms(minute, (minute, minute * 60 if hour is None else hour), barred)


WORTHS = {
    0: terms(100),
    1: terms(150),
    2: terms(50),
    3: terms(0),
    4: terms(100, barred=True),
    5: terms(100),
    6: terms(100, hour=6001),
    7: terms(0, hour=1),
    8: terms(200, barred=True),
    9: terms(10**9),
    10: terms(1),
    11: terms(97),
    12: terms(1000),
    13: terms(1100),
}


def test_what_becomes_of_each_prefix() -> None:
    """Each kind, and the order: largest changes first, dearer and cheaper in one list, from nothing before all."""
    before = {"1": 0, "2": 0, "3": 3, "4": 0, "5": 4, "6": 0, "8": 0, "9": 0, "0": 0, "10": 0, "11": 3, "12": 10,
              "13": 0, "14": 8, "15": 9, "16": 1, "17": 12}  # fmt: skip
    after = {"1": 1, "2": 2, "3": 1, "4": 4, "5": 0, "7": 1, "8": 5, "9": 0, "0": 0, "10": 6, "11": 7, "12": 9,
             "13": 11, "14": 0, "15": 9, "16": 0, "17": 13}  # fmt: skip
    old = frame(*(row(prefix, number, name=f"n{prefix}") for prefix, number in before.items()))
    new = frame(
        *(row(prefix, number, name="new" if prefix == "9" else f"n{prefix}") for prefix, number in after.items())
    )
    found = compare(old, new, NOW, WORTHS)
    assert found.columns == ["prefix", "destination", "was", "kind", "old", "new", "amount", "permille"]
    assert found.rows() == [
        ("3", "n3", "n3", "dearer", 0, 150, 150, None),
        # From 1 to a thousand million: no number of thousandths is larger.
        ("12", "n12", "n12", "dearer", 1, 10**9, 10**9 - 1, 10**9),
        ("1", "n1", "n1", "dearer", 100, 150, 50, 500),
        ("2", "n2", "n2", "cheaper", 100, 50, -50, -500),
        # Thousandths before amounts; -333.3 of them are told as -334.
        ("16", "n16", "n16", "cheaper", 150, 100, -50, -334),
        ("17", "n17", "n17", "dearer", 1000, 1100, 100, 100),
        ("13", "n13", "n13", "cheaper", 100, 97, -3, -30),
        ("10", "n10", "n10", "dearer", 100, 100, 0, 0),
        ("11", "n11", "n11", "dearer", 0, 0, 0, 0),
        ("4", "n4", "n4", "barred", 100, 100, 0, 0),
        ("14", "n14", "n14", "unbarred", 200, 100, -100, -500),
        ("5", "n5", "n5", "unbarred", 100, 100, 0, 0),
        ("6", "n6", "n6", "removed", 100, None, None, None),
        ("7", "n7", None, "added", None, 150, None, None),
        ("8", "n8", "n8", "otherwise", 100, 100, 0, 0),
        ("9", "new", "n9", "renamed", 100, 100, 0, 0),
        ("0", "n0", "n0", "unchanged", 100, 100, 0, 0),
        ("15", "n15", "n15", "unchanged", 10**9, 10**9, 0, 0),
    ]


def test_before_and_after_are_compared_at_one_moment() -> None:
    """Of what ends before it, and what begins after it, nothing is said."""
    old = frame(row("49", 0, ALWAYS, 2000), row("44", 0))
    new = frame(row("49", 0, ALWAYS, 2000), row("49", 1, 2000), row("44", 0))
    assert [line[3] for line in compare(old, new, 1999, WORTHS).rows()] == ["unchanged", "unchanged"]
    assert [line[:4] for line in compare(old, new, 2000, WORTHS).rows()] == [
        ("49", "x", None, "added"),
        ("44", "x", "x", "unchanged"),
    ]
    # Equal changes in thousandths: the larger amount first, then the prefix.
    old = frame(row("3", 2), row("2", 0), row("1", 2))
    new = frame(row("3", 0), row("2", 8), row("1", 0))
    doubled = compare(old, new, NOW, {**WORTHS, 8: terms(200)}).rows()
    assert [(line[0], line[6], line[7]) for line in doubled] == [("2", 100, 1000), ("1", 50, 1000), ("3", 50, 1000)]


# -- a deck in memory, and written -------------------------------------------------------------------------------------

STEP = (Step(0, Decimal("0.1"), 60, 1),)
SINCE, UNTIL = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, 0, 0, 0, 7, UTC)


def named(prefix: str, name: str = "", fee: str = "0", **said: Any) -> Rate:
    return Rate(prefix, name, Decimal(fee), STEP, ROUNDING, **said)


def test_times_are_microseconds_since_1970() -> None:
    """And those that say nothing are ALWAYS and NEVER."""
    assert instant_us(datetime(1970, 1, 1, 0, 0, 1, 5, UTC)) == 1_000_005
    assert instant_us(datetime.fromisoformat("1970-01-01T01:00:00+02:00")) == -3_600_000_000
    assert moment(1_000_005) == datetime(1970, 1, 1, 0, 0, 1, 5, UTC)
    assert (moment(ALWAYS), moment(NEVER), moment(0)) == (None, None, datetime(1970, 1, 1, tzinfo=UTC))


def test_rates_share_their_terms() -> None:
    """Rates that cost the same have one number, in the order in which they come; dates are no part of it."""
    given = [named("49", "a"), named("44", "b", "0.5"), named("33", "c", effective_at=SINCE, expires_at=UNTIL)]
    deck = deck_of(given)
    assert deck.terms == (named(""), named("", fee="0.5"))
    since, until = instant_us(SINCE), instant_us(UNTIL)
    assert deck.rows.rows() == [
        (1, "49", "a", 0, ALWAYS, NEVER),
        (2, "44", "b", 1, ALWAYS, NEVER),
        (3, "33", "c", 0, since, until),
    ]
    assert dict(zip(deck.rows.columns, deck.rows.dtypes, strict=True)) == deck_columns()
    assert (deck.rates, len(deck)) == (tuple(given), 3)
    assert deck_of(given, own=lambda rate: replace(rate, connect_fee=Decimal(9))).terms == (named("", fee="9"),)
    only_since = [named("33", effective_at=SINCE), named("33", expires_at=SINCE)]
    assert list(deck_of(only_since).rates) == only_since
    assert Deck(deck.rows, deck.terms).skipped == ()


def test_a_map_of_rows_finds_what_is_in_force() -> None:
    """Prefixes with a date and without, and one that has both; shorter prefixes where nothing else is in force."""
    given = [
        named("49", "a"), named("4915", "b", expires_at=SINCE), named("4915", "c", "0.5", effective_at=SINCE),
        named("44", "d"), named("44", "e", "0.5", effective_at=SINCE), named("4917", "f", "0.5", effective_at=SINCE),
    ]  # fmt: skip
    deck = deck_of(given)
    found = rate_map(deck.rows, dict(enumerate(deck.terms)))
    before, after = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    asked = ("4930", "4915", "44", "4917", "1")
    assert [(one.destination if one else None) for one in (found.longest(number, before) for number in asked)] == [
        "a", "b", "d", "a", None,
    ]  # fmt: skip
    assert [(one.destination if one else None) for one in (found.longest(number, after) for number in asked)] == [
        "a", "c", "e", "f", None,
    ]  # fmt: skip
    assert found.longest("4930", before) == given[0]
    one = found.longest("4930", before)
    assert one is not None
    assert one.terms is not None
    assert rates_of(deck.rows, deck.terms) == given


def test_a_deck_is_written() -> None:
    """The usual columns always, others where some rate says something; a page of lines after the header."""
    given = [
        named("0049", "=X"), named("", 'a "b", c', "0.5", effective_at=SINCE), named("44", " y", expires_at=UNTIL),
        Rate("1", "a;b\tc|d", Decimal(0), (Step(0, Decimal("0.1"), 1, 60),), ROUNDING, barred=True),
    ]  # fmt: skip
    deck = deck_of(given)
    told: list[int] = []
    pages = list(write_csv(deck.rows, deck.terms, progress=told.append))
    assert pages == [
        "prefix,destination,connect_fee,price,per_s,increment_s,barred,rounding,effective_at,expires_at\r\n",
        (
            "'0049,'=X,,0.1,,1,,up 4,,\r\n"
            '*,"a ""b"", c",0.5,0.1,,1,,up 4,2026-12-01T00:00:00+00:00,\r\n'
            "44,' y,,0.1,,1,,up 4,,2027-01-01T00:00:00.000007+00:00\r\n"
            '1,"a;b\tc|d",,0.1,1,60,1,up 4,,\r\n'
        ),
    ]
    assert told == [0, 4]
    assert list(write_csv(deck.rows, deck.terms)) == pages
    assert next(write_rows(deck.rows.clear(), ())) == [["prefix", "destination", "connect_fee", "price", "increment_s"]]
    since = frame(row("49", 0, 5))
    assert columns_of(since, [{"price": "1"}])[-1] == "effective_at"
    assert columns_of(frame(row("49", 0, ALWAYS, 5)), [])[-1] == "expires_at"
