"""Who carries calls, at what cost, and what a call must earn."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, row_of


class Carrier(SQLModel, table=True):
    """Who carries calls; `tariff_id` is what it charges. Its cost is posted from one ledger account to the other."""

    __tablename__ = "carrier"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    name: str = Field(max_length=100, unique=True)
    tariff_id: int = Field(sa_column=row_of("tariff.id"))


class Route(SQLModel, table=True):
    """Calls to numbers that begin with `prefix` go through this carrier; the longest prefix counts."""

    __tablename__ = "route"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    prefix: str = Field(max_length=32, unique=True)
    carrier_id: int = Field(sa_column=row_of("carrier.id"))


class MinMargin(SQLModel, table=True):
    """What the calls of an account, or those sold in a tariff, must earn at least; "" is nothing of the kind."""

    __tablename__ = "min_margin"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True, unique=True))
    tariff_id: int | None = Field(default=None, sa_column=row_of("tariff.id", nullable=True, unique=True))
    percent: str = Field(max_length=20)
    per_min: str = Field(max_length=60)


class CallCost(SQLModel, table=True):
    """What a carrier charges for a call, with the facts to price it again; posted with the call's charges."""

    __tablename__ = "call_cost"
    call_id: str = Field(foreign_key="cdr.call_id", primary_key=True, max_length=200)
    carrier_id: int = Field(sa_column=row_of("carrier.id", index=True))
    wallet_id: int = Field(sa_column=row_of("wallet.id"))
    to_wallet_id: int = Field(sa_column=row_of("wallet.id"))
    amount_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)
    billed_s: int
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
