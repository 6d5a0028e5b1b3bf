"""Rates with bands, bounds, fees and surcharges, against a slow and plain reading of the rules: increment by increment.

The reading asks the zone for the local time of every increment, and shares no code with what it checks.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rating.money import round_total
from rating.pricing import afford, billable_ms, closing, cost, cost_ms, longest, price_ms
from rating.tariff import (
    Band,
    BandsAt,
    Conditions,
    Durations,
    Outside,
    Rate,
    Rounding,
    RoundingMode,
    Step,
    Surcharge,
    ThenWhat,
    When,
    find_fault,
)

PRICES = st.one_of(st.just(Decimal(0)), st.decimals(0, 3, places=2), st.decimals(0, 1, places=7))
INCREMENTS: st.SearchStrategy[int | Decimal] = st.sampled_from([1, 1, 6, 7, 30, 60, Decimal("0.1"), Decimal("2.5")])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
QUARTERS = st.integers(0, 95).map(lambda quarter: quarter * 900)
DAYS = st.sets(st.integers(1, 7), min_size=1).map(lambda days: tuple(sorted(days)))
DATES = st.lists(st.sampled_from(["12-25", "2026-03-29", "10-25", "2026-10-25", "02-29"]), max_size=2, unique=True)
# Around the changes of the clock in 2026, in Europe, America and on Lord Howe, and any time.
TIMES = st.one_of(
    st.sampled_from(["2026-03-29T01", "2026-10-25T01", "2026-03-08T07", "2026-11-01T06", "2026-04-04T15"])
    .map(lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC))
    .flatmap(lambda at: st.integers(-5400, 3600).map(lambda seconds: at + timedelta(seconds=seconds))),
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - UTC is added
)  # fmt: skip


@st.composite
def steps(draw: st.DrawFn) -> tuple[Step, ...]:
    """Up to three steps, perhaps with fees."""
    begins = [0, *sorted(draw(st.sets(st.integers(1, 150), max_size=2)))]
    fees = st.one_of(st.just(Decimal(0)), PRICES)
    return tuple(Step(at, draw(PRICES), draw(st.sampled_from([1, 60])), draw(INCREMENTS), draw(fees)) for at in begins)


@st.composite
def conditions(draw: st.DrawFn) -> Conditions:
    """Any conditions, most of them saying little."""
    least = draw(st.one_of(st.just(Decimal(0)), PRICES))
    return Conditions(
        timezone=draw(ZONES),
        bands_at=draw(st.sampled_from(BandsAt)),
        outside=draw(st.sampled_from([Outside.BASE, Outside.CLOSED])),
        durations=draw(st.sampled_from(Durations)),
        free_s=draw(st.sampled_from([0, 0, 0, 20])),
        free_below_s=draw(st.sampled_from([0, 0, 0, 5])),
        min_charge=least,
        max_charge=draw(st.one_of(st.none(), PRICES.map(lambda more: least + more))),
        max_charge_then=draw(st.sampled_from(ThenWhat)),
        surcharges=tuple(
            draw(st.lists(st.builds(Surcharge, st.integers(1, 90), PRICES, st.sampled_from([0, 45])), max_size=1))
        ),
    )


@st.composite
def rates(draw: st.DrawFn, *, banded: bool = True) -> Rate:
    """Any rate: up to four bands that are told apart by their priorities."""
    said = draw(conditions())
    bands = []
    for priority in range(draw(st.integers(1, 4)) if banded else 0):
        begin, end = draw(st.lists(QUARTERS, min_size=2, max_size=2, unique=True))
        when = When(draw(DAYS), begin, end, tuple(draw(DATES)) if draw(st.booleans()) else (), priority)
        bands.append(Band(when, draw(steps()), draw(st.none() | PRICES)))
    base = draw(steps()) if not bands or said.outside is Outside.BASE else ()
    rounding = Rounding(draw(st.sampled_from(RoundingMode)), draw(st.integers(0, 6)))
    return Rate("49", "Germany", draw(PRICES), base, rounding, bands=tuple(bands), conditions=said)


def band_at(rate: Rate, at: datetime) -> Band | None:
    """Return the band in force, by asking every band."""
    local = at.astimezone(ZoneInfo(rate.conditions.timezone))
    second = local.hour * 3600 + local.minute * 60 + local.second
    best: Band | None = None
    for band in rate.bands:
        when = band.when
        if when.from_s < when.to_s:
            begun, holds = local.date(), when.from_s <= second < when.to_s
        else:
            begun = local.date() - timedelta(days=second < when.to_s)
            holds = second >= when.from_s or second < when.to_s
        text = begun.isoformat()
        holds = holds and begun.isoweekday() in when.days
        if when.dates:
            holds = holds and (text in when.dates or text[5:] in when.dates)
        if holds and (best is None or best.when.priority < when.priority):
            best = band
    return best


def walked(rate: Rate, talk_ms: int, at: datetime) -> tuple[int, int]:
    """Price by walking from increment to increment, as the rule is told to a person."""
    said = rate.conditions
    if talk_ms <= 0 or talk_ms < said.free_below_s * 1000:
        return 0, 0
    first = band_at(rate, at)
    total = Fraction(rate.connect_fee if first is None or first.connect_fee is None else first.connect_fee)
    at_ms = said.free_s * 1000
    before_ms = -1
    while at_ms < talk_ms:
        moment = at if said.bands_at is BandsAt.START else at + timedelta(milliseconds=at_ms)
        band = band_at(rate, moment)
        held = band.steps if band else rate.steps
        reached = [step for step in held if step.from_s * 1000 <= at_ms - said.free_s * 1000]
        total += sum(
            (Fraction(step.fee) for step in reached if (step.from_s + said.free_s) * 1000 > before_ms), Fraction(0)
        )
        step = reached[-1]
        total += Fraction(step.price) * Fraction(step.increment_s) / step.per_s
        before_ms = at_ms
        at_ms += int(step.increment_s * 1000)
    for due in said.surcharges:
        if talk_ms >= due.after_s * 1000:
            times = 1 + (talk_ms - due.after_s * 1000) // (due.every_s * 1000) if due.every_s else 1
            total += Fraction(due.amount) * times
    micros = round_total(total, rate.rounding)
    unit = 10 ** (6 - rate.rounding.decimals)
    micros = max(micros, -(-int(said.min_charge * 10**18) // (10**12 * unit)) * unit)
    if said.max_charge is not None and said.max_charge_then is ThenWhat.FREE:
        micros = min(micros, int(said.max_charge * 10**18) // (10**12 * unit) * unit)
    return micros, at_ms


@given(rates(), st.integers(-1, 400_000), TIMES)
@settings(max_examples=400)
def test_cost_is_the_walk(rate: Rate, talk_ms: int, at: datetime) -> None:
    """The timeline costs what asking the clock at every increment costs, on every day and in every zone."""
    assert find_fault(rate) is None
    # In closed hours there is nothing to ask the clock for.
    assume(talk_ms <= 0 or closing(rate, at, talk_ms + 60_000) is None)
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    assert cost_ms(rate, talk_ms, at) == walked(rate, talk_ms, at)


@given(rates(banded=False), st.integers(-1, 400_000))
@settings(max_examples=200)
def test_conditions_without_bands_are_the_walk_too(rate: Rate, talk_ms: int) -> None:
    """The closed form costs the same, and needs no time."""
    assert cost_ms(rate, talk_ms) == walked(rate, talk_ms, datetime(2026, 1, 1, tzinfo=UTC))


@given(rates(), st.integers(0, 400), TIMES)
@settings(max_examples=200)
def test_the_lines_add_up(rate: Rate, seconds: int, at: datetime) -> None:
    """The lines hold all billed seconds, and all the money where decimals can write it."""
    explained = price_ms(rate, seconds * 1000, at=at)
    assert (explained.cost_micros, explained.billed_ms) == cost_ms(rate, seconds * 1000, at)
    assert sum(Fraction(line.seconds) for line in explained.lines) * 1000 == explained.billed_ms
    if not any("…" in line.amount for line in explained.lines):
        exact = sum((Fraction(line.amount) for line in explained.lines), Fraction(0))
        assert round_total(exact, rate.rounding) == explained.cost_micros


@given(rates(), st.integers(0, 400_000), st.integers(0, 5_000), TIMES)
@settings(max_examples=200)
def test_cost_never_falls_with_time(rate: Rate, talk_ms: int, more_ms: int, at: datetime) -> None:
    """A longer call costs no less, and is billed no shorter, in closed hours as well."""
    shorter, longer = cost_ms(rate, talk_ms, at), cost_ms(rate, talk_ms + more_ms, at)
    assert shorter[0] <= longer[0]
    assert shorter[1] <= longer[1]


@given(rates(), st.integers(-2, 60_000_000), st.integers(-1, 400), TIMES)
@settings(max_examples=400)
def test_afford_is_the_inverse_of_cost(rate: Rate, funds_micros: int, most_s: int, at: datetime) -> None:
    """What is afforded costs no more than the funds; a second more would, or is not asked for, or not allowed."""
    seconds = afford(rate, funds_micros, most_s, at)
    assert 0 <= seconds <= max(0, most_s)
    if seconds and funds_micros >= 0:
        assert cost(rate, seconds, at)[0] <= funds_micros
    if funds_micros >= 0 and seconds < min(most_s, longest(rate, most_s, at)):
        assert cost(rate, seconds + 1, at)[0] > funds_micros
    if funds_micros < 0 and seconds:
        assert cost(rate, seconds, at)[0] == 0


@given(rates(), st.integers(1, 400), TIMES)
def test_the_exact_price_affords_the_call_and_a_micro_less_does_not(rate: Rate, seconds: int, at: datetime) -> None:
    """Funds equal to a call's cost afford the call, unless its tariff ends it; a micro-unit less does not."""
    cost_micros, _ = cost(rate, seconds, at)
    assert afford(rate, cost_micros, seconds, at) == longest(rate, seconds, at)
    if cost_micros:
        assert afford(rate, cost_micros - 1, seconds, at) < seconds


@given(rates(), st.integers(0, 400), TIMES)
def test_the_longest_call_is_within_what_the_tariff_lets(rate: Rate, most_s: int, at: datetime) -> None:
    """No grant goes into closed hours or beyond the highest charge at which calls are cut."""
    seconds = longest(rate, most_s, at)
    assert closing(rate, at, seconds * 1000) is None or not seconds
    said = rate.conditions
    if said.max_charge is not None and said.max_charge_then is ThenWhat.DISCONNECT:
        assert cost(rate, seconds, at)[0] <= said.max_charge * 1_000_000 or not seconds


@given(rates(), st.integers(0, 400_000), TIMES)
@settings(max_examples=200)
def test_stored_facts_price_the_same(rate: Rate, talk_ms: int, at: datetime) -> None:
    """A rate read from its facts, through JSON, is the same rate and costs the same, for ever."""
    facts = json.loads(json.dumps(rate.facts()))
    again = Rate.from_facts(facts)
    assert again == rate
    assert again.facts() == facts
    assert cost_ms(again, talk_ms, at) == cost_ms(replace(rate), talk_ms, at)


@given(rates(), st.integers(0, 400_000))
def test_a_duration_is_rounded_by_less_than_a_second(rate: Rate, talk_ms: int) -> None:
    """Whole seconds up, down or to the nearest one; or the milliseconds themselves."""
    rounded = billable_ms(rate, talk_ms)
    assert abs(rounded - talk_ms) < 1000
    match rate.conditions.durations:
        case Durations.UP:
            assert rounded >= talk_ms
        case Durations.DOWN:
            assert rounded <= talk_ms
        case Durations.NEAREST:
            assert abs(rounded - talk_ms) <= 500
        case Durations.EXACT:
            assert rounded == talk_ms
    assert rounded % 1000 == 0 or rate.conditions.durations is Durations.EXACT


@given(rates(banded=False), st.integers(0, 400_000), TIMES)
def test_bands_of_one_price_are_no_bands(rate: Rate, talk_ms: int, at: datetime) -> None:
    """However the week is cut, if every band costs the same a call costs what it costs without bands."""
    halves = tuple(
        Band(When(from_s=begin * 3600, to_s=end * 3600), rate.steps) for begin, end in ((7, 19), (19, 24), (0, 7))
    )
    cut = replace(rate, steps=(), bands=halves, conditions=replace(rate.conditions, outside=Outside.FORBIDDEN))
    assert cost_ms(cut, talk_ms, at) == cost_ms(rate, talk_ms)
