"""The tables of commissions: who earns a part of what he brings in, and what was booked for which month."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Column, ForeignKey
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of, word_of


class CommissionOf(StrEnum):
    """Of what a commission is a part."""

    REVENUE = "revenue"
    """What the account was charged for calls."""
    MARGIN = "margin"
    """What was left of that to whoever charged it, after what these calls cost him."""


class Commission(SQLModel, table=True):
    """An account's commission, paid by whoever stands right above it. `ppm`: parts of a million, 5 % is 50,000."""

    __tablename__ = "commission"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id", unique=True))
    basis: CommissionOf = Field(sa_column=Column(word_of(CommissionOf), nullable=False))
    ppm: int
    changed_at: datetime = Field(sa_type=UtcDateTime)


class CommissionMonth(SQLModel, table=True):
    """A month ("2026-10") that was booked for an account, on the terms of then: calls that ended `since` to `until`.

    `earned_micros`: its part of the base, corrections of its calls up to `counted_at` included. `paid_micros`: what was
    booked with it, the corrections of earlier months included. Over all months both come to the same, unless more was
    booked than earned: then the rest waits for months that earn.
    """

    __tablename__ = "commission_month"
    account_id: int = Field(sa_column=Column(BigId, ForeignKey("account.id"), primary_key=True, autoincrement=False))
    month: str = Field(primary_key=True, max_length=7)
    payer_id: int = Field(sa_column=row_of("account.id"))
    basis: CommissionOf = Field(sa_column=Column(word_of(CommissionOf), nullable=False))
    ppm: int
    since: datetime = Field(sa_type=UtcDateTime)
    until: datetime = Field(sa_type=UtcDateTime)
    earned_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    paid_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    counted_at: datetime = Field(sa_type=UtcDateTime)
