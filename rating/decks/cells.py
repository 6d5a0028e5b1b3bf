"""Steps, bands and surcharges as the text of one cell, and back: every rate can be written, and reads as it was.

    steps       0.12/60x60 | 60: 0.10/60x1 +0.05
                price, per how many seconds, in increments of how many; from 60 s on another one, and a fee of 0.05
    bands       [Mon-Fri 08:00-18:00] 0.12/60x60 ; ["night" 18:00-08:00 on 12-25 priority 5 fee 0.10] 0.05/60x1
    surcharges  300: 0.10 | 600: 0.05 every 60

What is left out: per 60 seconds, increments of 1, every day, the whole day, priority 0, the connect fee of the rate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal

from rating.bands import DAY_S, clock
from rating.decks.numbers import PRICE
from rating.errors import TariffError
from rating.facts import price_text
from rating.parts import Band, Seconds, Step, Surcharge, When

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)
_PER_S = 60
_SHOWN = 40

_NUMBER = r"[0-9]{1,10}(?:\.[0-9]{1,18})?"
_STEP = re.compile(
    rf"(?:([0-9]{{1,9}})\s*:\s*)?({_NUMBER})(?:\s*/\s*([0-9]{{1,9}}))?(?:\s*[x×]\s*({_NUMBER}))?(?:\s*\+\s*({_NUMBER}))?",
    re.ASCII,
)
_SURCHARGE = re.compile(rf"([0-9]{{1,9}})\s*:\s*({_NUMBER})(?:\s+every\s+([0-9]{{1,9}}))?", re.ASCII)
_BAND = re.compile(r'\s*\[((?:[^\]"]|"(?:[^"\\]|\\.)*")*)\]([^\[\];]*)(;|$)')
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s"]+')
_CLOCKS = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?-([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?", re.ASCII)
_WHOLE = re.compile(r"-?[0-9]{1,9}", re.ASCII)


# -- steps -------------------------------------------------------------------------------------------------------------


def write_steps(steps: Iterable[Step]) -> str:
    """Write steps as a cell."""
    return " | ".join(_write_step(step) for step in steps)


def _write_step(step: Step) -> str:
    begins = f"{step.from_s}: " if step.from_s else ""
    fee = f" +{price_text(step.fee)}" if step.fee else ""
    return f"{begins}{price_text(step.price)}/{step.per_s}x{seconds_text(step.increment_s)}{fee}"


def read_steps(text: str) -> tuple[Step, ...]:
    """Read steps. Raises `TariffError`."""
    return tuple(_read_step(part.strip()) for part in text.split("|"))


def _read_step(text: str) -> Step:
    match = _STEP.fullmatch(text)
    if match is None:
        raise TariffError(f"expected a step such as 60: 0.10/60x1, found {shown(text)}")
    begins, price, per_s, increment, fee = match.groups()
    return Step(
        from_s=int(begins or 0),
        price=Decimal(price),
        per_s=int(per_s) if per_s else _PER_S,
        increment_s=_seconds(increment) if increment else 1,
        fee=Decimal(fee) if fee else Decimal(0),
    )


# -- bands -------------------------------------------------------------------------------------------------------------


def write_bands(bands: Iterable[Band]) -> str:
    """Write bands as a cell."""
    return " ; ".join(f"[{_write_when(band)}] {write_steps(band.steps)}" for band in bands)


def _write_when(band: Band) -> str:
    when = band.when
    words = [json.dumps(band.name, ensure_ascii=False)] if band.name else []
    if when.days != _EVERY_DAY:
        words.append(_write_days(when.days))
    if (when.from_s, when.to_s) != (0, DAY_S):
        words.append(f"{clock(when.from_s)}-{clock(when.to_s)}")
    if when.dates:
        words.append(f"on {','.join(when.dates)}")
    if when.priority:
        words.append(f"priority {when.priority}")
    if band.connect_fee is not None:
        words.append(f"fee {price_text(band.connect_fee)}")
    return " ".join(words)


def _write_days(days: tuple[int, ...]) -> str:
    """Write days in their order; three and more that follow each other from … to."""
    if len(days) > 2 and days == tuple(range(days[0], days[-1] + 1)):  # noqa: PLR2004 - two days are named
        return f"{DAYS[days[0] - 1]}-{DAYS[days[-1] - 1]}"
    return ",".join(DAYS[day - 1] for day in days)


def read_bands(text: str) -> tuple[Band, ...]:
    """Read bands. Raises `TariffError`."""
    bands: list[Band] = []
    at = 0
    while at < len(text):
        match = _BAND.match(text, at)
        if match is None:
            raise TariffError(f"expected a band such as [Mon-Fri 08:00-18:00] 0.12/60x60, found {shown(text[at:])}")
        bands.append(_read_band(match[1], match[2].strip()))
        at = match.end()
        if match[3] and not text[at:].strip():
            raise TariffError("expected another band after the semicolon")
    return tuple(bands)


def _read_band(head: str, steps: str) -> Band:
    name, connect_fee = "", None
    days: tuple[int, ...] = _EVERY_DAY
    dates: tuple[str, ...] = ()
    from_s, to_s, priority = 0, DAY_S, 0
    words = iter(_WORD.findall(head))
    for word in words:
        clocks = _CLOCKS.fullmatch(word)
        if word.startswith('"'):
            name = _read_name(word)
        elif clocks is not None:
            from_s, to_s = _clock(*clocks.groups()[:3]), _clock(*clocks.groups()[3:])
        elif word == "on":
            dates = tuple(next(words, "").split(","))
        elif word == "priority":
            priority = _whole(next(words, ""), "priority")
        elif word == "fee":
            connect_fee = _price(next(words, ""))
        else:
            days = _read_days(word)
    return Band(When(days, from_s, to_s, dates, priority), read_steps(steps), connect_fee, name)


def _read_name(word: str) -> str:
    try:
        return str(json.loads(word))
    except ValueError as error:
        raise TariffError(f"expected a name in quotes, found {shown(word)}") from error


def _read_days(word: str) -> tuple[int, ...]:
    numbers = {name.lower(): number for number, name in enumerate(DAYS, 1)}
    days: list[int] = []
    for part in word.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in numbers or (dash and (last not in numbers or numbers[last] < numbers[first])):
            raise TariffError(f"expected days such as Mon-Fri or Sat,Sun, found {shown(word)}")
        days += range(numbers[first], numbers[last or first] + 1)
    return tuple(days)


# -- surcharges --------------------------------------------------------------------------------------------------------


def write_surcharges(surcharges: Iterable[Surcharge]) -> str:
    """Write surcharges as a cell."""
    return " | ".join(
        f"{due.after_s}: {price_text(due.amount)}{f' every {due.every_s}' if due.every_s else ''}" for due in surcharges
    )


def read_surcharges(text: str) -> tuple[Surcharge, ...]:
    """Read surcharges. Raises `TariffError`."""
    found: list[Surcharge] = []
    for part in text.split("|"):
        match = _SURCHARGE.fullmatch(part.strip())
        if match is None:
            raise TariffError(f"expected a surcharge such as 300: 0.10 every 60, found {shown(part.strip())}")
        found.append(Surcharge(int(match[1]), Decimal(match[2]), int(match[3] or 0)))
    return tuple(found)


# -- parts -------------------------------------------------------------------------------------------------------------


def seconds_text(seconds: Seconds) -> str:
    """Write a length of time."""
    return str(seconds) if isinstance(seconds, int) else price_text(seconds)


def shown(text: str) -> str:
    """Return what an error repeats of a bad text: it may be a megabyte of somebody's making."""
    if not text:
        return "nothing"
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _seconds(text: str) -> Seconds:
    seconds = Decimal(text)
    return int(seconds) if seconds == seconds.to_integral_value() else seconds


def _clock(hours: str, minutes: str, seconds: str | None) -> int:
    if int(minutes) > 59 or int(seconds or 0) > 59:  # noqa: PLR2004 - a clock
        raise TariffError(f"expected a time of day such as 08:00, found {hours}:{minutes}:{seconds or '00'}")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds or 0)


def _whole(text: str, what: str) -> int:
    if _WHOLE.fullmatch(text) is None:
        raise TariffError(f"{what}: expected a whole number, found {shown(text)}")
    return int(text)


def _price(text: str) -> Decimal:
    if PRICE.fullmatch(text) is None or not text.strip("."):
        raise TariffError(f"fee: expected a price such as 0.0125, found {shown(text)}")
    return Decimal(text)
