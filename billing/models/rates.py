"""The tables of rates: what they cost, kept once; for which prefixes and when; and the versions of a tariff.

A version is never changed: a row of `rate` belongs to the versions from `since_version` until before `until_version`,
and the next version ends rows and adds others. So every version can be read as it was, and gone back to.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKeyConstraint,
    LargeBinary,
    PrimaryKeyConstraint,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of, word_of

STILL = 2**31 - 1
"""`until_version` of a row that belongs to the version of today."""


class ImportKind(StrEnum):
    """What made a version of a tariff."""

    REPLACE = "replace"
    MERGE = "merge"
    REMOVE = "remove"
    UNDO = "undo"


class RateTerms(SQLModel, table=True):
    """What rates cost: `facts` is what `rating.tariff.Rate.facts` wrote, without prefix, destination and dates.

    `digest` is the SHA-256 of the facts as JSON with sorted keys. Thousands of prefixes share one row, of any tariff;
    rows are never changed.
    """

    __tablename__ = "rate_terms"
    __table_args__ = (UniqueConstraint("digest"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    digest: str = Field(max_length=64)
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class RateRow(SQLModel, table=True):
    """One prefix of a tariff, from `effective_us` until before `expires_us`: microseconds since 1970.

    A rate without a date is in force from the smallest number the column holds to the largest.
    """

    __tablename__ = "rate"
    __table_args__ = (
        # The rows of a version lie together, in the order of prefixes: a tariff is one stretch of this index.
        PrimaryKeyConstraint("tariff_id", "until_version", "prefix", "effective_us"),
        ForeignKeyConstraint(["tariff_id"], ["tariff.id"]),
        ForeignKeyConstraint(["terms_id"], ["rate_terms.id"]),
        {"sqlite_with_rowid": False},
    )
    tariff_id: int = Field(sa_column=Column(BigId, nullable=False))
    until_version: int = Field(default=STILL)
    prefix: str = Field(max_length=32)
    effective_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_us: int = Field(sa_column=Column(BigInteger, nullable=False))
    destination: str = Field(max_length=100)
    terms_id: int = Field(sa_column=Column(BigId, nullable=False))
    since_version: int


class RateWriting(SQLModel, table=True):
    """A version of a tariff that is just being written, in more than one unit of work; its last one drops this row.

    Until then rows of `rate` end with `version` or begin with it, and no reader of today may see that. `operation` is
    that of the import, `touched_at` when it last wrote.
    """

    __tablename__ = "rate_writing"
    __table_args__ = (PrimaryKeyConstraint("tariff_id"),)
    tariff_id: int = Field(sa_column=row_of("tariff.id"))
    version: int
    operation: str = Field(max_length=200)
    touched_at: datetime = Field(sa_type=UtcDateTime)


class TariffVersion(SQLModel, table=True):
    """How a version of a tariff came to be; only ever added. `operation` is the caller's id: it makes one version.

    `effective_at`: when the deck comes into force, if not at once. `undoes`: the version that this one takes back.
    `counts`: what changed, by kind of change.
    """

    __tablename__ = "tariff_version"
    __table_args__ = (PrimaryKeyConstraint("tariff_id", "version"), UniqueConstraint("operation"))
    tariff_id: int = Field(sa_column=row_of("tariff.id"))
    version: int
    operation: str = Field(max_length=200)
    kind: ImportKind = Field(sa_column=Column(word_of(ImportKind), nullable=False))
    file: str = Field(default="", max_length=200)
    actor: str = Field(max_length=100)
    made_at: datetime = Field(sa_type=UtcDateTime)
    effective_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    undoes: int | None = None
    rates: int
    counts: dict[str, int] = Field(sa_column=Column(JSON, nullable=False))


class DeckUpload(SQLModel, table=True):
    """A file that somebody has sent to the panel and has not imported yet. `data` is compressed (zlib)."""

    __tablename__ = "deck_upload"
    id: str = Field(max_length=80, primary_key=True)
    tariff_id: int = Field(sa_column=row_of("tariff.id", index=True))
    user_id: int = Field(sa_column=row_of("panel_user.id", index=True))
    name: str = Field(max_length=200)
    data: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    created_at: datetime = Field(sa_type=UtcDateTime)
