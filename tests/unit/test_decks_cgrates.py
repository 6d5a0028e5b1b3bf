"""Tariff plans of CGRateS: how several files become one deck, which timing holds when, and what is refused."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import rating.decks.cgrates_files
import rating.decks.sheet
from rating.decks.cgrates_files import COLUMNS, read_plan, sheet_rows
from rating.decks.deck import BadRow
from rating.decks.reading import guess, read_deck
from rating.decks.sheet import Sheet, open_sheet
from rating.decks.workbook import NotASheet
from rating.parts import Band, Outside, Rounding, RoundingMode, Step, When
from rating.pricing import price
from rating.tariff import Rate

WEEKDAYS = (1, 2, 3, 4, 5)
CHEAP, DEAR = (Step(0, Decimal("0.1"), 60, 60),), (Step(0, Decimal("0.4"), 60, 1),)
FILES = {
    "Destinations": "#Id,Prefix\nDE,+49\nDE,49151\n",
    "Rates": "#Id,ConnectFee,Rate,RateUnit,RateIncrement,GroupIntervalStart\n"
    "CHEAP,0,0.1,60s,60s,0s\nDEAR,0.2,0.4,60s,1s,0s\n",
    "DestinationRates": "#Id,DestinationId,RatesTag,RoundingMethod,RoundingDecimals\n"
    "DR_CHEAP,DE,CHEAP,*up,4\nDR_DEAR,DE,DEAR,*up,4\n",
    "RatingPlans": "#Id,DestinationRatesId,TimingTag,Weight\nRP,DR_CHEAP,*any,10\nRP,DR_DEAR,PEAK,20\n",
    "Timings": "#Tag,Years,Months,MonthDays,WeekDays,Time\nPEAK,*any,*any,*any,1;2;3;4;5,08:00:00\n",
}


def packed(**changes: str) -> bytes:
    """Return a plan as an archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for name, text in {**FILES, **changes}.items():
            if text:
                zipped.writestr(f"{name}.csv", text)
    return file.getvalue()


def opened(table: str = "", **changes: str) -> Sheet:
    """Return the sheet of a plan."""
    return open_sheet(packed(**changes), table=table)


def rates(table: str = "", **changes: str) -> dict[str, Rate]:
    """Return the rates of a plan by prefix; nothing is bad."""
    sheet = opened(table, **changes)
    deck = read_deck(sheet, guess(sheet), rounding=Rounding(decimals=0))
    assert deck.bad == ()
    return {rate.prefix: rate for rate in deck.rates}


def told(**changes: str) -> list[tuple[int, str, str]]:
    """Return what is bad about a plan."""
    return [(row.line, row.column, row.reason) for row in opened(**changes).bad]


CALLS = {
    "Destinations": "#Id,Prefix\nDST_DE,+49\nDST_DE,4915\nDST_UK,44\n",
    "Rates": "#Id,ConnectFee,Rate,RateUnit,RateIncrement,GroupIntervalStart\n"
    "RT_40,0.8,0.4,60s,30s,0s\nRT_40,0,0.2,60s,10s,60s\n\nRT_10,0.2,0.1,60s,60s,0s\n",
    "DestinationRates": "#Id,DestinationId,RatesTag,RoundingMethod,RoundingDecimals,MaxCost,MaxCostStrategy\n"
    "DR_40,DST_DE,RT_40,*up,4,0,\nDR_10,DST_DE,RT_10,*up,4,0,\nDR_UK,DST_UK,RT_10,*up,4,0.62,*disconnect\n",
    "RatingPlans": "#Id,DestinationRatesId,TimingTag,Weight\nRP,DR_40,PEAK,10\nRP,DR_10,EVENING,10\n"
    "RP,DR_10,MORNING,10\nRP,DR_10,WEEKEND,10\nRP,DR_UK,*any,10\nOTHER,DR_UK,*any,10\n",
    "Timings": "#Tag,Years,Months,MonthDays,WeekDays,Time\nPEAK,*any,*any,*any,1;2;3;4;5,08:00:00\n"
    "MORNING,*any,*any,*any,1;2;3;4;5,00:00:00\nEVENING,*any,*any,*any,1;2;3;4;5,19:00:00\n"
    "WEEKEND,*any,*any,*any,6;7,00:00:00\n",
}


def test_a_plan_of_cgrates_is_read_from_its_files() -> None:
    """Destinations, rates with two groups, timings: Monday at 10 at the peak, at 20 and on Sunday not; by hand."""
    sheet = opened(**CALLS)
    assert (sheet.kind, sheet.table, sheet.tables) == ("cgrates", "RP", ("RP", "OTHER"))
    found = rates(**CALLS)
    assert sorted(found) == ["44", "49", "4915"]
    # 90 s at the peak: 0.80 + 2 × 0.20 (30 s at 0.40 a minute) + 3 × (10 s at 0.20 a minute) = 1.30.
    assert price(found["49"], 90, at=datetime(2026, 11, 23, 10, tzinfo=UTC)).cost_micros == 1_300_000
    # Off the peak: 0.20 + 2 minutes at 0.10.
    for at in (datetime(2026, 11, 23, 20, tzinfo=UTC), datetime(2026, 11, 22, 10, tzinfo=UTC)):
        assert price(found["4915"], 90, at=at).cost_micros == 400_000
    assert found["44"].conditions.max_charge == Decimal("0.62")
    assert sorted(rates("OTHER", **CALLS)) == ["44"]


NO_TIMES = {"RatingPlans": "", "Timings": ""}
ONE_RATE = {**NO_TIMES, "DestinationRates": FILES["DestinationRates"].replace("DR_DEAR,DE,DEAR,*up,4\n", "")}


def test_the_heavier_timing_holds() -> None:
    """The peak from 8 to midnight on weekdays; the other rate at all other times, and each fee with its own band."""
    found = rates()
    assert sorted(found) == ["49", "49151"]
    of = found["49"]
    assert (of.destination, of.connect_fee, of.rounding) == ("DE", Decimal(0), Rounding(RoundingMode.UP, 4))
    assert not of.steps
    assert of.conditions.outside is Outside.CLOSED
    assert of.bands == (
        Band(When(WEEKDAYS, 0, 28_800), CHEAP, Decimal(0)),
        Band(When(WEEKDAYS, 28_800, 86_400), DEAR, Decimal("0.2")),
        Band(When((6, 7)), CHEAP, Decimal(0)),
    )


def test_of_equal_weights_the_later_timing_holds() -> None:
    """And a lighter one never, where a heavier one has begun."""
    equal = rates(RatingPlans=FILES["RatingPlans"].replace(",20", ",10"))
    assert equal["49"].bands == rates()["49"].bands
    lighter = rates(RatingPlans=FILES["RatingPlans"].replace(",20", ",9"))["49"]
    assert {band.steps for band in lighter.bands} == {CHEAP}
    assert [band.when.days for band in lighter.bands] == [WEEKDAYS, WEEKDAYS, (6, 7)]


def test_what_the_files_need_not_say() -> None:
    """No timing is at all times, no days are all of them; a weight only where two meet."""
    plain = "#Id,DestinationRatesId\nRP,DR_CHEAP\n"
    assert rates(RatingPlans=plain)["49"].steps == rates(RatingPlans=plain, Timings="")["49"].steps == CHEAP
    assert rates(Timings="#Tag,WeekDays,Time\nPEAK,1;2;3;4;5,08:00:00\n") == rates()
    peak = [Band(When(to_s=28_800), CHEAP, Decimal(0)), Band(When(from_s=28_800), DEAR, Decimal("0.2"))]
    for timings in ("#Tag,Time\nPEAK,08:00:00\n", "#Tag,Years,Months,MonthDays,WeekDays,Time\nPEAK,,,,,08:00:00\n"):
        assert list(rates(Timings=timings)["49"].bands) == peak


def test_times_that_no_timing_covers_are_closed() -> None:
    """Sundays from the morning on, and nothing else: 0 and 7 both are Sunday; a timing without a time begins at 0."""
    plans = "#Id,DestinationRatesId,TimingTag,Weight\nRP,DR_DEAR,SUN,\n"
    head = FILES["Timings"].partition("\n")[0]
    for days, time, begin_s in (("0", "09:00:30", 32_430), ("7", "", 0)):
        timings = f"{head}\nSUN,,,,{days},{time}\n"
        assert rates(RatingPlans=plans, Timings=timings)["49"].bands == (
            Band(When((7,), begin_s, 86_400), DEAR, Decimal("0.2")),
        )
    both = rates(RatingPlans=plans, Timings=f"{head}\nSUN,*any,*any,*any,6;0;1,01:01:01\n")["49"].bands
    assert [(band.when.days, band.when.from_s) for band in both] == [((1, 6, 7), 3661)]
    always = rates(RatingPlans=plans, Timings=f"{head}\nSUN,*any,*any,*any,*any,00:00:00\n")["49"]
    assert (always.bands, always.steps, always.conditions.outside) == ((), DEAR, Outside.FORBIDDEN)


def test_a_plan_is_named_or_the_first() -> None:
    """Each with its own destination rates; one that is not there is told with those that are."""
    plans = FILES["RatingPlans"] + "OTHER,DR_DEAR,*any,0.5\n"
    assert rates(RatingPlans=plans)["49"].bands
    sheet = opened("OTHER", RatingPlans=plans)
    assert (sheet.kind, sheet.encoding, sheet.delimiter, sheet.header_line) == ("cgrates", "UTF-8", "", 1)
    assert (sheet.columns, sheet.table, sheet.tables) == (COLUMNS, "OTHER", ("RP", "OTHER"))
    assert sheet.notes == [
        "a plan of CGRateS, rating plan OTHER; lines are those of its files",
        "the times of its timings are in the time zone named for the file, or else in UTC",
    ]
    assert rates("OTHER", RatingPlans=plans)["49"].steps == DEAR
    for name in ("THIRD", "T" * 41):
        reason = f"there is no rating plan {name[:40]!r}; there are RP, OTHER"
        assert opened(name, RatingPlans=plans).bad == [BadRow(1, "", reason)]


def test_without_rating_plans_all_of_the_destination_rates_are_read() -> None:
    """At all times; lines are those of DestinationRates.csv."""
    sheet = opened(**ONE_RATE)
    assert sheet.notes == ["a plan of CGRateS, all destination rates; lines are those of its files"]
    assert (sheet.table, sheet.tables) == ("", ())
    assert sheet.frame.select("#line", "0", "1").rows() == [(2, "49", "DE"), (2, "49151", "DE")]
    assert rates(**ONE_RATE)["49"].steps == CHEAP


def test_destinations_are_prefixes_or_their_names() -> None:
    """`*any` is everything, without a name; one that no file explains is taken for a prefix; leading zeros stay."""
    text = "Tag,DestinationId,RatesTag\nA,*any,CHEAP\nB,44,CHEAP\nC,0,DEAR\n"
    found = rates(**{**ONE_RATE, "Destinations": "", "DestinationRates": text})
    assert {prefix: rate.destination for prefix, rate in found.items()} == {"": "", "44": "44", "0": "0"}
    assert found["44"].rounding == Rounding(RoundingMode.HALF_UP, 6)
    assert opened(**{**ONE_RATE, "DestinationRates": text}).frame["#line"].to_list() == [2, 3, 4]


def test_a_destination_without_a_prefix_is_bad() -> None:
    """It is not everything: only `*any` is."""
    for text in ("#Id\nDE\n", "#Id,Prefix\nDE,\n"):
        sheet = opened(**{**ONE_RATE, "Destinations": text})
        deck = read_deck(sheet, guess(sheet), rounding=Rounding())
        assert deck.bad == (BadRow(2, "prefix", "expected digits, found nothing"),)


def test_a_row_without_a_destination_is_bad() -> None:
    """It has no prefix either."""
    sheet = opened(**{**ONE_RATE, "DestinationRates": "Id,RatesTag\nx,CHEAP\n"})
    deck = read_deck(sheet, guess(sheet), rounding=Rounding())
    assert deck.bad == (BadRow(2, "prefix", "expected digits, found nothing"),)


def test_a_bad_destination_hides_no_other() -> None:
    """The ones after it are read, and named where they are bad, too."""
    text = "Id,DestinationId,RatesTag\nx,44,NONE\nx,49,CHEAP\nx,33,NONE\n"
    sheet = opened(**{**ONE_RATE, "DestinationRates": text})
    assert sheet.frame.select("#line", "0").rows() == [(3, "49")]
    assert [row.line for row in sheet.bad] == [2, 4]


def test_files_of_many_kinds_are_read() -> None:
    """Semicolons, a mark at the beginning, blank lines, comments, spaces; other files of the archive are passed."""
    text = "\ufeff#Id;DestinationId;RatesTag\n\n # a comment\n#DR;x;y\n DR ; DE ;CHEAP; more\n;;\n"
    changed = {**ONE_RATE, "DestinationRates": text.replace(" # a comment\n", ""), "Accounts": "#Id\nx\n"}
    assert rates(**changed)["49"].steps == CHEAP
    assert opened(**changed).frame["#line"].to_list() == [4, 4]
    marked = {name: "\ufeff" + FILES[name] for name in ("Rates", "Destinations")}
    assert rates(**{**ONE_RATE, **marked})["49"].steps == CHEAP
    broken = read_plan({"Rates": b"Id,Rate\nA\xff,1\n", "DestinationRates": b""})
    assert broken.files["Rates"] == [(2, {"Id": "A\ufffd", "Rate": "1"})]
    listed = read_plan({"Rates": b"Id,Rate\nA,1;2;3;4\n", "DestinationRates": b""})
    assert listed.files["Rates"] == [(2, {"Id": "A", "Rate": "1;2;3;4"})]
    old = read_plan({"Rates": b"Id,Rate\rA,1\r", "DestinationRates": b""})
    assert old.files["Rates"] == [(2, {"Id": "A", "Rate": "1"})]
    # As many semicolons as commas are none.
    plan = read_plan({"Rates": b"Id;x,Rate\nA,1\n", "DestinationRates": b"", "Other": b"Id\n1\n"})
    assert plan.files == {"Rates": [(2, {"Id;x": "A", "Rate": "1"})], "DestinationRates": []}


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        (
            {"RatingPlans": FILES["RatingPlans"].replace("PEAK", "LUNCH")},
            [(3, "RatingPlans", "there is no timing LUNCH in Timings.csv")],
        ),
        (
            {"RatingPlans": FILES["RatingPlans"].replace("PEAK", "T" * 41)},
            [(3, "RatingPlans", f"there is no timing {'T' * 40} in Timings.csv")],
        ),
        (
            {"Timings": ""},
            [(3, "RatingPlans", "there is no timing PEAK in Timings.csv")],
        ),
        (
            {"RatingPlans": FILES["RatingPlans"].replace("DR_DEAR", "D" * 41)},
            [(3, "RatingPlans", f"there are no rates {'D' * 40} in DestinationRates.csv")],
        ),
        (
            {"RatingPlans": "#Id,TimingTag\nRP,*any\n"},
            [(2, "RatingPlans", "there are no rates  in DestinationRates.csv")],
        ),
        (
            {**ONE_RATE, "DestinationRates": "Id,DestinationId\nx,DE\n"},
            [(2, "DestinationRates", "RatesTag: there is no rate  in Rates.csv")],
        ),
        (
            {
                "RatingPlans": FILES["RatingPlans"].replace("PEAK", "T" * 41),
                "Timings": FILES["Timings"].replace("PEAK,*any", f"{'T' * 41},2027"),
            },
            [(3, "RatingPlans", f"the timing {'T' * 40} names Years, which a band cannot tell")],
        ),
        (
            {"Timings": FILES["Timings"].replace("PEAK,*any", "PEAK,2027")},
            [(3, "RatingPlans", "the timing PEAK names Years, which a band cannot tell")],
        ),
        (
            {"Timings": FILES["Timings"].replace("PEAK,*any,*any", "PEAK,*any,1")},
            [(3, "RatingPlans", "the timing PEAK names Months, which a band cannot tell")],
        ),
        (
            {"Timings": FILES["Timings"].replace("*any,1;2", "24,1;2")},
            [(3, "RatingPlans", "the timing PEAK names MonthDays, which a band cannot tell")],
        ),
        (
            {**NO_TIMES},
            [(2, "DestinationRates", "DE has two rates for the same times")],
        ),
        (
            {**ONE_RATE, "Rates": FILES["Rates"].replace("CHEAP", "OTHER")},
            [(2, "DestinationRates", "RatesTag: there is no rate CHEAP in Rates.csv")],
        ),
        (
            {**ONE_RATE, "DestinationRates": "Id,DestinationId,RatesTag\nx,DE," + "R" * 41},
            [(2, "DestinationRates", f"RatesTag: there is no rate {'R' * 40} in Rates.csv")],
        ),
        (
            {**ONE_RATE, "Rates": FILES["Rates"].replace("0.1,60s", "-1,60s")},
            [(2, "DestinationRates", "Rate: expected a number such as 0.0125, found '-1'")],
        ),
        (
            {**ONE_RATE, "Rates": FILES["Rates"].replace("0.1,60s", "9999999999,60s")},
            [(2, "DestinationRates", "DE: steps.0.price is at most 1000000000")],
        ),
    ],
)
def test_what_a_band_cannot_tell(changes: dict[str, str], bad: list[tuple[int, str, str]]) -> None:
    """The line, the file and the reason; a destination with one fault has no rate at all."""
    assert told(**changes) == bad


def test_a_plan_of_which_nothing_is_left_is_read_to_its_end() -> None:
    """Its faults are told, and no others."""
    sheet = opened(**NO_TIMES)
    deck = read_deck(sheet, guess(sheet), rounding=Rounding())
    assert deck.bad == (BadRow(2, "DestinationRates", "DE has two rates for the same times"),)


@pytest.mark.parametrize("weight", ["heavy", "inf", "-1", "1e400"])
def test_a_weight_that_is_no_number_is_bad(weight: str) -> None:
    """Whatever a reader of numbers would make of it."""
    bad = told(RatingPlans=FILES["RatingPlans"].replace(",20", f",{weight}"))
    assert bad == [(3, "RatingPlans", f"Weight: expected a number such as 0.0125, found '{weight}'")]


def test_weights_have_decimals() -> None:
    """Half a weight is more than a fifth."""
    plans = FILES["RatingPlans"].replace(",20", ",0.2").replace(",10", ",0.5")
    assert {band.steps for band in rates(RatingPlans=plans)["49"].bands} == {CHEAP}


@pytest.mark.parametrize(
    ("days", "time"), [("Mo;2", "08:00:00"), ("1;", "08:00:00"), ("1", "08:00"), ("1", "8"), ("x" * 41, "y" * 41)]
)
def test_a_timing_that_cannot_be_read_is_bad(days: str, time: str) -> None:
    """With what stands there."""
    timings = FILES["Timings"].replace("1;2;3;4;5", days).replace("08:00:00", time)
    found = f"expected days such as 1;2;3 and a time such as 08:00:00, found {days[:40]!r} and {time[:40]!r}"
    assert told(Timings=timings) == [(3, "RatingPlans", f"the timing PEAK: {found}")]
    plans = FILES["RatingPlans"].replace("PEAK", "T" * 41)
    long = told(RatingPlans=plans, Timings=timings.replace("PEAK", "T" * 41))
    assert long == [(3, "RatingPlans", f"the timing {'T' * 40}: {found}")]


def test_rates_of_one_destination_round_alike() -> None:
    """A rate has one rounding, and one highest cost."""
    changed = FILES["DestinationRates"].replace("DEAR,*up,4", "DEAR,*up,5")
    reason = "DE has rates that round in different ways, or have different highest costs"
    assert told(DestinationRates=changed) == [(2, "DestinationRates", reason)]


def test_an_archive_without_a_file_that_is_needed() -> None:
    """It is no plan."""
    reason = "the file is a ZIP archive, and neither a workbook nor a plan of CGRateS: unpack it first"
    for name in ("Rates", "DestinationRates"):
        assert told(**{name: ""}) == [(1, "", reason)]
        with pytest.raises(NotASheet, match=rf"^a plan of CGRateS has a file {name}\.csv, and this archive has none$"):
            read_plan({other: b"" for other in ("Rates", "DestinationRates") if other != name})
    with pytest.raises(NotASheet, match=r"^line 2 is not CSV: "):
        read_plan({"Rates": b"Id,Rate\n" + b"1" * 200_000 + b"\n", "DestinationRates": b""})


def test_a_plan_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of prefixes, and of what is told of its faults."""
    monkeypatch.setattr(rating.decks.cgrates_files, "_MOST_ROWS", 1)
    plan = read_plan({name: text.encode() for name, text in FILES.items()})
    with pytest.raises(NotASheet, match=r"^the plan has more than 1 prefixes$"):
        sheet_rows(plan, "RP")
    monkeypatch.setattr(rating.decks.cgrates_files, "_MOST_ROWS", 2)
    assert len(sheet_rows(plan, "RP")[1]) == 2
    monkeypatch.setattr(rating.decks.sheet, "MOST_BAD", 1)
    plans = FILES["RatingPlans"].replace("PEAK", "LUNCH").replace("*any", "BREAK")
    assert len(told(RatingPlans=plans)) == 1
