"""Plans that look at a calendar month: volume tiers and flat rates, and what was used in it."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, row_of


class VolumePlan(SQLModel, table=True):
    """Of one account, or of all that buy in one tariff, for numbers that begin with one of `prefixes`.

    `kind` tiers: `terms` is [{"from_s", "percent"}]; flat: {"fair_s"}. A month is one of the `timezone`. A plan that is
    taken away is `ended`: charges name it.
    """

    __tablename__ = "volume_plan"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True, index=True))
    tariff_id: int | None = Field(default=None, sa_column=row_of("tariff.id", nullable=True, index=True))
    kind: str = Field(max_length=10)
    name: str = Field(max_length=100)
    prefixes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    timezone: str = Field(max_length=64)
    terms: Any = Field(sa_column=Column(JSON, nullable=False))
    ended: bool = False


class MonthUsage(SQLModel, table=True):
    """How much an account has used of a plan in a month ("2026-03"), in milliseconds."""

    __tablename__ = "month_usage"
    plan_id: int = Field(sa_column=Column(BigId, ForeignKey("volume_plan.id"), primary_key=True))
    account_id: int = Field(sa_column=Column(BigId, ForeignKey("account.id"), primary_key=True))
    month: str = Field(primary_key=True, max_length=7)
    used_ms: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
