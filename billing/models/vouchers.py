"""The tables of vouchers: batches of codes that are worth money once."""

from datetime import datetime

from sqlalchemy import BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of


class VoucherBatch(SQLModel, table=True):
    """Vouchers of one face value, made at once by whoever stands right above those who may redeem them."""

    __tablename__ = "voucher_batch"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    issuer_id: int = Field(sa_column=row_of("account.id", index=True))
    name: str = Field(max_length=100)
    currency: str = Field(max_length=3)
    face_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    number: int
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)


class Voucher(SQLModel, table=True):
    """One code, known by its keyed hash only; `hint` is its end, by which people tell it from others."""

    __tablename__ = "voucher"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    batch_id: int = Field(sa_column=row_of("voucher_batch.id", index=True))
    code_hash: str = Field(max_length=64, unique=True)
    hint: str = Field(max_length=8)
    cancelled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    redeemed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    redeemed_by: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True))


class VoucherMiss(SQLModel, table=True):
    """A wrong code, kept so that nobody guesses his way to money."""

    __tablename__ = "voucher_miss"
    __table_args__ = (Index("ix_voucher_miss_account", "account_id", "at"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id"))
    at: datetime = Field(sa_type=UtcDateTime)
