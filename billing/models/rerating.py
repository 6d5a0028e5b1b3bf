"""The tables of re-rating: runs, what a run would change, and what has been corrected.

A correction is history like the charge that it corrects: only ever added. What a call costs now is what its last
correction says; undoing one is another one.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of, word_of

FIRST = text("undoes_id IS NULL")


class RunStatus(StrEnum):
    """Where a run is. Each step can stop anywhere and go on later."""

    LOOKING = "looking"
    PREVIEWED = "previewed"
    POSTING = "posting"
    POSTED = "posted"
    UNDOING = "undoing"
    UNDONE = "undone"
    DROPPED = "dropped"


class Beyond(StrEnum):
    """What becomes of a correction that would take more of a wallet than its credit reaches."""

    SKIP = "skip"
    ALLOW = "allow"


class RerateRun(SQLModel, table=True):
    """One re-rating. `operation` is the caller's id: with the call's it makes the id of each correction.

    `place`: up to which record it has looked. `versions`: at which version of each tariff it prices. `unpriced`: how
    many charges have no price at the new rates, by reason.
    """

    __tablename__ = "rerate_run"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    operation: str = Field(max_length=150, unique=True)
    body_hash: str = Field(max_length=64)
    status: RunStatus = Field(sa_column=Column(word_of(RunStatus), nullable=False))
    beyond: Beyond = Field(sa_column=Column(word_of(Beyond), nullable=False))
    selection: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    reason: str = Field(max_length=500)
    actor: str = Field(max_length=100)
    created_at: datetime = Field(sa_type=UtcDateTime)
    moved_at: datetime = Field(sa_type=UtcDateTime)
    charges: int
    looked: int = 0
    unchanged: int = 0
    place: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    versions: dict[str, int] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    unpriced: dict[str, int] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class RerateChange(SQLModel, table=True):
    """What a run would change, until it is booked: then it is a `Correction` and no longer here.

    `outcome`: "" while it waits, or why it was left out. `corrects_id`: the correction it was worked out from, None for
    the charge itself.
    """

    __tablename__ = "rerate_change"
    __table_args__ = (
        UniqueConstraint("run_id", "call_id", "level"),
        Index("ix_rerate_change_waiting", "run_id", "outcome", "call_id"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    run_id: int = Field(sa_column=row_of("rerate_run.id"))
    call_id: str = Field(foreign_key="cdr.call_id", max_length=200)
    level: int
    account_id: int = Field(sa_column=row_of("account.id"))
    wallet_id: int = Field(sa_column=row_of("wallet.id"))
    to_wallet_id: int = Field(sa_column=row_of("wallet.id"))
    currency: str = Field(max_length=3)
    before_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    after_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    billed_s: int
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    corrects_id: int | None = Field(default=None, sa_column=row_of("correction.id", nullable=True))
    outcome: str = Field(default="", max_length=20)


class Correction(SQLModel, table=True):
    """A charge made to cost something else, with the facts to price it again. Only ever added.

    `undoes_id`: the correction that this one takes back; each is taken back once.
    """

    __tablename__ = "correction"
    __table_args__ = (
        UniqueConstraint("undoes_id"),
        Index(
            "uq_correction_once", "run_id", "call_id", "level", unique=True, sqlite_where=FIRST, postgresql_where=FIRST
        ),
        Index("ix_correction_call", "call_id", "level", "id"),
        Index("ix_correction_account", "account_id", "made_at", "id"),
        Index("ix_correction_made", "made_at"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    run_id: int = Field(sa_column=row_of("rerate_run.id"))
    call_id: str = Field(foreign_key="cdr.call_id", max_length=200)
    level: int
    account_id: int = Field(sa_column=row_of("account.id"))
    wallet_id: int = Field(sa_column=row_of("wallet.id"))
    to_wallet_id: int = Field(sa_column=row_of("wallet.id"))
    currency: str = Field(max_length=3)
    before_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    after_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    billed_s: int
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    transaction_id: int = Field(sa_column=row_of("ledger_transaction.id", index=True))
    undoes_id: int | None = Field(default=None, sa_column=row_of("correction.id", nullable=True))
    made_at: datetime = Field(sa_type=UtcDateTime)

    @property
    def amount_micros(self) -> int:
        """What the charge costs from this correction on."""
        return self.after_micros
