"""What a tariff may say beyond steps: fees, free time, bounds, surcharges, durations. Amounts are worked by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rating.errors import AmountError, TariffError
from rating.money import MOST_MICROS, check_size
from rating.pricing import Line, afford, billable_ms, charged, closing, cost, cost_ms, longest, price
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
    check,
    find_fault,
)

ONE = (Step(0, Decimal(1), 1, 1),)
MINUTES = (Step(0, Decimal(1), 60, 60),)


def rate(steps: tuple[Step, ...] = ONE, fee: str = "0", decimals: int = 6, **said: Any) -> Rate:
    rounding = Rounding(RoundingMode.HALF_UP, decimals)
    return Rate("49", "Germany", Decimal(fee), steps, rounding, conditions=Conditions(**said))


def units(of: Rate, seconds: int) -> Decimal:
    return Decimal(cost(of, seconds)[0]) / 1_000_000


# -- the fee of a step -------------------------------------------------------------------------------------------------

FEES = (
    Step(0, Decimal(1), 1, 1, Decimal("0.1")),
    Step(10, Decimal(1), 1, 1, Decimal("0.2")),
    Step(12, Decimal(1), 1, 6, Decimal("0.4")),
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1, "1.1"), (10, "10.1"), (11, "11.3"), (12, "12.3"), (13, "18.7"), (18, "18.7"), (19, "24.7")],
)
def test_the_fee_of_a_step_is_charged_once_when_it_is_reached(seconds: int, expected: str) -> None:
    """With the step's first increment, and never again."""
    assert units(rate(FEES), seconds) == Decimal(expected)


def test_the_fee_of_a_step_that_an_increment_covers_is_charged_with_the_next() -> None:
    """A minute covers the step at 30 s: the talk has reached it when the next increment begins."""
    of = rate((Step(0, Decimal(1), 60, 60), Step(30, Decimal(60), 1, 1, Decimal(5)), Step(50, Decimal(1), 1, 1)))
    assert cost(of, 60) == (1_000_000, 60)
    assert cost(of, 61) == (7_000_000, 61)


@pytest.mark.parametrize(
    ("funds", "seconds"),
    [("1.09", 0), ("1.1", 1), ("10.1", 10), ("11.29", 10), ("11.3", 11), ("18.69", 12), ("18.7", 18)],
)
def test_funds_pay_the_fee_of_a_step_or_end_before_it(funds: str, seconds: int) -> None:
    """The inverse knows the fees."""
    assert afford(rate(FEES), int(Decimal(funds) * 1_000_000), 100) == seconds


# -- free time ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, (0, 0)), (1, (20_000, 30)), (30, (20_000, 30)), (31, (1_020_000, 90)), (91, (2_020_000, 150))],
)
def test_free_seconds_come_off_first(seconds: int, expected: tuple[int, int]) -> None:
    """Thirty seconds are free beyond the connect fee; the steps begin after them."""
    assert cost(rate(MINUTES, "0.02", free_s=30), seconds) == expected


def test_funds_for_the_fee_alone_pay_for_the_free_seconds() -> None:
    """Without the fee there is no call; with it there are thirty seconds."""
    of = rate(MINUTES, "0.02", free_s=30)
    assert [afford(of, funds, 600) for funds in (19_999, 20_000, 1_019_999, 1_020_000)] == [0, 30, 30, 90]


@pytest.mark.parametrize(("seconds", "expected"), [(4, (0, 0)), (5, (5_500_000, 5)), (6, (6_500_000, 6))])
def test_a_call_shorter_than_so_many_seconds_is_free(seconds: int, expected: tuple[int, int]) -> None:
    """Four seconds cost nothing, not even the fee; five cost all five."""
    of = rate(ONE, "0.5", free_below_s=5)
    assert cost(of, seconds) == expected
    assert price(of, 4).lines == (Line("calls shorter than 5 s are free", 0, "0"),)


def test_without_funds_a_call_may_last_until_it_costs() -> None:
    """Exactly the inverse: four seconds cost nothing, and nothing pays for them; with debts there is no call."""
    of = rate(ONE, "0.5", free_below_s=5)
    assert [afford(of, funds, 600) for funds in (-1, 0, 5_499_999, 5_500_000)] == [0, 4, 4, 5]


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_a_call_costs_the_minimum_at_least() -> None:
    """A call of one second costs the minimum, a call of none nothing."""
    of = rate(ONE, min_charge=Decimal("2.5"))
    assert [units(of, seconds) for seconds in (0, 1, 2, 3)] == [0, Decimal("2.5"), Decimal("2.5"), 3]
    assert price(of, 2).lines[-1] == Line("the minimum charge adds", 0, "0.5")
    assert [afford(of, funds, 600) for funds in (0, 2_499_999, 2_500_000, 3_000_000)] == [0, 0, 2, 3]


def test_a_free_call_costs_the_minimum_too() -> None:
    """A price of nothing with a minimum is not free."""
    of = rate((Step(0, Decimal(0), 1, 1),), min_charge=Decimal("0.1"))
    assert units(of, 1) == Decimal("0.1")
    assert [afford(of, funds, 600) for funds in (-1, 0, 99_999, 100_000)] == [0, 0, 0, 600]


def test_after_its_highest_charge_a_call_is_free() -> None:
    """Ten is the most; who has ten may talk for as long as is asked for."""
    of = rate(ONE, max_charge=Decimal(10))
    assert [units(of, seconds) for seconds in (9, 10, 11, 10_000)] == [9, 10, 10, 10]
    assert price(of, 12).lines[-1] == Line("the maximum charge takes off", 0, "-2")
    assert [afford(of, funds, 600) for funds in (9_999_999, 10_000_000)] == [9, 600]
    assert longest(of, 600) == 600


def test_or_it_is_cut_there() -> None:
    """The granted time ends where the charge would be passed; what longer talk would cost is still answered."""
    of = rate(ONE, "0.5", max_charge=Decimal(10), max_charge_then=ThenWhat.DISCONNECT)
    assert afford(of, 10**12, 600) == longest(of, 600) == 9
    assert longest(of, 5) == 5
    assert units(of, 70) == Decimal("70.5")


def test_bounds_hold_for_the_rounded_total() -> None:
    """Rounded to cents, no call costs more than 0.625 or less than 0.615: the bounds are the cents within them."""
    of = rate(ONE, decimals=2, max_charge=Decimal("0.625"), min_charge=Decimal("0.615"))
    assert units(of, 1) == Decimal("0.62")
    assert units(replace(of, steps=(Step(0, Decimal("0.001"), 1, 1),)), 1) == Decimal("0.62")


# -- surcharges --------------------------------------------------------------------------------------------------------


def test_a_surcharge_falls_due_at_its_second() -> None:
    """59 s: no; 60 s: yes; it looks at the talk and not at the minute that is billed."""
    of = rate(MINUTES, surcharges=(Surcharge(60, Decimal("0.03")),))
    assert [units(of, seconds) for seconds in (1, 59, 60, 61, 120)] == [
        1, 1, Decimal("1.03"), Decimal("2.03"), Decimal("2.03"),
    ]  # fmt: skip
    assert price(of, 60).lines[-1] == Line("0.03 after 60 s", 0, "0.03")


def test_a_surcharge_may_come_again() -> None:
    """After 60 s and every 30 s from then on."""
    of = rate(surcharges=(Surcharge(60, Decimal("0.5"), 30),))
    assert [units(of, seconds) - seconds for seconds in (59, 60, 89, 90, 120)] == [
        0, Decimal("0.5"), Decimal("0.5"), 1, Decimal("1.5"),
    ]  # fmt: skip
    assert price(of, 90).lines[-1] == Line("0.5 after 60 s and every 30 s", 0, "1")


def test_funds_that_do_not_reach_for_a_surcharge_end_the_second_before() -> None:
    """1.00 pays for a minute but not for what falls due with its sixtieth second."""
    of = rate(MINUTES, surcharges=(Surcharge(60, Decimal("0.03")),))
    assert [afford(of, funds, 600) for funds in (1_000_000, 1_029_999, 1_030_000)] == [59, 59, 60]


# -- durations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        (Durations.UP, [0, 1000, 1000, 2000, 2000, 2000]),
        (Durations.NEAREST, [0, 0, 1000, 1000, 2000, 2000]),
        (Durations.DOWN, [0, 0, 1000, 1000, 1000, 1000]),
        (Durations.EXACT, [0, 499, 1000, 1001, 1500, 1999]),
    ],
)
def test_a_tariff_says_how_durations_are_rounded(durations: Durations, expected: list[int]) -> None:
    """Up to the second by default; to the nearest, down, or not at all."""
    of = rate(durations=durations)
    assert [billable_ms(of, talk_ms) for talk_ms in (-5, 499, 1000, 1001, 1500, 1999)] == expected


def test_increments_may_be_shorter_than_a_second() -> None:
    """At 0.1 s an exact 1.23 s bills 1.3 s; rounded up first it bills 2 s."""
    of = rate((Step(0, Decimal("0.6"), 60, Decimal("0.1")),), durations=Durations.EXACT)
    assert cost_ms(of, 1230) == (13_000, 1300)
    assert price(of, 2).billed_s == 2
    assert afford(of, 13_000, 600) == 1


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "place"),
    [
        (rate(free_s=-1), "free_s"),
        (rate(free_below_s=10**9), "free_below_s"),
        (rate(min_charge=Decimal(-1)), "min_charge"),
        (rate(max_charge=Decimal("NaN")), "max_charge"),
        (rate(min_charge=Decimal(2), max_charge=Decimal(1)), "max_charge"),
        (rate(surcharges=(Surcharge(0, Decimal(1)),)), "surcharges.0.after_s"),
        (rate(surcharges=(Surcharge(1, Decimal(1)), Surcharge(1, Decimal(1), -1))), "surcharges.1.every_s"),
        (rate(surcharges=(Surcharge(1, Decimal(-1)),)), "surcharges.0.amount"),
        (rate(surcharges=(Surcharge(1, Decimal(1)),) * 21), "surcharges"),
        (rate((Step(0, Decimal(1), 1, 0),)), "steps.0.increment_s"),
        (rate((Step(0, Decimal(1), 1, Decimal(0)),)), "steps.0.increment_s"),
        (rate((Step(0, Decimal(1), 1, Decimal("0.0001")),)), "steps.0.increment_s"),
        (rate((Step(0, Decimal(1), 1, Decimal("NaN")),)), "steps.0.increment_s"),
        (rate((Step(0, Decimal(1), 1, 1, Decimal(-1)),)), "steps.0.fee"),
        (rate((Step(0, Decimal(1), 1, 1), Step(0, Decimal(1), 1, 1))), "steps.1.from_s"),
        (replace(rate(), effective_at=datetime(2026, 1, 1)), "effective_at"),  # noqa: DTZ001 - that is the point
        (replace(rate(), expires_at=datetime(2026, 1, 1)), "expires_at"),  # noqa: DTZ001 - that is the point
        (
            replace(rate(), effective_at=datetime(2026, 1, 1, tzinfo=UTC), expires_at=datetime(2026, 1, 1, tzinfo=UTC)),
            "expires_at",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(of: Rate, place: str) -> None:
    """No rate is priced that is none."""
    fault = find_fault(of)
    assert fault is not None
    assert fault.where == place
    with pytest.raises(TariffError, match=f"^{place}: "):
        check(of)
    with pytest.raises(TariffError):
        cost(of, 1)


def test_a_millisecond_of_talk_is_charged_where_durations_are_exact() -> None:
    """The whole increment that it begins; no talk is none."""
    of = rate(durations=Durations.EXACT)
    assert charged(of, 1) == (1_000_000, 1, 1000)
    assert charged(of, 0) == (0, 0, 0)


def test_a_price_beyond_all_amounts_does_not_make_a_call_shorter() -> None:
    """How long a call may last is a matter of the tariff, and how long it can be paid for another one."""
    of = rate((Step(0, Decimal(1_000_000), 1, 1),))
    assert longest(of, 10**6) == 10**6
    assert afford(of, 10**18, 10**6) < 10**6


def test_a_tariff_that_is_closed_already_closes_at_once() -> None:
    """At the moment of the answer itself."""
    daytime = Band(When((1, 2, 3, 4, 5, 6, 7), 8 * 3600, 18 * 3600), ONE)
    of = replace(rate((), outside=Outside.CLOSED), bands=(daytime,))
    closed, opened = (datetime(2026, 11, 26, hour, tzinfo=UTC) for hour in (18, 17))
    assert closing(of, closed, 1000) == closed
    assert closing(of, opened, 3_600_000) is None
    assert closing(of, opened, 3_600_001) == closed


def test_what_was_talked_after_closing_time_is_not_charged() -> None:
    """Ten seconds before closing time answered, a minute talked: ten seconds are priced, to the millisecond."""
    daytime = Band(When((1, 2, 3, 4, 5, 6, 7), 8 * 3600, 18 * 3600), ONE)
    of = replace(rate((), outside=Outside.CLOSED), bands=(daytime,))
    assert charged(of, 60_000, datetime(2026, 11, 26, 17, 59, 50, tzinfo=UTC)) == (10_000_000, 10_000, 10_000)


def test_an_increment_that_covers_two_steps_owes_both_their_fees() -> None:
    """In a call that changes bands, as in one that does not: 60 s at 1, fees of 5 and 7, and a second at 1."""
    steps = (
        Step(0, Decimal(1), 60, 60),
        Step(10, Decimal(1), 1, 1, Decimal(5)),
        Step(20, Decimal(1), 1, 1, Decimal(7)),
    )
    assert units(rate(steps), 61) == Decimal(14)
    bands = tuple(Band(When((1, 2, 3, 4, 5, 6, 7), *clock), steps) for clock in ((0, 8 * 3600), (8 * 3600, 0)))
    of = replace(rate((), bands_at=BandsAt.EACH_INCREMENT), bands=bands)
    assert cost(of, 61, datetime(2026, 11, 26, 7, 59, 30, tzinfo=UTC)) == (14_000_000, 61)


def test_the_fee_of_a_step_is_owed_once_where_the_band_changes_right_after_it() -> None:
    """The step is reached in the last second of the night: 12 s at 1 and a fee of 5."""
    steps = (Step(0, Decimal(1), 1, 1), Step(10, Decimal(1), 1, 1, Decimal(5)))
    bands = tuple(Band(When((1, 2, 3, 4, 5, 6, 7), *clock), steps) for clock in ((0, 8 * 3600), (8 * 3600, 0)))
    of = replace(rate((), bands_at=BandsAt.EACH_INCREMENT), bands=bands)
    assert cost(of, 12, datetime(2026, 11, 26, 7, 59, 49, tzinfo=UTC)) == (17_000_000, 12)


# -- at the edges ------------------------------------------------------------------------------------------------------


def test_as_many_seconds_are_afforded_as_are_asked_for() -> None:
    """One of one, and no second more of thousands, where the money is there."""
    assert [afford(rate(), 10**12, most) for most in (-1, 0, 1, 999, 1000, 5000)] == [0, 0, 1, 999, 1000, 5000]


def test_free_seconds_cost_nothing_however_it_is_rounded() -> None:
    """Not the smallest unit, where every fraction is rounded up."""
    of = Rate("49", "Germany", Decimal(0), ONE, Rounding(RoundingMode.UP, 6), conditions=Conditions(free_s=30))
    surcharged = replace(of, conditions=Conditions(free_s=30, max_charge=Decimal(5)))
    for each in (of, surcharged):
        assert [cost_ms(each, talk_ms)[0] for talk_ms in (1, 10_000, 30_000, 31_000)] == [0, 0, 0, 1_000_000]


def test_the_largest_amount_is_allowed_in_both_directions() -> None:
    """And one micro-unit more is told what the most is."""
    check_size(MOST_MICROS)
    check_size(-MOST_MICROS)
    for beyond in (MOST_MICROS + 1, -MOST_MICROS - 1):
        with pytest.raises(AmountError, match=r"^an amount is at most 9007199254\.740991 in size$"):
            check_size(beyond)


def test_a_rate_with_bands_needs_the_time_of_the_answer() -> None:
    """The sentence is whole."""
    day = Band(When(), ONE, Decimal(0))
    of = replace(rate(), steps=(), bands=(day,))
    with pytest.raises(
        TariffError, match=r"^a rate with bands is priced by the time of the answer, and that is not known$"
    ):
        cost(of, 10)
