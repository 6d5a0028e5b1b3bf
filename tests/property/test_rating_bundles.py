"""Bundles and money: what one call costs in both, for any rate and any bundles."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from rating.bundles import afford, left_exact, pay
from rating.money import round_total
from rating.parts import (
    PLAIN,
    Band,
    BandsAt,
    Conditions,
    Rounding,
    RoundingMode,
    Seconds,
    Step,
    Surcharge,
    ThenWhat,
    When,
)
from rating.plans import less, scaled
from rating.pricing import afford as afford_money
from rating.pricing import cost_ms, exact_cost
from rating.tariff import Rate

prices = st.sampled_from([Decimal(text) for text in ("0", "0.01", "0.0333", "0.6", "1.2", "3.1415926")])
increments: st.SearchStrategy[Seconds] = st.sampled_from([1, 6, 30, 60, Decimal("0.1"), Decimal("7.5")])
caps = st.lists(st.integers(0, 400_000), max_size=3)
ANSWERED = datetime(2026, 3, 2, 17, 58, tzinfo=UTC)
answers = st.integers(-900, 900).map(lambda s: ANSWERED + timedelta(seconds=s))
seconds = st.integers(0, 900)


@st.composite
def steps(draw: st.DrawFn) -> tuple[Step, ...]:
    starts = [0, *sorted(draw(st.sets(st.integers(1, 300), max_size=2)))]
    fee = st.sampled_from([Decimal(0), Decimal(0), Decimal("0.05")])
    return tuple(Step(start, draw(prices), 60, draw(increments), draw(fee)) for start in starts)


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    rounding = Rounding(draw(st.sampled_from(list(RoundingMode))), draw(st.integers(2, 6)))
    fee = draw(st.sampled_from([Decimal(0), Decimal("0.1")]))
    conditions = PLAIN
    if draw(st.booleans()):
        conditions = Conditions(
            bands_at=draw(st.sampled_from(list(BandsAt))),
            free_s=draw(st.sampled_from([0, 0, 10])),
            free_below_s=draw(st.sampled_from([0, 0, 5])),
            min_charge=draw(st.sampled_from([Decimal(0), Decimal("0.07")])),
            max_charge=draw(st.sampled_from([None, None, Decimal("2.5")])),
            max_charge_then=draw(st.sampled_from(list(ThenWhat))),
            surcharges=draw(st.sampled_from([(), (Surcharge(45, Decimal("0.02"), 30),)])),
        )
    if draw(st.booleans()):
        bands = (
            Band(When(from_s=6 * 3600, to_s=18 * 3600), draw(steps())),
            Band(When(from_s=18 * 3600, to_s=6 * 3600), draw(steps()), draw(st.sampled_from([None, Decimal("0.2")]))),
        )
        return Rate("49", "", fee, (), rounding, bands=bands, conditions=conditions)
    return Rate("49", "", fee, draw(steps()), rounding, conditions=conditions)


@given(rates(), seconds, answers)
def test_without_bundles_it_is_the_price(rate: Rate, talked: int, at: datetime) -> None:
    """No bundle, or empty ones: the same money and the same time billed."""
    for none in ((), (0,), (0, 0)):
        paid = pay(rate, talked * 1000, none, at)
        assert (paid.micros, paid.billed_ms) == cost_ms(rate, talked * 1000, at)
        assert not any(paid.uses_ms)


@given(rates(), caps, seconds, answers)
def test_bundles_pay_in_whole_increments_and_never_more_than_they_may(
    rate: Rate, caps_ms: list[int], talked: int, at: datetime
) -> None:
    """Each use is within its cap; together with what money pays for they are the time billed, no more."""
    paid = pay(rate, talked * 1000, caps_ms, at)
    assert all(0 <= used <= cap for used, cap in zip(paid.uses_ms, caps_ms, strict=True))
    assert sum(paid.uses_ms) <= paid.billed_ms
    if not rate.conditions.surcharges and rate.conditions.min_charge == 0 and rate.conditions.max_charge is None:
        assert paid.micros <= cost_ms(rate, talked * 1000, at)[0]
    # The end of what bundles pay for is the end of an increment: that much talk is billed as itself.
    covered_ms = sum(paid.uses_ms) + rate.conditions.free_s * 1000
    if any(paid.uses_ms) and covered_ms >= rate.conditions.free_below_s * 1000:
        assert pay(rate, covered_ms, caps_ms, at).billed_ms == covered_ms
        assert pay(rate, covered_ms, caps_ms, at).micros == 0


@given(rates(), caps, seconds, seconds, answers)
def test_more_talk_never_costs_less_of_either(
    rate: Rate, caps_ms: list[int], one: int, more: int, at: datetime
) -> None:
    """Money and every bundle grow with the talk."""
    before, after = pay(rate, one * 1000, caps_ms, at), pay(rate, (one + more) * 1000, caps_ms, at)
    assert before.micros <= after.micros
    assert all(first <= then for first, then in zip(before.uses_ms, after.uses_ms, strict=True))


@given(rates(), caps, st.integers(0, 5_000_000), seconds, answers, st.sampled_from(["0", "12.5", "33.3333"]))
def test_what_can_be_afforded_is_exactly_what_is_paid_for(  # noqa: PLR0917 - what Hypothesis draws
    rate: Rate, caps_ms: list[int], funds: int, most_s: int, at: datetime, percent: str
) -> None:
    """price(afford(m)) ≤ m < price(afford(m) + 1 second), with bundles and a discount; without, as `pricing` says.

    Where the tariff cuts a call at its highest charge, m is no more than that.
    """
    cheaper = scaled(rate, less(Decimal(percent)))
    able = afford(cheaper, funds, caps_ms, most_s, at)
    assert 0 <= able <= most_s
    most, scale = cheaper.conditions.max_charge, 10**cheaper.rounding.decimals
    reaches = funds
    if most is not None and cheaper.conditions.max_charge_then is ThenWhat.DISCONNECT:
        reaches = min(funds, int(most * scale) * 10**6 // scale)
    assert pay(cheaper, able * 1000, caps_ms, at).micros <= reaches
    if able < most_s:
        assert pay(cheaper, (able + 1) * 1000, caps_ms, at).micros > reaches
    assert afford(cheaper, funds, (), most_s, at) == afford_money(cheaper, funds, most_s, at)


@given(rates(), caps, seconds, answers)
def test_what_is_left_rounds_to_what_is_charged(rate: Rate, caps_ms: list[int], talked: int, at: datetime) -> None:
    """What the words add up from is the exact amount behind the charge; with no bundles it is the exact cost."""
    exact = left_exact(rate, talked * 1000, caps_ms, at)
    assert round_total(exact, rate.rounding) == pay(rate, talked * 1000, caps_ms, at).micros
    assert left_exact(rate, talked * 1000, (), at) == exact_cost(rate, talked * 1000, at)


@given(rates(), caps, seconds, answers)
def test_the_uses_as_caps_price_the_same(rate: Rate, caps_ms: list[int], talked: int, at: datetime) -> None:
    """A call that holds just what it needs of its bundles is priced as one that could use more.

    In its free seconds it uses nothing: the increment after them says who would pay, and what is held reaches to it.
    """
    reach_s = max(talked, rate.conditions.free_s + 1)
    held_ms = pay(rate, reach_s * 1000, caps_ms, at).uses_ms
    assert pay(rate, talked * 1000, held_ms, at) == pay(rate, talked * 1000, caps_ms, at)


def test_worked_by_hand() -> None:
    """100 s at 0.60 a minute in tens, 0.05 to connect; a bundle of 35 s pays for 30: 70 s are 0.70 + 0.05."""
    rate = Rate("49", "", Decimal("0.05"), (Step(0, Decimal("0.60"), 60, 10),), Rounding(RoundingMode.HALF_UP, 4))
    assert pay(rate, 100_000, [35_000]) == (750_000, (30_000,), 100_000)
    # All of it in bundles: no money at all, the connect fee neither. The second bundle begins where the first ends.
    assert pay(rate, 95_000, [35_000, 75_000]) == (0, (30_000, 70_000), 100_000)
    # 0.55 pay for the fee and 50 s beyond the 30 s; a micro-unit less for 40 s.
    assert afford(rate, 550_000, [35_000], 3600) == 80
    assert afford(rate, 549_999, [35_000], 3600) == 70
    # With nothing but the bundle: 30 s; without it nothing.
    assert afford(rate, 0, [35_000], 3600) == 30
    assert afford(rate, 0, [], 3600) == 0


def test_free_seconds_and_fees_of_steps_worked_by_hand() -> None:
    """10 s free, then minutes; from 120 s on another price with a fee of 0.2. The bundle pays for the first minute."""
    rate = Rate(
        "49",
        "",
        Decimal("0.05"),
        (Step(0, Decimal("0.6"), 60, 60), Step(120, Decimal("0.3"), 60, 60, Decimal("0.2"))),
        Rounding(RoundingMode.HALF_UP, 4),
        conditions=replace(PLAIN, free_s=10),
    )
    # Within the free seconds neither is touched. 10 s + one minute: the bundle alone.
    assert pay(rate, 10_000, [70_000]) == (0, (0,), 10_000)
    assert pay(rate, 70_000, [70_000]) == (0, (60_000,), 70_000)
    # Two minutes: connect fee and one minute in money. Three: the step's fee 0.2 and its minute 0.3 as well.
    assert pay(rate, 71_000, [70_000]) == (650_000, (60_000,), 130_000)
    assert pay(rate, 131_000, [70_000]) == (1_150_000, (60_000,), 190_000)
    # A bundle that pays for three minutes has passed the step: its fee is not asked for again.
    assert pay(rate, 191_000, [180_000]) == (50_000 + 300_000, (180_000,), 250_000)
    assert Fraction(1, 3) > 0


def test_bands_worked_by_hand() -> None:
    """Answered at 17:59:30; 0.60 a minute until 18:00, then 0.30; the bundle's 45 s reach 15 s into the night."""
    bands = (
        Band(When(from_s=6 * 3600, to_s=18 * 3600), (Step(0, Decimal("0.6"), 60, 10),)),
        Band(When(from_s=18 * 3600, to_s=6 * 3600), (Step(0, Decimal("0.3"), 60, 15),)),
    )
    rate = Rate("49", "", Decimal(0), (), Rounding(RoundingMode.HALF_UP, 4), bands=bands)
    at = datetime(2026, 3, 2, 17, 59, 30, tzinfo=UTC)
    # 30 s by day in tens, 30 s by night in fifteens; the last fifteen are money: 0.075.
    assert pay(rate, 60_000, [45_000], at) == (75_000, (45_000,), 60_000)
    # 44 s end inside the first increment of the night: the bundle stops at 30 s.
    assert pay(rate, 60_000, [44_000], at) == (150_000, (30_000,), 60_000)
