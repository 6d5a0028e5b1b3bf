"""The facts of a rate: JSON from which a call can be priced again for ever.

Version 1 knows steps, a connect fee, a rounding and barred. Version 2 adds, each only where it says something: the fee
of a step and increments below a second, bands, the conditions of a tariff, and when the rate is in force. A rate that
version 1 can tell is still told in version 1. A key that is not known may change the price, so it is refused: better no
price than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from rating.bands import clock
from rating.errors import TariffError
from rating.parts import (
    PLAIN,
    Band,
    BandsAt,
    Conditions,
    Durations,
    Outside,
    Rounding,
    RoundingMode,
    Seconds,
    Step,
    Surcharge,
    ThenWhat,
    When,
)

if TYPE_CHECKING:
    from rating.tariff import Rate

FACTS_VERSION = 2

_PRICE = re.compile(r"[0-9]{1,10}(\.[0-9]{1,40})?", re.ASCII)
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?", re.ASCII)
_RATE_KEYS = {"v", "prefix", "destination", "connect_fee", "steps", "rounding", "barred"}
_STEP_KEYS = {"from_s", "price", "per_s", "increment_s"}
_ROUNDING_KEYS = {"mode", "decimals"}
_BAND_KEYS = {"days", "from", "to", "steps"}
_BAND_MAY = {"dates", "priority", "connect_fee", "name"}
_SURCHARGE_KEYS = {"after_s", "amount"}
_FORCE_KEYS = {"effective_at", "expires_at"}
_SHOWN = 40

T = TypeVar("T", bound=StrEnum)


def price_text(price: Decimal) -> str:
    """Write a price without exponent and without trailing zeros: one text for one price."""
    text = f"{price:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# -- writing -----------------------------------------------------------------------------------------------------------


def of_rate(rate: Rate) -> dict[str, Any]:
    """Return the facts of a rate, in the oldest version that can tell them."""
    more = _of_conditions(rate.conditions)
    if rate.bands:
        more["bands"] = [_of_band(band) for band in rate.bands]
    for key, at in (("effective_at", rate.effective_at), ("expires_at", rate.expires_at)):
        if at is not None:
            more[key] = at.astimezone(UTC).isoformat()
    is_new = bool(more) or any(step.fee or not isinstance(step.increment_s, int) for step in rate.steps)
    return {
        "v": FACTS_VERSION if is_new else 1,
        "prefix": rate.prefix,
        "destination": rate.destination,
        "connect_fee": price_text(rate.connect_fee),
        "steps": _of_steps(rate.steps),
        "rounding": {"mode": rate.rounding.mode.value, "decimals": rate.rounding.decimals},
        "barred": rate.barred,
        **more,
    }


def _of_steps(steps: tuple[Step, ...]) -> list[dict[str, Any]]:
    return [
        {
            "from_s": step.from_s,
            "price": price_text(step.price),
            "per_s": step.per_s,
            "increment_s": step.increment_s if isinstance(step.increment_s, int) else price_text(step.increment_s),
            **({"fee": price_text(step.fee)} if step.fee else {}),
        }
        for step in steps
    ]


def _of_band(band: Band) -> dict[str, Any]:
    when = band.when
    return {
        "days": list(when.days),
        "from": clock(when.from_s),
        "to": clock(when.to_s),
        **({"dates": list(when.dates)} if when.dates else {}),
        "priority": when.priority,
        **({} if band.connect_fee is None else {"connect_fee": price_text(band.connect_fee)}),
        **({"name": band.name} if band.name else {}),
        "steps": _of_steps(band.steps),
    }


def _of_conditions(conditions: Conditions) -> dict[str, Any]:
    if conditions is PLAIN:
        return {}
    said: dict[str, Any] = {}
    for key, (write, _) in _CONDITIONS.items():
        value = getattr(conditions, key)
        if value != getattr(PLAIN, key):
            said[key] = write(value)
    return said


def _of_surcharges(surcharges: tuple[Surcharge, ...]) -> list[dict[str, Any]]:
    return [
        {
            "after_s": surcharge.after_s,
            "amount": price_text(surcharge.amount),
            **({"every_s": surcharge.every_s} if surcharge.every_s else {}),
        }
        for surcharge in surcharges
    ]


# -- reading -----------------------------------------------------------------------------------------------------------


def read_rate(facts: Any) -> dict[str, Any]:
    """Return the fields of a rate. Raises `TariffError`, with its place, for what cannot be read."""
    version = facts.get("v") if isinstance(facts, dict) else None
    if type(version) is not int or not 1 <= version <= FACTS_VERSION:
        raise TariffError(f"expected the facts of a rate, version 1 to {FACTS_VERSION}")
    _check_keys(facts, _RATE_KEYS, set() if version == 1 else {"bands", *_CONDITIONS, *_FORCE_KEYS}, "rate")
    conditions = {key: read(facts[key], key) for key, (_, read) in _CONDITIONS.items() if key in facts}
    return {
        "prefix": _typed(facts, "prefix", str),
        "destination": _typed(facts, "destination", str),
        "connect_fee": _price(facts["connect_fee"], "connect_fee"),
        "steps": read_steps(facts["steps"], "steps", version=version),
        "rounding": _rounding(facts["rounding"]),
        "barred": _typed(facts, "barred", bool),
        "bands": _each(facts.get("bands", []), "bands", _band),
        "conditions": Conditions(**conditions) if conditions else PLAIN,
        **{key: _time(facts[key], key) for key in _FORCE_KEYS if key in facts},
    }


def read_steps(steps: Any, where: str, *, version: int = FACTS_VERSION) -> tuple[Step, ...]:
    """Read steps. Raises `TariffError`, with its place."""
    may = {"fee"} if version > 1 else set()

    def read(facts: Any, at: str) -> Step:
        _check_keys(facts, _STEP_KEYS, may, at)
        return Step(
            from_s=_typed(facts, "from_s", int, at),
            price=_price(facts["price"], f"{at}.price"),
            per_s=_typed(facts, "per_s", int, at),
            increment_s=_seconds(facts["increment_s"], f"{at}.increment_s", version),
            fee=_price(facts.get("fee", "0"), f"{at}.fee"),
        )

    return _each(steps, where, read)


def _band(facts: Any, where: str) -> Band:
    _check_keys(facts, _BAND_KEYS, _BAND_MAY, where)
    return Band(
        when=When(
            days=_each(facts["days"], f"{where}.days", _whole),
            from_s=_clock(facts["from"], f"{where}.from"),
            to_s=_clock(facts["to"], f"{where}.to"),
            dates=_each(facts.get("dates", []), f"{where}.dates", _text),
            priority=_whole(facts.get("priority", 0), f"{where}.priority"),
        ),
        steps=read_steps(facts["steps"], f"{where}.steps"),
        connect_fee=_price(facts["connect_fee"], f"{where}.connect_fee") if "connect_fee" in facts else None,
        name=_text(facts.get("name", ""), f"{where}.name"),
    )


def _surcharge(facts: Any, where: str) -> Surcharge:
    _check_keys(facts, _SURCHARGE_KEYS, {"every_s"}, where)
    return Surcharge(
        after_s=_typed(facts, "after_s", int, where),
        amount=_price(facts["amount"], f"{where}.amount"),
        every_s=_whole(facts.get("every_s", 0), f"{where}.every_s"),
    )


def _rounding(facts: Any) -> Rounding:
    _check_keys(facts, _ROUNDING_KEYS, set(), "rounding")
    return Rounding(_word(RoundingMode)(facts["mode"], "rounding.mode"), _whole(facts["decimals"], "rounding.decimals"))


def _check_keys(facts: Any, must: set[str], may: set[str], where: str) -> None:
    if not isinstance(facts, dict):
        raise TariffError(f"{where}: expected an object with the keys {', '.join(sorted(must))}")
    missing, unknown = must - set(facts), set(facts) - must - may
    if missing:
        raise TariffError(f"{where}: the key {min(missing)} is missing; expected {', '.join(sorted(must))}")
    if unknown:
        named = str(min(unknown, key=str))[:_SHOWN]
        raise TariffError(f"{where}: there is no key {named!r}; expected {', '.join(sorted(must | may))}")


def _each(values: Any, where: str, read: Callable[[Any, str], Any]) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise TariffError(f"{where}: expected a list")
    return tuple(read(value, f"{where}.{number}") for number, value in enumerate(values))


def _typed(facts: dict[str, Any], key: str, kind: type, where: str = "") -> Any:
    if type(facts[key]) is not kind:
        raise TariffError(f"{where}.{key}: expected {kind.__name__}".removeprefix("."))
    return facts[key]


def _whole(value: Any, where: str) -> int:
    if type(value) is not int:
        raise TariffError(f"{where}: expected a whole number")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise TariffError(f"{where}: expected a text")
    return value


def _price(text: Any, where: str) -> Decimal:
    if not isinstance(text, str) or _PRICE.fullmatch(text) is None:
        raise TariffError(f'{where}: expected a plain decimal in a string, such as "0.0125"')
    return Decimal(text)


def _seconds(value: Any, where: str, version: int) -> Seconds:
    if type(value) is int:
        return value
    if version > 1 and isinstance(value, str) and _PRICE.fullmatch(value) is not None:
        seconds = Decimal(value)
        return int(seconds) if seconds == seconds.to_integral_value() else seconds
    raise TariffError(f"{where}: expected whole seconds, or a plain decimal in a string")


def _clock(text: Any, where: str) -> int:
    match = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (99, 0, 0)
    if minutes > 59 or seconds > 59 or hours * 3600 + minutes * 60 + seconds > 86_400:  # noqa: PLR2004 - a clock
        raise TariffError(f"{where}: expected a time of day such as 08:00, to 24:00")
    return hours * 3600 + minutes * 60 + seconds


def _time(text: Any, where: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise TariffError(f"{where}: expected a time such as 2027-01-01T00:00:00+00:00") from error
    if at.tzinfo is None:
        raise TariffError(f"{where}: expected a time with a zone, such as 2027-01-01T00:00:00+00:00")
    return at.astimezone(UTC)


def _word(kind: type[T]) -> Callable[[Any, str], T]:
    def read(value: Any, where: str) -> T:
        if not isinstance(value, str) or value not in list(kind):
            raise TariffError(f"{where}: expected one of {', '.join(kind)}")
        return kind(value)

    return read


def _same(value: Any) -> Any:
    return value


_CONDITIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, str], Any]]] = {
    "timezone": (_same, _text),
    "bands_at": (str, _word(BandsAt)),
    "outside": (str, _word(Outside)),
    "durations": (str, _word(Durations)),
    "free_s": (_same, _whole),
    "free_below_s": (_same, _whole),
    "min_charge": (price_text, _price),
    "max_charge": (price_text, _price),
    "max_charge_then": (str, _word(ThenWhat)),
    "surcharges": (_of_surcharges, lambda value, where: _each(value, where, _surcharge)),
}
"""How each condition is written and read; one that says what `PLAIN` says is not written."""
