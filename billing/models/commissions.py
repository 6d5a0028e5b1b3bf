"""The table of commissions: who earns a part of what he brings in."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column
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
