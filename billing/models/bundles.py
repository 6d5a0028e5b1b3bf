"""Bundles: seconds bought ahead, in wallets of their own."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of


class Bundle(SQLModel, table=True):
    """What a wallet in seconds is for: numbers that begin with one of `prefixes`, until `expires_at`.

    Of several, the one with the lowest `priority` is used first, then the one that expires first. `expired_at`: what
    was left has been taken out.
    """

    __tablename__ = "bundle"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id", index=True))
    wallet_id: int = Field(sa_column=row_of("wallet.id", unique=True))
    name: str = Field(max_length=100)
    prefixes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    priority: int
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    expired_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)


class ChargeUse(SQLModel, table=True):
    """What a charge took out of a bundle: part of the charge of the same call and level."""

    __tablename__ = "charge_use"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    call_id: str = Field(foreign_key="cdr.call_id", max_length=200, index=True)
    level: int
    wallet_id: int = Field(sa_column=row_of("wallet.id"))
    to_wallet_id: int = Field(sa_column=row_of("wallet.id"))
    amount_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)
