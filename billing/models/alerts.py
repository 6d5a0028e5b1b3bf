"""The table of alerts: what a person should know of, until it is over."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, text
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of

STANDS = text("cleared_at IS NULL")


class Alert(SQLModel, table=True):
    """Something that went wrong or over a threshold. While it stands there is one for each kind and subject."""

    __tablename__ = "alert"
    __table_args__ = (
        Index("uq_alert_standing", "kind", "subject", unique=True, sqlite_where=STANDS, postgresql_where=STANDS),
        Index("ix_alert_raised", "raised_at", "id"),
        Index("ix_alert_account_raised", "account_id", "raised_at", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    kind: str = Field(max_length=40)
    account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True))
    subject: str = Field(max_length=200)
    message: str = Field(max_length=500)
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    raised_at: datetime = Field(sa_type=UtcDateTime)
    cleared_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cleared_by: str | None = Field(default=None, max_length=100)
