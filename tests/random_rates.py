"""Rates and calls of every shape, drawn from a seeded source of chance: for tests that need very many of them."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

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
from rating.tariff import Rate, check

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Australia/Sydney", "Asia/Kathmandu")
CLOCK_CHANGES = (
    "2026-03-29T01:00",  # Berlin forward
    "2026-10-25T01:00",  # Berlin back
    "2026-03-08T07:00",  # New York forward
    "2026-11-01T06:00",  # New York back
    "2026-04-04T15:00",  # Lord Howe back, half an hour
    "2026-10-03T15:30",  # Lord Howe forward
    "2026-10-03T16:00",  # Sydney forward
)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SWITCH = datetime(2026, 7, 1, tzinfo=UTC)


def price(chance: random.Random, *, places: int = 4, most: int = 2) -> Decimal:
    """Return a price, sometimes nothing, sometimes with very many decimals."""
    if chance.random() < 0.15:
        return Decimal(0)
    if chance.random() < 0.01:
        places = 18
    return Decimal(chance.randrange(most * 10**places)).scaleb(-places)


def steps(chance: random.Random) -> tuple[Step, ...]:
    """Return one to four steps."""
    begins = sorted({0, *(chance.choice((7, 30, 45, 60, 61, 90, 120, 300, 3600)) for _ in range(chance.randrange(4)))})
    increments: tuple[int | Decimal, ...] = (1, 1, 6, 7, 30, 60, Decimal("0.1"), Decimal("2.5"))
    return tuple(
        Step(
            begin,
            price(chance),
            chance.choice((1, 60, 60, 60, 7)),
            chance.choice(increments),
            price(chance, places=2) if chance.random() < 0.2 else Decimal(0),
        )
        for begin in begins
    )


def bands(chance: random.Random) -> tuple[Band, ...]:
    """Return bands that cover the week, over midnight, with holidays of a higher priority."""
    morning, evening = chance.choice(((6, 22), (8, 18), (2, 3), (7, 19))), chance.random() < 0.5
    day = When((1, 2, 3, 4, 5), morning[0] * 3600, morning[1] * 3600)
    whens = [day, When((1, 2, 3, 4, 5), day.to_s, day.from_s)]
    if evening:
        # Friday's night ends on Saturday, Monday's early hours belong to no working night.
        whens += [
            When((6,), day.from_s, 86_400), When((7,), 0, 86_400), When((1,), 0, day.from_s),
        ]  # fmt: skip
    else:
        whens = [replace(when, days=(1, 2, 3, 4, 5, 6, 7)) for when in whens]
    if chance.random() < 0.5:
        whens.append(When(dates=("12-25", "2026-03-29", "2026-10-25"), priority=5))
    return tuple(
        Band(when, steps(chance), price(chance, places=2) if chance.random() < 0.3 else None, f"band {number}")
        for number, when in enumerate(whens)
    )


def conditions(chance: random.Random, *, banded: bool) -> Conditions:
    """Return conditions, mostly plain ones."""
    said: dict[str, Any] = {}
    if banded:
        said["timezone"] = chance.choice(ZONES)
        said["bands_at"] = chance.choice((BandsAt.START, BandsAt.EACH_INCREMENT, BandsAt.EACH_INCREMENT))
    if chance.random() < 0.2:
        said["durations"] = chance.choice(list(Durations))
    if chance.random() < 0.15:
        said["free_s"] = chance.choice((1, 10, 60))
    if chance.random() < 0.15:
        said["free_below_s"] = chance.choice((2, 6, 30))
    if chance.random() < 0.15:
        said["min_charge"] = price(chance, places=3)
    if chance.random() < 0.15:
        said["max_charge"] = said.get("min_charge", Decimal(0)) + price(chance, places=3, most=9)
        said["max_charge_then"] = chance.choice((ThenWhat.FREE, ThenWhat.FREE, ThenWhat.DISCONNECT))
    if chance.random() < 0.15:
        said["surcharges"] = tuple(
            Surcharge(chance.choice((1, 30, 60, 61)), price(chance, places=3), chance.choice((0, 0, 7, 60)))
            for _ in range(chance.randrange(1, 4))
        )
    return Conditions(**said)


def rate(chance: random.Random, prefix: str) -> Rate:
    """Return a rate that may say anything a rate can say."""
    banded = chance.random() < 0.4
    made = Rate(
        prefix,
        f"destination {prefix}",
        price(chance, places=2) if chance.random() < 0.3 else Decimal(0),
        () if banded else steps(chance),
        Rounding(chance.choice(list(RoundingMode)), chance.randrange(7)),
        barred=chance.random() < 0.01,
        bands=bands(chance) if banded else (),
        conditions=conditions(chance, banded=banded),
    )
    if banded and chance.random() < 0.3:
        outside = chance.choice((Outside.BASE, Outside.CLOSED))
        made = replace(
            made,
            bands=made.bands[:1],
            steps=steps(chance) if outside is Outside.BASE else (),
            conditions=replace(made.conditions, outside=outside),
        )
    check(made)
    return made


def rates(chance: random.Random, number: int) -> list[Rate]:
    """Return rates of so many nested prefixes, some with a past, some with a future."""
    prefixes = {"", *(str(digit) for digit in range(1, 7))}
    while len(prefixes) < number:
        prefixes.add(str(chance.randrange(1, 10 ** chance.randint(2, 5))))
    made: list[Rate] = []
    for prefix in sorted(prefixes):
        if chance.random() < 0.8:
            made.append(rate(chance, prefix))
            continue
        moment = SWITCH + timedelta(days=chance.randrange(-90, 90))
        match chance.randrange(3):
            case 0:
                made += [rate(chance, prefix), replace(rate(chance, prefix), effective_at=moment)]
            case 1:
                made.append(replace(rate(chance, prefix), effective_at=moment))
            case _:
                later = moment + timedelta(days=30)
                made.append(replace(rate(chance, prefix), expires_at=later))
                made.append(replace(rate(chance, prefix), effective_at=moment, expires_at=later + timedelta(days=1)))
    return made


Call = tuple[str, datetime, datetime | None, int]
"""Number, offered, answered, milliseconds of talk."""


def call(chance: random.Random) -> Call:
    """Return a call at any time of a year, often around a change of some zone's clock."""
    if chance.random() < 0.4:
        around = datetime.fromisoformat(chance.choice(CLOCK_CHANGES)).replace(tzinfo=UTC)
        offered = around + timedelta(milliseconds=chance.randrange(-7_200_000, 3_600_000))
    else:
        offered = BEGIN + timedelta(milliseconds=chance.randrange(365 * 86_400_000))
    number = str(chance.randrange(10 ** chance.randint(1, 12))) + chance.choice(("", "", "", "", "a1", "*"))
    answered = offered + timedelta(milliseconds=chance.randrange(60_000))
    kind = chance.random()
    if kind < 0.05:
        return number, offered, None, 0
    if kind < 0.5:
        talk_ms = chance.randrange(120_000)
    elif kind < 0.99:
        talk_ms = chance.randrange(7_200_000)
    else:
        talk_ms = chance.randrange(3 * 86_400_000)
    return number, offered, answered, talk_ms
