"""What keeps parts from being a rate: each fault with its place and its reason, and the last value that is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from rating.errors import TariffError
from rating.faults import Fault
from rating.parts import Seconds
from rating.tariff import Band, Conditions, Outside, Rate, Rounding, Step, Surcharge, When, check, find_fault

YEAR_S = 31_622_400
"""366 days."""
ONE = Decimal(1)
RATE = Rate("49", "Germany", Decimal(0), (Step(0, ONE, 60, 60),), Rounding())


def with_step(**said: Any) -> Rate:
    return replace(RATE, steps=(replace(RATE.steps[0], **said),))


def with_steps(*begins: int) -> Rate:
    return replace(RATE, steps=tuple(Step(from_s, ONE, 60, 60) for from_s in begins))


def with_conditions(**said: Any) -> Rate:
    return replace(RATE, conditions=Conditions(**said))


def with_bands(*bands: Band, outside: Outside = Outside.CLOSED) -> Rate:
    return replace(RATE, steps=(), bands=bands, conditions=Conditions(outside=outside))


def band(fee: str | None = None, name: str = "", **when: Any) -> Band:
    return Band(When(**when), RATE.steps, None if fee is None else Decimal(fee), name)


def with_band(**said: Any) -> Rate:
    return with_bands(band(**said))


def since(begin: datetime | None, end: datetime | None) -> Rate:
    return replace(RATE, effective_at=begin, expires_at=end)


def minutes(number: int) -> tuple[Band, ...]:
    """Return bands of a minute each."""
    return tuple(band(from_s=60 * at, to_s=60 * at + 60) for at in range(number))


NEW_YEAR, NO_ZONE = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 1)  # noqa: DTZ001 - what is refused
DIGITS = ("prefix", "has only digits")
BREAKS = "has no line breaks and no control characters"
FROM_1, FROM_0 = f"is from 1 to {YEAR_S}", f"is from 0 to {YEAR_S}"
FROM_S = f"is more than that of the step before, and at most {YEAR_S}"
INCREMENT = ("steps.0.increment_s", f"is from 1 to {YEAR_S}, or down to 0.001 in whole milliseconds")
DAYS = ("bands.0.days", "are some of 1 (Monday) to 7 (Sunday), each once")
DATE = ("bands.0.dates.0", "is a date such as 12-25 or 2027-03-28")
ZONE = ("timezone", "is the name of an IANA time zone such as Europe/Berlin")


@pytest.mark.parametrize(
    ("of", "where", "reason"),
    [
        (replace(RATE, prefix="4x"), *DIGITS),
        (replace(RATE, prefix="٤"), *DIGITS),
        (replace(RATE, prefix=" "), *DIGITS),
        (replace(RATE, prefix="1" * 33), "prefix", "has at most 32 digits"),
        (replace(RATE, destination="x" * 101), "destination", "has at most 100 characters"),
        *((replace(RATE, destination=f"a{bad}b"), "destination", BREAKS) for bad in "\n\x00\x7f\x9f\u2028\u2029\ud800"),
        (replace(RATE, connect_fee=Decimal("NaN")), "connect_fee", "is a number"),
        (replace(RATE, connect_fee=Decimal("Infinity")), "connect_fee", "is a number"),
        (replace(RATE, connect_fee=Decimal("-0.1")), "connect_fee", "is not negative"),
        (replace(RATE, connect_fee=Decimal("-0")), "connect_fee", "is not negative"),
        (replace(RATE, connect_fee=Decimal("1000000000.1")), "connect_fee", "is at most 1000000000"),
        (replace(RATE, connect_fee=Decimal("1E-41")), "connect_fee", "has at most 40 decimals"),
        (replace(RATE, steps=()), "steps", "begin at 0 s"),
        (with_steps(1), "steps", "begin at 0 s"),
        (with_steps(-1, 0), "steps", "begin at 0 s"),
        (with_steps(*range(101)), "steps", "are at most 100"),
        (with_steps(0, 0), "steps.1.from_s", FROM_S),
        (with_steps(0, 10, 9), "steps.2.from_s", FROM_S),
        (with_steps(0, YEAR_S + 1), "steps.1.from_s", FROM_S),
        (with_step(per_s=0), "steps.0.per_s", FROM_1),
        (with_step(per_s=YEAR_S + 1), "steps.0.per_s", FROM_1),
        (with_step(increment_s=0), *INCREMENT),
        (with_step(increment_s=-1), *INCREMENT),
        (with_step(increment_s=YEAR_S + 1), *INCREMENT),
        (with_step(increment_s=Decimal("0.0005")), *INCREMENT),
        (with_step(increment_s=Decimal("Infinity")), *INCREMENT),
        (with_step(increment_s=YEAR_S + Decimal("0.001")), *INCREMENT),
        (with_step(price=Decimal(-1)), "steps.0.price", "is not negative"),
        (with_step(fee=Decimal("1E-41")), "steps.0.fee", "has at most 40 decimals"),
        (replace(RATE, rounding=Rounding(decimals=7)), "rounding.decimals", "is from 0 to 6"),
        (replace(RATE, rounding=Rounding(decimals=-1)), "rounding.decimals", "is from 0 to 6"),
        # -- bands
        (with_bands(*minutes(101)), "bands", "are at most 100"),
        (with_band(days=()), *DAYS),
        (with_band(days=(0,)), *DAYS),
        (with_band(days=(7, 8)), *DAYS),
        (with_band(days=(1, 1)), *DAYS),
        (with_band(from_s=-1), "bands.0.from", "is from 00:00 to 23:59:59"),
        (with_band(from_s=86_400), "bands.0.from", "is from 00:00 to 23:59:59"),
        (with_band(to_s=-1), "bands.0.to", "is from 00:00 to 24:00"),
        (with_band(to_s=86_401), "bands.0.to", "is from 00:00 to 24:00"),
        (with_band(from_s=5, to_s=5), "bands.0.to", "is another time than `from`; a whole day is 00:00 to 24:00"),
        (with_band(dates=("12-25",) * 1001), "bands.0.dates", "are at most 1000"),
        *((with_band(dates=(bad,)), *DATE) for bad in ("13-01", "02-30", "2027-02-29", "1-1", "0000-01-01")),
        (with_band(dates=("12-25", "x")), "bands.0.dates.1", DATE[1]),
        (with_band(priority=1_000_001), "bands.0.priority", "is from -1000000 to 1000000"),
        (with_band(priority=-1_000_001), "bands.0.priority", "is from -1000000 to 1000000"),
        (with_band(name="x" * 41), "bands.0.name", "has at most 40 characters"),
        (with_band(name="a\tb"), "bands.0.name", BREAKS),
        (with_band(fee="-1"), "bands.0.connect_fee", "is not negative"),
        (with_bands(replace(band(), steps=())), "bands.0.steps", "begin at 0 s"),
        (with_bands(band(to_s=60), replace(band(from_s=60), steps=())), "bands.1.steps", "begin at 0 s"),
        (with_bands(replace(band(), steps=(Step(0, ONE, 0, 1),))), "bands.0.steps.0.per_s", FROM_1),
        (
            replace(with_band(), steps=RATE.steps),
            "steps",
            "of the rate itself hold only where the conditions say `outside`: `base`",
        ),
        (with_bands(band(), outside=Outside.BASE), "steps", "begin at 0 s"),
        (
            with_bands(band(to_s=7200), band(from_s=7200, to_s=9000), band(from_s=3600, to_s=10_000, days=(3, 4))),
            "bands.2",
            "overlaps bands.0 at the same priority, on Wednesday 01:00",
        ),
        (
            with_bands(band(from_s=28_800), outside=Outside.FORBIDDEN),
            "bands",
            "cover the whole week, or the tariff says what holds outside; nothing covers Monday from 00:00 to 08:00",
        ),
        # -- conditions
        (with_conditions(timezone="Mars/Olympus"), *ZONE),
        (with_conditions(free_s=-1), "free_s", FROM_0),
        (with_conditions(free_s=YEAR_S + 1), "free_s", FROM_0),
        (with_conditions(free_below_s=-1), "free_below_s", FROM_0),
        (with_conditions(free_below_s=YEAR_S + 1), "free_below_s", FROM_0),
        (with_conditions(min_charge=Decimal(-1)), "min_charge", "is not negative"),
        (with_conditions(min_charge=Decimal(-1), max_charge=Decimal(-2)), "min_charge", "is not negative"),
        (with_conditions(max_charge=Decimal("NaN")), "max_charge", "is a number"),
        (
            with_conditions(min_charge=ONE, max_charge=Decimal("0.99")),
            "max_charge",
            "is not less than the minimum charge",
        ),
        (with_conditions(surcharges=(Surcharge(1, ONE),) * 21), "surcharges", "are at most 20"),
        (
            with_conditions(min_charge=Decimal(-1), surcharges=(Surcharge(1, ONE),) * 21),
            "min_charge",
            "is not negative",
        ),
        (with_conditions(surcharges=(Surcharge(0, ONE),)), "surcharges.0.after_s", FROM_1),
        (with_conditions(surcharges=(Surcharge(YEAR_S + 1, ONE),)), "surcharges.0.after_s", FROM_1),
        (with_conditions(surcharges=(Surcharge(1, ONE), Surcharge(1, ONE, -1))), "surcharges.1.every_s", FROM_0),
        (with_conditions(surcharges=(Surcharge(1, ONE, YEAR_S + 1),)), "surcharges.0.every_s", FROM_0),
        (with_conditions(surcharges=(Surcharge(1, Decimal(-1)),)), "surcharges.0.amount", "is not negative"),
        (since(NO_ZONE, None), "effective_at", "has a time zone"),
        (since(None, NO_ZONE), "expires_at", "has a time zone"),
        (since(NEW_YEAR, NEW_YEAR), "expires_at", "is later than effective_at"),
        (since(NEW_YEAR, datetime(2026, 12, 31, tzinfo=UTC)), "expires_at", "is later than effective_at"),
    ],
)
def test_a_fault_has_a_place_and_a_reason(of: Rate, where: str, reason: str) -> None:
    """In the words that whoever wrote the rate reads; nothing is priced by it."""
    assert find_fault(of) == Fault(where, reason)
    with pytest.raises(TariffError) as told:
        check(of)
    assert str(told.value) == f"{where}: {reason}"


@pytest.mark.parametrize(
    "of",
    [
        replace(RATE, prefix=""),
        replace(RATE, prefix="1" * 32),
        replace(RATE, destination="x" * 100),
        replace(RATE, destination="Côte d’Ivoire, mobile – Ελλάδα"),
        replace(RATE, connect_fee=Decimal(1_000_000_000)),
        replace(RATE, connect_fee=Decimal("1E-40")),
        with_steps(*range(100)),
        with_steps(0, YEAR_S),
        with_step(per_s=1),
        with_step(per_s=YEAR_S),
        with_step(increment_s=1),
        with_step(increment_s=YEAR_S),
        with_step(increment_s=Decimal(YEAR_S)),
        with_step(increment_s=Decimal("0.001")),
        replace(RATE, rounding=Rounding(decimals=0)),
        replace(RATE, rounding=Rounding(decimals=6)),
        with_bands(*minutes(100)),
        with_band(days=(7, 1)),
        with_band(from_s=86_399),
        with_band(from_s=1, to_s=0),
        with_band(dates=("12-25",) * 1000),
        with_band(dates=("02-29", "2028-02-29")),
        with_band(priority=1_000_000),
        with_band(priority=-1_000_000),
        with_band(name="x" * 40),
        with_band(fee="0"),
        with_bands(band(), outside=Outside.FORBIDDEN),
        replace(with_bands(band(to_s=60), outside=Outside.BASE), steps=RATE.steps),
        with_bands(band(), band(priority=1)),
        with_conditions(outside=Outside.BASE),
        with_conditions(timezone="Asia/Kathmandu", free_s=YEAR_S, free_below_s=YEAR_S),
        with_conditions(free_s=1, free_below_s=1),
        with_conditions(min_charge=ONE, max_charge=ONE),
        with_conditions(surcharges=(Surcharge(1, ONE, 1),) * 20),
        with_conditions(surcharges=(Surcharge(YEAR_S, ONE, YEAR_S), Surcharge(1, Decimal(0)))),
        since(NEW_YEAR, datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)),
        since(NEW_YEAR, None),
        since(None, NEW_YEAR),
    ],
)
def test_the_last_value_before_a_fault_is_none(of: Rate) -> None:
    """The largest, the smallest, and what looks odd but is meant."""
    assert find_fault(of) is None


@pytest.mark.parametrize("increment_s", [1, Decimal("0.001")])
def test_a_rate_names_its_first_fault(increment_s: Seconds) -> None:
    """In the order in which a rate is told: where one is mended the next one is told."""
    wrong: list[tuple[str, Callable[[Rate], Rate]]] = [
        ("prefix", lambda rate: replace(rate, prefix="49")),
        ("destination", lambda rate: replace(rate, destination="Germany")),
        ("connect_fee", lambda rate: replace(rate, connect_fee=ONE)),
        ("steps.0.per_s", lambda rate: replace(rate, steps=(Step(0, ONE, 60, increment_s),))),
        ("rounding.decimals", lambda rate: replace(rate, rounding=Rounding())),
        ("timezone", lambda rate: replace(rate, conditions=Conditions(outside=Outside.BASE))),
        ("bands.0.name", lambda rate: replace(rate, bands=(band(),))),
        ("effective_at", lambda rate: replace(rate, effective_at=None)),
    ]
    of = Rate(
        "4x", "\n", -ONE, (Step(0, ONE, 0, increment_s),), Rounding(decimals=9), False, (band(name="\n"),),
        Conditions(timezone="Mars"), NO_ZONE,
    )  # fmt: skip
    for where, mend in wrong:
        fault = find_fault(of)
        assert fault is not None
        assert fault.where == where
        of = mend(of)
    assert find_fault(of) is None
