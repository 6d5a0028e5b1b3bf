"""What is laid around a tariff: mark-ups on another tariff, discounts and own rates of an account."""

from typing import Any

from sqlalchemy import JSON, Column, UniqueConstraint
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, row_of


class TariffMarkup(SQLModel, table=True):
    """Numbers that begin with `prefix` are sold in this tariff at the prices of another, and more. Amounts as text."""

    __tablename__ = "tariff_markup"
    __table_args__ = (UniqueConstraint("tariff_id", "prefix"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    tariff_id: int = Field(sa_column=row_of("tariff.id"))
    from_tariff_id: int = Field(sa_column=row_of("tariff.id"))
    prefix: str = Field(max_length=32)
    percent: str = Field(max_length=20)
    least_per_min: str = Field(max_length=60)
    decimals: int
    mode: str = Field(max_length=10)


class AccountDiscount(SQLModel, table=True):
    """So many percent off, for an account's calls to numbers that begin with `prefix`."""

    __tablename__ = "account_discount"
    __table_args__ = (UniqueConstraint("account_id", "prefix"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id"))
    prefix: str = Field(max_length=32)
    percent: str = Field(max_length=20)


class AccountRate(SQLModel, table=True):
    """A rate of one account alone, in its own currency; it wins over its tariff's rate of the same prefix."""

    __tablename__ = "account_rate"
    __table_args__ = (UniqueConstraint("account_id", "prefix"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id"))
    prefix: str = Field(max_length=32)
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
