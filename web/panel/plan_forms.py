"""What a person types about prices: from a form into what billing takes. Pure; what is wrong names its field."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation

from rating.faults import prefix_fault
from rating.parts import Rounding
from rating.tariff import Rate, Step
from rating.volumes import Tier

MINUTE_S = 60
NOTHING = Decimal(0)
MOST_TEXT = 5_000
MOST_DIGITS = 30
MOST_WHOLE = 12
"""Digits of a whole number: more than any limit takes, and few enough to read at once."""


class Wrong(Exception):
    """A field that cannot be read: which, and why in a sentence for the person."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field, self.text = field, text


def number(form: Mapping[str, str], field: str, *, default: str = "") -> Decimal:
    """Read a plain decimal such as 0.025; a comma may stand for the point. Raises `Wrong`."""
    said = (form.get(field, "").strip() or default).replace(",", ".")
    try:
        value = Decimal(said) if len(said) <= MOST_DIGITS else None
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite() or "e" in said.lower():
        raise Wrong(field, "Expected a number such as 0.025.")
    return value


def whole(form: Mapping[str, str], field: str, *, default: str = "", least: int = 0) -> int:
    """Read a whole number. Raises `Wrong`."""
    said = form.get(field, "").strip() or default
    if not (said.isascii() and said.isdigit() and len(said) <= MOST_WHOLE) or int(said) < least:
        raise Wrong(field, f"Expected a whole number from {least} on.")
    return int(said)


def prefix(form: Mapping[str, str], field: str = "prefix") -> str:
    """Read a prefix; nothing is every number. Raises `Wrong`."""
    return _prefix(form.get(field, ""), field)


def prefixes(form: Mapping[str, str], field: str = "prefixes") -> list[str]:
    """Read prefixes, split by commas or lines; none is every number. Raises `Wrong`."""
    parts = [part.strip() for part in form.get(field, "")[:MOST_TEXT].replace("\n", ",").split(",")]
    return [_prefix(part, field) for part in parts if part] or [""]


def _prefix(text: str, field: str) -> str:
    digits = text.strip().removeprefix("+").replace(" ", "")
    if prefix_fault(digits) is not None:
        raise Wrong(field, f"A prefix is up to 32 digits such as 4930, not {text.strip()[:40]!r}.")
    return digits


def own_rate(form: Mapping[str, str]) -> Rate:
    """Read a rate of an account's own. Raises `Wrong`."""
    price, fee = number(form, "price"), number(form, "connect_fee", default="0")
    first = whole(form, "first", default="1", least=1)
    increment = whole(form, "increment", default="1", least=1)
    steps: tuple[Step, ...] = (Step(0, price, MINUTE_S, first),)
    if first != increment:
        steps += (Step(first, price, MINUTE_S, increment),)
    return Rate(prefix(form), form.get("destination", "").strip()[:100], fee, steps, Rounding())


def tiers(form: Mapping[str, str], field: str = "tiers") -> list[Tier]:
    """Read tiers, one a line: from how many minutes on, and how many percent less. Raises `Wrong`."""
    found: list[Tier] = []
    for line in form.get(field, "")[:MOST_TEXT].splitlines():
        parts = line.replace("%", " ").replace(":", " ").split()
        if not parts:
            continue
        if len(parts) != 2:  # noqa: PLR2004 - minutes and percent
            raise Wrong(field, f"A line is minutes and percent such as 1000 5, not {line.strip()[:40]!r}.")
        values = {"minutes": parts[0], "percent": parts[1]}
        try:
            found.append(Tier(whole(values, "minutes") * MINUTE_S, number(values, "percent")))
        except Wrong as why:
            raise Wrong(field, f"{line.strip()[:40]}: {why.text}") from why
    if not found:
        raise Wrong(field, "Write at least one line such as 1000 5.")
    if found[0].from_s:
        found.insert(0, Tier(0, Decimal(0)))
    return found


def last_day(form: Mapping[str, str], field: str = "expires") -> datetime | None:
    """Read the last day (UTC) and return the moment after it; None for nothing. Raises `Wrong`."""
    said = form.get(field, "").strip()
    if not said:
        return None
    try:
        return datetime.combine(date.fromisoformat(said[:20]) + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise Wrong(field, f"A day is written 2026-12-31, not {said[:20]!r}.") from None


def moment(form: Mapping[str, str], field: str, *, default: datetime) -> datetime:
    """Read a moment; without a zone it is UTC. Raises `Wrong`."""
    said = form.get(field, "").strip()
    if not said:
        return default
    try:
        found = datetime.fromisoformat(said[:40])
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Wrong(field, f"A time is written 2026-12-31T08:00, not {said[:20]!r}.") from None
