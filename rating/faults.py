"""What keeps parts from being a rate: the one place that knows the rules. Each fault names its place and its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from rating.bands import DAY_S, find_gap, find_overlap, zone_of
from rating.errors import TariffError
from rating.parts import PLAIN, Band, Conditions, Outside, Seconds, Step, Surcharge, When

MOST_PREFIX = 32
MOST_DESTINATION = 100
MOST_PRICE = Decimal(1_000_000_000)
MOST_PRICE_DECIMALS = 40
"""A deck has at most 18; a discount and an exchange rate on top of them stay exact."""
MOST_SECONDS = 366 * 86_400
MOST_STEPS = 100
MOST_BANDS = 100
MOST_DATES = 1000
MOST_SURCHARGES = 20
MOST_PRIORITY = 1_000_000
MOST_DECIMALS = 6
MOST_BAND_NAME = 40

_MS_DECIMALS = 3
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DATE = re.compile(r"(?:[0-9]{4}-)?[0-9]{2}-[0-9]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something is no rate: the field (`prefix`, `steps.1.price`, …) and the reason in a sentence."""

    where: str
    reason: str


def prefix_fault(prefix: str) -> Fault | None:
    """Return what is wrong with a prefix."""
    if prefix and not (prefix.isascii() and prefix.isdigit()):
        return Fault("prefix", "has only digits")
    if len(prefix) > MOST_PREFIX:
        return Fault("prefix", f"has at most {MOST_PREFIX} digits")
    return None


def text_fault(where: str, text: str, most: int) -> Fault | None:
    """Return what is wrong with a destination or the name of a band."""
    if len(text) > most:
        return Fault(where, f"has at most {most} characters")
    if _UNPRINTABLE.search(text):
        return Fault(where, "has no line breaks and no control characters")
    return None


def price_fault(where: str, price: Decimal) -> Fault | None:
    """Return what is wrong with a price or a fee."""
    if not price.is_finite():
        return Fault(where, "is a number")
    if price.is_signed():
        return Fault(where, "is not negative")
    if price > MOST_PRICE:
        return Fault(where, f"is at most {MOST_PRICE}")
    exponent = price.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > MOST_PRICE_DECIMALS:
        return Fault(where, f"has at most {MOST_PRICE_DECIMALS} decimals")
    return None


def steps_fault(where: str, steps: tuple[Step, ...]) -> Fault | None:
    """Return what is wrong with the steps of a rate or a band."""
    if not steps or steps[0].from_s != 0:
        return Fault(where, "begin at 0 s")
    if len(steps) > MOST_STEPS:
        return Fault(where, f"are at most {MOST_STEPS}")
    before_s = -1
    for number, step in enumerate(steps):
        at = f"{where}.{number}"
        if not before_s < step.from_s <= MOST_SECONDS:
            return Fault(f"{at}.from_s", f"is more than that of the step before, and at most {MOST_SECONDS}")
        fault = _step_fault(at, step)
        if fault is not None:
            return fault
        before_s = step.from_s
    return None


def decimals_fault(decimals: int) -> Fault | None:
    """Return what is wrong with the decimals of a rounding."""
    if not 0 <= decimals <= MOST_DECIMALS:
        return Fault("rounding.decimals", f"is from 0 to {MOST_DECIMALS}")
    return None


def bands_fault(bands: tuple[Band, ...], steps: tuple[Step, ...], conditions: Conditions) -> Fault | None:
    """Return what is wrong with the bands of a rate, by themselves and together."""
    return next(_bands_faults(bands, steps, conditions), None) if bands else None


def _bands_faults(bands: tuple[Band, ...], steps: tuple[Step, ...], conditions: Conditions) -> Iterator[Fault]:
    if len(bands) > MOST_BANDS:
        yield Fault("bands", f"are at most {MOST_BANDS}")
    for number, band in enumerate(bands):
        yield from _band_faults(f"bands.{number}", band)
    if steps and conditions.outside is not Outside.BASE:
        yield Fault("steps", "of the rate itself hold only where the conditions say `outside`: `base`")
    whens = tuple(band.when for band in bands)
    overlap = find_overlap(whens)
    if overlap is not None:
        first, second, told = overlap
        yield Fault(f"bands.{second}", f"overlaps bands.{first} at the same priority, on {told}")
    gap = find_gap(whens) if conditions.outside is Outside.FORBIDDEN else ""
    if gap:
        yield Fault("bands", f"cover the whole week, or the tariff says what holds outside; nothing covers {gap}")


def conditions_fault(conditions: Conditions) -> Fault | None:
    """Return what is wrong with the conditions of a tariff."""
    if conditions == PLAIN:
        return None
    try:
        zone_of(conditions.timezone)
    except TariffError:
        return Fault("timezone", "is the name of an IANA time zone such as Europe/Berlin")
    for where, seconds in (("free_s", conditions.free_s), ("free_below_s", conditions.free_below_s)):
        if not 0 <= seconds <= MOST_SECONDS:
            return Fault(where, f"is from 0 to {MOST_SECONDS}")
    fault = price_fault("min_charge", conditions.min_charge)
    most = conditions.max_charge
    if fault is None and most is not None:
        fault = price_fault("max_charge", most)
        if fault is None and most < conditions.min_charge:
            fault = Fault("max_charge", "is not less than the minimum charge")
    if fault is None and len(conditions.surcharges) > MOST_SURCHARGES:
        fault = Fault("surcharges", f"are at most {MOST_SURCHARGES}")
    return fault or next(_surcharge_faults(conditions.surcharges), None)


def _surcharge_faults(surcharges: tuple[Surcharge, ...]) -> Iterator[Fault]:
    for number, surcharge in enumerate(surcharges):
        where = f"surcharges.{number}"
        if not 1 <= surcharge.after_s <= MOST_SECONDS:
            yield Fault(f"{where}.after_s", f"is from 1 to {MOST_SECONDS}")
        if not 0 <= surcharge.every_s <= MOST_SECONDS:
            yield Fault(f"{where}.every_s", f"is from 0 to {MOST_SECONDS}")
        fault = price_fault(f"{where}.amount", surcharge.amount)
        if fault is not None:
            yield fault


def _step_fault(where: str, step: Step) -> Fault | None:
    if not 1 <= step.per_s <= MOST_SECONDS:
        return Fault(f"{where}.per_s", f"is from 1 to {MOST_SECONDS}")
    if not _is_increment(step.increment_s):
        return Fault(f"{where}.increment_s", f"is from 1 to {MOST_SECONDS}, or down to 0.001 in whole milliseconds")
    return price_fault(f"{where}.price", step.price) or price_fault(f"{where}.fee", step.fee)


def _is_increment(increment_s: Seconds) -> bool:
    if isinstance(increment_s, Decimal):
        exponent = increment_s.as_tuple().exponent
        if not isinstance(exponent, int) or -exponent > _MS_DECIMALS:
            return False
    return 0 < increment_s <= MOST_SECONDS


def _band_faults(where: str, band: Band) -> Iterator[Fault]:
    yield from _when_faults(where, band.when)
    found = (
        text_fault(f"{where}.name", band.name, MOST_BAND_NAME),
        price_fault(f"{where}.connect_fee", band.connect_fee) if band.connect_fee is not None else None,
        steps_fault(f"{where}.steps", band.steps),
    )
    yield from (fault for fault in found if fault is not None)


def _when_faults(where: str, when: When) -> Iterator[Fault]:
    if not when.days or not set(when.days) <= set(range(1, 8)) or len(set(when.days)) != len(when.days):
        yield Fault(f"{where}.days", "are some of 1 (Monday) to 7 (Sunday), each once")
    if not 0 <= when.from_s < DAY_S:
        yield Fault(f"{where}.from", "is from 00:00 to 23:59:59")
    if not 0 <= when.to_s <= DAY_S:
        yield Fault(f"{where}.to", "is from 00:00 to 24:00")
    if when.from_s == when.to_s:
        yield Fault(f"{where}.to", "is another time than `from`; a whole day is 00:00 to 24:00")
    if len(when.dates) > MOST_DATES:
        yield Fault(f"{where}.dates", f"are at most {MOST_DATES}")
    for number, text in enumerate(when.dates):
        if not _is_date(text):
            yield Fault(f"{where}.dates.{number}", "is a date such as 12-25 or 2027-03-28")
    if abs(when.priority) > MOST_PRIORITY:
        yield Fault(f"{where}.priority", f"is from -{MOST_PRIORITY} to {MOST_PRIORITY}")


def _is_date(text: str) -> bool:
    if _DATE.fullmatch(text) is None:
        return False
    try:
        # A leap year, so that 02-29 is a day.
        date.fromisoformat(text if len(text) > len("MM-DD") else f"2000-{text}")
    except ValueError:
        return False
    return True
