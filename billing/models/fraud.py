"""The tables of the fraud guard: its rules, ranges of numbers that cost more than they seem, what it has learnt."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, BigInteger, Column, ForeignKey
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of, word_of


class FraudKind(StrEnum):
    """What a rule looks at."""

    SPEND_HOUR = "spend_hour"
    SPEND_DAY = "spend_day"
    SHORT_CALLS = "short_calls"
    NEW_COUNTRY = "new_country"
    OUTSIDE_HOURS = "outside_hours"
    DESTINATION = "destination"


class FraudAction(StrEnum):
    """What happens when a rule is broken, each with an alert. `REFUSE`: the call alone, before it rings."""

    WARN = "warn"
    BLOCK = "block"
    END = "end"
    REFUSE = "refuse"


class FraudRule(SQLModel, table=True):
    """A rule for an account and each one below it; of the operator: for all. Never edited: ended, and made anew.

    `by_account_id`: the reseller whose rule it is; None is the operator. It holds for what hangs below its maker only.
    """

    __tablename__ = "fraud_rule"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id", index=True))
    kind: FraudKind = Field(sa_column=Column(word_of(FraudKind), nullable=False))
    action: FraudAction = Field(sa_column=Column(word_of(FraudAction), nullable=False))
    prefixes: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    """Which destinations it looks at; with neither these nor `risky`: all."""
    risky: bool = False
    """Premium-rate and revenue-share ranges, from the list and by the numbering plans."""
    limit_micros: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    calls: int | None = None
    within_s: int | None = None
    shorter_s: int | None = None
    hours: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    learn_days: int | None = None
    by_account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True))
    created_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class RiskyRange(SQLModel, table=True):
    """Numbers that begin so are premium-rate, revenue-share, or known for fraud."""

    __tablename__ = "risky_range"
    prefix: str = Field(primary_key=True, max_length=32)
    label: str = Field(default="", max_length=100)


class AccountCountry(SQLModel, table=True):
    """A country that an account has called."""

    __tablename__ = "account_country"
    account_id: int = Field(sa_column=Column(BigId, ForeignKey("account.id"), primary_key=True))
    country: str = Field(primary_key=True, max_length=3)
    first_at: datetime = Field(sa_type=UtcDateTime)


class FraudLift(SQLModel, table=True):
    """A person has looked at an account: what was before counts no more.

    `by_account_id`: for a reseller, whose lift is about the rules of its own and of resellers below it; None is the
    operator, whose lift is about all.
    """

    __tablename__ = "fraud_lift"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id", index=True))
    by_account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True))
    at: datetime = Field(sa_type=UtcDateTime)
    actor: str = Field(max_length=100)
