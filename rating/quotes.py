"""Questions about a price, each a JSON object with its own tariff, and their answers. Nothing is looked up or kept.

A question holds `id`, and one of

    tariff, answered_at, seconds                what does it cost, and how many seconds are billed
    tariff, answered_at, ask_seconds, funds     how many seconds do the funds pay for
    dialect, row, seconds                       what does a row of another system's rate deck make a call cost

A `tariff` has `rounding` and `steps` or `bands`, and may have what the conditions of a rate have (`rating.facts`), and
`connect_fee`. Its bands need not cover the week: only a call at a time that none covers is an error. Seconds are priced
as they are, down to the millisecond, unless the tariff says how to round them (`durations`).
"""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from rating.dialects import rate_of
from rating.errors import AmountError, RatingError, TariffError
from rating.facts import FACTS_VERSION
from rating.money import DECIMALS, MOST_MICROS, format_amount
from rating.parts import Durations, Outside, Seconds
from rating.pricing import afford, billable_ms, closing, cost_ms, seconds_of
from rating.tariff import MOST_DECIMALS, MOST_SECONDS, Rate

_MOST_MS_DECIMALS = 3
_FIRST_YEAR, _LAST_YEAR = 1970, 9000
"""Bands are laid out a year back and forward, and the calendar ends with the year 9999."""
_MICRO = Decimal(1).scaleb(-DECIMALS)
_MOST_FUNDS = Decimal(MOST_MICROS).scaleb(-DECIMALS)


def answer(question: Any) -> dict[str, Any]:
    """Return `{"id", "cost", "billed_seconds"}`, `{"id", "seconds"}`, or `{"id", "error"}` where it makes no sense."""
    if not isinstance(question, dict):
        return {"id": None, "error": "expected a JSON object"}
    told = {"id": question.get("id")}
    try:
        return told | _answer(question)
    except RatingError as error:
        return told | {"error": str(error)}


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    if "dialect" in question:
        rate = rate_of(_text(question, "dialect"), _object(question, "row"))
        at = _time(question) if "answered_at" in question else None
    else:
        rate, at = rate_of_tariff(_object(question, "tariff")), _time(question)
    if "funds" in question:
        asked_s = int(_length(question, "ask_seconds"))
        return {"seconds": afford(rate, _funds(question), asked_s, at)}
    talk_ms = billable_ms(rate, int(_length(question, "seconds") * 1000))
    closes_at = closing(rate, at, talk_ms) if at is not None else None
    if closes_at is not None:
        raise TariffError(f"tariff: no band covers {closes_at:%A %Y-%m-%d %H:%M:%S}")
    micros, billed_ms = cost_ms(rate, talk_ms, at)
    return {"cost": format_amount(micros, decimals=0), "billed_seconds": seconds_of(billed_ms)}


def rate_of_tariff(tariff: dict[str, Any]) -> Rate:
    """Read a tariff of one rate. Raises `TariffError`, with the place of what is wrong."""
    facts = {
        "v": FACTS_VERSION,
        "prefix": "",
        "destination": "",
        "connect_fee": "0",
        "steps": [],
        "outside": Outside.CLOSED.value,
        "durations": Durations.EXACT.value,
        **{key: value for key, value in tariff.items() if value is not None},
        "barred": False,
    }
    rounding = facts.get("rounding")
    if isinstance(rounding, dict) and isinstance(rounding.get("decimals"), int):
        # An amount ends at micro-units, so one engine's twenty decimals are six here.
        facts["rounding"] = {**rounding, "decimals": min(rounding["decimals"], MOST_DECIMALS)}
    return Rate.from_facts(facts)


def _object(question: dict[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(question.get(key), dict):
        raise TariffError(f"{key}: expected an object")
    found: dict[str, Any] = question[key]
    return found


def _text(question: dict[str, Any], key: str) -> str:
    if not isinstance(question.get(key), str):
        raise TariffError(f"{key}: expected a text")
    return str(question[key])


def _time(question: dict[str, Any]) -> datetime:
    told = _text(question, "answered_at")
    try:
        at = datetime.fromisoformat(told)
    except ValueError as error:
        raise TariffError("answered_at: expected a time such as 2027-01-31T12:00:00Z") from error
    if at.tzinfo is None:
        raise TariffError("answered_at: expected a time with a zone, such as 2027-01-31T12:00:00Z")
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise TariffError(f"answered_at: expected a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    return at


def _length(question: dict[str, Any], key: str) -> Seconds:
    value = question.get(key)
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= MOST_SECONDS:
        raise TariffError(f"{key}: expected seconds, from 0 to {MOST_SECONDS}")
    if isinstance(value, Decimal) and value != value.quantize(Decimal("0.001")):
        raise TariffError(f"{key}: expected at most {_MOST_MS_DECIMALS} decimals")
    return value


def _funds(question: dict[str, Any]) -> int:
    """Return the funds in whole micro-units; what is less than one buys nothing."""
    try:
        funds = Decimal(_text(question, "funds"))
    except ArithmeticError as error:
        raise AmountError("funds: expected a plain decimal in a string") from error
    # To compare and to quantize is exact for any digits and any exponent; a product would be rounded, or overflow.
    if not funds.is_finite() or funds.copy_abs() > _MOST_FUNDS:
        raise AmountError(f"funds: expected at most {_MOST_FUNDS}")
    return int(funds.quantize(_MICRO, ROUND_FLOOR).scaleb(DECIMALS))
