"""Checks of the books, and up to where each wallet has been checked."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of


class BooksRun(SQLModel, table=True):
    """A check of the books. `due_at` is the moment it was due; of several processes one makes it. None: asked for.

    `ended_at` is None while it runs, and stays None if it was stopped: then another one may take it over.
    """

    __tablename__ = "books_run"
    __table_args__ = (Index("ix_books_run_started", "started_at", "id"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    due_at: datetime | None = Field(default=None, unique=True, sa_type=UtcDateTime)
    everything: bool
    actor: str = Field(max_length=100)
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    transactions: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    cdrs: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    wallets: int = 0
    holds: int = 0
    credit_asked: bool = False
    findings: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))


class WalletCheck(SQLModel, table=True):
    """Up to posting `seq` a wallet's postings were there without a gap and summed to `balance_micros`."""

    __tablename__ = "wallet_check"
    wallet_id: int = Field(sa_column=row_of("wallet.id", primary_key=True))
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    balance_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
