"""The table of PINs that were wished for and could not be had. PINs themselves are identities."""

from datetime import datetime

from sqlalchemy import Column, Index
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of


class PinMiss(SQLModel, table=True):
    """A wish for a PIN that somebody has, kept so that no reseller finds out the PINs of others by wishing."""

    __tablename__ = "pin_miss"
    __table_args__ = (Index("ix_pin_miss_account", "account_id", "at"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id"))
    at: datetime = Field(sa_type=UtcDateTime)
