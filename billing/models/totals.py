"""Keys of call records, and the totals that are kept so that no page has to add up all records."""

import datetime as dt

from sqlalchemy import BigInteger, Column, Date
from sqlmodel import Field, SQLModel

from billing.models.tables import WalletKind
from billing.models.types import BigId, UtcDateTime, word_of


class CdrKey(SQLModel, table=True):
    """Decides whether a call is new, for ever and over all months of records; `ended_at` says in which its record is.

    Ids are given in the order in which records become visible (`billing.store.lock_out_totals`).
    """

    __tablename__ = "cdr_key"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    call_id: str = Field(max_length=200, unique=True)
    ended_at: dt.datetime = Field(sa_type=UtcDateTime)


class CallTotal(SQLModel, table=True):
    """Calls of a UTC day. `scope`: "all" (by switch and reason), "account" (by payer, 0 where unknown), "destination".

    What a scope does not tell apart is 0 or empty.
    """

    __tablename__ = "call_total"
    scope: str = Field(primary_key=True, max_length=12)
    account_id: int = Field(sa_column=Column(BigId, primary_key=True, autoincrement=False))
    day: dt.date = Field(sa_column=Column(Date, primary_key=True))
    direction: str = Field(primary_key=True, max_length=10)
    disposition: str = Field(primary_key=True, max_length=20)
    destination: str = Field(primary_key=True, max_length=100)
    switch: str = Field(primary_key=True, max_length=64)
    reason: str = Field(primary_key=True, max_length=40)
    calls: int = Field(sa_column=Column(BigInteger, nullable=False))
    talk_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    billable_ms: int = Field(sa_column=Column(BigInteger, nullable=False))


class MoneyTotal(SQLModel, table=True):
    """What calls of a UTC day cost and earned. `scope`: "all", "account", "destination", as in `CallTotal`.

    Of an account: `spent_micros` is what it paid, `earned_micros` what came into its wallet. Of all, and of a
    destination: what the payers paid, and what the operator earned.
    """

    __tablename__ = "money_total"
    scope: str = Field(primary_key=True, max_length=12)
    account_id: int = Field(sa_column=Column(BigId, primary_key=True, autoincrement=False))
    day: dt.date = Field(sa_column=Column(Date, primary_key=True))
    currency: str = Field(primary_key=True, max_length=3)
    direction: str = Field(primary_key=True, max_length=10)
    destination: str = Field(primary_key=True, max_length=100)
    charges: int = Field(sa_column=Column(BigInteger, nullable=False))
    billed_s: int = Field(sa_column=Column(BigInteger, nullable=False))
    spent_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    earned_micros: int = Field(sa_column=Column(BigInteger, nullable=False))


class LedgerTotal(SQLModel, table=True):
    """What was posted to a kind of wallet on a UTC day: debits and credits, both counted up from 0."""

    __tablename__ = "ledger_total"
    kind: WalletKind = Field(sa_column=Column(word_of(WalletKind), primary_key=True))
    currency: str = Field(primary_key=True, max_length=3)
    day: dt.date = Field(sa_column=Column(Date, primary_key=True))
    debits_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    credits_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    postings: int = Field(sa_column=Column(BigInteger, nullable=False))
