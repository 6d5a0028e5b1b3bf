"""What bodies are made of: amounts as decimal texts, moments as RFC 3339, lists in pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from rating.errors import AmountError
from rating.money import format_amount, parse_amount

T = TypeVar("T")
PATTERN = r"^-?[0-9]{1,10}(\.[0-9]{1,6})?$"
POSITIVE = r"^(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,6})?$"
NOT_NEGATIVE = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
NOT_ZERO = r"^(?=.*[1-9])-?[0-9]{1,9}(\.[0-9]{1,6})?$"


class Body(BaseModel):
    """What is sent. A member that is not known is an error: a misspelt limit must not be silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Shape(BaseModel):
    """What is answered."""

    model_config = ConfigDict(frozen=True)


def _micros(value: Any) -> int:
    if not isinstance(value, str):
        raise PydanticCustomError("amount_invalid", "expected an amount as text, such as 12.50")
    try:
        return parse_amount(value)
    except AmountError as error:
        raise PydanticCustomError("amount_invalid", "{why}", {"why": str(error)}) from None


def _positive(value: Any) -> int:
    micros = _micros(value)
    if micros <= 0:
        raise PydanticCustomError("amount_invalid", "expected an amount of more than 0")
    return micros


def _not_negative(value: Any) -> int:
    micros = _micros(value)
    if micros < 0:
        raise PydanticCustomError("amount_invalid", "expected an amount of 0 or more")
    return micros


def _not_zero(value: Any) -> int:
    micros = _micros(value)
    if micros == 0:
        raise PydanticCustomError("amount_invalid", "expected an amount other than 0")
    return micros


Positive = Annotated[
    int,
    BeforeValidator(_positive),
    WithJsonSchema({"type": "string", "pattern": POSITIVE, "examples": ["12.50"]}),
]
"""An amount of more than 0, read as micro-units."""
NotNegative = Annotated[
    int,
    BeforeValidator(_not_negative),
    WithJsonSchema({"type": "string", "pattern": NOT_NEGATIVE, "examples": ["100.00"]}),
]
"""An amount of 0 or more, read as micro-units."""
NotZero = Annotated[
    int,
    BeforeValidator(_not_zero),
    WithJsonSchema({"type": "string", "pattern": NOT_ZERO, "examples": ["-2.50"]}),
]
"""An amount that may be negative, but not 0, read as micro-units."""

Amount = Annotated[str, Field(pattern=PATTERN, examples=["12.50"], description="A decimal text, in `currency`.")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["EUR"])]
MaybeCurrency = Annotated[str, Field(pattern=r"^([A-Z]{3})?$", examples=["EUR"])]
Reason = Annotated[str, Field(max_length=200, description="Why, for the statement.", examples=["bank transfer 4711"])]
Name = Annotated[str, Field(min_length=1, max_length=100, examples=["Anna's Bakery"])]


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise PydanticCustomError("time_without_zone", "expected a time with its zone, such as 2027-01-31T12:00:00Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time_invalid", "expected a time that a calendar has") from None


Moment = Annotated[datetime, AfterValidator(_aware), Field(examples=["2026-11-23T12:00:00Z"])]
"""A moment with its zone, RFC 3339; answered in UTC."""
SentMoment = Annotated[datetime, Field(strict=False), AfterValidator(_aware)]


class Page(Shape, Generic[T]):
    """A page of a list; `next` is the cursor of the following one, null at the end."""

    items: list[T]
    next: str | None = Field(default=None, description="Send it as `after` to get the next page; null at the end.")


def amount(micros: int) -> str:
    """Write micro-units as this API does."""
    return format_amount(micros)


class Problem(Shape):
    """An error as RFC 9457 says it; `code` is stable, `detail` is for people."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["/api/v1/docs#code-refused"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    code: str = Field(examples=["refused"])
    detail: str = Field(examples=["'Bluebird Voice' lacks 12.00 EUR for this top-up"])
