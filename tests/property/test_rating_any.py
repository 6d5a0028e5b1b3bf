"""Laws that hold for any rate at all: bands, holidays, fees, bounds, surcharges, roundings, zones, all together."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from rating.errors import AmountError
from rating.money import MOST_MICROS
from rating.parts import PLAIN, Band, Conditions, Step
from rating.pricing import afford, charged, cost, cost_ms, exact_cost, longest
from rating.tariff import Rate
from tests.random_rates import call
from tests.random_rates import rate as any_rate

SEEDS = st.integers(0, 2**32)


def drawn(seed: int) -> tuple[Rate, datetime]:
    """Return a rate of any shape and a time of answer, often near a change of the clock."""
    chance = random.Random(seed)
    return any_rate(chance, "49"), call(chance)[1]


@given(SEEDS, st.integers(0, 5_000), st.integers(0, 3_000))
@settings(max_examples=400, deadline=None)
def test_the_price_never_falls_with_time(seed: int, talk_ms: int, more_ms: int) -> None:
    """To the millisecond, and what is billed never falls either, nor is it less than what was priced."""
    rate, at = drawn(seed)
    try:
        micros, billed_ms = cost_ms(rate, talk_ms * 100, at)
        later, longer_ms = cost_ms(rate, talk_ms * 100 + more_ms, at)
    except AmountError:
        return
    assert 0 <= micros <= later
    assert billed_ms <= longer_ms
    assert billed_ms >= talk_ms * 100 or billed_ms == 0


@given(SEEDS, st.integers(0, 20_000_000), st.integers(0, 4_000))
@settings(max_examples=600, deadline=None)
def test_money_lasts_exactly_as_long_as_its_price(seed: int, funds: int, most_s: int) -> None:
    """price(afford(m)) <= m < price(afford(m) + one increment), unless the tariff or the question ends it before."""
    rate, at = drawn(seed)
    seconds = afford(rate, funds, most_s, at)
    assert 0 <= seconds <= most_s
    if seconds:
        assert cost(rate, seconds, at)[0] <= funds
    if seconds < longest(rate, most_s, at):
        # A second more is no more than an increment more: increments are shorter, or end within it.
        try:
            assert cost(rate, seconds + 1, at)[0] > funds
        except AmountError:
            assert funds <= MOST_MICROS


@given(SEEDS, st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=400, deadline=None)
def test_a_call_split_between_increments_costs_the_same(seed: int, first: int, second: int) -> None:
    """Where nothing but increments is charged, two calls laid end to end cost exactly what one call costs.

    Steps, fees, free seconds, bounds and the rounding look at the whole call, so there it must not be so.
    """
    rate, at = drawn(seed)
    increment_s = 6

    def only(steps: tuple[Step, ...]) -> tuple[Step, ...]:
        return tuple(replace(step, increment_s=increment_s, fee=step.fee * 0) for step in steps[:1])

    bare = replace(
        rate,
        connect_fee=rate.connect_fee * 0,
        steps=only(rate.steps),
        bands=tuple(replace(band, steps=only(band.steps), connect_fee=None) for band in rate.bands),
        conditions=Conditions(timezone=rate.conditions.timezone, outside=rate.conditions.outside)
        if rate.bands
        else PLAIN,
    )
    assert all(isinstance(band, Band) for band in bare.bands)
    one, other = first * increment_s, second * increment_s
    whole = exact_cost(bare, (one + other) * 1000, at)
    split_at = at + timedelta(seconds=one)
    if longest(bare, one + other, at) < one + other:
        return  # closed in between: what begins after that has the price of no band of its own
    assert whole == exact_cost(bare, one * 1000, at) + exact_cost(bare, other * 1000, split_at)
    assert isinstance(whole, Fraction)


@given(SEEDS, st.integers(0, 5_000_000))
@settings(max_examples=300, deadline=None)
def test_a_finished_call_is_charged_no_more_than_the_tariff_lets_it_last(seed: int, talk_ms: int) -> None:
    """What is priced is the talk as the tariff rounds it, cut where the tariff ends calls; again it costs the same."""
    rate, at = drawn(seed)
    try:
        micros, priced_ms, billed_ms = charged(rate, talk_ms, at)
    except AmountError:
        return
    assert (micros, billed_ms) == cost_ms(rate, priced_ms, at)
    assert priced_ms <= -(-talk_ms // 1000) * 1000
    if priced_ms < talk_ms - 999:
        assert longest(rate, talk_ms, at) * 1000 == priced_ms
