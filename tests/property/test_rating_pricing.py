"""Pricing against a slow and plain reading of its rules."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from rating.money import format_amount, parse_amount, round_total
from rating.pricing import afford, cost, price
from rating.tariff import Rate, Rounding, RoundingMode, Step

PRICES = st.one_of(st.just(Decimal(0)), st.decimals(0, 3, places=2), st.decimals(0, 1, places=7))
INCREMENTS = st.sampled_from([1, 1, 6, 7, 30, 60])


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """Any rate of up to four steps."""
    begins = [0, *sorted(draw(st.sets(st.integers(1, 150), max_size=3)))]
    steps = tuple(Step(at, draw(PRICES), draw(st.sampled_from([1, 7, 60])), draw(INCREMENTS)) for at in begins)
    rounding = Rounding(draw(st.sampled_from(RoundingMode)), draw(st.integers(0, 6)))
    return Rate("49", "Germany", draw(PRICES), steps, rounding)


def walked(rate: Rate, seconds: int) -> tuple[int, int]:
    """Price by walking from increment to increment, as the rule is told to a person."""
    if seconds <= 0:
        return 0, 0
    total, at = Fraction(rate.connect_fee), 0
    while at < seconds:
        step = [step for step in rate.steps if step.from_s <= at][-1]
        increment_s = int(step.increment_s)
        total += Fraction(step.price) * increment_s / step.per_s
        at += increment_s
    return round_total(total, rate.rounding), at


@given(rates(), st.integers(-1, 400))
def test_cost_is_the_walk(rate: Rate, seconds: int) -> None:
    """The closed form costs what walking every increment costs."""
    assert cost(rate, seconds) == walked(rate, seconds)


@given(rates(), st.integers(0, 400))
def test_the_lines_add_up(rate: Rate, seconds: int) -> None:
    """A price agrees with `cost`; its lines hold all billed seconds, and all the money where decimals can write it."""
    explained = price(rate, seconds)
    assert (explained.cost_micros, explained.billed_s) == cost(rate, seconds)
    assert sum(line.seconds for line in explained.lines) == explained.billed_s
    if not any("…" in line.amount for line in explained.lines):
        exact = sum((Fraction(line.amount) for line in explained.lines), Fraction(0))
        assert round_total(exact, rate.rounding) == explained.cost_micros


@given(rates(), st.integers(-2, 60_000_000), st.integers(-1, 400))
@settings(max_examples=500)
def test_afford_is_the_inverse_of_cost(rate: Rate, funds_micros: int, most_s: int) -> None:
    """What is afforded costs no more than the funds, and a second more would, unless that is all that was asked."""
    seconds = afford(rate, funds_micros, most_s)
    assert 0 <= seconds <= max(0, most_s)
    free = not rate.connect_fee and not any(step.price for step in rate.steps)
    if free:
        assert seconds == max(0, most_s)
        return
    if seconds:
        assert cost(rate, seconds)[0] <= funds_micros
    if funds_micros >= 0 and seconds < most_s:
        assert cost(rate, seconds + 1)[0] > funds_micros
        assert cost(rate, seconds)[1] == seconds


@given(rates(), st.integers(1, 400))
def test_the_exact_price_affords_the_call_and_a_micro_less_does_not(rate: Rate, seconds: int) -> None:
    """Funds equal to a call's cost afford the call; one micro-unit less does not, if it costs anything."""
    cost_micros, _ = cost(rate, seconds)
    assert afford(rate, cost_micros, seconds) == seconds
    if cost_micros:
        assert afford(rate, cost_micros - 1, seconds) < seconds


@given(rates(), st.integers(0, 400), st.integers(0, 60_000_000), st.integers(0, 60_000_000))
def test_more_never_costs_or_affords_less(rate: Rate, seconds: int, funds: int, more: int) -> None:
    """Cost rises with time, and time with money."""
    assert cost(rate, seconds)[0] <= cost(rate, seconds + 1)[0]
    assert afford(rate, funds, seconds) <= afford(rate, funds + more, seconds)


@given(rates(), st.integers(0, 400))
def test_stored_facts_price_the_same(rate: Rate, seconds: int) -> None:
    """A rate read from its facts is the same rate and costs the same, for ever."""
    again = Rate.from_facts(rate.facts())
    assert again == rate
    assert again.facts() == rate.facts()
    assert cost(again, seconds) == cost(replace(rate), seconds)


@given(st.integers(-(2**53) + 1, 2**53 - 1), st.integers(0, 8))
def test_an_amount_survives_its_text(micros: int, decimals: int) -> None:
    """Writing an amount and reading it gives the amount."""
    text = format_amount(micros, decimals=decimals)
    assert decimals > 6 or parse_amount(text) == micros
    assert len(text.partition(".")[2]) >= decimals
