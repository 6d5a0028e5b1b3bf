"""Column types: aware UTC times and words of a fixed choice, the same on every database."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Enum, ForeignKey, Integer
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

BigId = BigInteger().with_variant(Integer(), "sqlite")
"""SQLite numbers rows by itself only in an INTEGER key."""


def row_of(
    target: str,
    *,
    nullable: bool = False,
    index: bool = False,
    unique: bool = False,
    deferred: bool = False,
    primary_key: bool = False,
) -> Column[int]:
    """Point to the row of another table; `deferred` where the two are written in either order."""
    key = ForeignKey(target, deferrable=True, initially="DEFERRED") if deferred else ForeignKey(target)
    facts: dict[str, Any] = {"nullable": nullable, "index": index or None, "unique": unique or None}
    if primary_key:
        facts |= {"primary_key": True, "autoincrement": False}
    return Column(BigId, key, **facts)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC moment. Naive ones are refused: they have meant local time once too often."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """Write the moment in UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Read the moment as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def word_of(choice: type[StrEnum]) -> Enum:
    """Store a choice as the word itself: readable in SQL, and a new word needs no change of a database type."""
    return Enum(
        choice,
        native_enum=False,
        create_constraint=False,
        length=20,
        values_callable=lambda words: [word.value for word in words],
    )
