"""The tables of who may come in: API keys, the answers kept for them, and a person's second factor."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of


class ApiKey(SQLModel, table=True):
    """A program's key: what it may do, for which account, until when. Only the hash of its secret is kept."""

    __tablename__ = "api_key"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    public_id: str = Field(max_length=60, unique=True)
    secret_hash: str = Field(max_length=64)
    name: str = Field(max_length=100)
    account_id: int = Field(sa_column=row_of("account.id", index=True))
    scopes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    allow_from: list[str] = Field(sa_column=Column(JSON, nullable=False))
    created_by: str = Field(max_length=100)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_used_from: str = Field(default="", max_length=45)


class ApiAnswer(SQLModel, table=True):
    """What was answered under an Idempotency-Key; while `answer` is null the request is still running."""

    __tablename__ = "api_answer"
    id: str = Field(primary_key=True, max_length=200)
    body_hash: str = Field(max_length=64)
    started_at: datetime = Field(sa_type=UtcDateTime)
    answer: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))


class SecondFactor(SQLModel, table=True):
    """A person's TOTP secret; it counts once a code has confirmed it. `last_step` is the newest code that was used."""

    __tablename__ = "panel_second_factor"
    user_id: int = Field(sa_column=Column(BigId, ForeignKey("panel_user.id"), primary_key=True, autoincrement=False))
    secret: str = Field(max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime)
    confirmed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_step: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class RecoveryCode(SQLModel, table=True):
    """A code that stands in for a lost phone, once; only its hash is kept."""

    __tablename__ = "panel_recovery_code"
    code_hash: str = Field(primary_key=True, max_length=64)
    user_id: int = Field(sa_column=row_of("panel_user.id", index=True))
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
