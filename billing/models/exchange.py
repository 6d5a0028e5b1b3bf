"""Exchange rates: what one unit of a currency is worth in another, from a time on."""

from datetime import datetime

from sqlalchemy import Column, UniqueConstraint
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime


class ExchangeRate(SQLModel, table=True):
    """One `from_currency` is `value` (an exact decimal as text) of `to_currency`, from `at` on; append-only."""

    __tablename__ = "exchange_rate"
    __table_args__ = (UniqueConstraint("from_currency", "to_currency", "at"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    from_currency: str = Field(max_length=3)
    to_currency: str = Field(max_length=3)
    value: str = Field(max_length=40)
    source: str = Field(max_length=40)
    at: datetime = Field(sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)
