"""The tables of events: what happened, who wants to be told, and each telling."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of, word_of


class Channel(StrEnum):
    """How a listener is told."""

    WEBHOOK = "webhook"
    EMAIL = "email"


class DeliveryState(StrEnum):
    """`DEAD`: given up after the last try; a person may send it again."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"


class Event(SQLModel, table=True):
    """Something that happened; `key` is what it happened to, so that a thing told twice is one event."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_unspread", "spread_at", "id"),)
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    key: str = Field(max_length=250, unique=True)
    kind: str = Field(max_length=40)
    account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True))
    data: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    happened_at: datetime = Field(sa_type=UtcDateTime)
    spread_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    """When its deliveries were made out."""


class Listener(SQLModel, table=True):
    """Who is told: a URL that is posted to, or an e-mail address. Never deleted; `ended_at` ends it.

    While it is off (`paused_at`) nothing that happens is told to it, and what waited goes on waiting.
    `secret` signs what is posted, so it is kept as it is; it is shown once.
    """

    __tablename__ = "listener"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id", index=True))
    channel: Channel = Field(sa_column=Column(word_of(Channel), nullable=False))
    address: str = Field(max_length=500)
    subtree: bool
    """Also told of the accounts below."""
    language: str = Field(default="", max_length=10)
    secret: str = Field(default="", max_length=100)
    created_at: datetime = Field(sa_type=UtcDateTime)
    paused_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_why: str = Field(default="", max_length=100)


class ListenerKind(SQLModel, table=True):
    """A kind of event that a listener wants."""

    __tablename__ = "listener_kind"
    __table_args__ = (Index("ix_listener_kind_kind", "kind"),)
    listener_id: int = Field(sa_column=Column(BigId, ForeignKey("listener.id"), primary_key=True))
    kind: str = Field(max_length=40, primary_key=True)


class Delivery(SQLModel, table=True):
    """One event for one listener: told once, tried for three days."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("event_id", "listener_id"),
        Index("ix_delivery_due", "state", "next_at", "id"),
        Index("ix_delivery_listener", "listener_id", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    event_id: int = Field(sa_column=row_of("event.id"))
    listener_id: int = Field(sa_column=row_of("listener.id"))
    state: DeliveryState = Field(sa_column=Column(word_of(DeliveryState), nullable=False))
    attempts: int = 0
    next_at: datetime = Field(sa_type=UtcDateTime)
    claim: str = Field(default="", max_length=40)
    """Who is just telling it, until `claimed_until`."""
    claimed_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    answer: str = Field(default="", max_length=300)
    """What came back last: "200", or why not."""
